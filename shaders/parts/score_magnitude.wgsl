// The score is the weight's magnitude. Rust twin: src/key.rs.

// The key of entry `at` of the slice, whose magnitude is `weight`.
fn key_of(weight: u32, at: u32) -> u32 {
    return weight;
}

// Twice the key of a word's entry `half`, which is entry `at` of the slice.
fn twice_key_of(word: u32, half: u32, at: u32) -> u32 {
    return widen_twice(word, half);
}
