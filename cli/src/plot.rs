//! `--plot`: pictures of a report, as SVG. Of the model, what every tensor keeps; of every tensor, how its scores are spread.

use crate::histogram::{Bin, Spread};
use crate::interrupt;
use crate::job::Contests;
use crate::output::NewDirectory;
use crate::report::{GlobalReport, Report, SettingsReport, TensorReport, sparsity};
use crate::table::{counted, grouped, percent, printable, shortened, times};
use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Told apart by the colour-blind, and on grey paper.
const KEPT: RGBColor = RGBColor(43, 108, 176);
const LOST: RGBColor = RGBColor(190, 196, 204);
const MARK: RGBColor = RGBColor(201, 71, 9);
const DARK: RGBColor = RGBColor(21, 56, 97);
const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT: RGBColor = RGBColor(226, 229, 233);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture of the model: by it we know a directory of ours.
pub(crate) const PICTURE: &str = "model.svg";

/// Draws into a directory: `tensor-NAME.svg` of every tensor as soon as it is done, for what is known of its scores takes more memory than
/// all that the report says of it; and in the end `model.svg`.
pub(crate) struct Pictures<'a> {
    directory: &'a NewDirectory,
    /// What is asked, by the recipe's rules and by none.
    asked: BTreeMap<Option<usize>, SettingsReport>,
    /// Of tensors whose files' names end in a number, that number.
    numbers: BTreeMap<&'a str, usize>,
}

impl<'a> Pictures<'a> {
    /// For tensors that come in the order of their names, whatever order they are done in.
    pub(crate) fn new(
        directory: &'a NewDirectory,
        asked: BTreeMap<Option<usize>, SettingsReport>,
        tensors: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self { directory, asked, numbers: numbers(tensors) }
    }

    /// Draw what a tensor's scores are like, and forget it. The contest over many that it took part in is decided.
    pub(crate) fn draw(&self, tensor: &TensorReport, contests: &Contests) -> Result<()> {
        interrupt::check()?;
        let rule = tensor.rule.map(|number| number - 1);
        if let (Some(spread), Some(asked)) = (&tensor.spread, self.asked.get(&rule)) {
            let number = self.numbers.get(&*tensor.name).copied();
            let svg = draw_tensor(asked, contests.get(&rule), tensor, spread)?;
            self.save(&file_name(&stem(&tensor.name), number), &svg)?;
        }
        Ok(())
    }

    /// When all tensors are drawn. Then all pictures are on the disk.
    pub(crate) fn finish(&self, report: &Report, model: &Path) -> Result<()> {
        interrupt::check()?;
        let model = model.file_name().unwrap_or(model.as_os_str()).to_string_lossy();
        self.save(PICTURE, &draw_model(report, &model)?)?;
        let pictures = self.directory.partial();
        flush(pictures).with_context(|| format!("cannot write the pictures in {}", pictures.display()))
    }

    fn save(&self, name: &str, svg: &str) -> Result<()> {
        let mut file = self.directory.file(name.as_ref())?;
        file.write_all(svg.as_bytes()).with_context(|| format!("cannot write {name}"))
    }
}

/// Have all files of a directory on the disk. A wait for each as it was drawn took longer than all the rest, where there were thousands.
fn flush(directory: &Path) -> Result<()> {
    // One wait for everything, where the system has that. Whose error it tells of is seen below.
    #[cfg(target_os = "linux")]
    if fs::File::open(directory).is_ok_and(|directory| rustix::fs::syncfs(directory).is_ok()) {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        interrupt::check()?;
        // Windows flushes what may be written alone.
        fs::OpenOptions::new().write(true).open(entry?.path())?.sync_all()?;
    }
    Ok(())
}

fn pruned(report: &Report) -> impl Iterator<Item = &TensorReport> {
    report.tensors.iter().filter(|tensor| tensor.skipped.is_none())
}

/// Of a name what every file system takes.
fn stem(tensor: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    tensor.chars().map(plain).take(180).collect()
}

fn file_name(stem: &str, number: Option<usize>) -> String {
    number.map_or_else(|| format!("tensor-{stem}.svg"), |number| format!("tensor-{stem}-{number}.svg"))
}

