//! The CPU backend: the stages in order, as functions that do the work. The GPU backend records the same stages under
//! the same names.
//!
//! Two shapes of work. Many contests: each is one thread's ([`rows`]). One contest: its stages run over all cores, piece
//! by piece ([`Contest`]). Contests that are no runs of neighbours are decided where they lie if they are small and all alike ([`blocks()`]),
//! and else brought into the first shape ([`arrange`]). Weights are read as keys, a tile at a time, into a buffer that stays in the
//! first-level cache; of 16-bit ones the bits as they are stored are counted.

mod apply;
mod blocks;
mod bracket;
mod contest;
mod histogram;
mod lanes;
mod levels;
mod pages;
mod pairs;
mod rows;
mod simd;
mod stats;
mod structures;
mod ties;
mod windows;

pub(crate) use apply::{Piece, apply as carry_out};
pub(crate) use blocks::{Fate, Fates, arrange, carry_out_fates};
pub(crate) use contest::Contest;
pub(crate) use lanes::{blocks, takes};
pub(crate) use levels::WORTH_LEVELS;
pub(crate) use pages::zeroed;
pub(crate) use rows::rows;
pub(crate) use simd::name as simd_name;
pub(crate) use stats::check_finite;
pub(crate) use structures::tally;

/// Keys that are looked at together. Few enough that the processor fetches the next ones meanwhile, enough that a call costs nothing.
const TILE: usize = 512;

/// Entries that one thread takes at a time from a contest that is everybody's. A multiple of 8, so that no two threads
/// share a byte of the mask.
const CHUNK: usize = 128 * TILE;

type Tile = [u32; TILE];

/// Threads that the backend runs on.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "parallel")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "parallel"))]
    return 1;
}

/// `work(i)` for every `i < count`, on all cores, results in order.
fn on_all_cores<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        (0..count).into_par_iter().map(work).collect()
    }
    #[cfg(not(feature = "parallel"))]
    (0..count).map(work).collect()
}

/// Fold `work(so_far, i)` over every `i < count`: each core folds runs of neighbours, and neighbouring results are merged.
fn fold_on_all_cores<T: Send>(
    count: usize,
    init: impl Fn() -> T + Sync + Send,
    work: impl Fn(T, usize) -> T + Sync + Send,
    merge: impl Fn(T, T) -> T + Sync + Send,
) -> T {
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        (0..count).into_par_iter().fold(&init, work).reduce(&init, merge)
    }
    #[cfg(not(feature = "parallel"))]
    {
        let _ = merge;
        (0..count).fold(init(), work)
    }
}

/// As [`on_all_cores`], each call with an item of its own.
fn each_on_all_cores<I: Send, T: Send>(items: Vec<I>, work: impl Fn(usize, I) -> T + Sync + Send) -> Vec<T> {
    each_at_a_desk(items, || (), |(), i, item| work(i, item))
}

/// As [`each_on_all_cores`], with what a thread uses again for one item after the other.
fn each_at_a_desk<I: Send, D, T: Send>(
    items: Vec<I>,
    desk: impl Fn() -> D + Sync + Send,
    work: impl Fn(&mut D, usize, I) -> T + Sync + Send,
) -> Vec<T> {
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        items.into_par_iter().enumerate().map_init(desk, |desk, (i, item)| work(desk, i, item)).collect()
    }
    #[cfg(not(feature = "parallel"))]
    {
        let mut desk = desk();
        items.into_iter().enumerate().map(|(i, item)| work(&mut desk, i, item)).collect()
    }
}

/// The ranges of `step` entries that cover `len`.
fn ranges(len: usize, step: usize) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    (0..len).step_by(step).map(move |start| start..(start + step).min(len))
}
