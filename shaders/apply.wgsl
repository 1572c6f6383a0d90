// Apply: carry each contest's decision out: mask bits, zeroed losers (with the part `weights_write`), the sum of what is kept.
//
// Grid       one workgroup per `fold` parts of each contest
// Reads      every weight once
// Writes     every word of weights that is the contest's alone, changed or not; a bit of the mask per entry
// Barriers   some in each tile for a mask or a mass, for a mass around each part too
// Leaves     tally: the digits of the sum of kept scores. On bad input: nothing.
// Rust twin  src/cpu/apply.rs

var<workgroup> wg_record: Record;

@compute @workgroup_size(LANES)
fn apply(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let mine = my_fold(id, grid);
    let group = mine.group;
    if (group >= params.groups) {
        return;
    }
    if (lane == 0u) {
        wg_record = records[group];
    }
    let record = workgroupUniformLoad(&wg_record);
    if (record.status != 0u || record.sifted != 0u) {
        return;
    }
    for (var part = mine.first; part < mine.end; part += 1u) {
        let range = range_of(group, part);
        let span = params.first_span + part / params.span;
        var limit = 0u; // all ties lose
        if (span < record.cut_span) {
            limit = 0xffffffffu; // all ties are kept
        } else if (span == record.cut_span) {
            limit = range.origin + record.cut_index;
        }
        carry_out(range, record.threshold, limit, lane);
        if (HAS_MASS) {
            workgroupBarrier();
            if (lane < SQUARE) {
                tally_add(group, TALLY_KEPT + lane, atomicLoad(&wg_digits[SUM + lane]));
            }
            workgroupBarrier();
        }
    }
}
