//! Safetensors files, read with suspicion: every claim of a header is checked before any of its tensors is touched.
//!
//! The official crate refuses a whole file for one dtype that it does not know, and wants all of it in memory. Here unknown
//! dtypes are somebody else's tensors, which are copied; all else that it checks is checked too, and repeated names are
//! refused, of which it silently takes the last.

use crate::input::{Seen, open_regular};
use crate::positioned::read_exact_at;
use anyhow::{Context, Result, bail, ensure};
use emprune::Dtype;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The length of the header comes first, as a little-endian u64.
const PREFIX: u64 = 8;
/// The format's own limit.
pub(crate) const MAX_HEADER: u64 = 100_000_000;
/// More tensors than any model has; what is known of each must fit memory, two kilobytes with its report. So must their names.
pub(crate) const MOST_TENSORS: usize = 3 << 16;
const LONGEST_NAME: usize = 4096;
const LONGEST_DTYPE: usize = 64;
/// Bytes of all names and shapes.
pub(crate) const MOST_TEXT: usize = 32 << 20;
pub(crate) const MOST_AXES: usize = 64;
/// The one name that is no tensor.
const METADATA: &str = "__metadata__";
/// Of the metadata's `format`: one that is longer is none that we know.
const LONGEST_FORMAT: usize = 64;

/// An open file whose header holds what it says.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// In byte order of their names.
    pub(crate) tensors: Vec<TensorInfo>,
    /// What its metadata says that it is. All else that it says, which may be most of a file, is read by whoever needs it, and copied as it is.
    pub(crate) format: Option<String>,
    /// Bytes of the whole file.
    pub(crate) len: u64,
    seen: Seen,
}

/// What a header says about one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    /// Entries.
    pub(crate) len: u64,
    /// Where its bytes are in the file.
    pub(crate) bytes: Range<u64>,
    /// The number of the file, where there are several.
    pub(crate) shard: usize,
}

impl TensorInfo {
    /// The dtype, if it is one that can be pruned.
    pub(crate) fn prunable_dtype(&self) -> Option<Dtype> {
        self.dtype.parse().ok()
    }
}

impl Model {
    /// Open a file and check its header.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<_> {
            let file = open_regular(path)?;
            let seen = Seen::of(&file)?;
            let (header, data_len) = read_header(&file, seen.len)?;
            let (tensors, format) = parse(&header, data_len)?;
            Ok(Self { path: path.to_owned(), file, tensors, format, len: seen.len, seen })
        };
        open().with_context(|| path.display().to_string())
    }

    /// Nobody has written to it since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.seen.check(&self.path, &self.file)
    }

    /// What the metadata says under this name.
    pub(crate) fn says(&self, name: &str) -> Result<Option<String>> {
        let (header, _) = read_header(&self.file, self.len)?;
        let said =
            Metadata(Under { name, most: usize::MAX }).deserialize(&mut serde_json::Deserializer::from_slice(&header));
        said.context("the metadata cannot be read")
    }

    /// Its name in its directory.
    pub(crate) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// The tensor of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok().map(|at| &self.tensors[at])
    }
}

/// The tensors of a file that is in memory.
pub(crate) fn tensors_of(file: &[u8]) -> Result<Vec<TensorInfo>> {
    let (len, rest) = file.split_first_chunk().context("there is no header length")?;
    let len = usize::try_from(u64::from_le_bytes(*len))?;
    let (header, data) = rest.split_at_checked(len).context("the header is cut off")?;
    Ok(parse(header, data.len() as u64)?.0)
}

/// The header, and how many bytes follow it.
fn read_header(file: &File, file_len: u64) -> Result<(Vec<u8>, u64)> {
    ensure!(file_len > 0, "the file is empty");
    ensure!(file_len >= PREFIX, "truncated: the file has length {file_len}, and its first {PREFIX} bytes are a number");
    let mut prefix = [0; PREFIX as usize];
    read_exact_at(file, &mut prefix, 0).context("cannot read the header length")?;
    let header_len = u64::from_le_bytes(prefix);
    let mut head = vec![0; file_len.min(MOST_OF_HEAD) as usize];
    read_exact_at(file, &mut head, 0).context("cannot read it")?;
    if head.get(PREFIX as usize) != Some(&b'{')
        && let Some(what) = known_as(&head)
    {
        bail!("not a safetensors file, but {what}");
    }
    ensure!(
        header_len <= MAX_HEADER,
        "not a safetensors file: its header would have {header_len} bytes, and {MAX_HEADER} are the most"
    );
    let rest = file_len - PREFIX;
    ensure!(header_len <= rest, "truncated: the header has {header_len} bytes, and only {rest} follow its length");
    let mut header = vec![0; header_len as usize];
    read_exact_at(file, &mut header, PREFIX).context("cannot read the header")?;
    Ok((header, rest - header_len))
}

