//! Files beside the model that have a tensor under each weight's own name: scores (`--score FILE`), and which rows or columns belong
//! together (`--structure groups:FILE`).

use crate::journal;
use crate::safetensors::{Model, TensorInfo};
use crate::settings::Settings;
use crate::table::counted;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use emprune::Dtype;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What scores may be stored as: what weights may be.
pub(crate) const SCORE_DTYPES: &str = "F32, F16, BF16, F8_E4M3 or F8_E5M2";

/// The files of all settings, each opened once.
#[derive(Debug, Default)]
pub(crate) struct Beside(BTreeMap<PathBuf, Model>);

/// The scores of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scores<'a> {
    /// Of every weight.
    Weights(ScorePlace),
    /// Of every structure.
    Structures(&'a TensorInfo, &'a Model),
}

/// Where the scores of a tensor's weights are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScorePlace {
    /// Of the first byte.
    pub(crate) offset: u64,
    pub(crate) dtype: Dtype,
}

/// The groups of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupPlace<'a> {
    pub(crate) numbers: &'a TensorInfo,
    pub(crate) model: &'a Model,
    /// Of columns, and not of rows.
    pub(crate) columns: bool,
}

impl Beside {
    pub(crate) fn open<'a>(settings: impl Iterator<Item = &'a Settings>) -> Result<Self> {
        let mut files = BTreeMap::new();
        for settings in settings {
            for (path, what) in [(settings.scores(), "the scores file"), (settings.groups(), "the groups file")] {
                if let Some(path) = path
                    && !files.contains_key(path)
                {
                    files.insert(path.to_owned(), Model::open(path).context(what)?);
                }
            }
        }
        Ok(Self(files))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.0.keys().cloned()
    }

    pub(crate) fn models(&self) -> impl Iterator<Item = &Model> {
        self.0.values()
    }

    /// The hash of every file.
    pub(crate) fn hashes(&self) -> Result<Vec<String>> {
        let hash = |Model { path, file, len, .. }: &Model| {
            let hash = journal::hash(file, 0..*len).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(hash.to_string())
        };
        self.0.values().map(hash).collect()
    }

    /// The scores file that these settings name.
    pub(crate) fn scores_file(&self, settings: &Settings) -> Option<&Model> {
        settings.scores().and_then(|path| self.0.get(path))
    }

    /// Whether what is there fits a weight, as far as headers tell.
    pub(crate) fn check(&self, weight: &TensorInfo, settings: &Settings) -> Result<()> {
        self.groups(weight, settings)?;
        let own = matches!(self.scores(weight, settings)?, Some(Scores::Structures(..)));
        match settings.norm.filter(|_| own).and_then(|norm| norm.to_possible_value()) {
            Some(norm) => bail!(
                "the structures of tensor {:?} have scores of their own in {}, and --norm {} would make them of its weights: leave it out",
                weight.name,
                settings.scores().unwrap_or(Path::new("")).display(),
                norm.get_name()
            ),
            None => Ok(()),
        }
    }

    /// Whether structures of these settings have scores of their own, as far as this weight tells.
    pub(crate) fn has_structure_scores(&self, weight: &TensorInfo, settings: &Settings) -> bool {
        matches!(self.scores(weight, settings), Ok(Some(Scores::Structures(..))))
    }

    /// The scores of a weight, if a file has them: one for each entry, or one for each structure.
    pub(crate) fn scores(&self, weight: &TensorInfo, settings: &Settings) -> Result<Option<Scores<'_>>> {
        let Some(model) = self.scores_file(settings) else { return Ok(None) };
        let (name, path) = (&weight.name, model.path.display());
        let scores = find(model, weight, "scores")?;
        let of = || format!("the scores of tensor {name:?} in {path}");
        let dtype = scores.prunable_dtype();
        let dtype = dtype.with_context(|| format!("{} are {}, and must be {SCORE_DTYPES}", of(), scores.dtype))?;
        let (has, wants) = (&scores.shape, &weight.shape);
        if has == wants {
            return Ok(Some(Scores::Weights(ScorePlace { offset: scores.bytes.start, dtype })));
        }
        let Some(structure) = &settings.structure else {
            bail!("{} have the shape {has:?}, and its weights have {wants:?}", of());
        };
        // How many groups there are is known when their numbers are.
        let structures = settings.structures(&weight.shape);
        ensure!(
            has.len() == 1 && structures.is_none_or(|count| has[0] == count),
            "{} have the shape {has:?}; its weights have {wants:?}, and its {structure} structures {}",
            of(),
            structures.map_or("one axis".to_owned(), |count| format!("{:?}", [count]))
        );
        Ok(Some(Scores::Structures(scores, model)))
    }

    /// The groups of a weight's rows or columns, if a file has them.
    pub(crate) fn groups(&self, weight: &TensorInfo, settings: &Settings) -> Result<Option<GroupPlace<'_>>> {
        let Some(model) = settings.groups().and_then(|path| self.0.get(path)) else { return Ok(None) };
        let numbers = find(model, weight, "groups")?;
        let columns = settings.row_len(&weight.shape);
        let rows = weight.len.checked_div(columns).unwrap_or(0);
        let columns = match numbers.shape[..] {
            [count] | [count, 1] if count == rows => false,
            [1, count] if count == columns => true,
            _ => bail!(
                "the groups of tensor {:?} in {} have the shape {:?}; its {rows} rows take [{rows}], and its {columns} columns \
                 [1, {columns}]",
                weight.name,
                model.path.display(),
                numbers.shape
            ),
        };
        Ok(Some(GroupPlace { numbers, model, columns }))
    }
}

/// What a file has under a weight's name.
fn find<'a>(model: &'a Model, weight: &TensorInfo, what: &str) -> Result<&'a TensorInfo> {
    let Model { path, tensors, .. } = model;
    let (name, path) = (&weight.name, path.display());
    let missing = || format!("{path} has no {what} for tensor {name:?}, but for {}", counted(tensors.len(), "other"));
    model.get(name).with_context(missing)
}
