//! Contests of whole rows, columns, heads or groups: their scores are made here, a contest over them decides, and their weights follow.

use super::{Drive, Engine, Judge, Piece, check, cut, drive};
use crate::cpu::{self, Fates};
use crate::decision::Decision;
use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind};
use crate::grid::Grid;
use crate::mask::Mask;
use crate::rule::{Granularity, Rule, Score};
use crate::source::{Borrowed, Bytes, Input, Loaded, collect};
use crate::structure::{self, Members, Norm, Structure, Tally};
use crate::tensor::{Tensor, TensorSpec};
use std::borrow::Cow;
use std::io;
use std::ops::Range;

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
    let (room, scored) = (input.structure_bytes(), rule.with_score(Score::Magnitude));
    let mut asked = Drive::new(Judge { engine, rule }, input);
    let members = all_members(&specs, structure)?;
    let own = members.iter().all(Members::are_own);
    if own && members.iter().map(Members::own).sum::<usize>() > room / KEY {
        let mut remade = Remade::new(asked, &members, norm, room)?;
        // By the CPU, as the scores are made: a device's turn would be held meanwhile, and a thread of a pool that makes them may find another call that
        // waits for it.
        let decided = drive(&Engine::Cpu, &mut remade, &scored);
        return remade.failed.map_or(decided, Err).map(|decision| (decision, remade.masks));
    }
    // Tensors whose structures are numbered together.
    let shared = !own && rule.granularity == Granularity::Global;
    let together = if shared { specs.len() } else { 1 };
    let mut scores = Vec::new();
    for first in (0..specs.len()).step_by(together) {
        let members = &members[first..first + together];
        scores.push(match own {
            true => asked.own_keys(first, &members[0], norm, 0..members[0].own())?,
            false => asked.group_keys(first, members, norm, room)?,
        });
    }
    let tensors: Vec<Tensor<'_>> = scores
        .iter()
        .map(|keys| Tensor::from_bytes(bytemuck::cast_slice(keys), Dtype::F32))
        .collect::<Result<_, _>>()?;
    let mut kept = Borrowed::new(&tensors);
    let decision = drive(engine, &mut kept, &scored)?;
    let masks = (0..specs.len()).map(|tensor| kept.masks[tensor / together].clone()).collect();
    Ok((decision, masks))
}

/// Bytes of a structure's score.
const KEY: usize = size_of::<u32>();

/// The scores of structures that are too many to hold them all: made of the weights in every pass, some at a time.
struct Remade<'a, 'm> {
    asked: Drive<'a>,
    members: &'m [Members<'m>],
    norm: Norm<'m>,
    specs: Vec<TensorSpec>,
    /// What some may take.
    room: usize,
    keys: Vec<u32>,
    masks: Vec<Mask>,
    /// Why the last of them could not be made.
    failed: Option<Error>,
}

impl<'a, 'm> Remade<'a, 'm> {
    fn new(asked: Drive<'a>, members: &'m [Members<'m>], norm: Norm<'m>, room: usize) -> Result<Self, Error> {
        let spec = |(tensor, members): (usize, &Members<'_>)| {
            let len = members.own() as u64;
            TensorSpec::new(Dtype::F32, len, len).map_err(|e| e.of_tensor(tensor))
        };
        let specs = members.iter().enumerate().map(spec).collect::<Result<_, _>>()?;
        let masks = vec![Mask::new(); members.len()];
        Ok(Self { asked, members, norm, specs, room, keys: Vec::new(), masks, failed: None })
    }
}

impl Input for Remade<'_, '_> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn norms(&mut self, _tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>> {
        Ok(None)
    }

    fn segments(&self, _tensor: usize) -> Option<&[u64]> {
        None
    }

    fn piece_bytes(&self) -> usize {
        self.room
    }

    fn load(&mut self, tensor: usize, range: Range<u64>, _scored: bool) -> io::Result<Loaded<'_>> {
        self.keys = Vec::new();
        let range = range.start as usize..range.end as usize;
        match self.asked.own_keys(tensor, &self.members[tensor], self.norm, range) {
            Ok(keys) => self.keys = keys,
            Err(error) => {
                self.failed = Some(error);
                return Err(io::Error::other("a structure has no score"));
            }
        }
        Ok(Loaded { bytes: Bytes::Shared(bytemuck::cast_slice(&self.keys)), scores: None })
    }

    fn wants_masks(&self) -> bool {
        true
    }

