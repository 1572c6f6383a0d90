//! What is pruned: one safetensors file, or a directory of such files under an index.
//!
//! Indices that name tensors which no shard has, and shards with tensors that no index names, go around and are loaded as
//! garbage or not at all. Here both must agree before anything is written.

use crate::input::read_text;
use crate::output::{NOTE, OLD, PARTIAL, REPORT};
use crate::safetensors::{MOST_TENSORS, Model, TensorInfo};
use crate::table::grouped;
use anyhow::{Context, Result, bail, ensure};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What a directory's one file, or the index of its shards, is called: by transformers, and by diffusers.
const SINGLES: [&str; 2] = ["model.safetensors", "diffusion_pytorch_model.safetensors"];
pub(crate) const INDICES: [&str; 2] =
    ["model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json"];
const CONFIG: &str = "config.json";
/// As many bytes as a header may have.
const MAX_INDEX: u64 = 100_000_000;

/// Open files whose headers hold what they say, and an index that says the same.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The file or directory, as it was given.
    pub(crate) path: PathBuf,
    /// In byte order of their names.
    pub(crate) shards: Vec<Model>,
    /// Those of all shards, in byte order of their names.
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) directory: Option<Directory>,
}

/// What a directory has besides its shards.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Regular files in it and in its directories, in order, to be copied as they are.
    pub(crate) others: Vec<PathBuf>,
    /// Its directories, and those in them, outer ones first.
    pub(crate) folders: Vec<PathBuf>,
    /// The index, if there is one, to be copied after all else.
    pub(crate) index: Option<&'static str>,
    /// What people should know.
    pub(crate) notes: Vec<String>,
}

impl Checkpoint {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (shards, directory) = if path.is_dir() {
            let (shards, directory) = open_directory(path).with_context(|| path.display().to_string())?;
            (shards, Some(directory))
        } else {
            (vec![Model::open(path)?], None)
        };
        let mut tensors = Vec::new();
        for (number, shard) in shards.iter().enumerate() {
            tensors.extend(shard.tensors.iter().map(|tensor| TensorInfo { shard: number, ..tensor.clone() }));
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { path: path.to_owned(), shards, tensors, directory })
    }

    /// The names of everything that a directory has that is made of it, in it and in its directories.
    pub(crate) fn output_names(&self) -> BTreeSet<PathBuf> {
        let shards = self.shards.iter().map(|shard| PathBuf::from(shard.name()));
        let mut names: BTreeSet<_> = shards.chain([PathBuf::from(REPORT)]).collect();
        if let Some(directory) = &self.directory {
            names.extend(directory.others.iter().chain(&directory.folders).cloned());
            names.extend(directory.index.map(PathBuf::from));
        }
        names
    }

    /// Every file that belongs to it: none of them may be written to.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = self.shards.iter().map(|shard| shard.path.clone()).collect();
        if let Some(directory) = &self.directory {
            files.extend(directory.others.iter().map(|file| self.path.join(file)));
            files.extend(directory.index.map(|index| self.path.join(index)));
        }
        files
    }
}

impl Directory {
    /// What is no file in the directory `of`: a directory in it, with all that is in that, or something that cannot be copied.
    fn add(&mut self, of: &Path, place: &Path) -> Result<()> {
        let path = of.join(place);
        let shown = path.display();
        match passed_over(&path) {
            Some(Passed::Left) => return Ok(()),
            Some(Passed::Is(what)) => {
                self.notes.push(format!("{shown} is {what} and is not copied"));
                return Ok(());
            }
            None => {}
        }
        self.folders.push(place.to_owned());
        let cannot = || format!("cannot list {shown}");
        let entries = match fs::read_dir(&path) {
            // It can be looked at, and no more: who wants a copy of it is told before the work.
            Err(error) => {
                self.notes.push(format!("{shown} cannot be listed ({error}), and so not be copied"));
                self.others.push(place.to_owned());
                return Ok(());
            }
            Ok(entries) => entries,
        };
        for entry in entries {
            let name = entry.with_context(cannot)?.file_name();
            let inner = place.join(&name);
            // What cannot be looked at, such as a link to what is gone, is named where it would be copied.
            if fs::metadata(of.join(&inner)).is_ok_and(|metadata| !metadata.is_file()) {
                self.add(of, &inner)?;
            } else if !is_left(&name) {
                self.others.push(inner);
            }
        }
        Ok(())
    }

