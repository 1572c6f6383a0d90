// Restore: what was decided about arranged keys, back where it belongs: mask bits to their entries, records to the numbers of their contests.
//
// Grid       one lane per word of the mask, and one per contest
// Reads      the arranged mask and records; of a contest that was not decided, its first bad weight
// Writes     every word of the mask; the bits of contests that were not decided stay. Every record
// Rust twin  src/cpu/blocks.rs (`carry_out_fates`), src/drive.rs (`staged`)

@group(0) @binding(5) var<storage, read_write> arranged_records: array<Record>;
@group(0) @binding(6) var<storage, read_write> mask: array<u32>;
@group(0) @binding(8) var<storage, read_write> arranged_mask: array<u32>;

@compute @workgroup_size(LANES)
fn restore(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let number = id.x + id.y * grid.x * LANES;
    if (number < (params.len + 31u) / 32u) {
        restore_word(number);
    }
    if (number < params.groups) {
        let stripes = (params.columns + params.block_columns - 1u) / params.block_columns;
        restore_record(number, block_of(number / stripes, number % stripes));
    }
}

fn restore_word(word: u32) {
    // The unused bits behind the last entry go with it.
    var ours = 0u;
    var bits = 0u;
    for (var i = 0u; i < 32u; i += 1u) {
        let at = min(word * 32u + i, params.len - 1u);
        let row = at / params.columns;
        let column = at % params.columns;
        let block = block_of(row / params.block_rows, column / params.block_columns);
        if (arranged_records[block.record].status == 0u) {
            ours |= 1u << i;
            if (at == word * 32u + i) {
                let place = place_in(block, row, column);
                bits |= ((arranged_mask[place / 32u] >> (place % 32u)) & 1u) << i;
            }
        }
    }
    mask[word] = (mask[word] & ~ours) | bits;
}

fn restore_record(group: u32, block: Block) {
    var record = arranged_records[block.record];
    if (record.status != 0u) {
        // The bad key's number among those of its class, to the entry that it is of; and what is wrong with that.
        let place = record.bad_index + block.class_first - block.first;
        let at = (block.row + place / block.columns) * params.columns + block.column + place % block.columns;
        record.bad_index = at;
        record.status = 1u + (~bad_word(widen(load_word(at / PER_WORD), at % PER_WORD), at) & 3u);
    }
    records[group] = record;
}
