//! The threshold of keys that lie in a cache: between two keys that few others lie between. These are guessed from the contest before,
//! which only proves wrong by counting, or searched for.

use super::simd;
use crate::key::KEY_END;
use std::ops::Range;

/// Keys with the threshold among them.
#[derive(Clone, Debug)]
pub(super) struct Bracket {
    pub(super) keys: Range<u32>,
    /// How many keys are above it, and how many above or in it.
    pub(super) from: Range<usize>,
}

/// So many keys are few: laying them side by side costs less than another pass over all.
fn few(len: usize) -> usize {
    (len / 8).max(64)
}

impl Bracket {
    /// Of no keys yet.
    pub(super) fn of(keys: Range<u32>) -> Self {
        Self { keys, from: 0..0 }
    }

    /// Count keys of a tile.
    #[inline(always)]
    pub(super) fn count(&mut self, tile: &[u32]) {
        let (mut above, mut all) = (0, 0);
        for &key in tile {
            above += u32::from(key as i32 >= self.keys.end as i32);
            all += u32::from(key as i32 >= self.keys.start as i32);
        }
        self.from = self.from.start + above as usize..self.from.end + all as usize;
    }

    /// Count those of a bracket of the same keys.
    pub(super) fn add(&mut self, other: &Self) {
        self.from = self.from.start + other.from.start..self.from.end + other.from.end;
    }

    /// Whether the threshold of `kept` keys is in it.
    pub(super) fn has(&self, kept: u64) -> bool {
        (self.from.start as u64) < kept && kept <= self.from.end as u64
    }

    /// Whether the threshold of `kept` keys is in it, with few others, of `len`.
    pub(super) fn is_tight(&self, kept: usize, len: usize) -> bool {
        self.has(kept as u64) && self.from.len() <= few(len)
    }

    /// Any threshold.
    pub(super) fn search(keys: &[u32], kept: usize) -> Self {
        let mut found = Self { keys: 0..KEY_END, from: 0..keys.len() };
        found.halve(keys, kept, few(keys.len()));
        // Where few are above, too, they may as well be in it: nobody has to add them up elsewhere.
        if found.from.end <= few(keys.len()) {
            (found.keys.end, found.from.start) = (KEY_END, 0);
        }
        found
    }

    /// Until so few keys are left, or all that are left are equal.
    fn halve(&mut self, keys: &[u32], kept: usize, few: usize) {
        while self.from.len() > few && self.keys.len() > 1 {
            let middle = self.keys.start + self.keys.len() as u32 / 2;
            let Split { count, above, below } = simd::with(
                #[inline(always)]
                || Split::of(keys, middle),
            );
            // To the next keys that there are: levels, however far apart, are soon told from each other.
            if count >= kept {
                self.keys.start = above;
                self.from.end = count;
            } else {
                self.keys.end = below + 1;
                self.from.start = count;
            }
        }
    }

    /// The threshold of `kept` keys, which is in the bracket, and the keys of that. All keys are used up.
    pub(super) fn close<'a>(&self, keys: &'a mut [u32], kept: usize) -> (u32, &'a [u32]) {
        let Range { start, end } = self.keys;
        if self.from.len() == keys.len() && end - start == 1 {
            return (start, keys);
        }
        let inside = simd::bring(keys, &self.keys);
        let mut last = Self { keys: start..end, from: 0..inside.len() };
        last.halve(inside, kept - self.from.start, 1);
        let threshold = inside.iter().copied().filter(|key| last.keys.contains(key)).max();
        (threshold.unwrap_or(start), inside)
    }
}

/// What a look at some keys tells of those on both sides of `middle`.
struct Split {
    /// How many are `middle` or above, and the least of these.
    count: usize,
    above: u32,
    /// The largest of the others.
    below: u32,
}

