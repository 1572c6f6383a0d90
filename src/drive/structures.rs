//! Contests of whole rows, columns, heads or groups: their scores are made here, a contest over them decides, and their weights follow.

use super::{Drive, Engine, Judge, Piece, check, cut, drive};
use crate::cpu::{self, Fates};
use crate::decision::Decision;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::grid::Grid;
use crate::mask::Mask;
use crate::rule::{Granularity, Rule, Score};
use crate::source::{Borrowed, Input};
use crate::structure::{self, Members, Norm, Structure, Tally};
use crate::tensor::{Tensor, TensorSpec};

/// Decide about structures. The contests are over structures: one per tensor, or one over all. The masks say which structures are kept,
/// tensor by tensor.
pub(crate) fn decide_structures(
    engine: &Engine,
    input: &mut dyn Input,
    (structure, norm): (Structure<'_>, Norm<'_>),
    rule: &Rule,
) -> Result<(Decision, Vec<Mask>), Error> {
    let specs = input.tensors().to_vec();
    check_structures(specs.len(), structure, norm, rule)?;
    check(input, rule)?;
    let mut asked = Drive::new(Judge { engine, rule }, input);
    let members = all_members(&specs, structure)?;
    // Tensors whose structures are numbered together.
    let shared = matches!(structure, Structure::Groups(_)) && rule.granularity == Granularity::Global;
    let together = if shared { specs.len() } else { 1 };
    let mut scores = Vec::new();
    for first in (0..specs.len()).step_by(together) {
        scores.push(asked.structure_keys(first, &members[first..first + together], norm)?);
    }
    let tensors: Vec<Tensor<'_>> = scores
        .iter()
        .map(|keys| Tensor::from_bytes(bytemuck::cast_slice(keys), Dtype::F32))
        .collect::<Result<_, _>>()?;
    let mut scored = Borrowed::new(&tensors);
    let decision = drive(engine, &mut scored, &rule.with_score(Score::Magnitude))?;
    let masks = (0..specs.len()).map(|tensor| scored.masks[tensor / together].clone()).collect();
    Ok((decision, masks))
}

