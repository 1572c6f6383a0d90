use super::*;
use crate::args::Cli;
use clap::CommandFactory;

#[test]
fn help_names_all_that_is_left_alone() {
    let command = Cli::command();
    let help = command.find_subcommand("prune").and_then(|prune| prune.get_after_help()).unwrap().to_string();
    let reasons = DEFAULT_IGNORES.map(|(reason, _)| reason).join(", ");
    assert!(help.contains(&format!("by their names, as: {reasons}. ")), "{reasons}\n{help}");
}

#[test]
fn the_names_of_real_models_are_told_apart() {
    for (name, reason) in [
        ("embeddings.word_embeddings.weight", Some("embedding")),
        ("model.embed_tokens.weight", Some("embedding")),
        ("embed_out.weight", Some("embedding")),
        ("transformer.wte.weight", Some("embedding")),
        ("vision_model.embeddings.patch_embedding.weight", Some("embedding")),
        ("encoder.layer.0.attention.output.LayerNorm.weight", Some("norm")),
        ("model.norm.weight", Some("norm")),
        ("model.layers.0.input_layernorm.weight", Some("norm")),
        ("model.layers.0.self_attn.q_norm.weight", Some("norm")),
        ("transformer.h.0.ln_1.weight", Some("norm")),
        ("transformer.ln_f.bias", Some("norm")),
        ("blocks.0.norm1.weight", Some("norm")),
        ("decoder.layer_norm_2.weight", Some("norm")),
        ("transformer_blocks.0.attn.norm_q.weight", Some("norm")),
        ("lm_head.weight", Some("lm_head")),
        ("lm_head", Some("lm_head")),
        ("lm_head.dense.weight", Some("lm_head")),
        ("model.layers.0.mlp.gate.weight", Some("router")),
        ("model.layers.0.block_sparse_moe.gate.weight", Some("router")),
        ("model.layers.0.mlp.shared_expert_gate.weight", Some("router")),
        ("model.layers.0.feed_forward.router.weight", Some("router")),
        ("encoder.block.1.layer.1.mlp.router.classifier.weight", Some("router")),
        ("model.layers.0.mlp.gate.wg.weight", Some("router")),
        ("model.layers.0.mlp.down_proj.weight_scale_inv", Some("quantisation scale")),
        ("model.layers.0.mlp.down_proj.scales", Some("quantisation scale")),
        ("shared.weight", Some("embedding")),
        ("model.shared.weight", Some("embedding")),
        ("emb.weight", Some("embedding")),
        ("token_emb.emb.weight", Some("embedding")),
        ("vit.embeddings.cls_token", Some("embedding")),
        ("cls_token", Some("embedding")),
        ("mask_token", Some("embedding")),
        ("backbone.register_tokens", Some("embedding")),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", Some("embedding")),
        ("output.weight", Some("output head")),
        ("model.output.weight", Some("output head")),
        ("module.model.output.weight", Some("output head")),
        ("head.weight", Some("output head")),
        ("head.fc.weight", Some("output head")),
        ("heads.head.weight", Some("output head")),
        ("classifier.weight", Some("output head")),
        ("classifier.out_proj.weight", Some("output head")),
        ("score.weight", Some("output head")),
        ("qa_outputs.weight", Some("output head")),
        ("cls.predictions.decoder.weight", Some("output head")),
        ("cls.predictions.transform.dense.weight", Some("output head")),
        ("cls.seq_relationship.weight", Some("output head")),
        ("model.layers.0.mlp.experts.gate_up_proj_bias", Some("bias")),
        ("model.layers.0.mlp.experts.down_proj_bias", Some("bias")),
        ("x.y.bias", Some("bias")),
        ("transformer.h.0.attn.bias", Some("bias")),
        ("layers.0.blocks.0.attn.relative_position_bias_table", Some("bias")),
        ("backbone.layers.0.mixer.A_log", Some("state matrix")),
        ("backbone.layers.0.mixer.in_proj.weight", None),
        ("layers.0.output.weight", None),
        ("model.layers.0.output.weight", None),
        ("model.layers.0.attention.output.weight", None),
        ("encoder.layer.0.attention.output.dense.weight", None),
        ("attention.output.dense.weight", None),
        ("mlp.output_proj.weight", None),
        ("output.dense.weight", None),
        ("decoder.layers.3.head.weight", None),
        ("blocks.0.score.weight", None),
        ("features.classifier.weight", None),
        ("classifier.0.weight", None),
        ("classifier.dense.weight", None),
        ("layers.0.shared.weight", None),
        ("model.layers.0.mlp.shared_experts.up_proj.weight", None),
        ("down_blocks.0.resnets.0.time_emb_proj.weight", None),
        ("layers.0.token_mixer.weight", None),
        ("cls_head.weight", None),
        ("biases.weight", None),
        ("model.layers.0.mlp.gate_proj.weight", None),
        ("model.layers.0.mlp.experts.gate_up_proj", None),
        ("model.layers.0.mlp.shared_expert.gate_proj.weight", None),
        ("model.layers.0.self_attn.q_proj.weight", None),
        ("encoder.layer.0.output.dense.weight", None),
        ("pooler.dense.weight", None),
        ("transformer_blocks.0.norm1.linear.weight", None),
        ("transformer.h.0.mlp.c_fc.weight", None),
        ("lm_header.weight", None),
        ("normal.weight", None),
        ("scaler.weight", None),
        ("proj_out.weight", Some("output head")),
        ("fc.weight", Some("output head")),
        ("decoder.output_projection.weight", Some("output head")),
        ("layers.0.fc.weight", None),
        ("transformer_blocks.0.proj_out.weight", None),
        ("transformer.output_layer.weight", Some("output head")),
        ("model.layers.61.shared_head.head.weight", Some("output head")),
        ("generator_lm_head.weight", Some("lm_head")),
        ("state_dict.head.weight", Some("output head")),
        ("net.fc.weight", Some("output head")),
        ("encoder.fc.weight", None),
        ("enc_p.encoder.attn_layers.0.emb_rel_k", Some("embedding")),
        ("emb_g.weight", Some("embedding")),
        ("vision_encoder.layers.0.attn.rel_pos_h", Some("embedding")),
        ("act_fun.0.grid", Some("grid or mask")),
        ("act_fun.0.coef", None),
    ] {
        assert_eq!(default_ignore(name), reason, "{name}");
    }
}

