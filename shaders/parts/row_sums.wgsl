// The sums of rows, in words of 32 bits: of each row S in 12, Q in 22, the kept sum in 12.
//
// Rust twin: src/gpu/layout.rs (`ROW_SUMS`).

const ROW_SUMS: u32 = 46u;
@group(0) @binding(3) var<storage, read_write> sums: array<u32>;
