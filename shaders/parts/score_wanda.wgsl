// The score is |weight| * norm of its column: the exact product rounded once to the nearest f32, ties to even, subnormals kept. WGSL
// fixes no rounding mode and may flush subnormals, so the product is made in integers. Rust twin: src/key.rs (`product`).

@group(0) @binding(2) var<storage, read> norms: array<u32>;

// The key of entry `at` of the slice, whose magnitude is `weight`.
fn key_of(weight: u32, at: u32) -> u32 {
    return product(weight, norms[at % params.columns] & 0x7fffffffu);
}

// A weight that is NaN or infinite stays what it is; a product too large gives infinity, and so does any with a norm that is no number: a
// caller's buffer may hold one, and nobody has looked at it before.
fn product(weight: u32, norm: u32) -> u32 {
    if (weight >= KEY_END) {
        return weight;
    }
    if (norm >= KEY_END) {
        return KEY_END;
    }
    let a = significand(weight);
    let b = significand(norm);
    if (a == 0u || b == 0u) {
        return 0u;
    }
    // The exact product, below 2^48: a = a1 * 2^12 + a0, and the same for b.
    let a0 = a & 0xfffu;
    let a1 = a >> 12u;
    let b0 = b & 0xfffu;
    let b1 = b >> 12u;
    let middle = a0 * b1 + a1 * b0;
    let bottom = a0 * b0 + ((middle & 0xfffu) << 12u); // below 2^25
    let low = bottom & 0xffffffu; // bits 0..24
    let high = a1 * b1 + (middle >> 12u) + (bottom >> 24u); // bits 24..48

    // bits(exact): position above its highest set bit.
    var bits = 32u - countLeadingZeros(low);
    if (high != 0u) {
        bits = 56u - countLeadingZeros(high);
    }
    let exponents = i32(exponent(weight) + exponent(norm));
    // A normal result keeps 24 bits; one below the normal range loses as many more as it is below.
    let drop = max(i32(bits) - 24, 151 - exponents);
    let biased = exponents - 150 + drop;
    if (biased >= 255) {
        return KEY_END;
    }
    if (drop >= 50) {
        return 0u; // less than half of the smallest subnormal
    }
    var rounded = 0u;
    if (drop <= 0) {
        rounded = low << u32(-drop); // at most 24 bits are there: none is in `high`
    } else {
        let d = u32(drop);
        var kept = 0u;
        var half = 0u; // the highest bit lost
        var rest = 0u; // the others, as zero or not
        if (d <= 24u) {
            if (d < 24u) {
                kept = (high << (24u - d)) | (low >> d);
            } else {
                kept = high;
            }
            half = (low >> (d - 1u)) & 1u;
            rest = low & ((1u << (d - 1u)) - 1u);
        } else {
            let e = d - 24u; // 1..=25
            kept = high >> e;
            half = (high >> (e - 1u)) & 1u;
            rest = (high & ((1u << (e - 1u)) - 1u)) | low;
        }
        rounded = kept;
        if (half == 1u && (rest != 0u || (kept & 1u) == 1u)) {
            rounded += 1u;
        }
    }
    // The hidden bit, where there is one, adds one to the exponent field; so does a carry out of the rounding.
    return (u32(biased - 1) << 23u) + rounded;
}

// Twice the key of a word's entry `half`, which is entry `at` of the slice.
fn twice_key_of(word: u32, half: u32, at: u32) -> u32 {
    return key_of(widen(word, half), at) << 1u;
}
