// How many entries a contest keeps: clamp(floor(beta * S^2 / Q), 1, len), in integers. One lane's work: what the leading bits of the sums do not tell
// (parts/leading.wgsl) takes a few hundred operations for few digits, a few thousand for sixty decades, since only digits that are there take part.
//
// Rust twin: src/budget.rs (`keep_count`), src/exact.rs.

// Numbers are runs of 16-bit digits, lowest first, in this scratch.
const BIG_SUM: u32 = 0u; // S: 24 digits
const BIG_SQUARE: u32 = 24u; // Q: 44
const BOTH_SUMS: u32 = 68u;
const BIG_BETA_UP: u32 = 68u; // 4
const BIG_BETA_DOWN: u32 = 72u; // 4
const BIG_SQUARED_SUM: u32 = 76u; // S^2: 48
const BIG_UP: u32 = 124u; // beta_up * S^2, and a digit for the division: 53
const BIG_DOWN: u32 = 180u; // beta_down * Q: 48
const BIG: u32 = 232u;

var<workgroup> wg_big: array<u32, BIG>;

// A record with its budget, of which `effective` is what the sums say, and with a threshold where there is nothing to look for: nothing is kept, or
// zeros are, all of them.
fn with_budget(blank: Record, effective: vec2<u32>, len: vec2<u32>) -> Record {
    var record = blank;
    record.kept = effective;
    if (HAS_SUMS && all(record.kept == vec2<u32>(0u))) {
        record.degenerate = 1u;
        record.kept = len;
    }
    record.kept = asked_count(record.kept);
    record.rank = record.kept;
    if (all(record.kept == vec2<u32>(0u))) {
        record.threshold = KEY_END;
        record.digits = params.digits;
    }
    if (record.degenerate == 1u && all(record.kept == len)) {
        record.digits = params.digits;
    }
    return record;
}

const NO_DIGIT: u32 = 0xffffffffu;

// One lane, behind `canonical`. A budget of zero entries stands for: all scores are zero.
fn keep_count(len: vec2<u32>) -> vec2<u32> {
    let sum_end = sum_top();
    let square_end = square_top();
    if (sum_end == NO_DIGIT) {
        return vec2<u32>(0u);
    }
    let told = count_by_leading(leading_digits(BIG_SUM, sum_end), leading_digits(BIG_SQUARE, square_end), len);
    if (any(told != vec2<u32>(0u))) {
        return told;
    }
    let sum_first = first_digit(BIG_SUM, 24u);
    let sum_len = sum_end + 1u - sum_first;
    let square_first = first_digit(BIG_SQUARE, 44u);
    let square_len = square_end + 1u - square_first;
    for (var i = 0u; i < 4u; i += 1u) {
        wg_big[BIG_BETA_UP + i] = (params.beta_up[i / 2u] >> (16u * (i % 2u))) & 0xffffu;
        wg_big[BIG_BETA_DOWN + i] = (params.beta_down[i / 2u] >> (16u * (i % 2u))) & 0xffffu;
    }
    multiply(BIG_SQUARED_SUM, BIG_SUM + sum_first, sum_len, BIG_SUM + sum_first, sum_len);

    // Bring both sides to the same power of two: the side with more zeros below gets them back.
    var up_zeros = 0u;
    var down_zeros = 0u;
    if (2u * sum_first > square_first) {
        up_zeros = 2u * sum_first - square_first;
    } else {
        down_zeros = square_first - 2u * sum_first;
    }
    clear(BIG_UP, up_zeros);
    clear(BIG_DOWN, down_zeros);
    let beta_up_len = digits_in(BIG_BETA_UP, 4u);
    let beta_down_len = digits_in(BIG_BETA_DOWN, 4u);
    multiply(BIG_UP + up_zeros, BIG_SQUARED_SUM, 2u * sum_len, BIG_BETA_UP, beta_up_len);
    multiply(BIG_DOWN + down_zeros, BIG_SQUARE + square_first, square_len, BIG_BETA_DOWN, beta_down_len);
    let up_len = digits_in(BIG_UP, up_zeros + 2u * sum_len + beta_up_len);
    let down_len = digits_in(BIG_DOWN, down_zeros + square_len + beta_down_len);
    return divide(up_len, down_len, len);
}

// Digits of a number of at most `most` digits, without leading zeros.
fn digits_in(at: u32, most: u32) -> u32 {
    var len = most;
    while (len > 0u && wg_big[at + len - 1u] == 0u) {
        len -= 1u;
    }
    return len;
}

