//! The norms file of the Wanda score: under each weight's own name, how strong each of its inputs is.

use crate::journal;
use crate::positioned::read_exact_at;
use crate::safetensors::{Model, TensorInfo};
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// An open norms file.
#[derive(Debug)]
pub(crate) struct Norms(Model);

impl Norms {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(Model::open(path).context("the norms file")?))
    }

    /// The hash of the file.
    pub(crate) fn hash(&self) -> Result<String> {
        journal::hash(&self.0.file, self.0.len).with_context(|| format!("cannot read {}", self.0.path.display()))
    }

    /// Check that a weight with rows of this length has norms, one per column, from the header alone.
    pub(crate) fn check(&self, weight: &TensorInfo, row_len: u64) -> Result<()> {
        self.find(weight, row_len).map(drop)
    }

    /// The norms of a weight.
    pub(crate) fn load(&self, weight: &TensorInfo, row_len: u64) -> Result<Vec<f32>> {
        let norms = self.find(weight, row_len)?;
        let Self(Model { path, file, .. }) = self;
        let mut bytes = vec![0; (norms.bytes.end - norms.bytes.start) as usize];
        read_exact_at(file, &mut bytes, norms.bytes.start)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        if let Some(at) = values.iter().position(|norm| !norm.is_finite()) {
            let kind = if values[at].is_nan() { "NaN" } else { "infinity" };
            anyhow::bail!("the norms of tensor {:?} in {}: entry {at} is {kind}", weight.name, path.display());
        }
        Ok(values)
    }

    fn find(&self, weight: &TensorInfo, row_len: u64) -> Result<&TensorInfo> {
        let Self(Model { path, tensors, .. }) = self;
        let name = &weight.name;
        let missing = || {
            let (wants, has) = (row_len, tensors.len());
            format!(
                "{} has no norms for tensor {name:?}: it needs {wants}, and there are {has} other names",
                path.display()
            )
        };
        let norms = self.0.get(name).with_context(missing)?;
        let of = || format!("the norms of tensor {name:?} in {}", path.display());
        ensure!(norms.dtype == "F32", "{} are {}, and must be F32", of(), norms.dtype);
        ensure!(norms.shape.len() <= 1, "{} have the shape {:?}, and must be one vector", of(), norms.shape);
        // Where there are fewer than two axes one norm serves all; one for each entry is understood too.
        let one = weight.shape.len() < 2 && norms.len == 1;
        ensure!(norms.len == row_len || one, "{} are {}, and its rows have {row_len} columns", of(), norms.len);
        Ok(norms)
    }
}
