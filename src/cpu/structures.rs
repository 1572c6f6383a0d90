//! What a pass tells of rows, columns or heads as wholes.

use super::lanes::LANES;
use super::lanes::columns::Matrix;
use super::windows::add_keys;
use super::{CHUNK, TILE, each_at_a_desk, on_all_cores, ranges, stats};
use crate::grid::Grid;
use crate::key::{Bad, Keys};
use crate::structure::Tally;

/// From so many strips on there are enough for all threads.
const MANY_STRIPS: usize = 32;
/// Of fewer strips, rows that one thread counts at a time.
const ROWS: usize = 1 << 12;

/// Add the entries of a piece, of which the first is entry `start` of the grid, to the tallies of its blocks: one for each row or head, or
/// for each column.
pub(crate) fn tally(keys: &Keys<'_>, grid: &Grid, start: u64, tallies: &mut [Tally]) -> Result<(), Bad> {
    stats::check_finite(keys)?;
    if grid.block_columns == grid.columns {
        runs(keys, grid, start, tallies)
    } else {
        columns(keys, grid, start, tallies)
    }
    Ok(())
}

/// Runs of neighbours.
fn runs(keys: &Keys<'_>, grid: &Grid, start: u64, tallies: &mut [Tally]) {
    let parts: Vec<_> = ranges(keys.len(), CHUNK).collect();
    let found = on_all_cores(parts.len(), |i| {
        let mut found: Vec<(usize, Tally)> = Vec::new();
        let mut at = parts[i].start;
        while at < parts[i].end {
            let entry = start + at as u64;
            let end = at as u64 + (grid.band_len() - entry % grid.band_len());
            let end = usize::try_from(end).unwrap_or(usize::MAX).min(parts[i].end);
            let mut tally = Tally::default();
            for part in ranges(end - at, TILE) {
                add_keys(keys, at + part.start..at + part.end, &mut tally.moments, &mut tally.most);
            }
            found.push(((entry / grid.band_len()) as usize, tally));
            at = end;
        }
        found
    });
    found.into_iter().flatten().for_each(|(run, tally)| tallies[run].merge(&tally));
}

/// Columns side by side: a strip of them for a thread. Of few strips so many rows that they are for all threads.
fn columns(keys: &Keys<'_>, grid: &Grid, start: u64, tallies: &mut [Tally]) {
    let columns = grid.columns as usize;
    // Where column 0 would begin in the row that the piece begins in.
    let before = (start % grid.columns) as usize;
    let matrix = Matrix { keys, columns, before };
    let merge = |tallies: &mut [Tally], found: Vec<Tally>| {
        tallies.iter_mut().zip(found).for_each(|(tally, more)| tally.merge(&more));
    };
    let strips: Vec<_> = ranges(columns, LANES).collect();
    if strips.len() >= MANY_STRIPS {
        // A tally takes more than a hundred bytes: no more of them at once than there are threads.
        let tallies = strips.into_iter().zip(tallies.chunks_mut(LANES)).collect();
        each_at_a_desk(tallies, || (), |(), _, (strip, tallies)| merge(tallies, matrix.tally(0..matrix.rows(), strip)));
        return;
    }
    let parts: Vec<_> =
        ranges(matrix.rows(), ROWS).flat_map(|rows| strips.iter().map(move |strip| (rows.clone(), strip))).collect();
    let found = on_all_cores(parts.len(), |i| matrix.tally(parts[i].0.clone(), parts[i].1.clone()));
    for ((_, strip), found) in parts.iter().zip(found) {
        merge(&mut tallies[strip.start..strip.end], found);
    }
}
