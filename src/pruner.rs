//! Choosing a backend, and driving it over pieces: written once, for both.

use crate::cpu;
use crate::decision::{Decision, Group};
use crate::error::Error;
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::key::{Keys, Norms};
use crate::mask::Mask;
use crate::narrow;
use crate::rule::{Granularity, Rule, Score};
use crate::source::{Borrowed, Bytes, InPlace, Input, Source, Streamed, Want};
use crate::tensor::{Tensor, TensorMut, TensorSpec, check_norms};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::OnceLock;

/// Zero the losers in place, on the best backend that this machine has; the answer does not depend on which.
///
/// The backend is chosen once per process: a hardware adapter, else the CPU. Build a [`Pruner`] to choose yourself.
///
/// # Errors
/// `NonFinite` for NaN and infinity, `InvalidInput` for an empty tensor or norms that do not fit the rule's score. The
/// weights are untouched then.
pub fn prune<'a>(weights: impl Into<TensorMut<'a>>, rule: &Rule) -> Result<Decision, Error> {
    best().prune(&mut [weights.into()], rule)
}

/// As [`prune`], but return the bits and leave the weights alone.
///
/// # Errors
/// As [`prune`].
pub fn mask<'a>(weights: impl Into<Tensor<'a>>, rule: &Rule) -> Result<(Decision, Mask), Error> {
    let (decision, mut masks) = best().mask(&[weights.into()], rule)?;
    Ok((decision, masks.pop().unwrap_or_default()))
}

fn best() -> &'static Pruner {
    static BEST: OnceLock<Pruner> = OnceLock::new();
    BEST.get_or_init(Pruner::best)
}

/// A backend, ready to work: built once, used from any thread.
#[derive(Debug)]
pub struct Pruner {
    engine: Engine,
    backend: Backend,
}

#[derive(Debug)]
enum Engine {
    Cpu,
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Engine>),
}

/// Who does the work.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Backend {
    /// Plain Rust on this many threads, compiled for this instruction set.
    Cpu {
        /// Threads of the pool.
        threads: usize,
        /// `avx512`, `avx2`, `neon` or `portable`.
        simd: &'static str,
    },
    /// A device behind wgpu.
    #[cfg(feature = "gpu")]
    Gpu(gpu::Adapter),
}

impl Backend {
    /// `cpu` or `gpu`.
    pub fn name(&self) -> &'static str {
        match self {
            Backend::Cpu { .. } => "cpu",
            #[cfg(feature = "gpu")]
            Backend::Gpu(_) => "gpu",
        }
    }

    /// The adapter's name, for a GPU.
    pub fn adapter(&self) -> Option<&str> {
        match self {
            Backend::Cpu { .. } => None,
            #[cfg(feature = "gpu")]
            Backend::Gpu(adapter) => Some(&adapter.name),
        }
    }

    /// A GPU interface that a processor stands in for.
    pub fn is_software(&self) -> bool {
        match self {
            Backend::Cpu { .. } => false,
            #[cfg(feature = "gpu")]
            Backend::Gpu(adapter) => adapter.software,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backend::Cpu { threads: 1, simd } => write!(f, "cpu (1 thread, {simd})"),
            Backend::Cpu { threads, simd } => write!(f, "cpu ({threads} threads, {simd})"),
            #[cfg(feature = "gpu")]
            Backend::Gpu(adapter) => write!(f, "{adapter}"),
        }
    }
}

impl Pruner {
    /// The CPU: always there.
    pub fn cpu() -> Self {
        Self { engine: Engine::Cpu, backend: Backend::Cpu { threads: cpu::threads(), simd: cpu::simd_name() } }
    }

    /// A GPU: never the CPU in disguise.
    ///
    /// # Errors
    /// `NoAdapter` when none fits the options, `Limit` when it lacks what WebGPU guarantees.
    #[cfg(feature = "gpu")]
    pub fn gpu(options: &gpu::Options) -> Result<Self, Error> {
        let engine = gpu::Engine::open(options)?;
        let backend = Backend::Gpu(engine.adapter().clone());
        Ok(Self { engine: Engine::Gpu(Box::new(engine)), backend })
    }

    /// The best there is: a hardware adapter, else the CPU. [`backend`](Self::backend) says which.
    pub fn best() -> Self {
        #[cfg(feature = "gpu")]
        if let Ok(pruner) = Self::gpu(&gpu::Options::new()) {
            return pruner;
        }
        Self::cpu()
    }

