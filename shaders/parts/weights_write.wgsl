// Weights that are pruned where they lie.

@group(0) @binding(1) var<storage, read_write> weights: array<u32>;

fn load_word(at: u32) -> u32 {
    return weights[at];
}

// Zero the bits that are 0 in `bits`, of a word that was loaded before. Where nothing is to be zeroed it is written too: whole sectors of memory take
// less time than sectors with holes.
fn keep_bits(word_at: u32, word: u32, bits: u32) {
    weights[word_at] = word & bits;
}

// The same of a lane's four words.
fn keep_four(at: vec4<u32>, words: vec4<u32>, bits: vec4<u32>) {
    keep_bits(at.x, words.x, bits.x);
    keep_bits(at.y, words.y, bits.y);
    keep_bits(at.z, words.z, bits.z);
    keep_bits(at.w, words.w, bits.w);
}
