// Where records lie, and the digits in which a threshold is found. Rust twin: src/narrow.rs.

@group(0) @binding(4) var<storage, read_write> records: array<Record>;

// A key has 31 bits: digits of 11, 10 and 10.
const BINS: u32 = 2048u;
const LOW_BINS: u32 = 1024u;
const LOW_BITS: u32 = 10u;

// Lowest bit of the digit number `digit`.
fn digit_shift(digit: u32) -> u32 {
    return 20u - 10u * digit;
}
