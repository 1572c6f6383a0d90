// From decisions to words of the mask. A tile is some words of weights a lane, with at most 32 entries. Each lane keeps a bit per entry; then each
// lane gathers the 32 bits of a mask word from the lanes that saw its entries: by parts/gather_strided.wgsl or parts/gather_fours.wgsl.

@group(0) @binding(6) var<storage, read_write> mask: array<atomic<u32>>;

const TILE_WORDS: u32 = min(MOST_TILE_WORDS, 32u / PER_WORD);
const TILE_ENTRIES: u32 = LANES * TILE_WORDS * PER_WORD;
// Write the bits of entries first..end; the last entry of the slice brings the unused bits behind it.
fn write_mask(at: u32, bits: u32, first: u32, end: u32) {
    var ours = 0xffffffffu;
    if (at * 32u < first) {
        ours &= 0xffffffffu << (first - at * 32u);
    }
    if (at * 32u + 32u > end && end != params.len) {
        ours &= 0xffffffffu >> (at * 32u + 32u - end);
    }
    if (ours == 0xffffffffu) {
        atomicStore(&mask[at], bits);
    } else {
        atomicAnd(&mask[at], ~ours);
        atomicOr(&mask[at], bits & ours);
    }
}
