//! Driving a backend over pieces: written once, for both.

use crate::cpu::{self, Fate, Fates};
use crate::decision::{Decision, Group};
use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind};
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::grid::{Class, Grid};
use crate::key::{Keys, Norms};
use crate::mask::Mask;
use crate::narrow;
use crate::rule::{Granularity, Rule, Score};
use crate::source::{Input, Loaded, Staged};
use crate::tensor::{TensorSpec, check_norms, check_segments};
use contest::Contest;
use std::marker::PhantomData;
use std::ops::Range;

mod blocks;
mod contest;
mod structures;

pub(crate) use structures::{carry_out_structures, decide_structures};

/// Who does the work.
#[derive(Debug)]
pub(crate) enum Engine {
    Cpu,
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Engine>),
}

/// Decide about all of `input` and carry it out.
pub(crate) fn drive(engine: &Engine, input: &mut dyn Input, rule: &Rule) -> Result<Decision, Error> {
    check(input, rule)?;
    Ok(Decision::new(Drive::new(Judge { engine, rule }, input).run()?))
}

/// Carry out what was decided about all of `input`.
pub(crate) fn carry_out(input: &mut dyn Input, rule: &Rule, groups: &[Group]) -> Result<(), Error> {
    check(input, rule)?;
    Drive::new(Judge { engine: &Engine::Cpu, rule }, input).carry_out(groups)
}

/// What can be said about the tensors before any is read.
pub(crate) fn check(input: &mut dyn Input, rule: &Rule) -> Result<(), Error> {
    rule.check()?;
    if input.tensors().is_empty() {
        return Err(Error::invalid("there is no tensor"));
    }
    (0..input.tensors().len()).try_for_each(|i| check_tensor(input, i, rule).map_err(|e| e.of_tensor(i)))?;
    let all: u128 = input.tensors().iter().map(|spec| u128::from(spec.len)).sum();
    if all > MOST_ENTRIES {
        let message = format!("{all} entries are more than {MOST_ENTRIES}, and their sums might not be exact");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(())
}

fn check_tensor(input: &mut dyn Input, tensor: usize, rule: &Rule) -> Result<(), Error> {
    let spec = input.tensors()[tensor];
    if spec.len == 0 {
        return Err(Error::invalid("a contest of 0 entries has no effective number"));
    }
    TensorSpec::new(spec.dtype, spec.len, spec.row_len)?;
    // Whoever made this up from a header that is none hears of it here, and not when memory for a list of its pieces is asked for.
    let (bytes, piece) = (u128::from(spec.len) * spec.dtype.size() as u128, input.piece_bytes().max(1));
    if bytes.div_ceil(piece as u128) > MOST_PIECES {
        let message = format!("{bytes} bytes in pieces of {piece} are more than {MOST_PIECES} pieces");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Grid::of(spec, rule.granularity)?;
    let has = |what: &str| Err(Error::invalid(format!("the score is {} and the tensor has {what}", rule.score)));
    let norms = input.norms(tensor).map_err(|e| Error::io(tensor, "tell norms", e))?;
    match (rule.score, norms, spec.scores) {
        (Score::Wanda, None, _) => has("no norms")?,
        (Score::Wanda, Some(norms), None) => check_norms(&norms, spec.row_len)?,
        (Score::Given, _, None) => has("no scores")?,
        (Score::Magnitude | Score::Given, Some(norms), _) => has(&format!("{} norms", norms.len()))?,
        (Score::Magnitude | Score::Wanda, _, Some(_)) => has("scores of its own")?,
        (Score::Magnitude, None, None) | (Score::Given, None, Some(_)) => {}
    }
    match (rule.granularity, input.segments(tensor)) {
        (Granularity::Segments, None) => Err(Error::invalid("the granularity is segments and the tensor has none")),
        (Granularity::Segments, Some(lens)) => check_segments(lens, spec.len),
        (granularity, Some(lens)) => {
            Err(Error::invalid(format!("the granularity is {granularity} and the tensor has {} segments", lens.len())))
        }
        (_, None) => Ok(()),
    }
}

/// One call on its way through the pieces.
struct Drive<'a> {
    judge: Judge<'a>,
    input: &'a mut dyn Input,
    /// Those of the tensor that was read last. Copies: an input cannot lend its norms while it lends its bytes to be written to.
    norms: Option<(usize, Vec<f32>)>,
}

/// A backend and the question put to it.
#[derive(Clone, Copy)]
struct Judge<'a> {
    engine: &'a Engine,
    rule: &'a Rule,
}

