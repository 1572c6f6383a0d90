//! The processor's side: copying as fast as it can, the obvious ways to prune, and checks that share nothing with the library.

use super::inputs::Entry;
use anyhow::{Result, ensure};
use emprune::{Group, Mask};
use rayon::prelude::*;
use std::time::Instant;

/// Fewer bytes are not worth another thread.
const LEAST_SHARE: usize = 1 << 20;

/// Copy, on all threads: what the same bytes cost without a thought about any of them.
pub(super) fn copy<T: Entry>(to: &mut [T], from: &[T]) {
    let share = from.len().div_ceil(rayon::current_num_threads()).max(LEAST_SHARE / size_of::<T>());
    if share >= from.len() {
        return to.copy_from_slice(from);
    }
    to.par_chunks_mut(share).zip(from.par_chunks(share)).for_each(|(to, from)| to.copy_from_slice(from));
}

/// Seconds that it takes.
pub(super) fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64(), result)
}

/// The ways that come to mind first: sums in f64, a copy of the magnitudes, and of those the k-th largest. Ties are all kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    SelectNth,
    Sort,
}

impl Peer {
    pub(super) const ALL: [Peer; 2] = [Peer::SelectNth, Peer::Sort];

    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::SelectNth => "select_nth_unstable",
            Peer::Sort => "sort_unstable",
        }
    }

    /// Prune every contest of `row_len` entries.
    pub(super) fn prune<T: Entry>(self, weights: &mut [T], row_len: usize) {
        weights.chunks_exact_mut(row_len).for_each(|contest| {
            let kept = plain_n_eff(contest).clamp(1.0, row_len as f64) as usize;
            let mut keys: Vec<u32> = contest.iter().map(|w| w.key()).collect();
            match self {
                Peer::SelectNth => drop(keys.select_nth_unstable_by(kept - 1, |a, b| b.cmp(a))),
                Peer::Sort => keys.sort_unstable_by(|a, b| b.cmp(a)),
            }
            let threshold = keys[kept - 1];
            contest.iter_mut().for_each(|w| *w = if w.key() >= threshold { *w } else { T::ZERO });
        });
    }
}

/// N_eff from sums in f64; as many as there are, where all are zero.
fn plain_n_eff<T: Entry>(contest: &[T]) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for w in contest {
        let score = f64::from(f32::from_bits(w.key()));
        sum += score;
        squares += score * score;
    }
    if squares == 0.0 { contest.len() as f64 } else { sum * sum / squares }
}

/// How far a sum in f64 may be off, as a share of N_eff.
const SLACK: f64 = 1e-9;

/// Whether `after` is what the rule makes of `before`, found out another way: N_eff from sums in f64 must bracket the count,
/// `select_nth_unstable` must give the threshold, and a walk through the entries, ties from the lowest index on, the rest.
pub(super) fn check<T: Entry>(before: &[T], after: &[T], row_len: usize, groups: &[Group]) -> Result<()> {
    ensure!(groups.len() == before.len() / row_len, "wrong answer: {} contests", groups.len());
    let contests = before.par_chunks_exact(row_len).zip(after.par_chunks_exact(row_len)).zip(groups).enumerate();
    contests.try_for_each(|(at, ((before, after), group))| {
        let n_eff = plain_n_eff(before);
        let len = row_len as f64;
        let bounds = [1.0 - SLACK, 1.0 + SLACK].map(|factor| (n_eff * factor).floor().clamp(1.0, len) as u64);
        ensure!(
            (bounds[0]..=bounds[1]).contains(&group.kept),
            "wrong answer: contest {at} keeps {}, N_eff is {n_eff}",
            group.kept
        );
        let kept = group.kept as usize;
        let mut keys: Vec<u32> = before.iter().map(|w| w.key()).collect();
        let (above, &mut threshold, _) = keys.select_nth_unstable_by(kept - 1, |a, b| b.cmp(a));
        ensure!(
            threshold == group.threshold.to_bits(),
            "wrong answer: contest {at} has threshold {:e}, not {:e}",
            group.threshold,
            f32::from_bits(threshold)
        );
        let mut ties = kept - above.iter().filter(|&&key| key > threshold).count();
        for (i, (w, got)) in before.iter().zip(after).enumerate() {
            let tie = w.key() == threshold && ties > 0;
            ties -= usize::from(tie);
            let want = if tie || w.key() > threshold { *w } else { T::ZERO };
            let same = bytemuck::bytes_of(&want) == bytemuck::bytes_of(got);
            ensure!(same, "wrong answer: contest {at}, entry {i} is pruned or kept wrongly");
        }
        Ok(())
    })
}

