// Carrying a decision out on a word, entry by entry. The other choice is parts/carry_word_bf16.wgsl.

// A word whose entries are all ours; the lane's word number `i` of the tile.
fn carry_word(word: u32, word_at: u32, i: u32, threshold: u32, limit: u32) {
    var bits = 0u;
    for (var half = 0u; half < PER_WORD; half += 1u) {
        let at = word_at * PER_WORD + half;
        bits |= entry_bits(half) * is_ahead(key_of(widen(word, half), at), at, i * PER_WORD + half, threshold, limit);
    }
    keep_bits(word_at, word, bits);
}