    /// Note what is copied and perhaps not meant to be, and what cannot be.
    fn note_others(&mut self, path: &Path) {
        let mut weights = Vec::new();
        let mut bytes = 0;
        for file in &self.others {
            let shown = path.join(file);
            match fs::metadata(&shown) {
                Err(error) => {
                    let is_link = fs::symlink_metadata(&shown).is_ok_and(|metadata| metadata.is_symlink());
                    let what = if is_link { "is a link that leads nowhere" } else { "cannot be looked at" };
                    self.notes.push(format!("{} {what} ({error}): it cannot be copied to an output", shown.display()))
                }
                Ok(metadata) if metadata.is_file() && has_weights(file) => {
                    bytes += metadata.len();
                    weights.push(shown.display().to_string());
                }
                Ok(_) => {}
            }
        }
        if weights.is_empty() {
            return;
        }
        let named = weights.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = match weights.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (are, they_are, together) =
            if weights.len() == 1 { ("is", "it is", "") } else { ("are", "they are", " together") };
        let bytes = grouped(bytes);
        self.notes.push(format!(
            "{named}{more} {are} not part of the model and {are} copied as {they_are}, unpruned: {bytes} bytes{together}"
        ));
    }
}

/// Files that a note names; of more it gives the number.
const MOST_NAMED: usize = 4;

/// Whether a file's name is one of weights, in whatever format.
fn has_weights(file: &Path) -> bool {
    const ENDINGS: [&str; 10] = ["safetensors", "bin", "pt", "pth", "ckpt", "gguf", "onnx", "h5", "msgpack", "ot"];
    file.extension().is_some_and(|end| ENDINGS.iter().any(|weights| end.eq_ignore_ascii_case(weights)))
}

/// A hint at a file of weights that has another name, as adapters have: it can be given itself.
fn weights_among(names: &BTreeSet<OsString>) -> String {
    let is_file = |name: &&OsString| Path::new(name).extension().is_some_and(|end| end == "safetensors");
    let found = names.iter().find(is_file);
    found.map_or_else(String::new, |name| {
        format!("; {} is there, which can be given instead", Path::new(name).display())
    })
}

