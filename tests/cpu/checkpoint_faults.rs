//! What lies where weights should be, and what becomes of it: one line that says what it is and what to do.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::{Checkpoint, Weights};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn golden(name: &str) -> PathBuf {
    root().join("tests/golden/checkpoints").join(name)
}

/// The error of opening a file of this content.
fn said_of(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, content).unwrap();
    let line = toolkit::runtime::one_line(&Checkpoint::open(&[&file]).unwrap_err());
    let start = format!("reading {}: ", file.display());
    line.strip_prefix(&start).unwrap_or_else(|| panic!("names no file: {line}")).to_string()
}

#[test]
fn what_downloads_leave_is_told_by_what_it_is() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 989823\n";
    let page = "\n<!DOCTYPE html>\n<html class=\"\">\n<head><title>Hugging Face –\n The AI community</title></head>";
    let message = r#"{"error":"Access to model x/y is restricted. You must be authenticated."}"#;
    let google = r#"{"error": {"code": 404, "message": "File not found: 1."}}"#;
    let xml = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let long = "Entry not found. ".repeat(20_000);
    let tar = [&[b'a'; 100][..], &[0; 157], b"ustar\x0000", &[0; 400]].concat();
    let cases: [(&[u8], &str); 16] = [
        (b"", "the file is empty: download or copy it again"),
        (pointer.as_bytes(), "no weights but a Git LFS pointer to a file of 989823 bytes: run `git lfs pull`"),
        (page.as_bytes(), "no weights but an HTML page, \"Hugging Face – The AI community\": download the file itself"),
        (b"<HTML><body>Sign in", "no weights but an HTML page: download the file itself"),
        (message.as_bytes(), "no weights but a JSON text, which says \"Access to model x/y is restricted. You must"),
        (google.as_bytes(), "no weights but a JSON text, which says \"File not found: 1.\": download"),
        (br#"{"a": 1, "model_type": "blip"}"#, "no weights but a JSON text: download"),
        (xml.as_bytes(), "no weights but an XML text, which says \"Access Denied\": download"),
        (
            b"Invalid username or password.",
            "no weights but a text, which begins with \"Invalid username or password.\"",
        ),
        (long.as_bytes(), "no weights but a text, which begins with \"Entry not found. Entry not found. "),
        (&[0; 5000], "it begins with zeros only: an unfinished download?"),
        (b"GGUF\x03\0\0\0\x10", "no weights but a GGUF file (llama.cpp): take the model's safetensors"),
        (b"\x89HDF\r\n\x1a\n", "no weights but an HDF5 file"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "no weights but a gzip archive: unpack it first"),
        (&tar, "no weights but a tar archive: unpack it first"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "neither safetensors nor a PyTorch pickle"),
    ];
    for (content, wanted) in cases {
        let said = said_of(content);
        assert!(said.starts_with(wanted), "{said}");
        assert!(said.len() < 300, "{said}");
    }
}

#[test]
fn an_index_that_is_none_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 98\n").unwrap();
    let said = toolkit::runtime::one_line(&Checkpoint::open_dir(folder.path(), "model").unwrap_err());
    assert!(said.contains("model.safetensors.index.json") && said.contains("a Git LFS pointer"), "{said}");
}

/// Weights of tensors with these names, of two numbers each.
fn weights(folder: &Path, names: &[&str]) -> Weights {
    let file = folder.join("some.safetensors");
    let two = Tensor::ones([2], (Kind::Float, Device::Cpu));
    let tensors: Vec<(&str, &Tensor)> = names.iter().map(|name| (*name, &two)).collect();
    Tensor::write_safetensors(&tensors, &file).unwrap();
    Checkpoint::open(&[file]).unwrap().weights(Device::Cpu, Kind::Float)
}

/// What is said when a model asks for these, in this order.
fn said_to(folder: &Path, names: &[&str], asked: &[(&str, i64)]) -> String {
    let place = weights(folder, names);
    let new = |place: &Weights| asked.iter().try_for_each(|(name, size)| place.get(name, &[*size]).map(drop));
    let line = toolkit::runtime::one_line(&place.build(new).unwrap_err());
    let start = format!("{}: ", folder.join("some.safetensors").display());
    line.strip_prefix(&start).unwrap_or_else(|| panic!("names no file: {line}")).to_string()
}

