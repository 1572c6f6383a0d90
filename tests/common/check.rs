//! Running a backend, and comparing what it says with what the oracle says.
//!
//! Every check returns what is wrong as text, so that `tests/harness_can_fail.rs` can show that it notices.

use super::oracle::{self, Answer, BOUND_BITS, Bad, Question, Refusal, Weights};
use super::{Named, dtype, rule};
use emprune::{Decision, Error, ErrorKind, Group, Mask, Tensor, TensorMut};
use num_bigint::BigUint;

/// What a backend said, as plain values that a negative control can damage.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) groups: Vec<Group>,
    pub(crate) kept: u64,
    pub(crate) len: u64,
    /// Per tensor: packed bits.
    pub(crate) masks: Vec<Vec<u8>>,
    /// Per tensor: the bytes after pruning.
    pub(crate) pruned: Vec<Vec<u8>>,
}

impl Outcome {
    pub(crate) fn new(decision: &Decision, masks: &[Mask], pruned: Vec<Vec<u8>>) -> Self {
        let masks = masks.iter().map(|m| m.as_bytes().to_vec()).collect();
        Self { groups: decision.groups().to_vec(), kept: decision.kept(), len: decision.entries(), masks, pruned }
    }
}

/// Fills the room around weights: as f32, f16 and bf16 a number that no backend may take into a contest or write over.
const SENTINEL: u8 = 0x5a;

/// Bytes of room on each side; a word that a backend reads or writes too much would lie there.
const ROOM: usize = 64;

/// A copy of some bytes that starts `offset` bytes past an aligned address, with sentinels on both sides.
pub(crate) struct Guarded {
    pub(crate) buffer: Vec<u8>,
    start: usize,
    len: usize,
}

impl Guarded {
    pub(crate) fn new(bytes: &[u8], offset: usize) -> Self {
        let mut buffer = vec![SENTINEL; bytes.len() + 3 * ROOM];
        let start = buffer.as_ptr().align_offset(ROOM) + ROOM + offset % ROOM;
        buffer[start..start + bytes.len()].copy_from_slice(bytes);
        Self { buffer, start, len: bytes.len() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len]
    }

    /// Nothing outside was touched.
    pub(crate) fn check(&self) -> Result<(), String> {
        let outside = self.buffer[..self.start].iter().chain(&self.buffer[self.start + self.len..]);
        expect(outside.copied().all(|b| b == SENTINEL), || "bytes outside the tensor were written".to_owned())
    }
}

/// Ask for a mask and have a copy pruned. The two must tell the same, and leave alone what is not theirs.
///
/// The bytes lie at the odd and even addresses that files give them.
pub(crate) fn run(backend: &Named, tensors: &[Weights], question: &Question) -> Result<Outcome, Error> {
    let rule = rule(question);
    let mut copies: Vec<Guarded> = guarded(tensors);
    let inputs: Vec<Tensor<'_>> = tensors.iter().zip(&copies).map(|(w, copy)| tensor(w, copy.bytes())).collect();
    let (decision, masks) = backend.pruner.mask(&inputs, &rule)?;
    for (weights, copy) in tensors.iter().zip(&copies) {
        assert!(copy.bytes() == weights.bytes, "{}: asking for a mask changed the weights", weights.label);
    }
    let mut outputs: Vec<TensorMut<'_>> =
        tensors.iter().zip(&mut copies).map(|(w, copy)| tensor_mut(w, copy.bytes_mut())).collect();
    let again = backend.pruner.prune(&mut outputs, &rule)?;
    assert_eq!(decision, again, "{}: the same question, asked as a mask and as pruning", tensors[0].label);
    for copy in &copies {
        copy.check().unwrap();
    }
    Ok(Outcome::new(&decision, &masks, copies.iter().map(|copy| copy.bytes().to_vec()).collect()))
}

/// Copies at addresses that differ from tensor to tensor and from case to case.
pub(crate) fn guarded(tensors: &[Weights]) -> Vec<Guarded> {
    tensors.iter().enumerate().map(|(i, w)| Guarded::new(&w.bytes, 1 + i + w.bytes.len() / w.kind.size())).collect()
}

pub(crate) fn tensor<'a>(weights: &'a Weights, bytes: &'a [u8]) -> Tensor<'a> {
    let tensor = Tensor::from_bytes(bytes, dtype(weights.kind)).unwrap().with_row_len(weights.row_len as u64).unwrap();
    let tensor = match &weights.norms {
        Some(norms) => tensor.with_norms(norms).unwrap(),
        None => tensor,
    };
    let tensor = match &weights.scores {
        Some(scores) => tensor.with_scores(Tensor::from_bytes(&scores.bytes, dtype(scores.kind)).unwrap()).unwrap(),
        None => tensor,
    };
    match &weights.segments {
        Some(lens) => tensor.with_segments(lens).unwrap(),
        None => tensor,
    }
}

