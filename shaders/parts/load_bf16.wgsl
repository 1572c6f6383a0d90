// bf16: two entries per word, the upper halves of f32s. Rust twin: src/dtype.rs.

const PER_WORD: u32 = 2u;

// The magnitude of entry `half` of a word, as the bits of an f32.
fn widen(word: u32, half: u32) -> u32 {
    return ((word >> (16u * half)) & 0x7fffu) << 16u;
}

// Twice that.
fn widen_twice(word: u32, half: u32) -> u32 {
    return widen(word, half) << 1u;
}

// The bits of a word that belong to entry `half`.
fn entry_bits(half: u32) -> u32 {
    return 0xffffu << (16u * half);
}
