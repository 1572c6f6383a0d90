//! Which tensors of a file are pruned, and why the others are not.

use crate::patterns::Pattern;
use crate::recipe::Recipe;
use crate::safetensors::TensorInfo;
use anyhow::{Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Whether a rule is about a name, given as its parts in lower case: what stands between the dots.
type Applies = fn(&[&str]) -> bool;

/// Names that are left alone unless `--targets` says otherwise: pruning them costs far more than it saves.
const DEFAULT_IGNORES: [(&str, Applies); 9] = [
    ("embedding", is_embedding),
    // The last module: a linear layer inside an adaptive norm is an ordinary linear layer. norm1, LayerNorm, ln_f, q_norm,
    // norm_q, layer_norm_2.
    ("norm", |path| path.last().is_some_and(|part| is_norm(part))),
    // The output layer, whatever is inside it: often the embedding once more, and always one step from the answer. generator_lm_head.
    ("lm_head", |path| path.iter().any(|part| part.ends_with("lm_head"))),
    ("output head", is_head),
    // They choose the experts: a few rows decide about all the weights behind them. mlp.gate, shared_expert_gate, gate.wg,
    // router.classifier; not mlp.gate_proj, which is half of a gated linear unit.
    ("router", |path| {
        path.iter().any(|part| part.contains("router"))
            || matches!(path, [.., "gate" | "shared_expert_gate"] | [.., "gate", "wg"])
    }),
    // Of all experts, or of all pairs of positions, and so of two axes: gate_up_proj_bias, relative_position_bias_table, and a mask of zeros
    // and ones that older models keep under attn.bias.
    ("bias", |path| {
        path.last().is_some_and(|part| *part == "bias" || part.ends_with("_bias") || part.ends_with("_bias_table"))
    }),
    // Of a Mamba layer: logarithms of rates, of which a small one is as telling as a large one.
    ("state matrix", |path| matches!(path, [.., "a_log"])),
    // Of a Kolmogorov-Arnold network: where its splines have their knots, and which of its edges there are.
    ("grid or mask", |path| matches!(path, [.., "grid" | "mask"])),
    // Numbers that give others their size, in quantised files.
    ("quantisation scale", |path| path.last().is_some_and(|part| is_scale(part))),
];

/// The rule that a name falls under. Its last part does not count where it says only what kind of parameter this is.
fn default_ignore(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let module = name.strip_suffix(".weight").unwrap_or(&name);
    // A bias of a norm is left alone as a norm's, and of all else as a bias.
    let modules = [module.strip_suffix(".bias").unwrap_or(module), module].map(|name| name.split(['.', '/']).collect());
    let applies = |(_, applies): &&(_, Applies)| modules.iter().any(|path: &Vec<_>| applies(path));
    DEFAULT_IGNORES.iter().find(applies).map(|(reason, _)| *reason)
}

/// What is looked up and not multiplied with. embed_tokens, word_embeddings, patch_embed, embed_out; wte and wpe are GPT-2's, shared is T5's, emb
/// RWKV's, emb_g and emb_rel_k VITS's, rel_pos_h SAM's; cls_token and register_tokens are embeddings of one token or few; relative_attention_bias is one of distances.
fn is_embedding(path: &[&str]) -> bool {
    let is_table = |part: &str| {
        part == "emb"
            || part.ends_with("_emb")
            || part.starts_with("emb_")
            || part.starts_with("rel_pos_")
            || part.ends_with("_token")
            || part.ends_with("_tokens")
            || part == "relative_attention_bias"
    };
    path.iter().any(|part| part.contains("embed") || ["wte", "wpe"].contains(part))
        || path.last().is_some_and(|part| is_table(part))
        || matches!(inside(path), ["shared"])
}

/// The last layer of a model, by the names of those that are not called lm_head. In a layer these are names of ordinary linear ones, so
/// here they count outside all layers alone.
fn is_head(path: &[&str]) -> bool {
    matches!(
        inside(path),
        ["output"
            | "output_layer"
            | "head"
            | "classifier"
            | "score"
            | "qa_outputs"
            | "vocab_projector"
            | "proj_out"
            | "fc",]
            | ["head", "fc"]
            | ["decoder", "output_projection"]
            | ["heads", "head"]
            | ["classifier" | "classification_head", "out_proj"]
            | ["cls", ..]
    ) || path.ends_with(&["shared_head", "head"]) // of a layer that predicts a further token, in DeepSeek's models
}

/// A path without the names of what a model may be wrapped in.
fn inside<'p, 'n>(mut path: &'p [&'n str]) -> &'p [&'n str] {
    while let [
        "model" | "module" | "_orig_mod" | "base_model" | "language_model" | "transformer" | "backbone" | "net"
        | "network" | "state_dict" | "model_state_dict" | "student" | "teacher" | "ema" | "model_ema",
        rest @ ..,
    ] = path
    {
        path = rest;
    }
    path
}

fn is_norm(part: &str) -> bool {
    let stem = part.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    stem.ends_with("norm") || stem == "ln" || part.starts_with("ln_") || part.starts_with("norm_")
}

