//! What the compiler finds no vectors for, written out for AVX-512.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpge_epi32_mask, _mm512_cmpge_epu64_mask,
    _mm512_cmplt_epi32_mask, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_add_epi64,
    _mm512_maskz_compress_epi32, _mm512_reduce_add_epi64, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_sllv_epi64, _mm512_srli_epi32, _mm512_srli_epi64, _mm512_sub_epi32, _mm512_ternarylogic_epi32,
};
use std::ops::Range;

/// How many keys are in the range; they are in front then. Keys have 31 bits, so signed lanes compare them.
#[target_feature(enable = "avx512f,popcnt")]
pub(super) fn bring(keys: &mut [u32], range: &Range<u32>) -> usize {
    let start = _mm512_set1_epi32(range.start as i32);
    let end = _mm512_set1_epi32(range.end as i32);
    let sixteens = keys.len() / 16 * 16;
    let mut found = 0;
    for at in (0..sixteens).step_by(16) {
        let mut sixteen = [0; 16];
        sixteen.copy_from_slice(&keys[at..at + 16]);
        let sixteen: __m512i = bytemuck::cast(sixteen);
        let inside = _mm512_cmpge_epi32_mask(sixteen, start) & _mm512_cmplt_epi32_mask(sixteen, end);
        let sixteen: [u32; 16] = bytemuck::cast(_mm512_maskz_compress_epi32(inside, sixteen));
        // None beyond the sixteen that were read.
        keys[found..found + 16].copy_from_slice(&sixteen);
        found += inside.count_ones() as usize;
    }
    for at in sixteens..keys.len() {
        let key = keys[at];
        keys[found] = key;
        found += usize::from(range.contains(&key));
    }
    found
}

/// The sums of some values, of those whose key is at least `least`, and of the lower and the upper 52 bits of their squares. A value is the
/// significand of a key, shifted left by as much as its exponent is above `lowest`: by 28 at most. Zeros, whose exponent is below it, count for nothing.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn window(keys: &[u32], lowest: u32, least: u32) -> [u64; 4] {
    let [mut sum, mut kept] = [_mm512_setzero_si512(); 2];
    let [mut low_a, mut low_b, mut high_a, mut high_b] = [_mm512_setzero_si512(); 4];
    let (mantissa, lead) = (_mm512_set1_epi32(0x7f_ffff), _mm512_set1_epi32(0x80_0000));
    let even = _mm512_set1_epi64(0xffff_ffff);
    let lowest = _mm512_set1_epi32(lowest as i32);
    let least_even = _mm512_set1_epi64(i64::from(least));
    let least_odd = _mm512_set1_epi64(i64::from(least) << 32);
    let mut add = |keys: [u32; 16]| {
        let keys: __m512i = bytemuck::cast(keys);
        // `keys & mantissa | lead`.
        let significands = _mm512_ternarylogic_epi32::<0xea>(keys, mantissa, lead);
        let shifts = _mm512_sub_epi32(_mm512_srli_epi32::<23>(keys), lowest);
        // Lanes of 64 bits hold two keys. One that is shifted by 64 or more is zero.
        let a = _mm512_sllv_epi64(_mm512_and_si512(significands, even), _mm512_and_si512(shifts, even));
        let b = _mm512_sllv_epi64(_mm512_srli_epi64::<32>(significands), _mm512_srli_epi64::<32>(shifts));
        sum = _mm512_add_epi64(sum, _mm512_add_epi64(a, b));
        let is_kept_a = _mm512_cmpge_epu64_mask(_mm512_and_si512(keys, even), least_even);
        let is_kept_b = _mm512_cmpge_epu64_mask(keys, least_odd);
        kept = _mm512_mask_add_epi64(kept, is_kept_a, kept, a);
        kept = _mm512_mask_add_epi64(kept, is_kept_b, kept, b);
        low_a = _mm512_madd52lo_epu64(low_a, a, a);
        low_b = _mm512_madd52lo_epu64(low_b, b, b);
        high_a = _mm512_madd52hi_epu64(high_a, a, a);
        high_b = _mm512_madd52hi_epu64(high_b, b, b);
    };
    let (sixteens, rest) = keys.as_chunks::<16>();
    sixteens.iter().for_each(|&sixteen| add(sixteen));
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    add(last);
    [sum, kept, _mm512_add_epi64(low_a, low_b), _mm512_add_epi64(high_a, high_b)]
        .map(|sums| _mm512_reduce_add_epi64(sums) as u64)
}
