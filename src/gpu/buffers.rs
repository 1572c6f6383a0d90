//! The buffers of a caller's program: what a job reads and writes of them, and what may not be.

use super::plan::Plan;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::plan;
use crate::rule::Score;
use crate::tensor::TensorSpec;

/// The caller's buffers; any sub-range at a legal offset will do. Sizes may be larger than what the plan asks for: bytes
/// outside are never written. Masks, records and workspace may be parts of one buffer, weights of another, norms and scores of a third, keys
/// of a fourth: WebGPU allows no dispatch to read one part of a buffer and to write another.
#[derive(Clone, Debug)]
pub struct Buffers<'a> {
    /// One for each slice of the plan.
    pub slices: &'a [SliceBuffers<'a>],
    /// `STORAGE`: receives one [`Record`](super::Record) per contest.
    pub records: wgpu::BufferBinding<'a>,
    /// `STORAGE | COPY_DST`: scratch with any content; may be shared by jobs that run one after the other.
    pub workspace: wgpu::BufferBinding<'a>,
    /// `STORAGE`: more such scratch, where [`Plan::keys_bytes`] asks for it: contests that are columns or blocks are laid end to end there.
    pub keys: Option<wgpu::BufferBinding<'a>>,
}

/// The buffers of one slice.
#[derive(Clone, Debug)]
pub struct SliceBuffers<'a> {
    /// `STORAGE`: the weights, little-endian; those of 8 and 16 bits rounded up to whole words.
    pub weights: wgpu::BufferBinding<'a>,
    /// `STORAGE`: one `f32` per column, for [`Score::Wanda`]; they must be finite, their sign is ignored.
    pub norms: Option<wgpu::BufferBinding<'a>>,
    /// `STORAGE`: one score per weight, for [`Score::Given`], stored as [`TensorSpec::scores`] says, in whole words. They may lie in the weights' buffer, or
    /// be the weights themselves; nothing else that is read may share bytes with what is written.
    pub scores: Option<wgpu::BufferBinding<'a>>,
    /// `STORAGE`: receives one bit per entry, entry `i` at bit `i % 32` of word `i / 32`. Of the last word the bits behind the last entry become
    /// zeros, unless its contest has a score that is no number: then all bits of that contest stay what they were.
    pub mask: wgpu::BufferBinding<'a>,
}

/// What the contests of a slice have to themselves.
#[derive(Clone)]
pub(super) struct Own<'a> {
    /// What is judged: weights, scores or keys.
    pub(super) judged: wgpu::BufferBinding<'a>,
    pub(super) norms: Option<wgpu::BufferBinding<'a>>,
    /// What is zeroed, and how that is stored.
    pub(super) zeroed: Option<(wgpu::BufferBinding<'a>, Dtype)>,
    pub(super) mask: wgpu::BufferBinding<'a>,
    pub(super) records: wgpu::BufferBinding<'a>,
}

impl Plan {
    /// A slice's buffers, each cut down to what is needed of it.
    pub(super) fn own<'a>(
        &self,
        spec: &TensorSpec,
        b: &SliceBuffers<'a>,
        records: &wgpu::BufferBinding<'a>,
        align: u64,
    ) -> Result<Own<'a>, Error> {
        let storage = wgpu::BufferUsages::STORAGE;
        let score = self.rule.score;
        let weights = check("weights", &b.weights, plan::weight_bytes(spec.len, spec.dtype), storage, align)?;
        let mask = check("mask", &b.mask, plan::mask_bytes(spec.len), storage, align)?;
        let beside = |what: &str, wanted: bool, binding: &Option<wgpu::BufferBinding<'a>>, bytes: u64| match binding {
            Some(binding) if wanted => check(what, binding, bytes, storage, align).map(Some),
            None if wanted => Err(Error::invalid(format!("the score is {score} and the slice has no {what}"))),
            Some(_) => Err(Error::invalid(format!("the score is {score} and the slice has {what}"))),
            None => Ok(None),
        };
        let norms = beside("norms", score == Score::Wanda, &b.norms, spec.row_len * 4)?;
        let score_bytes = plan::weight_bytes(spec.len, spec.key_dtype(score));
        let scores = beside("scores", score == Score::Given, &b.scores, score_bytes)?;
        Ok(Own {
            judged: scores.unwrap_or_else(|| weights.clone()),
            norms,
            zeroed: Some((weights, spec.dtype)),
            mask,
            records: records.clone(),
        })
    }

    /// What is written must not share bytes: a decision would read what another one wrote.
    pub(super) fn check_overlaps(&self, buffers: &Buffers<'_>) -> Result<(), Error> {
        let mut written = vec![
            ("records".to_owned(), &buffers.records, self.records_bytes()),
            ("workspace".to_owned(), &buffers.workspace, self.workspace_bytes()),
        ];
        written.extend(buffers.keys.as_ref().map(|keys| ("keys".to_owned(), keys, self.keys_bytes())));
        for (i, (slice, spec)) in buffers.slices.iter().zip(&self.slices).enumerate() {
            written.push((format!("mask of slice {i}"), &slice.mask, plan::mask_bytes(spec.len)));
            written.push((format!("weights of slice {i}"), &slice.weights, plan::weight_bytes(spec.len, spec.dtype)));
        }
        // Norms may be shared; what is written before another slice reads them is none.
        for (i, (slice, spec)) in buffers.slices.iter().zip(&self.slices).enumerate() {
            let Some(norms) = &slice.norms else { continue };
            let end = norms.offset + spec.row_len * 4;
            let is_in = |(_, b, bytes): &&(String, &wgpu::BufferBinding<'_>, u64)| {
                b.buffer == norms.buffer && b.offset < end && norms.offset < b.offset + bytes
            };
            if let Some((what, b, bytes)) = written.iter().find(is_in) {
                return Err(Error::invalid(format!(
                    "the norms binding, from {}, overlaps the {what} binding, of {bytes} bytes from {}",
                    norms.offset, b.offset
                ))
                .of_tensor(i));
            }
        }
        // Neighbours in a buffer are neighbours in this order.
        written.sort_by_key(|(_, binding, _)| (binding.buffer, binding.offset));
        for pair in written.windows(2) {
            let [(one, a, bytes), (other, b, _)] = pair else { continue };
            if a.buffer == b.buffer && a.offset + bytes > b.offset {
                return Err(Error::invalid(format!(
                    "the {one} binding, of {bytes} bytes from {}, overlaps the {other} binding, from {}",
                    a.offset, b.offset
                )));
            }
        }
        Ok(())
    }
}

