// f8 of 5 exponent and 2 mantissa bits: four entries per word, the upper halves of f16s. Rust twin: src/dtype.rs.

const PER_WORD: u32 = 4u;

// The magnitude of entry `half` of a word, as the bits of an f32.
fn widen(word: u32, half: u32) -> u32 {
    let magnitude = (word >> (8u * half)) & 0x7fu;
    let mantissa = magnitude & 3u;
    if (magnitude >= 0x7cu) {
        return 0x7f800000u | (mantissa << 21u);
    }
    if (magnitude >= 4u) {
        return (magnitude << 21u) + (112u << 23u);
    }
    if (mantissa == 0u) {
        return 0u;
    }
    // A subnormal f8 is a normal f32: move its first bit to the hidden place.
    let shift = countLeadingZeros(mantissa) - 29u;
    return ((113u - shift) << 23u) | (((mantissa << shift) & 3u) << 21u);
}

// Twice that.
fn widen_twice(word: u32, half: u32) -> u32 {
    return widen(word, half) << 1u;
}

// The bits of a word that belong to entry `half`.
fn entry_bits(half: u32) -> u32 {
    return 0xffu << (8u * half);
}
