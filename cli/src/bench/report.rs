//! What was measured: lines for machines, a table for people.

use crate::table::{new_table, to_text};
use comfy_table::CellAlignment;
use emprune::{Granularity, Rule};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write as _;

pub(super) const SCHEMA: &str = "emprune.bench/1";

/// Everything about one run. Times are seconds, sizes bytes.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) schema: &'static str,
    pub(super) emprune_version: &'static str,
    pub(super) threads: usize,
    pub(super) simd: &'static str,
    /// Those that took part.
    pub(super) adapters: Vec<Adapter>,
    pub(super) results: Vec<Line>,
    pub(super) crossovers: Vec<Crossover>,
    /// What the jobs on a device should move, before anything is measured.
    pub(super) plans: Vec<Predicted>,
    pub(super) skipped: Vec<Skipped>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Adapter {
    /// As the lines call it.
    pub(super) backend: String,
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) interface: String,
    pub(super) software: bool,
    pub(super) variant: &'static str,
}

/// What is asked, the same for all who answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Case {
    pub(super) task: &'static str,
    pub(super) input: &'static str,
    pub(super) dtype: &'static str,
    pub(super) granularity: &'static str,
    pub(super) entries: u64,
    /// Entries of a row; of a tensor all.
    pub(super) row_len: u64,
}

/// One way to do it, timed.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    #[serde(flatten)]
    pub(super) case: Case,
    /// `cpu`, or an adapter.
    pub(super) backend: String,
    /// `host`: from host memory to host memory. `device`: the job alone, on buffers of the device. Else the name of a peer.
    pub(super) way: &'static str,
    pub(super) kept: u64,
    /// The median of the runs.
    pub(super) seconds: f64,
    pub(super) fastest: f64,
    pub(super) slowest: f64,
    pub(super) runs: usize,
    /// What must move: read it all to decide, and again to write; rows that stay in a cache are read once.
    pub(super) floor_bytes: u64,
    pub(super) gigabytes_per_second: f64,
    /// The median of copies of the same bytes, taken in turns with the runs.
    pub(super) memcpy_seconds: f64,
    pub(super) memcpy_ratio: f64,
    /// Who made them: `host`, or on a device the faster of `driver` and `shader`.
    pub(super) memcpy_by: &'static str,
    /// On a device, a copy by its driver.
    pub(super) driver_copy_seconds: Option<f64>,
    /// `floor_bytes` over what a copy moves.
    pub(super) floor_ratio: f64,
    /// `host`, `timestamps` or `batches`.
    pub(super) clock: &'static str,
    /// The shaders that ran.
    pub(super) variant: Option<&'static str>,
    /// Weights to the device.
    pub(super) upload_seconds: Option<f64>,
    /// Masks and records from the device.
    pub(super) readback_seconds: Option<f64>,
}

/// From which size on a GPU was faster than the CPU, of those that were measured; nothing where it never was.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Crossover {
    pub(super) backend: String,
    pub(super) task: &'static str,
    pub(super) input: &'static str,
    pub(super) dtype: &'static str,
    pub(super) granularity: &'static str,
    /// With weights and masks on the device.
    pub(super) device_entries: Option<u64>,
    /// With upload and readback.
    pub(super) host_entries: Option<u64>,
    /// The largest size that both did.
    pub(super) up_to: u64,
}

/// What a device's plans say.
#[derive(Debug, Serialize)]
pub(super) struct Predicted {
    #[serde(flatten)]
    pub(super) case: Case,
    pub(super) backend: String,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) workspace_bytes: u64,
    pub(super) dispatches: u32,
    /// Bytes that move, over those of a copy.
    pub(super) memcpy_ratio: f64,
    pub(super) floor_ratio: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Skipped {
    #[serde(flatten)]
    pub(super) case: Case,
    pub(super) backend: String,
    pub(super) reason: String,
}

impl Case {
    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> u64 {
        self.entries * if self.dtype == "f32" { 4 } else { 2 }
    }

    /// Entries of a contest.
    pub(super) fn contest_len(&self) -> usize {
        let len = match self.granularity {
            "column" => self.entries / self.row_len,
            "block:4x4" => 16,
            _ => self.row_len,
        };
        len as usize
    }

    /// Who competes, for the library.
    pub(super) fn rule(&self) -> Rule {
        Rule::new().with_granularity(match self.granularity {
            "row" => Granularity::Row,
            "column" => Granularity::Column,
            "block:4x4" => Granularity::Block { rows: 4, columns: 4 },
            _ => Granularity::Tensor,
        })
    }

