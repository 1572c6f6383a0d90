//! The norms file of the Wanda score: for each weight, how strong each of its inputs is. Safetensors, under the weight's own
//! name; or llama.cpp's importance matrix, under the names that llama.cpp uses.

use crate::imatrix::{self, Imatrix};
use crate::input::read_text;
use crate::journal;
use crate::names;
use crate::positioned::read_exact_at;
use crate::safetensors::{Model, TensorInfo};
use crate::table::counted;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// An open norms file.
#[derive(Debug)]
pub(crate) struct Norms {
    file: File,
    /// What the norms of a weight are called, where that is not what it would be.
    map: BTreeMap<String, String>,
}

#[derive(Debug)]
enum File {
    Safetensors(Model),
    Imatrix(Imatrix),
}

/// The norms of one weight, not read yet.
enum Found<'a> {
    Safetensors(&'a TensorInfo),
    Imatrix(imatrix::Norms<'a>),
}

/// Two names of a hundred bytes for each of as many tensors as the largest models have.
const MOST_BYTES_OF_MAP: u64 = 32 << 20;

impl Norms {
    /// Open a file, and a map of names: a JSON object.
    pub(crate) fn open(path: &Path, map: Option<&Path>) -> Result<Self> {
        let read = |path: &Path| -> Result<BTreeMap<String, String>> {
            let text = read_text(path, MOST_BYTES_OF_MAP).with_context(|| path.display().to_string())?;
            serde_json::from_str(&text).with_context(|| format!("{} is no JSON object of names", path.display()))
        };
        let map = map.map(read).transpose()?.unwrap_or_default();
        let file = if Imatrix::is(path) {
            File::Imatrix(Imatrix::open(path).context("the norms file")?)
        } else {
            File::Safetensors(Model::open(path).context("the norms file")?)
        };
        Ok(Self { file, map })
    }

    /// A warning about names of the map that are none of these tensors'.
    pub(crate) fn idle(&self, tensors: &[TensorInfo]) -> Option<String> {
        let is_idle = |name: &&String| tensors.binary_search_by(|tensor| tensor.name.cmp(name)).is_err();
        let mut idle = self.map.keys().filter(is_idle);
        let first = idle.next()?;
        let others = match idle.count() {
            0 => String::new(),
            count => format!(", nor {} of it", counted(count, "other name")),
        };
        Some(format!("--norm-map {first:?} matches no tensor{others}"))
    }

    /// The hash of the file and the names.
    pub(crate) fn hash(&self) -> Result<String> {
        let (path, hash) = match &self.file {
            File::Safetensors(model) => (&model.path, journal::hash(&model.file, 0..model.len)),
            File::Imatrix(imatrix) => (&imatrix.path, journal::hash(&imatrix.file, 0..imatrix.len)),
        };
        Ok(format!("{} {:?}", hash.with_context(|| format!("cannot read {}", path.display()))?, self.map))
    }

    /// How many norms a weight with rows of this length has, from the header alone: one per column, or one for all.
    pub(crate) fn count(&self, weight: &TensorInfo, row_len: u64) -> Result<u64> {
        Ok(match self.find(weight, row_len)? {
            Found::Safetensors(norms) => norms.len,
            Found::Imatrix(norms) => norms.len,
        })
    }

    /// The norms of some columns of a weight. Where there is one for all, each has that.
    pub(crate) fn load(&self, weight: &TensorInfo, row_len: u64, columns: Range<u64>) -> Result<Vec<f32>> {
        let (wanted, count) = (columns.end - columns.start, self.count(weight, row_len)?);
        let columns = if count == 1 { 0..1 } else { columns };
        let (norms, model) = match (self.find(weight, row_len)?, &self.file) {
            (Found::Safetensors(norms), File::Safetensors(model)) => (norms, model),
            (Found::Imatrix(norms), _) => {
                return norms.load(columns).map(|norms| spread(norms, wanted)).with_context(|| self.of(weight));
            }
            _ => bail!("{}: no such file", self.of(weight)),
        };
        let mut bytes = vec![0; size_of::<f32>() * (columns.end - columns.start) as usize];
        read_exact_at(&model.file, &mut bytes, norms.bytes.start + size_of::<f32>() as u64 * columns.start)
            .with_context(|| format!("cannot read {}", model.path.display()))?;
        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        if let Some(at) = values.iter().position(|norm| !norm.is_finite()) {
            let kind = if values[at].is_nan() { "NaN" } else { "infinity" };
            bail!("{}: entry {} is {kind}", self.of(weight), columns.start + at as u64);
        }
        Ok(spread(values, wanted))
    }

    /// Nobody has written to it since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match &self.file {
            File::Safetensors(model) => model.check_unchanged(),
            File::Imatrix(imatrix) => imatrix.check_unchanged(),
        }
    }

    fn path(&self) -> &Path {
        match &self.file {
            File::Safetensors(model) => &model.path,
            File::Imatrix(imatrix) => &imatrix.path,
        }
    }

    fn of(&self, weight: &TensorInfo) -> String {
        format!("the norms of tensor {:?} in {}", weight.name, self.path().display())
    }

    fn find(&self, weight: &TensorInfo, row_len: u64) -> Result<Found<'_>> {
        let name = &weight.name;
        let missing = |called: &str, has: usize| {
            let path = self.path().display();
            let called = if called == name { String::new() } else { format!(", there called {called:?}") };
            let others = counted(has, "other name");
            format!(
                "{path} has no norms for tensor {name:?}{called}: it needs {row_len}, and the file has {others}; \
                 --norm-map FILE says what it is called there"
            )
        };
        // Where there are fewer than two axes one norm serves all; one for each entry is understood too.
        let fits = |len: u64| len == row_len || (weight.shape.len() < 2 && len == 1);
        let of = || self.of(weight);
        let mapped = self.map.get(name).map(String::as_str);
        match &self.file {
            File::Safetensors(model) => {
                let called = mapped.unwrap_or(name);
                let norms = model.get(called).with_context(|| missing(called, model.tensors.len()))?;
                ensure!(norms.dtype == "F32", "{} are {}, and must be F32", of(), norms.dtype);
                ensure!(norms.shape.len() <= 1, "{} have the shape {:?}, and must be one vector", of(), norms.shape);
                ensure!(fits(norms.len), "{} are {}, and its rows have {row_len} columns", of(), norms.len);
                Ok(Found::Safetensors(norms))
            }
            File::Imatrix(imatrix) => {
                let as_is = |name: &str| (name.to_owned(), None);
                let numbered = |(name, matrix)| (name, Some(matrix));
                let (called, matrix) = match mapped {
                    Some(called) => names::with_matrix(called).map_or_else(|| as_is(called), numbered),
                    None if imatrix.has(name) => as_is(name),
                    None => names::in_gguf(name).map_or_else(|| as_is(name), numbered),
                };
                let found = imatrix.find(&called, matrix).with_context(of)?;
                let norms = found.with_context(|| missing(&called, imatrix.names()))?;
                ensure!(fits(norms.len), "{} are {}, and its rows have {row_len} columns", of(), norms.len);
                Ok(Found::Imatrix(norms))
            }
        }
    }
}

/// One norm for each of so many columns.
fn spread(norms: Vec<f32>, columns: u64) -> Vec<f32> {
    match norms[..] {
        [norm] => vec![norm; columns as usize],
        _ => norms,
    }
}
