// Numbers by their leading 32 bits: for guesses and for measures, never for a decision.

// About x * 2^y, x with its highest bit set; y wraps below zero.
struct Scaled {
    x: u32,
    y: u32,
}

fn scaled_product(a: Scaled, b: Scaled) -> Scaled {
    let high = product_64(a.x, b.x).y;
    let shift = countLeadingZeros(high); // 0 or 1
    return Scaled(high << shift, a.y + b.y + 32u - shift);
}

fn scaled_64(value: vec2<u32>) -> Scaled {
    if (value.y == 0u) {
        let shift = countLeadingZeros(value.x); // 32 for zero
        return Scaled(value.x << (shift & 31u), 0u - shift);
    }
    let shift = countLeadingZeros(value.y);
    return Scaled((value.y << shift) | ((value.x >> 1u) >> (31u - shift)), 32u - shift);
}
