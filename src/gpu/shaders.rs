//! The table of pipelines: every stage is a file in `shaders/` and the parts that it is composed with.
//!
//! WGSL does not care in which order names are declared, so a pipeline's source is its stage file followed by the chosen
//! parts. A variant is another choice of a part that defines the same functions.

use crate::dtype::Dtype;
use crate::plan::{self, Tuning};
use crate::rule::Score;

/// What a pipeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Focus,
    Stats,
    Budget,
    Narrow,
    Histogram,
    Ties,
    Apply,
    Rows,
    Edges,
    Sift,
    Settle,
    /// Short rows: a place in the table of teams.
    Teams(usize),
    Arrange,
    Restore,
    Zero,
    /// Of rows, or of contests.
    Measure {
        rows: bool,
    },
}

/// A pipeline: a stage, and what it is composed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pipeline {
    pub(crate) stage: Stage,
    pub(crate) dtype: Dtype,
    pub(crate) score: Score,
    /// Whether weights are zeroed where they lie.
    pub(crate) write: bool,
    /// Whether what is kept is added up.
    pub(crate) mass: bool,
    /// Whether lanes join their subgroup.
    pub(crate) subgroup: bool,
    /// Whether a lane takes four neighbouring words at once.
    pub(crate) fours: bool,
}

pub(crate) const STAGES: [Stage; 21] = [
    Stage::Focus,
    Stage::Stats,
    Stage::Budget,
    Stage::Sift,
    Stage::Histogram,
    Stage::Narrow,
    Stage::Ties,
    Stage::Settle,
    Stage::Apply,
    Stage::Edges,
    Stage::Rows,
    Stage::Teams(0),
    Stage::Teams(1),
    Stage::Teams(2),
    Stage::Teams(3),
    Stage::Teams(4),
    Stage::Arrange,
    Stage::Restore,
    Stage::Zero,
    Stage::Measure { rows: false },
    Stage::Measure { rows: true },
];
pub(crate) const DTYPES: [Dtype; 5] = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F8E4m3, Dtype::F8E5m2];

pub(crate) const SCORES: [Score; 2] = [Score::Magnitude, Score::Wanda];

macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!("../../shaders/", $name, ".wgsl"))
    };
}

const PARAMS: &str = wgsl!("parts/params");
pub(crate) const RECORD: &str = wgsl!("parts/record");
const DIGITS: &str = wgsl!("parts/digits");
const FIRST_DIGIT: &str = wgsl!("parts/first_digit");
const BINS: &str = wgsl!("parts/bins");
const BINS_ROW: &str = wgsl!("parts/bins_row");
const LANE_WORDS: &str = wgsl!("parts/lane_words");
const TALLY: &str = wgsl!("parts/tally");
const KEY: &str = wgsl!("parts/key");
const SUMS: &str = wgsl!("parts/sums");
const BUDGET: &str = wgsl!("parts/budget");
const LEADING: &str = wgsl!("parts/leading");
const CUT: &str = wgsl!("parts/cut");
const CANONICAL: &str = wgsl!("parts/canonical");
const WIDE: &str = wgsl!("parts/wide");
const COUNT_KEPT: &str = wgsl!("parts/count");
const COUNT_DIGITS: &str = wgsl!("parts/count_digits");
const DIGITS_WORKGROUP: &str = wgsl!("parts/digits_workgroup");
const WORDS: &str = wgsl!("parts/words");
const RUNS: &str = wgsl!("parts/runs");
// The first read, with how far ahead words are asked for, what counters are, and what becomes of strays.
const FIRST_READ: &[&str] = &[wgsl!("parts/first_read"), wgsl!("parts/ahead_eight"), wgsl!("parts/strays_none")];
const FIRST_READ_ROW: &[&str] =
    &[wgsl!("parts/first_read"), wgsl!("parts/ahead_four"), wgsl!("parts/windows_row"), wgsl!("parts/strays")];
const FIRST_READ_LEVELS: &[&str] =
    &[wgsl!("parts/first_read_levels"), wgsl!("parts/levels_alone"), wgsl!("parts/strays")];