/// Numbers for those that would have a file of another one's name, whatever becomes of capitals.
fn numbers<'t>(tensors: impl Iterator<Item = &'t str>) -> BTreeMap<&'t str, usize> {
    let (mut taken, mut next, mut numbers) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for tensor in tensors {
        let stem = stem(tensor).to_ascii_lowercase();
        if taken.insert(file_name(&stem, None)) {
            continue;
        }
        // Those before were tried for others of this stem: thousands of names may have one.
        let number = next.entry(stem.clone()).or_insert(2);
        while !taken.insert(file_name(&stem, Some(*number))) {
            *number += 1;
        }
        numbers.insert(tensor, *number);
    }
    numbers
}

/// What a picture needs to be understood without the command that made it.
fn question(settings: &SettingsReport) -> String {
    let contests = match (settings.granularity.as_str(), &settings.nm) {
        (_, Some(nm)) => format!("{nm} along every row"),
        ("global", _) => "one contest over many tensors".to_owned(),
        (other, _) => format!("one contest per {other}"),
    };
    let contests = match (&settings.structure, &settings.norm) {
        (Some(structure), Some(norm)) => format!("{contests} over whole structures ({structure}, {norm})"),
        (Some(structure), None) => format!("{contests} over whole structures ({structure}, with scores of their own)"),
        _ => contests,
    };
    let budget = match settings {
        SettingsReport { beta: Some(beta), .. } => format!(", beta {beta}"),
        SettingsReport { count: Some(count), .. } => format!(", {count} of each kept"),
        SettingsReport { sparsity: Some(sparsity), .. } => format!(", sparsity {sparsity}"),
        _ => String::new(),
    };
    let least = match settings.min_kept {
        0 => String::new(),
        least => format!(", at least {least}"),
    };
    format!("{contests}, score: {}{budget}{least}", settings.score)
}

/// What was asked about one tensor.
fn asked<'a>(report: &'a Report, tensor: &TensorReport) -> &'a SettingsReport {
    let rule = tensor.rule.and_then(|number| report.recipe.as_ref()?.get(number - 1));
    rule.map_or(&report.settings, |rule| &rule.settings)
}

fn text<'a>(size: i32, color: RGBColor) -> TextStyle<'a> {
    ("sans-serif", size).into_font().color(&color)
}

fn right<'a>(size: i32, color: RGBColor) -> TextStyle<'a> {
    text(size, color).pos(Pos::new(HPos::Right, VPos::Top))
}

fn middle<'a>(size: i32, color: RGBColor) -> TextStyle<'a> {
    text(size, color).pos(Pos::new(HPos::Center, VPos::Top))
}

/// Drawing into a string cannot fail, but the crate says that it can.
fn say<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

fn put(area: &Area<'_>, at: (i32, i32), words: &str, style: TextStyle<'_>) -> Result<()> {
    area.draw(&Text::new(words.to_owned(), at, style)).map_err(say)
}

fn fill(area: &Area<'_>, x: (i32, i32), y: (i32, i32), style: impl Into<ShapeStyle>) -> Result<()> {
    let style = ShapeStyle { filled: true, ..style.into() };
    area.draw(&Rectangle::new([(x.0, y.0), (x.1, y.1)], style)).map_err(say)
}

fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), style: impl Into<ShapeStyle>) -> Result<()> {
    area.draw(&PathElement::new(vec![from, to], style.into())).map_err(say)
}

/// One line of the model's picture.
struct Bar {
    name: String,
    density: f64,
    n_eff: Option<f64>,
    mass: Option<(f64, f64)>,
}

fn bars(report: &Report) -> Vec<Bar> {
    let totals = &report.totals;
    // Where all are one contest.
    let global = report.global.as_ref().filter(|one| one.len == totals.len);
    let all = Bar {
        name: "all of these".into(),
        density: 1.0 - totals.sparsity,
        n_eff: global.map(|one| one.n_eff / one.len as f64),
        mass: global.map(|one| (one.mass, one.mass_bound)),
    };
    let bar = |tensor: &TensorReport| {
        let rows = tensor.rows.as_ref();
        let contest_len = tensor.len as f64 / tensor.contests as f64;
        let mass = rows.map(|rows| (rows.mass.mean, rows.mass_bound.mean));
        Bar {
            name: printable(tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name)),
            density: 1.0 - tensor.sparsity.unwrap_or_default(),
            n_eff: rows
                .map(|rows| rows.n_eff.mean)
                .or(tensor.n_eff)
                .map(|n_eff| n_eff / contest_len)
                .filter(|_| asked(report, tensor).structure.is_none()),
            mass: mass.or(tensor.mass.zip(tensor.mass_bound)),
        }
    };
    pruned(report).map(bar).chain([all]).collect()
}

