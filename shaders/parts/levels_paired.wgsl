// Counters of a row's levels, two in a word: it has at most 65535 entries. The two levels of a word are one bin in focus, for a row's focus begins where its
// levels do. The other choice is parts/levels_alone.wgsl.

const COUNTERS: u32 = max(BINS, LEAST_COUNTERS);
const MOST_STRAYS: u32 = 64u;

fn count_at(place: u32) {
    atomicAdd(&wg_bins[place / 2u], 1u << (16u * (place & 1u)));
}

fn count_of(place: u32) -> u32 {
    return (atomicLoad(&wg_bins[place / 2u]) >> (16u * (place & 1u))) & 0xffffu;
}

// What neighbouring levels of one exponent add up to, from bit `at` of a sum, and from twice that of the other. Counts have no upper halves here. Uniform
// flow; six barriers for every sixteen levels a lane.
fn deposit_levels(at: u32, sums: vec2<u32>, squares: vec2<u32>, squares_above: vec2<u32>, lane: u32) {
    deposit_together(SUM, at, sums.x, lane);
    deposit_together(SQUARE, 2u * at, squares.x, lane);
    deposit_together(SQUARE, 2u * at + 16u, squares_above.x, lane);
}

// Lanes whose levels have the same exponent: 16, or 8.
const ALIKE: u32 = (1u << EXPONENT_BITS) / LANE_LEVELS;

// The first of them speaks for all: they would wait for each other at the same digits. Together they have at most 65535 entries, each worth 2^8 or less.
fn deposit_together(base: u32, at: u32, value: u32, lane: u32) {
    atomicStore(&wg_lane_words[lane], value);
    workgroupBarrier();
    if (lane % ALIKE == 0u) {
        var sum = four_values(lane) + four_values(lane + 4u);
        if (ALIKE == 16u) {
            sum += four_values(lane + 8u) + four_values(lane + 12u);
        }
        if (sum != 0u) {
            deposit(base, at, vec4<u32>(sum, 0u, 0u, 0u), 1u);
        }
    }
    workgroupBarrier();
}

// What four lanes have said.
fn four_values(lane: u32) -> u32 {
    return atomicLoad(&wg_lane_words[lane]) + atomicLoad(&wg_lane_words[lane + 1u]) + atomicLoad(&wg_lane_words[lane + 2u])
        + atomicLoad(&wg_lane_words[lane + 3u]);
}

// Uniform flow; a barrier.
fn levels_to_bins(counts: ptr<function, array<u32, LEVELS / LANES>>, lowest: u32, lane: u32) {
    for (var i = 0u; i < LEVELS / LANES; i += 2u) {
        let first = (i / LANE_LEVELS * LANES + lane) * LANE_LEVELS + i % LANE_LEVELS;
        atomicStore(&wg_bins[first / 2u], (*counts)[i] + (*counts)[i + 1u]);
    }
    if (lane == 0u) {
        atomicStore(&wg_bins[LEVELS / 2u], 0u);
    }
    workgroupBarrier();
}
