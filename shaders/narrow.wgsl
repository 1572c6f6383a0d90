// Narrow: one more digit of the threshold. After the last digit: the span of parts in which the last kept tie lies. The first digit is found by `budget`.
//
// Grid       one workgroup per contest
// Reads      the contest's histogram; at the end one counter per span
// Writes     the contest's record; clears the histogram for the next digit
// Barriers   between its steps
// Rust twin  src/narrow.rs; src/cpu/contest.rs (`end_ties`)

// Last-digit counts of every span: LOW_BINS words each.
@group(0) @binding(5) var<storage, read_write> span_bins: array<u32>;

@compute @workgroup_size(LANES)
fn narrow(
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
    // Asked for together with the record.
    count_bins(group, lane);
    let before = workgroupUniformLoad(&wg_record);
    if (before.digits == params.digits) {
        return;
    }
    narrow_digit(group, before.rank, lane);
    let record = workgroupUniformLoad(&wg_record);
    let digit = workgroupUniformLoad(&wg_digit);
    if (record.digits == params.digits && record.cut_rank != 0u) {
        // Some ties lose. The spans in runs, a run for each lane.
        let run = (params.all_spans + LANES - 1u) / LANES;
        let end = min((lane + 1u) * run, params.all_spans);
        var ties = vec2<u32>(0u);
        for (var span = lane * run; span < end; span += 4u) {
            let four = spans_ties(group, span, end, digit);
            ties = add_64(ties, add_64(vec2<u32>(four.x, 0u), vec2<u32>(four.y, 0u)));
            ties = add_64(ties, add_64(vec2<u32>(four.z, 0u), vec2<u32>(four.w, 0u)));
        }
        let earlier = sum_before(ties, lane);
        var left = sub_64(record.rank, earlier);
        if (less_64(earlier, record.rank) && !less_64(ties, left)) {
            var span = lane * run;
            var four = spans_ties(group, span, end, digit);
            while (span < end - 1u && less_64(vec2<u32>(four.x, 0u), left)) {
                left = sub_64(left, vec2<u32>(four.x, 0u));
                span += 1u;
                four = vec4<u32>(four.yzw, 0u);
                if ((span - lane * run) % 4u == 0u) {
                    four = spans_ties(group, span, end, digit);
                }
            }
            wg_record.cut_span = span;
            wg_record.cut_rank = left.x;
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        records[group] = wg_record;
    }
}

// Of four spans, asked for together; of those from `end` on, none.
fn spans_ties(group: u32, span: u32, end: u32, digit: u32) -> vec4<u32> {
    let spans = span + vec4<u32>(0u, 1u, 2u, 3u);
    let at = min(spans, vec4<u32>(end - 1u));
    let ties = vec4<u32>(
        span_ties(group, at.x, digit),
        span_ties(group, at.y, digit),
        span_ties(group, at.z, digit),
        span_ties(group, at.w, digit),
    );
    return ties * vec4<u32>(spans < vec4<u32>(end));
}

fn span_ties(group: u32, span: u32, digit: u32) -> u32 {
    return span_bins[(group * params.all_spans + span) * LOW_BINS + digit];
}
