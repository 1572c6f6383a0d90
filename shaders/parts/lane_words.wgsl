// A word for each lane and a few more: first a sample's exponents (parts/sample.wgsl), later coarse bins of levels (parts/levels_alone.wgsl) or what lanes tell each
// other, for the mask above all (parts/gather_fours.wgsl, parts/gather_strided.wgsl). One array for all: workgroup memory is what keeps workgroups from being at work side by side.

const LANE_WORDS: u32 = max(LANES + LANES / 8u, 272u);
var<workgroup> wg_lane_words: array<atomic<u32>, LANE_WORDS>;
