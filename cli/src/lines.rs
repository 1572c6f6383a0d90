//! Neighbouring columns of a tensor: what is end to end while it is worked on, and line by line where it lies.

use std::ops::Range;

/// Units, entries or bytes, that are neighbours while they are worked on. Where they lie they are lines of one width, equally far from each
/// other, of which the first may begin and the last may end in its middle; or one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Where the first line begins.
    start: u64,
    /// So many units of it come before the first of these.
    skip: u64,
    pub(crate) len: u64,
    width: u64,
    /// From where one line begins to where the next one does.
    stride: u64,
}

impl Lines {
    /// Neighbours where they lie too.
    pub(crate) fn run(range: Range<u64>) -> Self {
        let len = range.end - range.start;
        Self { start: range.start, skip: 0, len, width: len, stride: len }
    }

    /// Of rows of `stride` units, `rows` neighbours and of each so many columns, the first of them at `start`.
    pub(crate) fn columns(start: u64, rows: u64, width: u64, stride: u64) -> Self {
        Self { start, skip: 0, len: rows * width, width, stride }.part(0..rows * width)
    }

    /// Whether there is something between the lines.
    pub(crate) fn are_apart(self) -> bool {
        self.width != self.stride
    }

    /// Some of them. Equal ones are equal, whatever they were a part of; those of one line are a run.
    pub(crate) fn part(self, range: Range<u64>) -> Self {
        let (first, len) = (self.skip + range.start, range.end - range.start);
        let width = self.width.max(1);
        let (start, skip) = (self.start + first / width * self.stride, first % width);
        if skip + len <= width || !self.are_apart() {
            return Self::run(start + skip..start + skip + len);
        }
        Self { start, skip, len, ..self }
    }

    /// Entries as bytes: `size` each, the first entry of all at `offset`.
    pub(crate) fn bytes(self, size: usize, offset: u64) -> Self {
        let size = size as u64;
        let [skip, len, width, stride] = [self.skip, self.len, self.width, self.stride].map(|entries| entries * size);
        Self { start: offset + self.start * size, skip, len, width, stride }
    }

    /// Where one of them lies.
    pub(crate) fn at(self, unit: u64) -> u64 {
        self.part(unit..unit + 1).start
    }

    /// Where they lie: as few runs as there are, in order.
    pub(crate) fn runs(self) -> impl Iterator<Item = Range<u64>> {
        let (end, width) = (self.skip + self.len, self.width.max(1));
        (0..end.div_ceil(width)).map(move |line| {
            let (from, to) = ((line * width).max(self.skip), ((line + 1) * width).min(end));
            let begin = self.start + line * self.stride + (from - line * width);
            begin..begin + (to - from)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_any_columns_is_where_its_entries_are() {
        for (rows, width, stride) in [(1, 3, 7), (4, 3, 7), (3, 1, 5), (3, 5, 5), (2, 6, 7)] {
            let lines = Lines::columns(100, rows, width, stride);
            let all: Vec<u64> = (0..rows).flat_map(|row| (0..width).map(move |at| 100 + row * stride + at)).collect();
            for from in 0..rows * width {
                assert_eq!(lines.at(from), all[from as usize]);
                for to in from + 1..=rows * width {
                    let part = lines.part(from..to);
                    let wanted = &all[from as usize..to as usize];
                    assert_eq!(part.runs().flatten().collect::<Vec<_>>(), wanted, "{from}..{to} of {lines:?}");
                    let gaps = wanted.windows(2).filter(|two| two[0] + 1 != two[1]).count();
                    assert_eq!((part.runs().count(), part.are_apart()), (gaps + 1, gaps > 0), "{part:?}");
                    let bytes = part.bytes(2, 9);
                    let entries: Vec<u64> = bytes.runs().flat_map(|run| run.step_by(2)).collect();
                    assert_eq!(entries, wanted.iter().map(|at| 9 + 2 * at).collect::<Vec<_>>());
                    for inner in from..to {
                        assert_eq!(part.part(inner - from..to - from), lines.part(inner..to), "a part of a part");
                    }
                }
            }
        }
    }
}
