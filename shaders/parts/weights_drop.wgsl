// Weights of which single entries are zeroed, two of which may share a word.

@group(0) @binding(1) var<storage, read_write> weights: array<atomic<u32>>;

fn drop_entry(at: u32) {
    atomicAnd(&weights[at / PER_WORD], ~entry_bits(at % PER_WORD));
}
