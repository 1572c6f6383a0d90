// Ties: among entries equal to the threshold the first ones win. Finds the entry from which on they lose, in the one span of parts of
// this slice that holds it.
//
// Grid       one workgroup per contest
// Reads      one span of one slice; nothing where the cut lies elsewhere or no tie loses
// Writes     the record's cut_index
// Barriers   three per 4096 entries
// Rust twin  src/cpu/ties.rs

// Neighbouring entries that a lane looks at in one round.
const RUN: u32 = 16u;

var<workgroup> wg_ties: array<u32, LANES>;
var<workgroup> wg_total: atomic<u32>;
var<workgroup> wg_round: u32;
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
        atomicStore(&wg_total, 0u);
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
    var rank = record.cut_rank;
    for (var round = first; round < end; round += LANES * RUN) {
        let run = round + lane * RUN;
        var mine = 0u;
        for (var at = run; at < min(run + RUN, end); at += 1u) {
            mine += u32(key_at(at) == record.threshold);
        }
        wg_ties[lane] = mine;
        if (mine != 0u) {
            atomicAdd(&wg_total, mine);
        }
        workgroupBarrier();
        if (lane == 0u) {
            wg_round = atomicLoad(&wg_total);
            atomicStore(&wg_total, 0u);
        }
        let in_round = workgroupUniformLoad(&wg_round);
        if (in_round >= rank) {
            if (lane == 0u) {
                records[group].cut_index = cut(round, rank, record.threshold, end) - group * params.group_len;
            }
            return;
        }
        rank -= in_round;
    }
}

// The entry after the tie number `rank` of a round.
fn cut(round: u32, rank: u32, threshold: u32, end: u32) -> u32 {
    var left = rank;
    var owner = 0u;
    while (owner < LANES - 1u && wg_ties[owner] < left) {
        left -= wg_ties[owner];
        owner += 1u;
    }
    for (var at = round + owner * RUN; at < end; at += 1u) {
        left -= u32(key_at(at) == threshold);
        if (left == 0u) {
            return at + 1u;
        }
    }
    return end;
}

fn key_at(at: u32) -> u32 {
    return key_of(widen(weights[at / PER_WORD], at % PER_WORD), at);
}