    /// The entries contest by contest.
    pub(super) fn by_contest<'e, T: Copy>(&self, entries: &'e [T]) -> Cow<'e, [T]> {
        let row_len = self.row_len as usize;
        let rows = || entries.chunks_exact(row_len);
        match self.granularity {
            "column" => (0..row_len).flat_map(|column| rows().map(move |row| row[column])).collect(),
            "block:4x4" => {
                let bands = entries.chunks_exact(4 * row_len);
                let blocks = bands.flat_map(|band| (0..row_len).step_by(4).map(move |left| (band, left)));
                blocks.flat_map(|(band, left)| (0..16).map(move |i| band[i / 4 * row_len + left + i % 4])).collect()
            }
            _ => entries.into(),
        }
    }

    /// The least that must move, in main memory: every score is read before the first decision is known, so those of a large contest are
    /// read again to be zeroed; those of a row or a block are still in a cache. A mask takes a bit, and a second look can be spared.
    pub(super) fn floor_bytes(&self) -> u64 {
        match (self.task, self.granularity) {
            ("mask", _) => self.bytes() + self.entries / 8,
            (_, "row" | "block:4x4") => 2 * self.bytes(),
            _ => 3 * self.bytes(),
        }
    }

    pub(super) fn floor_ratio(&self) -> f64 {
        self.floor_bytes() as f64 / (2 * self.bytes()) as f64
    }

    /// All but the number of entries.
    fn kind(&self) -> (&'static str, &'static str, &'static str, &'static str) {
        (self.task, self.input, self.dtype, self.granularity)
    }
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    match times.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => times[len / 2],
        len => (times[len / 2 - 1] + times[len / 2]) / 2.0,
    }
}

/// Per adapter and kind of question.
pub(super) fn crossovers(lines: &[Line]) -> Vec<Crossover> {
    let mut all: Vec<Crossover> = Vec::new();
    for line in lines.iter().filter(|line| line.way == "device") {
        let (task, input, dtype, granularity) = line.case.kind();
        let of = |backend: &str, way: &str| -> Vec<(u64, f64)> {
            let same = |l: &&Line| (l.case.kind(), l.way, l.backend.as_str()) == (line.case.kind(), way, backend);
            lines.iter().filter(same).map(|l| (l.case.entries, l.seconds)).collect()
        };
        let cpu = of("cpu", "host");
        let (device, host) = (of(&line.backend, "device"), of(&line.backend, "host"));
        let Some(up_to) = device.iter().map(|d| d.0).filter(|len| cpu.iter().any(|c| c.0 == *len)).max() else {
            continue;
        };
        let crossover = Crossover {
            backend: line.backend.clone(),
            task,
            input,
            dtype,
            granularity,
            device_entries: overtakes(&cpu, &device),
            host_entries: overtakes(&cpu, &host),
            up_to,
        };
        if !all.contains(&crossover) {
            all.push(crossover);
        }
    }
    all
}

/// The size from which on `b` is faster than `a` at every size that both have.
fn overtakes(a: &[(u64, f64)], b: &[(u64, f64)]) -> Option<u64> {
    let time_of_b = |len| b.iter().find(|b| b.0 == len).map(|b| b.1);
    let mut both: Vec<_> = a.iter().filter_map(|&(len, a)| Some((len, time_of_b(len)? < a))).collect();
    both.sort_unstable();
    both.iter().rev().take_while(|(_, faster)| *faster).last().map(|(len, _)| *len)
}

impl Report {
    /// For people.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "cpu: {} threads, {}", self.threads, self.simd)?;
        for Adapter { backend, driver, variant, .. } in &self.adapters {
            writeln!(text, "{}: {backend}, driver {driver}, {variant} shaders", self.label(backend))?;
        }
        if !self.results.is_empty() {
            writeln!(text, "\n{}\n", self.results())?;
            writeln!(
                text,
                "floor: bytes that must move, over those of a copy; x memcpy: the time, over that of a copy in turns with it"
            )?;
            writeln!(text, "host: from host memory to host memory; device: the job alone, on buffers of the device")?;
        }
        if !self.plans.is_empty() {
            writeln!(text, "\n{}\n", self.plans())?;
            writeln!(text, "planned: bytes that the plan moves, over those of a copy; floor: those that must move")?;
        }
        for c in &self.crossovers {
            let size = |entries: Option<u64>| match entries {
                Some(entries) => format!("from {entries} entries on"),
                None => format!("none up to {}", c.up_to),
            };
            let Crossover { backend, task, input, dtype, granularity, .. } = c;
            write!(text, "\ncrossover, {task} {dtype} {granularity} {input}, {}: ", self.label(backend))?;
            write!(text, "{}; with upload and readback {}", size(c.device_entries), size(c.host_entries))?;
        }
        for Skipped { case, backend, reason } in &self.skipped {
            let Case { task, input, dtype, granularity, entries, .. } = case;
            write!(text, "\nskipped {task} {dtype} {granularity} {input} of {entries} on {}: ", self.label(backend))?;
            text.push_str(reason);
        }
        if !(self.crossovers.is_empty() && self.skipped.is_empty()) {
            text.push('\n');
        }
        Ok(())
    }

    /// Short, for the table's sake: `cpu`, `gpu`, or `gpu 2`.
    fn label(&self, backend: &str) -> String {
        match self.adapters.iter().position(|adapter| adapter.backend == backend) {
            Some(_) if self.adapters.len() == 1 => "gpu".to_owned(),
            Some(at) => format!("gpu {}", at + 1),
            None => backend.to_owned(),
        }
    }

    fn results(&self) -> String {
        let mut table = new_table();
        let columns = ["entries", "input", "contest", "task", "backend", "way", "time", "ns/entry", "GB/s", "x memcpy"];
        let more = ["floor", "upload", "readback", "runs"];
        table.set_header(columns.into_iter().chain(more));
        for line in &self.results {
            let optional = |seconds: Option<f64>| seconds.map_or_else(|| "-".into(), time);
            table.add_row([
                line.case.entries.to_string(),
                line.case.input.to_owned(),
                contest(&line.case),
                line.case.task.to_owned(),
                self.label(&line.backend),
                line.way.to_owned(),
                time(line.seconds),
                format!("{:.3}", 1e9 * line.seconds / line.case.entries as f64),
                format!("{:.2}", line.gigabytes_per_second),
                format!("{:.2}", line.memcpy_ratio),
                format!("{:.2}", line.floor_ratio),
                optional(line.upload_seconds),
                optional(line.readback_seconds),
                line.runs.to_string(),
            ]);
        }
        table.column_iter_mut().skip(6).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        to_text(table)
    }

    fn plans(&self) -> String {
        let mut table = new_table();
        let columns = ["entries", "contest", "backend", "reads", "writes", "B/entry", "planned", "floor"];
        table.set_header(columns.into_iter().chain(["dispatches", "workspace"]));
        for plan in &self.plans {
            let moved = (plan.read_bytes + plan.written_bytes) as f64;
            table.add_row([
                plan.case.entries.to_string(),
                contest(&plan.case),
                self.label(&plan.backend),
                plan.read_bytes.to_string(),
                plan.written_bytes.to_string(),
                format!("{:.3}", moved / plan.case.entries as f64),
                format!("{:.3}", plan.memcpy_ratio),
                format!("{:.2}", plan.floor_ratio),
                plan.dispatches.to_string(),
                plan.workspace_bytes.to_string(),
            ]);
        }
        table.column_iter_mut().skip(3).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        to_text(table)
    }
}

