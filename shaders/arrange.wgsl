// Arrange: the keys of contests that are no runs of neighbours, laid end to end, for `rows` and the stages of long contests to decide.
//
// Grid       one lane per entry
// Reads      every weight once
// Writes     a key per entry
// Rust twin  src/cpu/blocks.rs (`arrange`)

@group(0) @binding(3) var<storage, read_write> keys: array<u32>;

@compute @workgroup_size(LANES)
fn arrange(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let at = id.x + id.y * grid.x * LANES;
    if (at >= params.len) {
        return;
    }
    let row = at / params.columns;
    let column = at % params.columns;
    let block = block_of(row / params.block_rows, column / params.block_columns);
    keys[place_in(block, row, column)] = key_of(widen(load_word(at / PER_WORD), at % PER_WORD), at);
}
