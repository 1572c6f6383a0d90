//! The report for people: one line per pruned tensor, then the totals and what was left alone.

use crate::report::{Report, TensorReport};
use crate::select::summary;
use comfy_table::{CellAlignment, Table, presets};
use emprune::Backend;
use indicatif::HumanCount;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::Path;

/// Characters of a line on a terminal. Names that would make it longer lose their middle there: the report has them whole.
const WIDTH: usize = 120;
/// Between two columns.
const GAP: usize = 2;
/// Less of a name says nothing.
const NARROWEST_NAME: usize = 20;

/// The whole text.
pub(crate) fn render(report: &Report, backend: &Backend, output: Option<&Path>, seconds: f64) -> String {
    let mut text = tensors(report);
    text.push('\n');
    // Writing to a String cannot fail.
    let _ = lines(&mut text, report, backend, output, seconds);
    text
}

fn tensors(report: &Report) -> String {
    let pruned = || report.tensors.iter().filter(|tensor| tensor.skipped.is_none());
    let has_rows = pruned().any(|tensor| tensor.rows.is_some());
    // One contest over many tensors says nothing about the single ones, except how many weights they kept.
    let has_own = has_rows || pruned().any(|tensor| tensor.n_eff.is_some());
    let columns: Vec<_> = [
        (true, &["tensor", "dtype", "shape"] as &[_]),
        (report.recipe.is_some(), &["rule"]),
        (has_rows, &[contests_word(report)]),
        (has_own, &["N_eff/N"]),
        (true, &["kept", "sparsity"]),
        (has_own, &["mass", "bound"]),
        (true, &["seconds"]),
    ]
    .into_iter()
    .filter(|(shown, _)| *shown)
    .flat_map(|(_, columns)| columns.iter().copied())
    .collect();
    let line = |tensor| columns.iter().map(|column| cell(tensor, column)).collect::<Vec<_>>();
    let mut text = named(&columns, 3, pruned().take(MOST_LINES).map(line).collect());
    let more = pruned().skip(MOST_LINES).count();
    if more > 0 {
        text += &format!("and {} more, which --report FILE lists\n", grouped(more as u64));
    }
    text
}

/// Nobody reads more.
const MOST_LINES: usize = 10_000;

/// What competes where there are several contests in a tensor.
fn contests_word(report: &Report) -> &'static str {
    let rules = report.recipe.iter().flatten().map(|rule| &rule.settings.granularity);
    let mut words = rules.chain([&report.settings.granularity]).map(|text| match text.split(':').next() {
        Some("row" | "tensor" | "global") => "rows",
        Some("column") => "columns",
        Some("block") => "blocks",
        Some("head") => "heads",
        _ => "chunks",
    });
    let first = words.next().unwrap_or("rows");
    if words.all(|word| word == first) { first } else { "contests" }
}

/// A table whose first column is names, as long as there is room for; from the column `numbers` on, numbers.
pub(crate) fn named(columns: &[&str], numbers: usize, mut lines: Vec<Vec<String>>) -> String {
    let width = |at: usize| {
        let cells = lines.iter().map(|line| line[at].chars().count());
        cells.chain([columns[at].len()]).max().unwrap_or_default()
    };
    let others: usize = (1..columns.len()).map(|at| width(at) + GAP).sum();
    if io::stdout().is_terminal() {
        let room = WIDTH.saturating_sub(others).max(NARROWEST_NAME);
        lines.iter_mut().for_each(|line| line[0] = shortened(&line[0], room));
    }

    let mut table = new_table();
    table.set_header(columns.to_vec()).add_rows(lines);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    to_text(table)
}

fn cell(tensor: &TensorReport, column: &str) -> String {
    let row_len = tensor.len as f64 / tensor.contests as f64;
    let rows = tensor.rows.as_ref();
    let n_eff = rows.map(|rows| rows.n_eff.mean).or(tensor.n_eff).map(|n_eff| n_eff / row_len);
    // That of structures counts structures.
    let n_eff = n_eff.filter(|_| tensor.kept_structures.is_none());
    let share = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
    match column {
        "tensor" => short(&tensor.name),
        "dtype" => tensor.dtype.clone(),
        "shape" => times(&tensor.shape),
        "rule" => tensor.rule.map_or_else(|| "-".into(), |rule| rule.to_string()),
        "rows" | "columns" | "blocks" | "heads" | "chunks" | "contests" => {
            rows.map_or_else(|| "-".into(), |_| tensor.contests.to_string())
        }
        "N_eff/N" => share(n_eff),
        "kept" => tensor.kept.unwrap_or_default().to_string(),
        "sparsity" => percent(tensor.sparsity.unwrap_or_default()),
        "mass" => share(rows.map(|rows| rows.mass.mean).or(tensor.mass)),
        "bound" => share(rows.map(|rows| rows.mass_bound.mean).or(tensor.mass_bound)),
        _ => format!("{:.3}", tensor.seconds.unwrap_or_default()),
    }
}