/// Entries of one tensor that are loaded together.
#[derive(Clone, Debug)]
struct Piece {
    tensor: usize,
    range: Range<u64>,
}

/// Pieces of a tensor: of 64 MiB a pebibyte.
const MOST_PIECES: u128 = 1 << 24;
/// Entries of all tensors together: of no more does a counter of 64 bits hold what the lower bits of all keys add up to (`cpu::stats`).
const MOST_ENTRIES: u128 = 1 << 44;
/// On the CPU, rows from here on are worth all cores.
const LONG_ROW: u64 = 1 << 20;
/// So many segments of one length are worth a call of a device.
const WORTH_A_DEVICE: usize = 16;

impl<'a> Drive<'a> {
    fn new(judge: Judge<'a>, input: &'a mut dyn Input) -> Self {
        Self { judge, input, norms: None }
    }

    fn run(&mut self) -> Result<Vec<Group>, Error> {
        let specs = self.input.tensors().to_vec();
        let whole = |tensor: usize| Piece { tensor, range: 0..specs[tensor].len };
        let mut groups = Vec::new();
        match self.judge.rule.granularity {
            Granularity::Global => groups.push(self.contest((0..specs.len()).map(whole).collect())?),
            Granularity::Tensor => {
                for tensor in 0..specs.len() {
                    groups.push(self.contest(vec![whole(tensor)])?);
                }
            }
            Granularity::Segments => {
                for tensor in 0..specs.len() {
                    self.segments(tensor, &mut groups)?;
                }
            }
            granularity => {
                for (tensor, spec) in specs.into_iter().enumerate() {
                    let grid = Grid::of(spec, granularity)?;
                    match grid.run() {
                        Some(len) => self.rows(tensor, len, &mut groups)?,
                        None => self.blocks(tensor, &grid, &mut groups)?,
                    }
                }
            }
        }
        Ok(groups)
    }

    /// Every run of `row_len` entries: many at a time where they fit a piece, else one by one.
    fn rows(&mut self, tensor: usize, row_len: u64, groups: &mut Vec<Group>) -> Result<(), Error> {
        let spec = self.input.tensors()[tensor];
        let piece_len = self.piece_len(tensor);
        if row_len > piece_len.min(self.judge.engine.longest_row()) {
            for row in 0..spec.len / row_len {
                let start = row * row_len;
                groups.push(self.contest(vec![Piece { tensor, range: start..start + row_len }])?);
            }
            return Ok(());
        }
        let rows_at_once = (piece_len / row_len).min(self.judge.engine.most_rows());
        for piece in cut(&Piece { tensor, range: 0..spec.len }, rows_at_once * row_len) {
            let decided = self.with_piece(&piece, |judge, work| match judge.engine {
                Engine::Cpu => {
                    cpu::rows(work, row_len as usize, judge.rule).map_err(|bad| bad.error(tensor, piece.range.start))
                }
                #[cfg(feature = "gpu")]
                Engine::Gpu(engine) => engine.rows(work, row_len as usize, judge.rule, tensor, piece.range.start),
            });
            append(groups, decided?);
        }
        Ok(())
    }

