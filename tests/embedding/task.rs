//! The caller's buffers, and a job bound to them.

use crate::common;
use crate::common::check::{check_mask, check_pruned};
use crate::common::inputs::Rng;
use crate::common::oracle::{self, Answer, Contests, Question, Weights};
use crate::devices::{EVERYTHING, Gpu, turns};
use emprune::TensorSpec;
use emprune::gpu::wgpu::{self, BufferUsages};
use emprune::gpu::{Buffers, Job, Plan, Record, SliceBuffers};
use std::ops::Range;

/// A buffer of the caller's in which more lives than what a job is lent: everything else is poison.
pub(crate) struct Arena {
    /// What was uploaded last.
    pub(crate) bytes: Vec<u8>,
    pub(crate) lent: Vec<Range<usize>>,
    pub(crate) align: usize,
}

impl Arena {
    pub(crate) fn new(align: usize) -> Self {
        Self { bytes: Vec::new(), lent: Vec::new(), align }
    }

    /// A range at a legal offset, with poison before and behind it.
    pub(crate) fn lend(&mut self, len: usize) -> Range<usize> {
        let mut start = (self.bytes.len() + 1).next_multiple_of(self.align);
        if self.align < 256 && start.is_multiple_of(256) {
            start += self.align; // where the device allows less than 256, less it is
        }
        let range = start..start + len;
        let seed = start as u64;
        self.fill_poison(range.end + 3, seed);
        self.lent.push(range.clone());
        range
    }

    pub(crate) fn place(&mut self, bytes: &[u8]) -> Range<usize> {
        let range = self.lend(bytes.len());
        self.bytes[range.clone()].copy_from_slice(bytes);
        range
    }

    pub(crate) fn fill_poison(&mut self, up_to: usize, seed: u64) {
        let mut rng = Rng(seed);
        self.bytes.resize_with(up_to.next_multiple_of(4), || rng.next() as u8);
    }

    /// Other poison everywhere; ranges stay lent.
    pub(crate) fn poison_again(&mut self, seed: u64) {
        let len = self.bytes.len();
        self.bytes.clear();
        self.fill_poison(len, seed);
    }

    /// Every byte that was not lent is what it was.
    pub(crate) fn check(&self, what: &str, now: &[u8]) -> Result<(), String> {
        let is_lent = |at: usize| self.lent.iter().any(|range| range.contains(&at));
        match (0..self.bytes.len()).find(|&at| now[at] != self.bytes[at] && !is_lent(at)) {
            Some(at) => Err(format!(
                "byte {at} of the {what} was {:#04x} and is {:#04x}; lent were {:?}",
                self.bytes[at], now[at], self.lent
            )),
            None => Ok(()),
        }
    }
}

/// A range of a buffer, and no byte more.
pub(crate) fn part<'a>(buffer: &'a wgpu::Buffer, range: &Range<usize>) -> wgpu::BufferBinding<'a> {
    let size = (range.len() as u64).next_multiple_of(4); // bindings are whole words
    wgpu::BufferBinding { buffer, offset: range.start as u64, size: wgpu::BufferSize::new(size) }
}

pub(crate) fn spec(weights: &Weights) -> TensorSpec {
    TensorSpec::new(common::dtype(weights.kind), weights.len() as u64, weights.row_len as u64).unwrap()
}

/// What a plan is told of them.
pub(crate) fn specs(tensors: &[Weights], question: &Question) -> Vec<TensorSpec> {
    let spec = |w: &Weights| match w.scores.as_ref().filter(|_| question.given) {
        Some(scores) => spec(w).with_scores(common::dtype(scores.kind)),
        None => spec(w),
    };
    tensors.iter().map(spec).collect()
}

/// A job of the caller's, bound to sub-ranges of the caller's buffers.
pub(crate) struct Task<'t> {
    pub(crate) gpu: &'t Gpu,
    pub(crate) tensors: &'t [Weights],
    pub(crate) plan: Plan,
    pub(crate) job: Job,
    pub(crate) weights: (Arena, wgpu::Buffer, Vec<Range<usize>>),
    /// Masks, records and, unless it is shared, the workspace.
    pub(crate) results: (Arena, wgpu::Buffer),
    /// Room for keys, where some is asked for.
    pub(crate) keys: (Arena, wgpu::Buffer),
    pub(crate) masks: Vec<Range<usize>>,
    pub(crate) records: Range<usize>,
}

