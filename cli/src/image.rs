//! `emprune image`: a picture of which every channel keeps the pixels that stand out.

use crate::Usage;
use crate::args::ImageArgs;
use crate::backend::{Fallback, Workers};
use crate::interrupt;
use crate::output::{self, Mode, NewFile};
use crate::picture::{Picture, Samples};
use crate::pixels::{Pixels, Sample, runs};
use crate::report::{sparsity, write_json};
use crate::ssim::ssim;
use crate::table::{grouped, named, percent};
use anyhow::{Context, Result};
use emprune::{Granularity, Rule, Want};
use serde::Serialize;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

pub(crate) const SCHEMA: &str = "emprune.image/1";

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    emprune_version: &'static str,
    /// `cpu` or `gpu`.
    backend: &'static str,
    adapter: Option<String>,
    /// Where and why the CPU took over from it.
    fallback: Option<Fallback>,
    beta: f64,
    /// The side of a patch, where patches are the contests.
    patch: Option<u32>,
    width: u32,
    height: u32,
    /// Of one sample.
    bits: u32,
    totals: Totals,
    channels: Vec<Channel>,
}

/// Over all channels but alpha.
#[derive(Debug, Default, Serialize)]
struct Totals {
    len: u64,
    kept: u64,
    sparsity: f64,
    /// In dB; null where no pixel changed, for it is infinite then.
    psnr: Option<f64>,
    /// The mean over the channels.
    ssim: f64,
}

#[derive(Debug, Default, Serialize)]
struct Channel {
    name: &'static str,
    len: u64,
    kept: u64,
    contests: u64,
    // Where the channel was one contest:
    n_eff: Option<f64>,
    mass: Option<f64>,
    mass_bound: Option<f64>,
}

/// Prune a picture.
pub(crate) fn run(args: &ImageArgs) -> Result<()> {
    let start = Instant::now();
    args.backend.check()?;
    check_name(&args.output)?;
    interrupt::catch()?;
    let picture = Picture::open(&args.input)?;
    let targets: Vec<&Path> = args.report.file.as_deref().into_iter().chain([args.output.as_path()]).collect();
    output::check(&targets, std::slice::from_ref(&args.input), &[], args.report.overwrite)?;
    let workers = Workers::open(&args.backend, None)?;
    let new_report = args.report.file.as_deref().map(NewFile::create).transpose()?;
    let new_picture = NewFile::create(&args.output)?;
    let of = fs::metadata(&args.input).with_context(|| format!("cannot look at {}", args.input.display()))?;
    new_report.iter().chain([&new_picture]).for_each(|new| new.permit_as(Mode::of(&of)));

    let mut pruned = picture.samples.clone();
    let (totals, channels) = match (&picture.samples, &mut pruned) {
        (Samples::Eight(input), Samples::Eight(output)) => prune(args, &workers, &picture, input, output)?,
        (Samples::Sixteen(input), Samples::Sixteen(output)) => prune(args, &workers, &picture, input, output)?,
        _ => unreachable!("a copy is of the same kind"),
    };
    let report = Report {
        schema: SCHEMA,
        emprune_version: env!("CARGO_PKG_VERSION"),
        backend: workers.backend().name(),
        adapter: workers.backend().adapter().map(str::to_owned),
        fallback: workers.fallback().cloned(),
        beta: args.beta.get(),
        patch: args.patch,
        width: picture.layout.width,
        height: picture.layout.height,
        bits: if matches!(pruned, Samples::Eight(_)) { 8 } else { 16 },
        totals,
        channels,
    };
    let mut out = BufWriter::new(new_picture.file());
    picture.write(&pruned, &mut out)?;
    out.flush().context("cannot write the picture")?;
    drop(out);
    if let Some(new) = &new_report {
        let mut out = BufWriter::new(new.file());
        write_json(&mut out, &report).and_then(|()| out.flush()).context("cannot write the report")?;
    }
    interrupt::check()?;
    // The picture last: where it is, the rest is.
    let new: Vec<_> = new_report.into_iter().chain([new_picture]).collect();
    output::flush(&new.iter().collect::<Vec<_>>(), &[])?.commit(new, vec![], args.report.overwrite)?;

    let mut text = Vec::new();
    if args.report.json {
        write_json(&mut text, &report)?;
    } else {
        let seconds = start.elapsed().as_secs_f64();
        text = report.table(&format!("{seconds:.3} s on {}", workers.backend()), &args.output).into_bytes();
    }
    crate::print(&text)
}

