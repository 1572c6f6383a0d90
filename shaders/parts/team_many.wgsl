// A team of several lanes for each contest, and the words that they share. `TEAM` and `LANES` are the plan's.

const TEAMS: u32 = LANES / TEAM;
// The digits of two sums; an odd number, so that teams begin in different banks.
const TEAM_WORDS: u32 = 69u;

var<workgroup> wg_team: array<atomic<u32>, TEAMS * TEAM_WORDS>;
var<private> my_words: u32;
// Whether joined lanes are all of one team, and can speak with one voice.
var<private> my_alike: bool;

// Uniform flow, as for `team_barrier`, `team_add` and `team_max`.
fn team_begin(lane: u32) {
    my_words = lane / TEAM * TEAM_WORDS;
    my_alike = joined_all(from_speaker(lane / TEAM) == lane / TEAM);
}

// After the words of other teams or other uses are done with.
fn team_clear(lane: u32) {
    for (var i = lane % TEAM; i < TEAM_WORDS; i += TEAM) {
        atomicStore(&wg_team[my_words + i], 0u);
    }
}

fn team_barrier() {
    workgroupBarrier();
}

// Each lane's share of a sum.
fn team_add(at: u32, value: u32) {
    let sum = joined(value);
    let speaker = is_speaker();
    if (!my_alike) {
        add_digit(at, value);
    } else if (speaker) {
        add_digit(at, sum);
    }
}

// Each lane's share of a maximum.
fn team_max(at: u32, value: u32) {
    let most = joined_max(value);
    let speaker = is_speaker();
    if (!my_alike) {
        atomicMax(&wg_team[my_words + at], value);
    } else if (speaker) {
        atomicMax(&wg_team[my_words + at], most);
    }
}

// As sums need it.
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
