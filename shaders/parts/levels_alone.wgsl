// Counters of levels, a word each. The other choice, for rows, is parts/levels_paired.wgsl.

const COUNTERS: u32 = LEVELS + 1u;
const MOST_STRAYS: u32 = 256u;

fn count_at(place: u32) {
    atomicAdd(&wg_bins[place], 1u);
}

fn count_of(place: u32) -> u32 {
    return atomicLoad(&wg_bins[place]);
}

// The first level that has a counter.
var<private> my_lowest: u32;

// What neighbouring levels of one exponent add up to, from bit `at` of a sum, and from twice that of the other.
fn deposit_levels(at: u32, sums: vec2<u32>, squares: vec2<u32>, squares_above: vec2<u32>, lane: u32) {
    if (all(sums == vec2<u32>(0u))) {
        return;
    }
    deposit(SUM, at, vec4<u32>(sums.x, 0u, 0u, 0u), 1u);
    deposit(SQUARE, 2u * at, vec4<u32>(squares.x, 0u, 0u, 0u), 1u);
    deposit(SQUARE, 2u * at + 16u, vec4<u32>(squares_above.x, 0u, 0u, 0u), 1u);
    if (sums.y != 0u) {
        deposit(SUM, at + 16u, vec4<u32>(sums.y, 0u, 0u, 0u), 1u);
        deposit(SQUARE, 2u * at + 16u, vec4<u32>(squares.y, 0u, 0u, 0u), 1u);
        deposit(SQUARE, 2u * at + 32u, vec4<u32>(squares_above.y, 0u, 0u, 0u), 1u);
    }
}

// They stay what they are until they are handed in: for bins there is no room.
fn levels_to_bins(counts: ptr<function, array<u32, LEVELS / LANES>>, lowest: u32, lane: u32) {
    my_lowest = lowest;
}

// What they say of the first digit. Neighbouring lanes hand in neighbouring bins.
fn hand_in_bins(lane: u32) {
    for (var place = lane; place < LEVELS; place += LANES) {
        count_in_bin(bin_of((my_lowest + place) << 16u, my_focus), count_of(place));
    }
}