/// A file with tensors of these names, dtypes and shapes, and a selection from it.
fn skipped(targets: &[&str], ignores: &[&str]) -> Result<Vec<(String, String)>> {
    let tensors = [
        ("bias", "F32", vec![4]),
        ("embed.weight", "F32", vec![2, 2]),
        ("eye", "F64", vec![2, 2]),
        ("half.weight", "F16", vec![2, 2, 2]),
        ("nothing.weight", "F32", vec![0, 2]),
        ("odd", "Q3", vec![2, 2]),
        ("one.weight", "F32", vec![2, 2]),
        ("shift", "F32", vec![1, 4, 1]),
        ("two.weight", "BF16", vec![2, 2]),
    ];
    let info = |(name, dtype, shape): (&str, &str, Vec<u64>)| TensorInfo {
        name: name.into(),
        dtype: dtype.into(),
        len: shape.iter().product(),
        shape,
        bytes: 0..0,
        shard: 0,
    };
    let tensors = tensors.map(info).to_vec();
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let selection = select(&tensors, &owned(targets), &owned(ignores), &Recipe::default())?;
    let names = tensors.iter().map(|t| t.name.clone());
    Ok(names.zip(selection.skipped).filter_map(|(name, reason)| Some((name, reason?))).collect())
}

fn pruned(targets: &[&str], ignores: &[&str]) -> Vec<&'static str> {
    let names =
        ["bias", "embed.weight", "eye", "half.weight", "nothing.weight", "odd", "one.weight", "shift", "two.weight"];
    let skipped = skipped(targets, ignores).unwrap();
    names.into_iter().filter(|name| !skipped.iter().any(|(skipped, _)| skipped == name)).collect()
}

