//! The command line: words to values, and nothing that looks at a file.

use crate::Usage;
use crate::backend::BackendArgs;
use crate::bench::BenchArgs;
use crate::demo::DemoArgs;
use crate::report::SettingsReport;
use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use emprune::{Beta, Budget, Granularity, Rule, Sparsity, Structure};
use std::fmt;
use std::path::{Path, PathBuf};

const ABOUT: &str = "Prune safetensors models by their effective number of weights";

const LONG_ABOUT: &str = "\
Prune safetensors models by their effective number of weights.

How many weights of a row matter is a number that the row itself tells: N_eff = (sum |w|)^2 / sum w^2. It is N when all \
weights are alike and 1 when one outweighs the rest. emprune keeps that many, the largest, and zeroes the others; there \
is no ratio to choose. The answer is exact and the same on every backend, and comes with a certificate: the least share \
of sum |w| that any row with such an N_eff could have kept.

Files are streamed, so a model of any size fits the memory that --memory allows. The output has the headers of the \
input, byte for byte, and differs in zeroed weights only. Zeros alone make no file smaller and no runtime faster.";

const AFTER_HELP: &str = "\
Examples:
  emprune demo
      see the whole job on a small network that is inside the program
  emprune inspect model.safetensors
      what would be pruned, exactly; nothing is written
  emprune prune model.safetensors -o pruned.safetensors
      one contest per row, on the best backend there is
  emprune prune model-directory -o pruned-directory
      all the shards of an index, and every other file as it is
  emprune verify model.safetensors pruned.safetensors
      decide again, and compare every byte
  emprune devices
      the backends of this machine
  emprune bench
      how fast they are

Exit codes: 0 done, 1 failed (and nothing was written), 2 wrong usage, 130 interrupted (and \
nothing was written; a second Ctrl-C ends at once and leaves partial files, which the next run removes).";

const PRUNE_HELP: &str = "\
Examples:
  emprune inspect model.safetensors --granularity tensor
  emprune prune model.safetensors -o pruned.safetensors --beta 0.8 --report report.json
  emprune prune model.safetensors -o pruned.safetensors --targets '*.mlp.*' --ignore '*.0.*'
  emprune inspect model.safetensors --plot plots
  emprune prune model.safetensors -o pruned.safetensors --score wanda --norms norms.safetensors
  emprune prune model.safetensors -o pruned.safetensors --score gradients.safetensors --granularity block:16x16
  emprune prune model.safetensors -o pruned.safetensors --nm 2:4

A directory has model.safetensors.index.json and its shards, or one model.safetensors. The output is a new directory \
with the same names and the report, emprune_report.json; subdirectories are not copied.

A row is what has one index of the first axis: of a linear layer [outputs, inputs] the weights of an output, of a \
convolution [outputs, inputs, height, width] a filter, of stacked experts [experts, outputs, inputs] an expert, or with \
--row-axes 2 an output of an expert. A layer that is stored transposed, such as GPT-2's Conv1D [inputs, outputs], has the \
weights of an input in a row. With fewer than two axes a tensor is one row.