const MODEL_WIDTH: i32 = 1200;
const BAR_HEIGHT: i32 = 20;
/// Characters of a name; of a longer one, both ends.
const LONGEST_NAME: usize = 56;

fn draw_model(report: &Report, model: &str) -> Result<String> {
    let bars = bars(report);
    let names: Vec<_> = bars.iter().map(|bar| shortened(&bar.name, LONGEST_NAME)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or_default() as i32;
    // About as wide as sans-serif letters are at this size.
    let left = 24 + longest * 7;
    let value = 56;
    let has_mass = bars.iter().any(|bar| bar.mass.is_some());
    let panel = (MODEL_WIDTH - left - 2 * value - 64) / 2;
    let panels = [left + 8, left + 8 + panel + value + 40];
    let (top, bottom) = (138, 138 + BAR_HEIGHT * bars.len() as i32 + 8);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (MODEL_WIDTH as u32, (bottom + 64) as u32)).into_drawing_area();
        area.fill(&WHITE).map_err(say)?;
        put(&area, (20, 14), &format!("What is kept of {}", printable(model)), text(22, INK))?;
        let totals = &report.totals;
        let kept = format!("{} of {} weights kept", grouped(totals.kept), grouped(totals.len));
        let asked = match &report.recipe {
            Some(rules) => format!("a recipe of {} rules", rules.len()),
            None => question(&report.settings),
        };
        put(&area, (20, 44), &format!("{asked}: {kept}"), text(15, INK))?;
        let means =
            if report.tensors.iter().any(|tensor| tensor.rows.is_some()) { ", mean of the contests" } else { "" };

        let x = |panel_left: i32, share: f64| panel_left + (share.clamp(0.0, 1.0) * f64::from(panel)).round() as i32;
        let headings = ["Density: weights kept", "Preserved mass: share of the sum of scores"];
        for (i, (&from, heading)) in panels.iter().zip(headings).enumerate() {
            if i == 1 && !has_mass {
                put(&area, (from, 76), "Preserved mass: known for the one contest only", text(16, INK))?;
                continue;
            }
            put(&area, (from, 76), heading, text(16, INK))?;
            fill(&area, (from, from + 12), (102, 114), KEPT)?;
            if i == 0 {
                put(&area, (from + 18, 103), "kept", text(13, INK))?;
                if bars.iter().any(|bar| bar.n_eff.is_some()) {
                    line(&area, (from + 70, 100), (from + 70, 116), MARK.stroke_width(3))?;
                    put(&area, (from + 78, 103), &format!("N_eff / N{means}"), text(13, INK))?;
                }
            } else {
                put(&area, (from + 18, 103), &format!("kept{means}"), text(13, INK))?;
                let next = from + if means.is_empty() { 70 } else { 195 };
                fill(&area, (next, next + 12), (105, 111), DARK)?;
                put(&area, (next + 18, 103), "bound", text(13, INK))?;
            }
            for tenth in (0..=10).step_by(2) {
                let at = x(from, f64::from(tenth) / 10.0);
                line(&area, (at, top - 4), (at, bottom), FAINT)?;
                put(&area, (at, bottom + 6), &format!("{} %", 10 * tenth), middle(13, INK))?;
            }
        }
        for (i, (bar, name)) in bars.iter().zip(&names).enumerate() {
            // The last is the sum of the others.
            let is_sum = i + 1 == bars.len();
            let y = top + BAR_HEIGHT * i as i32 + if is_sum { 8 } else { 0 };
            if is_sum {
                line(&area, (20, y - 4), (MODEL_WIDTH - 20, y - 4), LOST)?;
            }
            put(&area, (left, y + 4), name, right(14, INK))?;
            let inside = (y + 2, y + BAR_HEIGHT - 3);
            fill(&area, (panels[0], x(panels[0], bar.density)), inside, KEPT)?;
            put(&area, (panels[0] + panel + 8, y + 4), &percent(bar.density), text(13, INK))?;
            if let Some(n_eff) = bar.n_eff {
                let at = x(panels[0], n_eff);
                line(&area, (at, y), (at, y + BAR_HEIGHT - 1), MARK.stroke_width(3))?;
            }
            if let Some((mass, bound)) = bar.mass {
                fill(&area, (panels[1], x(panels[1], mass)), inside, KEPT)?;
                fill(&area, (panels[1], x(panels[1], bound)), (y + 7, y + BAR_HEIGHT - 8), DARK)?;
                put(&area, (panels[1] + panel + 8, y + 4), &percent(mass), text(13, INK))?;
            }
        }
        if has_mass && bars.iter().rev().skip(1).all(|bar| bar.mass.is_none()) {
            put(&area, (panels[1] + 10, top + 6), "One contest has one mass: see the last line", text(14, INK))?;
        }
        let skipped = report.tensors.len() + 1 - bars.len();
        if skipped > 0 {
            let words = format!("Left alone, and not shown: {}", counted(skipped, "tensor"));
            put(&area, (20, bottom + 36), &words, text(13, INK))?;
        }
        area.present().map_err(say)?;
    }
    Ok(svg)
}

