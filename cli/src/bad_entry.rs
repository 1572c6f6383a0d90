//! A score that is no finite number, told to people: which tensor it is in, and where.

use crate::lines::Lines;
use crate::overlap::Unwritten;
use crate::safetensors::{Model, TensorInfo};
use emprune::Error;
use std::fmt;

/// What a tensor is called where several files have some.
pub(crate) fn of(info: &TensorInfo, shards: &[Model]) -> String {
    format!("tensor {:?} of {}", info.name, shards[info.shard].path.display())
}

/// A score that is no finite number.
#[derive(Debug)]
pub(crate) struct BadEntry {
    /// The entry that it is of.
    pub(crate) at: u64,
    message: String,
}

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BadEntry {}

impl BadEntry {
    /// The library counts entries among those that it was given; people count from where the tensor begins.
    fn new(entries: Lines, index: u64, message: &str) -> Self {
        let at = entries.at(index);
        Self { at, message: message.replacen(&format!("entry {index} "), &format!("entry {at} "), 1) }
    }
}

/// The error of one tensor, of which these entries were looked at, in words for people.
pub(crate) fn explain(error: Error, info: Option<&TensorInfo>, shards: &[Model], entries: Lines) -> anyhow::Error {
    // What was handed over to be written may be of a tensor that the library is done with.
    let info = Unwritten::of(&error).map(|late| late.tensor.clone()).or(info.cloned());
    let Some(info) = &info else { return error.into() };
    let name = of(info, shards);
    match error.index() {
        Some(index) => anyhow::Error::new(BadEntry::new(entries, index, &error.to_string())).context(name),
        _ => anyhow::Error::new(error).context(name),
    }
}

#[cfg(test)]
mod tests {
    use super::BadEntry;
    use crate::lines::Lines;

    #[test]
    fn a_bad_entry_is_counted_from_the_tensors_first() {
        let bad = |entries| BadEntry::new(entries, 17, "entry 17 is NaN").to_string();
        assert_eq!(bad(Lines::run(4_000_000..5_000_000)), "entry 4000017 is NaN");
        assert_eq!(bad(Lines::columns(100, 3, 10, 50)), "entry 157 is NaN");
    }
}
