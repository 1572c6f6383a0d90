//! The same inner loops, compiled for what the processor has and chosen at run time.
//!
//! A loop marked `inline(always)` that is called through [`with`] is compiled once for each level, and the compiler's vectoriser
//! does the rest; what it has no vectors for, [`bring`], is written out. Shifts by a different count in every lane, which the exact sums live on,
//! came with AVX2: without it the statistics take about three times as long.

/// Run `work` compiled for the best instruction set at hand.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn with<R>(work: impl FnOnce() -> R) -> R {
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn avx512<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn avx2<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
    match level() {
        #[allow(unsafe_code, reason = "choosing instructions at run time; benches/ shows what it is worth")]
        // SAFETY: `level` found every feature that `avx512` is compiled with.
        Level::Avx512 => unsafe { avx512(work) },
        #[allow(unsafe_code, reason = "choosing instructions at run time; benches/ shows what it is worth")]
        // SAFETY: `level` found every feature that `avx2` is compiled with.
        Level::Avx2 => unsafe { avx2(work) },
        Level::Portable => work(),
    }
}

/// Run `work`; the instruction set of this architecture is the one that it was compiled for.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn with<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// The keys in `range`, in order, brought to the front: the compiler finds no vectors for this.
pub(super) fn bring<'a>(keys: &'a mut [u32], range: &std::ops::Range<u32>) -> &'a mut [u32] {
    #[cfg(target_arch = "x86_64")]
    if level() != Level::Portable {
        #[allow(unsafe_code, reason = "choosing instructions at run time; benches/README.md has what it is worth")]
        // SAFETY: `level` found AVX2, which is all that `avx2::bring` is compiled with.
        let found = unsafe { avx2::bring(keys, range) };
        return &mut keys[..found];
    }
    super::histogram::matching(keys, |key| range.contains(&key))
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
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
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Avx512,
    Avx2,
    Portable,
}

#[cfg(target_arch = "x86_64")]
fn level() -> Level {
    use std::sync::OnceLock;
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        // A way down the ladder, so that every rung can be tested and timed on one machine.
        match std::env::var("EMPRUNE_SIMD").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") if avx2 => Level::Avx2,
            _ if avx512 => Level::Avx512,
            _ if avx2 => Level::Avx2,
            _ => Level::Portable,
        }
    })
}

/// Whether lanes can be shifted by counts of their own, which windows live on.
pub(super) fn has_shifts() -> bool {
    name() != "portable"
}

/// What [`with`] compiles for here.
pub(crate) fn name() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    return match level() {
        Level::Avx512 => "avx512",
        Level::Avx2 => "avx2",
        Level::Portable => "portable",
    };
    #[cfg(target_arch = "aarch64")]
    return "neon";
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return "portable";
}
