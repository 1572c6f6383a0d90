// How many entries a contest keeps, where the leading 64 bits of its sums tell: clamp(floor(beta * S^2 / Q), 1, len), in integers. A quotient of so many
// bits, rounded down at every step, is off by less than one part in 2^60; unless a whole number lies that near, its whole part is the answer.
// For the sums of nearly all data it tells, in a tenth of the steps that all digits take (parts/budget.wgsl), which decide otherwise.
//
// Rust twin: src/budget.rs (`keep_count`).

// Bits of a long quotient behind its point, and how far from a whole number, in the last of them, it must be.
const FRACTION: u32 = 14u;
const DOUBT: u32 = 64u;
// How far from none and from the whole divisor what a short quotient leaves must be.
const REST_DOUBT: u32 = 1u << 23u;

// A number from x * 2^y on, x with its highest bit set, to less than a few parts in 2^63 above.
struct Leading {
    x: vec2<u32>,
    y: u32,
}

// The answer, from S and Q; zero where it is in doubt.
fn count_by_leading(sum: Leading, square: Leading, len: vec2<u32>) -> vec2<u32> {
    var up = leading_product(sum, sum);
    var down = square;
    if (any(params.beta_up != vec2<u32>(1u, 0u))) {
        up = leading_product(up, leading_64(params.beta_up));
    }
    if (any(params.beta_down != vec2<u32>(1u, 0u))) {
        down = leading_product(down, leading_64(params.beta_down));
    }
    let bits = i32(up.y - down.y);
    if (bits < 0) {
        return vec2<u32>(1u, 0u);
    }
    if (bits <= 16) {
        return vec2<u32>(short_quotient(up.x, down.x, u32(bits), len), 0u);
    }
    return long_quotient(up, down, len);
}

// clamp(floor(up * 2^bits / down), 1, len); zero where it is in doubt. Both have their highest bit set, and bits are 16 at most: a division of words tells
// the quotient, but for a few.
fn short_quotient(up: vec2<u32>, down: vec2<u32>, bits: u32, len: vec2<u32>) -> u32 {
    // At most 4 too large, never too small.
    var quotient = (up.y / (down.y >> 16u)) >> (16u - bits);
    // What remains, in 96 bits; their highest bit says that it is below zero.
    let low = product_64(quotient, down.x);
    let high = add_64(product_64(quotient, down.y), vec2<u32>(low.y, 0u));
    let wide = vec3<u32>(up.x << bits, (up.y << bits) | ((up.x >> 1u) >> (31u - bits)), (up.y >> 1u) >> (31u - bits));
    var rest = sub_96(wide, vec3<u32>(low.x, high));
    while ((rest.z >> 31u) == 1u) {
        quotient -= 1u;
        rest = add_96(rest, vec3<u32>(down, 0u));
    }
    // Both numbers are off by less than one part in 2^60: so 2^20 of what remains for one of them.
    let missing = sub_64(down, rest.xy);
    if ((rest.y == 0u && rest.x < REST_DOUBT) || (missing.y == 0u && missing.x < REST_DOUBT)) {
        return 0u;
    }
    if (less_64(len, vec2<u32>(quotient, 0u))) {
        return len.x;
    }
    return max(quotient, 1u);
}

// The same for all quotients, bit by bit.
fn long_quotient(up: Leading, down: Leading, len: vec2<u32>) -> vec2<u32> {
    let steps = i32(up.y - down.y + FRACTION);
    if (steps > 61) {
        return vec2<u32>(0u);
    }
    var rest = up.x;
    var quotient = vec2<u32>(0u);
    if (!less_64(rest, down.x)) {
        rest = sub_64(rest, down.x);
        quotient.x = 1u;
    }
    for (var i = 0; i < steps; i += 1) {
        let leaves = rest.y >> 31u;
        rest = twice_64(rest);
        quotient = twice_64(quotient);
        if (leaves == 1u || !less_64(rest, down.x)) {
            rest = sub_64(rest, down.x); // wraps back where a bit has left
            quotient.x |= 1u;
        }
    }
    let fraction = quotient.x & ((1u << FRACTION) - 1u);
    if (fraction < DOUBT || fraction >= (1u << FRACTION) - DOUBT) {
        return vec2<u32>(0u);
    }
    let whole = vec2<u32>((quotient.x >> FRACTION) | (quotient.y << (32u - FRACTION)), quotient.y >> FRACTION);
    if (all(whole == vec2<u32>(0u))) {
        return vec2<u32>(1u, 0u);
    }
    if (less_64(len, whole)) {
        return len;
    }
    return whole;
}

// Of digits of 16 bits from an index of `wg_big` on, of which the one numbered `top` is the highest that is not zero.
fn leading_digits(at: u32, top: u32) -> Leading {
    let highest = two_digits(at, top);
    let next = two_digits(at, top - 2u);
    let last = two_digits(at, top - 4u);
    let shift = countLeadingZeros(highest); // below 16
    return Leading(
        vec2<u32>((next << shift) | ((last >> 1u) >> (31u - shift)), (highest << shift) | ((next >> 1u) >> (31u - shift))),
        16u * top - 48u - shift, // wraps below zero
    );
}

// Of a number of 128 bits that is not zero.
fn leading_128(value: vec4<u32>) -> Leading {
    var top = value;
    var y = 32u;
    while (top.w == 0u) {
        top = vec4<u32>(0u, top.xyz);
        y -= 32u;
    }
    let shift = countLeadingZeros(top.w);
    return Leading(
        vec2<u32>((top.z << shift) | ((top.y >> 1u) >> (31u - shift)), (top.w << shift) | ((top.z >> 1u) >> (31u - shift))),
        y + 32u - shift,
    );
}

// Digit `i` and the one below it; those below the lowest are zeros, and their indices wrap.
fn two_digits(at: u32, i: u32) -> u32 {
    var two = 0u;
    if (i < 0x80000000u) {
        two = wg_big[at + i] << 16u;
        if (i > 0u) {
            two |= wg_big[at + i - 1u];
        }
    }
    return two;
}

fn leading_64(value: vec2<u32>) -> Leading {
    if (value.y == 0u) {
        let shift = countLeadingZeros(value.x) & 31u;
        return Leading(vec2<u32>(0u, value.x << shift), 0u - 32u - shift);
    }
    let shift = countLeadingZeros(value.y);
    return Leading(vec2<u32>(value.x << shift, (value.y << shift) | ((value.x >> 1u) >> (31u - shift))), 0u - shift);
}

fn leading_product(a: Leading, b: Leading) -> Leading {
    let low = add_64(product_64(a.x.x, b.x.y), vec2<u32>(product_64(a.x.x, b.x.x).y, 0u));
    let middle = add_64(product_64(a.x.y, b.x.x), vec2<u32>(low.x, 0u));
    let high = add_64(add_64(product_64(a.x.y, b.x.y), vec2<u32>(low.y, 0u)), vec2<u32>(middle.y, 0u));
    let y = a.y + b.y + 64u;
    if ((high.y >> 31u) == 1u) {
        return Leading(high, y);
    }
    return Leading(twice_64(high), y - 1u);
}

fn twice_64(value: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(value.x << 1u, (value.y << 1u) | (value.x >> 31u));
}
