// Weights that are only looked at.

@group(0) @binding(1) var<storage, read> weights: array<u32>;

// Nothing is zeroed here.
fn keep_bits(word_at: u32, word: u32, bits: u32) {
}
