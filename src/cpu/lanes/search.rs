//! The threshold of each contest: by putting its keys in order if they are few, else by halves.

#![allow(clippy::needless_range_loop, reason = "loops over lanes index several arrays, and look alike where it is one")]

use super::kinds::Lane;
use super::{DEEP, Each, LANES, Spans};

/// What is kept: keys above the threshold, and so many of those that equal it; [`ALL`](Found::ALL) where that is all of them.
pub(super) struct Found<K> {
    pub(super) threshold: Each<K>,
    pub(super) ties: Each<K>,
}

impl<K: Lane> Found<K> {
    /// More than there can be.
    pub(super) const ALL: K = K::MAX;
}

/// Of contests that keep at least one key each.
#[inline(always)]
pub(super) fn search<K: Lane>(deep: &[[Each<K>; DEEP]], spans: &Spans<K>, kept: &Each<K>) -> Found<K> {
    if deep.len() <= FEW / DEEP { in_order(deep, kept) } else { by_halves(deep, spans, kept) }
}

/// So many keys are put in order in less time than a few halves take.
const FEW: usize = 16;

/// Compare and exchange, so that the larger one comes first.
macro_rules! in_order {
    ($keys:ident: $($a:literal $b:literal),*) => {
        $(($keys[$a], $keys[$b]) = ($keys[$a].max($keys[$b]), $keys[$a].min($keys[$b]));)*
    };
}

/// Keys in order, the largest first: Green's network, of 60 exchanges.
#[inline(always)]
fn ordered<K: Lane>(mut keys: [K; FEW]) -> [K; FEW] {
    in_order!(keys: 0 1, 2 3, 4 5, 6 7, 8 9, 10 11, 12 13, 14 15);
    in_order!(keys: 0 2, 4 6, 8 10, 12 14, 1 3, 5 7, 9 11, 13 15);
    in_order!(keys: 0 4, 8 12, 1 5, 9 13, 2 6, 10 14, 3 7, 11 15);
    in_order!(keys: 0 8, 1 9, 2 10, 3 11, 4 12, 5 13, 6 14, 7 15);
    in_order!(keys: 5 10, 6 9, 3 12, 13 14, 4 8, 7 11, 1 2);
    in_order!(keys: 1 4, 7 13, 2 8, 11 14);
    in_order!(keys: 2 4, 5 6, 9 10, 11 13, 3 8, 7 12);
    in_order!(keys: 6 8, 10 12, 3 5, 7 9);
    in_order!(keys: 3 4, 5 6, 7 8, 9 10, 11 12);
    in_order!(keys: 6 7, 8 9);
    keys
}

#[inline(always)]
fn in_order<K: Lane>(deep: &[[Each<K>; DEEP]], kept: &Each<K>) -> Found<K> {
    let mut sorted = [[K::ZERO; LANES]; FEW];
    sorted[..deep.len() * DEEP].copy_from_slice(deep.as_flattened());
    for lane in 0..LANES {
        let keys = ordered(std::array::from_fn(|i| sorted[i][lane]));
        for i in 0..FEW {
            sorted[i][lane] = keys[i];
        }
    }
    let (mut threshold, mut below) = ([K::ZERO; LANES], [K::ZERO; LANES]);
    for lane in 0..LANES {
        let kept = kept[lane].bits() as usize;
        threshold[lane] = sorted[kept - 1][lane];
        // Below the last one there is less than any.
        below[lane] = sorted.get(kept).map_or(!K::ZERO, |keys| keys[lane]);
    }
    let mut ties = [Found::ALL; LANES];
    if threshold.iter().zip(&below).any(|(threshold, below)| threshold == below) {
        let above = count(deep, &threshold.map(next));
        for lane in 0..LANES {
            ties[lane] = if threshold[lane] == below[lane] { kept[lane] - above[lane] } else { Found::ALL };
        }
    }
    Found { threshold, ties }
}

