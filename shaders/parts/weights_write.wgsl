// Weights that are pruned where they lie.

@group(0) @binding(1) var<storage, read_write> weights: array<u32>;

// Zero the bits that are 0 in `bits`, of a word that was loaded before. One with nothing to zero is not written.
fn keep_bits(word_at: u32, word: u32, bits: u32) {
    if (bits != 0xffffffffu) {
        weights[word_at] = word & bits;
    }
}
