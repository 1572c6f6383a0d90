// Zero: the losers of all contests, by the mask, where what was judged is not what is zeroed: scores beside the weights, or arranged keys.
//
// Grid       one lane per word of the weights
// Reads      the mask; every word of the weights
// Writes     every word of the weights, changed or not
// Rust twin  src/mask.rs (`zero_losers`)

@compute @workgroup_size(LANES)
fn zero(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let word = id.x + id.y * grid.x * LANES;
    if (word * PER_WORD < params.len) {
        drop_losers(word);
    }
}
