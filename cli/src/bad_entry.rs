//! A score that is no finite number, told to people: which tensor it is in, and where.

use crate::lines::Lines;
use crate::overlap::Unwritten;
use crate::safetensors::{Model, TensorInfo};
use emprune::Error;
use std::fmt;
use std::path::Path;

/// What a tensor is called where several files have some.
pub(crate) fn of(info: &TensorInfo, shards: &[Model]) -> String {
    format!("tensor {:?} of {}", info.name, shards[info.shard].path.display())
}

/// What its scores are called: itself, unless a file has them.
pub(crate) fn of_scores(info: &TensorInfo, shards: &[Model], file: Option<&Path>) -> String {
    file.map_or_else(|| of(info, shards), |file| format!("the scores of tensor {:?} in {}", info.name, file.display()))
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

/// What the library tells as an error of the source of weights, and is one of where they go.
#[derive(Debug)]
struct Late(Error);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Unwritten::of(&self.0).map_or(Ok(()), |late| late.fmt(f))
    }
}

impl std::error::Error for Late {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Unwritten::of(&self.0)?.source()
    }
}

/// The error of one tensor, of which these entries were looked at, in words for people; `scores` is the file that its scores are from, if they are not
/// made of its weights.
pub(crate) fn explain(
    error: Error,
    info: Option<&TensorInfo>,
    shards: &[Model],
    entries: Lines,
    scores: Option<&Path>,
) -> anyhow::Error {
    // What was handed over to be written may be of a tensor that the library is done with.
    if let Some(late) = Unwritten::of(&error) {
        let name = of(&late.tensor, shards);
        return anyhow::Error::new(Late(error)).context(name);
    }
    let Some(info) = info else { return error.into() };
    match error.index() {
        Some(index) => {
            let bad = BadEntry::new(entries, index, &error.to_string());
            anyhow::Error::new(bad).context(of_scores(info, shards, scores))
        }
        _ => anyhow::Error::new(error).context(of(info, shards)),
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