const WIDTH: i32 = 960;
const HEIGHT: i32 = 480;
/// The share of scores that may lie to the left of the axis: a long thin tail would leave the rest no room.
const TAIL: f64 = 0.001;
/// Scores of a bin that tell which part of them is kept.
const ENOUGH: u64 = 20;

fn draw_tensor(
    settings: &SettingsReport,
    global: Option<&GlobalReport>,
    tensor: &TensorReport,
    spread: &Spread,
) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(say)?;
    draw_spread(&area, (settings, global), tensor, spread)?;
    area.present().map_err(say)?;
    drop(area);
    Ok(svg)
}

fn draw_spread(
    area: &Area<'_>,
    (settings, global): (&SettingsReport, Option<&GlobalReport>),
    tensor: &TensorReport,
    spread: &Spread,
) -> Result<()> {
    let Spread { bins, zeros, kept_zeros, .. } = spread;
    let lowest = bins.first().map_or(0.0, |bin| bin.from);
    let (bins, hidden) = without_tail(bins, tensor.len);
    let (left, right_edge, top, bottom) = (86, WIDTH - 86, 128, HEIGHT - 78);
    put(area, (20, 14), &shortened(&printable(&tensor.name), 86), text(20, INK))?;
    let mass = tensor.rows.as_ref().map(|rows| (rows.mass.mean, rows.mass_bound.mean));
    let mass = mass.or(tensor.mass.zip(tensor.mass_bound));
    let mass = mass.map(|(mass, bound)| {
        let mean = if tensor.rows.is_some() { " in the mean" } else { "" };
        format!("; mass {}{mean}, bound {}", percent(mass), percent(bound))
    });
    let about = format!("{} {}, {}", times(&tensor.shape), tensor.dtype, question(settings));
    put(area, (20, 42), &(about + &mass.unwrap_or_default()), text(14, INK))?;
    let kept = tensor.kept.unwrap_or_default();
    let lost = tensor.len - kept;
    let legend = [(KEPT, "kept", kept), (LOST, "zeroed", lost)];
    for (i, (color, word, count)) in legend.into_iter().enumerate() {
        let x = left + 270 * i as i32;
        fill(area, (x, x + 14), (72, 86), color)?;
        let share = percent(1.0 - sparsity(count, tensor.len));
        put(area, (x + 20, 74), &format!("{word}: {} ({share})", grouped(count)), text(14, INK))?;
    }
    let Some((low, high)) = bins.first().zip(bins.last()).map(|(a, b)| (a.from.log10(), b.to.log10())) else {
        let words = "All scores are zero: nothing to choose by";
        return put(area, (WIDTH / 2, (top + bottom) / 2), words, middle(16, INK));
    };

    // A decade at least, and room beside the first and the last bar.
    let margin = ((1.0 - (high - low)) / 2.0).max((high - low) / 50.0);
    let (low, high) = (low - margin, high + margin);
    let span = high - low;
    let x = |score: f64| {
        let share = ((score.log10() - low) / span).clamp(0.0, 1.0);
        left + (share * f64::from(right_edge - left)).round() as i32
    };
    // Bins are not of equal width on this axis: only a share per width is a height.
    let height = |bin: &Bin, count: u64| count as f64 / tensor.len as f64 / (bin.to / bin.from).log2();
    let most = bins.iter().map(|bin| height(bin, bin.all)).fold(0.0, f64::max);
    let most = if most > 0.0 { most * 1.08 } else { 1.0 };
    let y = |height: f64| bottom - (height / most * f64::from(bottom - top)).round() as i32;

    // The kept side, behind everything: as dark as the part that is kept.
    let share = |bin: &Bin| bin.kept as f64 / bin.all as f64;
    let telling: Vec<&Bin> = bins.iter().filter(|bin| bin.all >= ENOUGH).collect();
    // Thresholds of structures are about other scores than those that are drawn.
    let thresholds = thresholds(tensor, global).filter(|_| settings.structure.is_none());
    let one = thresholds.filter(|(from, to)| x(*from) == x(*to)).map(|(from, _)| from);
    match one {
        Some(threshold) => fill(area, (x(threshold), right_edge), (top, bottom), KEPT.mix(0.1))?,
        None => {
            let ends = telling.iter().skip(1).map(|bin| x(bin.from)).chain([right_edge]);
            telling.iter().zip(ends).try_for_each(|(bin, end)| {
                fill(area, (x(bin.from), end), (top, bottom), KEPT.mix(0.1 * share(bin)).stroke_width(0))
            })?;
        }
    }
    for (score, label) in ticks(low, high) {
        line(area, (x(score), bottom), (x(score), bottom + 5), INK)?;
        put(area, (x(score), bottom + 8), &label, middle(13, INK))?;
    }

    let outline = |count: fn(&Bin) -> u64| {
        let steps = bins.iter().flat_map(|bin| {
            let level = y(height(bin, count(bin)));
            [(x(bin.from), level), (x(bin.to), level)]
        });
        let mut points: Vec<_> = steps.collect();
        let ends = bins.first().zip(bins.last()).map(|(first, last)| (x(first.from), x(last.to)));
        let (from, to) = ends.unwrap_or((left, right_edge));
        points.insert(0, (from, bottom));
        points.push((to, bottom));
        points
    };
    // What is kept stands on the axis, what is lost on top of it.
    for (outline, color) in [(outline(|bin| bin.all), LOST), (outline(|bin| bin.kept), KEPT)] {
        // With a border, for bars that are narrower than a dot.
        area.draw(&Polygon::new(outline.clone(), color)).map_err(say)?;
        area.draw(&PathElement::new(outline, color)).map_err(say)?;
    }
    line(area, (left, bottom), (right_edge, bottom), INK)?;

    match (one, thresholds) {
        (Some(threshold), _) => {
            let at = x(threshold);
            line(area, (at, top - 6), (at, bottom), MARK.stroke_width(2))?;
            // On the side where there is more room.
            let (beside, style) = if at < WIDTH / 2 { (at + 8, text(14, MARK)) } else { (at - 8, right(14, MARK)) };
            put(area, (beside, top - 20), &format!("threshold {}", number(threshold)), style)?;
        }
        (None, many) => {
            draw_shares(area, &telling, (left, right_edge), (top, bottom), &x)?;
            if let Some((from, to)) = many {
                let words = format!(
                    "Each of {} contests has a threshold of its own, from {} to {}",
                    grouped(tensor.contests),
                    number(from),
                    number(to)
                );
                put(area, (left, top - 22), &words, text(13, INK))?;
            }
        }
    }
    let score = match (settings.score, spread.given) {
        ("wanda", _) => "|weight| x norm of its input",
        (_, true) => "the given score",
        _ => "|weight|",
    };
    put(area, (WIDTH / 2, bottom + 28), &format!("score: {score} (logarithmic axis)"), middle(14, INK))?;
    let turned = middle(14, INK).transform(FontTransform::Rotate270);
    put(area, (8, (top + bottom) / 2), "weights with such a score (by area)", turned)?;
    let mut notes = Vec::new();
    if *zeros > 0 {
        notes.push(format!("{} scores are zero, {} of them kept", grouped(*zeros), grouped(*kept_zeros)));
    }
    if hidden > 0 {
        notes.push(format!("{} are further to the left, down to {}", grouped(hidden), number(lowest)));
    }
    if !notes.is_empty() {
        put(area, (left, bottom + 52), &format!("Not shown: {}", notes.join("; ")), text(13, INK))?;
    }
    Ok(())
}