fn lines(
    text: &mut String,
    report: &Report,
    backend: &Backend,
    output: Option<&Path>,
    seconds: f64,
) -> Result<(), std::fmt::Error> {
    writeln!(text, "sparsity: the share of weights that is not kept, be they zero or not")?;
    writeln!(text, "mass: the share of the sum of all scores that is kept; bound: the least it could have been")?;
    if report.tensors.iter().any(|tensor| tensor.rows.is_some()) {
        writeln!(text, "N_eff/N, mass and bound are means over the {}", contests_word(report))?;
    }
    let dead_rows: usize = report.tensors.iter().filter_map(|tensor| Some(tensor.rows.as_ref()?.degenerate)).sum();
    let stay = if report.settings.beta.is_some() { ", and stay" } else { "" };
    if dead_rows > 0 {
        writeln!(text, "{} that are all zero{stay}: {}", contests_word(report), grouped(dead_rows as u64))?;
    }
    let dead = report.tensors.iter().filter(|tensor| tensor.degenerate == Some(true)).count();
    if dead > 0 {
        writeln!(text, "tensors that are all zero{stay}: {}", grouped(dead as u64))?;
    }
    writeln!(text)?;
    let rules = report.recipe.iter().flatten().enumerate();
    let rules = rules.filter_map(|(i, rule)| Some((format!(" of rule {}:", i + 1), rule.global.as_ref()?)));
    for (of, one) in report.global.iter().map(|one| (String::new(), one)).chain(rules) {
        let share = one.n_eff / one.len as f64;
        write!(text, "contest{of} N_eff/N {share:.4}, mass {:.4}, bound {:.4}", one.mass, one.mass_bound)?;
        let threshold = one.threshold.map_or("none".into(), |threshold| format!("{:?}", threshold as f32));
        writeln!(text, ", threshold {threshold}{}", if one.degenerate { "; all zero" } else { "" })?;
    }
    let totals = &report.totals;
    let (pruned, skipped): (Vec<_>, Vec<_>) = report.tensors.iter().partition(|tensor| tensor.skipped.is_none());
    let (kept, len) = (grouped(totals.kept), grouped(totals.len));
    let (pruned, skipped_tensors) = (counted(pruned.len(), "tensor"), counted(skipped.len(), "tensor"));
    writeln!(text, "pruned  {pruned}: {kept} of {len} kept, sparsity {}", percent(totals.sparsity))?;
    writeln!(text, "zeros   {} before, {} after", grouped(totals.zeros_before), grouped(totals.zeros_after))?;
    if !skipped.is_empty() {
        let reasons = summary(skipped.iter().filter_map(|tensor| tensor.skipped.as_ref()));
        writeln!(text, "skipped {skipped_tensors}: {}", printable(&reasons))?;
    }
    writeln!(text, "took    {seconds:.3} s on {backend}")?;
    match output {
        Some(output) => writeln!(text, "wrote   {}", output.display()),
        None => writeln!(text, "wrote   no weights: a dry run"),
    }
}

/// A table without lines, as `ls` and `ps` have it.
pub(crate) fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// The lines of a table, from the first column on.
pub(crate) fn to_text(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP as u16));
    }
    table.trim_fmt()
}

/// A tensor's name without the end that nearly all have; patterns understand it so, too.
pub(crate) fn short(name: &str) -> String {
    printable(name.strip_suffix(".weight").unwrap_or(name))
}

/// A shape as "2x3".
pub(crate) fn times(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join("x")
}

/// At most so many characters: the start and the end of a name tell it from others.
pub(crate) fn shortened(name: &str, width: usize) -> String {
    let name: Vec<char> = name.chars().collect();
    if name.len() <= width {
        return name.into_iter().collect();
    }
    let tail = (width - 1) / 2;
    let (head, tail) = (&name[..width - 1 - tail], &name[name.len() - tail..]);
    head.iter().chain(&['…']).chain(tail).collect()
}

/// A file may call a tensor anything; a terminal must not obey it.
pub(crate) fn printable(text: &str) -> String {
    // Nor turn around what is written.
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

/// So many of a thing: "1 tensor", "2 tensors".
pub(crate) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// 1234567 as "1,234,567".
pub(crate) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_from_the_right() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (123_456_789, "123,456,789")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn one_of_a_thing_is_not_several() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "tensor")), ["0 tensors", "1 tensor", "2 tensors"]);
    }

    #[test]
    fn a_name_keeps_both_ends_and_obeys_the_width() {
        assert_eq!(shortened("abcdefgh", 8), "abcdefgh");
        assert_eq!(shortened("abcdéfghi", 8), "abcd…ghi");
        assert_eq!(printable("a\x1b[2J"), "a\u{fffd}[2J", "no escape sequence reaches the terminal");
    }
}
