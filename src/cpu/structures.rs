//! What a pass tells of rows, columns or heads as wholes.

use super::windows::add_keys;
use super::{CHUNK, TILE, on_all_cores, ranges, stats};
use crate::grid::Grid;
use crate::key::{Bad, Keys, exponent, significand};
use crate::structure::Tally;
use crate::sums::UNIT_BITS;

/// Columns that one thread counts at a time: two cache lines of weights.
const COLUMNS: usize = 32;

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

fn columns(keys: &Keys<'_>, grid: &Grid, start: u64, tallies: &mut [Tally]) {
    let columns = grid.columns as usize;
    // Where column 0 would begin in the row that the piece begins in.
    let before = (start % grid.columns) as usize;
    let strips: Vec<_> = ranges(columns, COLUMNS).collect();
    let found = on_all_cores(strips.len(), |i| {
        let strip = &strips[i];
        let mut found = vec![Tally::default(); strip.len()];
        let mut line = [0; COLUMNS];
        for row in (0..before + keys.len()).step_by(columns) {
            let first = (row + strip.start).max(before);
            let end = (row + strip.end).min(before + keys.len());
            if first >= end {
                continue;
            }
            let line = &mut line[..end - first];
            keys.fill(first - before, line);
            for (&key, tally) in line.iter().zip(&mut found[first - row - strip.start..]) {
                let (value, at) = (u128::from(significand(key)) << UNIT_BITS, exponent(key) - 1);
                tally.moments.sum.add(value, at);
                tally.moments.square.add(value * value, 2 * at);
                tally.most = tally.most.max(key);
            }
        }
        found
    });
    tallies.iter_mut().zip(found.into_iter().flatten()).for_each(|(tally, more)| tally.merge(&more));
}
