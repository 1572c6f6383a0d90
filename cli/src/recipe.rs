//! `--recipe`: settings by pattern. The keys of a rule are the options of the command line, read by the same parser.

use crate::Usage;
use crate::input::read_text;
use crate::settings::Settings;
use anyhow::{Context, Result};
use clap::builder::Resettable;
use clap::error::ContextKind;
use clap::{Args, Command, FromArgMatches};
use std::path::Path;

/// Rules in their order. The first that matches a tensor is the one that applies.
#[derive(Debug, Default)]
pub(crate) struct Recipe {
    pub(crate) rules: Vec<Rule>,
}

/// What is asked about the tensors that match.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) patterns: Vec<String>,
    /// `true`: leave them alone. `false`: prune them, even where their names make them exceptions.
    pub(crate) skip: Option<bool>,
    pub(crate) settings: Settings,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Vec<Keys>,
}

#[derive(serde::Deserialize)]
struct Keys {
    pattern: OneOrMany,
    skip: Option<bool>,
    #[serde(flatten)]
    options: toml::Table,
}

#[derive(serde::Deserialize)]
#[serde(untagged, expecting = "a pattern is a string, or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A thousand rules, a hundred bytes each, are a tenth of it.
const MOST_BYTES: u64 = 1 << 20;

impl Recipe {
    /// Read a recipe; what a rule does not say is as in `defaults`.
    pub(crate) fn read(path: &Path, defaults: &Settings) -> Result<Self> {
        let name = || format!("the recipe {}", path.display());
        let text = read_text(path, MOST_BYTES).with_context(name)?;
        let recipe = parse(&text, defaults).map_err(|reason| Usage(format!("{}: {reason}", name())))?;
        Ok(recipe)
    }
}

/// Rules in TOML; the error is why they are none.
pub(crate) fn parse(text: &str, defaults: &Settings) -> Result<Recipe, String> {
    let File { rule } = toml::from_str(text).map_err(|e| {
        let line = e.span().map(|span| text[..span.start].matches('\n').count() + 1);
        line.map(|line| format!("line {line}: ")).unwrap_or_default() + e.message()
    })?;
    let rules = rule.into_iter().enumerate().map(|(i, keys)| {
        let read = |keys: Keys| -> Result<Rule, String> {
            let patterns = match keys.pattern {
                OneOrMany::One(pattern) => vec![pattern],
                OneOrMany::Many(patterns) if !patterns.is_empty() => patterns,
                OneOrMany::Many(_) => return Err("it has no pattern".into()),
            };
            if keys.skip == Some(true) && !keys.options.is_empty() {
                return Err("it skips, so it has no settings".into());
            }
            Ok(Rule { patterns, skip: keys.skip, settings: settings(&keys.options, defaults)? })
        };
        read(keys).map_err(|reason| format!("rule {}: {reason}", i + 1))
    });
    Ok(Recipe { rules: rules.collect::<Result<_, _>>()? })
}

/// The command line's own parser reads the keys, so that it and a recipe can say the same, now and later.
fn settings(options: &toml::Table, defaults: &Settings) -> Result<Settings, String> {
    // Without defaults of its own: what is not given stays as it is.
    let command = Settings::augment_args_for_update(Command::new("rule").no_binary_name(true))
        .mut_args(|arg| arg.default_value(Resettable::Reset));
    let known: Vec<_> = command.get_arguments().filter_map(|arg| Some(arg.get_long()?.to_owned())).collect();
    let mut words = Vec::new();
    for (key, value) in options {
        if !known.contains(key) {
            return Err(format!("it cannot have {key:?}, only pattern, skip, {}", known.join(", ")));
        }
        let value = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            other => return Err(format!("{key} is a string or a number, and not of type {}", other.type_str())),
        };
        words.push(format!("--{key}={value}"));
    }
    let mut settings = defaults.clone();
    // A budget takes the place of the command line's, whichever that is; and so do contests, which N:M says too.
    let says = |keys: &[&str]| keys.iter().any(|key| options.contains_key(*key));
    if says(&["beta", "count", "sparsity", "nm"]) {
        settings = Settings { count: None, sparsity: None, nm: None, ..settings };
    }
    if says(&["granularity", "structure"]) && settings.nm.is_some() {
        // N:M says who competes. Without it nobody has said how many are kept.
        return Err(
            "it says who competes, as the command line's --nm does: it needs a beta, count or sparsity too".into()
        );
    }
    if says(&["nm"]) {
        settings = Settings { granularity: None, structure: None, norm: None, ..settings };
    }
    let matches = command.try_get_matches_from(words);
    matches.and_then(|matches| settings.update_from_arg_matches(&matches)).map_err(|e| reason(&e))?;
    Ok(settings)
}

