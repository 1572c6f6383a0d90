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

// Its lowest 23 bits are the mantissa of the magnitude: those of the word, so that it need not be widened for them.
fn with_mantissa(word: u32, other: u32) -> u32 {
    return word;
}

// The bits of a word that belong to entry `half`.
fn entry_bits(half: u32) -> u32 {
    return 0xffffffffu;
}