const FIRST_READ_LEVELS_ROW: &[&str] =
    &[wgsl!("parts/first_read_levels"), wgsl!("parts/levels_paired"), wgsl!("parts/strays")];
const SAMPLE: &str = wgsl!("parts/sample");
const COUNT_DIGIT: &str = wgsl!("parts/count_digit");
const MASK_WORDS: &str = wgsl!("parts/mask_words");
const CARRY_OUT: &str = wgsl!("parts/carry_out");
const CARRY_FORWARD: &str = wgsl!("parts/carry_forward");
const CARRY_BACK: &str = wgsl!("parts/carry_back");
const COLLECT: &str = wgsl!("parts/collect");
const COLLECT_ROW: &str = wgsl!("parts/collect_row");
const COLLECT_NONE: &str = wgsl!("parts/collect_none");
const CANDIDATES: &str = wgsl!("parts/candidates");
const COUNT_CANDIDATES: &str = wgsl!("parts/count_candidates");
const NARROW_DIGIT: &str = wgsl!("parts/narrow_digit");
const NARROW_ROW: &str = wgsl!("parts/narrow_row");
const SETTLE_ROW: &str = wgsl!("parts/settle_row");
const DROP_LOSERS: &str = wgsl!("parts/drop_losers");
const BLOCKS: &str = wgsl!("parts/blocks");
const SCALED: &str = wgsl!("parts/scaled");
const ROW_SUMS: &str = wgsl!("parts/row_sums");
const TOTAL_ROWS: &str = wgsl!("parts/total_rows");
const TOTAL_TALLY: &str = wgsl!("parts/total_tally");

