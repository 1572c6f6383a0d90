// Lanes joined by their subgroup, of any size and in any order: nothing here says which lanes of the workgroup are in it, and a subgroup of
// one would do too. Needs the feature SUBGROUP; for Tint, `enable subgroups;` goes in front of the whole.

fn joined(value: u32) -> u32 {
    return subgroupAdd(value);
}

fn joined_3(value: vec3<u32>) -> vec3<u32> {
    return subgroupAdd(value);
}

fn joined_max(value: u32) -> u32 {
    return subgroupMax(value);
}

fn joined_all(value: bool) -> bool {
    return subgroupAll(value);
}

fn is_speaker() -> bool {
    return subgroupExclusiveAdd(1u) == 0u;
}

fn from_speaker(value: u32) -> u32 {
    return subgroupBroadcastFirst(value);
}

// How often products are widened before lanes share them: joined they cost little, and a lane need not keep them.
const SHARE: u32 = 1u;
