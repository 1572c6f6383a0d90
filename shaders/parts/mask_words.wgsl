// From decisions to words of the mask. A tile is 16 words of weights a lane, 8 of eight-bit ones. Each lane keeps a bit per entry; then each lane gathers the 32
// bits of a mask word from the lanes that saw its entries.

@group(0) @binding(6) var<storage, read_write> mask: array<atomic<u32>>;

const TILE_WORDS: u32 = min(16u, 32u / PER_WORD);
const TILE_ENTRIES: u32 = LANES * TILE_WORDS * PER_WORD;
// Words of weights that make a word of the mask.
const MASK_SPAN: u32 = 32u / PER_WORD;

var<workgroup> wg_flags: array<u32, LANES>;

// The bits of the tile's mask word number `number`. Each lane begins elsewhere, so that lanes read different banks.
fn gather(number: u32) -> u32 {
    var word = 0u;
    for (var i = 0u; i < MASK_SPAN; i += 1u) {
        let j = (i + number) % MASK_SPAN;
        let at = number * MASK_SPAN + j;
        let flags = (wg_flags[at % LANES] >> ((at / LANES) * PER_WORD)) & ((1u << PER_WORD) - 1u);
        word |= flags << (j * PER_WORD);
    }
    return word;
}

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
