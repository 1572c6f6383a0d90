// Weights that are only looked at, four words at a time.

@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;

fn load_word(at: u32) -> u32 {
    return weights[at / 4u][at % 4u];
}

// Nothing is zeroed here.
fn keep_bits(word_at: u32, word: u32, bits: u32) {
}

fn keep_four(at: vec4<u32>, words: vec4<u32>, bits: vec4<u32>) {
}
