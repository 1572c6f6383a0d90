//! The same inner loops, compiled for what the processor has and chosen at run time.
//!
//! A loop marked `inline(always)` that is called through [`with`] is compiled once for each level, and the compiler's vectoriser
//! does the rest; what it has no vectors for, [`bring`] and [`window`], is written out. Shifts by a different count in every lane, which the exact sums live on,
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
        Level::Ifma | Level::Avx512 => unsafe { avx512(work) },
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
    {
        #[allow(unsafe_code, reason = "choosing instructions at run time; benches/README.md has what it is worth")]
        let found = match level() {
            // SAFETY: `level` found every feature that `avx512::bring` is compiled with.
            Level::Ifma | Level::Avx512 => Some(unsafe { avx512::bring(keys, range) }),
            // SAFETY: `level` found every feature that `avx2::bring` is compiled with.
            Level::Avx2 => Some(unsafe { avx2::bring(keys, range) }),
            Level::Portable => None,
        };
        if let Some(found) = found {
            return &mut keys[..found];
        }
    }
    super::histogram::matching(keys, |key| range.contains(&key))
}

/// What [`avx512::window`] says, where the processor multiplies 52 bits: the compiler knows no use for that.
#[cfg(target_arch = "x86_64")]
pub(super) fn window(keys: &[u32], lowest: u32, least: u32) -> Option<[u64; 4]> {
    #[allow(unsafe_code, reason = "choosing instructions at run time; benches/README.md has what it is worth")]
    // SAFETY: `level` found every feature that `avx512::window` is compiled with.
    (level() == Level::Ifma).then(|| unsafe { avx512::window(keys, lowest, least) })
}

/// No processor of this architecture has such instructions.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn window(_keys: &[u32], _lowest: u32, _least: u32) -> Option<[u64; 4]> {
    None
}

/// Ask for what will be read soon: a processor that works on one tile after the other asks for too little by itself.
pub(super) fn fetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[allow(unsafe_code, reason = "there is no other way to ask; benches/README.md has what it is worth")]
        // SAFETY: to ask for an address is allowed of any, and these can be read.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// AVX-512 with products of 52 bits.
    Ifma,
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
            Ok("avx512") if avx512 => Level::Avx512,
            _ if avx512 && is_x86_feature_detected!("avx512ifma") => Level::Ifma,
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
        Level::Ifma => "avx512ifma",
        Level::Avx512 => "avx512",
        Level::Avx2 => "avx2",
        Level::Portable => "portable",
    };
    #[cfg(target_arch = "aarch64")]
    return "neon";
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return "portable";
}
