// Carrying a decision out on a word of two bf16, both at once: a subtraction compares both halves, since a bit set above each keeps a borrow out of the
// other one. Keys end in 16 zeros. Thresholds need not: another slice of the contest may have finer scores. The other choice is parts/carry_word.wgsl.

const BOTH: u32 = 0x10001u;

// A word whose entries are all ours; the lane's word number `i` of the tile.
fn carry_word(word: u32, word_at: u32, i: u32, threshold: u32, limit: u32) {
    let at = word_at * PER_WORD;
    // The least level that is not below the threshold.
    let least = ((threshold + 0xffffu) >> 16u) * BOTH;
    // Where ties lose, it is the next one; but a threshold between two levels has no ties here.
    let has_ties = (threshold & 0xffffu) == 0u;
    let kept = not_below(word, least + u32(has_ties && at >= limit) + (u32(has_ties && at + 1u >= limit) << 16u));
    // A bin of the first digit has sixteen levels. Where candidates are collected, the threshold is its first one.
    let found = kept & ~not_below(word, least + 16u * BOTH) & (0u - u32(collects()));
    my_kept |= two_bits(kept) << (i * PER_WORD);
    my_found |= two_bits(found) << (i * PER_WORD);
    keep_bits(word_at, word, kept * 0xffffu);
}

// A one in the lowest bit of each half of `word` whose magnitude is not below that half of `least`, which is at most 0x7fff.
fn not_below(word: u32, least: u32) -> u32 {
    return (((word | (0x8000u * BOTH)) - least) >> 15u) & BOTH;
}

fn two_bits(halves: u32) -> u32 {
    return (halves | (halves >> 15u)) & 3u;
}
