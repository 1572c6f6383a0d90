// A word for each lane and a few more: first a sample's exponents (parts/sample.wgsl), later what lanes tell each other (parts/mask_words.wgsl). One
// array for both: workgroup memory is what keeps workgroups from being at work side by side.

const LANE_WORDS: u32 = max(LANES + LANES / 8u, 272u);
var<workgroup> wg_lane_words: array<atomic<u32>, LANE_WORDS>;
