// Sums of contests, in digits of 16 bits that are counters, their carries not yet spread: two to a word of parts/total_rows.wgsl.

// Words of a sum are asked for in order, with what the last one handed on.
fn total_word(group: u32, word: u32, carry: ptr<function, vec2<u32>>) -> u32 {
    let low = total_digit(group, 2u * word, carry);
    return low | (total_digit(group, 2u * word + 1u, carry) << 16u);
}

fn total_digit(group: u32, digit: u32, carry: ptr<function, vec2<u32>>) -> u32 {
    let at = (group * TALLY + TALLY_SUM + digit) * 2u;
    let before = *carry;
    let low = atomicLoad(&tally[at]) + before.x;
    let high = atomicLoad(&tally[at + 1u]) + before.y + u32(low < before.x);
    *carry = vec2<u32>((low >> 16u) | (high << 16u), high >> 16u);
    return low & 0xffffu;
}
