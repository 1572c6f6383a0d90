// How many entries a contest with short sums keeps: the largest k in 1..=len with k * beta_down * Q <= beta_up * S^2, in integers. A guess from
// the leading bits is almost always right or one off; the comparison alone decides, so a bad guess would only take longer.
//
// Rust twin: src/budget.rs (`keep_count`). Of sums of any length: parts/count_digits.wgsl, and parts/budget.wgsl, which divides.

// 192 bits, lowest word first. No array within a struct: FXC unrolls whatever loop writes to one.
const NUMBER_WORDS: u32 = 6u;
alias Number = array<u32, NUMBER_WORDS>;

// S is below 2^64, and Q times 64 bits of beta and `len` below 2^192; `len` has 16 bits at most.
fn count_in_window(sum: vec4<u32>, square: vec4<u32>, len: u32) -> u32 {
    let up = times_64(square_of(sum.xy), params.beta_up);
    let down = times_64(number(square), params.beta_down);
    var k = guess(scaled(up), scaled(down), len);
    if (is_at_most(times_small(down, k), up)) {
        while (k < len && is_at_most(times_small(down, k + 1u), up)) {
            k += 1u;
        }
    } else {
        while (k > 1u) {
            k -= 1u;
            if (is_at_most(times_small(down, k), up)) {
                break;
            }
        }
    }
    return k;
}

fn digit_64(value: vec2<u32>, i: u32) -> u32 {
    return (value[i / 2u] >> (16u * (i % 2u))) & 0xffffu;
}

// clamp(up / down, 1, len), within a few parts in 2^15.
fn guess(up: Scaled, down: Scaled, len: u32) -> u32 {
    let quotient = up.x / (down.x >> 16u); // 15 to 17 bits
    let shift = i32(down.y + 16u - up.y);
    if (shift < 0) {
        return len;
    }
    if (shift >= 32) {
        return 1u;
    }
    return clamp(quotient >> u32(shift), 1u, len);
}

fn scaled(value: Number) -> Scaled {
    var copy = value;
    var top = NUMBER_WORDS - 1u;
    while (top > 0u && copy[top] == 0u) {
        top -= 1u;
    }
    var below = 0u;
    if (top > 0u) {
        below = copy[top - 1u];
    }
    let shift = countLeadingZeros(copy[top]);
    return Scaled((copy[top] << shift) | ((below >> 1u) >> (31u - shift)), 32u * top - shift);
}

fn number(low: vec4<u32>) -> Number {
    var out = Number();
    for (var word = 0u; word < 4u; word += 1u) {
        out[word] = low[word];
    }
    return out;
}

fn square_of(value: vec2<u32>) -> Number {
    let low = product_64(value.x, value.x);
    let middle = product_64(value.x, value.y);
    let high = product_64(value.y, value.y);
    // The product in the middle counts twice: one bit further up.
    var square = vec4<u32>(low, high);
    square = add_at(square, middle.x, 33u);
    square = add_at(square, middle.y, 65u);
    return number(square);
}

fn times_64(value: Number, factor: vec2<u32>) -> Number {
    if (factor.x == 1u && factor.y == 0u) {
        return value;
    }
    var out = Number();
    for (var i = 4u; i > 0u; i -= 1u) {
        var part = times_small(value, digit_64(factor, i - 1u));
        // out * 2^16 + part
        var carry = 0u;
        var below = 0u;
        for (var word = 0u; word < NUMBER_WORDS; word += 1u) {
            let shifted = (out[word] << 16u) | below;
            below = out[word] >> 16u;
            let with_carry = shifted + carry;
            let sum = with_carry + part[word];
            carry = u32(with_carry < carry) + u32(sum < with_carry);
            out[word] = sum;
        }
    }
    return out;
}

// By less than 2^16.
fn times_small(value: Number, factor: u32) -> Number {
    var out = value;
    var carry = 0u;
    for (var word = 0u; word < NUMBER_WORDS; word += 1u) {
        let low = (out[word] & 0xffffu) * factor + carry;
        let high = (out[word] >> 16u) * factor + (low >> 16u);
        out[word] = (low & 0xffffu) | (high << 16u);
        carry = high >> 16u;
    }
    return out;
}

fn is_at_most(a: Number, b: Number) -> bool {
    var left = a;
    var right = b;
    var at_most = true;
    for (var word = 0u; word < NUMBER_WORDS; word += 1u) {
        if (left[word] != right[word]) {
            at_most = left[word] < right[word];
        }
    }
    return at_most;
}
