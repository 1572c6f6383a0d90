// f16: two entries per word, widened to f32 in integer code, since `unpack2x16float` may flush subnormals. Rust twin: src/dtype.rs.

const PER_WORD: u32 = 2u;

// The magnitude of entry `half` of a word, as the bits of an f32.
fn widen(word: u32, half: u32) -> u32 {
    let magnitude = (word >> (16u * half)) & 0x7fffu;
    let mantissa = magnitude & 0x3ffu;
    if (magnitude >= 0x7c00u) {
        return 0x7f800000u | (mantissa << 13u);
    }
    if (magnitude >= 0x400u) {
        return (magnitude << 13u) + (112u << 23u);
    }
    if (mantissa == 0u) {
        return 0u;
    }
    // A subnormal f16 is a normal f32: move its first bit to the hidden place.
    let shift = countLeadingZeros(mantissa) - 21u;
    return ((113u - shift) << 23u) | (((mantissa << shift) & 0x3ffu) << 13u);
}

// Twice that.
fn widen_twice(word: u32, half: u32) -> u32 {
    return widen(word, half) << 1u;
}

// The bits of a word that belong to entry `half`.
fn entry_bits(half: u32) -> u32 {
    return 0xffffu << (16u * half);
}
