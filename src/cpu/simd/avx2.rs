//! What the compiler finds no vectors for, written out for AVX2.

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmpgt_epi32, _mm256_movemask_ps,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi32,
};
use std::ops::Range;

/// For each choice of eight lanes, the lanes that are chosen, and then any.
static ORDER: [[u32; 8]; 256] = {
    let mut order = [[0; 8]; 256];
    let mut choice = 0;
    while choice < 256 {
        let (mut lane, mut found) = (0, 0);
        while lane < 8 {
            if choice >> lane & 1 == 1 {
                order[choice][found] = lane as u32;
                found += 1;
            }
            lane += 1;
        }
        choice += 1;
    }
    order
};

/// How many keys are in the range; they are in front then. Keys have 31 bits, so signed lanes compare them.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn bring(keys: &mut [u32], range: &Range<u32>) -> usize {
    let from = _mm256_set1_epi32(range.start as i32 - 1);
    let end = _mm256_set1_epi32(range.end as i32);
    let eights = keys.len() / 8 * 8;
    let mut found = 0;
    for at in (0..eights).step_by(8) {
        let mut eight = [0; 8];
        eight.copy_from_slice(&keys[at..at + 8]);
        let eight: __m256i = bytemuck::cast(eight);
        let inside = _mm256_and_si256(_mm256_cmpgt_epi32(eight, from), _mm256_cmpgt_epi32(end, eight));
        let choice = _mm256_movemask_ps(_mm256_castsi256_ps(inside)) as u8;
        let eight = _mm256_permutevar8x32_epi32(eight, bytemuck::cast(ORDER[usize::from(choice)]));
        // At most eight beyond the found ones, and none beyond the eight that were read.
        keys[found..found + 8].copy_from_slice(&bytemuck::cast::<_, [u32; 8]>(eight));
        found += choice.count_ones() as usize;
    }
    for at in eights..keys.len() {
        let key = keys[at];
        keys[found] = key;
        found += usize::from(range.contains(&key));
    }
    found
}