/// A line that says of every score which part of the weights that have it is kept, on an axis of its own.
fn draw_shares(
    area: &Area<'_>,
    bins: &[&Bin],
    (left, right_edge): (i32, i32),
    (top, bottom): (i32, i32),
    x: &dyn Fn(f64) -> i32,
) -> Result<()> {
    let y = |share: f64| bottom - (share * f64::from(bottom - top)).round() as i32;
    let points: Vec<_> =
        bins.iter().map(|bin| (x((bin.from * bin.to).sqrt()), y(bin.kept as f64 / bin.all as f64))).collect();
    if points.is_empty() {
        return Ok(());
    }
    area.draw(&PathElement::new(points, MARK.stroke_width(2))).map_err(say)?;
    for quarter in 0..=4 {
        let at = y(f64::from(quarter) / 4.0);
        line(area, (right_edge, at), (right_edge + 5, at), MARK)?;
        put(area, (right_edge + 9, at - 5), &format!("{} %", 25 * quarter), text(13, MARK))?;
    }
    line(area, (left + 540, 79), (left + 560, 79), MARK.stroke_width(2))?;
    put(area, (left + 566, 74), "kept of those with this score", text(14, MARK))?;
    Ok(())
}

/// The bins without a thin tail to the left, and how many scores were in that.
fn without_tail(bins: &[Bin], len: u64) -> (&[Bin], u64) {
    let most = (TAIL * len as f64) as u64;
    let mut hidden = 0;
    let first = bins.iter().position(|bin| {
        hidden += bin.all;
        hidden > most
    });
    first.map_or((bins, 0), |first| (&bins[first..], hidden - bins[first].all))
}

