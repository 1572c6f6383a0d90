//! The words of `emprune bench`.

use super::inputs::InputKind;
use crate::Usage;
use crate::args::memory;
use crate::backend::VariantChoice;
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Numbers of entries: 1000000, 1e6, 10M (K, M, G are powers of 1000) or 2^24
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1e5,1e6,1e7", value_parser = size)]
    pub(super) sizes: Vec<u64>,

    /// How the weights are stored
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "f32,bf16")]
    pub(super) dtype: Vec<DtypeName>,

    /// Which weights compete: all, those of a row or of a column, or blocks of 4 x 4
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "tensor,row")]
    pub(super) granularity: Vec<BenchGranularity>,

    /// Entries of a row; sizes are rounded down to whole rows, or rows of blocks [default: 4096]
    #[arg(long, value_name = "N", value_parser = size)]
    row_len: Option<u64>,

    /// What the weights are like
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "normal")]
    pub(super) input: Vec<InputKind>,

    /// Zero the weights in place, or make a mask
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "prune")]
    pub(super) task: Vec<Task>,

    /// Who is timed
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) backend: BenchBackend,

    /// Take only adapters with this in their name, driver or backend; case does not count
    #[arg(long, value_name = "SUBSTRING")]
    pub(super) adapter: Option<String>,

    /// Which shaders a GPU runs
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) gpu_variant: VariantChoice,

    /// Time the obvious ways too: sums in f64, then select_nth_unstable or a sort, on one thread. They prune tensors and rows, and
    /// make no masks
    #[arg(long)]
    pub(super) peers: bool,

    /// On a GPU, time kernels without the exact sums too, with a fixed count: what all the rest takes
    #[arg(long)]
    pub(super) without_sums: bool,

    /// Try other constants of the kernels on a GPU, at the largest of the sizes and on cases of its own, and print the best
    #[arg(long, conflicts_with_all = ["peers", "plan", "json", "without_sums", "dtype", "input", "granularity", "task", "row_len", "seconds", "repeats", "memory"])]
    pub(super) tune: bool,

    /// Print what a GPU's jobs should read, write and dispatch to prune, and time nothing
    #[arg(long, conflicts_with_all = ["peers", "without_sums"])]
    pub(super) plan: bool,

    /// Time only the jobs that a caller's own GPU program would record, and nothing that starts and ends in host memory
    #[arg(long, conflicts_with_all = ["peers", "plan", "tune"])]
    pub(super) device_only: bool,

    /// Seconds to spend on a line; at least three runs are made
    #[arg(long, value_name = "S", default_value = "0.3", value_parser = seconds, allow_negative_numbers = true)]
    pub(super) seconds: f64,

    /// Make so many runs, however long they take; on a device so many batches of runs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) repeats: Option<u32>,

    /// The most host memory to take, as KiB, MiB or GiB; what needs more is skipped
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = memory)]
    pub(super) memory: u64,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeName {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchGranularity {
    /// One contest
    Tensor,
    /// A contest for each row
    Row,
    /// A contest for each column
    Column,
    /// A contest for each block of 4 x 4
    Block,
}

impl BenchGranularity {
    /// As `prune` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            BenchGranularity::Tensor => "tensor",
            BenchGranularity::Row => "row",
            BenchGranularity::Column => "column",
            BenchGranularity::Block => "block:4x4",
        }
    }

    /// Whole rows that are together.
    pub(super) fn rows(self) -> u64 {
        if self == BenchGranularity::Block { 4 } else { 1 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// Zero the losers where they are
    Prune,
    /// One bit per weight
    Mask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchBackend {
    /// The CPU, and a hardware adapter if there is one
    Auto,
    /// The CPU
    Cpu,
    /// A GPU, or a software adapter where there is none
    Gpu,
    /// The CPU and every adapter
    All,
}

impl BenchArgs {
    /// What clap cannot express.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(cfg!(feature = "gpu") || !self.tune, "nothing is tuned: this program was built without GPU support");
        ensure!(
            cfg!(feature = "gpu") || !self.device_only,
            "nothing is timed: this program was built without GPU support"
        );
        let for_gpus = [
            ("--adapter", self.adapter.is_some()),
            ("--plan", self.plan),
            ("--tune", self.tune),
            ("--device-only", self.device_only),
            ("--without-sums", self.without_sums),
            ("--gpu-variant", self.gpu_variant != VariantChoice::Auto),
        ];
        match for_gpus.iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) if self.backend == BenchBackend::Cpu => {
                return Err(Usage(format!("{option} is not for --backend cpu")).into());
            }
            _ => {}
        }
        let prunes = self.task.contains(&Task::Prune);
        ensure!(
            prunes || !self.plan,
            Usage("--plan is about pruning, and --task has masks alone: leave one of them out".into())
        );
        let has = |granularity| self.granularity.contains(&granularity);
        let has_runs = has(BenchGranularity::Tensor) || has(BenchGranularity::Row);
        ensure!(
            !self.peers || (prunes && has_runs),
            Usage("--peers prune tensors and rows, and make no masks: ask for such, or leave --peers out".into())
        );
        ensure!(
            self.row_len.is_none() || self.granularity.iter().any(|one| *one != BenchGranularity::Tensor),
            Usage(
                "--row-len is for rows, columns and blocks, and --granularity has tensors alone: leave one of them out"
                    .into()
            )
        );
        Ok(())
    }

    /// Entries of a row.
    pub(super) fn row_len(&self) -> u64 {
        self.row_len.unwrap_or(4096)
    }
}

