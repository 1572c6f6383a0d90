// Where ties end to be kept: entries that equal the threshold, in their order, of which the first so many are kept. A round is a run of entries in which the
// last of these lies: each lane has some neighbours of it.
//
// Rust twin: src/cpu/ties.rs

// Neighbouring entries of a lane.
const RUN: u32 = 16u;
const ROUND: u32 = LANES * RUN;

// Counts of 16 lanes together.
const RUNS: u32 = LANES / 16u;
var<workgroup> wg_run_counts: array<atomic<u32>, RUNS>;
// The entry from which on ties lose.
var<workgroup> wg_cut: u32;

// Those of a lane's neighbours that are ties, a bit for each; `end` is no entry any more. Four are asked for at a time.
fn ties_of(round: u32, end: u32, threshold: u32, lane: u32) -> u32 {
    var ties = 0u;
    for (var i = 0u; i < RUN; i += 4u) {
        let at = round + lane * RUN + i + vec4<u32>(0u, 1u, 2u, 3u);
        let there = min(at, vec4<u32>(end - 1u));
        let keys = vec4<u32>(key_at(there.x), key_at(there.y), key_at(there.z), key_at(there.w));
        let bits = vec4<u32>(keys == vec4<u32>(threshold)) * vec4<u32>(at < vec4<u32>(end));
        ties |= (bits.x | (bits.y << 1u) | (bits.z << 2u) | (bits.w << 3u)) << i;
    }
    return ties;
}

// To `wg_cut`, the entry behind the tie number `rank` of a round, of which these are the lane's; there are so many. Uniform flow; barriers inside.
fn find_cut(round: u32, rank: u32, ties: u32, lane: u32) {
    clear_runs(lane);
    workgroupBarrier();
    atomicStore(&wg_lane_words[lane], ties);
    atomicAdd(&wg_run_counts[lane / 16u], countOneBits(ties));
    workgroupBarrier();
    if (lane == 0u) {
        wg_cut = round + cut_of(rank);
    }
    workgroupBarrier();
}

// One lane: of 16 lanes after the other, then of each of these, then of its ties.
fn cut_of(rank: u32) -> u32 {
    var left = rank;
    var run = 0u;
    while (run < RUNS - 1u && atomicLoad(&wg_run_counts[run]) < left) {
        left -= atomicLoad(&wg_run_counts[run]);
        run += 1u;
    }
    var owner = run * 16u;
    var ties = atomicLoad(&wg_lane_words[owner]);
    while (owner < run * 16u + 15u && countOneBits(ties) < left) {
        left -= countOneBits(ties);
        owner += 1u;
        ties = atomicLoad(&wg_lane_words[owner]);
    }
    // As many as are left, unless the weights have changed since they were counted.
    while (left > 1u && ties != 0u) {
        ties &= ties - 1u;
        left -= 1u;
    }
    return owner * RUN + firstTrailingBit(ties) + 1u;
}

fn clear_runs(lane: u32) {
    if (lane < RUNS) {
        atomicStore(&wg_run_counts[lane], 0u);
    }
}

fn key_at(at: u32) -> u32 {
    return key_of(widen(load_word(at / PER_WORD), at % PER_WORD), at);
}
