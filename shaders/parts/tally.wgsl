// Counters of a contest in device memory, 64 bits each (low word, high word): additions come from many workgroups in any order and
// give the same integer.
//
// Rust twin: src/gpu/layout.rs (`TALLY_*`).

// The histogram of the digit in progress, of BINS or LOW_BINS counters, then the digits of three sums: of scores, of their squares, of kept scores.
const TALLY_SUM: u32 = 2560u;
const TALLY_SQUARE: u32 = 2584u;
const TALLY_KEPT: u32 = 2628u;
// And no counter: the first key in focus.
const TALLY_FOCUS: u32 = 2652u;
const TALLY: u32 = 2653u;

@group(0) @binding(3) var<storage, read_write> tally: array<atomic<u32>>;

fn tally_add(group: u32, counter: u32, value: u32) {
    if (value == 0u) {
        return;
    }
    let at = (group * TALLY + counter) * 2u;
    let before = atomicAdd(&tally[at], value);
    if (before + value < value) {
        atomicAdd(&tally[at + 1u], 1u);
    }
}