    /// Who does the work.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Zero the losers in place.
    ///
    /// # Errors
    /// As the function [`prune`]; [`Error::tensor`] says which tensor is at fault. All weights are untouched then.
    pub fn prune(&self, tensors: &mut [TensorMut<'_>], rule: &Rule) -> Result<Decision, Error> {
        check(&InPlace::new(tensors), rule)?;
        // One contest over one piece looks at every score before it zeroes any; all else could meet a bad score after
        // its first zero. One read more buys that nothing is ever half pruned.
        let one_contest = tensors.len() == 1 && rule.granularity != Granularity::Row;
        if !one_contest && !matches!(rule.granularity, Granularity::Global) {
            for (i, tensor) in tensors.iter().enumerate() {
                let tensor = tensor.as_tensor();
                let norms = tensor.norms().filter(|_| rule.score == Score::Wanda);
                let norms = norms.map(|values| Norms { values, column: 0 });
                cpu::check_finite(&Keys::new(tensor.bytes(), tensor.dtype(), norms)).map_err(|bad| bad.error(i, 0))?;
            }
        }
        self.drive(&mut InPlace::new(tensors), rule)
    }

    /// One mask per tensor; the weights are left alone.
    ///
    /// # Errors
    /// As [`prune`](Self::prune).
    pub fn mask(&self, tensors: &[Tensor<'_>], rule: &Rule) -> Result<(Decision, Vec<Mask>), Error> {
        let mut input = Borrowed::new(tensors);
        let decision = self.drive(&mut input, rule)?;
        Ok((decision, input.masks))
    }

    /// Decide about weights that are read piece by piece, several times over, and carry the decision out on each piece.
    ///
    /// # Errors
    /// As [`prune`](Self::prune), and `Io` when the source fails. Ranges that were stored before the error stay stored: a
    /// source that writes somewhere must be able to throw that away.
    pub fn stream(&self, source: &mut dyn Source, rule: &Rule, want: Want) -> Result<Decision, Error> {
        self.drive(&mut Streamed { source, want }, rule)
    }

    fn drive(&self, input: &mut dyn Input, rule: &Rule) -> Result<Decision, Error> {
        check(input, rule)?;
        let mut drive = Drive { engine: &self.engine, rule, input, norms: Vec::new() };
        drive.borrow_norms();
        Ok(Decision::new(drive.run()?))
    }
}

/// What can be said about the tensors before any is read.
fn check(input: &dyn Input, rule: &Rule) -> Result<(), Error> {
    if input.tensors().is_empty() {
        return Err(Error::invalid("there is no tensor"));
    }
    for (i, spec) in input.tensors().iter().enumerate() {
        check_tensor(spec, input.norms(i), rule.score).map_err(|e| e.of_tensor(i))?;
    }
    Ok(())
}

fn check_tensor(spec: &TensorSpec, norms: Option<&[f32]>, score: Score) -> Result<(), Error> {
    if spec.len == 0 {
        return Err(Error::invalid("a contest of 0 entries has no effective number"));
    }
    TensorSpec::new(spec.dtype, spec.len, spec.row_len)?;
    match (score, norms) {
        (Score::Wanda, None) => Err(Error::invalid("the score is Wanda and the tensor has no norms")),
        (Score::Wanda, Some(norms)) => check_norms(norms, spec.row_len),
        (Score::Magnitude, Some(norms)) => {
            Err(Error::invalid(format!("the score is magnitude and the tensor has {} norms", norms.len())))
        }
        (Score::Magnitude, None) => Ok(()),
    }
}

/// One call on its way through the pieces.
struct Drive<'a> {
    engine: &'a Engine,
    rule: &'a Rule,
    input: &'a mut dyn Input,
    /// Copies: a source cannot lend its norms while it lends its bytes to be written to.
    norms: Vec<Option<Vec<f32>>>,
}

/// Entries of one tensor that are loaded together.
#[derive(Clone, Debug)]
struct Piece {
    tensor: usize,
    range: Range<u64>,
}

/// On the CPU, rows from here on are worth all cores.
const LONG_ROW: u64 = 1 << 20;

impl Drive<'_> {
    fn borrow_norms(&mut self) {
        self.norms = (0..self.input.tensors().len()).map(|i| self.input.norms(i).map(<[f32]>::to_vec)).collect();
    }