#[test]
fn everything_that_does_not_fit_is_listed_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let said = |names: &[&str], asked: &[(&str, i64)]| said_to(folder.path(), names, asked);
    assert_eq!(said(&["a", "c"], &[("a", 2), ("c", 2), ("b", 2)]), "tensor b is missing");
    assert_eq!(said(&["a"], &[("a", 3)]), "tensor a has shape [2], its configuration asks for [3]");
    assert_eq!(
        said(&["a", "x"], &[("a", 2)]),
        "1 tensor that this model does not have (x): is it another model's file?"
    );
    // All three kinds, whatever comes first.
    assert_eq!(
        said(&["a", "b", "c", "y", "x"], &[("b", 3), ("a", 2), ("e", 1), ("d", 4), ("c", 5)]),
        "2 tensors are missing (d, e); 2 tensors have other shapes than its configuration asks for (b [2] instead of \
         [3], c [2] instead of [5]); 2 tensors that this model does not have (x, y): is it another model's file?"
    );
    // Long lists are cut.
    let many: Vec<String> = (10..40).map(|n| format!("layer.{n}")).collect();
    let asked: Vec<(&str, i64)> = many.iter().rev().map(|name| (name.as_str(), 1)).collect();
    assert_eq!(
        said(&["a"], &[&[("a", 2)], asked.as_slice()].concat()),
        "30 tensors are missing (layer.10, layer.11, layer.12, layer.13, layer.14 and 25 more)"
    );
    // Nobody says "and 1 more" where the name has room.
    assert!(
        said(&["a"], &asked[24..])
            .starts_with("6 tensors are missing (layer.10, layer.11, layer.12, layer.13, layer.14, layer.15)")
    );
}

#[test]
fn other_faults_of_a_model_stay_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let place = weights(folder.path(), &["a", "b"]);
    let error = place.build(|_| -> anyhow::Result<()> { anyhow::bail!("four heads of three") });
    assert_eq!(error.unwrap_err().to_string(), "four heads of three");
    // A model that gives up in the middle, for another reason: what was found until then, and nothing as too much.
    let new = |place: &Weights| {
        let (a, c) = (place.get("a", &[3])?, place.get("c", &[2])?);
        anyhow::ensure!(a.size() == c.size(), "sizes");
        place.get("b", &[2])
    };
    let error = place.build(new).unwrap_err().to_string();
    assert!(error.ends_with("tensor c is missing; tensor a has shape [2], its configuration asks for [3]"), "{error}");
}

#[test]
fn wrapped_weights_are_told_by_their_wrapper() {
    let folder = tempfile::tempdir().unwrap();
    let said = |names: &[&str], asked: &[(&str, i64)]| said_to(folder.path(), names, asked);
    let asked = [("net.a", 2), ("net.b", 2)];
    assert_eq!(
        said(&["module.net.a", "module.net.b"], &asked),
        "tensor net.a is missing and 1 more: all tensors have \"module.\" before their names, as DataParallel and \
         DistributedDataParallel save them: save model.module.state_dict() instead"
    );
    assert_eq!(
        said(&["_orig_mod.net.a"], &asked[..1]),
        "tensor net.a is missing: all tensors have \"_orig_mod.\" before their names, as torch.compile saves them: \
         save model._orig_mod.state_dict() instead"
    );
    assert_eq!(
        said(&["model.net.a", "model.net.b", "optimizer.0"], &asked),
        "tensor net.a is missing and 1 more: 2 of 3 tensors have \"model.\" before their names, as in a dictionary or \
         module around the weights: save only what is inside \"model\""
    );
    let within = said(&["net._orig_mod.a", "net.b"], &asked);
    assert!(within.contains("tensor net.a is missing: it is there as net._orig_mod.a, as torch.compile"), "{within}");
    // A dictionary of a pickle, by the loader and where the family is to be told.
    let place = Checkpoint::open(&[golden("nested.zip.pt")]).unwrap().weights(Device::Cpu, Kind::Float);
    let error = place.get("conv.bias", &[4]).unwrap_err().to_string();
    assert!(error.contains("5 of 7 tensors have \"net.\" before their names"), "{error}");
    let alexnet = Checkpoint::open(&[root().join("experiments/mini/models/mini-lpips/alexnet.pth")]).unwrap();
    let read = |name: &str| (format!("module.{name}"), alexnet.read(name, Device::Cpu, Kind::Float).unwrap());
    let tensors: Vec<(String, Tensor)> = alexnet.names().map(read).collect();
    let file = folder.path().join("wrapped.safetensors");
    Tensor::write_safetensors(&tensors, &file).unwrap();
    let error = toolkit::models::family_of(&file).unwrap_err().to_string();
    assert!(error.contains("as DataParallel and DistributedDataParallel save them"), "{error}");
}

