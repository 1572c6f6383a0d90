//! `emprune demo`: the whole job on a small real network that travels inside the program, so that nothing has to be
//! downloaded. It prunes a reader of handwritten digits, counts what that costs on images that it has never seen, and
//! checks that every backend of this machine gives the same answer. `cli/demo/` says where the network comes from.

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use emprune::{Beta, Decision, Granularity, Group, Mask, Pruner, Rule, Tensor, TensorMut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::time::Instant;

/// Weights, biases, test images and their labels.
const DIGITS: &[u8] = include_bytes!("../demo/digits.safetensors");

/// Input to output.
const LAYERS: [&str; 3] = ["fc1", "fc2", "fc3"];

const GRANULARITIES: [Granularity; 3] = [Granularity::Row, Granularity::Tensor, Granularity::Global];

/// Around the default, to show where accuracy starts to suffer.
const BETAS: [f64; 4] = [1.25, 1.0, 0.75, 0.5];

/// The rule that is shown in detail.
const SHOWN: Rule = Rule::new().with_granularity(Granularity::Row);

#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let (network, tests) = embedded().context("the embedded network is damaged")?;
    let report = Report::measure(&network, &tests)?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    ensure!(report.backends.iter().all(|backend| backend.agrees), "the backends of this machine disagree");
    Ok(())
}

// ---- the network

/// `outputs = weight * inputs + bias`.
#[derive(Clone)]
struct Layer {
    name: String,
    inputs: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Clone)]
struct Network(Vec<Layer>);

struct TestSet<'a> {
    /// One after the other, as many pixels each as the first layer has inputs.
    pixels: Vec<f32>,
    labels: &'a [u8],
}

impl Layer {
    fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// In one fixed order, so that the accuracy is the same everywhere.
    fn forward(&self, inputs: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks_exact(self.inputs);
        rows.zip(&self.bias).map(|(row, bias)| row.iter().zip(inputs).fold(*bias, |sum, (w, x)| sum + w * x)).collect()
    }
}

impl Network {
    fn digit(&self, pixels: &[f32]) -> Option<usize> {
        let (last, hidden) = self.0.split_last()?;
        let relu = |values: Vec<f32>| values.into_iter().map(|v| v.max(0.0)).collect();
        let features = hidden.iter().fold(pixels.to_vec(), |values, layer| relu(layer.forward(&values)));
        let outputs = last.forward(&features).into_iter().enumerate();
        outputs.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(digit, _)| digit)
    }

    /// How many of the images it reads right.
    fn correct(&self, tests: &TestSet<'_>) -> usize {
        let images = tests.pixels.chunks_exact(tests.pixels.len() / tests.labels.len());
        images.zip(tests.labels).filter(|(image, label)| self.digit(image) == Some(usize::from(**label))).count()
    }

    fn len(&self) -> usize {
        self.0.iter().map(|layer| layer.weight.len()).sum()
    }

    /// "64-128-64-10".
    fn shape(&self) -> String {
        let inputs = self.0.first().map(|layer| layer.inputs);
        let sizes: Vec<String> = inputs.into_iter().chain(self.0.iter().map(Layer::outputs)).map(|n| n.to_string()).collect();
        sizes.join("-")
    }

    /// The matrices, which are what is pruned. Biases stay: they are few.
    fn tensors(&self) -> Result<Vec<Tensor<'_>>> {
        self.0.iter().map(|layer| Ok(Tensor::from(&layer.weight).with_row_len(layer.inputs as u64)?)).collect()
    }

    fn tensors_mut(&mut self) -> Result<Vec<TensorMut<'_>>> {
        self.0.iter_mut().map(|layer| Ok(TensorMut::from(&mut layer.weight).with_row_len(layer.inputs as u64)?)).collect()
    }

    fn weight_bits(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|layer| &layer.weight).map(|w| w.to_bits())
    }
}

// ---- the embedded file

