//! The same inner loops, compiled for what the processor has and chosen at run time.
//!
//! Nothing here computes: a loop marked `inline(always)` that is called through [`with`] is compiled once for each level,
//! and the compiler's vectoriser does the rest. Shifts by a different count in every lane, which the exact sums live on,
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