fn is_scale(part: &str) -> bool {
    ["scale", "scales", "scale_inv"].iter().any(|end| part == *end || part.ends_with(&format!("_{end}")))
}

/// Why a tensor cannot be pruned at all.
fn unfit(tensor: &TensorInfo) -> Option<String> {
    match tensor.prunable_dtype() {
        None => Some(format!("dtype {}", tensor.dtype)),
        Some(_) if tensor.len == 0 => Some("empty".into()),
        Some(_) => None,
    }
}

/// Why a tensor is left alone unless it is asked for: by its axes, or by its name.
fn left_alone(tensor: &TensorInfo) -> Option<String> {
    match tensor.shape.as_slice() {
        shape if shape.len() < 2 => Some(format!("rank {}", shape.len())),
        // A bias that is added to pictures, or a norm of sequences: [1, 24, 1, 1].
        shape if shape.len() > 2 && shape.iter().filter(|&&axis| axis > 1).count() < 2 => Some("vector".into()),
        _ => default_ignore(&tensor.name).map(str::to_owned),
    }
}

/// The last layer of a classifier that has several, which are numbered: classifier.6 of 0, 3 and 6.
fn last_of_classifier(tensors: &[TensorInfo]) -> Option<&String> {
    let number = |name: &str| {
        let path: Vec<_> = name.strip_suffix(".weight")?.split('.').collect();
        let ["classifier", number] = inside(&path) else { return None };
        number.parse::<u32>().ok()
    };
    let names = tensors.iter().map(|tensor| &tensor.name);
    names.filter_map(|name| Some((number(name)?, name))).max().map(|(_, name)| name)
}

/// The tensors of a file, told apart.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// For each tensor of the file, in its order: why it is skipped, or nothing when it is pruned.
    pub(crate) skipped: Vec<Option<String>>,
    /// For each tensor, the position of the recipe's rule that applies to it.
    pub(crate) rules: Vec<Option<usize>>,
    /// For people to read, not a reason to stop.
    pub(crate) warnings: Vec<String>,
}

/// What was asked about names: the options, and a rule's patterns with what it says about skipping.
struct Asked {
    targets: Vec<Pattern>,
    ignores: Vec<Pattern>,
    rules: Vec<(Vec<Pattern>, Option<bool>)>,
}

/// Apply the patterns to tensors in byte order of their names: `--ignore` has the last word, `--targets` overrides the default
/// ignores, and of a recipe the first rule that matches counts.
pub(crate) fn select(
    tensors: &[TensorInfo],
    targets: &[String],
    ignores: &[String],
    recipe: &Recipe,
) -> Result<Selection> {
    let exists = |name: &str| tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).is_ok();
    let read = |texts: &[String]| -> Result<Vec<_>> { texts.iter().map(|text| Pattern::new(text, exists)).collect() };
    let rules = recipe.rules.iter().map(|rule| Ok((read(&rule.patterns)?, rule.skip)));
    let asked = Asked { targets: read(targets)?, ignores: read(ignores)?, rules: rules.collect::<Result<_>>()? };
    let mut selection = Selection { warnings: asked.idle(tensors), ..Selection::default() };
    let last = last_of_classifier(tensors);
    // What patterns ask for that nobody may have thought of.
    let mut also = Vec::new();
    for tensor in tensors {
        let rule = asked.rule(&tensor.name);
        let by_default = left_alone(tensor).or_else(|| (last == Some(&tensor.name)).then(|| "output head".to_owned()));
        let skipped = asked.verdict(tensor, rule, by_default.as_ref())?;
        also.extend(by_default.filter(|_| skipped.is_none() && asked.is_by_pattern(&tensor.name)));
        if skipped.is_none() && tensor.dtype.starts_with("F8") {
            refuse_scaled(&tensor.name, &tensor.dtype, exists)?;
        }
        selection.skipped.push(skipped);
        selection.rules.push(rule);
    }
    if !also.is_empty() {
        let also = summary(also.iter());
        selection.warnings.push(format!("--targets asks for what is left alone by default, too: {also}"));
    }
    let hidden = asked.hidden(tensors, &selection.rules);
    selection.warnings.extend(hidden);
    if selection.skipped.iter().all(Option::is_some) {
        let why = match summary(selection.skipped.iter().flatten()) {
            why if why.is_empty() => "the file has no tensors".to_owned(),
            why if tensors.len() == 1 => format!("the only tensor is skipped ({why})"),
            why => format!("all {} tensors are skipped ({why})", tensors.len()),
        };
        let warnings: String = selection.warnings.iter().map(|warning| format!("; {warning}")).collect();
        // By its name or its axes: whoever means it says so.
        let known = |reason: &String| {
            reason.starts_with("rank ")
                || reason == "vector"
                || DEFAULT_IGNORES.iter().any(|(known, _)| reason.as_str() == *known)
        };
        let is_hinted = selection.skipped.iter().flatten().any(known);
        let hint = if is_hinted { "; --targets PATTERN prunes what its name or its axes leave alone" } else { "" };
        bail!("nothing to prune: {why}{hint}{warnings}");
    }
    Ok(selection)
}

