//! What reads strangers' bytes: a function for each fuzz target in `fuzz/`. An input is taken or refused; a panic is a bug,
//! and so is a claim that something was checked which was not. Of pictures only what looks at a JPEG before it is decoded is ours; the
//! decoders are the crate image's.
#![allow(clippy::unwrap_used, reason = "a fuzz target may panic")]

use crate::checkpoint::{Checkpoint, INDICES};
use crate::masks::Masks;
use crate::norms::Norms;
use crate::picture::check_jpeg;
use crate::recipe::{Recipe, parse};
use crate::safetensors::{MOST_AXES, Model, TensorInfo};
use crate::select::select;
use crate::settings::Settings;
use clap::{Args, Command, FromArgMatches};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

/// A file of these bytes, in a directory of this thread's own.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    thread_local!(static DIRECTORY: tempfile::TempDir = tempfile::tempdir().unwrap());
    let path = DIRECTORY.with(|directory| directory.path().join(name));
    fs::write(&path, bytes).unwrap();
    path
}

fn safetensors(header: &str, data_len: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data_len]].concat()
}

fn info(name: &str, shape: &[u64]) -> TensorInfo {
    let len = shape.iter().product();
    TensorInfo { name: name.into(), dtype: "F32".into(), shape: shape.into(), len, bytes: 0..4 * len, shard: 0 }
}

/// The names in a header, as often as they appear.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// A safetensors file.
pub fn header(bytes: &[u8]) {
    let model = Model::open(&file("header", bytes));
    let official = ::safetensors::SafeTensors::read_metadata(bytes).ok();
    if let (Err(error), Some((header_len, official))) = (&model, &official) {
        // What the official reader lets pass: names that appear twice, of which it takes the last, and any number of axes.
        let Names(mut names) = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
        names.sort();
        let is_twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        let many = official.tensors().values().any(|tensor| tensor.shape.len() > MOST_AXES);
        assert!(is_twice || many, "only we refuse this: {error:#}");
    }
    let Ok(Model { tensors, len, .. }) = model else { return };
    assert_eq!(len, bytes.len() as u64);
    assert!(tensors.is_sorted_by(|a, b| a.name < b.name), "every name once, in order");
    let mut ranges: Vec<_> = tensors.iter().map(|tensor| tensor.bytes.clone()).collect();
    ranges.sort_by_key(|range| (range.start, range.end));
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let end = ranges.iter().fold(start, |end, range| {
        assert_eq!(range.start, end, "no gap and no overlap");
        range.end
    });
    assert_eq!(end, len, "no byte is left");
    for tensor in &tensors {
        assert_eq!(tensor.shape.iter().product::<u64>(), tensor.len);
        if let Some(dtype) = tensor.prunable_dtype() {
            assert_eq!(tensor.len * dtype.size() as u64, tensor.bytes.end - tensor.bytes.start);
        }
    }
    let Some((_, official)) = official else { return };
    assert_eq!(official.tensors().len(), tensors.len());
    for mine in &tensors {
        let (begin, end) = official.info(&mine.name).unwrap().data_offsets;
        assert_eq!(mine.bytes, start + begin as u64..start + end as u64, "{:?}", mine.name);
    }
}

