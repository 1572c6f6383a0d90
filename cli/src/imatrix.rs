//! llama.cpp's importance matrix, a GGUF file: of every weight that saw calibration data, how large its inputs were.
//!
//! Under `NAME.in_sum2` there is the sum of squares of each input, and under `NAME.counts` the number of tokens that were
//! summed. The norm of an input is `sqrt(in_sum2 / count)`: the quotient rounded to the nearest f32, and then its root. Both
//! are operations of IEEE 754, so this is the same number everywhere.

use crate::input::{Seen, open_regular};
use crate::positioned::read_exact_at;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"GGUF";
/// No name is longer, and no header: those of real files have a few hundred kilobytes.
const LONGEST_NAME: u64 = 1 << 12;
const MAX_HEADER: u64 = 64 << 20;
/// What GGUF allows.
const MOST_AXES: u32 = 4;
/// The number of the type F32.
const F32: u32 = 0;

/// An open file whose header holds what it says.
#[derive(Debug)]
pub(crate) struct Imatrix {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Bytes of the whole file.
    pub(crate) len: u64,
    seen: Seen,
    sums: BTreeMap<String, Place>,
    counts: BTreeMap<String, Place>,
}

/// Where a tensor is: `matrices` runs of `columns` f32.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    columns: u64,
    matrices: u64,
}

impl Imatrix {
    /// Whether a file begins like one.
    pub(crate) fn is(path: &Path) -> bool {
        let mut magic = [0; 4];
        open_regular(path).is_ok_and(|file| read_exact_at(&file, &mut magic, 0).is_ok()) && magic == MAGIC
    }

    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let file = open_regular(path)?;
            let seen = Seen::of(&file)?;
            let len = seen.len;
            let mut header = vec![0; len.min(MAX_HEADER) as usize];
            read_exact_at(&file, &mut header, 0).context("cannot read it")?;
            let (sums, counts) = parse(&header, len)?;
            ensure!(!sums.is_empty(), "it has no tensor whose name ends in .in_sum2");
            Ok(Self { path: path.to_owned(), file, len, seen, sums, counts })
        };
        open().with_context(|| path.display().to_string())
    }

    /// Nobody has written to it since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.seen.check(&self.path, &self.file)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.sums.contains_key(name)
    }

    /// How many names have norms.
    pub(crate) fn names(&self) -> usize {
        self.sums.len()
    }

    /// The norms of one matrix of a name: where they are, and how many. Nothing if there is no such name.
    pub(crate) fn find(&self, name: &str, matrix: Option<u64>) -> Result<Option<Norms<'_>>> {
        let Some(&sums) = self.sums.get(name) else { return Ok(None) };
        let counts = self.counts.get(name).with_context(|| format!("{name}.counts is missing"))?;
        let (of, has) = (sums.matrices, counts.matrices);
        ensure!(
            matrix.is_some() || of == 1,
            "{name}.in_sum2 has {of} matrices; --norm-map says which one is meant, as {name}#0"
        );
        let matrix = matrix.unwrap_or_default();
        ensure!(matrix < of, "{name}.in_sum2 has {of} matrices, and number {matrix} is asked for");
        ensure!(
            counts.columns == 1 && has == of,
            "{name}.counts has {} x {has} numbers for {of} matrices",
            counts.columns
        );
        let (len, count) = (sums.columns, counts.at + 4 * matrix);
        Ok(Some(Norms { file: self, name: name.to_owned(), sums: sums.at + 4 * matrix * len, count, len }))
    }

    fn read(&self, at: u64, len: u64) -> Result<Vec<f32>> {
        let mut bytes = vec![0; 4 * len as usize];
        read_exact_at(&self.file, &mut bytes, at).with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
    }
}

/// The norms of one weight, not read yet.
pub(crate) struct Norms<'a> {
    file: &'a Imatrix,
    name: String,
    sums: u64,
    count: u64,
    pub(crate) len: u64,
}

impl Norms<'_> {
    pub(crate) fn load(&self, columns: Range<u64>) -> Result<Vec<f32>> {
        let sums = self.file.read(self.sums + 4 * columns.start, columns.end - columns.start)?;
        let count = self.file.read(self.count, 1)?.first().copied().unwrap_or_default();
        let name = &self.name;
        ensure!(
            count.is_finite() && count > 0.0,
            "{name}.counts is {count}: it saw no calibration data, as an expert that is never chosen; calibrate on more, or leave the \
             tensor alone with --ignore"
        );
        if let Some(at) = sums.iter().position(|sum| !(sum.is_finite() && *sum >= 0.0)) {
            let entry = columns.start + at as u64;
            bail!("{name}.in_sum2: entry {entry} is {}, and no sum of squares", sums[at]);
        }
        if let Some(at) = sums.iter().position(|sum| !(sum / count).is_finite()) {
            bail!(
                "{name}: entry {} of .in_sum2 is {:e}, which divided by {count:e} in .counts overflows f32",
                columns.start + at as u64,
                sums[at]
            );
        }
        Ok(sums.into_iter().map(|sum| (sum / count).sqrt()).collect())
    }
}

