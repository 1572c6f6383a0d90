//! `emprune demo`: the whole job on a small real network that travels inside the program, so that nothing has to be
//! downloaded. It prunes a reader of handwritten digits, counts what that costs on images that it has never seen, and
//! checks that every backend of this machine gives the same answer. `cli/demo/` says where the network comes from.

use crate::report::sparsity;
use crate::safetensors::{TensorInfo, tensors_of};
use crate::table::percent;
use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use emprune::{Beta, Budget, Decision, Granularity, Group, Mask, Pruner, Rule, Tensor, TensorMut};
use serde::Serialize;
use std::fmt;
use std::iter;
use std::time::Instant;

/// Weights, biases, test images and their labels.
const DIGITS: &[u8] = include_bytes!("../demo/digits.safetensors");

/// Input to output.
const LAYERS: [&str; 3] = ["fc1", "fc2", "fc3"];

const GRANULARITIES: [(&str, Granularity); 3] =
    [("row", Granularity::Row), ("tensor", Granularity::Tensor), ("global", Granularity::Global)];

/// Around the default, to show where accuracy starts to suffer.
const BETAS: [f64; 4] = [1.25, 1.0, 0.75, 0.5];

/// The rule that is shown in detail.
const SHOWN: Rule = Rule::new().with_granularity(Granularity::Row);

#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let (network, tests) = embedded().context("the embedded network is damaged")?;
    let report = Report::measure(&network, &tests)?;
    let mut text = report.to_string().into_bytes();
    if args.json {
        text = serde_json::to_vec_pretty(&report)?;
        text.push(b'\n');
    }
    crate::print(&text)?;
    let disagreement = report.backends.iter().find(|backend| backend.agrees == Some(false));
    ensure!(disagreement.is_none(), "not every backend gives the CPU's answer");
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

    fn accuracy(&self, tests: &TestSet<'_>) -> Accuracy {
        let images = tests.pixels.chunks_exact(tests.pixels.len() / tests.labels.len());
        let right = images.zip(tests.labels).filter(|(image, label)| self.digit(image) == Some(usize::from(**label)));
        Accuracy { correct: right.count(), images: tests.labels.len() }
    }

    fn len(&self) -> usize {
        self.0.iter().map(|layer| layer.weight.len()).sum()
    }

    /// "64-128-64-10".
    fn shape(&self) -> String {
        let inputs = self.0.first().map(|layer| layer.inputs);
        let sizes = inputs.into_iter().chain(self.0.iter().map(Layer::outputs));
        sizes.map(|size| size.to_string()).collect::<Vec<_>>().join("-")
    }

    /// The matrices, which are what is pruned. Biases stay: they are few.
    fn tensors(&self) -> Result<Vec<Tensor<'_>>> {
        self.0.iter().map(|layer| Ok(Tensor::from(&layer.weight).with_row_len(layer.inputs as u64)?)).collect()
    }

    fn tensors_mut(&mut self) -> Result<Vec<TensorMut<'_>>> {
        self.0
            .iter_mut()
            .map(|layer| Ok(TensorMut::from(&mut layer.weight).with_row_len(layer.inputs as u64)?))
            .collect()
    }

    fn bits(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|layer| &layer.weight).map(|w| w.to_bits())
    }
}

// ---- the embedded file

/// Its tensors.
struct Tensors(Vec<TensorInfo>);