A recipe is a list of rules. The first that matches a tensor gives it its settings, under the names of the options; what \
a rule does not say is as on the command line. Rules do not select, but for skip = true, which leaves alone, and skip = \
false, which prunes what is known by its name as an exception. All tensors of one rule whose granularity is global are \
one contest.

  [[rule]]
  pattern = [\"*.0.*\", \"*.23.*\"]
  skip = true

  [[rule]]
  pattern = \"*.mlp.*\"
  beta = 0.8
  granularity = \"tensor\"

With --json, each line on stderr that begins with a brace is an object whose \"event\" is started (input, output, \
tensors, bytes, backend), progress (bytes_done, bytes_total, and pass where all tensors are one contest), tensor (its \
part of the report), note or warning (message), finished (seconds), or failed (message, exit_code). Progress comes once \
a second at most, finished or failed comes last.

Patterns: one that equals a tensor's name, or its name without .weight, means that tensor. Else it is a glob (* also \
crosses dots) or, after re:, a regex that must match from the start of the name. Without --targets, all F32, F16, \
BF16, F8_E4M3 and F8_E5M2 tensors of two or more axes are pruned, except embeddings, norms, lm_head, routers and quantisation scales, which \
are known by their names. --targets overrides these exceptions, and --ignore overrides --targets.";

const APPLY_HELP: &str = "\
Examples:
  emprune inspect model.safetensors --masks masks.safetensors
  emprune apply --masks masks.safetensors model.safetensors -o pruned.safetensors

Every mask must be for a tensor of the model, of as many weights. Tensors without a mask are copied as they are, so to \
apply masks again, after fine-tuning say, is to restore the zeros; to apply them twice is to apply them once.";

const DIFF_HELP: &str = "\
Examples:
  emprune diff pruned.safetensors other.safetensors
  emprune diff masks.safetensors pruned.safetensors --json

What a model keeps of a tensor is its entries that are not zero. both: kept in A and in B; Jaccard: of what is kept in A \
or in B, the share that is kept in both. The exit code is 0, whatever the difference.";

const BENCH_HELP: &str = "\
Examples:
  emprune bench
      the CPU, and a GPU if there is one: ten seconds
  emprune bench --sizes 1e8 --peers --memory 8GiB
  emprune bench --sizes 2^20,2^24,2^28 --backend gpu --task prune,mask --input normal,lognormal,int8,equal,zeros --json
  emprune bench --plan --sizes 2^28

A time is the median of runs that take turns with copies of the same bytes by all threads, or from buffer to buffer on a \
device. Every answer is checked before it is timed; a wrong one ends the run with exit code 1.";

const IMAGE_HELP: &str = "\
Examples:
  emprune image photo.jpg -o pruned.png
  emprune image photo.png -o pruned.png --patch 16 --report report.json

The score of a pixel is |pixel - mean|, exactly, for each channel by itself. Pixels that lose become the mean, rounded to \
the nearest integer and halves to the even one. Alpha is kept. Patches at the right and lower edges may be smaller; one \
whose pixels are all alike is kept as it is. The picture is written upright, with its colour profile.";

#[derive(Parser)]
#[command(name = "emprune", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Zero the weights that do not matter, and write the model to a new file
    #[command(after_help = PRUNE_HELP)]
    Prune(PruneArgs),
    /// Decide and report as prune does, and write no weights: an exact dry run
    #[command(after_help = PRUNE_HELP)]
    Inspect(InspectArgs),
    /// Decide again and check that a pruned model is exactly what prune makes of its input; same options as prune
    Verify(VerifyArgs),
    /// Zero what a masks file says is lost, and write the model to a new file
    #[command(after_help = APPLY_HELP)]
    Apply(ApplyArgs),
    /// Say, tensor by tensor, what two models or masks files keep in common
    #[command(after_help = DIFF_HELP)]
    Diff(DiffArgs),
    /// Keep the pixels of a picture that stand out from the mean, and give the others the mean
    #[command(after_help = IMAGE_HELP)]
    Image(ImageArgs),
    /// List the backends of this machine: the CPU, and every adapter
    Devices(DevicesArgs),
    /// Time this machine's backends against a copy of the same bytes, on weights that are made up
    #[command(after_help = BENCH_HELP)]
    Bench(BenchArgs),
    /// Prune a small network that is inside the program: nothing to download, no GPU needed
    Demo(DemoArgs),
    /// Print the JSON Schema of a report
    Schema(SchemaArgs),
    /// Print the completions of a shell, for the file where it looks for them
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Where the pruned model goes: a file, or a directory where the input is one
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) files: FileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Nothing is written here; it is understood so that one word turns a prune command into its dry run
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) files: FileArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// What prune made of it
    pub(crate) output: PathBuf,
    /// Check a masks file too
    #[arg(long, value_name = "FILE")]
    pub(crate) masks: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The model: a safetensors file, or a directory with an index and shards
    pub(crate) input: PathBuf,

    /// The masks, as prune --masks writes them: under each tensor's name one bit per weight, lowest bit first, 1 = kept
    #[arg(long, value_name = "FILE")]
    pub(crate) masks: PathBuf,

    /// Where the model goes: a file, or a directory where the input is one
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: PathBuf,

    /// Write a report, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Print the report on stdout instead of a table, and on stderr one JSON object a line: what happens
    #[arg(long)]
    pub(crate) json: bool,

    /// Replace files that exist; a directory only where emprune wrote it
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A model (a file or a directory), or a masks file
    pub(crate) a: PathBuf,

    /// Another
    pub(crate) b: PathBuf,

    /// Print the report on stdout instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The picture: PNG or JPEG; grey or RGB, with alpha or without, 8 or 16 bits
    pub(crate) input: PathBuf,

    /// Where the pruned picture goes, as PNG
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Keep floor(B * N_eff) pixels of every contest: a positive decimal
    #[arg(long, value_name = "B", default_value = "1", value_parser = beta, allow_negative_numbers = true)]
    pub(crate) beta: Beta,

    /// One contest, and one mean, per N x N patch of a channel; without it, per channel
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) patch: Option<u32>,

    #[command(flatten)]
    pub(crate) backend: BackendArgs,

    /// Write a report, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Print the report on stdout instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// Replace files that exist
    #[arg(long)]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Whose report
    #[arg(value_enum, default_value = "prune")]
    pub(crate) command: Reports,
}