/// Whether the mask says what `after` shows: an entry that is not zero is kept, one that was and is zero now is not.
pub(super) fn check_mask<T: Entry>(before: &[T], after: &[T], mask: &Mask, kept: u64) -> Result<()> {
    ensure!((mask.len(), mask.kept()) == (before.len() as u64, kept), "wrong answer: the mask keeps {}", mask.kept());
    let bytes = mask.as_bytes().par_iter().zip(before.par_chunks(8)).zip(after.par_chunks(8));
    let wrong = bytes.enumerate().find_any(|(_, ((bits, before), after))| {
        let pairs = before.iter().zip(*after).enumerate();
        let mut wrong = pairs.filter(|(i, (before, after))| {
            let kept = (*bits >> i) & 1 == 1;
            if kept { before.key() != after.key() } else { after.key() != 0 }
        });
        wrong.next().is_some()
    });
    ensure!(wrong.is_none(), "wrong answer: the mask contradicts the pruned weights");
    Ok(())
}

/// Whether a peer's weights are ours, but for the ties that it keeps and for what a sum in f64 can be off.
pub(super) fn check_peer<T: Entry>(before: &[T], theirs: &[T], row_len: usize, groups: &[Group]) -> Result<()> {
    let contests = before.par_chunks_exact(row_len).zip(theirs.par_chunks_exact(row_len)).zip(groups).enumerate();
    contests.try_for_each(|(at, ((before, theirs), group))| {
        let threshold = group.threshold.to_bits();
        let wrong = before.iter().zip(theirs).filter(|(before, theirs)| {
            let want = if before.key() > threshold { before.key() } else { 0 };
            before.key() != threshold && theirs.key() != want
        });
        let wrong = wrong.count() as f64;
        let allowed = 1.0 + SLACK * group.kept as f64;
        ensure!(wrong <= allowed, "wrong answer: the peer differs in {wrong} entries of contest {at}");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::inputs::{InputKind, generate};
    use emprune::{Granularity, Pruner, Rule, Tensor, TensorMut};
    use half::bf16;

    /// Before, after and the decision.
    fn pruned<T: Entry>(input: InputKind, len: usize, row_len: usize) -> (Vec<T>, Vec<T>, emprune::Decision) {
        let before = generate::<T>(input, len);
        let mut after = before.clone();
        let tensor = TensorMut::from(&mut after).with_row_len(row_len as u64).unwrap();
        let rule = Rule::new().with_granularity(Granularity::Row);
        let decision = Pruner::cpu().prune(&mut [tensor], &rule).unwrap();
        (before, after, decision)
    }

    #[test]
    fn every_input_passes_the_checks() {
        for input in [InputKind::Normal, InputKind::Lognormal, InputKind::Int8, InputKind::Equal, InputKind::Zeros] {
            for row_len in [1000, 20_000] {
                let (before, after, decision) = pruned::<bf16>(input, 20_000, row_len);
                check(&before, &after, row_len, decision.groups()).unwrap();
                let tensor = Tensor::from(&before).with_row_len(row_len as u64).unwrap();
                let rule = Rule::new().with_granularity(Granularity::Row);
                let mask = &Pruner::cpu().mask(&[tensor], &rule).unwrap().1[0];
                check_mask(&before, &after, mask, decision.kept()).unwrap();
                let unpruned = check_mask(&before, &before, mask, decision.kept());
                assert_eq!(unpruned.is_ok(), input == InputKind::Equal, "{input:?}: losers that were not zeroed");
                for peer in Peer::ALL {
                    let mut theirs = before.clone();
                    peer.prune(&mut theirs, row_len);
                    check_peer(&before, &theirs, row_len, decision.groups()).unwrap();
                }
            }
        }
    }

    #[test]
    fn wrong_answers_are_noticed() {
        let (before, after, decision) = pruned::<f32>(InputKind::Int8, 9000, 3000);
        let groups = decision.groups();
        check(&before, &after, 3000, groups).unwrap();
        let refused = |after: &[f32], groups: &[Group]| check(&before, after, 3000, groups).is_err();
        assert!(refused(&vec![0.0; 9000], groups), "nothing kept");
        assert!(refused(&before, groups), "everything kept");
        assert!(refused(&after, &groups[1..]), "a contest is missing");
        let change = |f: fn(&mut Group)| {
            let mut groups = groups.to_vec();
            f(&mut groups[1]);
            groups
        };
        assert!(refused(&after, &change(|group| group.kept += 1)), "one more");
        assert!(refused(&after, &change(|group| group.threshold += 1.0)), "another threshold");
        // The last kept tie gives way to the first that is not kept.
        let threshold = groups[0].threshold.to_bits();
        let is_tie = |i: usize, kept: bool| before[i].key() == threshold && (after[i] != 0.0) == kept;
        let kept = (0..3000).rfind(|&i| is_tie(i, true)).unwrap();
        let lost = (0..3000).find(|&i| is_tie(i, false)).unwrap();
        let mut swapped = after.clone();
        (swapped[kept], swapped[lost]) = (0.0, before[lost]);
        assert!(refused(&swapped, groups), "the other tie");
        check_peer(&before, &swapped, 3000, groups).unwrap();
        assert!(check_peer(&before, &before, 3000, groups).is_err(), "a peer that prunes nothing");
    }

    #[test]
    fn a_copy_is_whole() {
        for len in [0, 1, 1_000_003] {
            let from = generate::<f32>(InputKind::Normal, len);
            let mut to = vec![0.0; len];
            copy(&mut to, &from);
            assert!(to == from, "{len} entries");
        }
    }
}