/// As much as tells a format.
const MOST_OF_HEAD: u64 = 512;

/// What a file is that begins like this, and is often given for the one that is meant.
fn known_as(head: &[u8]) -> Option<&'static str> {
    // A header's length that began like these would be too large, or what follows it would be no header.
    let known: [(&[u8], &str); 12] = [
        (b"{", "JSON: of a model in shards, give the directory that holds the index"),
        (b"GGUF", "GGUF, llama.cpp's format: a model is pruned before it is converted"),
        (b"version https://git-lfs", "a pointer of Git LFS: `git lfs pull` fetches the file itself"),
        (b"PK\x03\x04", "a zip archive, as PyTorch writes: convert it to safetensors first"),
        (b"\x80\x02", "a pickle, as PyTorch writes: convert it to safetensors first"),
        (b"\x89HDF", "HDF5, Keras's format: convert it to safetensors first"),
        (b"<!DOCTYPE", "a page of the web, and no download"),
        (b"<html", "a page of the web, and no download"),
        (b"\x1f\x8b", "compressed by gzip: unpack it first"),
        (b"\xfd7zXZ", "compressed by xz: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
        (b"\x93NUMPY", "an array of NumPy: save it with safetensors.numpy first"),
    ];
    let known = known.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| *what);
    let further_in = || match head {
        _ if head.iter().all(|&byte| byte == 0) => Some("zeros: a download that was not finished"),
        // The number of a version, and then the name of a producer or an operator set.
        [0x08, 1..=32, 0x12 | 0x3a | 0x42, ..] => Some("ONNX: convert its initializers to safetensors first"),
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Some("TensorFlow Lite: convert it to safetensors first"),
        _ if head.get(257..262) == Some(b"ustar") => Some("a tar archive: unpack it first"),
        _ => None,
    };
    known.or_else(further_in).or_else(|| {
        let old = "an importance matrix in the old format of llama.cpp: `llama-imatrix --in-file OLD -o NEW.gguf` converts it";
        is_old_imatrix(head).then_some(old)
    })
}

/// A number of entries, the length of a name, and the name of a tensor.
fn is_old_imatrix(head: &[u8]) -> bool {
    let Some((numbers, rest)) = head.split_at_checked(8) else { return false };
    let (entries, len) = match numbers.as_chunks::<4>().0 {
        [entries, len] => (u32::from_le_bytes(*entries), u32::from_le_bytes(*len) as usize),
        _ => return false,
    };
    let is_name = |name: &[u8]| name.iter().all(|c| c.is_ascii_graphic()) && name.contains(&b'.');
    (1..1 << 20).contains(&entries) && rest.get(..len).is_some_and(is_name)
}

/// Check a header against the number of data bytes that follow it.
fn parse(header: &[u8], data_len: u64) -> Result<(Vec<TensorInfo>, Option<String>)> {
    let text = std::str::from_utf8(header).context("the header is not UTF-8")?;
    let Entries(entries, format) = serde_json::from_str(text).context("the header is not what safetensors asks for")?;
    let data_start = PREFIX + header.len() as u64;
    let mut tensors = entries
        .into_iter()
        .map(|(name, entry)| check(name, entry, data_start, data_len))
        .collect::<Result<Vec<_>>>()?;
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(twice) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        bail!("the name {:?} appears twice", twice[0].name);
    }
    check_cover(&mut tensors, data_start, data_len)?;
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((tensors, format))
}

/// What can be said about one tensor alone.
fn check(name: String, entry: Entry, data_start: u64, data_len: u64) -> Result<TensorInfo> {
    let Entry { dtype, shape: Shape(shape), data_offsets: (begin, end) } = entry;
    let len = entries(&dtype, &shape, (begin, end), data_len).with_context(|| format!("tensor {name:?}"))?;
    Ok(TensorInfo { name, dtype, shape, len, bytes: data_start + begin..data_start + end, shard: 0 })
}

/// How many entries a tensor has, if all that is said about it agrees.
fn entries(dtype: &str, shape: &[u64], (begin, end): (u64, u64), data_len: u64) -> Result<u64> {
    ensure!(begin <= end, "it ends at byte {end}, before it begins at byte {begin}");
    ensure!(
        end <= data_len,
        "it ends at byte {end} of the data, and the file has {data_len}: truncated, or the header is wrong"
    );
    let len = shape.iter().try_fold(1u64, |len, axis| len.checked_mul(*axis));
    let len = len.with_context(|| format!("the shape {shape:?} has more entries than 64 bits count"))?;
    if let Some(bits) = bits(dtype) {
        let bits = len.checked_mul(bits).with_context(|| format!("{len} entries of {dtype} are too many"))?;
        ensure!(bits % 8 == 0, "the shape {shape:?} of {dtype} has {bits} bits, no whole number of bytes");
        let (says, has) = (bits / 8, end - begin);
        ensure!(says == has, "the shape {shape:?} of {dtype} takes {says} bytes, and the offsets give it {has}");
    }
    Ok(len)
}