impl Buffers<'_> {
    /// A dispatch that reads some of a buffer and writes another part of it is what WebGPU forbids.
    pub(super) fn check_usages(&self) -> Result<(), Error> {
        let written = |buffer: &wgpu::Buffer| {
            let keys = self.keys.as_ref().map(|keys| ("keys", keys.buffer));
            let masks = self.slices.iter().map(|s| ("mask", s.mask.buffer));
            let all = masks.chain(keys).chain([("records", self.records.buffer), ("workspace", self.workspace.buffer)]);
            all.into_iter().find(|(_, written)| *written == buffer).map(|(what, _)| what)
        };
        if self.keys.as_ref().is_some_and(|keys| keys.buffer == self.workspace.buffer) {
            return Err(Error::invalid(
                "the keys share a buffer with the workspace, which is written while they are read",
            ));
        }
        for (i, slice) in self.slices.iter().enumerate() {
            if slice.norms.as_ref().is_some_and(|norms| norms.buffer == slice.weights.buffer) {
                return Err(Error::invalid("the norms share a buffer with the weights, which are written").of_tensor(i));
            }
            for (what, binding) in
                [("weights", Some(&slice.weights)), ("norms", slice.norms.as_ref()), ("scores", slice.scores.as_ref())]
            {
                if let Some(other) = binding.and_then(|b| written(b.buffer)) {
                    let message = format!("the {what} share a buffer with the {other}, which is written meanwhile");
                    return Err(Error::invalid(message).of_tensor(i));
                }
            }
        }
        Ok(())
    }
}

/// Some bytes of a binding.
pub(super) fn part<'a>(binding: &wgpu::BufferBinding<'a>, at: u64, bytes: u64) -> wgpu::BufferBinding<'a> {
    wgpu::BufferBinding { buffer: binding.buffer, offset: binding.offset + at, size: wgpu::BufferSize::new(bytes) }
}

/// The binding, cut down to the bytes that are needed.
pub(super) fn check<'a>(
    what: &str,
    binding: &wgpu::BufferBinding<'a>,
    bytes: u64,
    usage: wgpu::BufferUsages,
    align: u64,
) -> Result<wgpu::BufferBinding<'a>, Error> {
    let rest = binding.buffer.size().saturating_sub(binding.offset);
    let had = binding.size.map_or(rest, |size| size.get().min(rest));
    if had < bytes {
        return Err(Error::invalid(format!("the {what} binding has {had} bytes, the plan needs {bytes}")));
    }
    if !binding.offset.is_multiple_of(align) {
        return Err(Error::invalid(format!("the {what} binding begins at {}, no multiple of {align}", binding.offset)));
    }
    if !binding.buffer.usage().contains(usage) {
        return Err(Error::invalid(format!(
            "the {what} buffer has usage {:?}, it needs {usage:?}",
            binding.buffer.usage()
        )));
    }
    Ok(wgpu::BufferBinding { buffer: binding.buffer, offset: binding.offset, size: wgpu::BufferSize::new(bytes) })
}
