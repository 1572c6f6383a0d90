//! The command line: words to values, and nothing that looks at a file.

use crate::Usage;
use crate::backend::BackendArgs;
use crate::bench::BenchArgs;
use crate::demo::DemoArgs;
use crate::settings::{Settings, beta};
use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use emprune::Beta;
use help::{ABOUT, AFTER_HELP, APPLY_HELP, BENCH_HELP, DIFF_HELP, IMAGE_HELP, LONG_ABOUT, PRUNE_HELP, VERIFY_HELP};
use std::path::{Path, PathBuf};

mod help;

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
    #[command(after_help = VERIFY_HELP)]
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
    /// Print the JSON Schema of a report: of prune and inspect, apply, diff or image; the JSON of other commands has none
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
    #[arg(required_unless_present = "named_output")]
    output: Option<PathBuf>,
    /// The same, as the command of prune has it
    #[arg(short = 'o', long = "output", value_name = "PATH", conflicts_with = "output")]
    named_output: Option<PathBuf>,
    /// Check a masks file too
    #[arg(long, value_name = "FILE")]
    pub(crate) masks: Option<PathBuf>,
    /// No report is written; it is understood so that one word turns a prune command into its check
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Nothing is drawn; understood for the same reason
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Nothing is replaced; understood for the same reason
    #[arg(long)]
    overwrite: bool,
}

impl VerifyArgs {
    /// What is checked, whichever way it was named.
    pub(crate) fn output(&self) -> Result<&Path, Usage> {
        let output = self.output.as_deref().or(self.named_output.as_deref());
        output.ok_or_else(|| Usage("verify needs an OUTPUT".into())) // the parser sees to it
    }

    /// Options of prune's that were given and mean nothing here.
    pub(crate) fn idle(&self) -> Vec<&'static str> {
        let all =
            [("--report", self.report.is_some()), ("--plot", self.plot.is_some()), ("--overwrite", self.overwrite)];
        all.into_iter().filter_map(|(option, is_given)| is_given.then_some(option)).collect()
    }
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

    #[command(flatten)]
    pub(crate) report: ReportArgs,
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

    #[command(flatten)]
    pub(crate) report: ReportArgs,
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

    /// Prune the tensors that match, and no others but those that a recipe asks for; may be given again
    #[arg(long, value_name = "PATTERN")]
    pub(crate) targets: Vec<String>,

    /// Leave the tensors that match alone; may be given again
    #[arg(long, value_name = "PATTERN")]
    pub(crate) ignore: Vec<String>,

    #[command(flatten)]
    pub(crate) backend: BackendArgs,

    /// The most memory to take, as KiB, MiB, GiB or TiB: 64MiB or more. What grows with a shape, such as norms and
    /// structures, may have half of it; contests are decided as many at a time as fit. Beside it each tensor
    /// of a checkpoint takes some two kilobytes, and the header of a file twice its length while it is read, 200 MB at the most
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = memory)]
    pub(crate) memory: u64,
}

/// What prune and inspect share: where to write besides the weights.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Write the masks, as safetensors: per tensor one bit per weight, lowest bit first, 1 = kept
    #[arg(long, value_name = "FILE")]
    pub(crate) masks: Option<PathBuf>,

    /// Draw, as SVG into a new directory: what every tensor keeps, and for each how its scores are spread
    #[arg(long, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// What all commands share that write something: what they say of it, and over what.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Write a report, as JSON
    #[arg(long = "report", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Print the report on stdout instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// Replace files that exist; a directory only where emprune wrote all that is in it
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// Larger pieces are not faster.
const MOST_PIECE: usize = 64 << 20;
/// Less leaves no room for the program itself.
const LEAST_MEMORY: u64 = 64 << 20;

pub(crate) fn memory(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let number_and_unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (number, shift) = number_and_unit.ok_or("a size ends in KiB, MiB, GiB or TiB")?;
    let number: u64 = number.trim().parse().map_err(|_| "a size is a whole number and a unit")?;
    let bytes = number.checked_mul(1 << shift).ok_or("that is more than 64 bits count")?;
    if bytes < LEAST_MEMORY {
        return Err(format!("at least {}MiB are needed", LEAST_MEMORY >> 20));
    }
    Ok(bytes)
}

/// The bytes of one piece of what may take so much memory. Beside it lie as many that are read, and that are written, four times as many that
/// are held between two passes, its mask and what the backend keeps of it: a GPU's driver has copies both ways.
pub(crate) fn piece_bytes(memory: u64) -> usize {
    usize::try_from(memory / 12).unwrap_or(usize::MAX).min(MOST_PIECE)
}

impl JobArgs {
    /// What clap cannot express in a sentence that says what to do.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        self.backend.check()
    }
}
