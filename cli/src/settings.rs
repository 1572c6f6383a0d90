//! What is asked about one tensor: by the command line, or by a rule of a recipe, which has these options as its keys.

use crate::Usage;
use crate::report::SettingsReport;
use clap::{Args, ValueEnum};
use emprune::{Beta, Budget, Granularity, Rule, Sparsity};
use std::fmt;
use std::path::{Path, PathBuf};

/// The options, which are a recipe's keys too.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct Settings {
    /// Keep floor(B * N_eff) weights of every contest: a positive decimal
    #[arg(long, value_name = "B", default_value = "1", value_parser = beta, allow_negative_numbers = true, group = "budget")]
    pub(crate) beta: Beta,

    /// Keep K weights of every contest instead, or all where there are fewer
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true, group = "budget")]
    pub(crate) count: Option<u64>,

    /// Zero this part of every contest instead, from 0 to 1, rounded half to even
    #[arg(long, value_name = "F", value_parser = sparsity, allow_negative_numbers = true, group = "budget")]
    pub(crate) sparsity: Option<Sparsity>,

    /// Keep N of every M neighbours along a row instead; a shorter last run keeps N too, or all of it
    #[arg(long, value_name = "N:M", value_parser = n_of_m, group = "budget", conflicts_with_all = ["granularity", "structure"])]
    pub(crate) nm: Option<NOfM>,

    /// Keep at least so many weights of every contest
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true)]
    pub(crate) min_kept: u64,

    /// Which weights compete with each other: global, tensor, row, column, block:RxC (blocks of R rows and C columns), head:N (N
    /// equal groups of rows) or chunk:N (runs of N in a row) [default: row; tensor with --structure]
    #[arg(long, value_name = "WHO", value_parser = granularity)]
    pub(crate) granularity: Option<Granularity>,

    /// Keep or zero whole rows, columns, heads or input channels (row, column, head:N, channel), or groups of rows or columns that belong
    /// together (groups:FILE). The contest is over them, within their tensor, or with --granularity global over all
    #[arg(long, value_name = "WHAT", value_parser = structure)]
    pub(crate) structure: Option<Structure>,

    /// With --structure, the score of one from those of its weights; refused where a file has a score for each structure
    /// [default: l2]
    #[arg(long, value_enum)]
    pub(crate) norm: Option<Norm>,

    /// How many leading axes number the rows; 2 for experts that are stacked in one tensor. A row has at least the last axis
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) row_axes: u8,

    /// What makes a weight important: magnitude (|w|), wanda (|w| times the norm of the input that it meets), or a safetensors file
    /// that has, under each weight's name, a tensor of its shape or, with --structure, a vector of one score per structure;
    /// |score| counts
    #[arg(long, value_name = "SCORE", default_value = "magnitude", value_parser = score)]
    pub(crate) score: Score,
}

/// What makes a weight important.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    Magnitude,
    Wanda,
    /// Scores in a file, a tensor for each weight.
    Given(PathBuf),
}

/// What is kept or zeroed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Structure {
    Row,
    Column,
    Heads(u64),
    /// One index of the axis that follows those of the rows: of a convolution an input channel, of a matrix a column.
    Channel,
    /// Numbers of groups in a file, a tensor for each weight.
    Groups(PathBuf),
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

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row => f.write_str("row"),
            Self::Column => f.write_str("column"),
            Self::Heads(heads) => write!(f, "head:{heads}"),
            Self::Channel => f.write_str("channel"),
            Self::Groups(_) => f.write_str("groups"),
        }
    }
}

impl From<Norm> for emprune::Norm<'_> {
    fn from(norm: Norm) -> Self {
        match norm {
            Norm::L1 => Self::L1,
            Norm::L2 => Self::L2,
            Norm::Max => Self::Max,
        }
    }
}

/// A granularity that files have.
fn granularity(text: &str) -> Result<Granularity, String> {
    let found = text.parse().ok().filter(|found| *found != Granularity::Segments);
    found.ok_or_else(|| "there are global, tensor, row, column, block:RxC, head:N and chunk:N".to_owned())
}

