// f32: one entry per word. Rust twin: src/dtype.rs.

const PER_WORD: u32 = 1u;

// The magnitude of entry `half` of a word, as the bits of an f32.
fn widen(word: u32, half: u32) -> u32 {
    return word & 0x7fffffffu;
}

// Twice that.
fn widen_twice(word: u32, half: u32) -> u32 {
    return word << 1u;
}

// The bits of a word that belong to entry `half`.
fn entry_bits(half: u32) -> u32 {
    return 0xffffffffu;
}
