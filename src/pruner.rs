//! The calls, and the choice of a backend.

use crate::cpu;
use crate::decision::{Decision, Group};
use crate::drive::{Engine, carry_out, carry_out_structures, check, decide_structures, drive};
use crate::error::{Error, ErrorKind};
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::mask::Mask;
use crate::rule::{Granularity, Rule};
use crate::source::{Borrowed, InPlace, Input, Source, Streamed, Want};
use crate::structure::{Norm, Structure};
use crate::tensor::{Tensor, TensorMut};
use crate::watch::{Observed, Progress, Watch};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

/// Zero the losers in place, on the best backend that this machine has; the answer does not depend on which.
///
/// The backend is chosen once per process, and once more when its device was lost: a hardware adapter, else the CPU. Build a [`Pruner`] to choose yourself.
///
/// # Errors
/// `NonFinite` for NaN and infinity, `InvalidInput` for an empty tensor or norms that do not fit the rule's score; on a GPU also `Limit`,
/// `OutOfMemory`, `DeviceLost` and `Internal`. The weights are untouched then.
pub fn prune<'a>(weights: impl Into<TensorMut<'a>>, rule: &Rule) -> Result<Decision, Error> {
    with_best(|best| best.prune(&mut [weights.into()], rule))
}

/// As [`prune`], but return the bits and leave the weights alone.
///
/// # Errors
/// As [`prune`].
pub fn mask<'a>(weights: impl Into<Tensor<'a>>, rule: &Rule) -> Result<(Decision, Mask), Error> {
    let (decision, mut masks) = with_best(|best| best.mask(&[weights.into()], rule))?;
    Ok((decision, masks.pop().unwrap_or_default()))
}

/// Call the process's pruner. A device that is lost, when its driver was reset say, stays lost: the next call opens another.
fn with_best<T>(call: impl FnOnce(&Pruner) -> Result<T, Error>) -> Result<T, Error> {
    static BEST: Mutex<Option<Arc<Pruner>>> = Mutex::new(None);
    let cached = || BEST.lock().unwrap_or_else(PoisonError::into_inner);
    let best = cached().get_or_insert_with(|| Arc::new(Pruner::best())).clone();
    let called = call(&best);
    if called.as_ref().is_err_and(|error| error.kind() == ErrorKind::DeviceLost) {
        cached().take_if(|cached| Arc::ptr_eq(cached, &best));
    }
    called
}

/// A backend, ready to work: built once, used from any thread. A device works on one call at a time, and others wait: so neither a [`Source`]
/// nor the callback of [`watched`](Self::watched) may wait for another call of the same pruner, which would wait for its own.
#[derive(Debug)]
pub struct Pruner {
    engine: Engine,
    backend: Backend,
}

