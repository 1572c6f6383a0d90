// The bins of a row's first digit: 64 for each power of two in focus, in the order of their keys; one for all that lies below; one for all above. Fewer than a contest's: the
// less workgroup memory a row takes the more rows are at work. A threshold in one of the last two is sought among all keys, by digits.
//
// Rust twin: none; see parts/first_digit.wgsl.

const FINE_BITS: u32 = 17u;
const FINE_BINS: u32 = IN_FOCUS >> FINE_BITS;
const BELOW: u32 = FINE_BINS;
const ABOVE: u32 = FINE_BINS + 1u;
const BINS: u32 = FINE_BINS + 2u;

// The bin of a key so far above the first in focus, which is `focus`.
fn fine_bin(above: u32, focus: u32) -> u32 {
    return above >> FINE_BITS;
}

fn bin_of(key: u32, focus: u32) -> u32 {
    let above = key - focus;
    if (above < IN_FOCUS) {
        return fine_bin(above, focus);
    }
    return BELOW + u32(key >= focus);
}