impl Tensors {
    /// The length of a row and the bytes.
    fn get(&self, name: &str) -> Result<(usize, &'static [u8])> {
        let found = self.0.iter().find(|tensor| tensor.name == name);
        let TensorInfo { shape, bytes, .. } = found.with_context(|| format!("no tensor {name}"))?;
        let row_len = usize::try_from(shape.last().copied().unwrap_or(1))?;
        let bytes = DIGITS.get(usize::try_from(bytes.start)?..usize::try_from(bytes.end)?);
        Ok((row_len, bytes.with_context(|| format!("{name} is cut off"))?))
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
    let tensors = Tensors(tensors_of(DIGITS)?);
    let network = Network(LAYERS.iter().map(|name| tensors.layer(name)).collect::<Result<_>>()?);
    // Stored as the data set's whole numbers from 0 to 16; the network was trained on 0 to 1.
    let pixels = tensors.get("test.images")?.1.iter().map(|&pixel| f32::from(pixel) / 16.0).collect();
    Ok((network, TestSet { pixels, labels: tensors.get("test.labels")?.1 }))
}

// ---- asking the backends

/// All that a backend has to say about one rule.
struct Answer {
    rule: Rule,
    decision: Decision,
    masks: Vec<Mask>,
    pruned: Network,
    /// For the decision and the zeroes.
    seconds: f64,
}

impl Answer {
    fn new(pruner: &Pruner, network: &Network, rule: Rule) -> Result<Self> {
        // The masks come first: they also warm the backend up, so that the time is that of the work alone.
        let (masked, masks) = pruner.mask(&network.tensors()?, &rule)?;
        let mut pruned = network.clone();
        let start = Instant::now();
        let decision = pruner.prune(&mut pruned.tensors_mut()?, &rule)?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(masked == decision, "{} decides otherwise when it makes masks", pruner.backend());
        Ok(Self { rule, decision, masks, pruned, seconds })
    }

    fn agrees(&self, other: &Self) -> bool {
        self.decision == other.decision && self.masks == other.masks && self.pruned.bits().eq(other.pruned.bits())
    }
}

/// One answer per rule, in the order of `rules`.
fn answers(pruner: &Pruner, network: &Network, rules: &[Rule]) -> Result<Vec<Answer>> {
    let answers = rules.iter().map(|rule| Answer::new(pruner, network, *rule)).collect::<Result<_>>();
    answers.with_context(|| pruner.backend().to_string())
}

fn shown(answers: &[Answer]) -> Result<&Answer> {
    answers.iter().find(|answer| answer.rule == SHOWN).context("the shown rule was not asked")
}

/// Every rule that is asked, the shown one among them: each beta in turn, with every granularity.
fn rules() -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for beta in BETAS {
        let beta = Beta::new(beta)?;
        rules.extend(GRANULARITIES.map(|(_, granularity)| SHOWN.with_beta(beta).with_granularity(granularity)));
    }
    Ok(rules)
}

/// Every adapter, with its pruner or the reason why there is none. Software adapters too: they are asked to agree, not
/// to be quick.
#[cfg(feature = "gpu")]
fn adapters() -> Vec<(String, Result<Pruner>)> {
    let adapters = emprune::gpu::adapters().into_iter();
    adapters.map(|adapter| (adapter.to_string(), open(&adapter))).collect()
}

#[cfg(feature = "gpu")]
fn open(adapter: &emprune::gpu::Adapter) -> Result<Pruner> {
    let pruner = Pruner::gpu(&emprune::gpu::Options::new().with_adapter(adapter.to_string()).with_software(true))?;
    // Whatever the text selects, the answer of one adapter must not be taken for that of another.
    let opened = pruner.backend().to_string();
    ensure!(opened == adapter.to_string(), "what opens is {opened}");
    Ok(pruner)
}

#[cfg(not(feature = "gpu"))]
fn adapters() -> Vec<(String, Result<Pruner>)> {
    Vec::new()
}

// ---- the report

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    network: String,
    weights: usize,
    before: Accuracy,
    /// After the shown rule, as `sparsity`, `backend`, `seconds` and `layers`.
    after: Accuracy,
    sparsity: f64,
    backend: String,
    seconds: f64,
    layers: Vec<LayerReport>,
    rules: Vec<RuleReport>,
    backends: Vec<BackendReport>,
}

#[derive(Clone, Copy, Serialize)]
struct Accuracy {
    correct: usize,
    images: usize,
}

/// `n_eff`, `mass` and `mass_bound` are means over the rows.
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
struct RuleReport {
    granularity: &'static str,
    beta: f64,
    sparsity: f64,
    accuracy: Accuracy,
}

#[derive(Serialize)]
struct BackendReport {
    name: String,
    /// For the shown rule.
    seconds: Option<f64>,
    /// With the CPU, on every rule, bit for bit. Nothing to be said of an adapter that does not open.
    agrees: Option<bool>,
    error: Option<String>,
}