/// Who does the work.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Backend {
    /// Plain Rust on this many threads, compiled for this instruction set.
    Cpu {
        /// Threads of the pool.
        threads: usize,
        /// `avx512ifma`, `avx512`, `avx2`, `neon` or `portable`.
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

    /// A GPU: never the CPU in disguise. The contests are decided there, but for those of segments whose length few others have: calls of a device,
    /// one after the other, would take longer. Norms of structures are made, and weights in host memory zeroed, by the processor.
    ///
    /// # Errors
    /// `NoAdapter` when none fits the options, `Limit` when it lacks what WebGPU guarantees, or does not open.
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

    /// The same calls, watched: `watch` is told how far each is, often, and may end it.
    ///
    /// ```
    /// use emprune::{ErrorKind, Pruner, Rule};
    /// use std::ops::ControlFlow;
    ///
    /// let mut weights = vec![3.0f32, -0.1, 2.0, 0.05, -2.5, 0.0];
    /// let before = weights.clone();
    /// let stopped = Pruner::cpu()
    ///     .watched(&mut |progress| if progress.done < progress.len { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    ///     .prune(&mut [(&mut weights).into()], &Rule::new());
    /// assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    /// assert_eq!(weights, before);
    /// ```
    pub fn watched<'a>(&'a self, watch: &'a mut dyn FnMut(Progress) -> ControlFlow<()>) -> Watched<'a> {
        Watched { pruner: self, watch }
    }

    /// Zero the losers in place.
    ///
    /// # Errors
    /// As the function [`prune`]; [`Error::tensor`] says which tensor is at fault. All weights are untouched then.
    pub fn prune(&self, tensors: &mut [TensorMut<'_>], rule: &Rule) -> Result<Decision, Error> {
        check(&mut InPlace::new(tensors), rule)?;
        if !matches!(self.engine, Engine::Cpu) {
            // A device may fail at any time, not at scores alone. Its answers are masks in any case.
            let (decision, masks) = self.mask(&tensors.iter().map(TensorMut::as_tensor).collect::<Vec<_>>(), rule)?;
            zero(tensors, &masks)?;
            return Ok(decision);
        }
        // One contest over one piece looks at every score before it zeroes any; all else could meet a bad score after
        // its first zero. One read more buys that nothing is ever half pruned.
        let one_contest = match rule.granularity {
            Granularity::Global => true,
            Granularity::Tensor => tensors.len() == 1,
            _ => false,
        };
        if !one_contest {
            for (i, tensor) in tensors.iter().enumerate() {
                cpu::check_finite(&tensor.as_tensor().keys(rule.score)).map_err(|bad| bad.error(i, 0))?;
            }
        }
        drive(&self.engine, &mut InPlace::new(tensors), rule)
    }

    /// One mask per tensor; the weights are left alone.
    ///
    /// # Errors
    /// As [`prune`](Self::prune).
    pub fn mask(&self, tensors: &[Tensor<'_>], rule: &Rule) -> Result<(Decision, Vec<Mask>), Error> {
        let mut input = Borrowed::new(tensors);
        let decision = drive(&self.engine, &mut input, rule)?;
        Ok((decision, input.masks))
    }

    /// Zero whole rows, columns, heads or groups in place: each is an entry of the contest, its score a norm of its weights' scores or
    /// a number of the caller's.
    ///
    /// The rule's granularity says whether the structures of one tensor compete or those of all. The contests count structures,
    /// and the masks, one per tensor with a bit per structure, say which are kept.
    ///
    /// # Errors
    /// As [`prune`](Self::prune); `InvalidInput` for another granularity, for heads that do not divide the rows or channels the columns, and for
    /// groups and scores that do not fit the tensors; `NonFinite` for a structure's score that is not finite, or too large for an `f32`. All
    /// weights are untouched then.
    pub fn prune_structures(
        &self,
        tensors: &mut [TensorMut<'_>],
        structure: Structure<'_>,
        norm: Norm<'_>,
        rule: &Rule,
    ) -> Result<(Decision, Vec<Mask>), Error> {
        prune_structures(&self.engine, &mut InPlace::new(tensors), (structure, norm), rule)
    }

    /// As [`prune_structures`](Self::prune_structures), for weights that are read piece by piece: once for their norms, where these are not given, and once to be stored.
    /// Of more structures than [`Source::structure_bytes`] has room for the norms are made in every pass over them.
    ///
    /// # Errors
    /// As it, and as [`stream`](Self::stream).
    pub fn stream_structures(
        &self,
        source: &mut dyn Source,
        structure: Structure<'_>,
        norm: Norm<'_>,
        rule: &Rule,
        want: Want,
    ) -> Result<(Decision, Vec<Mask>), Error> {
        prune_structures(&self.engine, &mut Streamed::new(source, want), (structure, norm), rule)
    }

    /// Decide about structures, and store nothing: the first half of [`stream_structures`](Self::stream_structures). The masks, one per tensor
    /// with a bit per structure, say which are kept.
    ///
    /// # Errors
    /// As it.
    pub fn decide_structures(
        &self,
        source: &mut dyn Source,
        structure: Structure<'_>,
        norm: Norm<'_>,
        rule: &Rule,
    ) -> Result<(Decision, Vec<Mask>), Error> {
        decide_structures(&self.engine, &mut Streamed::looked_at(source), (structure, norm), rule)
    }

    /// Carry out what was decided about structures: the second half of [`stream_structures`](Self::stream_structures). Everything is read once,
    /// and stored. Tensors that competed together may be carried out one by one, each with its own mask.
    ///
    /// # Errors
    /// `InvalidInput` when the masks are not as many as the tensors, or not as long as they have structures; and as
    /// [`stream`](Self::stream).
    pub fn carry_out_structures(
        &self,
        source: &mut dyn Source,
        structure: Structure<'_>,
        rule: &Rule,
        masks: &[Mask],
        want: Want,
    ) -> Result<(), Error> {
        carry_out_structures(&mut Streamed::new(source, want), structure, rule, masks)
    }

    /// Decide about weights that are read piece by piece, several times over, and carry the decision out on each piece.
    ///
    /// # Errors
    /// As [`prune`](Self::prune), and `Io` when the source fails. Ranges that were stored before the error stay stored: a
    /// source that writes somewhere must be able to throw that away.
    pub fn stream(&self, source: &mut dyn Source, rule: &Rule, want: Want) -> Result<Decision, Error> {
        drive(&self.engine, &mut Streamed::new(source, want), rule)
    }

    /// Decide about weights that are read piece by piece, and store nothing: the first half of [`stream`](Self::stream).
    ///
    /// # Errors
    /// As it.
    pub fn decide(&self, source: &mut dyn Source, rule: &Rule) -> Result<Decision, Error> {
        drive(&self.engine, &mut Streamed::looked_at(source), rule)
    }

    /// Carry out what was decided: the second half of [`stream`](Self::stream). Everything is read once, and stored. `groups` are those of the
    /// [`Decision`] about these weights under this rule; of each, `len`, `threshold` and `cut` say what is kept.
    ///
    /// The tensors of a [`Granularity::Global`] contest may be carried out one by one, each as a contest of its own: with its own `len`, and with
    /// the entries before it taken off the `cut`.
    ///
    /// # Errors
    /// `InvalidInput` when the groups are not as many or not as long as the contests, or have a threshold that is no score, and as
    /// [`stream`](Self::stream), but that scores are compared and no more: one that is no number is above every threshold, and no error.
    pub fn carry_out(&self, source: &mut dyn Source, rule: &Rule, groups: &[Group], want: Want) -> Result<(), Error> {
        carry_out(&mut Streamed::new(source, want), rule, groups)
    }
}

fn prune_structures(
    engine: &Engine,
    input: &mut dyn Input,
    (structure, norm): (Structure<'_>, Norm<'_>),
    rule: &Rule,
) -> Result<(Decision, Vec<Mask>), Error> {
    let (decision, masks) = decide_structures(engine, input, (structure, norm), rule)?;
    carry_out_structures(input, structure, rule, &masks)?;
    Ok((decision, masks))
}

/// Carry masks out.
fn zero(tensors: &mut [TensorMut<'_>], masks: &[Mask]) -> Result<(), Error> {
    tensors.iter_mut().zip(masks).try_for_each(|(tensor, mask)| {
        let dtype = tensor.dtype();
        mask.apply(TensorMut::from_bytes(tensor.bytes_mut(), dtype)?)
    })
}

/// A [`Pruner`] whose calls are watched; see [`Pruner::watched`].
pub struct Watched<'a> {
    pruner: &'a Pruner,
    watch: &'a mut Watch<'a>,
}

impl fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("pruner", self.pruner).finish_non_exhaustive()
    }
}

impl Watched<'_> {
    /// As [`Pruner::prune`]. All is decided before the first zero is written, which takes a bit of memory per weight; from then
    /// on nobody is asked any more. So the weights are pruned altogether or, after any error, not at all.
    ///
    /// # Errors
    /// As it, and `Cancelled`.
    pub fn prune(&mut self, tensors: &mut [TensorMut<'_>], rule: &Rule) -> Result<Decision, Error> {
        let borrowed: Vec<_> = tensors.iter().map(TensorMut::as_tensor).collect();
        let (decision, masks) = self.mask(&borrowed, rule)?;
        zero(tensors, &masks)?;
        Ok(decision)
    }

    /// As [`Pruner::mask`].
    ///
    /// # Errors
    /// As it, and `Cancelled`.
    pub fn mask(&mut self, tensors: &[Tensor<'_>], rule: &Rule) -> Result<(Decision, Vec<Mask>), Error> {
        let mut input = Borrowed::new(tensors);
        let mut observed = Observed::new(&mut input, self.watch);
        let result = drive(&self.pruner.engine, &mut observed, rule);
        let decision = observed.finish(result)?;
        Ok((decision, input.masks))
    }

    /// As [`Pruner::stream`].
    ///
    /// # Errors
    /// As it, and `Cancelled`: ranges that were stored by then stay stored.
    pub fn stream(&mut self, source: &mut dyn Source, rule: &Rule, want: Want) -> Result<Decision, Error> {
        self.observe(&mut Streamed::new(source, want), |engine, input| drive(engine, input, rule))
    }

    /// As [`Pruner::stream_structures`].
    ///
    /// # Errors
    /// As it, and `Cancelled`: ranges that were stored by then stay stored.
    pub fn stream_structures(
        &mut self,
        source: &mut dyn Source,
        structure: Structure<'_>,
        norm: Norm<'_>,
        rule: &Rule,
        want: Want,
    ) -> Result<(Decision, Vec<Mask>), Error> {
        let question = (structure, norm);
        self.observe(&mut Streamed::new(source, want), |engine, input| prune_structures(engine, input, question, rule))
    }

    /// As [`Pruner::decide`]. `done` stands still to the end.
    ///
    /// # Errors
    /// As it, and `Cancelled`.
    pub fn decide(&mut self, source: &mut dyn Source, rule: &Rule) -> Result<Decision, Error> {
        self.observe(&mut Streamed::looked_at(source), |engine, input| drive(engine, input, rule))
    }

    /// As [`Pruner::carry_out`].
    ///
    /// # Errors
    /// As it, and `Cancelled`: ranges that were stored by then stay stored.
    pub fn carry_out(
        &mut self,
        source: &mut dyn Source,
        rule: &Rule,
        groups: &[Group],
        want: Want,
    ) -> Result<(), Error> {
        self.observe(&mut Streamed::new(source, want), |_, input| carry_out(input, rule, groups))
    }

    /// As [`Pruner::decide_structures`]. `done` stands still to the end.
    ///
    /// # Errors
    /// As it, and `Cancelled`.
    pub fn decide_structures(
        &mut self,
        source: &mut dyn Source,
        structure: Structure<'_>,
        norm: Norm<'_>,
        rule: &Rule,
    ) -> Result<(Decision, Vec<Mask>), Error> {
        let question = (structure, norm);
        self.observe(&mut Streamed::looked_at(source), |engine, input| decide_structures(engine, input, question, rule))
    }

    /// As [`Pruner::carry_out_structures`].
    ///
    /// # Errors
    /// As it, and `Cancelled`: ranges that were stored by then stay stored.
    pub fn carry_out_structures(
        &mut self,
        source: &mut dyn Source,
        structure: Structure<'_>,
        rule: &Rule,
        masks: &[Mask],
        want: Want,
    ) -> Result<(), Error> {
        self.observe(&mut Streamed::new(source, want), |_, input| carry_out_structures(input, structure, rule, masks))
    }

    fn observe<T>(
        &mut self,
        input: &mut dyn Input,
        work: impl FnOnce(&Engine, &mut dyn Input) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut observed = Observed::new(input, self.watch);
        let result = work(&self.pruner.engine, &mut observed);
        observed.finish(result)
    }
}