/// Together the tensors must cover the data: no byte twice, none left out.
fn check_cover(tensors: &mut [TensorInfo], data_start: u64, data_len: u64) -> Result<()> {
    tensors.sort_by_key(|t| (t.bytes.start, t.bytes.end));
    let mut end = data_start;
    let mut before = "";
    for TensorInfo { name, bytes, .. } in tensors.iter() {
        let (begin, at) = (bytes.start - data_start, end - data_start);
        if bytes.start < end {
            bail!("tensor {name:?} begins at byte {begin} of the data, inside {before:?}, which ends at byte {at}");
        }
        ensure!(bytes.start == end, "bytes {at} to {begin} of the data, before {name:?}, belong to no tensor");
        end = bytes.end;
        before = name;
    }
    let at = end - data_start;
    ensure!(at == data_len, "the tensors end at byte {at} of the data, and the file has {data_len}");
    Ok(())
}

/// Bits of one entry, for the dtypes that the format names.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// The header's object in its own order, every name once, and the `format` of its metadata.
struct Entries(Vec<(String, Entry)>, Option<String>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let (mut entries, mut metadata, mut taken) = (Vec::new(), None, 0);
        while let Some(name) = map.next_key::<String>()? {
            if name.len() > LONGEST_NAME {
                let len = name.len();
                return Err(A::Error::custom(format!("a name has {len} bytes, and {LONGEST_NAME} are the most")));
            }
            let named = |e| A::Error::custom(format!("{name:?}: {e}"));
            if name != METADATA {
                let entry: Entry = map.next_value().map_err(named)?;
                let len = entry.dtype.len();
                if len > LONGEST_DTYPE {
                    let message = format!("{name:?}: a dtype has {len} bytes, and {LONGEST_DTYPE} are the most");
                    return Err(A::Error::custom(message));
                }
                // Every report has them again.
                taken += name.len() + 8 * entry.shape.0.len();
                if taken > MOST_TEXT {
                    return Err(A::Error::custom(format!("names and shapes take more than {} MiB", MOST_TEXT >> 20)));
                }
                entries.push((name, entry));
            } else if metadata.is_some() {
                return Err(A::Error::custom(format!("the name {name:?} appears twice")));
            } else {
                let format = Under { name: "format", most: LONGEST_FORMAT };
                metadata = Some(map.next_value_seed(format).map_err(named)?);
            }
            if entries.len() > MOST_TENSORS {
                return Err(A::Error::custom(format!("there are more than {MOST_TENSORS} tensors")));
            }
        }
        Ok(Entries(entries, metadata.flatten()))
    }
}

/// A list of axes, no longer than any that is meant.
pub(crate) struct Shape(pub(crate) Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Axes;
        impl<'de> Visitor<'de> for Axes {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of axes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut axes = Vec::new();
                while let Some(axis) = seq.next_element()? {
                    if axes.len() == MOST_AXES {
                        return Err(A::Error::custom(format!("it has more than {MOST_AXES} axes")));
                    }
                    axes.push(axis);
                }
                Ok(Shape(axes))
            }
        }
        deserializer.deserialize_seq(Axes)
    }
}

/// Of a header the metadata alone.
struct Metadata<'n>(Under<'n>);

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut said = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                said = map.next_value_seed(self.0)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(said)
    }
}

