// The decision about one contest, as it grows. After the last stage: an entry is kept when its key is above `threshold`, or equals it
// and comes before the cut.
//
// Rust twin: src/gpu/layout.rs (`Record`), which is also what a caller's shader may read.

struct Record {
    // 0: decided. 1: some score is NaN or infinite; nothing was written.
    status: u32,
    // 1: all scores are zero; everything is kept.
    degenerate: u32,
    // Entries kept; 64 bits, low word first.
    kept: vec2<u32>,
    // The smallest kept key: the bits of a non-negative f32.
    threshold: u32,
    // Ties in spans before this one are kept, in spans after it they lose ..
    cut_span: u32,
    // .. and in it they are kept before this entry, counted from the contest's first entry in the slice.
    cut_index: u32,
    // Digits of the threshold that are known, and their value.
    digits: u32,
    prefix: u32,
    // Ties that are kept within `cut_span`.
    cut_rank: u32,
    // How many of the keys that agree with the prefix are kept; 64 bits.
    rank: vec2<u32>,
}

// `cut_span` when no tie loses.
const NO_CUT: u32 = 0xffffffffu;

@group(0) @binding(4) var<storage, read_write> records: array<Record>;

// A key has 31 bits: digits of 11, 10 and 10.
const BINS: u32 = 2048u;
const LOW_BINS: u32 = 1024u;
const LOW_BITS: u32 = 10u;

// Lowest bit of the digit number `digit`.
fn digit_shift(digit: u32) -> u32 {
    return 20u - 10u * digit;
}
