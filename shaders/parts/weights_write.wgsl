// Weights that are pruned where they lie.

@group(0) @binding(1) var<storage, read_write> weights: array<u32>;

// Zero the bits that are 0 in `bits`, of a word that was loaded before. Where nothing is to be zeroed it is written too: whole sectors of memory take
// less time than sectors with holes.
fn keep_bits(word_at: u32, word: u32, bits: u32) {
    weights[word_at] = word & bits;
}
