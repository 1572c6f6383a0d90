//! The report: what was asked, and what came of it. Its field names are a promise to scripts; `SCHEMA` counts the promises.

use crate::backend::Fallback;
use crate::histogram::Spread;
use emprune::{Group, Mask};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use std::collections::TryReserveError;
use std::fmt;
use std::io::{self, Write};

pub(crate) const SCHEMA: &str = "emprune.report/1";
/// Longer lists of rows are summed up only.
const MOST_ROWS: u64 = 65536;
/// So are all lists when together they are longer: 32 MB. A model of many experts has hundreds of millions of rows.
pub(crate) const MOST_ROWS_OF_ALL: u64 = 1 << 22;

/// Everything about one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    pub(crate) emprune_version: &'static str,
    /// The model; this and the next two as they were given.
    pub(crate) input: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) targets: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ignore: Vec<String>,
    /// What else was read.
    #[serde(skip_serializing_if = "FilesReport::is_empty")]
    pub(crate) files: FilesReport,
    /// `cpu` or `gpu`.
    pub(crate) backend: &'static str,
    pub(crate) adapter: Option<String>,
    /// The shaders, if a GPU did the work: `portable` or `subgroup`.
    pub(crate) variant: Option<&'static str>,
    /// Where and why the CPU took over from it.
    pub(crate) fallback: Option<Fallback>,
    #[serde(flatten)]
    pub(crate) settings: SettingsReport,
    /// The rules in their order, where there is a recipe.
    pub(crate) recipe: Option<Vec<RuleReport>>,
    pub(crate) totals: Totals,
    /// The one contest over many tensors, where there is one; those of the recipe's rules are with them.
    pub(crate) global: Option<GlobalReport>,
    /// In byte order of their names, skipped ones too.
    pub(crate) tensors: Vec<TensorReport>,
}

/// Files beside the model. Those of scores and groups are all that the options or a recipe's rules name.
#[derive(Debug, Default, Serialize)]
pub(crate) struct FilesReport {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) scores: Vec<FileReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<FileReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) norms: Option<FileReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) norm_map: Option<FileReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recipe: Option<FileReport>,
}

impl FilesReport {
    fn is_empty(&self) -> bool {
        let Self { scores, groups, norms, norm_map, recipe } = self;
        scores.is_empty() && groups.is_empty() && [norms, norm_map, recipe].iter().all(|file| file.is_none())
    }
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct FileReport {
    /// As it was given.
    pub(crate) path: String,
    /// Its hash, where it was taken: by a run that could be gone on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blake3: Option<String>,
}

/// What was asked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SettingsReport {
    /// The budget is this or one of the next three.
    pub(crate) beta: Option<f64>,
    pub(crate) count: Option<u64>,
    pub(crate) sparsity: Option<f64>,
    pub(crate) nm: Option<String>,
    pub(crate) min_kept: u64,
    pub(crate) granularity: String,
    pub(crate) score: &'static str,
    pub(crate) row_axes: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) structure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) norm: Option<String>,
}

/// One rule of a recipe, and what it was asked for.
#[derive(Debug, Serialize)]
pub(crate) struct RuleReport {
    pub(crate) pattern: Vec<String>,
    pub(crate) skip: Option<bool>,
    #[serde(flatten)]
    pub(crate) settings: SettingsReport,
    /// How many tensors it applies to, skipped ones too.
    pub(crate) tensors: usize,
    /// The one contest over them, where they are one.
    pub(crate) global: Option<GlobalReport>,
}

/// Sums over the pruned tensors.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) len: u64,
    pub(crate) kept: u64,
    pub(crate) sparsity: f64,
    pub(crate) zeros_before: u64,
    pub(crate) zeros_after: u64,
}

/// One tensor. Of a skipped one only the header is known: what its bytes would tell is null, for nobody has read them, and
/// it took part in no contest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TensorReport {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) len: u64,
    pub(crate) contests: u64,
    pub(crate) kept: Option<u64>,
    pub(crate) sparsity: Option<f64>,
    pub(crate) zeros_before: Option<u64>,
    pub(crate) zeros_after: Option<u64>,
    pub(crate) seconds: Option<f64>,
    /// Why it was left alone.
    pub(crate) skipped: Option<String>,
    /// The recipe's rule that applies, counted from one.
    pub(crate) rule: Option<usize>,
    /// Of its scores, where they are to be drawn.
    #[serde(skip)]
    pub(crate) spread: Option<Spread>,
    // Where the tensor was one contest:
    pub(crate) n_eff: Option<f64>,
    pub(crate) mass: Option<f64>,
    pub(crate) mass_bound: Option<f64>,
    pub(crate) threshold: Option<f64>,
    pub(crate) degenerate: Option<bool>,
    // Where each row, column, block, head or chunk was one:
    pub(crate) rows: Option<RowsReport>,
    pub(crate) kept_per_row: Option<Vec<u64>>,
    /// The numbers of the rows, columns, heads or groups that stay, where they were kept or zeroed as wholes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept_structures: Option<Numbers>,
}

