// The bins of a contest's first digit, in the order of their keys: 128 for each power of two in focus, two for each other. Each begins at a multiple of its
// width, a power of two.
//
// Rust twin: none; see parts/first_digit.wgsl.

const FINE_BITS: u32 = 16u;
const FINE_BINS: u32 = IN_FOCUS >> FINE_BITS;
const COARSE_BITS: u32 = 22u;
// How many more bins there are than if all were coarse; and all of them, those of what is no number with them.
const MORE_BINS: u32 = FINE_BINS - (IN_FOCUS >> COARSE_BITS);
const BINS: u32 = MORE_BINS + (1u << (31u - COARSE_BITS));
const_assert BINS <= TALLY_SUM;

// The bin of a key so far above the first in focus, which is `focus`.
fn fine_bin(above: u32, focus: u32) -> u32 {
    return (focus >> COARSE_BITS) + (above >> FINE_BITS);
}

fn bin_of(key: u32, focus: u32) -> u32 {
    let above = key - focus;
    if (above < IN_FOCUS) {
        return fine_bin(above, focus);
    }
    return (key >> COARSE_BITS) + u32(key >= focus) * MORE_BINS;
}

// The first key of a bin.
fn bin_first(bin: u32, focus: u32) -> u32 {
    let first_fine = focus >> COARSE_BITS;
    if (bin < first_fine) {
        return bin << COARSE_BITS;
    }
    if (bin < first_fine + FINE_BINS) {
        return focus + ((bin - first_fine) << FINE_BITS);
    }
    return (bin - MORE_BINS) << COARSE_BITS;
}

// The bits in which its keys differ, lowest ones all.
fn bin_bits(bin: u32, focus: u32) -> u32 {
    if (bin - (focus >> COARSE_BITS) < FINE_BINS) {
        return FINE_BITS;
    }
    return COARSE_BITS;
}
