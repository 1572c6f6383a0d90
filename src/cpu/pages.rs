//! Memory for what is long and new with every call: the outcomes of millions of contests, and keys that are laid end to end.
//!
//! A system clears such memory page by page as it is first touched. In pages of 4 KiB that takes up to half as long as it does to decide contests
//! of sixteen entries; Linux takes larger ones where it is asked to.

use bytemuck::Zeroable;

/// So many zeros.
pub(crate) fn zeroed<T: Zeroable>(len: usize) -> Vec<T> {
    let zeros: Vec<T> = bytemuck::zeroed_vec(len);
    #[cfg(target_os = "linux")]
    in_large_pages(&zeros);
    zeros
}

/// Ask for large pages where such a one holds nothing else. Whatever the system answers, nothing but the time changes.
#[cfg(target_os = "linux")]
fn in_large_pages<T>(memory: &[T]) {
    use rustix::mm::{Advice, madvise};
    /// A large page, of those systems whose usual ones have 4 KiB; the others' usual ones fit it too.
    const LARGE: usize = 2 << 20;
    let start = memory.as_ptr().cast::<u8>();
    let skipped = start.align_offset(LARGE);
    let size = size_of_val(memory).saturating_sub(skipped) / LARGE * LARGE;
    if size > 0 {
        let start = start.wrapping_add(skipped).cast_mut().cast();
        #[allow(unsafe_code, reason = "no safe call asks for this; benches/README.md has what it is worth")]
        // SAFETY: these bytes are within `memory`. The advice says how to back them, and neither reads, writes nor frees them.
        let _ = unsafe { madvise(start, size, Advice::LinuxHugepage) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_zeros_and_ours() {
        for len in [0, 1, 1000, (2 << 20) - 1, (4 << 20) + 3, 9 << 20] {
            let mut bytes = zeroed::<u8>(len);
            assert!(bytes.len() == len && bytes.iter().all(|&byte| byte == 0));
            bytes.fill(0xa5);
            assert!(bytes.iter().all(|&byte| byte == 0xa5));
        }
    }
}
