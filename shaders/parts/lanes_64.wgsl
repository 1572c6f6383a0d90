// Lanes of a workgroup that has little to do: more workgroups run side by side, and their barriers are cheaper.

const LANES: u32 = 64u;
