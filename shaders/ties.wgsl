// Ties: among entries equal to the threshold the first ones win. Finds the entry from which on they lose, in the one span of parts of
// this slice that holds it.
//
// Grid       one workgroup per contest
// Reads      one span of one slice; nothing where the cut lies elsewhere or no tie loses
// Writes     the record's cut_index
// Barriers   in each round of 16384 entries, and around them
// Rust twin  src/cpu/ties.rs

// Rounds between two looks at what all have found.
const ROUNDS: u32 = 4u;

// Of each round, all of them.
var<workgroup> wg_totals: array<atomic<u32>, ROUNDS>;
// The first entry of the round that has the last kept tie, or of the next one to look at; and the rank within it.
var<workgroup> wg_round: u32;
var<workgroup> wg_rank: u32;
var<workgroup> wg_is_found: u32;
var<workgroup> wg_record: Record;

@compute @workgroup_size(LANES)
fn ties(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = id.x + id.y * grid.x;
    if (group >= params.groups) {
        return;
    }
    if (lane == 0u) {
        wg_record = records[group];
    }
    if (lane < ROUNDS) {
        atomicStore(&wg_totals[lane], 0u);
    }
    let record = workgroupUniformLoad(&wg_record);
    let spans = (params.parts + params.span - 1u) / params.span;
    if (record.status != 0u || record.cut_span < params.first_span || record.cut_span >= params.first_span + spans) {
        return;
    }
    // From the span's first part to its last one.
    let first_part = (record.cut_span - params.first_span) * params.span;
    let last_part = min(first_part + params.span, params.parts) - 1u;
    let first = range_of(group, first_part).first;
    let end = range_of(group, last_part).end;
    if (lane == 0u) {
        wg_round = first;
        wg_rank = record.cut_rank;
        wg_is_found = 0u;
    }
    var round = workgroupUniformLoad(&wg_round);
    var is_found = 0u;
    while (round < end && is_found == 0u) {
        for (var i = 0u; i < ROUNDS; i += 1u) {
            let mine = ties_in(round + i * ROUND, end, record.threshold, lane);
            if (mine != 0u) {
                atomicAdd(&wg_totals[i], mine);
            }
        }
        workgroupBarrier();
        if (lane == 0u) {
            find_round();
        }
        is_found = workgroupUniformLoad(&wg_is_found);
        round = workgroupUniformLoad(&wg_round);
    }
    find_cut(round, wg_rank, ties_of(round, end, record.threshold, lane), lane);
    if (lane == 0u) {
        records[group].cut_index = wg_cut - group * params.group_len;
    }
}

// One lane: the round that the rank falls into. Where it is in none of these, the next ones are to be looked at.
fn find_round() {
    for (var i = 0u; i < ROUNDS; i += 1u) {
        let ties = atomicExchange(&wg_totals[i], 0u);
        if (wg_is_found == 0u) {
            if (ties >= wg_rank) {
                wg_is_found = 1u;
            } else {
                wg_rank -= ties;
                wg_round += ROUND;
            }
        }
    }
}

// A lane's ties in a round: sixteen words at once, and in an order in which memory is quick.
fn ties_in(round: u32, end: u32, threshold: u32, lane: u32) -> u32 {
    let at = round + lane;
    if (round + ROUND > end) {
        var mine = 0u;
        for (var i = at; i < end; i += LANES) {
            mine += u32(key_at(i) == threshold);
        }
        return mine;
    }
    let a = ties_among(at, threshold);
    let b = ties_among(at + 4u * LANES, threshold);
    let c = ties_among(at + 8u * LANES, threshold);
    let d = ties_among(at + 12u * LANES, threshold);
    let ties = a + b + c + d;
    return ties.x + ties.y + ties.z + ties.w;
}

// Of four entries, a one for each tie.
fn ties_among(at: u32, threshold: u32) -> vec4<u32> {
    let keys = vec4<u32>(key_at(at), key_at(at + LANES), key_at(at + 2u * LANES), key_at(at + 3u * LANES));
    return vec4<u32>(keys == vec4<u32>(threshold));
}
