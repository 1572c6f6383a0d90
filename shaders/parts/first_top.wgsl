// Where windows begin: joined lanes alike, so that they can be emptied with one voice. A guess; windows move where it is wrong.

fn first_top(first: u32, end: u32, lane: u32) -> u32 {
    var key = 0u;
    let word_at = first / PER_WORD + lane;
    if (word_at * PER_WORD >= first && word_at * PER_WORD < end) {
        key = key_of(widen(weights[word_at], 0u), word_at * PER_WORD);
    }
    if (key >= KEY_END) {
        key = 0u; // no number
    }
    return joined_max(exponent(key)) + HEADROOM;
}
