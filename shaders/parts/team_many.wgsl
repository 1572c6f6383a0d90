// A team of several lanes for each contest, and the words that they share. `TEAM` and `LANES` are the plan's.

const TEAMS: u32 = LANES / TEAM;
// The digits of two sums; an odd number, so that teams begin in different banks.
const TEAM_WORDS: u32 = 69u;

var<workgroup> wg_team: array<atomic<u32>, TEAMS * TEAM_WORDS>;
var<private> my_words: u32;

// Uniform flow; after the words of other teams or other uses are done with.
fn team_clear(lane: u32) {
    my_words = lane / TEAM * TEAM_WORDS;
    for (var i = lane % TEAM; i < TEAM_WORDS; i += TEAM) {
        atomicStore(&wg_team[my_words + i], 0u);
    }
}

fn team_barrier() {
    workgroupBarrier();
}

// Each lane's share of a sum. Uniform flow.
fn team_add(at: u32, value: u32) {
    add_digit(at, value);
}

// Each lane's share of a maximum. Uniform flow.
fn team_max(at: u32, value: u32) {
    atomicMax(&wg_team[my_words + at], value);
}

// Also in flow of its own, as sums need it.
fn add_digit(at: u32, value: u32) {
    if (value != 0u) {
        atomicAdd(&wg_team[my_words + at], value);
    }
}

fn team_word(at: u32) -> u32 {
    return atomicLoad(&wg_team[my_words + at]);
}

fn team_set(at: u32, value: u32) {
    atomicStore(&wg_team[my_words + at], value);
}
