// Weights that are pruned where they lie, four words at a time.

@group(0) @binding(1) var<storage, read_write> weights: array<vec4<u32>>;

fn load_word(at: u32) -> u32 {
    return weights[at / 4u][at % 4u];
}

// Zero the bits that are 0 in `bits`, of a lane's four words that were loaded before and lie together. Where nothing is to be zeroed they are written too: whole
// sectors of memory take less time than sectors with holes. A word of them is written by nobody: who writes to one component of a vector may be writing
// to the others too, over what another lane has written there.
fn keep_four(at: vec4<u32>, words: vec4<u32>, bits: vec4<u32>) {
    weights[at.x / 4u] = words & bits;
}

// Not called: nothing here is written word by word.
fn keep_bits(word_at: u32, word: u32, bits: u32) {
}
