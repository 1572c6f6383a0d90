// The first digit of a key: its bin on a scale that is fine where the threshold probably lies, and coarse elsewhere. Sixteen powers of two are in focus:
// all that a window of parts/sums.wgsl holds. Wherever the focus is, the threshold is found: out of focus its bin only holds more keys, which is parts/bins.wgsl's concern, or,
// in a row, parts/bins_row.wgsl's.
//
// Rust twin: none. The CPU's first digit is as fine everywhere, and its later ones cost it little.

const IN_FOCUS: u32 = 16u << 23u;

// The first key in focus, so many powers of two below this exponent: zero, or a power of two of at most 2^(239 - 127).
fn focus_below(exponent: u32, below: u32) -> u32 {
    return min(max(exponent, below) - below, 255u - (IN_FOCUS >> 23u)) << 23u;
}
