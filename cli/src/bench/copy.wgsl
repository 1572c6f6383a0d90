// A copy of weights from buffer to buffer, four times sixteen bytes a lane: on some devices faster than the driver's own.

@group(0) @binding(0) var<storage, read> pristine: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> weights: array<vec4<u32>>;

const LANES: u32 = 256u;
const EACH: u32 = 4u;

@compute @workgroup_size(LANES)
fn copy(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (id.x + id.y * grid.x) * LANES * EACH + lane;
    let end = arrayLength(&weights);
    if (first + (EACH - 1u) * LANES < end) {
        let a = pristine[first];
        let b = pristine[first + LANES];
        let c = pristine[first + 2u * LANES];
        let d = pristine[first + 3u * LANES];
        weights[first] = a;
        weights[first + LANES] = b;
        weights[first + 2u * LANES] = c;
        weights[first + 3u * LANES] = d;
    } else {
        for (var at = first; at < end; at += LANES) {
            weights[at] = pristine[at];
        }
    }
}
