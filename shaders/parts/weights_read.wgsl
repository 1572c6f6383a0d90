// Weights that are only looked at.

@group(0) @binding(1) var<storage, read> weights: array<u32>;

fn load_word(at: u32) -> u32 {
    return weights[at];
}

// Nothing is zeroed here.
fn keep_bits(word_at: u32, word: u32, bits: u32) {
}

fn keep_four(at: vec4<u32>, words: vec4<u32>, bits: vec4<u32>) {
}