impl<'t> Task<'t> {
    pub(crate) fn new(gpu: &'t Gpu, tensors: &'t [Weights], question: &Question) -> Self {
        Self::with(gpu, tensors, question, None, false)
    }

    /// Bind to a shared workspace, or to exactly as many bytes as the plan asks for.
    pub(crate) fn with(
        gpu: &'t Gpu,
        tensors: &'t [Weights],
        question: &Question,
        workspace: Option<&wgpu::Buffer>,
        mass: bool,
    ) -> Self {
        let plan =
            gpu.kernels.plan(&specs(tensors, question), &common::rule(question)).unwrap().with_mass(mass).unwrap();
        gpu.kernels.warm_up(&plan);
        let mut arena = Arena::new(gpu.align());
        let ranges: Vec<_> = tensors.iter().map(|w| arena.place(&w.bytes)).collect();
        let weights_buffer = gpu.buffer(&arena.bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC);

        let mut results = Arena::new(gpu.align());
        let masks: Vec<_> = (0..tensors.len()).map(|i| results.lend(plan.mask_bytes(i).unwrap() as usize)).collect();
        let records = results.lend(plan.records_bytes() as usize);
        let scratch = results.lend(if workspace.is_some() { 4 } else { plan.workspace_bytes() as usize });
        let results_buffer = gpu.buffer(&results.bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC);

        let mut keys = Arena::new(gpu.align());
        let key_range = Some(plan.keys_bytes()).filter(|&bytes| bytes > 0).map(|bytes| keys.lend(bytes as usize));
        let keys_buffer =
            gpu.buffer(&[&keys.bytes[..], &[0; 4]].concat(), BufferUsages::STORAGE | BufferUsages::COPY_SRC);

        // What is only read: norms and scores.
        let mut beside = Arena::new(gpu.align());
        let norms = tensors.iter().map(|w| w.norms.as_ref().filter(|_| question.wanda));
        let norms: Vec<_> = norms.map(|n| n.map(|n| beside.place(bytemuck::cast_slice(n)))).collect();
        let scores = tensors.iter().map(|w| w.scores.as_ref().filter(|_| question.given));
        let scores: Vec<_> = scores.map(|s| s.map(|s| beside.place(&s.bytes))).collect();
        let beside = gpu.buffer(&[&beside.bytes[..], &[0; 4]].concat(), BufferUsages::STORAGE);

        let slices: Vec<SliceBuffers<'_>> = (0..tensors.len())
            .map(|i| SliceBuffers {
                weights: part(&weights_buffer, &ranges[i]),
                norms: norms[i].as_ref().map(|range| part(&beside, range)),
                scores: scores[i].as_ref().map(|range| part(&beside, range)),
                mask: part(&results_buffer, &masks[i]),
            })
            .collect();
        let workspace =
            workspace.map_or_else(|| part(&results_buffer, &scratch), |shared| shared.as_entire_buffer_binding());
        let key_binding = key_range.map(|range| part(&keys_buffer, &range));
        let records_binding = part(&results_buffer, &records);
        let buffers = Buffers { slices: &slices, records: records_binding, workspace, keys: key_binding };
        let job = gpu.kernels.bind(&plan, &buffers).unwrap();
        Self {
            gpu,
            tensors,
            plan,
            job,
            weights: (arena, weights_buffer, ranges),
            results: (results, results_buffer),
            keys: (keys, keys_buffer),
            masks,
            records,
        }
    }

    /// The caller writes its weights again, and other poison over everything else that the job may write.
    pub(crate) fn reset(&mut self, seed: u64) {
        self.gpu.queue.write_buffer(&self.weights.1, 0, &self.weights.0.bytes);
        self.results.0.poison_again(seed);
        self.gpu.queue.write_buffer(&self.results.1, 0, &self.results.0.bytes);
    }

    pub(crate) fn look(&self) -> Seen {
        pollster::block_on(self.seen())
    }

