// As parts/count.wgsl, of sums that no window holds together.
//
// Rust twin: src/budget.rs (`keep_count`).

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