impl DtypeName {
    pub(super) fn name(self) -> &'static str {
        match self {
            DtypeName::F32 => "f32",
            DtypeName::F16 => "f16",
            DtypeName::Bf16 => "bf16",
        }
    }

    pub(super) fn size(self) -> u64 {
        if self == DtypeName::F32 { 4 } else { 2 }
    }
}

const MOST_ENTRIES: u64 = 1 << 40;

/// A number of entries.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim().replace('_', "");
    let units = [("K", 1e3), ("k", 1e3), ("M", 1e6), ("G", 1e9)];
    let number = if let Some((base, power)) = digits.split_once('^') {
        base.parse::<u64>().ok().zip(power.parse().ok()).and_then(|(base, power)| base.checked_pow(power))
    } else {
        let with_unit = units.iter().find_map(|(unit, factor)| Some((digits.strip_suffix(unit)?, *factor)));
        let (number, factor) = with_unit.unwrap_or((&digits, 1.0));
        // Whole numbers below 2^53 are exact; larger ones are refused below.
        let number = number.parse().ok().map(|number: f64| number * factor);
        number.filter(|number| number.fract() == 0.0 && *number >= 0.0).map(|number| number as u64)
    };
    match number {
        Some(number @ 1..=MOST_ENTRIES) => Ok(number),
        Some(number) => Err(format!("{number} entries are not between 1 and 2^40")),
        None => Err("a size is a whole number, such as 1000000, 1e6, 10M or 2^24".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a time is a number of seconds between 0 and 3600".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_many_ways() {
        for (text, want) in [
            ("1", 1),
            ("1000000", 1_000_000),
            ("1_000", 1000),
            ("1e6", 1_000_000),
            ("2.5e3", 2500),
            ("10M", 10_000_000),
            ("1.5k", 1500),
            ("3G", 3_000_000_000),
            ("2^24", 1 << 24),
            ("10^3", 1000),
            ("1099511627776", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(want), "{text}");
        }
        for text in [
            "", "0", "-1", "-5M", "1.5", "1e-3", "nan", "inf", "M", "2^", "2^41", "2^64", "1e300", "ten", "10Mi",
            "1 M^2",
        ] {
            assert!(size(text).is_err(), "{text} is {:?}", size(text));
        }
    }
}
