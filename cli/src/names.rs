//! What llama.cpp calls the weights of a checkpoint.

/// A name of a map with the number of a matrix behind it, as `blk.0.ffn_up_exps.weight#7`.
pub(crate) fn with_matrix(name: &str) -> Option<(String, u64)> {
    let (name, matrix) = name.rsplit_once('#')?;
    Some((name.to_owned(), matrix.parse().ok()?))
}

/// The name of a weight in a GGUF file, and which of the matrices there it is: experts lie together under one name.
///
/// Understood are decoder layers as Llama, Mistral, Mixtral, Qwen, Gemma, Phi and DeepSeek have them, also those of a model of words among
/// others. An encoder's or a vision tower's are called otherwise there, if they are there at all.
pub(crate) fn in_gguf(name: &str) -> Option<(String, u64)> {
    let module = name.strip_suffix(".weight")?;
    if module.strip_suffix("lm_head").is_some_and(is_of_words) {
        return Some(("output.weight".into(), 0));
    }
    let (before, rest) = module.split_once("layers.")?;
    if !is_of_words(before) {
        return None;
    }
    let (layer, module) = rest.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (block, expert) = match EXPERTS.iter().find_map(|prefix| module.strip_prefix(prefix)) {
        Some(rest) => {
            let (expert, part) = rest.split_once('.')?;
            (lookup(&PARTS, part)?, Some(expert.parse().ok()?))
        }
        None => (lookup(&MODULES, module)?, None),
    };
    let end = if expert.is_some() { "_exps" } else { "" };
    Some((format!("blk.{layer}.{block}{end}.weight"), expert.unwrap_or_default()))
}

/// Whether what stands before a module says no more than that it is of a model of words.
fn is_of_words(before: &str) -> bool {
    before.split_inclusive('.').all(|part| WORDS.contains(&part))
}

const WORDS: [&str; 7] =
    ["model.", "language_model.", "text_model.", "thinker.", "llm.", "transformer.", "base_model."];

fn lookup(table: &[(&str, &'static str)], module: &str) -> Option<&'static str> {
    table.iter().find(|(name, _)| *name == module).map(|(_, block)| *block)
}

const EXPERTS: [&str; 2] = ["mlp.experts.", "block_sparse_moe.experts."];

/// Of one expert.
const PARTS: [(&str, &str); 6] = [
    ("gate_proj", "ffn_gate"),
    ("up_proj", "ffn_up"),
    ("down_proj", "ffn_down"),
    ("w1", "ffn_gate"),
    ("w3", "ffn_up"),
    ("w2", "ffn_down"),
];

/// Of one layer.
const MODULES: [(&str, &str); 24] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.dense", "attn_output"),
    ("self_attn.q_a_proj", "attn_q_a"),
    ("self_attn.q_b_proj", "attn_q_b"),
    ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    ("self_attn.kv_b_proj", "attn_kv_b"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.fc1", "ffn_up"),
    ("mlp.fc2", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_experts.up_proj", "ffn_up_shexp"),
    ("mlp.shared_experts.down_proj", "ffn_down_shexp"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_names_that_llama_cpp_gives_them() {
        for (name, gguf, matrix) in [
            ("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", 0),
            ("layers.31.mlp.down_proj.weight", "blk.31.ffn_down.weight", 0),
            ("model.language_model.layers.7.self_attn.o_proj.weight", "blk.7.attn_output.weight", 0),
            ("model.layers.2.block_sparse_moe.experts.5.w2.weight", "blk.2.ffn_down_exps.weight", 5),
            ("model.layers.9.mlp.experts.63.gate_proj.weight", "blk.9.ffn_gate_exps.weight", 63),
            ("lm_head.weight", "output.weight", 0),
            ("language_model.lm_head.weight", "output.weight", 0),
            ("language_model.model.layers.3.mlp.up_proj.weight", "blk.3.ffn_up.weight", 0),
        ] {
            assert_eq!(in_gguf(name), Some((gguf.to_owned(), matrix)), "{name}");
        }
        for name in [
            "model.layers.x.mlp.up_proj.weight",
            "model.layers.0.mlp.new.weight",
            "a.weight",
            "players.0.mlp.fc1.weight",
            "model.players.0.mlp.fc1.weight",
            "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
            "model.encoder.layers.0.self_attn.q_proj.weight",
            "model.decoder.layers.0.self_attn.q_proj.weight",
            "mtp.layers.0.self_attn.q_proj.weight",
            "draft.lm_head.weight",
            "my_lm_head.weight",
        ] {
            assert_eq!(in_gguf(name), None, "{name}");
        }
    }
}