    fn run(&mut self) -> Result<Vec<Group>, Error> {
        let specs = self.input.tensors().to_vec();
        let whole = |tensor: usize| Piece { tensor, range: 0..specs[tensor].len };
        match self.rule.granularity {
            Granularity::Global => Ok(vec![self.contest((0..specs.len()).map(whole).collect())?]),
            Granularity::Tensor => (0..specs.len()).map(|i| self.contest(vec![whole(i)])).collect(),
            Granularity::Row => {
                let mut groups = Vec::new();
                for tensor in 0..specs.len() {
                    self.rows(tensor, &mut groups)?;
                }
                Ok(groups)
            }
        }
    }

    /// Every row of a tensor: many at a time where they fit a piece, else one by one.
    fn rows(&mut self, tensor: usize, groups: &mut Vec<Group>) -> Result<(), Error> {
        let spec = self.input.tensors()[tensor];
        let piece_len = self.piece_len(spec);
        if spec.row_len > piece_len.min(self.engine.longest_row(spec.len)) {
            for row in 0..spec.rows() {
                let range = row * spec.row_len..(row + 1) * spec.row_len;
                groups.push(self.contest(vec![Piece { tensor, range }])?);
            }
            return Ok(());
        }
        let rows_at_once = (piece_len / spec.row_len).min(self.engine.most_rows());
        for piece in cut(&Piece { tensor, range: 0..spec.len }, rows_at_once * spec.row_len) {
            let norms = norms_at(&self.norms, &piece, spec);
            let mut mask =
                self.input.wants_masks().then(|| Mask::zeros((piece.range.end - piece.range.start) as usize));
            let bytes = self.input.load(tensor, piece.range.clone()).map_err(|e| Error::io(tensor, e))?;
            let row_len = spec.row_len as usize;
            let work = cpu::Piece { bytes, dtype: spec.dtype, norms, mask: mask.as_mut().map(|m| m.as_bytes_mut()) };
            let decided = match self.engine {
                Engine::Cpu => {
                    cpu::rows(work, row_len, self.rule.beta).map_err(|bad| bad.error(tensor, piece.range.start))
                }
                #[cfg(feature = "gpu")]
                Engine::Gpu(engine) => engine.rows(work, row_len, self.rule, tensor, piece.range.start),
            };
            groups.extend(decided?);
            self.input.store(tensor, piece.range, mask).map_err(|e| Error::io(tensor, e))?;
        }
        Ok(())
    }

    /// One contest over all the entries of `parts`, cut into pieces.
    fn contest(&mut self, parts: Vec<Piece>) -> Result<Group, Error> {
        let specs = self.input.tensors().to_vec();
        let pieces: Vec<_> = parts.iter().flat_map(|p| cut(p, self.piece_len(specs[p.tensor]))).collect();
        let digits = parts.iter().map(|p| narrow::digits_of(specs[p.tensor].dtype, self.rule.score)).max().unwrap_or(3);
        let mut contest = match self.engine {
            Engine::Cpu => Contest::Cpu(Box::new(cpu::Contest::new(self.rule.beta, digits)), PhantomData),
            #[cfg(feature = "gpu")]
            Engine::Gpu(engine) => {
                let lens = pieces.iter().map(|p| (p.range.end - p.range.start, specs[p.tensor].dtype));
                Contest::Gpu(Box::new(engine.contest(self.rule, digits, lens.collect())?))
            }
        };
        for (i, piece) in pieces.iter().enumerate() {
            let spec = specs[piece.tensor];
            let norms = norms_at(&self.norms, piece, spec);
            let bytes = load(self.input, piece)?;
            contest.stats(i, bytes.get(), spec, norms, piece)?;
        }
        contest.narrow()?;
        while !contest.is_narrowed() {
            for (i, piece) in pieces.iter().enumerate() {
                let spec = specs[piece.tensor];
                let norms = norms_at(&self.norms, piece, spec);
                let bytes = if contest.holds(i) { Bytes::Shared(&[]) } else { load(self.input, piece)? };
                contest.histogram(i, bytes.get(), spec, norms)?;
            }
            contest.narrow()?;
        }
        for (i, piece) in pieces.into_iter().enumerate() {
            let spec = specs[piece.tensor];
            let norms = norms_at(&self.norms, &piece, spec);
            let mut mask =
                self.input.wants_masks().then(|| Mask::zeros((piece.range.end - piece.range.start) as usize));
            let bytes = load(self.input, &piece)?;
            let mask_bytes = mask.as_mut().map(|m| m.as_bytes_mut());
            contest.apply(i, cpu::Piece { bytes, dtype: spec.dtype, norms, mask: mask_bytes }, spec)?;
            self.input.store(piece.tensor, piece.range, mask).map_err(|e| Error::io(piece.tensor, e))?;
        }
        contest.settle()
    }

