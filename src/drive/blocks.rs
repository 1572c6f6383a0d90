//! Blocks and columns: contests whose entries are no neighbours. What fits a piece is brought into the shape of rows.

use super::contest::Contest;
use super::{Drive, Judge, Piece, append, cut, is_short};
use crate::cpu::{self, Fate, Fates};
use crate::decision::Group;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::grid::Grid;
use crate::key::Keys;
use crate::narrow;
use crate::rule::Score;
use crate::source::Bytes;

/// Bytes between two lines that are loaded in less time than another load takes.
const GAP_BYTES: u64 = 8 << 10;

impl Drive<'_> {
    /// Every block of a tensor whose blocks are no runs.
    pub(super) fn blocks(&mut self, tensor: usize, grid: &Grid, groups: &mut Vec<Group>) -> Result<(), Error> {
        let piece_len = self.keys_len(tensor);
        let bands_at_once = piece_len / grid.band_len();
        let all = 0..grid.bands();
        if bands_at_once == 0 {
            return all.into_iter().try_for_each(|band| self.wide_band(tensor, grid, band, groups));
        }
        for first in all.step_by(bands_at_once as usize) {
            let bands = first..(first + bands_at_once).min(grid.bands());
            let part = grid.part(&bands, &(0..grid.stripes()));
            let start = first * grid.band_len();
            let piece = Piece { tensor, range: start..start + part.rows * part.columns };
            let decided = self.with_piece(&piece, |judge, work| {
                if matches!(judge.engine, super::Engine::Cpu) && cpu::takes(&part, work.mask.is_some()) {
                    return cpu::blocks(work, &part, judge.rule).map_err(|bad| bad.error(tensor, start));
                }
                let decided = judge.areas(&part, &work.keys());
                let fates: Vec<Fate> = decided.iter().flatten().map(Fate::from).collect();
                if decided.is_ok() {
                    cpu::carry_out_fates(work, &Fates::Blocks(&part, &fates), 0);
                }
                decided
            });
            append(groups, self.or_first_bad(tensor, decided)?);
        }
        Ok(())
    }

    /// Entries of the largest piece of which all are laid end to end: as keys, which take four bytes each, they must fit a
    /// device's binding too.
    fn keys_len(&self, tensor: usize) -> u64 {
        self.piece_len(tensor).min((self.judge.engine.piece_bytes() / size_of::<u32>()) as u64).max(1)
    }

    /// A row of blocks that is too much for one piece: some columns of it at a time are decided, and all of that is carried out
    /// at the end.
    fn wide_band(&mut self, tensor: usize, grid: &Grid, band: u64, groups: &mut Vec<Group>) -> Result<(), Error> {
        let part = grid.part(&(band..band + 1), &(0..grid.stripes()));
        let top = band * grid.band_len();
        let piece_len = self.keys_len(tensor);
        let fit = piece_len / (part.rows * grid.block_columns);
        let at_once =
            if fit > 0 { fit } else { self.judge.engine.side_by_side().min(piece_len / grid.block_columns).max(1) };
        let mut decided = Vec::new();
        for first in (0..grid.stripes()).step_by(at_once as usize) {
            let strip = part.part(&(0..1), &(first..(first + at_once).min(grid.stripes())));
            let corner = top + first * grid.block_columns;
            let groups =
                if fit > 0 { self.strip(tensor, &strip, corner) } else { self.long_blocks(tensor, &strip, corner) };
            decided.extend(self.or_first_bad(tensor, groups)?);
        }
        let fates: Vec<Fate> = decided.iter().map(Fate::from).collect();
        groups.extend(decided);
        let whole = Piece { tensor, range: top..top + part.rows * part.columns };
        for piece in cut(&whole, self.piece_len(tensor)) {
            let start = piece.range.start - top;
            self.with_piece(&piece, |_, work| {
                cpu::carry_out_fates(work, &Fates::Blocks(&part, &fates), start);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Decide blocks side by side that fit a piece together. Their first entry is number `corner` of the tensor.
    fn strip(&mut self, tensor: usize, strip: &Grid, corner: u64) -> Result<Vec<Group>, Error> {
        let mut keys: Vec<u32> = cpu::zeroed((strip.rows * strip.columns) as usize);
        let mut lines = keys.chunks_mut(strip.columns as usize);
        self.each_line(tensor, corner, strip.rows, strip.columns, |line| {
            lines.next().into_iter().for_each(|out| out.copy_from_slice(line));
        })?;
        self.judge.areas(strip, &Keys::new(bytemuck::cast_slice(&keys), Dtype::F32, None))
    }

    /// Decide blocks side by side each of which is more than a piece: contests that go on at once, whose pieces are some rows of all of them
    /// or, where a row of one block is more than a piece, some entries of that.
    fn long_blocks(&mut self, tensor: usize, strip: &Grid, corner: u64) -> Result<Vec<Group>, Error> {
        let (columns, piece_len) = (self.input.tensors()[tensor].row_len, self.keys_len(tensor));
        let rows_at_once = (piece_len / strip.columns).max(1);
        let columns_at_once = strip.columns.min(piece_len);
        let rows = (0..strip.rows).step_by(rows_at_once as usize);
        let pieces = rows.flat_map(|top| {
            let height = rows_at_once.min(strip.rows - top);
            let lefts = (0..strip.columns).step_by(columns_at_once as usize);
            lefts.map(move |left| (top * columns + left, height, columns_at_once.min(strip.columns - left)))
        });
        let pieces: Vec<_> = pieces.collect();
        // What a block has of a piece. One that is cut lengthwise is alone.
        let width_of = |stripe: u64, width: u64| (width - stripe * strip.block_columns).min(strip.block_columns);
        let rule = self.judge.rule.with_score(Score::Magnitude);
        let judge = Judge { rule: &rule, ..self.judge };
        let digits = narrow::digits_of(Dtype::F32, Score::Magnitude);
        let contest = |stripe: u64| {
            let lens = pieces.iter().map(|&(_, height, width)| (height * width_of(stripe, width), Dtype::F32));
            judge.contest(digits, lens.collect(), strip.stripes() as usize)
        };
        let whole = Piece { tensor, range: 0..self.input.tensors()[tensor].len };
        let mut narrow = |contests: &mut [Contest<'_>]| {
            self.side_by_side(tensor, strip, corner, &pieces, |i, stripe, keys| {
                contests[stripe].stats(i, keys, &whole)
            })?;
            contests.iter_mut().try_for_each(Contest::narrow)?;
            while contests.iter().any(|contest| !contest.is_narrowed()) {
                self.side_by_side(tensor, strip, corner, &pieces, |i, stripe, keys| {
                    if contests[stripe].is_narrowed() { Ok(()) } else { contests[stripe].histogram(i, keys) }
                })?;
                contests.iter_mut().filter(|contest| !contest.is_narrowed()).try_for_each(Contest::narrow)?;
            }
            Ok(())
        };
        let mut contests = loop {
            let mut contests = (0..strip.stripes()).map(contest).collect::<Result<Vec<_>, _>>()?;
            match narrow(&mut contests) {
                Ok(()) => break contests,
                // As for a contest of neighbours. On a device there is one at a time.
                Err(error) if is_short(&error) && contests.iter_mut().all(Contest::gives_way) => {}
                Err(error) => return Err(error),
            }
        };
        // Nothing is carried out yet; but where ties end is found out by the last pass.
        self.side_by_side(tensor, strip, corner, &pieces, |i, stripe, keys| {
            if contests[stripe].passes_by(keys.len() as u64) {
                return Ok(());
            }
            let bytes = Bytes::Shared(keys.parts().0);
            contests[stripe].apply(i, cpu::Piece { bytes, dtype: Dtype::F32, norms: None, scores: None, mask: None })
        })?;
        contests.into_iter().map(Contest::settle).collect()
    }

    /// Show what each block has of each piece, its rows end to end. A piece is an offset from the corner, so many rows and so many columns.
    fn side_by_side(
        &mut self,
        tensor: usize,
        strip: &Grid,
        corner: u64,
        pieces: &[(u64, u64, u64)],
        mut show: impl FnMut(usize, usize, &Keys<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut blocks: Vec<Vec<u32>> = vec![Vec::new(); strip.stripes() as usize];
        for (i, &(offset, height, width)) in pieces.iter().enumerate() {
            self.each_line(tensor, corner + offset, height, width, |line| {
                let parts = line.chunks(strip.block_columns as usize);
                blocks.iter_mut().zip(parts).for_each(|(block, part)| block.extend_from_slice(part));
            })?;
            for (stripe, block) in blocks.iter_mut().enumerate() {
                show(i, stripe, &Keys::new(bytemuck::cast_slice(block), Dtype::F32, None))?;
                block.clear();
            }
        }
        Ok(())
    }

    /// The keys of some columns of some rows, row by row. The first entry is number `corner` of the tensor; a row of them fits a piece.
    fn each_line(
        &mut self,
        tensor: usize,
        corner: u64,
        rows: u64,
        width: u64,
        mut look: impl FnMut(&[u32]),
    ) -> Result<(), Error> {
        let spec = self.input.tensors()[tensor];
        let mut line = vec![0; width as usize];
        // Short gaps are loaded too: so are many rows in one go.
        let gap = (spec.row_len - width) * spec.dtype.size() as u64;
        let rows_at_once = if gap < GAP_BYTES { (self.piece_len(tensor) / spec.row_len).max(1) } else { 1 };
        for top in (0..rows).step_by(rows_at_once as usize) {
            let start = corner + top * spec.row_len;
            let height = rows_at_once.min(rows - top);
            let lines = Piece { tensor, range: start..start + (height - 1) * spec.row_len + width };
            self.with_keys(&lines, spec, |keys| {
                for at in (0..keys.len()).step_by(spec.row_len as usize) {
                    keys.fill(at, &mut line);
                    look(&line);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Judge<'_> {
    /// Decide the blocks of a grid, a cache's fill of them at a time. Blocks are numbered as in the grid.
    fn areas(&self, grid: &Grid, keys: &Keys<'_>) -> Result<Vec<Group>, Error> {
        let most = self.engine.area_len();
        let stripe_len = grid.block_rows * grid.block_columns;
        let bands_at_once = (most / grid.band_len()).max(1);
        let stripes_at_once = if grid.band_len() <= most { grid.stripes() } else { (most / stripe_len).max(1) };
        let mut groups = Vec::with_capacity((grid.bands() * grid.stripes()) as usize);
        for band in (0..grid.bands()).step_by(bands_at_once as usize) {
            let bands = band..(band + bands_at_once).min(grid.bands());
            for stripe in (0..grid.stripes()).step_by(stripes_at_once as usize) {
                let stripes = stripe..(stripe + stripes_at_once).min(grid.stripes());
                let area = grid.part(&bands, &stripes);
                let first = band * grid.band_len() + stripe * grid.block_columns;
                let staged = cpu::arrange(keys, &area, first as usize, grid.columns as usize);
                groups.extend(self.staged(&staged, area.classes(), area.by_class(), 1)?);
            }
        }
        Ok(groups)
    }
}