/// Numbers in a row, of which some are meant: bits, for they may be as many as a model's rows, and numbers where they are written.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(pub(crate) Mask);

impl Serialize for Numbers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.0.len()).filter(|&at| self.0.get(at)))
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AsBits).map(Numbers)
    }
}

struct AsBits;

impl<'de> Visitor<'de> for AsBits {
    type Value = Mask;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Mask, A::Error> {
        let (mut bits, mut len) = (Vec::new(), 0);
        while let Some(number) = numbers.next_element::<u64>()? {
            set(&mut bits, number).map_err(A::Error::custom)?;
            len = len.max(number.saturating_add(1));
        }
        Mask::from_bytes(bits, len).map_err(A::Error::custom)
    }
}

/// Set one bit of bytes that grow for it.
fn set(bits: &mut Vec<u8>, number: u64) -> Result<(), TryReserveError> {
    let at = usize::try_from(number / 8).unwrap_or(usize::MAX);
    let more = at.saturating_add(1).saturating_sub(bits.len());
    bits.try_reserve(more)?;
    bits.resize(bits.len() + more, 0);
    bits[at] |= 1 << (number % 8);
    Ok(())
}

impl Numbers {
    /// Of those in a mask, the ones that are among these.
    pub(crate) fn among(kept: &Mask, numbers: &[u32]) -> Self {
        let mut bits = vec![0; kept.as_bytes().len()];
        for &number in numbers.iter().filter(|&&number| kept.get(number.into())) {
            bits[number as usize / 8] |= 1 << (number % 8);
        }
        // No bit is there that was not in the mask.
        Self(Mask::from_bytes(bits, kept.len()).unwrap_or_default())
    }
}

/// The one contest over all tensors.
#[derive(Debug, Serialize)]
pub(crate) struct GlobalReport {
    pub(crate) len: u64,
    pub(crate) kept: u64,
    pub(crate) n_eff: f64,
    pub(crate) mass: f64,
    pub(crate) mass_bound: f64,
    /// None when nothing is kept.
    pub(crate) threshold: Option<f64>,
    pub(crate) degenerate: bool,
}