    /// Every segment: long ones one by one, the shorter ones between them together.
    fn segments(&mut self, tensor: usize, groups: &mut Vec<Group>) -> Result<(), Error> {
        let lens = self.input.segments(tensor).unwrap_or_default().to_vec();
        let most = self.piece_len(tensor).min(self.judge.engine.area_len());
        let long = most.min(self.judge.engine.long_segment());
        let (mut start, mut first) = (0, 0);
        while first < lens.len() {
            if lens[first] >= long {
                groups.push(self.contest(vec![Piece { tensor, range: start..start + lens[first] }])?);
                start += lens[first];
                first += 1;
                continue;
            }
            let mut ends: Vec<u64> = Vec::new();
            for &len in &lens[first..] {
                let end = ends.last().unwrap_or(&0) + len;
                if len >= long || end > most {
                    break;
                }
                ends.push(end);
            }
            let len = ends[ends.len() - 1];
            let piece = Piece { tensor, range: start..start + len };
            let decided = self.with_piece(&piece, |judge, work| {
                let decided = judge.short_segments(&lens[first..first + ends.len()], &ends, &work.keys());
                let fates: Vec<Fate> = decided.iter().flatten().map(Fate::from).collect();
                if decided.is_ok() {
                    cpu::carry_out_fates(work, &Fates::Segments(&ends, &fates), 0);
                }
                decided
            });
            groups.extend(self.or_first_bad(tensor, decided)?);
            start += len;
            first += ends.len();
        }
        Ok(())
    }

    /// One contest over all the entries of `parts`, cut into pieces.
    fn contest(&mut self, parts: Vec<Piece>) -> Result<Group, Error> {
        let pieces: Vec<_> = parts.iter().flat_map(|p| cut(p, self.piece_len(p.tensor))).collect();
        let dtypes: Vec<_> = pieces.iter().map(|p| self.key_dtype(p.tensor)).collect();
        let digits = dtypes.iter().map(|&dtype| narrow::digits_of(dtype, self.judge.rule.score)).max().unwrap_or(3);
        let lens = pieces.iter().zip(dtypes).map(|(piece, dtype)| (piece.range.end - piece.range.start, dtype));
        let lens: Vec<_> = lens.collect();
        let mut contest = loop {
            let mut contest = self.judge.contest(digits, lens.clone(), 1)?;
            match self.narrow(&mut contest, &pieces) {
                Ok(()) => break contest,
                // Nothing is carried out yet. Piece by piece there may be memory enough.
                Err(error) if is_short(&error) && contest.gives_way() => {}
                Err(error) => return Err(error),
            }
        };
        for (i, piece) in pieces.iter().enumerate() {
            if !self.input.only_looks() || !contest.passes_by(piece.range.end - piece.range.start) {
                self.with_piece(piece, |_, work| contest.apply(i, work))?;
            }
        }
        contest.settle()
    }

    /// All of a contest before anything is carried out.
    fn narrow(&mut self, contest: &mut Contest<'_>, pieces: &[Piece]) -> Result<(), Error> {
        for (i, piece) in pieces.iter().enumerate() {
            let spec = self.input.tensors()[piece.tensor];
            self.with_keys(piece, spec, |keys| contest.stats(i, keys, piece))?;
        }
        contest.narrow()?;
        while !contest.is_narrowed() {
            for (i, piece) in pieces.iter().enumerate() {
                let spec = self.input.tensors()[piece.tensor];
                self.with_keys(piece, spec, |keys| contest.histogram(i, keys))?;
            }
            contest.narrow()?;
        }
        Ok(())
    }