pub(crate) fn tensor_mut<'a>(weights: &'a Weights, bytes: &'a mut [u8]) -> TensorMut<'a> {
    let tensor =
        TensorMut::from_bytes(bytes, dtype(weights.kind)).unwrap().with_row_len(weights.row_len as u64).unwrap();
    let tensor = match &weights.norms {
        Some(norms) => tensor.with_norms(norms).unwrap(),
        None => tensor,
    };
    let tensor = match &weights.scores {
        Some(scores) => tensor.with_scores(Tensor::from_bytes(&scores.bytes, dtype(scores.kind)).unwrap()).unwrap(),
        None => tensor,
    };
    match &weights.segments {
        Some(lens) => tensor.with_segments(lens).unwrap(),
        None => tensor,
    }
}

// ---- the checks

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<(), String> {
    expect(got == want, || format!("{what} is {got:?}, must be {want:?}"))
}

/// Everything that the rule promises.
pub(crate) fn check(tensors: &[Weights], want: &Answer, got: &Outcome) -> Result<(), String> {
    equal("the number of contests", got.groups.len(), want.contests.len())?;
    equal("the number of masks", got.masks.len(), tensors.len())?;
    equal("the number of tensors", got.pruned.len(), tensors.len())?;
    equal("kept of all", got.kept, want.contests.iter().map(|c| c.kept as u64).sum())?;
    equal("len of all", got.len, want.contests.iter().map(|c| c.scores.len() as u64).sum())?;
    for (i, (want, got)) in want.contests.iter().zip(&got.groups).enumerate() {
        check_group(want, got).map_err(|wrong| format!("contest {i} of {}: {wrong}", want.scores.len()))?;
    }
    for (t, weights) in tensors.iter().enumerate() {
        let wrong = |wrong| format!("tensor {t} ({}): {wrong}", weights.label);
        check_mask(&want.masks[t], &got.masks[t]).map_err(wrong)?;
        check_pruned(weights, &want.masks[t], &got.pruned[t]).map_err(wrong)?;
    }
    Ok(())
}

/// One contest.
pub(crate) fn check_group(want: &oracle::Contest, got: &Group) -> Result<(), String> {
    equal("len", got.len, want.scores.len() as u64)?;
    equal("kept", got.kept, want.kept as u64)?;
    equal("degenerate", got.degenerate, want.degenerate)?;
    expect(got.threshold.to_bits() == want.threshold.to_bits(), || {
        format!("threshold is {:e}, must be {:e}", got.threshold, want.threshold)
    })?;
    check_cut(want, got)?;
    check_ulp("n_eff", got.n_eff, want.n_eff)?;
    check_ulp("mass", got.mass, want.mass)?;
    check_bound(&want.bound, got.mass_bound)
}

/// Threshold and cut, taken at their word, give the winners.
pub(crate) fn check_cut(want: &oracle::Contest, got: &Group) -> Result<(), String> {
    expect(got.cut <= got.len, || format!("cut {} is past the end", got.cut))?;
    for (i, (&score, &wins)) in want.scores.iter().zip(&want.winners).enumerate() {
        let kept = score > got.threshold || (score == got.threshold && (i as u64) < got.cut);
        expect(kept == wins, || {
            format!("threshold {:e} and cut {} are wrong about entry {i}", got.threshold, got.cut)
        })?;
    }
    Ok(())
}

/// Rounded from the exact value: the same f64, or its neighbour.
pub(crate) fn check_ulp(what: &str, got: f64, want: f64) -> Result<(), String> {
    let near = got.is_sign_positive() && got.to_bits().abs_diff(want.to_bits()) <= 1;
    expect(near, || format!("{what} is {got:?}, must be {want:?} to one unit in the last place"))
}

/// Never above the exact certificate, at most 1e-12 below it.
pub(crate) fn check_bound(want: &oracle::Bound, got: f64) -> Result<(), String> {
    expect((0.0..=1.0).contains(&got), || format!("the bound {got:?} is no share"))?;
    if want.high == BigUint::ZERO {
        return equal("the bound", got.to_bits(), 0);
    }
    // The f64 as a fixed-point number.
    let (integer, power) = (got.to_bits() & ((1 << 52) - 1) | 1 << 52, (got.to_bits() >> 52) as i64 - 1075);
    let places = power + BOUND_BITS as i64;
    expect(places >= 0, || format!("the bound {got:?} is far too small"))?;
    let fixed = BigUint::from(integer) << places;
    let one = BigUint::from(1u8) << BOUND_BITS;
    expect(fixed <= want.high, || {
        let excess = oracle::nearest_f64(&(&fixed - &want.high), &one);
        format!("the bound {got:?} is above the exact one, by {excess:e}")
    })?;
    expect(&fixed + &one / 10u64.pow(12) >= want.low, || {
        let lack = oracle::nearest_f64(&(&want.low - &fixed), &one);
        format!("the bound {got:?} is below the exact one by {lack:e}, more than 1e-12")
    })
}