/// The commands that make reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reports {
    /// Of prune and inspect
    Prune,
    /// Of apply
    Apply,
    /// Of diff
    Diff,
    /// Of image
    Image,
}

impl Reports {
    /// The JSON Schema.
    pub(crate) fn schema(self) -> &'static [u8] {
        match self {
            Reports::Prune => include_bytes!("report.schema.json"),
            Reports::Apply => include_bytes!("apply.schema.json"),
            Reports::Image => include_bytes!("image.schema.json"),
            Reports::Diff => include_bytes!("diff.schema.json"),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write the pages: a directory that exists, such as /usr/local/share/man/man1
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// What prune, inspect and verify share: the question.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The model: a safetensors file, or a directory with an index and shards
    pub(crate) input: PathBuf,

    #[command(flatten)]
    pub(crate) settings: Settings,

    /// Other settings for some tensors: a TOML file of rules, the first that matches counts
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: Option<PathBuf>,

    /// For --score wanda: the norms of each weight's inputs. A safetensors file with, under each weight's own name, an F32
    /// vector; or llama.cpp's importance matrix (GGUF), where a norm is sqrt(in_sum2 / counts)
    #[arg(long, value_name = "FILE")]
    pub(crate) norms: Option<PathBuf>,

    /// What the weights are called in the norms file: a JSON object, {"weight": "name there"}, or "name there#7" for one
    /// matrix of several. For those it does not name: the weight's own name, and for GGUF that of llama.cpp
    #[arg(long, value_name = "FILE", requires = "norms")]
    pub(crate) norm_map: Option<PathBuf>,

    /// Prune the tensors that match, and no others; may be given again
    #[arg(long, value_name = "PATTERN")]
    pub(crate) targets: Vec<String>,

    /// Leave the tensors that match alone; may be given again
    #[arg(long, value_name = "PATTERN")]
    pub(crate) ignore: Vec<String>,

    #[command(flatten)]
    pub(crate) backend: BackendArgs,

    /// The most memory to take, as KiB, MiB or GiB
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = memory)]
    pub(crate) memory: u64,
}

/// What is asked about one tensor: by the command line, or by a rule of a recipe, which has these options as its keys.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct Settings {
    /// Keep floor(B * N_eff) weights of every contest: a positive decimal
    #[arg(long, value_name = "B", default_value = "1", value_parser = beta, allow_negative_numbers = true, group = "budget")]
    pub(crate) beta: Beta,

    /// Keep K weights of every contest instead, or all where there are fewer
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..), group = "budget")]
    pub(crate) count: Option<u64>,

    /// Zero this part of every contest instead, from 0 to 1, rounded half to even
    #[arg(long, value_name = "F", value_parser = sparsity, allow_negative_numbers = true, group = "budget")]
    pub(crate) sparsity: Option<Sparsity>,

    /// Keep N of every M neighbours along a row instead; a shorter last run keeps N too, or all of it
    #[arg(long, value_name = "N:M", value_parser = n_of_m, group = "budget", conflicts_with = "granularity")]
    pub(crate) nm: Option<NOfM>,

    /// Keep at least so many weights of every contest
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) min_kept: u64,

    /// Which weights compete with each other: global, tensor, row, column, block:RxC (blocks of R rows and C columns), head:N (N
    /// equal groups of rows) or chunk:N (runs of N in a row)
    #[arg(long, value_name = "WHO", default_value = "row", value_parser = granularity)]
    pub(crate) granularity: Granularity,

    /// Keep or zero whole rows, columns or heads (row, column, head:N): the contest is over them, within their tensor, or with
    /// --granularity global over all
    #[arg(long, value_name = "WHAT", value_parser = structure, conflicts_with = "nm")]
    pub(crate) structure: Option<Structure>,

    /// With --structure, the score of one from those of its weights
    #[arg(long, value_enum, default_value = "l2")]
    pub(crate) norm: Norm,

    /// How many leading axes number the rows; 2 for experts that are stacked in one tensor. A row has at least the last axis
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) row_axes: u8,

    /// What makes a weight important: magnitude (|w|), wanda (|w| times the norm of the input that it meets), or a safetensors file
    /// that has, under each weight's name, a tensor of its shape; |score| counts
    #[arg(long, value_name = "SCORE", default_value = "magnitude", value_parser = score)]
    pub(crate) score: Score,
}

