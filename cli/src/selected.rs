//! A tensor that is pruned, and how: what follows from its shape and its settings before any of it is read.

use crate::args::piece_bytes;
use crate::norms::Norms;
use crate::safetensors::TensorInfo;
use crate::settings::{Score, Settings, Structure};
use crate::weights::Part;
use anyhow::{Result, ensure};
use emprune::{Dtype, Granularity, Group, TensorSpec};
use std::collections::BTreeMap;

/// Neighbouring rows, and the contests in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band {
    pub(crate) rows: u64,
    /// Of one contest.
    columns: u64,
    /// So many are side by side.
    contests: u64,
}

/// A tensor that is pruned, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selected<'a> {
    pub(crate) info: &'a TensorInfo,
    pub(crate) dtype: Dtype,
    /// Of the recipe.
    pub(crate) rule: Option<usize>,
    pub(crate) settings: &'a Settings,
}

impl<'a> Selected<'a> {
    pub(crate) fn row_len(&self) -> u64 {
        self.settings.row_len(&self.info.shape)
    }

    /// The norms file, if this tensor's score needs norms.
    pub(crate) fn norms<'n>(&self, norms: Option<&'n Norms>) -> Option<&'n Norms> {
        norms.filter(|_| self.settings.score == Score::Wanda)
    }

    /// How many of them its rows have: one for each column, or one for all where all entries are one contest.
    pub(crate) fn norms_len(&self, norms: Option<&Norms>) -> Result<Option<u64>> {
        let Some(norms) = self.norms(norms) else { return Ok(None) };
        let count = norms.count(self.info, self.row_len())?;
        Ok(Some(if self.is_one_contest()? { count } else { self.row_len() }))
    }

    pub(crate) fn is_global(&self) -> bool {
        self.settings.granularity() == Granularity::Global
    }

    /// Whether all its entries compete, and it does not matter which of them are a row.
    fn is_one_contest(&self) -> Result<bool> {
        let granularity = self.settings.rule(&self.info.shape)?.granularity;
        Ok(matches!(granularity, Granularity::Tensor | Granularity::Global) && self.settings.structure.is_none())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.info.bytes.end - self.info.bytes.start
    }

    /// How its contests lie in rows of this length.
    pub(crate) fn band(&self, row_len: u64) -> Result<Band> {
        let rows = self.info.len / row_len.max(1);
        let (rows, columns) = match self.settings.rule(&self.info.shape)?.granularity {
            Granularity::Row => (1, row_len),
            Granularity::Column => (rows, 1),
            Granularity::Block { rows: of_block, columns } => (of_block.min(rows), columns),
            Granularity::Chunks(len) => (1, len),
            _ => (rows, row_len),
        };
        Ok(Band { rows, columns: columns.min(row_len).max(1), contests: row_len.div_ceil(columns.max(1)).max(1) })
    }

    /// How many contests there are in it.
    pub(crate) fn contests(&self, row_len: u64) -> Result<u64> {
        let (band, rows) = (self.band(row_len)?, self.info.len / row_len.max(1));
        Ok(rows.div_ceil(band.rows) * band.contests)
    }

    /// How many of its rows of this length are decided at once, and how many columns of those: as many contests as there is memory for their
    /// decisions. Where not even those side by side fit, they are decided some columns at a time; so they are where there are too many norms.
    pub(crate) fn at_once(&self, row_len: u64, norms: Option<u64>, memory: u64) -> Result<(u64, u64)> {
        let (band, most) = (self.band(row_len)?, (piece_bytes(memory) / size_of::<Group>()) as u64);
        let most_columns = norms.map_or(u64::MAX, |_| memory / 2 / NORM);
        if band.contests <= most && norms.is_none_or(|count| count <= most_columns) {
            return Ok(((most / band.contests).max(1) * band.rows, row_len));
        }
        let contests = most.min(most_columns / band.columns).max(1);
        Ok((band.rows, contests.saturating_mul(band.columns).min(row_len)))
    }

    /// Whether its entries are read more than once before the first of them is stored.
    pub(crate) fn is_read_again(&self) -> bool {
        matches!(self.settings.granularity(), Granularity::Tensor | Granularity::Global)
    }

    /// So many of its entries, in its rows.
    pub(crate) fn spec(&self, len: u64, part: &Part) -> Result<TensorSpec> {
        self.spec_of_rows(len, part.norms_len().unwrap_or(self.row_len()), part)
    }

    pub(crate) fn spec_of_rows(&self, len: u64, row_len: u64, part: &Part) -> Result<TensorSpec> {
        let spec = TensorSpec::new(self.dtype, len, row_len)?;
        Ok(part.score_dtype().map_or(spec, |scores| spec.with_scores(scores)))
    }

    /// What its structures are, if they compete, how many there are, and what each takes.
    fn structures(&self) -> Option<(String, u64, PerStructure)> {
        let columns = self.row_len();
        let rows = self.info.len / columns.max(1);
        Some(match self.settings.structure.as_ref()? {
            Structure::Groups(_) => ("rows or columns with groups".to_owned(), rows.max(columns), GROUPED),
            structure => {
                let count = self.settings.structures(&self.info.shape).unwrap_or(0);
                let each = if self.settings.scores().is_some() { SCORED } else { MADE };
                (format!("{structure} structures"), count, each)
            }
        })
    }

    /// Whether what grows with this tensor's shape, and cannot be decided in parts, fits into so much memory.
    pub(crate) fn check_room(&self, norms: Option<u64>, memory: u64) -> Result<()> {
        let shape = &self.info.shape;
        let (_, columns) = self.at_once(self.row_len(), norms, memory)?;
        let norms = norms.map(|count| ("norms".to_owned(), count.min(columns), NORM));
        let structures = self.structures().map(|(what, count, each)| (what, count, each.deciding));
        let advice = if shape.len() > 2 { ", or say with --row-axes what its rows are" } else { "" };
        for (what, count, bytes) in structures.into_iter().chain(norms) {
            let takes = count.saturating_mul(bytes);
            ensure!(
                takes <= memory / 2,
                "tensor {:?} with the shape {shape:?} has {count} {what}, which take some {} MiB: more than --memory {}MiB \
                 allows, of which half is for them; allow more{advice}",
                self.info.name,
                takes >> 20,
                memory >> 20
            );
        }
        Ok(())
    }
}