impl Report {
    fn measure(network: &Network, tests: &TestSet<'_>) -> Result<Self> {
        let (cpu, rules) = (Pruner::cpu(), rules()?);
        let reference = answers(&cpu, network, &rules)?;
        let mut backends = vec![BackendReport::new(&cpu, &reference, &reference)?];
        for (name, pruner) in adapters() {
            backends.push(match pruner {
                Ok(pruner) => BackendReport::new(&pruner, &answers(&pruner, network, &rules)?, &reference)?,
                Err(error) => BackendReport { name, seconds: None, agrees: None, error: Some(format!("{error:#}")) },
            });
        }
        let shown = shown(&reference)?;
        Ok(Self {
            schema: "emprune.demo/1",
            network: network.shape(),
            weights: network.len(),
            before: network.accuracy(tests),
            after: shown.pruned.accuracy(tests),
            sparsity: sparsity(shown.decision.kept(), shown.decision.entries()),
            backend: cpu.backend().to_string(),
            seconds: shown.seconds,
            layers: LayerReport::all(network, &shown.decision),
            rules: reference.iter().map(|answer| RuleReport::new(answer, tests)).collect(),
            backends,
        })
    }
}

impl LayerReport {
    /// `decision` holds one group per row, layer after layer.
    fn all(network: &Network, decision: &Decision) -> Vec<Self> {
        let mut groups = decision.groups().iter();
        network.0.iter().map(|layer| Self::new(layer, groups.by_ref().take(layer.outputs()).collect())).collect()
    }

    fn new(layer: &Layer, rows: Vec<&Group>) -> Self {
        let mean = |value: fn(&Group) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / rows.len() as f64;
        let kept = rows.iter().map(|row| row.kept).sum();
        Self {
            name: layer.name.clone(),
            rows: rows.len(),
            row_len: layer.inputs,
            n_eff: mean(|row| row.n_eff),
            kept,
            sparsity: sparsity(kept, layer.weight.len() as u64),
            mass: mean(|row| row.mass),
            mass_bound: mean(|row| row.mass_bound),
        }
    }
}

/// The demo asks no other budget.
fn beta(rule: &Rule) -> f64 {
    if let Budget::Effective(beta) = rule.budget { beta.get() } else { f64::NAN }
}

impl RuleReport {
    fn new(answer: &Answer, tests: &TestSet<'_>) -> Self {
        let granularity = GRANULARITIES.iter().find(|(_, granularity)| *granularity == answer.rule.granularity);
        Self {
            granularity: granularity.map_or("", |(name, _)| name),
            beta: beta(&answer.rule),
            sparsity: sparsity(answer.decision.kept(), answer.decision.entries()),
            accuracy: answer.pruned.accuracy(tests),
        }
    }
}

impl BackendReport {
    fn new(pruner: &Pruner, answers: &[Answer], reference: &[Answer]) -> Result<Self> {
        Ok(Self {
            name: pruner.backend().to_string(),
            seconds: Some(shown(answers)?.seconds),
            agrees: Some(answers.iter().zip(reference).all(|(answer, reference)| answer.agrees(reference))),
            error: None,
        })
    }

    fn verdict(&self) -> String {
        match (self.agrees, &self.error) {
            (Some(true), _) => "agrees bit for bit".into(),
            (Some(false), _) => "DISAGREES".into(),
            (None, error) => format!("cannot be used: {}", error.as_deref().unwrap_or("no reason given")),
        }
    }
}

// ---- the report in words

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, weights, before, after, backend, .. } = self;
        let (zeros, time) = (percent(self.sparsity), milliseconds(self.seconds));
        let (layers, rules) = (self.layers_table().trim_fmt(), self.rules_table().trim_fmt());
        let backends = self.backends_table().trim_fmt();
        write!(
            f,
            "\
A small network that reads handwritten digits ({network}, {weights} weights), pruned once and not retrained.

rule      Each row keeps its floor(N_eff) largest weights, the others become zero. N_eff = (sum |w|)^2 / sum w^2 is
          the effective number of weights: all of them if they are equally large, one if it towers above the rest.
accuracy  before {before}, after {after}, on images that it was not trained on
sparsity  {zeros} of the weights are zero now
backend   {backend}, {time}

{layers}

N_eff, mass and bound are means over the rows. Mass is the share of sum |w| that was kept; the bound is the least mass
that a row with this length and N_eff can be left with.

Other rules: floor(beta * N_eff) stay, and weights compete within a row, a tensor or the whole network.

{rules}

Every backend of this machine, asked for all of these: decisions, masks and pruned weights against the CPU's.

{backends}
"
        )?;
        if self.backends.len() == 1 {
            writeln!(f, "\nNo GPU to compare it with{}.", if cfg!(feature = "gpu") { "" } else { " in this build" })?;
        }
        Ok(())
    }
}