type Places = BTreeMap<String, Place>;

/// Find the two kinds of tensors in a header, and check that the file of `len` bytes has what is claimed.
fn parse(header: &[u8], len: u64) -> Result<(Places, Places)> {
    let mut words = Words { bytes: header, at: 0 };
    ensure!(words.array::<4>()? == MAGIC, "not a GGUF file");
    let version = words.u32()?;
    ensure!((2..=3).contains(&version), "GGUF of version {version}; 2 and 3 are understood");
    let (tensors, pairs) = (words.u64()?, words.u64()?);
    let mut alignment = 32;
    for _ in 0..pairs {
        let key = words.name()?;
        let kind = words.u32()?;
        if key == "general.alignment" && kind == U32 {
            alignment = u64::from(words.u32()?);
        } else {
            words.skip_value(kind, true).with_context(|| format!("the value of {key:?}"))?;
        }
    }
    ensure!(alignment.is_power_of_two(), "an alignment of {alignment} bytes is no power of two");
    let mut found = Vec::new();
    for _ in 0..tensors {
        let name = words.name()?;
        let about = words.tensor().with_context(|| format!("tensor {name:?}"))?;
        found.push((name, about));
    }
    let data = (words.at as u64).next_multiple_of(alignment);
    let (mut sums, mut counts) = (Places::new(), Places::new());
    for (name, (axes, kind, offset)) in found {
        let (into, of) = match (name.strip_suffix(".in_sum2"), name.strip_suffix(".counts")) {
            (Some(of), _) => (&mut sums, of),
            (_, Some(of)) => (&mut counts, of),
            _ => continue,
        };
        let place = || {
            ensure!(kind == F32, "it has the type number {kind}, and must be F32");
            let (columns, rest) = axes.split_first().context("it has no axis")?;
            let matrices = rest.iter().try_fold(1u64, |all, axis| all.checked_mul(*axis));
            let bytes = matrices.and_then(|matrices| matrices.checked_mul(*columns)?.checked_mul(4));
            let at = data.checked_add(offset);
            let end = at.zip(bytes).and_then(|(at, bytes)| at.checked_add(bytes));
            let fits = end.is_some_and(|end| end <= len);
            ensure!(fits, "its {axes:?} numbers, {offset} bytes into the data, are not all in the file of {len} bytes");
            Ok(Place { at: at.unwrap_or_default(), columns: *columns, matrices: matrices.unwrap_or_default() })
        };
        let place = place().with_context(|| format!("tensor {name:?}"))?;
        ensure!(into.insert(of.to_owned(), place).is_none(), "the name {name:?} appears twice");
    }
    Ok((sums, counts))
}

const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A header that is read from the front. It may claim anything: no more is believed than there are bytes.
struct Words<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn take(&mut self, len: u64) -> Result<&[u8]> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let taken = end.and_then(|end| Some((end, self.bytes.get(self.at..end)?)));
        let has = self.bytes.len() - self.at;
        let (end, taken) = taken.with_context(|| format!("truncated: {len} bytes should follow, and {has} do"))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N as u64)?.try_into()?)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn name(&mut self) -> Result<String> {
        let len = self.u64()?;
        ensure!(len <= LONGEST_NAME, "a name of {len} bytes; {LONGEST_NAME} are the most");
        Ok(std::str::from_utf8(self.take(len)?).context("a name is not UTF-8")?.to_owned())
    }

    fn skip_value(&mut self, kind: u32, may_be_array: bool) -> Result<()> {
        match kind {
            STRING => {
                let len = self.u64()?;
                self.take(len)?;
            }
            ARRAY if may_be_array => {
                let (kind, count) = (self.u32()?, self.u64()?);
                match size(kind) {
                    Some(size) => drop(self.take(count.checked_mul(size).context("an array is too long")?)?),
                    // Every one takes bytes, so a lie about their number ends with the file.
                    None => (0..count).try_for_each(|_| self.skip_value(kind, false))?,
                }
            }
            _ => {
                let size = size(kind).with_context(|| format!("a value of the unknown type {kind}"))?;
                self.take(size)?;
            }
        }
        Ok(())
    }

    /// Axes (the first is the one that varies fastest), type and offset.
    fn tensor(&mut self) -> Result<(Vec<u64>, u32, u64)> {
        let axes = self.u32()?;
        ensure!(axes <= MOST_AXES, "{axes} axes; {MOST_AXES} are the most");
        let axes = (0..axes).map(|_| self.u64()).collect::<Result<Vec<_>>>()?;
        Ok((axes, self.u32()?, self.u64()?))
    }
}

