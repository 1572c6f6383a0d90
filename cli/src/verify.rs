//! `emprune verify`: decide again, and compare with what is there every byte that would be written.

use crate::args::VerifyArgs;
use crate::backend::Workers;
use crate::checkpoint::{Passed, passed_over};
use crate::events;
use crate::input::open_regular;
use crate::prune::Question;
use crate::safetensors::{Model, TensorInfo};
use crate::sink::{Differs, Sink};
use crate::table::counted;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Check that an output and a masks file are exactly what prune would write.
pub(crate) fn run(args: &VerifyArgs) -> Result<()> {
    let output_path = args.output()?;
    let idle = args.idle();
    if !idle.is_empty() {
        events::note(&format!("verify writes nothing, and has no use for {}", idle.join(", ")));
    }
    let question = Question::open(&args.job)?;
    let model = &question.model;
    let output = |name: &Path| if model.directory.is_some() { output_path.join(name) } else { output_path.to_owned() };
    let paths: Vec<_> = model.shards.iter().map(|shard| output(shard.name().as_ref())).collect();
    let is_directory = output_path.is_dir();
    ensure!(!is_directory || model.directory.is_some(), "{} is not a regular file", output_path.display());
    let files = paths.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    for ((path, file), shard) in paths.iter().zip(&files).zip(&model.shards) {
        let (has, len) = (file.metadata()?.len(), shard.len);
        ensure!(has == len, "{} has {has} bytes, and should have {len}", path.display());
    }
    let outputs = paths.iter().zip(&files).enumerate();
    let outputs: Vec<_> = outputs.map(|(number, (path, file))| Sink::Compare(file, path, number)).collect();
    // Masks are named by the number after the last shard's.
    let masks = args.masks.as_deref().map(|path| open(path).map(|file| (path, file))).transpose()?;
    let masks = masks.as_ref().map(|(path, file)| Sink::Compare(file, path, files.len()));

    if let Some(directory) = &model.directory {
        let index = directory.index.map(Path::new);
        let beside: Vec<&Path> = directory.others.iter().map(PathBuf::as_path).chain(index).collect();
        let (folders, expected) = (directory.folders.iter().map(PathBuf::as_path), model.output_names());
        for folder in [Path::new("")].into_iter().chain(folders) {
            check_names(output_path, folder, &expected)?;
        }
        for name in beside {
            let (path, from) = (output_path.join(name), open(&model.path.join(name))?);
            let file = open(&path)?;
            let (sink, len) = (Sink::Compare(&file, &path, 0), from.metadata()?.len());
            let same = sink.set_len(len).and_then(|()| sink.copy(&from, 0..len));
            same.with_context(|| format!("{} is not that of the input", path.display()))?;
        }
    }
    let workers = Workers::open(&args.job.backend, Some(args.job.memory))?;
    let report = question.answer(&workers, &outputs, masks, None, None).map_err(|error| match Differs::of(&error) {
        Some(differs) => explain(differs, &paths, &model.shards, args.masks.as_deref()),
        None => error,
    })?;
    let pruned = counted(report.tensors.iter().filter(|tensor| tensor.skipped.is_none()).count(), "tensor");
    let (path, input) = (output_path.display(), args.job.input.display());
    let masks = if masks.is_some() { ", and so are the masks" } else { "" };
    let line = format!("{path} is what these options make of {input}: {pruned} pruned, all else unchanged{masks}\n");
    crate::print(line.as_bytes())
}

fn open(path: &Path) -> Result<File> {
    open_regular(path).with_context(|| path.display().to_string())
}

/// What the input has not in a directory, the output must not have.
fn check_names(output: &Path, folder: &Path, expected: &BTreeSet<PathBuf>) -> Result<()> {
    let cannot = || format!("cannot list {}", output.join(folder).display());
    for entry in fs::read_dir(output.join(folder)).with_context(cannot)? {
        let name = folder.join(entry.with_context(cannot)?.file_name());
        if expected.contains(&name) {
            continue;
        }
        let path = output.join(&name);
        let shown = path.display();
        // In the input these are passed over too: whoever has them put them here after the pruning.
        match passed_over(&path) {
            Some(Passed::Is(what)) => events::note(&format!("{shown} is {what} and is not looked at")),
            Some(Passed::Left) => {
                events::note(&format!("{shown} was left by a run that was ended, and is not looked at"))
            }
            None => bail!("{shown} is in the output, and the input has no such file"),
        }
    }
    Ok(())
}

/// Which tensor and which of its entries a byte belongs to.
fn explain(differs: &Differs, paths: &[PathBuf], shards: &[Model], masks: Option<&Path>) -> anyhow::Error {
    let at = differs.at;
    let find = |tensors: &[TensorInfo]| tensors.iter().find(|tensor| tensor.bytes.contains(&at)).cloned();
    let (path, place) = match (shards.get(differs.file), masks) {
        (Some(shard), _) => {
            let tensor = find(&shard.tensors);
            let place = tensor.map(|tensor| {
                let index = match tensor.prunable_dtype() {
                    Some(dtype) => format!("entry {}", (at - tensor.bytes.start) / dtype.size() as u64),
                    None => format!("byte {}", at - tensor.bytes.start),
                };
                format!("tensor {:?}, {index}", tensor.name)
            });
            (paths[differs.file].as_path(), place)
        }
        (None, masks) => {
            let masks = masks.unwrap_or(Path::new(""));
            let tensor = Model::open(masks).ok().and_then(|model| find(&model.tensors));
            let bit = u64::from(differs.bits.trailing_zeros());
            let place = tensor.map(|t| format!("tensor {:?}, bit {}", t.name, 8 * (at - t.bytes.start) + bit));
            (masks, place)
        }
    };
    let place = place.unwrap_or_else(|| format!("the header, byte {at}"));
    anyhow!("{} is not what these options make of the input: {place} differs", path.display())
}