// Zeros below the lowest digit of a number; `most` for zero.
fn first_digit(at: u32, most: u32) -> u32 {
    var first = 0u;
    while (first < most && wg_big[at + first] == 0u) {
        first += 1u;
    }
    return first;
}

fn clear(at: u32, len: u32) {
    for (var i = 0u; i < len; i += 1u) {
        wg_big[at + i] = 0u;
    }
}

// wg_big[out ..] = a * b, in a_len + b_len digits.
fn multiply(out: u32, a: u32, a_len: u32, b: u32, b_len: u32) {
    clear(out, a_len + b_len);
    for (var i = 0u; i < a_len; i += 1u) {
        let digit = wg_big[a + i];
        var carry = 0u;
        for (var j = 0u; j < b_len; j += 1u) {
            // At most (2^16 - 1)^2 + 2 * (2^16 - 1) = 2^32 - 1.
            let t = digit * wg_big[b + j] + wg_big[out + i + j] + carry;
            wg_big[out + i + j] = t & 0xffffu;
            carry = t >> 16u;
        }
        wg_big[out + i + b_len] = carry;
    }
}

// clamp(floor(UP / DOWN), 1, len): Knuth's algorithm D in base 2^16.
fn divide(up_len: u32, down_len: u32, len: vec2<u32>) -> vec2<u32> {
    if (up_len < down_len) {
        return vec2<u32>(1u, 0u);
    }
    if (up_len > down_len + 4u) {
        return len; // a quotient of at least 2^64
    }
    // Normalised, the divisor's top digit has its high bit set, so a digit guessed from two is at most two too large.
    let shift = countLeadingZeros(wg_big[BIG_DOWN + down_len - 1u]) - 16u;
    wg_big[BIG_UP + up_len] = shift_left(BIG_UP, up_len, shift);
    _ = shift_left(BIG_DOWN, down_len, shift);
    let top = wg_big[BIG_DOWN + down_len - 1u];
    var second = 0u;
    if (down_len > 1u) {
        second = wg_big[BIG_DOWN + down_len - 2u];
    }
    var quotient = vec2<u32>(0u);
    for (var left = up_len - down_len + 1u; left > 0u; left -= 1u) {
        let at = BIG_UP + left - 1u;
        let two = (wg_big[at + down_len] << 16u) | wg_big[at + down_len - 1u];
        var third = 0u;
        if (down_len > 1u) {
            third = wg_big[at + down_len - 2u];
        }
        var guess = two / top;
        var remainder = two % top;
        for (var tries = 0u; tries < 2u; tries += 1u) {
            if (remainder < 0x10000u && (guess > 0xffffu || guess * second > ((remainder << 16u) | third))) {
                guess -= 1u;
                remainder += top;
            }
        }
        // UP -= guess * DOWN, shifted to this digit; one too many is given back.
        var carry = 0u;
        var borrow = 0u;
        for (var i = 0u; i < down_len; i += 1u) {
            let product = guess * wg_big[BIG_DOWN + i] + carry;
            carry = product >> 16u;
            let difference = wg_big[at + i] - (product & 0xffffu) - borrow; // wraps when negative
            wg_big[at + i] = difference & 0xffffu;
            borrow = difference >> 31u;
        }
        let difference = wg_big[at + down_len] - carry - borrow;
        wg_big[at + down_len] = difference & 0xffffu;
        if ((difference >> 31u) == 1u) {
            guess -= 1u;
            carry = 0u;
            for (var i = 0u; i < down_len; i += 1u) {
                let sum = wg_big[at + i] + wg_big[BIG_DOWN + i] + carry;
                wg_big[at + i] = sum & 0xffffu;
                carry = sum >> 16u;
            }
            wg_big[at + down_len] = (wg_big[at + down_len] + carry) & 0xffffu;
        }
        if (quotient.y >= 0x10000u) {
            return len; // a fifth digit would not fit 64 bits
        }
        quotient = vec2<u32>((quotient.x << 16u) | guess, (quotient.y << 16u) | (quotient.x >> 16u));
    }
    if (all(quotient == vec2<u32>(0u))) {
        return vec2<u32>(1u, 0u);
    }
    if (quotient.y > len.y || (quotient.y == len.y && quotient.x > len.x)) {
        return len;
    }
    return quotient;
}

// Shift a number by less than 16 bits in place; what leaves it at the top is returned.
fn shift_left(at: u32, len: u32, shift: u32) -> u32 {
    var carry = 0u;
    for (var i = 0u; i < len; i += 1u) {
        let shifted = (wg_big[at + i] << shift) | carry;
        wg_big[at + i] = shifted & 0xffffu;
        carry = shifted >> 16u;
    }
    return carry;
}
