// Edges: where an odd number of 16-bit entries makes two contests share a word of the weights, or the slice end in half a word, no
// workgroup of `apply` or `rows` owns the word. Its losers are zeroed here, from the mask.
//
// Grid       one lane per contest: the word of its last entry, where that word is shared; 16-bit weights only
// Reads      one word of weights, two bits of the mask
// Writes     that word; bytes past the end of the slice keep their bits
// Rust twin  none: on the CPU a row is a run of bytes

@group(0) @binding(6) var<storage, read_write> mask: array<atomic<u32>>;

@compute @workgroup_size(LANES)
fn edges(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let group = id.x + id.y * grid.x * LANES;
    if (group >= params.groups) {
        return;
    }
    // The border after this contest: odd, it splits a word.
    let border = (group + 1u) * params.group_len;
    if (border % 2u == 0u) {
        return;
    }
    var bits = entry_bits(0u) | entry_bits(1u);
    if (records[group].status == 0u && !is_kept(border - 1u)) {
        bits &= ~entry_bits(0u);
    }
    if (border < params.len && records[group + 1u].status == 0u && !is_kept(border)) {
        bits &= ~entry_bits(1u);
    }
    keep_bits(border / 2u, bits);
}

fn is_kept(at: u32) -> bool {
    return ((atomicLoad(&mask[at / 32u]) >> (at % 32u)) & 1u) == 1u;
}