/// One entry of a safetensors header.
#[derive(Deserialize)]
struct Entry {
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// Tensors by name: the length of a row and the bytes.
struct Tensors(BTreeMap<String, (usize, &'static [u8])>);

impl Tensors {
    fn read(file: &'static [u8]) -> Result<Self> {
        let (header_len, rest) = file.split_first_chunk().context("no header length")?;
        let header_len = usize::try_from(u64::from_le_bytes(*header_len))?;
        let (header, data) = rest.split_at_checked(header_len).context("the header is cut off")?;
        let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header)?;
        header.remove("__metadata__");
        let tensor = |(name, entry): (String, serde_json::Value)| {
            let Entry { shape, data_offsets: (start, end) } = serde_json::from_value(entry)?;
            let bytes = data.get(start..end).with_context(|| format!("{name} is cut off"))?;
            Ok((name, (shape.last().copied().unwrap_or(1), bytes)))
        };
        Ok(Self(header.into_iter().map(tensor).collect::<Result<_>>()?))
    }

    fn get(&self, name: &str) -> Result<(usize, &'static [u8])> {
        self.0.get(name).copied().with_context(|| format!("no tensor {name}"))
    }

    fn layer(&self, name: &str) -> Result<Layer> {
        let (inputs, weight) = self.get(&format!("{name}.weight"))?;
        let (_, bias) = self.get(&format!("{name}.bias"))?;
        Ok(Layer { name: format!("{name}.weight"), inputs, weight: floats(weight), bias: floats(bias) })
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

fn embedded() -> Result<(Network, TestSet<'static>)> {
    let tensors = Tensors::read(DIGITS)?;
    let network = Network(LAYERS.iter().map(|name| tensors.layer(name)).collect::<Result<_>>()?);
    // Stored as the scanner's whole numbers from 0 to 16; the network was trained on 0 to 1.
    let pixels = tensors.get("test.images")?.1.iter().map(|&pixel| f32::from(pixel) / 16.0).collect();
    Ok((network, TestSet { pixels, labels: tensors.get("test.labels")?.1 }))
}

// ---- asking the backends

/// All that a backend has to say about one rule.
struct Answer {
    decision: Decision,
    masks: Vec<Mask>,
    pruned: Network,
    /// For the decision and the zeroes.
    seconds: f64,
}

impl Answer {
    fn new(pruner: &Pruner, network: &Network, rule: &Rule) -> Result<Self> {
        // The masks come first: they also warm the backend up, so that the time is that of the work and not of the start.
        let (masked, masks) = pruner.mask(&network.tensors()?, rule)?;
        let mut pruned = network.clone();
        let start = Instant::now();
        let decision = pruner.prune(&mut pruned.tensors_mut()?, rule)?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(masked == decision, "{} decides otherwise when it makes masks", pruner.backend());
        Ok(Self { decision, masks, pruned, seconds })
    }

    fn agrees(&self, other: &Self) -> bool {
        self.decision == other.decision
            && self.masks == other.masks
            && self.pruned.weight_bits().eq(other.pruned.weight_bits())
    }
}

/// Every rule that the demo asks about, the shown one among them.
fn rules() -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for beta in BETAS {
        let beta = Beta::new(beta)?;
        rules.extend(GRANULARITIES.map(|granularity| SHOWN.with_beta(beta).with_granularity(granularity)));
    }
    Ok(rules)
}

/// The CPU first, then every adapter, software ones included: here they are asked to agree, not to be quick.
fn pruners() -> Result<Vec<Pruner>> {
    let mut pruners = vec![Pruner::cpu()];
    #[cfg(feature = "gpu")]
    for adapter in emprune::gpu::adapters() {
        let options = emprune::gpu::Options::new().with_adapter(&adapter.name).with_software(true);
        pruners.push(Pruner::gpu(&options).with_context(|| format!("cannot open {}", adapter.name))?);
    }
    Ok(pruners)
}

// ---- the report

#[derive(Serialize)]
struct Report {
    network: String,
    weights: usize,
    images: usize,
    /// Images read right, before and after the shown rule.
    correct_before: usize,
    correct_after: usize,
    kept: u64,
    backend: String,
    seconds: f64,
    layers: Vec<LayerReport>,
    outcomes: Vec<Outcome>,
    backends: Vec<BackendReport>,
}

/// One layer under the shown rule. `n_eff`, `mass` and `mass_bound` are means over its rows.
#[derive(Serialize)]
struct LayerReport {
    name: String,
    rows: usize,
    row_len: usize,
    n_eff: f64,
    kept: u64,
    sparsity: f64,
    mass: f64,
    mass_bound: f64,
}

#[derive(Serialize)]
struct Outcome {
    granularity: String,
    beta: f64,
    kept: u64,
    correct: usize,
}

#[derive(Serialize)]
struct BackendReport {
    name: String,
    /// For the shown rule.
    seconds: f64,
    /// With the CPU, on every rule, bit for bit.
    agrees: bool,
}
