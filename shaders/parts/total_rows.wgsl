// Sums of rows, in words of 32 bits: see parts/row_sums.wgsl.

fn total_word(group: u32, word: u32, carry: ptr<function, vec2<u32>>) -> u32 {
    return sums[group * ROW_SUMS + word];
}