#[test]
fn by_default_float_matrices_with_ordinary_names() {
    let reasons = [
        ("bias", "rank 1"),
        ("embed.weight", "embedding"),
        ("eye", "dtype F64"),
        ("nothing.weight", "empty"),
        ("odd", "dtype Q3"),
        ("shift", "vector"),
    ];
    assert_eq!(skipped(&[], &[]).unwrap(), reasons.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
}

#[test]
fn targets_override_the_defaults_and_ignore_overrides_targets() {
    assert_eq!(pruned(&["bias", "embed"], &[]), ["bias", "embed.weight"]);
    assert_eq!(pruned(&["*"], &[]), ["bias", "embed.weight", "half.weight", "one.weight", "shift", "two.weight"]);
    assert_eq!(pruned(&["re:.*e", "bias"], &["re:embed", "one"]), ["bias", "half.weight", "two.weight"]);
    assert_eq!(pruned(&[], &["half.weight"]), ["one.weight", "two.weight"]);
    assert_eq!(pruned(&["odd", "two.weight"], &["o*"]), ["two.weight"], "what is ignored need not be fit");
}

#[test]
fn a_target_by_name_must_be_fit() {
    for (name, part) in
        [("odd", "dtype Q3"), ("eye", "dtype F64"), ("nothing.weight", "no entries"), ("nothing", "no entries")]
    {
        let message = skipped(&["two.weight", "o*", name], &[]).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(part), "{message}");
    }
}

#[test]
fn nothing_left_is_an_error_that_says_why() {
    let message = skipped(&["missing", "od?"], &["*.bias"]).unwrap_err().to_string();
    for part in [
        "nothing to prune",
        "8 not a target, 1 dtype Q3",
        "--targets \"missing\" matches no tensor",
        "--ignore \"*.bias\"",
    ] {
        assert!(message.contains(part), "{message:?} without {part:?}");
    }
    assert!(skipped(&["*"], &["*"]).unwrap_err().to_string().contains("9 --ignore *"));
}

#[test]
fn the_most_frequent_reason_comes_first() {
    let reasons = ["b", "a", "b", "c"].map(str::to_owned);
    assert_eq!(summary(reasons.iter()), "2 b, 1 a, 1 c");
}

/// Of the layers of a classifier the last one is the output.
#[test]
fn the_last_layer_of_a_classifier_is_a_head() {
    let info = |name: &str| TensorInfo {
        name: name.into(),
        dtype: "F32".into(),
        len: 4,
        shape: vec![2, 2],
        bytes: 0..0,
        shard: 0,
    };
    for (names, head) in [
        (&["classifier.0.weight", "classifier.10.weight", "classifier.3.weight"][..], Some(1)),
        (&["classifier.1.weight", "features.0.weight"], Some(0)),
        (&["features.classifier.0.weight", "head.classifier.1.weight"], None),
    ] {
        let tensors: Vec<_> = names.iter().map(|name| info(name)).collect();
        let skipped = select(&tensors, &[], &[], &Recipe::default()).unwrap().skipped;
        assert_eq!(skipped.iter().position(Option::is_some), head, "{names:?}: {skipped:?}");
    }
}

/// A pattern that is meant to name some layers may ask for their biases too.
#[test]
fn what_patterns_ask_for_beyond_the_defaults_is_told() {
    let warnings = |targets: &[&str]| {
        let info = |name: &str, shape: &[u64]| TensorInfo {
            name: name.into(),
            dtype: "F32".into(),
            len: shape.iter().product(),
            shape: shape.into(),
            bytes: 0..0,
            shard: 0,
        };
        let tensors = [info("a.bias", &[4]), info("a.norm.weight", &[2, 2]), info("a.weight", &[2, 2])];
        let targets: Vec<_> = targets.iter().map(|&text| text.to_owned()).collect();
        select(&tensors, &targets, &[], &Recipe::default()).unwrap().warnings
    };
    let told = ["--targets asks for what is left alone by default, too: 1 norm, 1 rank 1"];
    assert_eq!(warnings(&["a.*"]), told);
    assert!(warnings(&["a.weight"]).is_empty() && warnings(&["a.bias", "a.weight"]).is_empty(), "by name");
}
