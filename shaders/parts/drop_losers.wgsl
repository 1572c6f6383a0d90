// Zeroing what the mask says is lost, where all that is to be known about a word is in the mask and the records.

@group(0) @binding(6) var<storage, read_write> mask: array<atomic<u32>>;

// The losers of one word of the weights. Entries of a contest that was not decided stay, and so does what lies behind the slice.
fn drop_losers(word: u32) {
    var bits = 0xffffffffu;
    for (var half = 0u; half < PER_WORD; half += 1u) {
        let at = word * PER_WORD + half;
        if (at < params.len) {
            let kept = (atomicLoad(&mask[at / 32u]) >> (at % 32u)) & 1u;
            if (kept == 0u && records[contest_of(at)].status == 0u) {
                bits &= ~entry_bits(half);
            }
        }
    }
    keep_bits(word, load_word(word), bits);
}

// The number of an entry's contest: a run of the slice, or a block of its matrix.
fn contest_of(at: u32) -> u32 {
    if (params.block_rows == 0u) {
        return at / params.group_len;
    }
    let stripes = (params.columns + params.block_columns - 1u) / params.block_columns;
    return (at / params.columns) / params.block_rows * stripes + (at % params.columns) / params.block_columns;
}
