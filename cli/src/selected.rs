//! A tensor that is pruned, and how: what follows from its shape and its settings before any of it is read.

use crate::args::piece_bytes;
use crate::lines::Lines;
use crate::norms::Norms;
use crate::safetensors::TensorInfo;
use crate::settings::{Score, Settings, Structure};
use crate::weights::Part;
use anyhow::{Result, ensure};
use emprune::{Dtype, Granularity, Group, TensorSpec};
use std::collections::BTreeMap;
use std::ops::Range;

/// Neighbouring rows, and the contests in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band {
    pub(crate) rows: u64,
    /// Of one contest.
    columns: u64,
    /// So many are side by side.
    pub(crate) contests: u64,
}

/// How many rows and columns of a tensor are decided at once: all of them, or as many as there is room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) rows: u64,
    pub(crate) row_len: u64,
    pub(crate) rows_at_once: u64,
    pub(crate) columns_at_once: u64,
}

/// Some rows and columns that are decided at once.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    top: u64,
    pub(crate) columns: Range<u64>,
    pub(crate) entries: Lines,
}

impl Window {
    pub(crate) fn width(&self) -> u64 {
        self.columns.end - self.columns.start
    }
}

impl Windows {
    /// Whether their entries are read in the order in which they lie.
    pub(crate) fn are_in_order(self) -> bool {
        self.columns_at_once == self.row_len || self.rows_at_once == 1
    }

    /// All of them: row by row, and in each from the left to the right.
    pub(crate) fn all(self) -> impl Iterator<Item = Window> {
        self.starting_at(0, 0)
    }

    /// Those that come after one.
    pub(crate) fn after(self, Window { top, columns, .. }: &Window) -> impl Iterator<Item = Window> {
        if columns.end >= self.row_len {
            self.starting_at(top + self.rows_at_once, 0)
        } else {
            self.starting_at(*top, columns.end)
        }
    }

    /// Whether there is none to the right of it.
    pub(crate) fn ends_rows(self, window: &Window) -> bool {
        window.columns.end >= self.row_len
    }

    fn starting_at(self, top: u64, left: u64) -> impl Iterator<Item = Window> {
        let Self { rows, row_len, rows_at_once, columns_at_once } = self;
        let mut next = (top, left);
        std::iter::from_fn(move || {
            let (top, left) = next;
            let height = rows.checked_sub(top).filter(|&rest| rest > 0)?.min(rows_at_once);
            let columns = left..row_len.min(left + columns_at_once);
            next = if columns.end < row_len { (top, columns.end) } else { (top + height, 0) };
            let entries = Lines::columns(top * row_len + left, height, columns.end - left, row_len);
            Some(Window { top, columns, entries })
        })
    }
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

    /// What of it is decided at once, in rows of this length.
    pub(crate) fn windows(&self, row_len: u64, norms: Option<u64>, memory: u64) -> Result<Windows> {
        let (rows_at_once, columns_at_once) = self.at_once(row_len, norms, memory)?;
        Ok(Windows { rows: self.info.len / row_len.max(1), row_len, rows_at_once, columns_at_once })
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
        // As many times as it must be, and each time as many.
        let contests = band.contests.div_ceil(band.contests.div_ceil(contests));
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
/// Of each row or column that has a group: its number, as it is stored and as a `u32`, and then the group's score and some bits.
const GROUPED: PerStructure = PerStructure { deciding: 13, competing: 10 };
/// For each norm, of a file and of the library.
const NORM: u64 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use emprune::Granularity;

    /// Of a tensor of this shape, where its contests are these and `--memory` is so many MiB.
    fn windows(shape: [u64; 2], granularity: Granularity, norms: Option<u64>, memory: u64) -> Windows {
        #[derive(clap::Parser)]
        struct Asked {
            #[command(flatten)]
            settings: Settings,
        }
        let mut settings = <Asked as clap::Parser>::parse_from(["emprune"]).settings;
        settings.granularity = Some(granularity);
        let len = shape[0] * shape[1];
        let (name, dtype, shape) = ("w".to_owned(), "BF16".to_owned(), shape.to_vec());
        let info = TensorInfo { name, dtype, shape, len, bytes: 0..2 * len, shard: 0 };
        let one = Selected { info: &info, dtype: Dtype::Bf16, rule: None, settings: &settings };
        one.windows(one.row_len(), norms, memory << 20).unwrap()
    }

    #[test]
    fn what_is_decided_at_once_has_room() {
        let block = Granularity::Block { rows: 2, columns: 3 };
        for (shape, granularity, norms, memory, in_order, several) in [
            ([3, 300_001], Granularity::Column, None, 64, false, true),
            ([3, 300_001], Granularity::Column, None, 512, true, false),
            ([1, 300_001], Granularity::Column, None, 64, true, true),
            ([5, 900_001], block, None, 64, false, true),
            ([300_001, 3], Granularity::Row, None, 64, true, true),
            ([7, 4_000_000], block, Some(4_000_000), 64, false, true),
            ([7, 4_000_000], Granularity::Row, Some(4_000_000), 128, true, false),
            ([7, 4_000_000], Granularity::Tensor, None, 64, true, false),
            ([0, 5], Granularity::Row, None, 64, true, false),
        ] {
            let windows = windows(shape, granularity, norms, memory);
            let all: Vec<_> = windows.all().collect();
            assert_eq!((windows.are_in_order(), all.len() > 1), (in_order, several), "{windows:?}");
            let most = piece_bytes(memory << 20) as u64 / size_of::<Group>() as u64;
            let mut seen = 0;
            for (at, window) in all.iter().enumerate() {
                let width = window.width();
                let height = window.entries.len / width;
                let contests = match granularity {
                    Granularity::Row => height,
                    Granularity::Column => width,
                    Granularity::Block { rows, columns } => height.div_ceil(rows) * width.div_ceil(columns),
                    _ => 1,
                };
                assert!(contests <= most, "{contests} contests in {window:?}");
                assert!(norms.is_none() || width * NORM <= memory << 19, "{width} norms in {window:?}");
                assert!(
                    !matches!(granularity, Granularity::Block { .. }) || window.columns.start.is_multiple_of(3),
                    "no block is cut: {window:?}"
                );
                assert!(
                    all.iter().all(|other| other.width().abs_diff(width) < 3 * all.len() as u64),
                    "{width} columns in {window:?}"
                );
                seen += window.entries.len;
                let next = windows.after(window).next();
                let next = next.as_ref().map(|window| window.entries);
                assert_eq!(next, all.get(at + 1).map(|window| window.entries));
                assert_eq!(windows.ends_rows(window), next.is_none_or(|next| next.at(0).is_multiple_of(shape[1])));
            }
            assert_eq!(seen, shape[0] * shape[1], "each entry once: {windows:?}");
        }
    }
}