/// Bytes of a value, where all of a type have as many.
fn size(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        U32..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &mut Vec<u8>, text: &str) {
        words.extend((text.len() as u64).to_le_bytes());
        words.extend(text.as_bytes());
    }

    /// A small file with a value of every type.
    fn file() -> Vec<u8> {
        let mut words = [&MAGIC[..], &3u32.to_le_bytes(), &2u64.to_le_bytes(), &4u64.to_le_bytes()].concat();
        text(&mut words, "general.type");
        words.extend(STRING.to_le_bytes());
        text(&mut words, "imatrix");
        text(&mut words, "imatrix.datasets");
        words.extend([ARRAY.to_le_bytes(), STRING.to_le_bytes()].concat());
        words.extend(2u64.to_le_bytes());
        text(&mut words, "a.txt");
        text(&mut words, "b.txt");
        text(&mut words, "general.alignment");
        words.extend([U32, 64].map(u32::to_le_bytes).concat());
        text(&mut words, "numbers");
        words.extend([ARRAY.to_le_bytes(), 10u32.to_le_bytes()].concat());
        words.extend([1u64, 7].map(u64::to_le_bytes).concat());
        for (name, columns, offset) in [("w.in_sum2", 3u64, 0u64), ("w.counts", 1, 64)] {
            text(&mut words, name);
            words.extend(2u32.to_le_bytes());
            words.extend([columns, 2].map(u64::to_le_bytes).concat());
            words.extend(F32.to_le_bytes());
            words.extend(offset.to_le_bytes());
        }
        words.resize(words.len().next_multiple_of(64), 0);
        let data = [36.0f32, 4.0, 0.0, 1.0, 2.0, 9.0];
        words.extend(data.iter().flat_map(|value| value.to_le_bytes()));
        words.resize(words.len() + 40, 0);
        words.extend([4.0f32, 1.0].iter().flat_map(|value| value.to_le_bytes()));
        words
    }

    fn open(bytes: &[u8]) -> Result<Imatrix> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("imatrix");
        std::fs::write(&path, bytes)?;
        assert!(Imatrix::is(&path));
        Imatrix::open(&path)
    }

    #[test]
    fn a_norm_is_the_root_of_the_mean_square() {
        let imatrix = open(&file()).unwrap();
        let norms = |matrix| imatrix.find("w", matrix).unwrap().unwrap().load(0..3).unwrap();
        assert_eq!(
            norms(Some(0)).iter().map(|norm| norm.to_bits()).collect::<Vec<_>>(),
            [3.0f32, 1.0, 0.0].map(f32::to_bits)
        );
        assert_eq!(norms(Some(1))[1].to_bits(), std::f32::consts::SQRT_2.to_bits());
        let some = imatrix.find("w", Some(1)).unwrap().unwrap().load(1..3).unwrap();
        assert_eq!(some, norms(Some(1))[1..]);
        assert!(imatrix.find("w", Some(2)).is_err() && imatrix.find("w", None).is_err(), "there are two");
        assert!(imatrix.find("v", None).unwrap().is_none() && imatrix.has("w") && imatrix.names() == 1);
    }

    #[test]
    fn a_header_that_lies_is_refused_and_never_believed() {
        let whole = file();
        let len = whole.len() as u64;
        assert!(parse(&whole, len).is_ok());
        for end in 0..whole.len() {
            assert!(parse(&whole[..end], end as u64).is_err(), "the first {end} bytes");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                // An error or another file, but no panic and no endless work.
                let _ = parse(&bytes, len).map(|(sums, _)| assert!(sums.len() <= 2));
            }
        }
        // More strings than there are bytes for.
        let mut bytes = whole.clone();
        let at = whole.windows(5).position(|five| five == b"a.txt").unwrap() - 16;
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(format!("{:#}", parse(&bytes, len).unwrap_err()).contains("truncated"));
    }
}