impl Stage {
    /// The file's name, which is the entry point's too.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Stage::Focus => "focus",
            Stage::Stats => "stats",
            Stage::Budget => "budget",
            Stage::Narrow => "narrow",
            Stage::Histogram => "histogram",
            Stage::Ties => "ties",
            Stage::Apply => "apply",
            Stage::Rows => "rows",
            Stage::Teams(_) => "teams",
            Stage::Edges => "edges",
            Stage::Sift => "sift",
            Stage::Settle => "settle",
            Stage::Arrange => "arrange",
            Stage::Restore => "restore",
            Stage::Zero => "zero",
            Stage::Measure { .. } => "measure",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Stage::Focus => wgsl!("focus"),
            Stage::Stats => wgsl!("stats"),
            Stage::Budget => wgsl!("budget"),
            Stage::Narrow => wgsl!("narrow"),
            Stage::Histogram => wgsl!("histogram"),
            Stage::Ties => wgsl!("ties"),
            Stage::Apply => wgsl!("apply"),
            Stage::Rows => wgsl!("rows"),
            Stage::Teams(_) => wgsl!("teams"),
            Stage::Edges => wgsl!("edges"),
            Stage::Sift => wgsl!("sift"),
            Stage::Settle => wgsl!("settle"),
            Stage::Arrange => wgsl!("arrange"),
            Stage::Restore => wgsl!("restore"),
            Stage::Zero => wgsl!("zero"),
            Stage::Measure { .. } => wgsl!("measure"),
        }
    }

    /// The parts that do not depend on dtype, score or writing.
    const fn parts(self) -> &'static [&'static str] {
        match self {
            Stage::Focus => &[PARAMS, RECORD, DIGITS, FIRST_DIGIT, TALLY, KEY],
            Stage::Stats => &[
                PARAMS,
                RECORD,
                DIGITS,
                FIRST_DIGIT,
                BINS,
                TALLY,
                KEY,
                WORDS,
                SUMS,
                DIGITS_WORKGROUP,
                LANE_WORDS,
                SAMPLE,
            ],
            Stage::Budget => {
                &[PARAMS, RECORD, DIGITS, FIRST_DIGIT, BINS, TALLY, KEY, WIDE, LEADING, CANONICAL, BUDGET, NARROW_DIGIT]
            }
            Stage::Narrow => &[PARAMS, RECORD, DIGITS, FIRST_DIGIT, BINS, TALLY, WIDE, NARROW_DIGIT],
            Stage::Histogram => {
                &[PARAMS, RECORD, DIGITS, TALLY, KEY, WORDS, RUNS, COUNT_DIGIT, CANDIDATES, COUNT_CANDIDATES]
            }
            Stage::Ties => &[PARAMS, RECORD, DIGITS, KEY, LANE_WORDS, CUT],
            Stage::Apply => &[
                PARAMS,
                RECORD,
                DIGITS,
                TALLY,
                KEY,
                WORDS,
                SUMS,
                DIGITS_WORKGROUP,
                LANE_WORDS,
                MASK_WORDS,
                CARRY_OUT,
                CARRY_FORWARD,
                COLLECT_NONE,
            ],
            Stage::Rows => &[
                PARAMS,
                RECORD,
                DIGITS,
                FIRST_DIGIT,
                BINS_ROW,
                KEY,
                SUMS,
                WORDS,
                RUNS,
                DIGITS_WORKGROUP,
                SAMPLE,
                COUNT_DIGIT,
                WIDE,
                LEADING,
                CANONICAL,
                BUDGET,
                LANE_WORDS,
                MASK_WORDS,
                CARRY_OUT,
                CARRY_BACK,
                COLLECT_ROW,
                NARROW_ROW,
                SETTLE_ROW,
                CUT,
                ROW_SUMS,
            ],
            Stage::Teams(_) => &[
                PARAMS,
                RECORD,
                DIGITS,
                KEY,
                SUMS,
                COUNT_KEPT,
                COUNT_DIGITS,
                WIDE,
                SCALED,
                LANE_WORDS,
                MASK_WORDS,
                ROW_SUMS,
            ],
            Stage::Edges => &[PARAMS, RECORD, DIGITS, DROP_LOSERS],
            Stage::Sift => &[
                PARAMS,
                RECORD,
                DIGITS,
                TALLY,
                KEY,
                WORDS,
                SUMS,
                DIGITS_WORKGROUP,
                LANE_WORDS,
                MASK_WORDS,
                CARRY_OUT,
                CARRY_FORWARD,
                CANDIDATES,
                COLLECT,
            ],
            Stage::Settle => &[PARAMS, RECORD, DIGITS, TALLY, KEY, SUMS, DIGITS_WORKGROUP, CANDIDATES],
            Stage::Arrange => &[PARAMS, KEY, BLOCKS],
            Stage::Restore => &[PARAMS, RECORD, DIGITS, KEY, BLOCKS],
            Stage::Zero => &[PARAMS, RECORD, DIGITS, DROP_LOSERS],
            Stage::Measure { rows: false } => &[PARAMS, RECORD, DIGITS, TALLY, WIDE, SCALED, TOTAL_TALLY],
            Stage::Measure { rows: true } => &[PARAMS, RECORD, DIGITS, WIDE, SCALED, ROW_SUMS, TOTAL_ROWS],
        }
    }

    /// Its place in [`STAGES`].
    const fn number(self) -> usize {
        match self {
            Stage::Focus => 0,
            Stage::Stats => 1,
            Stage::Budget => 2,
            Stage::Sift => 3,
            Stage::Histogram => 4,
            Stage::Narrow => 5,
            Stage::Ties => 6,
            Stage::Settle => 7,
            Stage::Apply => 8,
            Stage::Edges => 9,
            Stage::Rows => 10,
            Stage::Teams(i) => 11 + i,
            Stage::Arrange => 16,
            Stage::Restore => 17,
            Stage::Zero => 18,
            Stage::Measure { rows } => 19 + rows as usize,
        }
    }

    /// Bits of a digit after the first. A row's bins are fewer.
    const fn low_bits(self) -> u32 {
        match self {
            Stage::Rows => 10,
            _ => crate::plan::LOW_BINS.trailing_zeros(),
        }
    }

    /// Lanes of a workgroup.
    pub(crate) const fn lanes(self, tuning: &Tuning) -> u32 {
        match self {
            Stage::Teams(i) => tuning.teams[i].0,
            _ => tuning.lanes,
        }
    }

    /// Whether the stage looks at weights, and so at their dtype; and whether it scores them.
    const fn loads(self) -> (bool, bool) {
        match self {
            Stage::Budget | Stage::Narrow | Stage::Measure { .. } => (false, false),
            Stage::Edges | Stage::Settle | Stage::Zero | Stage::Restore => (true, false),
            _ => (true, true),
        }
    }

    /// Whether it reads weights in such numbers that it matters how many words a lane takes at once.
    const fn streams(self) -> bool {
        matches!(self, Stage::Stats | Stage::Apply | Stage::Rows | Stage::Sift)
    }

    /// Whether it matters which lanes are in one subgroup.
    const fn joins(self) -> bool {
        match self {
            Stage::Stats | Stage::Apply | Stage::Rows | Stage::Sift | Stage::Settle => true,
            // The first team is one lane.
            Stage::Teams(i) => i > 0,
            _ => false,
        }
    }

    const fn weighs(self) -> bool {
        use Stage::{Apply, Rows, Settle, Sift, Teams};
        matches!(self, Apply | Rows | Sift | Settle | Teams(_))
    }

    const fn writes(self) -> bool {
        use Stage::{Apply, Edges, Rows, Settle, Sift, Teams, Zero};
        matches!(self, Apply | Rows | Edges | Sift | Settle | Teams(_) | Zero)
    }
}