impl Report {
    fn layers_table(&self) -> Table {
        let rows = self.layers.iter().map(|layer| {
            let (len, bound) = (layer.rows * layer.row_len, percent(layer.mass_bound));
            vec![
                layer.name.clone(),
                format!("{} x {}", layer.rows, layer.row_len),
                format!("{:.2} of {}", layer.n_eff, layer.row_len),
                format!("{} of {len}", layer.kept),
                percent(layer.sparsity),
                percent(layer.mass),
                bound,
            ]
        });
        table(&["layer", "shape", "N_eff per row", "kept", "sparsity", "mass", "bound"], rows)
    }

    /// A line per beta, a pair of columns per granularity.
    fn rules_table(&self) -> Table {
        let pairs = GRANULARITIES.iter().flat_map(|(name, _)| [format!("{name}: sparsity"), "accuracy".into()]);
        let header: Vec<String> = iter::once("beta".into()).chain(pairs).collect();
        let rows = self.rules.chunks(GRANULARITIES.len()).map(|rules| {
            let pairs = rules.iter().flat_map(|rule| [percent(rule.sparsity), percent(rule.accuracy.share())]);
            rules.first().map(|rule| rule.beta.to_string()).into_iter().chain(pairs).collect()
        });
        table(&header, rows)
    }

    fn backends_table(&self) -> Table {
        let rows = self.backends.iter().enumerate().map(|(at, backend)| {
            let verdict = if at == 0 { "is the reference".into() } else { backend.verdict() };
            vec![backend.name.clone(), backend.seconds.map(milliseconds).unwrap_or_default(), verdict]
        });
        let mut table = table(&["backend", "time", "answer"], rows);
        if let Some(answer) = table.column_mut(2) {
            answer.set_cell_alignment(CellAlignment::Left);
        }
        table
    }
}

impl Accuracy {
    fn share(self) -> f64 {
        self.correct as f64 / self.images as f64
    }
}

impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} of {})", percent(self.share()), self.correct, self.images)
    }
}

/// Names to the left, numbers to the right.
fn table<H: ToString>(header: &[H], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header.iter().map(H::to_string)).add_rows(rows);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", 1e3 * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_reads_what_it_read_when_it_was_trained() -> Result<()> {
        let (network, tests) = embedded()?;
        assert_eq!((network.shape().as_str(), network.len()), ("64-128-64-10", 17024));
        assert_eq!(network.accuracy(&tests).to_string(), "98.44% (443 of 450)", "as cli/demo/train.py prints");
        Ok(())
    }

    #[test]
    fn pruning_it_by_row_costs_five_images() -> Result<()> {
        let (network, tests) = embedded()?;
        let answer = Answer::new(&Pruner::cpu(), &network, SHOWN)?;
        let kept: Vec<u64> = LayerReport::all(&network, &answer.decision).iter().map(|layer| layer.kept).collect();
        assert_eq!(kept, [5235, 5028, 404], "weights kept per layer");
        assert_eq!(answer.pruned.accuracy(&tests).correct, 438, "images read right");
        Ok(())
    }

    #[test]
    fn one_other_bit_is_a_disagreement() -> Result<()> {
        let (network, _) = embedded()?;
        let answer = || Answer::new(&Pruner::cpu(), &network, SHOWN);
        let (one, mut other) = (answer()?, answer()?);
        assert!(one.agrees(&other), "the same question twice");
        let zero = other.pruned.0.iter_mut().flat_map(|layer| &mut layer.weight).find(|w| w.to_bits() == 0);
        *zero.context("a pruned weight")? = -0.0;
        assert!(!one.agrees(&other), "a pruned weight is +0");
        Ok(())
    }
}
