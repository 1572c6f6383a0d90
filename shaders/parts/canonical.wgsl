// Digits of both sums as numbers are written: below 2^16 each. They come from `wg_digits`, where carries are spread but for the last one, and go to `wg_big`.
//
// Rust twin: src/exact.rs

// Of the digits of both sums, a bit each: those that carry one, those that hand on a carry, and those that are not zero in the end. The first word
// is for S, the others are for Q.
const FLAG_WORDS: u32 = 3u;
var<workgroup> wg_carrying: array<atomic<u32>, FLAG_WORDS>;
var<workgroup> wg_handing: array<atomic<u32>, FLAG_WORDS>;
var<workgroup> wg_nonzero: array<atomic<u32>, FLAG_WORDS>;

// Each digit is below 2^17, so a carry is one at most: which digits get one is what the carries of an addition say, of those that carry to those that carry
// or would hand on. Uniform flow; barriers inside, of which the first one is also for who wrote the digits.
fn canonical(lane: u32) {
    if (lane < FLAG_WORDS) {
        atomicStore(&wg_carrying[lane], 0u);
        atomicStore(&wg_handing[lane], 0u);
        atomicStore(&wg_nonzero[lane], 0u);
    }
    workgroupBarrier();
    for (var i = lane; i < BOTH_SUMS; i += LANES) {
        let digit = atomicLoad(&wg_digits[i]);
        let flag = flag_of(i);
        if (digit > 0xffffu) {
            atomicOr(&wg_carrying[flag.x], flag.y);
        } else if (digit == 0xffffu) {
            atomicOr(&wg_handing[flag.x], flag.y);
        }
    }
    workgroupBarrier();
    let carrying = vec3<u32>(atomicLoad(&wg_carrying[0]), atomicLoad(&wg_carrying[1]), atomicLoad(&wg_carrying[2]));
    let either = carrying | vec3<u32>(atomicLoad(&wg_handing[0]), atomicLoad(&wg_handing[1]), atomicLoad(&wg_handing[2]));
    var total = carrying + either;
    total.z += u32(total.y < either.y);
    let carried = total ^ carrying ^ either;
    for (var i = lane; i < BOTH_SUMS; i += LANES) {
        let flag = flag_of(i);
        let has_carry = carried[flag.x] & flag.y;
        let digit = (atomicLoad(&wg_digits[i]) + u32(has_carry != 0u)) & 0xffffu;
        wg_big[i] = digit;
        if (digit != 0u) {
            atomicOr(&wg_nonzero[flag.x], flag.y);
        }
    }
    workgroupBarrier();
}

// The word and the bit of a digit.
fn flag_of(i: u32) -> vec2<u32> {
    if (i < BIG_SQUARE) {
        return vec2<u32>(0u, 1u << i);
    }
    return vec2<u32>(1u + (i - BIG_SQUARE) / 32u, 1u << ((i - BIG_SQUARE) % 32u));
}

// The highest digits of both sums that are not zero; NO_DIGIT for a sum of zeros.
fn sum_top() -> u32 {
    return top_bit(atomicLoad(&wg_nonzero[0]));
}

fn square_top() -> u32 {
    let upper = atomicLoad(&wg_nonzero[2]);
    if (upper != 0u) {
        return 32u + top_bit(upper);
    }
    return top_bit(atomicLoad(&wg_nonzero[1]));
}

fn top_bit(flags: u32) -> u32 {
    if (flags == 0u) {
        return NO_DIGIT;
    }
    return 31u - countLeadingZeros(flags);
}