/// Packed lowest bit first, nothing past the end.
pub(crate) fn check_mask(want: &[bool], got: &[u8]) -> Result<(), String> {
    equal("the length of the mask in bytes", got.len(), want.len().div_ceil(8))?;
    for i in 0..got.len() * 8 {
        let (got, want) = (got[i / 8] >> (i % 8) & 1 == 1, want.get(i).copied().unwrap_or(false));
        expect(got == want, || format!("mask bit {i} is {got}, must be {want}"))?;
    }
    Ok(())
}

/// What is kept has every bit that it had, what is pruned has none.
pub(crate) fn check_pruned(before: &Weights, mask: &[bool], after: &[u8]) -> Result<(), String> {
    equal("the length in bytes", after.len(), before.bytes.len())?;
    let size = before.kind.size();
    let entries = before.bytes.chunks_exact(size).zip(after.chunks_exact(size)).zip(mask);
    for (i, ((before, after), &kept)) in entries.enumerate() {
        let right = if kept { before == after } else { after.iter().all(|&b| b == 0) };
        expect(right, || format!("entry {i} was {before:02x?}, is {after:02x?}, and kept is {kept}"))?;
    }
    Ok(())
}

/// One answer everywhere: the same bits, those of the floats too.
pub(crate) fn check_same(one: &Outcome, other: &Outcome) -> Result<(), String> {
    equal("the number of contests", other.groups.len(), one.groups.len())?;
    for (i, (a, b)) in one.groups.iter().zip(&other.groups).enumerate() {
        expect(group_bits(a) == group_bits(b), || format!("contest {i} is {b:?} here and {a:?} there"))?;
    }
    expect(one.masks == other.masks, || "the masks differ".to_owned())?;
    expect(one.pruned == other.pruned, || "the pruned weights differ".to_owned())?;
    expect((one.kept, one.len) == (other.kept, other.len), || "the totals differ".to_owned())
}

fn group_bits(g: &Group) -> (u64, u64, u32, u64, [u64; 3], bool) {
    let floats = [g.n_eff, g.mass, g.mass_bound].map(f64::to_bits);
    (g.len, g.kept, g.threshold.to_bits(), g.cut, floats, g.degenerate)
}

/// The library refuses what the oracle refuses, at the same entry, and says why.
pub(crate) fn check_refusal(want: &Refusal, got: &Error) -> Result<(), String> {
    equal("kind", got.kind(), ErrorKind::NonFinite)?;
    equal("tensor", got.tensor(), Some(want.tensor))?;
    equal("index", got.index(), Some(want.index as u64))?;
    let word = match want.bad {
        Bad::Nan => "NaN",
        Bad::Infinity => "infinity",
        Bad::Product => "product",
    };
    let text = got.to_string();
    expect(text.contains(word) && text.contains(&want.index.to_string()), || {
        format!("the message {text:?} must name {word:?} and {}", want.index)
    })
}

/// Ask every backend; each must say what the oracle says, and each the same as the processor, bit for bit.
pub(crate) fn ask(backends: &[Named], tensors: &[Weights], question: &Question) {
    judge(backends, tensors, question).unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// As [`ask`], with what is wrong as text.
pub(crate) fn judge(backends: &[Named], tensors: &[Weights], question: &Question) -> Result<(), String> {
    let want = oracle::answer(tensors, question);
    let first = run(&super::cpu()[0], tensors, question);
    for backend in backends {
        let verdict = match (&want, run(backend, tensors, question)) {
            (Ok(want), Ok(got)) => check(tensors, want, &got).and_then(|()| match &first {
                Ok(first) => check_same(first, &got).map_err(|wrong| format!("not as on the processor: {wrong}")),
                Err(error) => Err(format!("the processor refuses this: {error:?}")),
            }),
            (Err(want), Err(got)) => check_refusal(want, &got).map_err(|wrong| format!("{wrong}; {got:?}")),
            (Ok(_), Err(error)) => Err(format!("refused: {error:?}")),
            (Err(refusal), Ok(_)) => Err(format!("not refused: {refusal:?}")),
        };
        let labels = || tensors.iter().map(|w| w.label.as_str()).collect::<Vec<_>>();
        verdict.map_err(|wrong| format!("{} on {question:?} of {:?}: {wrong}", backend.name, labels()))?;
    }
    Ok(())
}
