//! What columns add up to, some side by side: in lanes, a window for each as long as it holds what a few rows have.

use super::kinds::{Brain, Half, Kind, Lane, Single};
use super::sums::{Spans, Sums};
use super::{DEEP, Each, LANES, SHORT, tally};
use crate::cpu::simd;
use crate::dtype::Dtype;
use crate::key::{KEY_END, Keys};
use crate::structure::Tally;
use std::ops::Range;

/// Entries of a matrix that a piece has a part of: it begins with entry `before`.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Matrix<'k, 'a> {
    pub(in crate::cpu) keys: &'k Keys<'a>,
    pub(in crate::cpu) columns: usize,
    pub(in crate::cpu) before: usize,
}

impl Matrix<'_, '_> {
    /// Rows that have an entry in the piece, and those before them.
    pub(in crate::cpu) fn rows(self) -> usize {
        (self.before + self.keys.len()).div_ceil(self.columns)
    }

    /// Of some rows the sums of some columns, [`LANES`] at most.
    pub(in crate::cpu) fn tally(self, rows: Range<usize>, columns: Range<usize>) -> Vec<Tally> {
        let (_, dtype, norms) = self.keys.parts();
        match dtype {
            Dtype::Bf16 | Dtype::F8E4m3 | Dtype::F8E5m2 if norms.is_none() => self.of_kind::<Brain>(rows, columns),
            Dtype::F16 if norms.is_none() => self.of_kind::<Half>(rows, columns),
            _ => self.of_kind::<Single>(rows, columns),
        }
    }

    fn of_kind<K: Kind>(self, rows: Range<usize>, columns: Range<usize>) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); columns.len()];
        let mut lines = [[K::Key::ZERO; LANES]; SHORT];
        for first in rows.clone().step_by(SHORT) {
            let rows = first..rows.end.min(first + SHORT);
            let lines = &mut lines[..rows.len().next_multiple_of(DEEP)];
            simd::with(
                #[inline(always)]
                || {
                    self.fill::<K>(rows, &columns, lines);
                    add::<K>(lines, &mut tallies);
                },
            );
        }
        tallies
    }

    /// A line for each row, with zeros where it lies outside of the piece.
    #[inline(always)]
    fn fill<K: Kind>(self, rows: Range<usize>, columns: &Range<usize>, lines: &mut [Each<K::Key>]) {
        for (i, line) in lines.iter_mut().enumerate() {
            let start = (rows.start + i) * self.columns;
            let first = (start + columns.start).max(self.before);
            let end = (start + columns.end).min(self.before + self.keys.len());
            if i < rows.len() && end == first + LANES {
                K::fill(self.keys, first - self.before, line);
                continue;
            }
            *line = [K::Key::ZERO; LANES];
            if i < rows.len() && first < end {
                let at = first - start - columns.start;
                K::fill(self.keys, first - self.before, &mut line[at..at + end - first]);
            }
        }
    }
}

#[inline(always)]
fn add<K: Kind>(lines: &[Each<K::Key>], tallies: &mut [Tally]) {
    let (deep, _) = lines.as_chunks();
    let spans = Spans::of(deep);
    let sums = Sums::of::<K>(deep, &spans);
    let tops = spans.tops::<K>();
    for (lane, of_column) in tallies.iter_mut().enumerate() {
        // Nothing has places below the lowest one of a sum, but a window may.
        match tops[lane].checked_add_signed(K::PLACE).filter(|_| sums.exact[lane]) {
            Some(at) => {
                of_column.moments.sum.add(sums.sum[lane].into(), at);
                of_column.moments.square.add(sums.square(lane), 2 * at);
            }
            None => of_column.moments.merge(&tally::<K>(lines, lane, KEY_END).moments),
        }
        of_column.most = of_column.most.max(K::widen(spans.largest[lane]));
    }
}