impl Pipeline {
    /// The same pipeline under one name: what a stage does not depend on is set to its first value.
    pub(crate) fn canonical(mut self) -> Self {
        let (loads, scores) = self.stage.loads();
        if !loads {
            self.dtype = Dtype::F32;
        }
        if !scores {
            self.score = Score::Magnitude;
        }
        self.write &= self.stage.writes();
        self.mass &= self.stage.weighs();
        self.fours &= self.stage.streams();
        // A row of levels adds up few numbers: what its lanes would join takes longer (benches/README.md).
        let is_told_by_levels = self.stage == Stage::Rows && plan::has_levels(self.dtype, self.score) && !self.mass;
        self.subgroup &= self.stage.joins() && !is_told_by_levels;
        self
    }

    /// The number of the canonical pipeline, below [`COUNT`].
    pub(crate) fn index(self) -> usize {
        let Self { stage, dtype, score, write, mass, subgroup, fours } = self.canonical();
        let dtype = match dtype {
            Dtype::F32 => 0,
            Dtype::F16 => 1,
            Dtype::Bf16 => 2,
            Dtype::F8E4m3 => 3,
            Dtype::F8E5m2 => 4,
        };
        let score = match score {
            Score::Magnitude | Score::Given => 0,
            Score::Wanda => 1,
        };
        ((stage.number() * DTYPES.len() + dtype) * SCORES.len() + score) * 16
            + 8 * usize::from(fours)
            + 4 * usize::from(mass)
            + 2 * usize::from(subgroup)
            + usize::from(write)
    }