    /// Carry out what was decided about each contest.
    fn carry_out(&mut self, groups: &[Group]) -> Result<(), Error> {
        let (specs, rule) = (self.input.tensors().to_vec(), self.judge.rule);
        let is_global = rule.granularity == Granularity::Global;
        let grids = specs.iter().map(|&spec| Grid::of(spec, rule.granularity)).collect::<Result<Vec<_>, _>>()?;
        let lens: Vec<_> = (0..specs.len()).map(|tensor| self.input.segments(tensor).map(<[u64]>::to_vec)).collect();
        let contests = grids.iter().zip(&lens).map(|(grid, lens)| lens.as_ref().map_or(grid.contests(), Vec::len));
        let contests: Vec<usize> = contests.collect();
        let expected = if is_global { 1 } else { contests.iter().sum() };
        // Lengths are the caller's: together they may be more than 64 bits count.
        let len = groups.iter().map(|group| u128::from(group.len)).sum::<u128>();
        let all = specs.iter().map(|spec| u128::from(spec.len)).sum::<u128>();
        if groups.len() != expected || len != all {
            return Err(Error::invalid(format!(
                "{} groups of {len} entries, and there are {expected} contests of {all}",
                groups.len(),
            )));
        }
        let is_score = |group: &&Group| group.threshold >= 0.0 && !group.threshold.is_sign_negative();
        if let Some(i) = groups.iter().position(|group| !is_score(&group)) {
            return Err(Error::invalid(format!(
                "group {i} has the threshold {}, which is no score",
                groups[i].threshold
            )));
        }
        let mut unseen = groups.iter().enumerate();
        for (grid, lens) in grids.iter().zip(&lens).filter(|_| !is_global) {
            for (contest, (i, group)) in (0..lens.as_ref().map_or(grid.contests(), Vec::len)).zip(unseen.by_ref()) {
                let len = lens.as_ref().map_or_else(|| grid.len_of(contest), |lens| lens[contest]);
                if group.len != len {
                    let message = format!("group {i} has {} entries, and its contest {len}", group.len);
                    return Err(Error::invalid(message));
                }
            }
        }
        let (mut rest, mut before) = (groups, 0);
        for (tensor, ((spec, grid), lens)) in specs.iter().zip(&grids).zip(&lens).enumerate() {
            let (mine, later) = rest.split_at(if is_global { 1 } else { contests[tensor] });
            let fates: Vec<Fate> = mine.iter().map(Fate::from).collect();
            let ends: Option<Vec<u64>> = lens.as_deref().map(ends_of);
            for piece in cut(&Piece { tensor, range: 0..spec.len }, self.piece_len(tensor)) {
                let start = piece.range.start;
                self.with_piece(&piece, |_, work| {
                    match (&ends, rule.granularity) {
                        (Some(ends), _) => cpu::carry_out_fates(work, &Fates::Segments(ends, &fates), start),
                        (None, Granularity::Global | Granularity::Tensor) => {
                            let cut = mine[0].cut.saturating_sub(before + start);
                            let cut = usize::try_from(cut).unwrap_or(usize::MAX);
                            cpu::carry_out(work, mine[0].threshold.to_bits(), cut);
                        }
                        _ => cpu::carry_out_fates(work, &Fates::Blocks(grid, &fates), start),
                    }
                    Ok(())
                })?;
            }
            if is_global { before += spec.len } else { rest = later }
        }
        Ok(())
    }

    /// Have the norms of this tensor at hand, if its scores are made with them.
    fn fetch_norms(&mut self, tensor: usize) -> Result<(), Error> {
        if self.judge.rule.score == Score::Wanda && self.norms.as_ref().is_none_or(|&(of, _)| of != tensor) {
            self.norms = None;
            let row_len = self.input.tensors()[tensor].row_len;
            let norms = self.input.norms(tensor).map_err(|e| Error::io(tensor, "tell norms", e))?.unwrap_or_default();
            // Not those that were looked at before: a source may have read them again.
            check_norms(&norms, row_len).map_err(|e| e.of_tensor(tensor))?;
            self.norms = Some((tensor, norms.into_owned()));
        }
        Ok(())
    }