    /// As [`Task::look`], where nothing can wait.
    pub(crate) async fn seen(&self) -> Seen {
        let weights = self.gpu.bytes_of(&self.weights.1).await;
        let results = self.gpu.bytes_of(&self.results.1).await;
        let keys = self.gpu.bytes_of(&self.keys.1).await;
        let outside = self.weights.0.check("buffer of weights", &weights);
        let outside = outside.and_then(|()| self.results.0.check("buffer of results", &results));
        let outside = outside.and_then(|()| self.keys.0.check("buffer of keys", &keys));
        Seen {
            outside,
            weights: self.weights.2.iter().map(|range| weights[range.clone()].to_vec()).collect(),
            masks: self.masks.iter().map(|range| results[range.clone()].to_vec()).collect(),
            records: results[self.records.clone()]
                .chunks_exact(size_of::<Record>())
                .map(bytemuck::pod_read_unaligned)
                .collect(),
        }
    }

    /// What the job left is what the oracle says.
    pub(crate) fn check(&self, want: &Answer, pruned: bool) {
        let seen = self.look();
        self.check_seen(&seen, want, pruned).unwrap_or_else(|wrong| self.fail(&wrong));
    }

    pub(crate) fn check_seen(&self, seen: &Seen, want: &Answer, pruned: bool) -> Result<(), String> {
        seen.outside.clone()?;
        if self.plan.group_count() != want.contests.len() as u64 || seen.records.len() != want.contests.len() {
            return Err(format!("{} records for {} contests", seen.records.len(), want.contests.len()));
        }
        for (i, (record, contest)) in seen.records.iter().zip(&want.contests).enumerate() {
            let got = (record.status, record.degenerate, record.kept(), record.threshold);
            let want = (0, u32::from(contest.degenerate), contest.kept as u64, contest.threshold.to_bits());
            if got != want {
                return Err(format!("record {i}: status, degenerate, kept, threshold are {got:x?}, must be {want:x?}"));
            }
            let ties = contest.scores.iter().filter(|s| **s >= contest.threshold).count();
            if (record.cut_span == Record::NO_CUT) != (ties == contest.kept) {
                return Err(format!(
                    "record {i}: cut_span is {}, and {ties} scores reach the threshold",
                    record.cut_span
                ));
            }
        }
        for (t, weights) in self.tensors.iter().enumerate() {
            let of_slice = |wrong| format!("slice {t}: {wrong}");
            let (bits, unused) = seen.masks[t].split_at(weights.len().div_ceil(8));
            check_mask(&want.masks[t], bits).map_err(of_slice)?;
            if unused.iter().any(|&byte| byte != 0) {
                return Err(of_slice(format!("bits past the end of the mask: {unused:02x?}")));
            }
            if pruned {
                check_pruned(weights, &want.masks[t], &seen.weights[t]).map_err(of_slice)?;
            } else if seen.weights[t] != weights.bytes {
                return Err(of_slice("weights changed, and only a mask was asked for".to_owned()));
            }
        }
        Ok(())
    }

    pub(crate) fn fail(&self, wrong: &str) -> ! {
        let labels: Vec<&str> = self.tensors.iter().map(|w| w.label.as_str()).collect();
        panic!("{}: {:?} of {labels:?}: {wrong}", self.gpu.name, self.plan)
    }
}

/// What the caller's buffers hold after a job.
pub(crate) struct Seen {
    /// Whether everything that was not lent is what it was.
    pub(crate) outside: Result<(), String>,
    pub(crate) weights: Vec<Vec<u8>>,
    pub(crate) masks: Vec<Vec<u8>>,
    pub(crate) records: Vec<Record>,
}

/// On every device: the losers are zeroed. And where the limits are tight: a mask first, by the same job.
pub(crate) fn ask(tensors: &[Weights], question: &Question) {
    let want = oracle::answer(tensors, question).unwrap();
    // Small tests ask one device of two.
    let mine = |i: &usize| !common::small() || (tensors[0].len() + i).is_multiple_of(2);
    for (_, turn) in turns().enumerate().filter(|(i, _)| mine(i)) {
        ask_one(turn.gpu, tensors, question, &want);
    }
}

pub(crate) fn ask_one(gpu: &Gpu, tensors: &[Weights], question: &Question, want: &Answer) {
    let mut task = Task::new(gpu, tensors, question);
    if !gpu.name.ends_with(EVERYTHING) {
        gpu.submit(|encoder| task.job.record_mask(encoder));
        task.check(want, false);
        task.reset(1);
    }
    gpu.submit(|encoder| task.job.record_prune(encoder));
    task.check(want, true);
}

pub(crate) fn question(contests: Contests, wanda: bool, beta: f64) -> Question {
    Question { contests, wanda, beta, ..Question::RULE }
}
