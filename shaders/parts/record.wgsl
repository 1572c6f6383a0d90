// The decision about one contest, as it grows. After the last stage: an entry is kept when its key is above `threshold`, or equals it
// and comes before the cut.
//
// Rust twin: src/gpu/layout.rs (`Record`), which is also what a caller's shader may read.

struct Record {
    // 0: decided. Else some score is no number and nothing was written: 1 NaN, 2 infinity, 3 a Wanda product that overflowed f32,
    // or whose norm is no number. The decision's other fields say nothing then, `kept` neither.
    status: u32,
    // 1: all scores are zero.
    degenerate: u32,
    // Entries kept; 64 bits, low word first.
    kept: vec2<u32>,
    // The smallest kept key: the bits of a non-negative f32; those of infinity when nothing is kept.
    threshold: u32,
    // Ties in spans before this one are kept, in spans after it they lose ..
    cut_span: u32,
    // .. and in it they are kept before this entry, counted from the contest's first entry in the slice.
    cut_index: u32,
    // Digits of the threshold that are known, and how many of its lowest bits are not: zeros until they are.
    digits: u32,
    left: u32,
    // Ties that are kept within `cut_span`.
    cut_rank: u32,
    // How many of the keys that agree with it so far are kept; 64 bits.
    rank: vec2<u32>,
    // Where the first bad score is: its slice, and its entry there.
    bad_slice: u32,
    bad_index: u32,
    // 1: the first digit's bin is small, and its entries are the candidates for the rest.
    sifted: u32,
    // Where they are asked for: the effective number and the preserved mass, to be read as floats: `bitcast<f32>(record.mass)`. At
    // most one unit in the last place off the exact values; nothing is decided by them.
    n_eff: u32,
    mass: u32,
}

// `cut_span` when no tie loses.
const NO_CUT: u32 = 0xffffffffu;
