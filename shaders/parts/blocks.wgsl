// Contests that are the blocks of a matrix, smaller at its right and lower edge, and where their keys are laid end to end: those of the blocks
// inside first, then of those at the right edge, at the lower edge, and in the corner, each of these four classes at a place of its own. Blocks
// are numbered row by row.
//
// Rust twin: src/grid.rs (`classes`, `by_class`), src/gpu/layout.rs (`padded_keys`, `padded_records`).

const KEY_PAD: u32 = 2048u;
const RECORD_PAD: u32 = 32u;

struct Block {
    // Its corner, and its columns.
    row: u32,
    column: u32,
    columns: u32,
    // Where its keys begin, and where those of its class do.
    first: u32,
    class_first: u32,
    // Where its record is, among those of arranged contests.
    record: u32,
}

// The block number `stripe` of row of blocks number `band`.
fn block_of(band: u32, stripe: u32) -> Block {
    let rows = params.len / params.columns;
    let bands = rows / params.block_rows;
    let stripes = params.columns / params.block_columns;
    let rest_rows = rows % params.block_rows;
    let rest_columns = params.columns % params.block_columns;
    var block: Block;
    block.row = band * params.block_rows;
    block.column = stripe * params.block_columns;
    block.columns = params.block_columns;
    var block_rows = params.block_rows;
    var number = band * stripes + stripe;
    if (stripe == stripes) {
        // Past those of the whole width.
        block.columns = rest_columns;
        number = band;
        block.class_first += pad_keys(bands * stripes * params.block_rows * params.block_columns);
        block.record += pad_records(bands * stripes);
    }
    if (band == bands) {
        block_rows = rest_rows;
        block.class_first = pad_keys(bands * stripes * params.block_rows * params.block_columns)
            + pad_keys(bands * params.block_rows * rest_columns);
        block.record = pad_records(bands * stripes) + pad_records(bands * u32(rest_columns != 0u));
        number = stripe;
        if (stripe == stripes) {
            number = 0u;
            block.class_first += pad_keys(rest_rows * stripes * params.block_columns);
            block.record += pad_records(stripes);
        }
    }
    block.first = block.class_first + number * block_rows * block.columns;
    block.record += number;
    return block;
}

// Where the key of an entry lies, given its block.
fn place_in(block: Block, row: u32, column: u32) -> u32 {
    return block.first + (row - block.row) * block.columns + column - block.column;
}

fn pad_keys(len: u32) -> u32 {
    return (len + KEY_PAD - 1u) & ~(KEY_PAD - 1u);
}

fn pad_records(contests: u32) -> u32 {
    return (contests + RECORD_PAD - 1u) & ~(RECORD_PAD - 1u);
}
