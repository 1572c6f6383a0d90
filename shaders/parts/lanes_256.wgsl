// Lanes of a workgroup: as many as WebGPU guarantees.

const LANES: u32 = 256u;