/// Whether what stays of all tensors' structures fits too, beside what the largest takes: until the report is written a bit for each of them,
/// and until a contest over many is decided more.
pub(crate) fn check_room_of_all(selected: &[Selected<'_>], memory: u64) -> Result<()> {
    let (mut largest, mut listed, mut of_contests) = (0, 0, BTreeMap::<_, u64>::new());
    for one in selected {
        let Some((what, count, each)) = one.structures() else { continue };
        largest = largest.max(count.saturating_mul(each.deciding));
        listed += count / 8;
        let mut competing = 0;
        if one.is_global() {
            let of_contest = of_contests.entry(one.rule).or_default();
            *of_contest = count.saturating_mul(each.competing).saturating_add(*of_contest);
            competing = *of_contest;
        }
        let takes = largest.saturating_add(listed).saturating_add(competing);
        ensure!(
            takes <= memory / 2,
            "tensor {:?} has {count} {what}, and with those of the tensors before it they take some {} MiB until the end: more than \
             --memory {}MiB allows, of which half is for them; allow more",
            one.info.name,
            takes >> 20,
            memory >> 20
        );
    }
    Ok(())
}

/// Bytes that a structure takes.
#[derive(Clone, Copy, Debug)]
struct PerStructure {
    /// While those of its tensor are decided.
    deciding: u64,
    /// Of a contest over many tensors, until that is decided.
    competing: u64,
}

/// Its bit in some masks. Its score is made again where there is no room for all.
const MADE: PerStructure = PerStructure { deciding: 1, competing: 1 };
/// With a score from a file: that, as it is stored and as an f32.
const SCORED: PerStructure = PerStructure { deciding: 9, competing: 7 };
/// Of each row or column that has a group: its number, and the group's sums.
const GROUPED: PerStructure = PerStructure { deciding: 160, competing: 7 };
/// For each norm, of a file and of the library.
const NORM: u64 = 9;
