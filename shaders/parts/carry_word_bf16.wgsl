// Carrying a decision out on a word of two bf16, both at once: a subtraction compares both halves, since a bit set above each keeps a borrow out of the
// other one. Keys end in 16 zeros. Thresholds need not: another slice of the contest may have finer scores. The other choice is parts/carry_word.wgsl.

const BOTH: u32 = 0x10001u;

// A word whose entries are all ours: those below `least` lose.
fn carry_word(word: u32, word_at: u32, least: u32) {
    // The lowest level that is not below it.
    let level = ((least + 0xffffu) >> 16u) * BOTH;
    let kept = not_below(word, level);
    my_lost = (my_lost << 2u) | two_bits(kept ^ BOTH);
    my_low = (my_low << 2u) | two_bits(not_below(word, level + (my_width >> 16u) * BOTH) ^ BOTH);
    keep_bits(word_at, word, kept * 0xffffu);
}

// A one in the lowest bit of each half of `word` whose magnitude is not below that half of `least`, which is at most 0x7fff.
fn not_below(word: u32, least: u32) -> u32 {
    return (((word | (0x8000u * BOTH)) - least) >> 15u) & BOTH;
}

fn two_bits(halves: u32) -> u32 {
    return (halves | (halves >> 15u)) & 3u;
}
