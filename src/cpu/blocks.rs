//! Contests that are no runs of neighbours: their keys are laid end to end for [`rows`](super::rows), and what was decided is
//! carried out where the weights lie.

use super::apply::{KEPT, Piece, carry_out};
use super::{CHUNK, TILE, each_on_all_cores, ranges, simd, zeroed};
use crate::decision::Group;
use crate::grid::Grid;
use crate::key::Keys;
use crate::mask::Mask;
use crate::structure::Members;

/// A cache line of 16-bit weights: fewer columns at a time would read each line of the input again.
const LEAST_COLUMNS: usize = 32;
/// Rows of columns that are turned at once: what a column has of them fills a cache line, which else would be fetched once for every row.
const TURNED: usize = 16;

/// The keys of a grid, block by block, in the order of its classes. The first entry is `first` of `keys`, and rows are `stride`
/// entries apart.
pub(crate) fn arrange(keys: &Keys<'_>, grid: &Grid, first: usize, stride: usize) -> Vec<u32> {
    let [rows, columns, block_rows, block_columns] =
        [grid.rows, grid.columns, grid.block_rows, grid.block_columns].map(|n| n as usize);
    let edge = columns % block_columns;
    let mut staged = zeroed(rows * columns);
    let full = rows - rows % block_rows;
    let (mut inside, rest) = staged.split_at_mut(full * (columns - edge));
    let (mut right, rest) = rest.split_at_mut(full * edge);
    let (mut lower, mut corner) = rest.split_at_mut((rows - full) * (columns - edge));
    let mut patches = Vec::new();
    for top in (0..rows).step_by(block_rows) {
        let height = block_rows.min(rows - top);
        let (wide, narrow) = if height == block_rows { (&mut inside, &mut right) } else { (&mut lower, &mut corner) };
        let wide = wide.split_off_mut(..height * (columns - edge)).unwrap_or_default();
        let narrow = narrow.split_off_mut(..height * edge).unwrap_or_default();
        let blocks = (CHUNK / (height * block_columns)).max(LEAST_COLUMNS.div_ceil(block_columns));
        for (i, out) in wide.chunks_mut(blocks * height * block_columns).enumerate() {
            let at = first + top * stride + i * blocks * block_columns;
            patches.push(Patch { at, height, block_columns, out });
        }
        if edge > 0 {
            patches.push(Patch { at: first + top * stride + columns - edge, height, block_columns: edge, out: narrow });
        }
    }
    each_on_all_cores(patches, |_, patch| patch.fill(keys, stride));
    staged
}

/// Neighbouring blocks of one row of blocks, from entry `at` of the keys on.
struct Patch<'a> {
    at: usize,
    height: usize,
    block_columns: usize,
    out: &'a mut [u32],
}

impl Patch<'_> {
    fn fill(self, keys: &Keys<'_>, stride: usize) {
        if self.block_columns == 1 {
            return self.turn(keys, stride);
        }
        let Self { at, height, block_columns, out } = self;
        let mut line = vec![0; out.len() / height];
        for row in 0..height {
            simd::with(
                #[inline(always)]
                || keys.fill(at + row * stride, &mut line),
            );
            // A loop and no copy of slices: most blocks are a few entries wide.
            for (block, columns) in line.chunks(block_columns).enumerate() {
                let out = &mut out[(block * height + row) * block_columns..][..block_columns];
                for (out, &key) in out.iter_mut().zip(columns) {
                    *out = key;
                }
            }
        }
    }
}

impl Patch<'_> {
    /// Columns, of which each is a block.
    fn turn(self, keys: &Keys<'_>, stride: usize) {
        let Self { at, height, out, .. } = self;
        let width = out.len() / height;
        let mut rows = vec![0; TURNED * width];
        for turned in ranges(height, TURNED) {
            simd::with(
                #[inline(always)]
                || {
                    for (row, line) in turned.clone().zip(rows.chunks_exact_mut(width)) {
                        keys.fill(at + row * stride, line);
                    }
                },
            );
            for (column, out) in out.chunks_exact_mut(height).enumerate() {
                for (out, row) in out[turned.clone()].iter_mut().zip(rows.chunks_exact(width)) {
                    *out = row[column];
                }
            }
        }
    }
}

/// What a contest's outcome says about its entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    threshold: u32,
    cut: u64,
}

impl From<&Group> for Fate {
    fn from(group: &Group) -> Self {
        Self { threshold: group.threshold.to_bits(), cut: group.cut }
    }
}

