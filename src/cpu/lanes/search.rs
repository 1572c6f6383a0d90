//! The threshold of each contest, by halves.

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

/// By halves, until as many keys as are kept are left, or all that are left are equal.
#[inline(always)]
pub(super) fn search<K: Lane>(deep: &[[Each<K>; DEEP]], spans: &Spans<K>, kept: &Each<K>) -> Found<K> {
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