/// The lowest and the highest threshold of a tensor's contests.
fn thresholds(tensor: &TensorReport, global: Option<&GlobalReport>) -> Option<(f64, f64)> {
    let rows = tensor.rows.as_ref().and_then(|rows| rows.threshold.as_ref()).map(|all| (all.min, all.max));
    let one = tensor.threshold.or(global.and_then(|global| global.threshold));
    rows.or(one.map(|one| (one, one))).filter(|(from, to)| *from > 0.0 && *to > 0.0)
}

/// Powers of ten, every other or third one where there are many; 1, 2 and 5 of each where there are few.
fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let decades = (high - low).max(1.0);
    let every = (decades / 12.0).ceil() as i32;
    let factors: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = (low.floor() as i32..=high.ceil() as i32).filter(|power| power % every == 0);
    let all = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
    all.filter(|tick| (low..=high).contains(&tick.log10())).map(|tick| (tick, number(tick))).collect()
}

/// Three digits, or a power of ten.
fn number(value: f64) -> String {
    if !(1e-3..1e4).contains(&value) {
        let text = format!("{value:.2e}");
        return text.replace(".00e", "e");
    }
    let places = (2 - value.log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_files_of_their_own() {
        let long = "x".repeat(5000);
        let names = ["A.b.weight", "a.b.weight", "../é/\0x", "../è/\0x", "w", "w-2", "W", long.as_str()];
        let numbers = numbers(names.into_iter());
        let name = |tensor: &str| file_name(&stem(tensor), numbers.get(tensor).copied());
        assert_eq!(name("A.b.weight"), "tensor-A.b.weight.svg");
        assert_eq!(name("a.b.weight"), "tensor-a.b.weight-2.svg");
        assert_eq!(name("../é/\0x"), "tensor-..____x.svg");
        assert_eq!(name("../è/\0x"), "tensor-..____x-2.svg");
        assert_eq!(name("W"), "tensor-W-3.svg", "w-2 is somebody else's");
        assert!(name(&long).len() < 255);
    }

    /// As many names as there may be, that all look alike: to try every number for each would take an hour.
    #[test]
    fn as_many_names_as_there_may_be_have_one_stem() {
        let letters = |i: u32| [i / 512, i % 512].map(|i| char::from_u32(0x4e00 + i).unwrap()).into_iter();
        let names: Vec<String> = (0..3 << 16).map(|i| letters(i).collect()).collect();
        let numbers = numbers(names.iter().map(String::as_str));
        assert_eq!((numbers.len(), numbers[names[names.len() - 1].as_str()]), (names.len() - 1, names.len()));
    }

    #[test]
    fn numbers_are_short() {
        let cases =
            [(0.0213, "0.0213"), (1.0, "1"), (0.001, "0.001"), (12.345, "12.3"), (1e-7, "1e-7"), (250.0, "250")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(1.234e-9), "1.23e-9");
    }

    #[test]
    fn an_axis_has_a_few_ticks() {
        for (low, high) in [(-6.0, 1.0), (-0.1, 0.1), (-45.0, 38.0), (0.3, 2.9), (-3.05, -0.2)] {
            assert!((1..=13).contains(&ticks(low, high).len()), "{low} to {high}: {:?}", ticks(low, high));
        }
    }

    #[test]
    fn a_thin_tail_is_left_out() {
        let bin = |all, kept| Bin { from: 1.0, to: 2.0, all, kept };
        assert_eq!(without_tail(&[bin(1, 0), bin(0, 0), bin(9, 0), bin(9990, 5000)], 10_000).1, 10);
        assert_eq!(without_tail(&[bin(1, 1), bin(9999, 5000)], 10_000).1, 1);
        assert_eq!(without_tail(&[bin(11, 0), bin(9989, 5000)], 10_000).1, 0);
    }
}