    fn store(&mut self, tensor: usize, _range: Range<u64>, mask: Option<Mask>) -> io::Result<()> {
        collect(&mut self.masks[tensor], mask);
        Ok(())
    }
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
    /// The scores of some structures that a tensor has for itself: the bits of `f32`s.
    fn own_keys(
        &mut self,
        tensor: usize,
        members: &Members<'_>,
        norm: Norm<'_>,
        range: Range<usize>,
    ) -> Result<Vec<u32>, Error> {
        if let Norm::Given(scores) = norm {
            return structure::given(scores[tensor], members.own(), range).map_err(|e| e.of_tensor(tensor));
        }
        let mut keys = list_of(range.len()).map_err(|e| e.of_tensor(tensor))?;
        // Of the structure that the next member is of: the key is enough of the others, a tally takes many times as much.
        let (mut open, of_structure) = (Tally::default(), members.of_structure());
        let add = |member: usize, tally: &Tally| {
            open.merge(tally);
            if (member + 1).is_multiple_of(of_structure) {
                let whole = std::mem::take(&mut open);
                keys.push(whole.key(norm, member / of_structure).map_err(|e| e.of_tensor(tensor))?);
            }
            Ok(())
        };
        self.each_member(tensor, members, range.start * of_structure..range.end * of_structure, add)?;
        Ok(keys)
    }

    /// The scores of groups that some tensors, from the `first` on, have or share; what they are made of may take so much `room`.
    fn group_keys(
        &mut self,
        first: usize,
        members: &[Members<'_>],
        norm: Norm<'_>,
        room: usize,
    ) -> Result<Vec<u32>, Error> {
        // What several tensors share is not the fault of one.
        let blame = |e: Error| if members.len() == 1 { e.of_tensor(first) } else { e };
        let count = structure::count(members).map_err(blame)?;
        if let Norm::Given(scores) = norm {
            let mut keys = list_of(count)?;
            keys.resize(count, 0);
            for (tensor, scores) in scores.iter().enumerate().skip(first).take(members.len()) {
                structure::join_given(scores, &mut keys).map_err(|e| e.of_tensor(tensor))?;
            }
            return Ok(keys);
        }
        let mut keys = list_of(count)?;
        let at_once = (room / size_of::<Tally>()).max(TALLIES);
        for start in (0..count).step_by(at_once) {
            let mut tallies = vec![Tally::default(); at_once.min(count - start)];
            for (tensor, members) in (first..).zip(members) {
                self.each_member(tensor, members, 0..members.len(), |member, tally| {
                    let among = members.structure(member).checked_sub(start).and_then(|at| tallies.get_mut(at));
                    if let Some(group) = among {
                        group.merge(tally);
                    }
                    Ok(())
                })?;
            }
            for (group, tally) in (start..).zip(&tallies) {
                keys.push(tally.key(norm, group).map_err(blame)?);
            }
        }
        Ok(keys)
    }

    /// Tally some rows, heads or columns, one after the other.
    fn each_member(
        &mut self,
        tensor: usize,
        members: &Members<'_>,
        range: Range<usize>,
        add: impl FnMut(usize, &Tally) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let range = range.start as u64..range.end as u64;
        if members.are_runs() {
            return self.each_run(tensor, &members.grid, range, add);
        }
        let tallied = self.each_column(tensor, &members.grid, range, add);
        self.or_first_bad(tensor, tallied)
    }

    /// Tally rows or heads, one after the other.
    fn each_run(
        &mut self,
        tensor: usize,
        grid: &Grid,
        runs: Range<u64>,
        mut add: impl FnMut(usize, &Tally) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (spec, run) = (self.input.tensors()[tensor], grid.band_len());
        let entries = Piece { tensor, range: runs.start * run..runs.end * run };
        // Of the run that the next entry belongs to.
        let mut open = Tally::default();
        for piece in cut(&entries, self.piece_len(tensor)) {
            self.with_keys(&piece, spec, |keys| {
                let at_once = run.saturating_mul(TALLIES as u64).min(TALLIED) as usize;
                for part in (0..keys.len()).step_by(at_once).map(|at| at..(at + at_once).min(keys.len())) {
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

    /// Tally some columns: all of them at once or, where they are very many, some in every read.
    fn each_column(
        &mut self,
        tensor: usize,
        grid: &Grid,
        columns: Range<u64>,
        mut add: impl FnMut(usize, &Tally) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let spec = self.input.tensors()[tensor];
        for left in columns.clone().step_by(TALLIES) {
            let strip = Grid { columns: (columns.end - left).min(TALLIES as u64), ..*grid };
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

/// Entries whose runs are tallied at once.
const TALLIED: u64 = 1 << 17;
/// Runs, or columns, that are tallied at once: each takes some hundred bytes, and as many again on its way from a thread.
const TALLIES: usize = 1 << 15;

/// An empty list with room for the keys of so many structures.
fn list_of(structures: usize) -> Result<Vec<u32>, Error> {
    let mut keys = Vec::new();
    let none = |_| Error::new(ErrorKind::OutOfMemory, format!("no memory for the scores of {structures} structures"));
    keys.try_reserve_exact(structures).map_err(none)?;
    Ok(keys)
}