/// What prune and inspect share: where to write besides the weights.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Write a report, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Write the masks, as safetensors: per tensor one bit per weight, lowest bit first, 1 = kept
    #[arg(long, value_name = "FILE")]
    pub(crate) masks: Option<PathBuf>,

    /// Draw, as SVG into a new directory: what every tensor keeps, and for each how its scores are spread
    #[arg(long, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,

    /// Print the report on stdout instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// Replace files that exist; a directory only where emprune wrote it
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// What makes a weight important.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    Magnitude,
    Wanda,
    /// Scores in a file, a tensor for each weight.
    Given(PathBuf),
}

/// How the weights of a structure become its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Norm {
    /// The sum of their magnitudes
    L1,
    /// The root of the sum of their squares
    L2,
    /// The largest magnitude
    Max,
}

fn structure(text: &str) -> Result<Structure, String> {
    match text.parse() {
        Ok(Granularity::Row) => Ok(Structure::Row),
        Ok(Granularity::Column) => Ok(Structure::Column),
        Ok(Granularity::Heads(heads)) => Ok(Structure::Heads(heads)),
        _ => Err("there are row, column and head:N".to_owned()),
    }
}

/// So many of every so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NOfM {
    n: u64,
    m: u64,
}

impl fmt::Display for NOfM {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.n, self.m)
    }
}

/// A granularity that files have.
fn granularity(text: &str) -> Result<Granularity, String> {
    let found = text.parse().ok().filter(|found| *found != Granularity::Segments);
    found.ok_or_else(|| "there are global, tensor, row, column, block:RxC, head:N and chunk:N".to_owned())
}

fn score(text: &str) -> Result<Score, String> {
    Ok(match text {
        "" => return Err("it is magnitude, wanda or a file".to_owned()),
        "magnitude" => Score::Magnitude,
        "wanda" => Score::Wanda,
        file => Score::Given(file.into()),
    })
}

fn n_of_m(text: &str) -> Result<NOfM, String> {
    let two = text.split_once(':').and_then(|(n, m)| Some(NOfM { n: n.parse().ok()?, m: m.parse().ok()? }));
    let two = two.ok_or("it is written as 2:4, which keeps two of every four")?;
    if two.n == 0 || two.n > two.m {
        return Err(format!("{} of every {} cannot be kept", two.n, two.m));
    }
    Ok(two)
}

fn sparsity(text: &str) -> Result<Sparsity, String> {
    let number: f64 = text.parse().map_err(|_| "a sparsity is a decimal number from 0 to 1".to_owned())?;
    Sparsity::new(number).map_err(|e| e.to_string())
}

fn beta(text: &str) -> Result<Beta, String> {
    let number: f64 = text.parse().map_err(|_| "beta must be a positive decimal number".to_owned())?;
    Beta::new(number).map_err(|e| e.to_string())
}

/// Larger pieces are not faster.
const MOST_PIECE: usize = 64 << 20;
/// Less leaves no room for the program itself.
const LEAST_MEMORY: u64 = 64 << 20;

pub(crate) fn memory(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let number_and_unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (number, shift) = number_and_unit.ok_or("a size ends in KiB, MiB or GiB")?;
    let number: u64 = number.trim().parse().map_err(|_| "a size is a whole number and a unit")?;
    let bytes = number.checked_mul(1 << shift).ok_or("that is more than 64 bits count")?;
    if bytes < LEAST_MEMORY {
        return Err(format!("at least {}MiB are needed", LEAST_MEMORY >> 20));
    }
    Ok(bytes)
}

impl JobArgs {
    /// The bytes of one piece. Beside it lie the one that is read, the one that is written, its mask and what the backend keeps of it:
    /// a GPU's driver has copies both ways.
    pub(crate) fn piece_bytes(&self) -> usize {
        usize::try_from(self.memory / 12).unwrap_or(usize::MAX).min(MOST_PIECE)
    }

