// Where records lie, and the digits in which a threshold is found. A key has 31 bits. The first digit is a bin (parts/first_digit.wgsl), which leaves at
// most 22 bits open, or in a row 17 (of bf16 none), or all of them; each later one settles the next LOW_BITS of them, eleven or in a row ten, the last one those that are left.

@group(0) @binding(4) var<storage, read_write> records: array<Record>;

const LOW_BINS: u32 = 1u << LOW_BITS;

// How far a later digit lies above the bits that it leaves open, when `left` were.
fn digit_shift(left: u32) -> u32 {
    return left - min(left, LOW_BITS);
}