/// What clap says, without the hints about a command line that is none.
fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").replace("--", "");
    let valid = error.get(ContextKind::ValidValue).map(|values| format!("; it can be {values}"));
    line + &valid.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use emprune::{Beta, Granularity};

    fn defaults() -> Settings {
        let command = Settings::augment_args(Command::new("x").no_binary_name(true));
        Settings::from_arg_matches(&command.get_matches_from(["--beta=0.9", "--granularity=tensor"])).unwrap()
    }

    #[test]
    fn what_a_rule_does_not_say_is_as_on_the_command_line() {
        let text = "[[rule]]\npattern = 'a'\nbeta = 0.7\n[[rule]]\npattern = ['b', 'c']\ngranularity = 'global'\n\
                    [[rule]]\npattern = 'd'\nskip = true\n[[rule]]\npattern = 'e'\nbeta = '2'\nrow-axes = 2";
        let rules = parse(text, &defaults()).unwrap().rules;
        let seen: Vec<_> = rules.iter().map(|r| (r.patterns.join(" "), r.skip, &r.settings)).collect();
        let beta = |beta| Beta::new(beta).unwrap();
        let as_default = defaults();
        let expected = [
            ("a".into(), None, &Settings { beta: beta(0.7), ..as_default.clone() }),
            ("b c".into(), None, &Settings { granularity: Some(Granularity::Global), ..as_default.clone() }),
            ("d".into(), Some(true), &as_default),
            ("e".into(), None, &Settings { beta: beta(2.0), row_axes: 2, ..as_default.clone() }),
        ];
        assert_eq!(seen, expected);
        assert_eq!(rules[0].settings.beta, beta(0.7), "a rule changes no default");
    }

    #[test]
    fn a_budget_takes_the_place_of_the_command_lines() {
        let command = || Settings::augment_args(Command::new("x").no_binary_name(true));
        let read = |words: &[&str]| Settings::from_arg_matches(&command().get_matches_from(words)).unwrap();
        for (line, rule, expected) in [
            (&["--count=3"] as &[&str], "beta = 0.5", &["--beta=0.5"] as &[&str]),
            (&["--sparsity=0.5"], "count = 3", &["--count=3"]),
            (&["--nm=2:4"], "sparsity = 0.25", &["--sparsity=0.25"]),
            (&["--beta=0.5"], "nm = '2:4'", &["--beta=0.5", "--nm=2:4"]),
            (&["--count=3"], "min-kept = 2", &["--count=3", "--min-kept=2"]),
        ] {
            let recipe = parse(&format!("[[rule]]\npattern = 'a'\n{rule}"), &read(line)).unwrap();
            let mut expected_settings = read(&expected[expected.len() - 1..]);
            if let [first, _] = expected {
                let first = read(&[first]);
                expected_settings.beta = first.beta;
                expected_settings.count = expected_settings.count.or(first.count);
            }
            assert_eq!(recipe.rules[0].settings, expected_settings, "{line:?} and {rule}");
        }
    }

    #[test]
    fn a_recipe_that_cannot_be_meant_says_where_and_why() {
        for (text, parts) in [
            ("", &["rule"] as &[&str]),
            ("[[rules]]\npattern = 'a'", &["rules"]),
            ("\n\n[[rule]]\npattern = ", &["line 4"]),
            ("[[rule]]\nbeta = 1", &["pattern"]),
            ("[[rule]]\npattern = 1", &["a pattern is a string"]),
            ("[[rule]]\npattern = []", &["rule 1", "no pattern"]),
            ("[[rule]]\npattern = 'a'\n[[rule]]\npattern = 'b'\nbetas = 1", &["rule 2", "\"betas\"", "beta, count"]),
            ("[[rule]]\npattern = 'a'\nbeta = 1\ncount = 2", &["rule 1", "beta", "count"]),
            ("[[rule]]\npattern = 'a'\nbeta = -1", &["rule 1", "beta -1 is not a positive number"]),
            ("[[rule]]\npattern = 'a'\nbeta = [1]", &["rule 1", "beta", "array"]),
            ("[[rule]]\npattern = 'a'\ngranularity = 'rows'", &["rule 1", "rows", "global, tensor"]),
            ("[[rule]]\npattern = 'a'\nskip = true\nbeta = 1", &["rule 1", "skips"]),
            ("[[rule]]\npattern = 'a'\nbeta = 1\nbeta = 2", &["line 4", "duplicate"]),
        ] {
            let message = parse(text, &defaults()).unwrap_err();
            for part in parts {
                assert!(message.contains(part), "{text:?} said {message:?}, without {part:?}");
            }
            assert!(!message.contains('\n'), "{message:?}");
        }
    }
}