fn structure(text: &str) -> Result<Structure, String> {
    if let Some(file) = text.strip_prefix("groups:").filter(|file| !file.is_empty()) {
        return Ok(Structure::Groups(file.into()));
    }
    if text == "channel" {
        return Ok(Structure::Channel);
    }
    match text.parse() {
        Ok(Granularity::Row) => Ok(Structure::Row),
        Ok(Granularity::Column) => Ok(Structure::Column),
        Ok(Granularity::Heads(heads)) => Ok(Structure::Heads(heads)),
        _ => Err("there are row, column, head:N, channel and groups:FILE".to_owned()),
    }
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

pub(crate) fn beta(text: &str) -> Result<Beta, String> {
    let number: f64 = text.parse().map_err(|_| "beta must be a positive decimal number".to_owned())?;
    Beta::new(number).map_err(|e| e.to_string())
}

impl Settings {
    /// The question to ask of the library about a tensor of this shape. A part of it, of whole bands of contests, may be asked about
    /// alone.
    pub(crate) fn rule(&self, shape: &[u64]) -> Result<Rule, Usage> {
        let row_len = self.row_len(shape);
        let rows = shape.iter().product::<u64>().checked_div(row_len).unwrap_or(0);
        let among_rows = |heads: u64| match rows.is_multiple_of(heads) {
            true => Ok(rows / heads),
            false => Err(Usage(format!("head:{heads} does not divide its {rows} rows"))),
        };
        match (&self.structure, self.granularity()) {
            _ if self.fixed().is_some_and(|count| count < self.min_kept) => {
                let (count, least) = (self.fixed().unwrap_or_default(), self.min_kept);
                let what = self.nm.map_or_else(|| format!("--count {count}"), |nm| format!("--nm {nm}"));
                return Err(Usage(format!(
                    "{what} keeps {count}, fewer than --min-kept {least}: leave one of them out"
                )));
            }
            (None, Granularity::Chunks(len)) if self.fixed().is_some_and(|count| count > len) => {
                let count = self.fixed().unwrap_or_default();
                return Err(Usage(format!("a chunk:{len} has no {count} weights that --count {count} could keep")));
            }
            (None, Granularity::Chunks(len)) if self.min_kept > len => {
                let least = self.min_kept;
                return Err(Usage(format!("a chunk:{len} has no {least} weights that --min-kept {least} could keep")));
            }
            (None, _) if self.norm.is_some() => return Err(Usage("--norm is for --structure".into())),
            (None, _) => {}
            (Some(Structure::Heads(heads)), _) if among_rows(*heads).is_err() => among_rows(*heads).map(drop)?,
            (Some(_), Granularity::Tensor | Granularity::Global) => {}
            (Some(structure), other) => {
                let message = format!("{structure} structures compete by tensor or global, not by {other}");
                return Err(Usage(message));
            }
        }
        let granularity = match self.granularity() {
            // Without a second axis there are no rows to tell apart.
            Granularity::Row | Granularity::Column if shape.len() < 2 => Granularity::Tensor,
            Granularity::Heads(heads) => Granularity::Block { rows: among_rows(heads)?, columns: row_len },
            granularity => granularity,
        };
        let score = match self.score {
            Score::Magnitude => emprune::Score::Magnitude,
            Score::Wanda => emprune::Score::Wanda,
            Score::Given(_) => emprune::Score::Given,
        };
        let budget = match (self.fixed(), self.sparsity) {
            (Some(count), _) => Budget::Count(count),
            (None, Some(sparsity)) => Budget::Sparsity(sparsity),
            (None, None) => Budget::Effective(self.beta),
        };
        let rule = Rule::new().with_granularity(granularity).with_score(score);
        Ok(rule.with_budget(budget).with_min_kept(self.min_kept))
    }

    /// How many are kept of every contest, if that was said.
    fn fixed(&self) -> Option<u64> {
        self.count.or(self.nm.map(|nm| nm.n))
    }

    /// Who competes. Structures do within their tensor, unless something else was said.
    pub(crate) fn granularity(&self) -> Granularity {
        match (self.nm, self.granularity) {
            (Some(nm), _) => Granularity::Chunks(nm.m),
            (None, Some(granularity)) => granularity,
            (None, None) if self.structure.is_some() => Granularity::Tensor,
            (None, None) => Granularity::Row,
        }
    }

    /// How many structures a tensor of this shape has; of groups only their numbers tell.
    pub(crate) fn structures(&self, shape: &[u64]) -> Option<u64> {
        let row_len = self.row_len(shape);
        match self.structure.as_ref()? {
            Structure::Row => shape.iter().product::<u64>().checked_div(row_len),
            Structure::Column => Some(row_len),
            Structure::Heads(heads) => Some(*heads),
            Structure::Channel => Some(self.channels(shape)),
            Structure::Groups(_) => None,
        }
    }

    /// How many input channels a tensor of this shape has.
    pub(crate) fn channels(&self, shape: &[u64]) -> u64 {
        let axis = usize::from(self.row_axes).min(shape.len().saturating_sub(1));
        shape.get(axis).copied().unwrap_or(1)
    }

    /// How a structure comes by its score, unless a file has that.
    pub(crate) fn norm(&self) -> Norm {
        self.norm.unwrap_or(Norm::L2)
    }

    /// The scores file.
    pub(crate) fn scores(&self) -> Option<&Path> {
        match &self.score {
            Score::Given(file) => Some(file),
            _ => None,
        }
    }

    /// The groups file.
    pub(crate) fn groups(&self) -> Option<&Path> {
        match &self.structure {
            Some(Structure::Groups(file)) => Some(file),
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
            structure: self.structure.as_ref().map(Structure::to_string),
            norm: self.structure.as_ref().and(self.norm().to_possible_value()).map(|norm| norm.get_name().to_owned()),
        }
    }

    /// Entries of one row of a tensor; all of them where there is no second axis to tell rows apart.
    pub(crate) fn row_len(&self, shape: &[u64]) -> u64 {
        let axes = usize::from(self.row_axes).min(shape.len().saturating_sub(1));
        // A header's check multiplies all axes. Where one of the first is 0, the others may be more than 64 bits count; there are no rows then.
        shape[axes..].iter().fold(1, |len, axis| len.saturating_mul(*axis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shape_that_a_header_may_have_overflows() {
        #[derive(clap::Parser)]
        struct Asked {
            #[command(flatten)]
            settings: Settings,
        }
        let Asked { settings } = <Asked as clap::Parser>::parse_from(["emprune"]);
        for (shape, row_len) in [(&[0, 1 << 63, 2][..], u64::MAX), (&[3, 4, 5], 20), (&[7], 7), (&[], 1)] {
            assert_eq!(settings.row_len(shape), row_len, "{shape:?}");
            settings.rule(shape).unwrap();
        }
    }
}