    /// The whole module, with these constants, and with the sums or, for measuring, without.
    pub(crate) fn source(self, tuning: &Tuning, sums: bool) -> String {
        let mut source = self.stage.file().to_owned();
        let (loads, scores) = self.stage.loads();
        // The only part that is no file: numbers from the table of `Tuning`.
        source += &format!("\nconst LANES: u32 = {}u;\n", self.stage.lanes(tuning));
        let Tuning { spread, tile_words, .. } = *tuning;
        for (name, value) in [("SPREAD", spread), ("MOST_TILE_WORDS", tile_words), ("LOW_BITS", self.stage.low_bits())]
        {
            source += &format!("const {name}: u32 = {value}u;\n");
        }
        for (name, value) in [("HAS_SUMS", sums), ("HAS_MASS", self.mass)] {
            source += &format!("const {name}: bool = {value};\n");
        }
        if self.stage.parts().contains(&SUMS) {
            source.push_str(if sums { wgsl!("parts/sums_take") } else { wgsl!("parts/sums_skip") });
        }
        let has_levels = plan::has_levels(self.dtype, self.score);
        if self.stage.parts().contains(&CARRY_OUT) {
            source.push_str(if has_levels { wgsl!("parts/carry_word_bf16") } else { wgsl!("parts/carry_word") });
        }
        if self.stage.parts().contains(&SAMPLE) {
            let parts = match (has_levels, self.stage == Stage::Rows) {
                (true, true) => FIRST_READ_LEVELS_ROW,
                (true, false) => FIRST_READ_LEVELS,
                (false, true) => FIRST_READ_ROW,
                (false, false) => FIRST_READ,
            };
            source.extend(parts.iter().copied());
        }
        if self.stage.parts().contains(&WORDS) {
            source.push_str(if self.fours { wgsl!("parts/words_fours") } else { wgsl!("parts/words_strided") });
        }
        if self.stage.parts().contains(&MASK_WORDS) {
            source.push_str(if self.fours { wgsl!("parts/gather_fours") } else { wgsl!("parts/gather_strided") });
        }
        if let Stage::Teams(i) = self.stage {
            let (_, team) = tuning.teams[i];
            source += &format!("const TEAM: u32 = {team}u;\n");
            source.push_str(if team == 1 { wgsl!("parts/team_one") } else { wgsl!("parts/team_many") });
        }
        if self.stage.joins() {
            source.push_str(if self.subgroup { wgsl!("parts/lanes_subgroup") } else { wgsl!("parts/lanes_portable") });
        }
        source.extend(self.stage.parts().iter().copied());
        if loads {
            source.push_str(match (self.stage, self.write, self.fours) {
                (Stage::Settle, false, _) => wgsl!("parts/weights_leave"),
                (Stage::Settle, true, _) => wgsl!("parts/weights_drop"),
                (_, false, false) => wgsl!("parts/weights_read"),
                (_, true, false) => wgsl!("parts/weights_write"),
                (_, false, true) => wgsl!("parts/weights_read_fours"),
                (_, true, true) => wgsl!("parts/weights_write_fours"),
            });
            source.push_str(match self.dtype {
                Dtype::F32 => wgsl!("parts/load_f32"),
                Dtype::F16 => wgsl!("parts/load_f16"),
                Dtype::Bf16 => wgsl!("parts/load_bf16"),
                Dtype::F8E4m3 => wgsl!("parts/load_f8_e4m3"),
                Dtype::F8E5m2 => wgsl!("parts/load_f8_e5m2"),
            });
        }
        if scores {
            source.push_str(match self.score {
                Score::Magnitude | Score::Given => wgsl!("parts/score_magnitude"),
                Score::Wanda => wgsl!("parts/score_wanda"),
            });
        }
        source
    }

    /// A name for captures and validation errors, such as `emprune.apply.bf16.wanda.write`.
    pub(crate) fn label(self) -> String {
        let Self { stage, dtype, score, write, mass, subgroup, fours } = self;
        let mut label = format!("emprune.{}", stage.name());
        let (loads, scores) = stage.loads();
        if loads {
            label += &format!(".{}", dtype.to_string().to_lowercase());
        }
        if scores && score == Score::Wanda {
            label += ".wanda";
        }
        if let Stage::Teams(i) = stage {
            label += &format!(".{i}");
        }
        if stage == (Stage::Measure { rows: true }) {
            label += ".rows";
        }
        if write {
            label += ".write";
        }
        if mass {
            label += ".mass";
        }
        if fours {
            label += ".fours";
        }
        if subgroup {
            label += ".subgroup";
        }
        label
    }

    /// Every pipeline that there is, once.
    #[cfg(test)]
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let each = STAGES.into_iter().flat_map(|stage| {
            DTYPES.into_iter().flat_map(move |dtype| {
                SCORES.into_iter().flat_map(move |score| {
                    (0..16).map(move |i| {
                        let [write, subgroup, mass, fours] = [1, 2, 4, 8].map(|bit| i & bit != 0);
                        Pipeline { stage, dtype, score, write, mass, subgroup, fours }
                    })
                })
            })
        });
        // `edges` has no business with f32, nor without writing; `zero` neither.
        each.filter(|v| match v.stage {
            _ if *v != v.canonical() => false,
            Stage::Edges => v.write && v.dtype != Dtype::F32,
            Stage::Zero => v.write,
            _ => true,
        })
    }
}

/// Slots for pipelines.
pub(crate) const COUNT: usize = STAGES.len() * DTYPES.len() * SCORES.len() * 16;
