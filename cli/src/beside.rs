//! The scores file of `--score FILE`: under each weight's own name, a tensor of its shape.

use crate::args::Settings;
use crate::journal;
use crate::safetensors::{Model, TensorInfo};
use anyhow::{Context, Result, ensure};
use emprune::Dtype;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An open scores file.
#[derive(Debug)]
pub(crate) struct Scores(pub(crate) Model);

/// Where the scores of one tensor are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScorePlace {
    /// Of the first byte.
    pub(crate) offset: u64,
    pub(crate) dtype: Dtype,
}

/// The scores files of all settings, each opened once.
#[derive(Debug, Default)]
pub(crate) struct ScoreFiles(BTreeMap<PathBuf, Scores>);

impl ScoreFiles {
    pub(crate) fn open<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Self> {
        let paths: BTreeSet<PathBuf> = paths.map(Path::to_owned).collect();
        let open = |path: PathBuf| Ok((path.clone(), Scores::open(&path)?));
        Ok(Self(paths.into_iter().map(open).collect::<Result<_>>()?))
    }

    /// The file that these settings name.
    pub(crate) fn get(&self, settings: &Settings) -> Option<&Scores> {
        settings.scores().and_then(|path| self.0.get(path))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.0.keys().cloned()
    }

    /// The hash of every file.
    pub(crate) fn hashes(&self) -> Result<Vec<String>> {
        let hash = |Scores(Model { path, file, len, .. }): &Scores| {
            journal::hash(file, *len).with_context(|| format!("cannot read {}", path.display()))
        };
        self.0.values().map(hash).collect()
    }
}

impl Scores {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self(Model::open(path).context("the scores file")?))
    }

    /// The scores of a weight: one each.
    pub(crate) fn of(&self, weight: &TensorInfo) -> Result<ScorePlace> {
        let Self(Model { path, tensors, .. }) = self;
        let (name, path) = (&weight.name, path.display());
        let missing = || format!("{path} has no scores for tensor {name:?}, but for {} others", tensors.len());
        let scores = self.0.get(name).with_context(missing)?;
        let of = || format!("the scores of tensor {name:?} in {path}");
        let (has, wants) = (&scores.shape, &weight.shape);
        ensure!(has == wants, "{} have the shape {has:?}, and its weights have {wants:?}", of());
        let dtype = scores.prunable_dtype();
        let dtype = dtype.with_context(|| format!("{} are {}, and must be F32, F16 or BF16", of(), scores.dtype))?;
        Ok(ScorePlace { offset: scores.bytes.start, dtype })
    }
}