/// Why something in a directory is no part of what is copied.
pub(crate) enum Passed {
    /// A killed run left it.
    Left,
    /// In words.
    Is(&'static str),
}

/// Whether something in a directory is passed over, and why.
pub(crate) fn passed_over(path: &Path) -> Option<Passed> {
    let name = path.file_name().unwrap_or_default();
    if is_left(name) {
        return Some(Passed::Left);
    }
    // What a link leads to is a file of the directory; one that leads nowhere should have been.
    if fs::metadata(path).map_or(true, |metadata| metadata.is_file()) {
        return None;
    }
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_directory && name.as_encoded_bytes().starts_with(b".") {
        // A history, or a cache of what was downloaded: it may be many times as large as the model.
        Some(Passed::Is("a hidden directory"))
    } else if !is_directory {
        // A link to a directory may lead back to where we come from.
        Some(Passed::Is("no regular file"))
    } else {
        None
    }
}

fn open_directory(path: &Path) -> Result<(Vec<Model>, Directory)> {
    let mut directory = Directory::default();
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path).context("cannot list the directory")? {
        let name = entry.context("cannot list the directory")?.file_name();
        // Of a link, what it leads to: downloaded models are often links into a store of files.
        match fs::metadata(path.join(&name)) {
            Ok(metadata) if !metadata.is_file() => directory.add(path, Path::new(&name))?,
            // One that leads nowhere is an error where it is opened, and else may be in nobody's way.
            Ok(_) | Err(_) => {
                names.insert(name);
            }
        }
    }
    directory.notes.sort();
    let found = |known: [&'static str; 2]| known.into_iter().filter(|name| names.contains(OsStr::new(name)));
    let (indices, singles): (Vec<_>, Vec<_>) = (found(INDICES).collect(), found(SINGLES).collect());
    directory.index = indices.first().copied();
    let shards = match (indices.as_slice(), singles.as_slice()) {
        ([index, others @ ..], singles) => {
            let Index { weight_map } = read_index(&path.join(index)).context(*index)?;
            let shards = open_shards(path, &weight_map).context(*index)?;
            let mut others =
                others.iter().chain(singles).filter(|name| !weight_map.values().any(|shard| shard == **name));
            if let Some(other) = others.next() {
                bail!("there are {index} and, not named in it, {other}: two models");
            }
            shards
        }
        ([], [single]) => vec![Model::open(&path.join(single))?],
        ([], []) => bail!("there is neither {} nor {}{}", INDICES[0], SINGLES[0], weights_among(&names)),
        ([], singles) => bail!("there are {}: two models", singles.join(" and ")),
    };
    directory.index.map(|index| names.remove(OsStr::new(index)));
    for shard in &shards {
        names.remove(shard.name());
    }
    // A report about the input would be taken for one about the output.
    if names.remove(OsStr::new(REPORT)) {
        let report = path.join(REPORT);
        directory.notes.push(format!("{} is about the input and is not copied", report.display()));
    }
    names.retain(|name| !is_left(name));
    directory.others.extend(names.into_iter().map(PathBuf::from));
    directory.others.sort();
    directory.note_others(path);
    if directory.others.iter().any(|file| file == Path::new(CONFIG)) && ties_embeddings(&path.join(CONFIG), &shards) {
        let note = format!("{CONFIG} ties the output layer to the embedding: who prunes the one prunes the other");
        directory.notes.push(note);
    }
    Ok((shards, directory))
}

/// The names of the shards of the directory `path`, as far as its index says or one alone is there. Errors say nothing about what is there.
pub(crate) fn shard_names(path: &Path) -> BTreeSet<PathBuf> {
    let indices = INDICES.into_iter().filter_map(|index| read_index(&path.join(index)).ok());
    let shards = indices.flat_map(|index| index.weight_map.into_values());
    shards.map(PathBuf::from).chain(INDICES.into_iter().chain(SINGLES).map(PathBuf::from)).collect()
}

/// What a killed run left is nobody's.
pub(crate) fn is_left(name: &OsStr) -> bool {
    [PARTIAL, NOTE, OLD].iter().any(|end| name.to_string_lossy().ends_with(end))
}

/// Open what the index names, and compare both ways.
fn open_shards(path: &Path, weight_map: &BTreeMap<String, String>) -> Result<Vec<Model>> {
    let mut by_shard = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (tensor, shard) in weight_map {
        by_shard.entry(shard).or_default().insert(tensor);
    }
    ensure!(!by_shard.is_empty(), "it names no shards");
    let mut shards: Vec<Model> = Vec::new();
    for (name, tensors) in by_shard {
        let mut components = Path::new(name).components();
        let is_plain = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
        let is_plain = is_plain && !name.contains(['/', '\\', ':', '\0']);
        ensure!(is_plain, "the shard {name:?} is not the name of a file in this directory");
        let is_ours = INDICES.contains(&name) || name == CONFIG || name == REPORT || is_left(OsStr::new(name));
        ensure!(!is_ours, "{name:?} is no name for a shard");
        let shard = Model::open(&path.join(name))?;
        if let Some(missing) = tensors.iter().find(|tensor| shard.get(tensor).is_none()) {
            bail!("tensor {missing:?} should be in {name}, and is not");
        }
        let mut names = shard.tensors.iter().map(|tensor| tensor.name.as_str());
        if let Some(tensor) = names.find(|name| !tensors.contains(name)) {
            match weight_map.get(tensor) {
                Some(other) => bail!("tensor {tensor:?} is in {name}, and should be in {other}"),
                None => bail!("tensor {tensor:?} of {name} is not named"),
            }
        }
        shards.push(shard);
    }
    Ok(shards)
}

/// Whether the output layer is the embedding once more, without a tensor of its own. Multimodal models say so further in. Where nothing
/// is said of a model that writes words, it is, unless there is an output layer.
fn ties_embeddings(config: &Path, shards: &[Model]) -> bool {
    // The file is copied, whatever it is; one that cannot be understood ties nothing that we know of.
    let config =
        read_text(config, MAX_CONFIG).ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let Some(config) = config else { return false };
    let says = |value: &serde_json::Value| value["tie_word_embeddings"].as_bool();
    if let Some(said) = says(&config).or_else(|| says(&config["text_config"])) {
        return said;
    }
    let writes_words =
        |name: &str| ["LMHead", "ForCausalLM", "ForConditionalGeneration"].iter().any(|part| name.contains(part));
    let mut architectures = config["architectures"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
    let mut parts = shards.iter().flat_map(|shard| &shard.tensors).flat_map(|tensor| tensor.name.split('.'));
    architectures.any(writes_words) && !parts.any(|part| ["lm_head", "embed_out"].contains(&part))
}

/// Most have some kilobytes; names of thousands of classes may be in it.
const MAX_CONFIG: u64 = 8 << 20;

fn read_index(path: &Path) -> Result<Index> {
    serde_json::from_str(&read_text(path, MAX_INDEX)?).context("it is not an index")
}

#[derive(serde::Deserialize)]
struct Index {
    #[serde(deserialize_with = "every_name_once")]
    weight_map: BTreeMap<String, String>,
}

fn every_name_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of file names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut names = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                let shard = map.next_value()?;
                if names.len() == MOST_TENSORS {
                    return Err(A::Error::custom(format!("there are more than {MOST_TENSORS} tensors")));
                }
                if names.insert(name.clone(), shard).is_some() {
                    return Err(A::Error::custom(format!("the name {name:?} appears twice")));
                }
            }
            Ok(names)
        }
    }
    deserializer.deserialize_map(Names)
}