/// Of an object of strings, or of null, what is said under a name, if it is no longer than this. There may be millions of others.
#[derive(Clone, Copy)]
struct Under<'n> {
    name: &'n str,
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Under<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Under<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut said = None;
        while let Some((name, value)) = map.next_entry::<String, String>()? {
            if name == self.name && value.len() <= self.most {
                said = Some(value);
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(header: &str, data_len: u64) -> String {
        format!("{:#}", parse(header.as_bytes(), data_len).expect_err(header))
    }

    #[test]
    fn a_header_in_any_order_comes_out_by_name() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
            "z":{"dtype":"BF16","shape":[0,7],"data_offsets":[24,24]},
            "a":{"dtype":"F4","shape":[4],"data_offsets":[24,26]},
            "B":{"dtype":"I9","shape":[5],"data_offsets":[26,27]}}   "#;
        let (tensors, format) = parse(header.as_bytes(), 27).unwrap();
        assert_eq!(format.as_deref(), Some("pt"));
        let start = 8 + header.len() as u64;
        let seen: Vec<_> =
            tensors.iter().map(|t| (t.name.as_str(), t.len, t.bytes.start - start..t.bytes.end - start)).collect();
        assert_eq!(seen, [("B", 5, 26..27), ("a", 4, 24..26), ("b", 6, 0..24), ("z", 0, 24..24)]);
    }

    #[test]
    fn an_empty_header_has_no_tensors() {
        assert_eq!(parse(b"{}", 0).unwrap(), (vec![], None));
        assert_eq!(parse(br#"{"__metadata__":null}"#, 0).unwrap(), (vec![], None));
    }

    #[test]
    fn a_header_that_lies_is_refused_with_both_numbers() {
        let one = |dtype: &str, shape: &str, begin: u64, end: u64| {
            format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#)
        };
        let two = |b: u64| {
            let t = |begin, end| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":[{begin},{end}]}}"#);
            format!(r#"{{"s":{},"t":{}}}"#, t(0, 4), t(b, b + 4))
        };
        for (header, data_len, parts) in [
            (one("F32", "[2]", 8, 0), 8, vec!["\"t\"", "ends at byte 0", "begins at byte 8"]),
            (one("F32", "[2]", 0, 8), 7, vec!["\"t\"", "byte 8", "has 7"]),
            (one("F32", "[3]", 0, 8), 8, vec!["\"t\"", "takes 12", "give it 8"]),
            (one("F4", "[3]", 0, 2), 2, vec!["\"t\"", "12 bits"]),
            (one("F32", "[4294967296,4294967296]", 0, 8), 8, vec!["\"t\"", "64 bits"]),
            (one("??", "[4294967296,4294967296]", 0, 8), 8, vec!["\"t\"", "64 bits"]),
            (one("F64", "[4611686018427387904]", 0, 8), 8, vec!["\"t\"", "too many"]),
            (one("F32", "[2]", 4, 12), 12, vec!["bytes 0 to 4", "\"t\"", "no tensor"]),
            (one("F32", "[2]", 0, 8), 9, vec!["byte 8", "has 9"]),
            (two(3), 7, vec!["\"t\" begins at byte 3", "inside \"s\"", "byte 4"]),
            (two(5), 9, vec!["bytes 4 to 5", "\"t\""]),
            (two(0), 4, vec!["\"t\" begins at byte 0", "inside \"s\""]),
        ] {
            let message = error(&header, data_len);
            for part in parts {
                assert!(message.contains(part), "{header} said {message:?}, without {part:?}");
            }
        }
    }

    #[test]
    fn a_header_of_another_form_is_refused() {
        let tensor = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
        for (header, part) in [
            (String::new(), "safetensors"),
            ("[]".into(), "an object of tensors"),
            (format!(r#"{{"t":{tensor},"t":{tensor}}}"#), "\"t\" appears twice"),
            (format!(r#"{{"__metadata__":{{}},"t":{tensor},"__metadata__":{{}}}}"#), "\"__metadata__\" appears twice"),
            (format!(r#"{{"t":{tensor}}} x"#), "trailing characters"),
            (r#"{"__metadata__":{"a":1}}"#.into(), "\"__metadata__\""),
            (r#"{"t":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#.into(), "\"t\""),
            (r#"{"t":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}"#.into(), "\"t\""),
            (r#"{"t":{"dtype":"U8","shape":[1]}}"#.into(), "data_offsets"),
            (r#"{"t":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#.into(), "duplicate field"),
        ] {
            let message = error(&header, 1);
            assert!(message.contains(part), "{header} said {message:?}, without {part:?}");
        }
        assert!(format!("{:#}", parse(b"{\"\xff\":1}", 0).unwrap_err()).contains("UTF-8"));
    }

    #[test]
    fn sizes_are_those_of_the_official_crate() {
        use safetensors::Dtype::*;
        for dtype in [
            BOOL,
            F4,
            F6_E2M3,
            F6_E3M2,
            U8,
            I8,
            F8_E5M2,
            F8_E4M3,
            F8_E8M0,
            F8_E4M3FNUZ,
            F8_E5M2FNUZ,
            I16,
            U16,
            F16,
            BF16,
            I32,
            U32,
            F32,
            C64,
            F64,
            I64,
            U64,
        ] {
            let name = serde_json::to_value(dtype).unwrap();
            assert_eq!(bits(name.as_str().unwrap()), Some(dtype.bitsize() as u64), "{name}");
        }
    }
}
