//! One bit per entry.

use crate::error::Error;
use crate::tensor::TensorMut;

/// Which entries are kept: one bit each, 1 = kept, entry `i` at bit `i % 8` (lowest first) of byte `i / 8`, unused bits 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    bytes: Vec<u8>,
    len: u64,
}

impl Mask {
    /// A mask of nothing, to append to.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn zeros(len: usize) -> Self {
        Self { bytes: vec![0; len.div_ceil(8)], len: len as u64 }
    }

    /// The packed bits of `len` entries.
    ///
    /// # Errors
    /// `InvalidInput` when there are not `ceil(len / 8)` bytes, or when a bit past the end is set.
    pub fn from_bytes(bytes: Vec<u8>, len: u64) -> Result<Self, Error> {
        if bytes.len() as u64 != len.div_ceil(8) {
            return Err(Error::invalid(format!("{} mask bytes for {len} entries", bytes.len())));
        }
        let used = len % 8;
        match bytes.last() {
            Some(&last) if used != 0 && last >> used != 0 => {
                Err(Error::invalid(format!("the mask's last byte {last:#04x} has bits set past its {used} entries")))
            }
            _ => Ok(Self { bytes, len }),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The packed bits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Whether entry `at` is kept; `false` past the end.
    pub fn get(&self, at: u64) -> bool {
        usize::try_from(at / 8).ok().and_then(|byte| self.bytes.get(byte)).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    }

    /// How many entries are kept.
    pub fn kept(&self) -> u64 {
        self.bytes.iter().map(|b| u64::from(b.count_ones())).sum()
    }

    /// Add the entries of `other` behind these.
    pub fn append(&mut self, other: &Mask) {
        let used = (self.len % 8) as u32;
        self.len += other.len;
        if used == 0 {
            self.bytes.extend_from_slice(&other.bytes);
        } else {
            for &byte in &other.bytes {
                if let Some(last) = self.bytes.last_mut() {
                    *last |= byte << used;
                }
                self.bytes.push(byte >> (8 - used));
            }
        }
        self.bytes.truncate(self.len.div_ceil(8) as usize);
    }

    /// Zero every entry of `weights` that is not kept: all bits, a sign too.
    ///
    /// # Errors
    /// `InvalidInput` when the lengths differ.
    pub fn apply(&self, mut weights: TensorMut<'_>) -> Result<(), Error> {
        if weights.len() != self.len {
            return Err(Error::invalid(format!("a mask of {} entries for {} weights", self.len, weights.len())));
        }
        let size = weights.dtype().size();
        zero_losers(&self.bytes, weights.bytes_mut(), size);
        Ok(())
    }
}

/// Zero the entries of `size` bytes whose bit in `mask` is 0.
pub(crate) fn zero_losers(mask: &[u8], weights: &mut [u8], size: usize) {
    match size {
        1 => zero_losers_of::<1>(mask, weights),
        2 => zero_losers_of::<2>(mask, weights),
        _ => zero_losers_of::<4>(mask, weights),
    }
}

/// No branches: which entries lose is as good as random.
fn zero_losers_of<const SIZE: usize>(mask: &[u8], weights: &mut [u8]) {
    for (&bits, eight) in mask.iter().zip(weights.chunks_mut(8 * SIZE)) {
        for (j, entry) in eight.as_chunks_mut::<SIZE>().0.iter_mut().enumerate() {
            let kept = 0u8.wrapping_sub(bits >> j & 1);
            *entry = entry.map(|byte| byte & kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_at_any_bit_keeps_every_bit() {
        let bit = |i: u64| i.is_multiple_of(3) || i % 7 == 2;
        for first in 0..20u64 {
            for second in 0..20u64 {
                let make = |range: std::ops::Range<u64>| {
                    let mut bytes = vec![0u8; (range.end - range.start).div_ceil(8) as usize];
                    for (at, i) in range.clone().enumerate() {
                        bytes[at / 8] |= u8::from(bit(i)) << (at % 8);
                    }
                    Mask::from_bytes(bytes, range.end - range.start).expect("no bit past the end")
                };
                let mut joined = make(0..first);
                joined.append(&make(first..first + second));
                assert_eq!(joined, make(0..first + second), "{first} then {second}");
            }
        }
    }

    #[test]
    fn losers_of_every_size_are_zeroed() {
        for size in [1, 2, 4] {
            for len in [1usize, 7, 8, 9, (1 << 16) + 3, 200_001] {
                let mask: Vec<u8> = (0..len.div_ceil(8)).map(|i| (i as u8).wrapping_mul(151) ^ 0x5a).collect();
                let before: Vec<u8> = (0..len * size).map(|i| (i % 255) as u8 + 1).collect();
                let mut after = before.clone();
                zero_losers(&mask, &mut after, size);
                for (i, (was, is)) in before.chunks(size).zip(after.chunks(size)).enumerate() {
                    let kept = mask[i / 8] >> (i % 8) & 1 == 1;
                    assert!(
                        if kept { is == was } else { is.iter().all(|&b| b == 0) },
                        "entry {i} of {len}, {size} bytes"
                    );
                }
            }
        }
    }

    #[test]
    fn a_mask_that_lies_about_its_length_is_refused() {
        assert!(Mask::from_bytes(vec![0xff], 7).is_err(), "a bit past the end");
        assert!(Mask::from_bytes(vec![0, 0], 8).is_err(), "a byte too many");
        assert!(Mask::from_bytes(vec![0x7f], 7).is_ok(), "seven ones");
    }
}