/// An index, beside two shards.
pub fn index(bytes: &[u8]) {
    let tensor = |name, begin, end| {
        format!(r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#, end - begin)
    };
    let header = |a: String, b: String| format!("{{{a},{b}}}");
    let (first, second) = (header(tensor("a", 0, 1), tensor("b", 1, 2)), header(tensor("c", 0, 1), tensor("d", 1, 2)));
    thread_local!(static DIRECTORY: tempfile::TempDir = tempfile::tempdir().unwrap());
    DIRECTORY.with(|directory| {
        let path = directory.path();
        if !path.join("1.safetensors").exists() {
            fs::write(path.join("1.safetensors"), safetensors(&first, 2)).unwrap();
            fs::write(path.join("2.safetensors"), safetensors(&second, 2)).unwrap();
        }
        fs::write(path.join(INDICES[0]), bytes).unwrap();
        let Ok(model) = Checkpoint::open(path) else { return };
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let Index { weight_map } = serde_json::from_slice(bytes).unwrap();
        let found = model.tensors.iter().map(|tensor| {
            let shard = &model.shards[tensor.shard];
            (tensor.name.clone(), shard.name().to_string_lossy().into_owned())
        });
        assert_eq!(found.collect::<BTreeMap<_, _>>(), weight_map, "the index and the shards agree");
    });
}

/// A norms file: safetensors or an importance matrix.
pub fn norms(bytes: &[u8]) {
    let Ok(norms) = Norms::open(&file("norms", bytes), None) else { return };
    for (name, shape) in [
        ("w", &[3u64, 4] as &[u64]),
        ("v", &[5]),
        ("model.layers.0.self_attn.q_proj.weight", &[2, 4]),
        ("model.layers.1.mlp.experts.1.down_proj.weight", &[2, 4]),
    ] {
        let (weight, row_len) = (info(name, shape), shape[shape.len() - 1]);
        let checked = norms.count(&weight, row_len);
        let loaded = norms.load(&weight, row_len, 0..row_len);
        assert!(checked.is_ok() || loaded.is_err(), "norms that do not fit");
        let Ok(values) = loaded else { continue };
        assert_eq!(values.len() as u64, row_len);
        assert!(values.iter().all(|norm| norm.is_finite()), "{values:?}");
    }
    norms.hash().unwrap();
}

/// A masks file.
pub fn masks(bytes: &[u8]) {
    let Ok(model) = Model::open(&file("masks", bytes)) else { return };
    let says_so = Masks::are(&model);
    let Ok(masks) = Masks::new(model) else { return };
    let says_shapes = masks.model.says("shapes").unwrap().is_some();
    assert!(!masks.model.tensors.is_empty());
    for mask in &masks.model.tensors {
        let shape = masks.shape(&mask.name).map_or(vec![8 * mask.len], <[u64]>::to_vec);
        assert!(says_so || says_shapes || shape == [8 * mask.len]);
        let weight = info(&mask.name, &shape);
        masks.check(mask, &weight, "a model").unwrap();
        if let Ok(bits) = masks.read(mask, 0..weight.len) {
            assert!(bits.len() == weight.len && bits.kept() <= bits.len());
        }
        let longer = info(&mask.name, &[weight.len + 8]);
        assert!(masks.check(mask, &longer, "a model").is_err(), "a mask of another length");
    }
}

/// Lines of patterns: targets, and after an empty line what is ignored.
pub fn patterns(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let names = ["a", "a.b.weight", "a.[0].weight", "lm_head.weight", "model.embed.weight", "x/y\\z", "é"];
    let mut tensors: Vec<_> = names.iter().map(|name| info(name, &[2, 2])).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (targets, ignores) = text.split_once("\n\n").unwrap_or((text, ""));
    let Ok(selection) = select(&tensors, &lines(targets), &lines(ignores), &Recipe::default()) else { return };
    assert_eq!((selection.skipped.len(), selection.rules.len()), (tensors.len(), tensors.len()));
    assert!(selection.skipped.contains(&None), "something is pruned");
    for (tensor, skipped) in tensors.iter().zip(&selection.skipped) {
        let (is_target, is_ignored) = (lines(targets).contains(&tensor.name), lines(ignores).contains(&tensor.name));
        assert!(!is_ignored || skipped.is_some(), "{} is ignored by its name", tensor.name);
        assert!(!is_target || is_ignored || skipped.is_none() || !ignores.is_empty(), "{} is a target", tensor.name);
    }
}

/// A recipe.
pub fn recipe(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    thread_local!(static DEFAULTS: Settings = {
        let command = Settings::augment_args(Command::new("rule").no_binary_name(true));
        Settings::from_arg_matches(&command.get_matches_from([""; 0])).unwrap()
    });
    let Ok(recipe) = DEFAULTS.with(|defaults| parse(text, defaults)) else { return };
    for rule in &recipe.rules {
        assert!(!rule.patterns.is_empty());
        for shape in [&[4u64, 6] as &[u64], &[5], &[2, 3, 4]] {
            let row_len = rule.settings.row_len(shape);
            assert!(shape.iter().product::<u64>().is_multiple_of(row_len));
            let _ = rule.settings.rule(shape); // refused or not
        }
    }
}

/// A JPEG, before it is decoded.
pub fn jpeg(bytes: &[u8]) {
    let _ = check_jpeg(&fs::File::open(file("jpeg", bytes)).unwrap()); // refused or not
}

/// What the targets found stays found.
#[cfg(test)]
#[test]
fn every_input_of_the_corpora_is_taken_or_refused() {
    for (target, run) in [
        ("header", header as fn(&[u8])),
        ("index", index),
        ("jpeg", jpeg),
        ("norms", norms),
        ("masks", masks),
        ("patterns", patterns),
        ("recipe", recipe),
    ] {
        let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let inputs: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{target}");
        inputs.iter().for_each(|path| run(&fs::read(path).unwrap()));
    }
}