    /// Load a piece to look at.
    fn with_keys<T>(
        &mut self,
        piece: &Piece,
        spec: TensorSpec,
        look: impl FnOnce(&Keys<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.fetch_norms(piece.tensor)?;
        let norms = norms_at(&self.norms, piece, spec);
        let Loaded { bytes, scores } = load(self.input, piece, self.judge.rule.score == Score::Given)?;
        look(&cpu::Piece { bytes, dtype: spec.dtype, norms, scores, mask: None }.keys())
    }

    /// Load a piece, carry something out on it, and store it.
    fn with_piece<T>(
        &mut self,
        piece: &Piece,
        work: impl FnOnce(Judge<'_>, cpu::Piece<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let spec = self.input.tensors()[piece.tensor];
        self.fetch_norms(piece.tensor)?;
        let norms = norms_at(&self.norms, piece, spec);
        let wants_mask = self.input.wants_masks();
        let Loaded { bytes, scores } = load(self.input, piece, self.judge.rule.score == Score::Given)?;
        // Not before there are so many bytes.
        let mut mask = wants_mask.then(|| Mask::zeros((piece.range.end - piece.range.start) as usize));
        let mask_bytes = mask.as_mut().map(Mask::as_bytes_mut);
        let done = work(self.judge, cpu::Piece { bytes, dtype: spec.dtype, norms, scores, mask: mask_bytes })?;
        self.input.store(piece.tensor, piece.range.clone(), mask).map_err(|e| Error::io(piece.tensor, "store", e))?;
        Ok(done)
    }

    /// The bad score that stopped a decision is the first of its area; the first of the tensor is what a caller must hear of.
    fn or_first_bad<T>(&mut self, tensor: usize, decided: Result<T, Error>) -> Result<T, Error> {
        match decided {
            Err(error) if error.kind() == ErrorKind::NonFinite => {
                let spec = self.input.tensors()[tensor];
                for piece in cut(&Piece { tensor, range: 0..spec.len }, self.piece_len(tensor)) {
                    self.with_keys(&piece, spec, |keys| {
                        cpu::check_finite(keys).map_err(|bad| bad.error(tensor, piece.range.start))
                    })?;
                }
                Err(error)
            }
            decided => decided,
        }
    }

    fn key_dtype(&self, tensor: usize) -> Dtype {
        self.input.tensors()[tensor].key_dtype(self.judge.rule.score)
    }

    /// Entries of the largest piece.
    fn piece_len(&self, tensor: usize) -> u64 {
        let bytes = self.input.piece_bytes().min(self.judge.engine.piece_bytes());
        // A piece's scores and its norms, one f32 a column, must fit a device's binding as its weights do.
        let of_score =
            if self.judge.rule.score == Score::Wanda { size_of::<f32>() } else { self.key_dtype(tensor).size() };
        ((bytes / of_score.max(self.input.tensors()[tensor].dtype.size())) as u64).max(1)
    }
}

/// Whether it failed for want of memory.
fn is_short(error: &Error) -> bool {
    error.kind() == ErrorKind::OutOfMemory
}

impl<'a> Judge<'a> {
    /// A contest over pieces of these lengths, of so many that go on side by side.
    fn contest(&self, digits: usize, pieces: Vec<(u64, Dtype)>, side_by_side: usize) -> Result<Contest<'a>, Error> {
        Ok(match self.engine {
            Engine::Cpu => {
                let len = pieces.iter().map(|(len, _)| len).sum();
                let levels = pieces.first().map(|&(_, dtype)| dtype).filter(|first| {
                    len >= cpu::WORTH_LEVELS
                        && digits == 2
                        && first.size() == 2
                        && pieces.iter().all(|(_, dtype)| dtype == first)
                });
                let contest = cpu::Contest::new(self.rule, len, digits, levels).side_by_side(side_by_side);
                Contest::Cpu(Box::new(contest), PhantomData)
            }
            #[cfg(feature = "gpu")]
            Engine::Gpu(engine) => Contest::Gpu(Box::new(engine.contest(self.rule, digits, pieces)?)),
        })
    }

    /// Decide contests whose keys lie end to end, equal lengths together; `numbers` says which is which. Where fewer have a length than
    /// are `worth_a_device`, the processor decides.
    fn staged(
        &self,
        keys: &[u32],
        classes: impl Iterator<Item = Class>,
        numbers: impl Iterator<Item = usize>,
        worth_a_device: usize,
    ) -> Result<Vec<Group>, Error> {
        let mut decided = Vec::new();
        let mut rest = keys;
        for Class { count, len } in classes {
            let (now, later) = rest.split_at(count * len);
            rest = later;
            let rule = self.rule.with_score(Score::Magnitude);
            let mut input = Staged::new(bytemuck::cast_slice(now), len as u64);
            let engine = if count < worth_a_device { &Engine::Cpu } else { self.engine };
            let judge = Judge { engine, rule: &rule };
            Drive::new(judge, &mut input).rows(0, len as u64, &mut decided)?;
        }
        let mut order: Vec<(usize, Group)> = numbers.zip(decided).collect();
        order.sort_unstable_by_key(|&(number, _)| number);
        Ok(order.into_iter().map(|(_, group)| group).collect())
    }

    /// Decide neighbouring segments of these lengths, which end at these entries.
    fn short_segments(&self, lens: &[u64], ends: &[u64], keys: &Keys<'_>) -> Result<Vec<Group>, Error> {
        let mut order: Vec<usize> = (0..lens.len()).collect();
        order.sort_by_key(|&segment| lens[segment]);
        let mut staged = cpu::zeroed(keys.len());
        let mut classes: Vec<Class> = Vec::new();
        let mut rest = staged.as_mut_slice();
        for &segment in &order {
            let len = lens[segment] as usize;
            let (out, later) = rest.split_at_mut(len);
            keys.fill((ends[segment] - lens[segment]) as usize, out);
            rest = later;
            match classes.last_mut() {
                Some(class) if class.len == len => class.count += 1,
                _ => classes.push(Class { count: 1, len }),
            }
        }
        // There may be as many lengths as segments. One call of a device for each would take longer than the processor does.
        self.staged(&staged, classes.into_iter(), order.iter().copied(), WORTH_A_DEVICE)
    }
}

/// Where segments of these lengths end.
fn ends_of(lens: &[u64]) -> Vec<u64> {
    let ends = lens.iter().scan(0, |end, len| {
        *end += len;
        Some(*end)
    });
    ends.collect()
}

/// The first of many groups need no copy.
fn append(groups: &mut Vec<Group>, mut more: Vec<Group>) {
    if groups.is_empty() { *groups = more } else { groups.append(&mut more) }
}

fn load<'a>(input: &'a mut dyn Input, piece: &Piece, scored: bool) -> Result<Loaded<'a>, Error> {
    input.load(piece.tensor, piece.range.clone(), scored).map_err(|e| Error::io(piece.tensor, "load", e))
}