/// A legacy container around this object, without storages.
fn legacy(object: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let about = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.";
    [magic, b"\x80\x02M\xe9\x03.".as_slice(), about, b"\x80\x02", object, b".", b"\x80\x02]."].concat()
}

const ALONE: &str = "TOOLKIT_TEST_ALONE";

/// The most memory that this process has had.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_pickle_that_asks_for_copies_runs_out_of_its_budget() {
    // In a process of its own, whose memory no other test takes.
    if std::env::var_os(ALONE).is_none() {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["a_pickle_that_asks_for_copies_runs_out_of_its_budget", "--nocapture"]).env(ALONE, "1");
        let output = test.output().unwrap();
        return assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let key = |length: usize| [b"X", (length as u32).to_le_bytes().as_slice(), &vec![b'k'; length]].concat();
    let pairs = b"NN\x86".repeat(10_000);
    // A list of pairs in the memo, and the class; each call copies all pairs.
    let list = [b"](".as_slice(), &pairs, b"eq\x00ccollections\nOrderedDict\nq\x01"].concat();
    let calls = [list.clone(), b"h\x01h\x00\x85R".repeat(20_000)].concat();
    // Long tuples of arguments, which are looked at again by each call.
    let arguments = [b"(".as_slice(), &b"N".repeat(10_000), b"tq\x00cbuiltins\nset\nq\x01"].concat();
    let arguments = [arguments, b"h\x01h\x00R".repeat(20_000)].concat();
    // A storage's name, copied with each reference.
    let storage = |key: &[u8]| [b"(X\x07\0\0\0storagectorch\nFloatStorage\n", key, b"NK\x01tq\x00"].concat();
    let references = [storage(&key(1 << 20)), b"h\x00Q".repeat(20_000)].concat();
    let short = [storage(&key(900)), b"h\x00Q".repeat(2_000_000)].concat();
    // A dictionary whose values are all lists under one long name, in a list of itself.
    let named = [b"}(".as_slice(), &key(900), b"q\x01]q\x02", &b"h\x01h\x02".repeat(50_000), b"uq\x00"].concat();
    let named = [named, b"](".to_vec(), b"h\x00".repeat(50_000), b"e".to_vec()].concat();
    // Shapes of 64 axes, again and again.
    let shape = [b"(".as_slice(), &b"K\x00".repeat(64), b"tq\x01"].concat();
    let tensor = b"ctorch._utils\n_rebuild_tensor_v2\nq\x02(h\x03K\x00h\x01h\x01tq\x04";
    let shapes =
        [storage(&key(1)), b"Qq\x03".to_vec(), shape, tensor.to_vec(), b"h\x02h\x04R".repeat(500_000)].concat();
    let many = b"]".repeat(6_000_000);
    let before = peak_memory();
    for (object, wanted) in [
        (&calls, "too many values"),
        (&arguments, "too many values"),
        (&references, "an impossible name"),
        (&short, "too many values"),
        (&named, "too much memory"),
        (&shapes, "too much memory"),
        (&many, "too many values"),
    ] {
        let start = Instant::now();
        let said = said_of(&legacy(object));
        assert!(said.contains(wanted), "{said}");
        // A second in a release build on one core; this one is not optimised and shares its cores.
        assert!(start.elapsed() < Duration::from_secs(20), "{wanted}: {:?}", start.elapsed());
    }
    let grown = peak_memory() - before;
    assert!(grown < 1 << 30, "{} MB", grown >> 20);
}

