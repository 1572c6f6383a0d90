//! The norms file of the Wanda score: under each weight's own name, how strong each of its inputs is.

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

    /// Check that a weight has norms, one per column, from the header alone.
    pub(crate) fn check(&self, weight: &TensorInfo) -> Result<()> {
        self.find(weight).map(drop)
    }

    /// The norms of a weight.
    pub(crate) fn load(&self, weight: &TensorInfo) -> Result<Vec<f32>> {
        let norms = self.find(weight)?;
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

    fn find(&self, weight: &TensorInfo) -> Result<&TensorInfo> {
        let Self(Model { path, tensors, .. }) = self;
        let name = &weight.name;
        let missing = || {
            let (wants, has) = (columns(weight)[0], tensors.len());
            format!(
                "{} has no norms for tensor {name:?}: it needs {wants}, and there are {has} other names",
                path.display()
            )
        };
        let norms = self.0.get(name).with_context(missing)?;
        let of = || format!("the norms of tensor {name:?} in {}", path.display());
        ensure!(norms.dtype == "F32", "{} are {}, and must be F32", of(), norms.dtype);
        ensure!(norms.shape.len() <= 1, "{} have the shape {:?}, and must be one vector", of(), norms.shape);
        let [wants, or] = columns(weight);
        ensure!([wants, or].contains(&norms.len), "{} are {}, and its rows have {wants} columns", of(), norms.len);
        Ok(norms)
    }
}

/// How many norms a weight needs: the product of all axes but the first. Where there are fewer than two axes the product is
/// of nothing, and one norm serves all; one for each entry is understood too.
fn columns(weight: &TensorInfo) -> [u64; 2] {
    let columns = weight.row_len();
    [columns, if weight.shape.len() < 2 { 1 } else { columns }]
}