/// The contests of one tensor, summed up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RowsReport {
    pub(crate) n_eff: MinMeanMax,
    pub(crate) mass: MinMean,
    pub(crate) mass_bound: MinMean,
    /// Of those that keep something.
    pub(crate) threshold: Option<MinMax>,
    /// How many rows are all zero.
    pub(crate) degenerate: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MinMeanMax {
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) max: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MinMean {
    pub(crate) min: f64,
    pub(crate) mean: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MinMax {
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl GlobalReport {
    pub(crate) fn new(group: &Group) -> Self {
        let Group { len, kept, n_eff, mass, mass_bound, degenerate, .. } = *group;
        Self { len, kept, n_eff, mass, mass_bound, threshold: threshold(group), degenerate }
    }
}

/// The lowest kept score, if there is one.
fn threshold(group: &Group) -> Option<f64> {
    group.threshold.is_finite().then(|| group.threshold.into())
}

impl TensorReport {
    /// The tensor was one contest.
    pub(crate) fn set_contest(&mut self, group: &Group) {
        self.n_eff = Some(group.n_eff);
        self.mass = Some(group.mass);
        self.mass_bound = Some(group.mass_bound);
        self.threshold = threshold(group);
        self.degenerate = Some(group.degenerate);
    }

    /// Each row was one.
    pub(crate) fn set_rows(&mut self, rows: Rows) {
        let min_mean = |tally: Tally| MinMean { min: tally.min, mean: tally.mean() };
        let Tally { min, max, .. } = rows.threshold;
        self.rows = Some(RowsReport {
            n_eff: MinMeanMax { min: rows.n_eff.min, mean: rows.n_eff.mean(), max: rows.n_eff.max },
            mass: min_mean(rows.mass),
            mass_bound: min_mean(rows.mass_bound),
            threshold: (min <= max).then_some(MinMax { min, max }),
            degenerate: rows.degenerate,
        });
        self.kept_per_row = rows.kept_per_row;
    }
}

/// The rows of one tensor, as they come: they can be too many to keep.
#[derive(Debug)]
pub(crate) struct Rows {
    n_eff: Tally,
    mass: Tally,
    mass_bound: Tally,
    threshold: Tally,
    degenerate: usize,
    kept_per_row: Option<Vec<u64>>,
}

impl Rows {
    /// For so many rows, if they are `listed` one by one.
    pub(crate) fn new(count: u64, listed: bool) -> Self {
        let [n_eff, mass, mass_bound, threshold] = [Tally::NEW; 4];
        let kept_per_row = (listed && are_few(count)).then(|| Vec::with_capacity(count as usize));
        Self { n_eff, mass, mass_bound, threshold, degenerate: 0, kept_per_row }
    }

    pub(crate) fn add(&mut self, groups: &[Group]) {
        for group in groups {
            self.n_eff.add(group.n_eff);
            self.mass.add(group.mass);
            self.mass_bound.add(group.mass_bound);
            threshold(group).into_iter().for_each(|threshold| self.threshold.add(threshold));
            self.degenerate += usize::from(group.degenerate);
        }
        if let Some(kept) = &mut self.kept_per_row {
            kept.extend(groups.iter().map(|group| group.kept));
        }
    }
}

/// Whether so many rows of a tensor are listed.
pub(crate) fn are_few(count: u64) -> bool {
    count <= MOST_ROWS
}

/// Numbers of which only these stay.
#[derive(Clone, Copy, Debug)]
struct Tally {
    min: f64,
    max: f64,
    count: u64,
    sum: f64,
    /// Neumaier's sum: what rounding takes off is collected, so that a million rows mean what three do.
    lost: f64,
}

impl Tally {
    const NEW: Self = Self { min: f64::INFINITY, max: f64::NEG_INFINITY, count: 0, sum: 0.0, lost: 0.0 };

    fn add(&mut self, value: f64) {
        let (sum, next) = (self.sum, self.sum + value);
        self.lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        self.sum = next;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.count += 1;
    }

    fn mean(&self) -> f64 {
        // Rounding must not push a mean of equal values away from them.
        ((self.sum + self.lost) / self.count as f64).max(self.min).min(self.max)
    }
}

/// `(len - kept) / len`, rounded once.
pub(crate) fn sparsity(kept: u64, len: u64) -> f64 {
    if len == 0 { 0.0 } else { (len - kept) as f64 / len as f64 }
}

/// Write any report: indented, and one tensor (one adapter) a line, for `grep` and `diff`.
pub(crate) fn write_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let formatter = Lines { pretty: PrettyFormatter::new(), depth: 0 };
    value.serialize(&mut Serializer::with_formatter(&mut *out, formatter))?;
    out.write_all(b"\n")
}

/// Indents the two outermost levels only.
struct Lines {
    pretty: PrettyFormatter<'static>,
    depth: usize,
}

const INDENTED: usize = 2;

/// Each method opens or closes a level, or stands on one, and passes the call on to the formatter of that level.
macro_rules! by_depth {
    ($($name:ident($($arg:ident: $kind:ty)?) $step:expr;)*) => {$(
        fn $name<W: ?Sized + Write>(&mut self, out: &mut W $(, $arg: $kind)?) -> io::Result<()> {
            let step: isize = $step;
            if step > 0 {
                self.depth += 1;
            }
            let done = if self.depth <= INDENTED {
                self.pretty.$name(out $(, $arg)?)
            } else {
                CompactFormatter.$name(out $(, $arg)?)
            };
            if step < 0 {
                self.depth -= 1;
            }
            done
        }
    )*};
}

impl Formatter for Lines {
    by_depth! {
        begin_array() 1;
        end_array() -1;
        begin_array_value(first: bool) 0;
        end_array_value() 0;
        begin_object() 1;
        end_object() -1;
        begin_object_key(first: bool) 0;
        begin_object_value() 0;
        end_object_value() 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_of_nothing_is_zeroed() {
        assert!(sparsity(0, 0).abs() < f64::MIN_POSITIVE);
        assert!((sparsity(1, 4) - 0.75).abs() < f64::EPSILON);
    }

    #[test]
    fn a_mean_is_exact_where_a_plain_sum_is_not() {
        let tally = |values: &[f64]| {
            let mut tally = Tally::NEW;
            values.iter().for_each(|value| tally.add(*value));
            [tally.min, tally.mean(), tally.max].map(f64::to_bits)
        };
        assert_eq!(tally(&[0.1; 10]), [0.1f64.to_bits(); 3], "ten times 0.1 is not 1");
        assert_eq!(tally(&[1.0, 1e17, 1.0, -1e17]), [-1e17, 0.5, 1e17].map(f64::to_bits));
    }

    #[test]
    fn numbers_are_bits_and_look_like_numbers() {
        for text in ["[]", "[0]", "[7,8,9,1000]"] {
            let numbers: Numbers = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&numbers).unwrap(), text);
            assert!(numbers.0.as_bytes().len() <= 126, "{text}");
        }
        serde_json::from_str::<Numbers>("[18446744073709551615]").unwrap_err();
        let kept = serde_json::from_str::<Numbers>("[1,3,12]").unwrap().0;
        assert_eq!(serde_json::to_string(&Numbers::among(&kept, &[12, 2, 1, 12])).unwrap(), "[1,12]");
    }

    #[test]
    fn two_levels_are_indented() {
        let value = json!({"a": 1, "b": {"c": []}, "d": [{"e": [1, 2]}, {}], "f": []});
        let mut out = Vec::new();
        write_json(&mut out, &value).unwrap();
        let expected = "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": []\n  },\n  \"d\": [\n    {\"e\":[1,2]},\n    {}\n  ],\n  \"f\": []\n}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
