// f8 of 4 exponent and 3 mantissa bits: four entries per word. It has no infinity, and one NaN. Rust twin: src/dtype.rs.

const PER_WORD: u32 = 4u;

// The magnitude of entry `half` of a word, as the bits of an f32.
fn widen(word: u32, half: u32) -> u32 {
    let magnitude = (word >> (8u * half)) & 0x7fu;
    let mantissa = magnitude & 7u;
    if (magnitude == 0x7fu) {
        return 0x7fc00000u;
    }
    if (magnitude >= 8u) {
        return (magnitude << 20u) + (120u << 23u);
    }
    if (mantissa == 0u) {
        return 0u;
    }
    // A subnormal f8 is a normal f32: move its first bit to the hidden place.
    let shift = countLeadingZeros(mantissa) - 28u;
    return ((121u - shift) << 23u) | (((mantissa << shift) & 7u) << 20u);
}

// Twice that.
fn widen_twice(word: u32, half: u32) -> u32 {
    return widen(word, half) << 1u;
}

// The bits of a word that belong to entry `half`.
fn entry_bits(half: u32) -> u32 {
    return 0xffu << (8u * half);
}
