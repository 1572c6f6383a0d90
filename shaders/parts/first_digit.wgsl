// The first digit of a key: its bin on a scale that is fine where the threshold probably lies, and coarse elsewhere. Twelve powers of two are in focus
// and have 128 bins each; all others have two. Bins are in the order of their keys, and each begins at a multiple of its width, a power of two. Wherever
// the focus is, the threshold is found: out of focus its bin only holds more keys.
//
// Rust twin: none. The CPU's first digit is as fine everywhere, and its later ones cost it little.

const FINE_BITS: u32 = 16u;
const COARSE_BITS: u32 = 22u;
// Keys in focus, and their bins; how many more these are than coarse ones would be.
const IN_FOCUS: u32 = 12u << 23u;
const FINE_BINS: u32 = IN_FOCUS >> FINE_BITS;
const MORE_BINS: u32 = FINE_BINS - (IN_FOCUS >> COARSE_BITS);

// The first key in focus, so many powers of two below this exponent.
fn focus_below(exponent: u32, below: u32) -> u32 {
    return min(max(exponent, below) - below, 255u - (IN_FOCUS >> 23u)) << 23u;
}

// The bin of a key; `focus` is the first key in focus, zero or a power of two of at most 2^(243 - 127).
fn bin_of(key: u32, focus: u32) -> u32 {
    let above = key - focus;
    if (above < IN_FOCUS) {
        return (focus >> COARSE_BITS) + (above >> FINE_BITS);
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