fn norms_at<'a>(norms: &'a Option<(usize, Vec<f32>)>, piece: &Piece, spec: TensorSpec) -> Option<Norms<'a>> {
    let (_, values) = norms.as_ref()?;
    Some(Norms { values, column: (piece.range.start % spec.row_len) as usize })
}

/// The pieces of at most `len` entries that cover `whole`.
fn cut(whole: &Piece, len: u64) -> Vec<Piece> {
    let Piece { tensor, range } = whole;
    let starts = (range.start..range.end).step_by(usize::try_from(len).unwrap_or(usize::MAX));
    starts.map(|start| Piece { tensor: *tensor, range: start..start.saturating_add(len).min(range.end) }).collect()
}

impl Engine {
    /// Rows up to this length are decided many at a time: by a device all that it can be handed at once.
    fn longest_row(&self) -> u64 {
        match self {
            Engine::Cpu => LONG_ROW,
            #[cfg(feature = "gpu")]
            Engine::Gpu(_) => u64::MAX,
        }
    }

    /// Segments from here on are contests of their own; shorter ones are decided many at a time. A device's calls are to be few.
    fn long_segment(&self) -> u64 {
        match self {
            Engine::Cpu => 1 << 16,
            #[cfg(feature = "gpu")]
            Engine::Gpu(_) => 1 << 20,
        }
    }

    /// Contests that go on at once: each has 80 KB of counters, and its share of the 32 MB for candidates; a device's are one call's at a
    /// time.
    fn side_by_side(&self) -> u64 {
        match self {
            Engine::Cpu => 256,
            #[cfg(feature = "gpu")]
            Engine::Gpu(_) => 1,
        }
    }

    /// Rows that are decided in one go.
    fn most_rows(&self) -> u64 {
        match self {
            Engine::Cpu => u64::MAX,
            #[cfg(feature = "gpu")]
            Engine::Gpu(engine) => engine.most_rows(),
        }
    }

    /// Bytes that one piece can have.
    fn piece_bytes(&self) -> usize {
        match self {
            Engine::Cpu => usize::MAX,
            #[cfg(feature = "gpu")]
            Engine::Gpu(engine) => engine.piece_bytes(),
        }
    }

    /// Entries that are laid end to end at a time: on the CPU they stay in a cache, a device wants many.
    fn area_len(&self) -> u64 {
        match self {
            Engine::Cpu => 1 << 20,
            #[cfg(feature = "gpu")]
            Engine::Gpu(_) => 1 << 24,
        }
    }
}
