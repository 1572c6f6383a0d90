// Carrying a decision out on a word of two bf16, both at once: a subtraction compares both halves, since a bit set above each keeps a borrow out of the
// other one. Keys end in 16 zeros. Thresholds need not: another slice of the contest may have finer scores. The other choice is parts/carry_word.wgsl.

const BOTH: u32 = 0x10001u;
// Of four words, the last one first, every second bit for an entry, the first word's lowest: of their lower halves in the lower half, of their upper halves in the upper
// one. Those that are kept, and those that do not lie below the end of the candidates.
var<private> my_kept_halves: u32;
var<private> my_high_halves: u32;

fn begin_four() {
    my_kept_halves = 0u;
    my_high_halves = 0u;
}

// A word whose entries are all ours: those below `least` lose, and the bits of the others are returned.
fn carry_word(word: u32, word_at: u32, least: u32) -> u32 {
    // The lowest level that is not below it.
    let level = ((least + 0xffffu) >> 16u) * BOTH;
    let kept = not_below(word, level);
    my_kept_halves = 4u * my_kept_halves + kept;
    my_high_halves = 4u * my_high_halves + not_below(word, level + (my_width >> 16u) * BOTH);
    return kept * 0xffffu;
}

// A word of which no entry is ours.
fn pass_word() {
    my_kept_halves *= 4u;
    my_high_halves *= 4u;
}

fn kept_of_four() -> u32 {
    return flags_of(my_kept_halves);
}

fn low_of_four() -> u32 {
    return ~flags_of(my_high_halves);
}

// A one in the lowest bit of each half of `word` whose magnitude is not below that half of `least`, which is at most 0x7fff.
fn not_below(word: u32, least: u32) -> u32 {
    return (((word | (0x8000u * BOTH)) - least) >> 15u) & BOTH;
}

// The bits of four words in the order of their entries.
fn flags_of(halves: u32) -> u32 {
    return (halves | (halves >> 15u)) & FOUR_FLAGS;
}