/// Carry out on the weights of all structures what these masks say, one for each tensor with a bit for each structure.
pub(crate) fn carry_out_structures(
    input: &mut dyn Input,
    structure: Structure<'_>,
    rule: &Rule,
    masks: &[Mask],
) -> Result<(), Error> {
    let specs = input.tensors().to_vec();
    check_lists(specs.len(), structure)?;
    check(input, rule)?;
    if masks.len() != specs.len() {
        return Err(Error::invalid(format!("{} masks of structures for {} tensors", masks.len(), specs.len())));
    }
    let all = all_members(&specs, structure)?;
    for (tensor, (members, mask)) in all.iter().zip(masks).enumerate() {
        // Of groups one tensor may have some, and others the rest.
        let (most, len) = (members.most(), mask.len());
        if len <= most || members.are_own() && len != most + 1 {
            let message = format!("a mask of {len} structures, and they are numbered up to {most}");
            return Err(Error::invalid(message).of_tensor(tensor));
        }
    }
    let mut asked = Drive::new(Judge { engine: &Engine::Cpu, rule }, input);
    for (tensor, (members, mask)) in all.iter().zip(masks).enumerate() {
        for piece in cut(&Piece { tensor, range: 0..specs[tensor].len }, asked.piece_len(tensor)) {
            asked.with_piece(&piece, |_, work| {
                cpu::carry_out_fates(work, &Fates::Structures(members, mask), piece.range.start);
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn all_members<'a>(specs: &[TensorSpec], structure: Structure<'a>) -> Result<Vec<Members<'a>>, Error> {
    let members = specs.iter().enumerate().map(|(i, spec)| structure.members(i, *spec).map_err(|e| e.of_tensor(i)));
    members.collect()
}

/// What cannot be asked about the structures of so many tensors.
fn check_structures(tensors: usize, structure: Structure<'_>, norm: Norm<'_>, rule: &Rule) -> Result<(), Error> {
    let wrong = |message: String| Err(Error::invalid(message));
    match (rule.granularity, structure, norm) {
        (Granularity::Tensor | Granularity::Global, ..) => {}
        (other, ..) => return wrong(format!("structures compete by tensor or global, and the granularity is {other}")),
    }
    check_lists(tensors, structure)?;
    match (structure, norm) {
        (_, Norm::Given(lists)) if lists.len() != tensors => {
            wrong(format!("{} lists of structures' scores for {tensors} tensors", lists.len()))
        }
        (_, Norm::Given(_)) if rule.score != Score::Magnitude => {
            wrong(format!("the structures' scores are given, and those of the weights are {}", rule.score))
        }
        _ => Ok(()),
    }
}

fn check_lists(tensors: usize, structure: Structure<'_>) -> Result<(), Error> {
    match structure {
        Structure::Groups(lists) if lists.len() != tensors => {
            Err(Error::invalid(format!("{} lists of groups for {tensors} tensors", lists.len())))
        }
        Structure::Channels(all) if all.len() != tensors => {
            Err(Error::invalid(format!("numbers of channels for {} tensors, and there are {tensors}", all.len())))
        }
        _ => Ok(()),
    }
}

impl Drive<'_> {
    /// The scores of structures that some tensors, from the `first` on, have or share: the bits of `f32`s.
    fn structure_keys(&mut self, first: usize, members: &[Members<'_>], norm: Norm<'_>) -> Result<Vec<u32>, Error> {
        // What several tensors share is not the fault of one.
        let blame = |e: Error| if members.len() == 1 { e.of_tensor(first) } else { e };
        let count = structure::count(members).map_err(blame)?;
        if let Norm::Given(scores) = norm {
            let mut keys = vec![0; count];
            for (tensor, scores) in scores.iter().enumerate().skip(first).take(members.len()) {
                structure::join_given(scores, &mut keys).map_err(|e| e.of_tensor(tensor))?;
            }
            return Ok(keys);
        }
        // Of a structure that is one row, column or head the key is enough: a tally takes many times as much.
        let (mut keys, mut structures) = (Vec::new(), Vec::new());
        if !members[0].are_structures() {
            structures.resize(count, Tally::default());
        }
        for (tensor, members) in (first..).zip(members) {
            let add = |member: usize, tally: &Tally| {
                if members.are_structures() {
                    keys.push(tally.key(norm, member).map_err(|e| e.of_tensor(tensor))?);
                } else {
                    structures[members.structure(member)].merge(tally);
                }
                Ok(())
            };
            if members.are_runs() {
                self.each_run(tensor, &members.grid, add)?;
            } else {
                let tallied = self.each_column(tensor, &members.grid, add);
                self.or_first_bad(tensor, tallied)?;
            }
        }
        if members[0].are_structures() {
            return Ok(keys);
        }
        structures.iter().enumerate().map(|(i, tally)| tally.key(norm, i).map_err(blame)).collect()
    }

    /// Tally rows or heads, one after the other.
    fn each_run(
        &mut self,
        tensor: usize,
        grid: &Grid,
        mut add: impl FnMut(usize, &Tally) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (spec, run) = (self.input.tensors()[tensor], grid.band_len());
        // Of the run that the next entry belongs to.
        let mut open = Tally::default();
        for piece in cut(&Piece { tensor, range: 0..spec.len }, self.piece_len(tensor)) {
            self.with_keys(&piece, spec, |keys| {
                for part in (0..keys.len()).step_by(TALLIED).map(|at| at..(at + TALLIED).min(keys.len())) {
                    let [start, end] = [part.start, part.end].map(|at| piece.range.start + at as u64);
                    let first = start / run;
                    let mut tallies = vec![Tally::default(); (end.div_ceil(run) - first) as usize];
                    tallies[0] = open;
                    cpu::tally(&keys.part(part), grid, start - first * run, &mut tallies)
                        .map_err(|bad| bad.error(tensor, start))?;
                    let whole = (end / run - first) as usize;
                    for (i, tally) in tallies[..whole].iter().enumerate() {
                        add(first as usize + i, tally)?;
                    }
                    open = tallies.get(whole).copied().unwrap_or_default();
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Tally columns: all of them at once or, where they are very many, some in every read.
    fn each_column(
        &mut self,
        tensor: usize,
        grid: &Grid,
        mut add: impl FnMut(usize, &Tally) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let spec = self.input.tensors()[tensor];
        let width = grid.columns.min(TALLIED as u64);
        for left in (0..grid.columns).step_by(width as usize) {
            let strip = Grid { columns: width.min(grid.columns - left), ..*grid };
            let mut tallies = vec![Tally::default(); strip.columns as usize];
            // What lies between two rows of a strip is left out.
            let (lines, len) = if strip.columns == grid.columns { (1, spec.len) } else { (grid.rows, strip.columns) };
            for line in 0..lines {
                let start = line * grid.columns + left;
                for piece in cut(&Piece { tensor, range: start..start + len }, self.piece_len(tensor)) {
                    let at = piece.range.start - start;
                    self.with_keys(&piece, spec, |keys| {
                        let counted = cpu::tally(keys, &strip, at, &mut tallies);
                        counted.map_err(|bad| bad.error(tensor, piece.range.start))
                    })?;
                }
            }
            for (i, tally) in tallies.iter().enumerate() {
                add(left as usize + i, tally)?;
            }
        }
        Ok(())
    }
}

/// Entries whose runs are tallied at once, each of which may be one; and columns.
const TALLIED: usize = 1 << 17;