    /// Entries of the largest piece.
    fn piece_len(&self, spec: TensorSpec) -> u64 {
        let bytes = self.input.piece_bytes().min(self.engine.piece_bytes());
        // A piece's norms, one f32 a column, must fit a device's binding as its weights do.
        let entry = if self.rule.score == Score::Wanda { size_of::<f32>() } else { spec.dtype.size() };
        ((bytes / entry) as u64).max(1)
    }
}

fn load<'a>(input: &'a mut dyn Input, piece: &Piece) -> Result<Bytes<'a>, Error> {
    input.load(piece.tensor, piece.range.clone()).map_err(|e: io::Error| Error::io(piece.tensor, e))
}

fn norms_at<'a>(norms: &'a [Option<Vec<f32>>], piece: &Piece, spec: TensorSpec) -> Option<Norms<'a>> {
    let values = norms[piece.tensor].as_deref()?;
    Some(Norms { values, column: (piece.range.start % spec.row_len) as usize })
}

/// The pieces of at most `len` entries that cover `whole`.
fn cut(whole: &Piece, len: u64) -> Vec<Piece> {
    let Piece { tensor, range } = whole;
    let starts = (range.start..range.end).step_by(usize::try_from(len).unwrap_or(usize::MAX));
    starts.map(|start| Piece { tensor: *tensor, range: start..start.saturating_add(len).min(range.end) }).collect()
}

impl Engine {
    /// Rows up to this length are decided many at a time.
    fn longest_row(&self, _tensor_len: u64) -> u64 {
        match self {
            Engine::Cpu => LONG_ROW,
            #[cfg(feature = "gpu")]
            Engine::Gpu(engine) => engine.longest_row(),
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
}

/// A contest on either backend: the same stages under the same names.
enum Contest<'e> {
    Cpu(Box<cpu::Contest>, PhantomData<&'e ()>),
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Contest<'e>>),
}

impl Contest<'_> {
    fn stats(
        &mut self,
        _i: usize,
        bytes: &[u8],
        spec: TensorSpec,
        norms: Option<Norms<'_>>,
        piece: &Piece,
    ) -> Result<(), Error> {
        match self {
            Contest::Cpu(contest, _) => contest
                .stats(&Keys::new(bytes, spec.dtype, norms))
                .map_err(|bad| bad.error(piece.tensor, piece.range.start)),
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.stats(_i, bytes, spec, norms, piece.tensor, piece.range.start),
        }
    }

    fn narrow(&mut self) -> Result<(), Error> {
        match self {
            Contest::Cpu(contest, _) => {
                contest.narrow();
                Ok(())
            }
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.narrow(),
        }
    }

    fn is_narrowed(&self) -> bool {
        match self {
            Contest::Cpu(contest, _) => contest.is_narrowed(),
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.is_narrowed(),
        }
    }

    /// Whether the backend still has the bytes of piece `i`.
    fn holds(&self, _i: usize) -> bool {
        match self {
            Contest::Cpu(..) => false,
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.holds(_i),
        }
    }

    fn histogram(&mut self, _i: usize, bytes: &[u8], spec: TensorSpec, norms: Option<Norms<'_>>) -> Result<(), Error> {
        match self {
            Contest::Cpu(contest, _) => {
                contest.histogram(&Keys::new(bytes, spec.dtype, norms));
                Ok(())
            }
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.histogram(_i, bytes, spec, norms),
        }
    }

    fn apply(&mut self, _i: usize, piece: cpu::Piece<'_>, _spec: TensorSpec) -> Result<(), Error> {
        match self {
            Contest::Cpu(contest, _) => {
                contest.apply(piece);
                Ok(())
            }
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.apply(_i, piece),
        }
    }

    fn settle(self) -> Result<Group, Error> {
        match self {
            Contest::Cpu(contest, _) => Ok(contest.settle()),
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.settle(),
        }
    }
}
