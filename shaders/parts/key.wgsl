// A key is the bits of a non-negative f32: keys sort as the scores do, and no float operation takes part. Rust twin: src/key.rs.

// Keys from here up are infinity and NaN.
const KEY_END: u32 = 0x7f800000u;

@group(0) @binding(7) var<storage, read_write> first_bad: array<atomic<u32>>;

// The integer m in score = m * 2^(exponent - 150): the mantissa, and in front of it a one, which a subnormal has not.
fn significand(key: u32) -> u32 {
    return key + 0x800000u - (exponent(key) << 23u);
}

// The biased exponent, with subnormals counted as what they are: 1.
fn exponent(key: u32) -> u32 {
    return max(key >> 23u, 1u);
}

// An entry whose score is no number, as a word: its index * 4 + 0 for NaN, 1 for infinity, 2 for a product that overflowed. Inverted, so
// that the largest word is the first entry and the zero of a cleared buffer says that there is none.
fn bad_word(weight: u32, at: u32) -> u32 {
    var kind = 2u;
    if (weight > KEY_END) {
        kind = 0u;
    } else if (weight == KEY_END) {
        kind = 1u;
    }
    return ~(at * 4u + kind);
}