impl Asked {
    /// Warnings about patterns that match no tensor.
    fn idle(&self, tensors: &[TensorInfo]) -> Vec<String> {
        let options = [("--targets".to_owned(), &self.targets), ("--ignore".to_owned(), &self.ignores)];
        let rules = self.rules.iter().enumerate().map(|(i, (patterns, _))| (recipe_rule(i), patterns));
        let all = options.into_iter().chain(rules).flat_map(|(who, ps)| ps.iter().map(move |p| (who.clone(), p)));
        let idle = all.filter(|(_, pattern)| !tensors.iter().any(|tensor| pattern.matches(&tensor.name)));
        idle.map(|(who, pattern)| format!("{who} {:?} matches no tensor", pattern.text())).collect()
    }

    /// Warnings about rules that match some tensors, and of all of them come too late.
    fn hidden<'s>(
        &'s self,
        tensors: &'s [TensorInfo],
        applied: &[Option<usize>],
    ) -> impl Iterator<Item = String> + use<'s> {
        let used: BTreeSet<_> = applied.iter().flatten().copied().collect();
        let matches = |at: &usize| {
            let patterns = &self.rules[*at].0;
            tensors.iter().any(|tensor| patterns.iter().any(|pattern| pattern.matches(&tensor.name)))
        };
        let hidden = (0..self.rules.len()).filter(move |at| !used.contains(at)).filter(matches);
        hidden.map(|at| format!("{} applies to no tensor: all that it matches are an earlier rule's", recipe_rule(at)))
    }

    /// The first rule that matches a name.
    fn rule(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|(patterns, _)| patterns.iter().any(|pattern| pattern.matches(name)))
    }

    /// Whether `--targets` asks for this name, and none of its patterns is the name itself.
    fn is_by_pattern(&self, name: &str) -> bool {
        let mut matching = self.targets.iter().filter(|pattern| pattern.matches(name)).peekable();
        matching.peek().is_some() && !matching.any(Pattern::is_name)
    }

    /// Why this tensor is skipped, if it is; and `by_default` if nothing is said of it.
    fn verdict(&self, tensor: &TensorInfo, rule: Option<usize>, by_default: Option<&String>) -> Result<Option<String>> {
        let name = &tensor.name;
        if let Some(pattern) = self.ignores.iter().find(|pattern| pattern.matches(name)) {
            return Ok(Some(format!("--ignore {}", pattern.text())));
        }
        let skip = rule.and_then(|at| self.rules[at].1);
        if let (Some(at), Some(true)) = (rule, skip) {
            return Ok(Some(recipe_rule(at)));
        }
        // Those that ask for this tensor, if it must be asked for by a pattern: an option's and a rule's alike.
        let of_rule = match (rule, skip) {
            (Some(at), Some(false)) => self.rules[at].0.as_slice(),
            _ => &[],
        };
        let unfit = unfit(tensor);
        if self.targets.is_empty() && of_rule.is_empty() {
            return Ok(unfit.or_else(|| by_default.cloned()));
        }
        let mut matching = self.targets.iter().chain(of_rule).filter(|pattern| pattern.matches(name)).peekable();
        if matching.peek().is_none() {
            return Ok(Some("not a target".into()));
        }
        if let (Some(reason), true) = (&unfit, matching.any(Pattern::is_name)) {
            ensure!(reason != "empty", "tensor {name:?} is a target and has no entries (shape {:?})", tensor.shape);
            bail!("tensor {name:?} is a target and of {reason}: only F32, F16, BF16, F8_E4M3 and F8_E5M2 are pruned");
        }
        Ok(unfit)
    }
}

/// The entries of a quantised tensor are weights only together with its scales, which differ from block to block.
fn refuse_scaled(name: &str, dtype: &str, exists: impl Fn(&str) -> bool) -> Result<()> {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    let scales = [
        "_scale",
        "_scales",
        "_scale_inv",
        "_scale_2",
        "_block_scale",
        "_block_scales",
        "_qscale",
        ".scale",
        ".scales",
        ".scale_inv",
        ".scale_weight",
        ".weight_scale",
        ".weight_scales",
        ".weight_scale_inv",
        ".qscale",
        ".qscale_weight",
    ];
    let names = scales.iter().flat_map(|end| [format!("{name}{end}"), format!("{module}{end}")]);
    if let Some(scale) = names.into_iter().find(|name| exists(name)) {
        bail!(
            "tensor {name:?} is {dtype} and has scales, {scale:?}: by itself it says nothing about the size of weights; \
             prune before quantising, or leave it alone with --ignore"
        );
    }
    Ok(())
}

/// People count from one.
fn recipe_rule(at: usize) -> String {
    format!("--recipe rule {}", at + 1)
}

/// Reasons with their counts, the most frequent first: "34 rank 1, 3 embedding".
pub(crate) fn summary<'a>(reasons: impl Iterator<Item = &'a String>) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut text = String::new();
    for (reason, count) in counts {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{count} {reason}"); // writing to a String cannot fail
    }
    text
}

#[cfg(test)]
mod tests;
