// Counters of a row's levels, two in a word: it has at most 65535 entries. The two levels of a word are one bin in focus, for a row's focus begins where its
// levels do. The other choice is parts/levels_alone.wgsl.

const COUNTERS: u32 = max(BINS, LEAST_COUNTERS);

// A row has few words for each lane: eight would take longer.
const EIGHT_AHEAD: bool = false;

// What all lanes add up to, in units of the least level's exponent: S in three parts of 16 bits, Q in four, carries not yet spread.
const SHARED_WORDS: u32 = 7u;
const SHARED_SQUARE: u32 = 3u;
var<workgroup> wg_shared: array<atomic<u32>, SHARED_WORDS>;

fn clear_shared(lane: u32) {
    if (lane < SHARED_WORDS) {
        atomicStore(&wg_shared[lane], 0u);
    }
}

fn count_at(place: u32) {
    atomicAdd(&wg_bins[place / 2u], 1u + (place & 1u) * 0xffffu);
}

// What the counters say goes to what lanes share. Uniform flow.
fn levels_to_sums(lowest: u32, lane: u32) {
    for (var run = 0u; run < LANE_RUNS; run += 1u) {
        // Neighbouring levels of one exponent: at most 65535 entries, each worth 255 or less.
        let first = (run * LANES + lane) * LANE_LEVELS;
        let key = (lowest + first) << 16u;
        var m = significand(key) >> 16u;
        var sum = 0u;
        var square = 0u;
        for (var i = 0u; i < LANE_LEVELS; i += 2u) {
            let two = atomicLoad(&wg_bins[(first + i) / 2u]);
            let of_first = (two & 0xffffu) * m;
            let of_second = (two >> 16u) * (m + 1u);
            sum += of_first + of_second;
            square += of_first * m + of_second * (m + 1u);
            m += 2u;
        }
        share_levels(sum, square, exponent(key) - exponent(lowest << 16u));
    }
}

// A lane's sums of levels so many powers of two above the lowest: 15 at most.
fn share_levels(sum: u32, square: u32, up: u32) {
    let sum_low = sum << up;
    let low = square << (2u * up);
    let high = (square >> 1u) >> (31u - 2u * up);
    let speaker = is_speaker();
    let sums = joined_3(vec3<u32>(sum_low & 0xffffu, sum_low >> 16u, (sum >> 1u) >> (31u - up)));
    let squares = joined_3(vec3<u32>(low & 0xffffu, low >> 16u, high & 0xffffu));
    let highest = joined(high >> 16u);
    if (speaker && any(sums != vec3<u32>(0u))) {
        atomicAdd(&wg_shared[0], sums.x);
        atomicAdd(&wg_shared[1], sums.y);
        atomicAdd(&wg_shared[2], sums.z);
        atomicAdd(&wg_shared[SHARED_SQUARE], squares.x);
        atomicAdd(&wg_shared[SHARED_SQUARE + 1u], squares.y);
        atomicAdd(&wg_shared[SHARED_SQUARE + 2u], squares.z);
        atomicAdd(&wg_shared[SHARED_SQUARE + 3u], highest);
    }
}

fn count_stray(key: u32) {
    count_in_bin(bin_of(key, my_focus), 1u);
}

// S and Q of what has been shared, in some unit and its square.
fn shared_sum() -> vec4<u32> {
    let sum = add_at(vec4<u32>(atomicLoad(&wg_shared[0]), 0u, 0u, 0u), atomicLoad(&wg_shared[1]), 16u);
    return add_at(sum, atomicLoad(&wg_shared[2]), 32u);
}

fn shared_square() -> vec4<u32> {
    var square = vec4<u32>(atomicLoad(&wg_shared[SHARED_SQUARE]), 0u, 0u, 0u);
    square = add_at(square, atomicLoad(&wg_shared[SHARED_SQUARE + 1u]), 16u);
    square = add_at(square, atomicLoad(&wg_shared[SHARED_SQUARE + 2u]), 32u);
    return add_at(square, atomicLoad(&wg_shared[SHARED_SQUARE + 3u]), 48u);
}

// A stray hardly below the lowest level, in units of 2^-NEAR of that one's lowest bit; zero for another one.
fn near_stray(key: u32) -> u32 {
    let up = exponent(key) + NEAR - exponent(my_lowest << 16u); // wraps where it lies lower
    if (up >= NEAR) {
        return 0u;
    }
    return (significand(key) >> 16u) << up;
}

// Uniform flow; barriers inside. Nothing is done about zeros that have no counter: they lie below all bins in focus, and a row does not ask how many keys do.
fn finish_sums(first: u32, end: u32, lane: u32) {
    workgroupBarrier();
    if (lane < SHARED_WORDS) {
        var base = SUM;
        var at = exponent(my_lowest << 16u) + SCORE_AT + 16u;
        if (lane < SHARED_SQUARE) {
            at += 16u * lane;
        } else {
            base = SQUARE;
            at = 2u * at + 16u * (lane - SHARED_SQUARE);
        }
        deposit(base, at, vec4<u32>(atomicLoad(&wg_shared[lane]), 0u, 0u, 0u), 1u);
    }
    add_strays(first, end, lane);
    spread_carries(lane);
}

// Keys in a bin of the first digit, by its word.
fn keys_in(word: u32) -> u32 {
    return (word & 0xffffu) + (word >> 16u);
}

// Which of a bin's two levels has the key with this rank, and that is all: levels have no further digits.
fn found_in(bin: u32, rank: u32) -> Found {
    let word = atomicLoad(&wg_bins[bin]);
    let upper = word >> 16u;
    if (rank <= upper) {
        return Found((2u * bin + 1u) << 16u, 16u, upper, rank);
    }
    return Found((2u * bin) << 16u, 16u, word & 0xffffu, rank - upper);
}

const FIRST_IS_LAST: bool = true;