fn toolkit(arguments: &[&str]) -> (i32, String, String) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolkit"));
    command.args(arguments).env("HOME", home.path()).env("HF_HOME", home.path().join("hf"));
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn verify_compares_the_sums_that_an_archive_carries() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alexnet.pth");
    let mut bytes = std::fs::read(root().join("experiments/mini/models/mini-lpips/alexnet.pth")).unwrap();
    std::fs::write(&file, &bytes).unwrap();
    let verify = || toolkit(&["models", "verify", file.to_str().unwrap()]);
    let (status, said, _) = verify();
    assert!(status == 0 && said.contains("all finite") && said.contains("CRC-32 as written"), "{said}");

    // The lowest bit of one number: still finite, and no tensor is too large.
    let checkpoint = Checkpoint::open(&[&file]).unwrap();
    let at = checkpoint.entry("features.0.weight").unwrap().range.start;
    drop(checkpoint);
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (status, _, error) = verify();
    assert_eq!(status, 1);
    assert!(
        error.contains("alexnet.pth: its part ") && error.contains("which holds tensor features.0.weight,"),
        "{error}"
    );
    assert!(error.contains("its CRC-32 differs") && error.trim().lines().count() == 1, "{error}");
}

#[test]
fn sums_are_compared_only_where_there_are_some() {
    for (name, files) in
        [("state_dict.zip.pt", 1), ("state_dict.legacy.pt", 0), ("without_sums.pt", 0), ("unaligned.safetensors", 0)]
    {
        assert_eq!(Checkpoint::open(&[golden(name)]).unwrap().check_sums().unwrap(), files, "{name}");
    }
}

const CUT: &str = "TOOLKIT_TEST_CUT_FILE";

/// Not a test by itself: what the next one starts.
#[test]
fn reads_a_file_that_is_cut_meanwhile() {
    let Some(file) = std::env::var_os(CUT) else { return };
    let checkpoint = Checkpoint::open(&[&file]).unwrap();
    let other = Checkpoint::open(&[golden("unaligned.safetensors")]).unwrap();
    let x = checkpoint.read("x", Device::Cpu, Kind::Float).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(5000).unwrap();
    // On another thread, as libtorch's and rayon's are.
    let sum = std::thread::spawn(move || x.sum(Kind::Float).double_value(&[])).join().unwrap();
    panic!("read {sum} from a file that is gone, {other:?}");
}

#[test]
fn a_mapped_file_that_is_cut_meanwhile_ends_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.safetensors");
    Tensor::write_safetensors(&[("x", Tensor::ones([100_000], (Kind::Float, Device::Cpu)))], &file).unwrap();
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["reads_a_file_that_is_cut_meanwhile", "--nocapture"]).env(CUT, &file);
    let output = test.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{:?}: {error}", output.status);
    let line = format!("error: {}: a part of the file is gone or cannot be read any more", file.display());
    assert!(error.trim().lines().any(|found| found.starts_with(&line)), "{error}");
}

/// A bus error in memory that no checkpoint is in is none of its business: it ends the process by its signal.
#[test]
fn other_bus_errors_end_as_they_did() {
    use std::os::unix::process::ExitStatusExt;
    if let Some(path) = std::env::var_os(CUT) {
        let _open = Checkpoint::open(&[golden("unaligned.safetensors")]).unwrap();
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        // SAFETY: the file is cut on purpose; reading the map ends this process.
        let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
        file.set_len(0).unwrap();
        panic!("read {} from a file that is gone", map[0]);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    std::fs::write(&file, [1; 100]).unwrap();
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["other_bus_errors_end_as_they_did", "--nocapture"]).env(CUT, &file);
    let status = test.output().unwrap().status;
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status:?}");
}

/// As a user sees it.
#[test]
fn the_cases_from_the_field_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pytorch_model.bin");
    std::fs::File::create(&file).unwrap().write_all(b"<!DOCTYPE html><title>Sign in</title>").unwrap();
    let (status, _, error) = toolkit(&["models", "verify", file.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(error.contains("pytorch_model.bin: no weights but an HTML page, \"Sign in\""), "{error}");
    assert_eq!(error.trim().lines().count(), 1, "{error}");
}