fn contest(case: &Case) -> String {
    match case.granularity {
        "row" => format!("{} rows of {}", case.dtype, case.row_len),
        "column" => format!("{} columns of {}", case.dtype, case.contest_len()),
        "block:4x4" => format!("{} blocks of 4 x 4", case.dtype),
        _ => format!("{} tensor", case.dtype),
    }
}

/// With the unit that fits.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", 1e6 * s),
        s if s < 1.0 => format!("{:.2} ms", 1e3 * s),
        s => format!("{s:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the checks are given is what the library decides about.
    #[test]
    fn contests_are_laid_end_to_end() {
        let entries: Vec<u32> = (0..32).collect();
        let case =
            |granularity| Case { task: "prune", input: "normal", dtype: "f32", granularity, entries: 32, row_len: 8 };
        let columns = case("column").by_contest(&entries).into_owned();
        assert_eq!((case("column").contest_len(), &columns[..5]), (4, &[0, 8, 16, 24, 1][..]));
        let blocks = case("block:4x4").by_contest(&entries).into_owned();
        assert_eq!((case("block:4x4").contest_len(), &blocks[2..6]), (16, &[2, 3, 8, 9][..]));
        assert_eq!(blocks[16..18], [4, 5]);
        assert_eq!(case("row").by_contest(&entries).into_owned(), entries);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        for (times, middle) in [(&[3.0] as &[f64], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 9.0], 3.0)] {
            assert_eq!(median(times).to_bits(), f64::to_bits(middle), "{times:?}");
        }
    }

    #[test]
    fn a_crossover_needs_all_larger_sizes_too() {
        let cpu = [(10, 1.0), (100, 10.0), (1000, 100.0)];
        assert_eq!(overtakes(&cpu, &[(10, 5.0), (100, 9.0), (1000, 20.0)]), Some(100));
        assert_eq!(overtakes(&cpu, &[(10, 0.5), (100, 11.0), (1000, 20.0)]), Some(1000), "lost once in between");
        assert_eq!(overtakes(&cpu, &[(10, 0.5), (100, 9.0), (1000, 200.0)]), None, "lost in the end");
        assert_eq!(overtakes(&cpu, &[(10, 0.5), (1000, 20.0)]), Some(10), "sizes that one skipped do not count");
        assert_eq!(overtakes(&cpu, &[]), None);
    }

    #[test]
    fn floors_are_those_of_the_traffic_model() {
        let case = |task, dtype, granularity| {
            Case { task, input: "normal", dtype, granularity, entries: 800, row_len: 8 }.floor_ratio()
        };
        for (ratio, want) in [
            (case("prune", "f32", "tensor"), 1.5),
            (case("prune", "bf16", "tensor"), 1.5),
            (case("prune", "f32", "row"), 1.0),
            (case("mask", "f32", "tensor"), 4.125 / 8.0),
            (case("mask", "bf16", "row"), 2.125 / 4.0),
        ] {
            assert!((ratio - want).abs() < 1e-12, "{ratio} and {want}");
        }
    }
}
