//! `--targets` and `--ignore`: a name, else `re:` and a regex, else a glob.

use crate::Usage;
use crate::table::shortened;
use anyhow::Result;
use globset::GlobBuilder;
use regex::{Regex, bytes};

/// What one pattern means among the names of one file.
#[derive(Debug)]
pub(crate) struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Debug)]
enum Matcher {
    /// The tensor of this name and no other, whatever characters the name has.
    Name(String),
    Regex(Regex),
    Glob(bytes::Regex),
}

/// A name is no longer.
const LONGEST: usize = 4096;
/// They may lie in each other, and what reads them takes some of the stack for each.
const MOST_BRACES: usize = 64;
/// Characters of one that an error shows.
const MOST_SHOWN: usize = 80;

impl Pattern {
    /// Read a pattern; `exists` says whether there is a tensor of a name.
    ///
    /// A name comes first, so that one with brackets in it can be named. Modules are known by the name of their weight,
    /// as in llm-compressor.
    pub(crate) fn new(text: &str, exists: impl Fn(&str) -> bool) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(invalid(text, &format!("it has {} bytes, and {LONGEST} are the most", text.len())).into());
        }
        let weight = format!("{text}.weight");
        let matcher = if exists(text) {
            Matcher::Name(text.to_owned())
        } else if exists(&weight) {
            Matcher::Name(weight)
        } else if let Some(regex) = text.strip_prefix("re:") {
            Matcher::Regex(Regex::new(regex).map_err(|e| invalid(text, &e))?)
        } else {
            Matcher::Glob(glob(text)?)
        };
        Ok(Self { text: text.to_owned(), matcher })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it names one tensor, so that the tensor must be pruned or be an error.
    pub(crate) fn is_name(&self) -> bool {
        matches!(self.matcher, Matcher::Name(_))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Name(text) => text == name,
            // Like Python's `re.match`: from the start, and not necessarily to the end. The leftmost match starts at 0
            // exactly when there is one that does.
            Matcher::Regex(regex) => regex.find(name).is_some_and(|found| found.start() == 0),
            Matcher::Glob(glob) => glob.is_match(name.as_bytes()),
        }
    }
}

/// What a glob means. Compiled here: globset panics where there is no regex for it.
fn glob(text: &str) -> Result<bytes::Regex, Usage> {
    let braces = text.bytes().filter(|byte| *byte == b'{').count();
    if braces > MOST_BRACES {
        let many = format!("it has {braces} braces, and {MOST_BRACES} are the most; re: and a regex has no such limit");
        return Err(invalid(text, &many));
    }
    let glob = GlobBuilder::new(text).backslash_escape(true).build().map_err(|e| invalid(text, &e))?;
    let regex = bytes::RegexBuilder::new(glob.regex()).dot_matches_new_line(true).build();
    regex.map_err(|e| invalid(text, &e))
}

/// Regex errors draw a picture of several lines; the last one says what is wrong.
fn invalid(text: &str, error: &dyn std::fmt::Display) -> Usage {
    let message = error.to_string();
    let reason = message.lines().last().unwrap_or_default();
    let text = shortened(text, MOST_SHOWN);
    Usage(format!("the pattern {text:?} cannot be read: {}", reason.trim_start_matches("error: ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 6] = ["a.b.weight", "a.b.bias", "a.[0].weight", "a.0.weight", "a.0", "a/b\\c"];

    fn matched(text: &str) -> Vec<&'static str> {
        let pattern = Pattern::new(text, |name| NAMES.contains(&name)).unwrap();
        NAMES.into_iter().filter(|name| pattern.matches(name)).collect()
    }

    #[test]
    fn a_name_means_that_tensor() {
        assert_eq!(matched("a.b.bias"), ["a.b.bias"]);
        assert_eq!(matched("a.[0].weight"), ["a.[0].weight"], "and is no glob");
        assert_eq!(matched("a.0"), ["a.0"], "the name before the module");
        assert_eq!(matched("a.b"), ["a.b.weight"], "a module is its weight");
    }

    #[test]
    fn a_glob_crosses_dots_and_slashes() {
        assert_eq!(matched("a*t"), ["a.b.weight", "a.[0].weight", "a.0.weight"]);
        assert_eq!(matched("*"), NAMES);
        assert_eq!(matched("a.?.{weight,bias}"), ["a.b.weight", "a.b.bias", "a.0.weight"]);
        assert_eq!(matched("a.[a-z].*"), ["a.b.weight", "a.b.bias"]);
        assert_eq!(matched("a.\\[*"), ["a.[0].weight"]);
        assert_eq!(matched("A.*"), [""; 0], "case counts");
        assert_eq!(matched("b.weight"), [""; 0], "from start to end");
    }

    #[test]
    fn a_regex_is_anchored_at_the_start_alone() {
        assert_eq!(matched("re:a\\.[b0]"), ["a.b.weight", "a.b.bias", "a.0.weight", "a.0"]);
        assert_eq!(matched("re:b"), [""; 0]);
        assert_eq!(matched("re:x|a.b.b"), ["a.b.bias"], "alternatives are anchored too");
        assert_eq!(matched("re:.*(?x) # a comment"), NAMES);
    }

    /// What a stranger's recipe may have: it panicked, or took all of the stack.
    #[test]
    fn a_pattern_of_any_size_is_taken_or_refused() {
        for (text, part) in [
            ("{a,".repeat(249) + &"}".repeat(249), "249 braces, and 64 are the most"),
            ("{".repeat(100_000), "100000 bytes, and 4096 are the most"),
            ("{".repeat(4096), "4096 braces"),
            ("?".repeat(400_000), "400000 bytes"),
            ("re:".to_owned() + &"(".repeat(2000) + &")".repeat(2000), "nest"),
            ("re:".to_owned() + &"\\w".repeat(2000), "size limit"),
        ] {
            let message = Pattern::new(&text, |_| false).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains('\n'), "{message}, without {part:?}");
            assert!(message.len() < 300, "{message}");
        }
        for text in ["?".repeat(4096), "{a,".repeat(64) + &"}".repeat(64), "[!a-z]".repeat(682), "*".repeat(4096)] {
            Pattern::new(&text, |_| false).unwrap();
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_read_says_why_in_one_line() {
        for text in ["re:(", "[", "a{b"] {
            let message = Pattern::new(text, |_| false).unwrap_err().to_string();
            assert!(message.contains(text) && message.contains(": ") && !message.contains('\n'), "{message}");
        }
    }
}