/// A name that says another format would be believed by whoever opens it.
fn check_name(output: &Path) -> Result<(), Usage> {
    let others = ["jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];
    let end = output.extension().filter(|end| others.iter().any(|other| end.eq_ignore_ascii_case(other)));
    end.map_or(Ok(()), |end| {
        let (output, end) = (output.display(), end.display());
        Err(Usage(format!("--output {output}: pictures are written as PNG, and the name says {end}; end it in .png")))
    })
}

/// Prune channel by channel, from `input` to `output`.
fn prune<T: Sample>(
    args: &ImageArgs,
    workers: &Workers,
    picture: &Picture,
    input: &[T],
    output: &mut [T],
) -> Result<(Totals, Vec<Channel>)> {
    let layout = picture.layout;
    // A channel is a patch as large as the picture.
    let side = args.patch.unwrap_or(layout.width.max(layout.height));
    let rule = Rule::new().with_granularity(Granularity::Row).with_beta(args.beta);
    let want = Want { zeros: false, masks: true };
    let mut totals = Totals::default();
    let mut channels = Vec::new();
    for (at, &name) in picture.colours().iter().enumerate() {
        let mut channel = Channel { name, ..Channel::default() };
        for run in runs(layout, side) {
            let decision = loop {
                // What a device that failed has stored by then is stored once more, and is the same.
                let mut pixels = Pixels::new(layout, at, run, input, output);
                match workers.current().stream(&mut pixels, &rule, want) {
                    Ok(decision) => break decision,
                    Err(error) if workers.fall_back(&error, name, &format!("the {name} channel")) => {}
                    Err(error) => return Err(error).with_context(|| format!("the {name} channel")),
                }
            };
            channel.len += decision.entries();
            channel.kept += decision.kept();
            channel.contests += decision.groups().len() as u64;
            if let (None, [contest]) = (args.patch, decision.groups()) {
                channel.n_eff = Some(contest.n_eff);
                channel.mass = Some(contest.mass);
                channel.mass_bound = Some(contest.mass_bound);
            }
        }
        totals.len += channel.len;
        totals.kept += channel.kept;
        totals.ssim += ssim(layout, at, input, output)?;
        channels.push(channel);
    }
    totals.sparsity = sparsity(totals.kept, totals.len);
    totals.ssim /= channels.len() as f64;
    totals.psnr = psnr(totals.len, input, output);
    Ok((totals, channels))
}

/// Ten times the logarithm of the largest square over the mean square error; alpha, which never changes, is not in `len`.
fn psnr<T: Sample>(len: u64, input: &[T], output: &[T]) -> Option<f64> {
    let squares = input.iter().zip(output).map(|(&a, &b)| u64::from(a.into().abs_diff(b.into())).pow(2));
    let error: u64 = squares.sum(); // below 2^32 each, and 2^30 of them
    let peak = f64::from(T::LEVELS - 1);
    (error > 0).then(|| 10.0 * (peak * peak * len as f64 / error as f64).log10())
}

impl Report {
    fn table(&self, took: &str, output: &Path) -> String {
        let share = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
        let line = |channel: &Channel| {
            vec![
                channel.name.to_owned(),
                grouped(channel.contests),
                share(channel.n_eff.map(|n_eff| n_eff / channel.len as f64)),
                grouped(channel.kept),
                percent(sparsity(channel.kept, channel.len)),
                share(channel.mass),
                share(channel.mass_bound),
            ]
        };
        let columns = ["channel", "contests", "N_eff/N", "kept", "sparsity", "mass", "bound"];
        let table = named(&columns, 1, self.channels.iter().map(line).collect());
        let Totals { len, kept, sparsity, psnr, ssim } = &self.totals;
        let psnr = psnr.map_or_else(|| "infinite: no pixel changed".into(), |psnr| format!("{psnr:.2} dB"));
        format!(
            "{table}\n\n\
             picture {} x {}, {} bits\n\
             pruned  {} of {} samples kept, sparsity {}\n\
             like    PSNR {psnr}, SSIM {ssim:.4}\n\
             took    {took}\n\
             wrote   {}\n",
            self.width,
            self.height,
            self.bits,
            grouped(*kept),
            grouped(*len),
            percent(*sparsity),
            output.display()
        )
    }
}
