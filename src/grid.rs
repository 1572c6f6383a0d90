//! Contests that are blocks of a matrix: rows, columns, heads, chunks of rows and blocks proper are all that.

use crate::error::Error;
use crate::rule::Granularity;
use crate::tensor::TensorSpec;

/// A matrix cut into blocks of equal size, but for those at its right and lower edge. Blocks are numbered row by row.
///
/// A part of it that begins at a block's corner, and ends at one or at the matrix's edge, is a grid too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    pub(crate) block_rows: u64,
    pub(crate) block_columns: u64,
}

/// So many blocks of so many entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) count: usize,
    pub(crate) len: usize,
}

impl Grid {
    /// The contests of a tensor that is no contest as a whole.
    ///
    /// # Errors
    /// `InvalidInput` when the number of heads does not divide that of the rows.
    pub(crate) fn of(spec: TensorSpec, granularity: Granularity) -> Result<Self, Error> {
        let (rows, columns) = (spec.rows(), spec.row_len);
        let (block_rows, block_columns) = match granularity {
            Granularity::Global | Granularity::Tensor | Granularity::Segments => (rows, columns),
            Granularity::Row => (1, columns),
            Granularity::Column => (rows, 1),
            Granularity::Block { rows: block_rows, columns: block_columns } => (block_rows, block_columns),
            Granularity::Heads(heads) if !rows.is_multiple_of(heads) => {
                return Err(Error::invalid(format!("{heads} heads do not divide {rows} rows")));
            }
            Granularity::Heads(heads) => (rows / heads, columns),
            Granularity::Chunks(len) => (1, len),
        };
        Ok(Self { rows, columns, block_rows: block_rows.min(rows), block_columns: block_columns.min(columns) })
    }

    /// The length of the contests where they are equal runs of neighbouring entries.
    pub(crate) fn run(&self) -> Option<u64> {
        if self.block_columns == self.columns && self.rows.is_multiple_of(self.block_rows) {
            Some(self.block_rows * self.columns)
        } else if self.block_rows == 1 && self.columns.is_multiple_of(self.block_columns) {
            Some(self.block_columns)
        } else {
            None
        }
    }

    /// Rows of blocks.
    pub(crate) fn bands(&self) -> u64 {
        self.rows.div_ceil(self.block_rows)
    }

    /// Columns of blocks.
    pub(crate) fn stripes(&self) -> u64 {
        self.columns.div_ceil(self.block_columns)
    }

    /// Blocks.
    pub(crate) fn contests(&self) -> usize {
        (self.bands() * self.stripes()) as usize
    }

    /// Entries of a block, by its number.
    pub(crate) fn len_of(&self, block: usize) -> u64 {
        let (band, stripe) = (block as u64 / self.stripes(), block as u64 % self.stripes());
        let part = self.part(&(band..band + 1), &(stripe..stripe + 1));
        part.rows * part.columns
    }

    /// Entries of a row of blocks.
    pub(crate) fn band_len(&self) -> u64 {
        self.block_rows * self.columns
    }

    /// The grid of some rows of blocks, and of some columns of those.
    pub(crate) fn part(&self, bands: &std::ops::Range<u64>, stripes: &std::ops::Range<u64>) -> Self {
        let rows = (bands.end * self.block_rows).min(self.rows) - bands.start * self.block_rows;
        let columns = (stripes.end * self.block_columns).min(self.columns) - stripes.start * self.block_columns;
        Self { rows, columns, ..*self }
    }

    /// Blocks of equal size: those inside, at the right edge, at the lower edge, and in the corner.
    pub(crate) fn classes(&self) -> impl Iterator<Item = Class> {
        let [high, low] = [self.rows / self.block_rows, 1].map(|n| n as usize);
        let [wide, one] = [self.columns / self.block_columns, 1].map(|n| n as usize);
        let [height, rest_rows] = [self.block_rows, self.rows % self.block_rows].map(|n| n as usize);
        let [width, rest_columns] = [self.block_columns, self.columns % self.block_columns].map(|n| n as usize);
        [
            Class { count: high * wide, len: height * width },
            Class { count: high * one, len: height * rest_columns },
            Class { count: low * wide, len: rest_rows * width },
            Class { count: low * one, len: rest_rows * rest_columns },
        ]
        .into_iter()
        .filter(|class| class.count * class.len > 0)
    }

    /// The number of every block, in the order of the classes.
    pub(crate) fn by_class(&self) -> impl Iterator<Item = usize> {
        let (high, wide) = (self.rows / self.block_rows, self.columns / self.block_columns);
        let (bands, stripes) = (self.bands(), self.stripes());
        let blocks = move |bands: std::ops::Range<u64>, columns: std::ops::Range<u64>| {
            bands.flat_map(move |band| columns.clone().map(move |stripe| (band * stripes + stripe) as usize))
        };
        blocks(0..high, 0..wide)
            .chain(blocks(0..high, wide..stripes))
            .chain(blocks(high..bands, 0..wide))
            .chain(blocks(high..bands, wide..stripes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_hold_every_entry_and_every_block_once() {
        for rows in 1..7 {
            for columns in 1..7 {
                for block_rows in 1..=rows {
                    for block_columns in 1..=columns {
                        let grid = Grid { rows, columns, block_rows, block_columns };
                        let entries: usize = grid.classes().map(|class| class.count * class.len).sum();
                        assert_eq!(entries as u64, rows * columns, "{grid:?}");
                        let mut blocks: Vec<_> = grid.by_class().collect();
                        assert_eq!(blocks.len(), grid.classes().map(|class| class.count).sum::<usize>(), "{grid:?}");
                        blocks.sort_unstable();
                        assert!(blocks.iter().copied().eq(0..(grid.bands() * grid.stripes()) as usize), "{grid:?}");
                    }
                }
            }
        }
    }
}
