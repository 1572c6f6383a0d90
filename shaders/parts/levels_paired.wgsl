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
