//! The threshold of each contest, by halves.

#![allow(clippy::needless_range_loop, reason = "loops over lanes index several arrays, and look alike where it is one")]

use super::{DEEP, Each, LANES, Spans};

/// What is kept: keys above the threshold, and so many of those that equal it; [`u32::MAX`] where that is all of them.
pub(super) struct Found {
    pub(super) threshold: Each<u32>,
    pub(super) ties: Each<u32>,
}

/// By halves, until as many keys as are kept are left, or all that are left are equal.
#[inline(always)]
pub(super) fn search(deep: &[[Each<u32>; DEEP]], spans: &Spans, kept: &Each<u32>) -> Found {
    let mut between = Between { low: [0; LANES], high: [1; LANES], exact: [0; LANES] };
    for lane in 0..LANES {
        let enough = spans.nonzero[lane] >= kept[lane];
        between.low[lane] = if enough { spans.smallest[lane] as i32 } else { 0 };
        between.high[lane] = if enough { spans.largest[lane] as i32 + 1 } else { 1 };
        between.exact[lane] = u32::from(spans.nonzero[lane] == kept[lane]);
    }
    loop {
        let (mut open, mut middle) = (0, [0i32; LANES]);
        for lane in 0..LANES {
            let half = (between.high[lane] - between.low[lane]) / 2;
            middle[lane] = between.low[lane] + half;
            open |= if between.exact[lane] == 0 { half } else { 0 };
        }
        if open == 0 {
            break;
        }
        between = between.halve(&middle, &count(deep, &middle), kept);
    }
    let mut threshold = [i32::MAX; LANES];
    for keys in deep {
        for lane in 0..LANES {
            let mut so_far = threshold[lane];
            for keys in keys {
                let key = keys[lane] as i32;
                so_far = so_far.min(if key >= between.low[lane] { key } else { i32::MAX });
            }
            threshold[lane] = so_far;
        }
    }
    let mut ties = [u32::MAX; LANES];
    if between.exact.contains(&0) {
        let above = count(deep, &threshold.map(|key| key + 1));
        for lane in 0..LANES {
            ties[lane] = if between.exact[lane] == 0 { kept[lane] - above[lane] } else { u32::MAX };
        }
    }
    Found { threshold: threshold.map(|key| key as u32), ties }
}

/// Keys have 31 bits, and signed ones are compared in one instruction everywhere.
struct Between {
    /// From here on there are as many keys as are kept, or more: as many, where it is exact.
    low: Each<i32>,
    exact: Each<u32>,
    /// From here on there are fewer.
    high: Each<i32>,
}

impl Between {
    /// So many keys are in the middle or above. By arithmetic on numbers that are made anew: for a choice the compiler looks up addresses, or makes
    /// a store under a mask.
    #[inline(always)]
    fn halve(&self, middle: &Each<i32>, count: &Each<u32>, kept: &Each<u32>) -> Self {
        let mut next = Self { low: [0; LANES], exact: [0; LANES], high: [0; LANES] };
        for lane in 0..LANES {
            let (low, middle, high) = (self.low[lane], middle[lane], self.high[lane]);
            // All ones where there are too few.
            let few = (count[lane] as i32 - kept[lane] as i32) >> 31;
            next.low[lane] = middle ^ ((middle ^ low) & few);
            next.high[lane] = high ^ ((middle ^ high) & few);
            next.exact[lane] = self.exact[lane] | u32::from(count[lane] == kept[lane]);
        }
        next
    }
}

/// How many keys are these or above.
#[inline(always)]
fn count(deep: &[[Each<u32>; DEEP]], least: &Each<i32>) -> Each<u32> {
    let mut count = [0; LANES];
    for keys in deep {
        for lane in 0..LANES {
            let mut more = 0;
            for keys in keys {
                more += u32::from(keys[lane] as i32 >= least[lane]);
            }
            count[lane] += more;
        }
    }
    count
}
