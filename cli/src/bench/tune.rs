//! `emprune bench --tune`: other constants of the kernels, one at a time, on weights of the kinds that matter.

use super::device::{Device, Resident};
use super::{Bench, Gpu, inputs, make_mask, prune};
use crate::bench::inputs::{Entry, InputKind};
use crate::bench::report::{Case, median};
use crate::table::{new_table, to_text};
use anyhow::{Result, ensure};
use comfy_table::CellAlignment;
use emprune::gpu::Tuning;
use half::bf16;
use std::fmt::Write as _;

/// What is pruned: the length of a row, or one contest; whether f32 or bf16. A constant of teams shows in short rows, one of parts in a tensor.
const CASES: [(Option<u64>, &str); 8] = [
    (None, "f32"),
    (None, "bf16"),
    (Some(11_008), "f32"),
    (Some(11_008), "bf16"),
    (Some(1536), "f32"),
    (Some(512), "f32"),
    (Some(64), "f32"),
    (Some(16), "f32"),
];

/// Less than this is what the next run may say the other way round.
const NOTABLE: f64 = 0.97;

/// Seconds of a job, for each case.
type Times = Vec<f64>;
/// What was tried instead, by name and value.
type Tried = (&'static str, String, Times);

impl Bench<'_> {
    /// A table for each device, and what it is faster with than with the default.
    pub(super) fn tune(&self) -> Result<String> {
        ensure!(
            !self.gpus.is_empty(),
            "nothing is tuned: there is no hardware adapter; --backend gpu tunes a software one"
        );
        let mut text = String::new();
        for gpu in &self.gpus {
            let (default, tried) = self.tried(gpu)?;
            writeln!(text, "{}, {} shaders\n", gpu.adapter.backend, gpu.adapter.variant)?;
            writeln!(text, "{}\n", table(&default, &tried))?;
            for (i, case) in CASES.iter().enumerate() {
                let ratio = |(_, _, times): &(_, _, Times)| times[i] / default[i];
                let best = tried.iter().filter(|one| ratio(one) < NOTABLE).min_by(|a, b| ratio(a).total_cmp(&ratio(b)));
                match best {
                    Some(one) => {
                        writeln!(text, "{}: best with {} {}, {:.2} of the time", name(*case), one.0, one.1, ratio(one))?
                    }
                    None => writeln!(text, "{}: best as it is", name(*case))?,
                }
            }
            text.push('\n');
        }
        text.push_str(
            "Times of other constants over the default's; its own in milliseconds. Every answer was checked.\n",
        );
        Ok(text)
    }

    /// The default's times and those of each alternative, which is named.
    fn tried(&self, gpu: &Gpu) -> Result<(Times, Vec<Tried>)> {
        let mut all = vec![("default", String::new(), Tuning::default())];
        all.extend(Tuning::alternatives());
        let devices = all.iter().map(|(_, _, tuning)| gpu.device.tuned(*tuning)).collect::<Result<Vec<_>>>()?;
        let mut times = vec![Times::new(); devices.len()];
        for (row_len, dtype) in CASES {
            let measured = match dtype {
                "f32" => self.times::<f32>(&devices, row_len, dtype)?,
                _ => self.times::<bf16>(&devices, row_len, dtype)?,
            };
            times.iter_mut().zip(measured).for_each(|(times, seconds)| times.push(seconds));
        }
        let mut named = all.into_iter().zip(times).map(|((name, value, _), times)| (name, value, times));
        let default = named.next().map(|(_, _, times)| times).unwrap_or_default();
        Ok((default, named.collect()))
    }

    /// Seconds on each of the devices, which take turns: one that grows warm slows down all of them.
    fn times<T: Entry>(&self, devices: &[Device], row_len: Option<u64>, dtype: &'static str) -> Result<Times> {
        let entries = self.args.sizes.iter().copied().max().unwrap_or_default();
        let row_len = row_len.unwrap_or(entries).min(entries);
        let (entries, is_row) = (entries / row_len * row_len, row_len < entries);
        let case = Case {
            task: "prune",
            input: InputKind::Normal.name(),
            dtype,
            granularity: if is_row { "row" } else { "tensor" },
            entries,
            row_len,
        };
        let before = inputs::generate::<T>(InputKind::Normal, entries as usize);
        let rule = case.rule();
        let mut after = before.clone();
        let decision = prune(&self.cpu, &mut after, &case, &rule)?;
        let (_, mask) = make_mask(&self.cpu, &before, &case, &rule)?;
        let mut laps = vec![Vec::new(); devices.len()];
        // One at a time on the device: weights may fill it.
        for round in 0..3 {
            for (device, laps) in devices.iter().zip(&mut laps) {
                let mut resident = Resident::new(device, Self::spec(&case, T::DTYPE)?, rule, true)?;
                resident.upload(bytemuck::cast_slice(&before))?;
                if round == 0 {
                    resident.check(bytemuck::cast_slice(&after), &mask, &decision)?;
                }
                resident.calibrate()?;
                laps.extend(resident.laps()?.iter().map(|lap| lap.prune));
            }
        }
        Ok(laps.iter().map(|laps| median(laps)).collect())
    }
}

fn name((row_len, dtype): (Option<u64>, &str)) -> String {
    row_len.map_or_else(|| format!("{dtype} tensor"), |len| format!("{dtype} rows of {len}"))
}

fn table(default: &[f64], tried: &[(&'static str, String, Times)]) -> String {
    let mut table = new_table();
    table.set_header(["constant", "value"].into_iter().map(str::to_owned).chain(CASES.map(name)));
    let head = ["default".to_owned(), String::new()].into_iter();
    table.add_row(head.chain(default.iter().map(|seconds| format!("{:.2} ms", 1e3 * seconds))));
    for (constant, value, times) in tried {
        let ratios = times.iter().zip(default).map(|(time, default)| format!("{:.2}", time / default));
        table.add_row([(*constant).to_owned(), value.clone()].into_iter().chain(ratios));
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    to_text(table)
}
