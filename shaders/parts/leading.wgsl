// How many entries a contest keeps, where the leading 64 bits of its sums tell: clamp(floor(beta * S^2 / Q), 1, len), in integers. A quotient of so many
// bits, rounded down at every step, is off by less than one part in 2^60; unless a whole number lies that near, its whole part is the answer.
// For the sums of nearly all data it tells, in a tenth of the steps that all digits take (parts/budget.wgsl), which decide otherwise.
//
// Rust twin: src/budget.rs (`keep_count`).

// Bits of the quotient behind its point, and how far from a whole number, in the last of them, it must be.
const FRACTION: u32 = 14u;
const DOUBT: u32 = 64u;

// A number from x * 2^y on, x with its highest bit set, to less than a few parts in 2^63 above.
struct Leading {
    x: vec2<u32>,
    y: u32,
}

// The answer; zero where it is in doubt. Both numbers are digits of 16 bits from an index of `wg_big` on, of which the one numbered `top` is the
// highest that is not zero.
fn count_by_leading(sum: u32, sum_top: u32, square: u32, square_top: u32, len: vec2<u32>) -> vec2<u32> {
    let s = leading_digits(sum, sum_top);
    let up = leading_product(leading_product(s, s), leading_64(params.beta_up));
    let down = leading_product(leading_digits(square, square_top), leading_64(params.beta_down));
    let steps = i32(up.y - down.y + FRACTION);
    if (steps < 0) {
        return vec2<u32>(1u, 0u);
    }
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