impl Fate {
    /// The least kept key of every entry of a run that begins at entry `at` of the contest.
    #[inline(always)]
    fn least(self, at: u64, out: &mut [u32]) {
        let before = at_most(self.cut.saturating_sub(at), out);
        let (before, after) = out.split_at_mut(before);
        before.fill(self.threshold);
        after.fill(self.threshold + 1);
    }
}

/// So many entries, or all that there are. A row may have more than a `usize` counts.
#[inline(always)]
fn at_most(entries: u64, out: &[u32]) -> usize {
    usize::try_from(entries).unwrap_or(usize::MAX).min(out.len())
}

/// Who decides about an entry.
pub(crate) enum Fates<'a> {
    /// The blocks of a grid.
    Blocks(&'a Grid, &'a [Fate]),
    /// Segments that end at these entries.
    Segments(&'a [u64], &'a [Fate]),
    /// Structures, of which these are kept: there may be too many for a fate of each.
    Structures(&'a Members<'a>, &'a Mask),
}

impl Fates<'_> {
    /// The least kept key of the entries from `at` on.
    #[inline(always)]
    fn least(&self, mut at: u64, mut out: &mut [u32]) {
        while !out.is_empty() {
            let len = match self {
                Self::Blocks(grid, fates) => {
                    let (row, column) = (at / grid.columns, at % grid.columns);
                    let len = at_most(grid.columns - column, out);
                    let (band, row) = (row / grid.block_rows, row % grid.block_rows);
                    let fates = &fates[(band * grid.stripes()) as usize..][..grid.stripes() as usize];
                    row_of_blocks(fates, grid, row, column, &mut out[..len]);
                    len
                }
                Self::Segments(ends, fates) => {
                    let segment = ends.partition_point(|&end| end <= at);
                    let start = segment.checked_sub(1).map_or(0, |before| ends[before]);
                    let len = at_most(ends[segment] - at, out);
                    fates[segment].least(at - start, &mut out[..len]);
                    len
                }
                Self::Structures(members, kept) if members.are_runs() => {
                    let run = members.grid.band_len();
                    let len = at_most(run - at % run, out);
                    out[..len].fill(least_of(members, kept, at / run));
                    len
                }
                Self::Structures(members, kept) => {
                    let column = at % members.grid.columns;
                    let len = at_most(members.grid.columns - column, out);
                    out[..len]
                        .iter_mut()
                        .zip(column..)
                        .for_each(|(out, column)| *out = least_of(members, kept, column));
                    len
                }
            };
            out = &mut out[len..];
            at += len as u64;
        }
    }
}

/// The least kept key of a member's entries: any, or none, not even what is no number, for nobody may have looked.
#[inline(always)]
fn least_of(members: &Members<'_>, kept: &Mask, member: u64) -> u32 {
    if kept.get(members.structure(member as usize) as u64) { 0 } else { KEPT }
}

/// Row `row` of some neighbouring blocks, from `column` on.
#[inline(always)]
fn row_of_blocks(fates: &[Fate], grid: &Grid, row: u64, column: u64, mut out: &mut [u32]) {
    if grid.block_columns == 1 {
        for (out, fate) in out.iter_mut().zip(&fates[column as usize..]) {
            *out = fate.threshold + u32::from(row >= fate.cut);
        }
        return;
    }
    let mut stripe = column / grid.block_columns;
    let mut inside = column % grid.block_columns;
    while !out.is_empty() {
        let width = grid.block_columns.min(grid.columns - stripe * grid.block_columns);
        let len = at_most(width - inside, out);
        let (now, rest) = out.split_at_mut(len);
        fates[stripe as usize].least(row * width + inside, now);
        (out, stripe, inside) = (rest, stripe + 1, 0);
    }
}

/// Carry out on a piece that begins at entry `start` of what the fates are about.
pub(crate) fn carry_out_fates(piece: Piece<'_>, fates: &Fates<'_>, start: u64) {
    each_on_all_cores(piece.into_chunks(CHUNK), |i, mut piece| {
        let (mut tile, mut least) = ([0; TILE], [0; TILE]);
        for part in ranges(piece.keys().len(), TILE) {
            let (tile, least) = (&mut tile[..part.len()], &mut least[..part.len()]);
            fates.least(start + (i * CHUNK + part.start) as u64, least);
            simd::with(
                #[inline(always)]
                || {
                    piece.keys().fill(part.start, tile);
                    for (key, &least) in tile.iter_mut().zip(least.iter()) {
                        *key = if *key >= least { *key | KEPT } else { 0 };
                    }
                    carry_out(tile, &mut piece, part.clone());
                },
            );
        }
    });
}
