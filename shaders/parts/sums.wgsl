// Exact sums of scores and of their squares, in any order, in 32-bit integers.
//
// A score is m * 2^(e - 150), m < 2^24. Each lane has a window: scores whose exponent is at most `top` and at most 15 below are the integers
// v = m << 15 >> (top - e) of 39 bits. v is three limbs of 13 bits; a lane adds up the limbs and the six products of two limbs. A score
// that does not fit is added to the digits by itself.
//
// 64 products of 26 bits fit a word (64 * (2^13 - 1)^2 < 2^32) and 65 do not: call `widen_products` after every 64 entries at the latest.
//
// What every entry costs is in parts/sums_take.wgsl. Where the digits lie is another part's choice: `add_digit` of parts/digits_workgroup.wgsl,
// parts/team_one.wgsl or parts/team_many.wgsl.
//
// The unit of a sum is 2^-167, that of a sum of squares its square. A significand of exponent e begins at bit e + SCORE_AT of a sum, so a window's limbs do at
// bit top + SCORE_AT - REACH, and its products at twice that.
//
// Rust twin: src/sums.rs and src/cpu/windows.rs.

// Digits of a sum: 24, of a sum of squares: 44.
const SUM: u32 = 0u;
const SQUARE: u32 = 24u;
const DIGITS: u32 = 68u;

// How far below a window's top a score's exponent may lie.
const REACH: u32 = 15u;
// A window begins above the largest score that is known of by this much, so that a slightly larger one fits too.
const HEADROOM: u32 = 2u;

const LIMB: u32 = 13u;
const LIMB_MASK: u32 = 0x1fffu;

const SCORE_AT: u32 = 17u;

struct Window {
    top: u32,
    // Sums of the limbs, lowest first.
    limbs: vec3<u32>,
    // Products of limbs 0*0, 0*1, 1*1 and 0*2, 1*2, 2*2 of at most 64 entries ..
    low: vec3<u32>,
    high: vec3<u32>,
    // .. and of all before, in halves.
    low_0: vec3<u32>,
    low_16: vec3<u32>,
    high_0: vec3<u32>,
    high_16: vec3<u32>,
}

// A score that does not fit moves a window that is empty, and else goes to the digits by itself.
fn window_add(window: ptr<function, Window>, key: u32, squares: bool) {
    if (key == 0u) {
        return;
    }
    if (!window_fits((*window).top, key)) {
        if (any((*window).limbs != vec3<u32>(0u))) {
            deposit_score(key, squares);
            return;
        }
        (*window).top = exponent(key) + HEADROOM;
    }
    window_take(window, key, 1u, squares);
}

// Add a score to the digits, by itself.
fn deposit_score(key: u32, squares: bool) {
    let m = significand(key);
    let at = exponent(key) + SCORE_AT;
    deposit(SUM, at, vec4<u32>(m, 0u, 0u, 0u), 1u);
    if (squares) {
        // m = b * 2^12 + a
        let a = m & 0xfffu;
        let b = m >> 12u;
        var square = vec4<u32>(a * a, 0u, 0u, 0u);
        square = add_at(square, 2u * a * b, 12u);
        square = add_at(square, b * b, 24u);
        deposit(SQUARE, 2u * at, square, 2u);
    }
}

// Empty the window into the digits.
fn window_flush(window: ptr<function, Window>, squares: bool) {
    if (any((*window).limbs != vec3<u32>(0u))) {
        let at = (*window).top + SCORE_AT - REACH;
        deposit(SUM, at, window_sum(window), 4u);
        if (squares) {
            widen_products(window);
            deposit(SQUARE, 2u * at, window_square(window), 4u);
        }
    }
    let top = (*window).top;
    *window = Window();
    (*window).top = top;
}

// What the window holds, from its lowest bit on.
fn window_sum(window: ptr<function, Window>) -> vec4<u32> {
    let limbs = (*window).limbs;
    var sum = vec4<u32>(limbs.x, 0u, 0u, 0u);
    sum = add_at(sum, limbs.y, LIMB);
    return add_at(sum, limbs.z, 2u * LIMB);
}

// The squares that it holds, widened. A product of different limbs counts twice: one bit further up.
fn window_square(window: ptr<function, Window>) -> vec4<u32> {
    var square = vec4<u32>(0u);
    square = add_at(square, (*window).low_0.x, 0u);
    square = add_at(square, (*window).low_16.x, 16u);
    square = add_at(square, (*window).low_0.y, LIMB + 1u);
    square = add_at(square, (*window).low_16.y, LIMB + 17u);
    square = add_at(square, (*window).low_0.z, 2u * LIMB);
    square = add_at(square, (*window).low_16.z, 2u * LIMB + 16u);
    square = add_at(square, (*window).high_0.x, 2u * LIMB + 1u);
    square = add_at(square, (*window).high_16.x, 2u * LIMB + 17u);
    square = add_at(square, (*window).high_0.y, 3u * LIMB + 1u);
    square = add_at(square, (*window).high_16.y, 3u * LIMB + 17u);
    square = add_at(square, (*window).high_0.z, 4u * LIMB);
    return add_at(square, (*window).high_16.z, 4u * LIMB + 16u);
}

// `sum + (value << at)` in 128 bits, at < 96.
fn add_at(sum: vec4<u32>, value: u32, at: u32) -> vec4<u32> {
    let shift = at & 31u;
    let low = value << shift;
    let high = (value >> 1u) >> (31u - shift);
    var out = sum;
    if (at < 32u) {
        out.x += low;
        let carry = high + u32(out.x < low); // high < 2^31, so this does not wrap
        out.y += carry;
        let carry_2 = u32(out.y < carry);
        out.z += carry_2;
        out.w += u32(out.z < carry_2);
    } else if (at < 64u) {
        out.y += low;
        let carry = high + u32(out.y < low);
        out.z += carry;
        out.w += u32(out.z < carry);
    } else {
        out.z += low;
        out.w += high + u32(out.z < low);
    }
    return out;
}

// `value << by`, by < 32.
fn up_by(value: vec4<u32>, by: u32) -> vec4<u32> {
    return (value << vec4<u32>(by)) | ((vec4<u32>(0u, value.xyz) >> vec4<u32>(1u)) >> vec4<u32>(31u - by));
}

// Add `value << at`, of so many words, to the digits from `base` on.
fn deposit(base: u32, at: u32, value: vec4<u32>, words: u32) {
    let first = base + at / 16u;
    let shift = at % 16u;
    var carry = 0u;
    for (var i = 0u; i < words; i += 1u) {
        let word = value[i];
        let shifted = (word << shift) | carry;
        carry = (word >> 16u) >> (16u - shift);
        add_digit(first + 2u * i, shifted & 0xffffu);
        add_digit(first + 2u * i + 1u, shifted >> 16u);
    }
    add_digit(first + 2u * words, carry);
}
