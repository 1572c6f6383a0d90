//! `--structure`: the structures of tensors that are decided together, with what files say of them, as the library takes them.

use crate::beside::{Beside, GroupPlace, SCORE_DTYPES, Scores};
use crate::positioned::read_exact_at;
use crate::report::Numbers;
use crate::safetensors::{Model, TensorInfo};
use crate::settings::{self, Settings};
use crate::values::for_each_value;
use anyhow::{Context, Result, bail};
use emprune::{Decision, Error, Groups, Mask, Norm, Pruner, Rule, Score, Source, Structure, Want};

/// The question, and for each tensor its groups and its structures' scores, where files have them.
#[derive(Debug)]
pub(crate) struct Structures<'a> {
    settings: &'a Settings,
    structure: &'a settings::Structure,
    groups: Vec<TensorGroups>,
    scores: Vec<Vec<f32>>,
    /// Input channels of every tensor.
    channels: Vec<u64>,
}

/// The number of each row's or column's group.
#[derive(Debug)]
struct TensorGroups {
    columns: bool,
    numbers: Vec<u32>,
}

impl<'a> Structures<'a> {
    /// Those of some tensors, if structures are what is kept or zeroed.
    pub(crate) fn load(tensors: &[&TensorInfo], settings: &'a Settings, beside: &Beside) -> Result<Option<Self>> {
        let Some(structure) = &settings.structure else { return Ok(None) };
        let mut all = Self { settings, structure, groups: Vec::new(), scores: Vec::new(), channels: Vec::new() };
        all.channels.extend(tensors.iter().map(|info| settings.channels(&info.shape)));
        let (mut with, mut without) = (None, None);
        for info in tensors {
            if let Some(place) = beside.groups(info, settings)? {
                all.groups.push(TensorGroups::read(&place)?);
            }
            match beside.scores(info, settings)? {
                Some(Scores::Structures(scores, model)) => {
                    all.scores.push(read_scores(scores, model)?);
                    with = Some(&info.name);
                }
                _ => without = Some(&info.name),
            }
        }
        match (with, without) {
            (Some(with), Some(without)) => bail!(
                "one contest, but the structures of tensor {with:?} have scores, and those of tensor {without:?} have none"
            ),
            _ => Ok(Some(all)),
        }
    }

    /// Ask the library.
    pub(crate) fn stream(
        &self,
        pruner: &Pruner,
        source: &mut dyn Source,
        rule: &Rule,
        want: Want,
    ) -> Result<(Decision, Vec<Mask>), Error> {
        self.ask(rule, |structure, norm, rule| pruner.stream_structures(source, structure, norm, rule, want))
    }

    /// As [`stream`](Self::stream), its first half.
    pub(crate) fn decide(
        &self,
        pruner: &Pruner,
        source: &mut dyn Source,
        rule: &Rule,
    ) -> Result<(Decision, Vec<Mask>), Error> {
        self.ask(rule, |structure, norm, rule| pruner.decide_structures(source, structure, norm, rule))
    }

    /// As [`stream`](Self::stream), its second half, for one tensor. Of groups that it shares with others, those come back that it has some of.
    pub(crate) fn carry_out(
        &self,
        pruner: &Pruner,
        source: &mut dyn Source,
        rule: &Rule,
        kept: &Mask,
        want: Want,
    ) -> Result<Numbers, Error> {
        let masks = std::slice::from_ref(kept);
        self.ask(rule, |structure, _, rule| pruner.carry_out_structures(source, structure, rule, masks, want))?;
        Ok(match self.groups.first() {
            None => Numbers(kept.clone()),
            Some(groups) => Numbers::among(kept, &groups.numbers),
        })
    }

    fn ask<T>(&self, rule: &Rule, ask: impl FnOnce(Structure<'_>, Norm<'_>, &Rule) -> T) -> T {
        let groups: Vec<_> = self.groups.iter().map(TensorGroups::lend).collect();
        let scores: Vec<_> = self.scores.iter().map(Vec::as_slice).collect();
        let structure = match *self.structure {
            settings::Structure::Row => Structure::Row,
            settings::Structure::Column => Structure::Column,
            settings::Structure::Heads(heads) => Structure::Heads(heads),
            settings::Structure::Channel => Structure::Channels(&self.channels),
            settings::Structure::Groups(_) => Structure::Groups(&groups),
        };
        match scores.is_empty() {
            true => ask(structure, self.settings.norm().into(), rule),
            // Nothing is asked about weights then.
            false => ask(structure, Norm::Given(&scores), &rule.with_score(Score::Magnitude)),
        }
    }
}

impl TensorGroups {
    fn read(place: &GroupPlace<'_>) -> Result<Self> {
        let GroupPlace { numbers: info, model, columns } = *place;
        let of = || format!("the groups of tensor {:?} in {}", info.name, model.path.display());
        let bytes = read(info, model)?;
        let width = match info.dtype.as_str() {
            "I8" | "U8" => 1,
            "I16" | "U16" => 2,
            "I32" | "U32" => 4,
            "I64" | "U64" => 8,
            other => bail!("{} are {other}, and must be integers", of()),
        };
        // Of either sign: what is negative is too large as a positive number.
        let number = |(at, entry): (usize, &[u8])| {
            let mut word = [0; 8];
            word[..entry.len()].copy_from_slice(entry);
            let bits = u64::from_le_bytes(word);
            let negative = info.dtype.starts_with('I') && entry.last().is_some_and(|high| high >> 7 == 1);
            let (what, found) = (if columns { "column" } else { "row" }, u32::try_from(bits).ok());
            let found = found.filter(|_| !negative);
            let sign = if negative { "a negative number" } else { "too large a number" };
            found.with_context(|| format!("{}: the group of {what} {at} is {sign}", of()))
        };
        let numbers = bytes.chunks_exact(width).enumerate().map(number).collect::<Result<_>>()?;
        Ok(Self { columns, numbers })
    }

    fn lend(&self) -> Groups<'_> {
        if self.columns { Groups::Columns(&self.numbers) } else { Groups::Rows(&self.numbers) }
    }
}

fn read(info: &TensorInfo, model: &Model) -> Result<Vec<u8>> {
    let mut bytes = vec![0; (info.bytes.end - info.bytes.start) as usize];
    let place = || format!("cannot read tensor {:?} of {}", info.name, model.path.display());
    read_exact_at(&model.file, &mut bytes, info.bytes.start).with_context(place)?;
    Ok(bytes)
}

fn read_scores(info: &TensorInfo, model: &Model) -> Result<Vec<f32>> {
    let bytes = read(info, model)?;
    let Some(dtype) = info.prunable_dtype() else {
        bail!("the scores of tensor {:?}'s structures are {}, and must be {SCORE_DTYPES}", info.name, info.dtype)
    };
    let mut scores = Vec::with_capacity(bytes.len() / dtype.size());
    for_each_value(&bytes, dtype, |score| scores.push(score));
    Ok(scores)
}
