// How many entries a short contest keeps: the largest k in 1..=len with k * beta_down * Q <= beta_up * S^2, in integers. A guess from
// the leading bits is almost always right or one off; the comparison alone decides, so a bad guess would only take longer.
//
// Rust twin: src/budget.rs (`keep_count`). The stages of long contests divide instead: parts/budget.wgsl.

// 192 bits, lowest word first. No array within a struct: FXC unrolls whatever loop writes to one.
const NUMBER_WORDS: u32 = 6u;
alias Number = array<u32, NUMBER_WORDS>;

// From sums of at most 2048 entries in one window: S is below 2^53, Q below 2^95. Times 64 bits of beta and 12 of k that is below 2^171.
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

// From digits of 16 bits, carries spread, in the team's words: for scores that no window holds together.
fn count_in_digits(len: u32) -> u32 {
    let sum_first = first_digit_from(SUM, 24u);
    let sum_end = end_digit(SUM, 24u);
    let square_end = end_digit(SQUARE, 44u);
    let sum = scaled_digits(SUM, sum_end);
    let up = scaled_product(scaled_product(sum, sum), scaled_64(params.beta_up));
    let down = scaled_product(scaled_digits(SQUARE, square_end), scaled_64(params.beta_down));
    let columns = max(2u * sum_end + 4u, square_end + 6u);
    var k = guess(up, down, len);
    if (digits_hold(k, sum_first, sum_end, columns)) {
        while (k < len && digits_hold(k + 1u, sum_first, sum_end, columns)) {
            k += 1u;
        }
    } else {
        while (k > 1u) {
            k -= 1u;
            if (digits_hold(k, sum_first, sum_end, columns)) {
                break;
            }
        }
    }
    return k;
}

// k * beta_down * Q <= beta_up * S^2, column by column of 16 bits from the lowest on.
fn digits_hold(k: u32, sum_first: u32, sum_end: u32, columns: u32) -> bool {
    var factor = Number(); // k * beta_down, in digits too
    var carry = 0u;
    for (var i = 0u; i < 4u; i += 1u) {
        let product = digit_64(params.beta_down, i) * k + carry;
        factor[i] = product & 0xffffu;
        carry = product >> 16u;
    }
    factor[4] = carry;
    // The last four digits of S^2, and what each column hands to the next one. At most 24 products meet in a column: their halves are
    // added apart.
    var last = vec4<u32>(0u);
    var square_carry = 0u;
    var left_carry = 0u;
    var right_carry = 0u;
    var holds = true;
    for (var column = 0u; column < columns; column += 1u) {
        var low = square_carry & 0xffffu;
        var high = square_carry >> 16u;
        var first = sum_first;
        if (column + 1u > sum_end) {
            first = max(first, column + 1u - sum_end);
        }
        for (var i = first; i < sum_end && i + sum_first <= column; i += 1u) {
            let product = team_word(SUM + i) * team_word(SUM + column - i);
            low += product & 0xffffu;
            high += product >> 16u;
        }
        last = vec4<u32>(low & 0xffffu, last.xyz);
        square_carry = high + (low >> 16u);

        low = right_carry & 0xffffu;
        high = right_carry >> 16u;
        for (var i = 0u; i < 4u; i += 1u) {
            let product = digit_64(params.beta_up, i) * last[i];
            low += product & 0xffffu;
            high += product >> 16u;
        }
        let right = low & 0xffffu;
        right_carry = high + (low >> 16u);

        low = left_carry & 0xffffu;
        high = left_carry >> 16u;
        for (var i = 0u; i < 5u; i += 1u) {
            if (column >= i && column - i < 44u) {
                let product = factor[i] * team_word(SQUARE + column - i);
                low += product & 0xffffu;
                high += product >> 16u;
            }
        }
        let left = low & 0xffffu;
        left_carry = high + (low >> 16u);
        if (left != right) {
            holds = left < right;
        }
    }
    return holds;
}

// Hand each digit's excess over 16 bits to the next one.
fn spread_digits(at: u32, len: u32) {
    var carry = 0u;
    for (var i = 0u; i < len; i += 1u) {
        let digit = team_word(at + i) + carry;
        team_set(at + i, digit & 0xffffu);
        carry = digit >> 16u;
    }
}

fn first_digit_from(at: u32, len: u32) -> u32 {
    var first = 0u;
    while (first < len && team_word(at + first) == 0u) {
        first += 1u;
    }
    return first;
}

fn end_digit(at: u32, len: u32) -> u32 {
    var end = len;
    while (end > 0u && team_word(at + end - 1u) == 0u) {
        end -= 1u;
    }
    return end;
}

fn digit_64(value: vec2<u32>, i: u32) -> u32 {
    return (value[i / 2u] >> (16u * (i % 2u))) & 0xffffu;
}

// clamp(up / down, 1, len), within a few parts in 2^15.
fn guess(up: Scaled, down: Scaled, len: u32) -> u32 {
    let quotient = up.x / (down.x >> 16u); // 15 to 17 bits
    let shift = i32(down.y + 16u - up.y);
    if (shift <= 0) {
        return len;
    }
    if (shift >= 32) {
        return 1u;
    }
    return clamp(quotient >> u32(shift), 1u, len);
}

fn scaled_digits(at: u32, end: u32) -> Scaled {
    var three = vec3<u32>(team_word(at + end - 1u), 0u, 0u);
    if (end > 1u) {
        three.y = team_word(at + end - 2u);
    }
    if (end > 2u) {
        three.z = team_word(at + end - 3u);
    }
    let two = (three.x << 16u) | three.y;
    let shift = countLeadingZeros(two); // below 16
    return Scaled((two << shift) | (three.z >> (16u - shift)), 16u * end - 32u - shift);
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
