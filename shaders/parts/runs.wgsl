// Counting in `wg_bins` by runs. Lanes that add to one counter at once wait for each other, and where all scores are equal all of them do. So a
// lane counts by itself how often it meets one bin, and adds when the next one is another. The stage declares `wg_bins`.

var<private> my_bin: u32;
var<private> my_count: u32;

fn count_in(bin: u32) {
    if (bin != my_bin) {
        end_run();
        my_bin = bin;
    }
    my_count += 1u;
}

// Before the barrier behind which bins are read.
fn end_run() {
    atomicAdd(&wg_bins[my_bin], my_count);
    my_count = 0u;
}