/// By halves, until as many keys as are kept are left, or all that are left are equal.
#[inline(always)]
fn by_halves<K: Lane>(deep: &[[Each<K>; DEEP]], spans: &Spans<K>, kept: &Each<K>) -> Found<K> {
    let mut between = Between { low: [K::ZERO; LANES], high: [K::ONE; LANES], exact: [K::ZERO; LANES] };
    for lane in 0..LANES {
        let enough = spans.nonzero[lane] >= kept[lane];
        between.low[lane] = if enough { spans.smallest[lane] } else { K::ZERO };
        between.high[lane] = if enough { next(spans.largest[lane]) } else { K::ONE };
        between.exact[lane] = K::from(spans.nonzero[lane] == kept[lane]);
    }
    loop {
        let (mut open, mut middle) = (K::ZERO, [K::ZERO; LANES]);
        for lane in 0..LANES {
            let half = (between.high[lane] - between.low[lane]) >> 1;
            middle[lane] = between.low[lane];
            middle[lane] += half;
            open |= if between.exact[lane] == K::ZERO { half } else { K::ZERO };
        }
        if open == K::ZERO {
            break;
        }
        between = between.halve(&middle, &count(deep, &middle), kept);
    }
    let mut threshold = [K::MAX; LANES];
    for keys in deep {
        for lane in 0..LANES {
            let mut so_far = threshold[lane];
            for keys in keys {
                let key = keys[lane];
                so_far = so_far.min(if key >= between.low[lane] { key } else { K::MAX });
            }
            threshold[lane] = so_far;
        }
    }
    let mut ties = [Found::ALL; LANES];
    if between.exact.contains(&K::ZERO) {
        let above = count(deep, &threshold.map(next));
        for lane in 0..LANES {
            ties[lane] = if between.exact[lane] == K::ZERO { kept[lane] - above[lane] } else { Found::ALL };
        }
    }
    Found { threshold, ties }
}

#[inline(always)]
fn next<K: Lane>(mut key: K) -> K {
    key += K::ONE;
    key
}

struct Between<K> {
    /// From here on there are as many keys as are kept, or more: as many, where it is exact.
    low: Each<K>,
    exact: Each<K>,
    /// From here on there are fewer.
    high: Each<K>,
}

impl<K: Lane> Between<K> {
    /// So many keys are in the middle or above. By arithmetic on numbers that are made anew: for a choice the compiler looks up addresses, or makes
    /// a store under a mask.
    #[inline(always)]
    fn halve(&self, middle: &Each<K>, count: &Each<K>, kept: &Each<K>) -> Self {
        let mut next = Self { low: [K::ZERO; LANES], exact: [K::ZERO; LANES], high: [K::ZERO; LANES] };
        for lane in 0..LANES {
            let (low, middle, high) = (self.low[lane], middle[lane], self.high[lane]);
            // All ones where there are too few.
            let few = (count[lane] - kept[lane]).sign();
            next.low[lane] = middle ^ ((middle ^ low) & few);
            next.high[lane] = high ^ ((middle ^ high) & few);
            next.exact[lane] = self.exact[lane] | K::from(count[lane] == kept[lane]);
        }
        next
    }
}

/// How many keys are these or above.
#[inline(always)]
fn count<K: Lane>(deep: &[[Each<K>; DEEP]], least: &Each<K>) -> Each<K> {
    let mut count = [K::ZERO; LANES];
    for keys in deep {
        for lane in 0..LANES {
            let mut more = K::ZERO;
            for keys in keys {
                more += K::from(keys[lane] >= least[lane]);
            }
            count[lane] += more;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What orders all zeros and ones orders everything.
    #[test]
    fn the_network_puts_keys_in_order() {
        for choice in 0..1u32 << FEW {
            let keys = ordered(std::array::from_fn(|i| (choice >> i & 1) as i16));
            let ones = choice.count_ones() as usize;
            assert!(keys.iter().enumerate().all(|(i, &key)| key == i16::from(i < ones)), "{choice:#b}: {keys:?}");
        }
    }
}
