// Edges: where entries of 8 or 16 bits make two contests share a word of the weights, or the slice end within a word, no workgroup of
// `apply`, `sift`, `rows` or `teams` owns the word. Its losers are zeroed here, from the mask.
//
// Grid       one lane per contest: the word of its end, where that is shared and no end before it lies there too
// Reads      one word of weights, its bits of the mask
// Writes     that word; bytes past the end of the slice keep their bits
// Rust twin  none: on the CPU a row is a run of bytes

@compute @workgroup_size(LANES)
fn edges(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let group = id.x + id.y * grid.x * LANES;
    if (group >= params.groups) {
        return;
    }
    let start = group * params.group_len;
    let end = start + params.group_len;
    // The end splits a word, and is the first one to do so.
    if (end % PER_WORD != 0u && start <= end - end % PER_WORD) {
        drop_losers(end / PER_WORD);
    }
}