impl Split {
    #[inline(always)]
    fn of(keys: &[u32], middle: u32) -> Self {
        let (mut fewer, mut above, mut below) = (0, i32::MAX, 0);
        for &key in keys {
            // Keys have 31 bits: a difference tells the order, and its sign, spread over all bits, chooses without a branch.
            let key = key as i32;
            let is_below = (key - middle as i32) >> 31;
            fewer += is_below;
            above = above.min(key | (is_below & i32::MAX));
            below = below.max(key & is_below);
        }
        Self { count: (keys.len() as i32 + fewer) as usize, above: above as u32, below: below as u32 }
    }
}

/// Where thresholds lie, as far as the contests so far tell: so far from a mean, give or take a spread. Differences of keys are about
/// those of logarithms, so a matrix whose rows differ in scale alone has one of them.
#[derive(Clone, Debug)]
pub(super) struct Guess {
    from_mean: Option<i64>,
    spread: u32,
}

impl Guess {
    pub(super) fn new() -> Self {
        Self { from_mean: None, spread: 1 << 19 }
    }

    /// The keys among which the threshold of a contest with about this mean may be.
    pub(super) fn keys(&self, mean: u32) -> Range<u32> {
        let Some(from_mean) = self.from_mean else { return KEY_END..KEY_END };
        let middle = (i64::from(mean) + from_mean).clamp(0, KEY_END.into()) as u32;
        middle.saturating_sub(self.spread)..(middle + self.spread).min(KEY_END)
    }

    /// The threshold was this one, and the guess tight, or not.
    pub(super) fn learn(&mut self, mean: u32, threshold: u32, guessed: &Bracket, kept: usize, len: usize) {
        let from_mean = i64::from(threshold) - i64::from(mean);
        let Some(before) = self.from_mean else {
            self.from_mean = Some(from_mean);
            return;
        };
        let missed = !guessed.has(kept as u64);
        // What many rows tell is nearer than what one does, unless that one was quite different.
        self.from_mean = Some(if missed { from_mean } else { before + (from_mean - before) / 8 });
        if guessed.is_tight(kept, len) {
            self.spread -= self.spread / 64;
        } else {
            self.spread = if missed { self.spread * 2 } else { self.spread / 2 }.clamp(1 << 12, 1 << 24);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn threshold(keys: &[u32], kept: usize) -> u32 {
        let mut sorted = keys.to_vec();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        sorted[kept - 1]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn a_search_ends_at_the_threshold(
            keys in prop_oneof![
                prop::collection::vec(0..KEY_END, 1..2000),
                prop::collection::vec(prop_oneof![Just(0), Just(1), Just(0x3f80_0000), Just(KEY_END - 1)], 1..2000),
                prop::collection::vec(0x3f80_0000u32..0x3f80_0009, 1..2000),
            ],
            kept in any::<prop::sample::Index>(),
        ) {
            let kept = kept.index(keys.len()) + 1;
            let bracket = Bracket::search(&keys, kept);
            let above = keys.iter().filter(|&&key| key >= bracket.keys.end).count();
            let all = keys.iter().filter(|&&key| key >= bracket.keys.start).count();
            prop_assert_eq!(&bracket.from, &(above..all));
            let mut copy = keys.clone();
            let (found, inside) = bracket.close(&mut copy, kept);
            prop_assert_eq!(found, threshold(&keys, kept));
            prop_assert_eq!(inside.len(), all - above);
        }
    }

    #[test]
    fn a_guess_comes_to_hold_what_it_is_told() {
        let mut guess = Guess::new();
        let (mean, threshold) = (0x3f80_0000, 0x3f40_0000);
        assert!(guess.keys(mean).is_empty(), "nothing is known yet");
        guess.learn(mean, threshold, &Bracket { keys: KEY_END..KEY_END, from: 0..0 }, 5, 10);
        assert!(guess.keys(mean).contains(&threshold));
        // The same at another scale.
        assert!(guess.keys(mean + (7 << 23)).contains(&(threshold + (7 << 23))));
        let before = guess.keys(mean).len();
        guess.learn(mean, threshold, &Bracket { keys: guess.keys(mean), from: 6..10 }, 5, 10);
        assert!(guess.keys(mean).len() > before, "missed: wider");
        assert!(guess.keys(0).start == 0 && guess.keys(KEY_END - 1).end <= KEY_END);
    }
}
