//! A place to work: a temporary directory, files in it, and the program run inside.

use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A temporary directory with the program in it.
pub(crate) struct Desk(tempfile::TempDir);

/// Whether tests are about a GPU too: unless `EMPRUNE_NO_GPU=1` says that none is wanted.
pub(crate) fn wants_gpu() -> bool {
    cfg!(feature = "gpu") && std::env::var_os("EMPRUNE_NO_GPU").is_none_or(|value| value != "1")
}

/// The options for the CPU and, if a GPU [is wanted](wants_gpu), for the adapter that `EMPRUNE_TEST_ADAPTER` names, or
/// any.
pub(crate) fn backends() -> Vec<Vec<&'static str>> {
    static ADAPTER: OnceLock<String> = OnceLock::new();
    let adapter = ADAPTER.get_or_init(|| std::env::var("EMPRUNE_TEST_ADAPTER").unwrap_or_default());
    let mut backends = vec![vec!["--backend", "cpu"]];
    if wants_gpu() {
        backends.push(vec!["--backend", "gpu", "--adapter", adapter]);
    }
    backends
}

/// One tensor of a file: name, dtype, shape, bytes.
pub(crate) type Part<'a> = (&'a str, &'a str, &'a [u64], Vec<u8>);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Run the program here.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_emprune"));
        // Mesa's Vulkan layers ask for a Wayland session and complain on stderr, as "error:", where there is none.
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
        command.args(args).current_dir(self.0.path()).output().unwrap()
    }

    /// Run it, on the CPU and successfully, and return stdout and stderr.
    pub(crate) fn succeed(&self, args: &[&str]) -> (String, String) {
        let output = self.run(&[args, &["--backend", "cpu"]].concat());
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        (stdout, stderr)
    }

    /// Run it with each of the [`backends`].
    pub(crate) fn succeed_everywhere(&self, args: &[&str]) {
        for backend in backends() {
            let output = self.run(&[args, &backend].concat());
            assert_eq!(output.status.code(), Some(0), "{args:?} {backend:?}: {}", texts(&output).1);
        }
    }

    /// Run it and see it fail with this exit code, with an error of one line that has all `parts`, without a word on stdout,
    /// and without a trace among the files.
    pub(crate) fn fail(&self, args: &[&str], code: i32, parts: &[&str]) {
        let before = self.everything();
        let output = self.run(args);
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let &[error] = errors.as_slice() else { panic!("{args:?} said {stderr:?}, and not one error of one line") };
        // Words that the parser refuses come with an explanation of several lines.
        let error = if code == 2 { &stderr } else { error };
        for part in parts {
            assert!(error.contains(part), "{args:?} said {error:?}, without {part:?}");
        }
        assert_eq!(stdout, "", "{args:?}");
        assert_eq!(self.everything(), before, "{args:?} left traces");
    }

    /// All files, with their bytes, however deep.
    pub(crate) fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        tree(self.0.path())
    }

    /// What is here, hidden or not, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The program as it is started at a keyboard: what a shell runs in the background, a test too, ignores Ctrl-C, and what that starts does.
pub(crate) fn program() -> Command {
    if !cfg!(target_os = "linux") {
        return Command::new(env!("CARGO_BIN_EXE_emprune"));
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_emprune")]);
    command
}

/// All that is in a directory, with its bytes where it is a file.
pub(crate) fn tree(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            all.extend(tree(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        }
        all.insert(name.to_owned(), if path.is_file() { std::fs::read(&path).unwrap() } else { vec![] });
    }
    all
}

/// A test has nothing to say here. Around the harness, which shows what a test prints only when it fails.
pub(crate) fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

pub(crate) fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// A file with these tensors, in this order, after a header that has an odd length.
pub(crate) fn model(parts: &[Part<'_>]) -> Vec<u8> {
    let mut header = r#"{"__metadata__":{"format":"pt"}"#.to_owned();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in parts {
        let (name, begin, end) = (serde_json::to_string(name).unwrap(), data.len(), data.len() + bytes.len());
        header += &format!(r#",{name}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#);
        data.extend_from_slice(bytes);
    }
    header.push('}');
    if header.len().is_multiple_of(2) {
        header.push(' ');
    }
    with_header(&header, &data)
}

/// A file with this header, whatever it says.
pub(crate) fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

pub(crate) fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The same values in any of the three dtypes; they must be exact in it.
pub(crate) fn floats(dtype: &str, values: &[f32]) -> Vec<u8> {
    match dtype {
        "F32" => f32s(values),
        "F16" => values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect(),
        "BF16" => values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect(),
        _ => panic!("{dtype} is none of the three"),
    }
}

/// The bytes of one tensor of a file, by the official reader.
pub(crate) fn tensor(file: &[u8], name: &str) -> Vec<u8> {
    SafeTensors::deserialize(file).unwrap().tensor(name).unwrap().data().to_vec()
}

/// Names in a file, by the official reader, in order.
pub(crate) fn names(file: &[u8]) -> Vec<String> {
    let mut names: Vec<_> = SafeTensors::deserialize(file).unwrap().names().into_iter().map(str::to_owned).collect();
    names.sort();
    names
}