    /// What clap cannot express in a sentence that says what to do.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        self.backend.check()
    }
}

impl Settings {
    /// The question to ask of the library about a tensor of this shape. A part of it, of whole bands of contests, may be asked about
    /// alone.
    pub(crate) fn rule(&self, shape: &[u64]) -> Result<Rule, Usage> {
        let row_len = self.row_len(shape);
        let rows = shape.iter().product::<u64>().checked_div(row_len).unwrap_or(0);
        if let Some(Structure::Heads(heads)) = self.structure
            && !rows.is_multiple_of(heads)
        {
            return Err(Usage(format!("head:{heads} does not divide its {rows} rows")));
        }
        let granularity = match self.granularity() {
            granularity
                if self.structure.is_some() && ![Granularity::Tensor, Granularity::Global].contains(&granularity) =>
            {
                return Err(Usage(format!("structures compete by tensor or global, not by {granularity}")));
            }
            // Without a second axis there are no rows to tell apart.
            Granularity::Row | Granularity::Column if shape.len() < 2 => Granularity::Tensor,
            Granularity::Heads(heads) if !rows.is_multiple_of(heads) => {
                return Err(Usage(format!("head:{heads} does not divide its {rows} rows")));
            }
            Granularity::Heads(heads) => Granularity::Block { rows: rows / heads, columns: row_len },
            granularity => granularity,
        };
        let score = match self.score {
            Score::Magnitude => emprune::Score::Magnitude,
            Score::Wanda => emprune::Score::Wanda,
            Score::Given(_) => emprune::Score::Given,
        };
        let budget = match (self.count, self.sparsity, self.nm) {
            (Some(count), ..) | (.., Some(NOfM { n: count, .. })) => Budget::Count(count),
            (_, Some(sparsity), _) => Budget::Sparsity(sparsity),
            (None, None, None) => Budget::Effective(self.beta),
        };
        let rule = Rule::new().with_granularity(granularity).with_score(score);
        Ok(rule.with_budget(budget).with_min_kept(self.min_kept))
    }

    /// Who competes.
    pub(crate) fn granularity(&self) -> Granularity {
        match (self.nm, self.granularity) {
            (Some(nm), _) => Granularity::Chunks(nm.m),
            // Structures compete within their tensor, unless something else was said.
            (None, Granularity::Row) if self.structure.is_some() => Granularity::Tensor,
            (None, granularity) => granularity,
        }
    }

    /// What is kept or zeroed as a whole, and by which score.
    pub(crate) fn structure(&self) -> Option<(Structure, emprune::Norm)> {
        let norm = match self.norm {
            Norm::L1 => emprune::Norm::L1,
            Norm::L2 => emprune::Norm::L2,
            Norm::Max => emprune::Norm::Max,
        };
        self.structure.map(|structure| (structure, norm))
    }

    /// The scores file.
    pub(crate) fn scores(&self) -> Option<&Path> {
        match &self.score {
            Score::Given(file) => Some(file),
            _ => None,
        }
    }

    /// For the report.
    pub(crate) fn report(&self) -> SettingsReport {
        let Self { beta, count, sparsity, nm, min_kept, row_axes, .. } = *self;
        let by_rule = (count, sparsity, nm) == (None, None, None);
        SettingsReport {
            beta: by_rule.then(|| beta.get()),
            count,
            sparsity: sparsity.map(Sparsity::get),
            nm: nm.map(|nm| nm.to_string()),
            min_kept,
            granularity: self.granularity().to_string(),
            score: match self.score {
                Score::Magnitude => "magnitude",
                Score::Wanda => "wanda",
                Score::Given(_) => "given",
            },
            row_axes,
            structure: self.structure.map(|structure| match structure {
                Structure::Heads(heads) => format!("head:{heads}"),
                other => format!("{other:?}").to_lowercase(),
            }),
            norm: self.structure.and(self.norm.to_possible_value()).map(|norm| norm.get_name().to_owned()),
        }
    }

    /// Entries of one row of a tensor; all of them where there is no second axis to tell rows apart.
    pub(crate) fn row_len(&self, shape: &[u64]) -> u64 {
        let axes = usize::from(self.row_axes).min(shape.len().saturating_sub(1));
        // No overflow: the header's check multiplied all axes.
        shape[axes..].iter().product()
    }
}
