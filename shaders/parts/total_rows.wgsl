// Sums of rows, in words of 32 bits.

// Of a row in `sums`: S in 12 words, Q in 22, the kept sum in 12.
const ROW_SUMS: u32 = 46u;
@group(0) @binding(3) var<storage, read_write> sums: array<u32>;

fn total_word(group: u32, word: u32, carry: ptr<function, vec2<u32>>) -> u32 {
    return sums[group * ROW_SUMS + word];
}
