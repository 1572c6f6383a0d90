// Carrying a decision out on a word, entry by entry. The other choice is parts/carry_word_bf16.wgsl.

// Of four words, the last one first, a bit for each entry, the first entry's lowest: those that lose, and those that lie below the end of the candidates.
var<private> my_lost: u32;
var<private> my_low: u32;

fn begin_four() {
    my_lost = 0u;
    my_low = 0u;
}

// A word whose entries are all ours: those below `least` lose, and the bits of the others are returned. Keys have 31 bits, so that the highest bit of a difference says which is larger.
fn carry_word(word: u32, word_at: u32, least: u32) -> u32 {
    var zeroed = 0u;
    for (var half = PER_WORD; half > 0u; half -= 1u) {
        let above = key_of(widen(word, half - 1u), word_at * PER_WORD + half - 1u) - least;
        my_lost = (my_lost << 1u) | (above >> 31u);
        my_low = (my_low << 1u) | ((above - my_width) >> 31u);
        zeroed |= entry_bits(half - 1u) & u32(i32(above) >> 31u);
    }
    return ~zeroed;
}

// A word of which no entry is ours.
fn pass_word() {
    my_lost = (my_lost << PER_WORD) | ((1u << PER_WORD) - 1u);
    my_low = my_low << PER_WORD;
}

fn kept_of_four() -> u32 {
    return ~my_lost & FOUR_FLAGS;
}

fn low_of_four() -> u32 {
    return my_low;
}
