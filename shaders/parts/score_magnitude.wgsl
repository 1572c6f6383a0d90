// The score is the weight's magnitude. Rust twin: src/key.rs.

// The key of entry `at` of the slice, whose magnitude is `weight`.
fn key_of(weight: u32, at: u32) -> u32 {
    return weight;
}

// Twice the key of a word's entry `half`, which is entry `at` of the slice.
fn twice_key_of(word: u32, half: u32, at: u32) -> u32 {
    return widen_twice(word, half);
}

// A number whose lowest 23 bits are the mantissa of the key, as those of `other` are: whichever takes less.
fn with_mantissa_of_key(word: u32, other: u32) -> u32 {
    return with_mantissa(word, other);
}
