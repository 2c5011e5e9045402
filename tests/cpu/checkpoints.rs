//! Checkpoints in every container against what torch put into them (tests/reference/checkpoints.py),
//! bit for bit, and broken and hostile files: always one clear line, never a panic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::{Checkpoint, Weights};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Kind, shape and the very bytes.
fn content(tensor: &Tensor) -> (Kind, Vec<i64>, Vec<u8>) {
    let bytes = if tensor.numel() == 0 {
        Vec::new()
    } else {
        Vec::try_from(tensor.contiguous().flatten(0, -1).view_dtype(Kind::Uint8)).unwrap()
    };
    (tensor.kind(), tensor.size(), bytes)
}

/// Read by the safetensors crate alone.
fn expected(name: &str) -> BTreeMap<String, (Vec<i64>, Vec<u8>)> {
    let bytes = std::fs::read(golden("checkpoints").join(format!("{name}.expected"))).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let describe = |view: safetensors::tensor::TensorView| {
        (view.shape().iter().map(|&n| n as i64).collect(), view.data().to_vec())
    };
    tensors.tensors().into_iter().map(|(name, view)| (name, describe(view))).collect()
}

fn read_all(checkpoint: &Checkpoint) -> BTreeMap<String, (Kind, Vec<i64>, Vec<u8>)> {
    let read = |name: &str| {
        let kind = checkpoint.entry(name).unwrap().kind;
        content(&checkpoint.read(name, Device::Cpu, kind).unwrap())
    };
    checkpoint.names().map(|name| (name.to_string(), read(name))).collect()
}

fn assert_holds(checkpoint: &Checkpoint, name: &str) {
    let found: BTreeMap<_, _> =
        read_all(checkpoint).into_iter().map(|(name, (_, shape, bytes))| (name, (shape, bytes))).collect();
    let wanted = expected(name);
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (key, value) in wanted {
        assert_eq!(found[&key], value, "{name}: {key}");
    }
}

fn error_of(path: &Path) -> String {
    one_line(Checkpoint::open(&[path]).unwrap_err(), path)
}

fn one_line(error: anyhow::Error, path: &Path) -> String {
    let line = toolkit::runtime::one_line(&error);
    assert!(line.contains(path.to_str().unwrap()), "names no file: {line}");
    assert!(!line.contains('\n'));
    line
}

#[test]
fn pickles_hold_what_torch_put_into_them() {
    for name in ["kinds", "state_dict", "trained", "nested"] {
        for container in ["zip", "legacy"] {
            let file = golden("checkpoints").join(format!("{name}.{container}.pt"));
            assert_holds(&Checkpoint::open(&[file]).unwrap(), name);
        }
    }
    assert_holds(&Checkpoint::open(&[golden("checkpoints/state_dict.protocol4.pt")]).unwrap(), "state_dict");
}

#[test]
fn number_types_are_kept() {
    let checkpoint = Checkpoint::open(&[golden("checkpoints/kinds.legacy.pt")]).unwrap();
    let kinds = [
        ("float32", Kind::Float),
        ("float64", Kind::Double),
        ("float16", Kind::Half),
        ("bfloat16", Kind::BFloat16),
        ("int64", Kind::Int64),
        ("int32", Kind::Int),
        ("int16", Kind::Int16),
        ("int8", Kind::Int8),
        ("uint8", Kind::Uint8),
        ("bool", Kind::Bool),
    ];
    for (name, kind) in kinds {
        assert_eq!(checkpoint.entry(name).unwrap().kind, kind);
        // Floats are cast to what is asked for, integers are not.
        let read = checkpoint.read(name, Device::Cpu, Kind::Double).unwrap().kind();
        let float = matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
        assert_eq!(read, if float { Kind::Double } else { kind });
    }
}

#[test]
fn part_of_a_checkpoint_can_be_picked() {
    let checkpoint = Checkpoint::open(&[golden("checkpoints/nested.zip.pt")]).unwrap().below("net").unwrap();
    let names: Vec<&str> = checkpoint.names().collect();
    assert_eq!(names, ["conv.bias", "conv.weight", "head.weight", "norm.bias", "norm.weight"]);
}

#[test]
fn lpips_ships_these_files() {
    // The sums are `torch.load(file)["linN.model.1.weight"].double().sum()`.
    type Head = (i64, f64);
    let files: [(&str, &[Head]); 3] = [
        (
            "alex",
            &[
                (64, 2.3495323137195783),
                (192, 16.1430274810632),
                (384, 39.26843924544403),
                (256, 27.197178440931964),
                (256, 20.317177099761324),
            ],
        ),
        (
            "vgg",
            &[
                (64, 6.925991700962186),
                (128, 8.858334008604288),
                (256, 17.5150060467422),
                (512, 51.521323032677174),
                (512, 47.03485375829041),
            ],
        ),
        (
            "squeeze",
            &[
                (64, 5.69010078176899),
                (128, 1.1852794939355817),
                (256, 16.326565414529796),
                (384, 71.01262408646244),
                (384, 37.37072320704965),
                (512, 24.26287240253683),
                (512, 17.590552752050012),
            ],
        ),
    ];
    for (name, heads) in files {
        let checkpoint = Checkpoint::open(&[golden(&format!("lpips/{name}.pth"))]).unwrap();
        assert_eq!(checkpoint.names().count(), heads.len());
        for (i, &(channels, sum)) in heads.iter().enumerate() {
            let head = checkpoint.read(&format!("lin{i}.model.1.weight"), Device::Cpu, Kind::Double).unwrap();
            assert_eq!(head.size(), [1, channels, 1, 1]);
            let found = head.sum(Kind::Double).double_value(&[]);
            // The order of the additions may differ.
            assert!((found - sum).abs() < 1e-12, "{name}: head {i} adds up to {found}, not {sum}");
        }
    }
}

#[test]
fn folders_in_every_layout() {
    for (folder, stem) in [
        ("folder_safetensors", "model"),
        ("folder_fp16", "diffusion_pytorch_model"),
        ("folder_bin", "model"),
        ("folder_diffusers_bin", "diffusion_pytorch_model"),
        ("folder_sharded", "model"),
        ("folder_sharded_fp16", "model"),
        ("folder_sharded_bin", "model"),
    ] {
        let dir = golden("checkpoints").join(folder);
        assert_holds(&Checkpoint::open_dir(&dir, stem).unwrap(), "folder");
    }
}

#[test]
fn an_incomplete_folder_names_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let error = one_line(Checkpoint::open_dir(dir.path(), "model").unwrap_err(), dir.path());
    assert!(error.contains("no weights here"), "{error}");
    let missing = dir.path().join("nowhere");
    assert!(one_line(Checkpoint::open_dir(&missing, "model").unwrap_err(), &missing).contains("no such folder"));

    let index = dir.path().join("model.safetensors.index.json");
    std::fs::copy(golden("checkpoints/folder_sharded/model.safetensors.index.json"), &index).unwrap();
    let error = one_line(Checkpoint::open_dir(dir.path(), "model").unwrap_err(), &index);
    assert!(error.contains("model-00001-of-00002.safetensors is listed but not there"), "{error}");
    std::fs::write(&index, r#"{"weight_map": {"a": "../../etc/passwd"}}"#).unwrap();
    let error = one_line(Checkpoint::open_dir(dir.path(), "model").unwrap_err(), &index);
    assert!(error.contains("not the name of a file beside it"), "{error}");
    std::fs::write(&index, "{").unwrap();
    let error = one_line(Checkpoint::open_dir(dir.path(), "model").unwrap_err(), &index);
    assert!(error.contains("not a valid index"), "{error}");
}

#[test]
fn unaligned_tensors_are_read_all_the_same() {
    assert_holds(&Checkpoint::open(&[golden("checkpoints/unaligned.safetensors")]).unwrap(), "unaligned");
}

#[test]
fn a_pickle_never_runs_anything() {
    for container in ["zip", "legacy"] {
        let error = error_of(&golden("checkpoints").join(format!("hostile.{container}.pt")));
        assert!(error.contains("refused: it would run posix.system"), "{error}");
    }
    let error = error_of(&golden("checkpoints/whole_module.pt"));
    assert!(error.contains("refused: it would run __main__.Net"), "{error}");
}

#[test]
fn other_files_are_told_apart() {
    assert!(error_of(&golden("checkpoints/no_torch.pkl")).contains("not a PyTorch checkpoint"));
    assert!(error_of(&golden("checkpoints/outside.legacy.pt")).contains("beyond its storage"));
    assert!(error_of(&golden("lpips/LICENSE.txt")).contains("no weights but a text, which begins with"));
    assert!(error_of(&golden("nothing.safetensors")).contains("No such file"));
    assert!(error_of(&golden("lpips")).contains("not a file"));
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.safetensors");
    std::fs::write(&empty, "").unwrap();
    assert!(error_of(&empty).contains("empty"));
}

#[test]
fn hostile_headers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let put = |length: u64, header: &str, data: usize| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        std::fs::write(&file, bytes).unwrap();
        error_of(&file)
    };
    let header = |shape: &str, dtype: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let huge = put(u64::MAX, "{}", 0);
    assert!(huge.contains("header too large"), "{huge}");
    assert!(put(200 << 20, "{}", 0).contains("header too large"));
    assert!(put(1000, "{}", 0).contains("does not fit its header"));
    for (text, data) in [
        (header("[2,2]", "F32", "[0,8]"), 8),
        (header("[2]", "F32", "[8,0]"), 8),
        (header("[2]", "F32", "[0,800]"), 8),
        (header("[4611686018427387904,4]", "F32", "[0,8]"), 8),
        (header("[2]", "F32", "[0,8]"), 100),
        (header("[-2]", "F32", "[0,8]"), 8),
        (header("[2]", "F4", "[0,8]"), 8),
        (header("[0,9223372036854775809]", "F32", "[0,0]"), 0),
        ("[]".to_string(), 8),
        ("{".repeat(100_000), 8),
    ] {
        put(text.len() as u64, &text, data);
    }
}

/// A legacy container around this object, without storages.
fn legacy(object: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let about = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.";
    [magic, b"\x80\x02M\xe9\x03.".as_slice(), about, b"\x80\x02", object, b".", b"\x80\x02]."].concat()
}

#[test]
fn pickles_that_would_grow_without_end_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.pt");
    let put = |object: &[u8]| {
        std::fs::write(&file, legacy(object)).unwrap();
        error_of(&file)
    };
    assert!(put(b"}").contains("holds no tensors"));
    // A million tuples in one another.
    let deep = [b")".as_slice(), &[0x85; 1_000_000]].concat();
    assert!(put(&deep).contains("nested too deeply"));
    // Lists of ten times the list before: 10^12 values in a few bytes.
    let mut bomb = b"]q\0".to_vec();
    for _ in 0..12 {
        bomb.extend(b"](h\0h\0h\0h\0h\0h\0h\0h\0h\0h\0eq\0");
    }
    let error = put(&bomb);
    assert!(error.contains("too many values"), "{error}");
    // A list that holds itself.
    assert!(put(b"]q\0h\0a").contains("nested too deeply"));
    // Text that is said to be longer than the file; a stack that is empty; an instruction of protocol 0.
    assert!(put(b"X\xff\xff\xff\xff").contains("the file ends too early"));
    assert!(put(b"0").contains("the stack is empty"));
    assert!(put(b"I1\n").contains("instruction 0x49"));
    assert!(put(b"cos\nsystem\n(X\x02\0\0\0lstR").contains("refused: it would run os.system"));
    assert!(put(b"cbuiltins\neval\n").contains("refused: it would run builtins.eval"));
}

#[test]
fn strict_loading_names_file_and_tensor() {
    let file = golden("checkpoints/state_dict.zip.pt");
    let weights = || Checkpoint::open(&[&file]).unwrap().weights(Device::Cpu, Kind::Float);
    let missing = one_line(weights().get("conv.wait", &[1]).unwrap_err(), &file);
    assert!(missing.contains("tensor conv.wait is missing"), "{missing}");
    let shape = one_line(weights().get("conv.bias", &[5]).unwrap_err(), &file);
    assert!(shape.contains("shape [4]") && shape.contains("[5]"), "{shape}");
    let some = weights();
    let _ = some.at("conv").get("weight", &[4, 3, 3, 3]).unwrap();
    some.at("norm").ignore();
    let extra = one_line(some.finish().unwrap_err(), &file);
    assert!(extra.contains("2 tensors") && extra.contains("(conv.bias, head.weight)"), "{extra}");
    let _ = some.get("conv.bias", &[4]).unwrap();
    let _ = some.get("head.weight", &[2, 4]).unwrap();
    some.finish().unwrap();
}

fn one_tensor_file(dir: &Path, tensor: &Tensor) -> PathBuf {
    let file = dir.join("one.safetensors");
    Tensor::write_safetensors(&[("block.weight", tensor)], &file).unwrap();
    file
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, bad) in [
        (Kind::Float, f64::NAN),
        (Kind::Float, f64::NEG_INFINITY),
        (Kind::Half, f64::NAN),
        (Kind::BFloat16, f64::INFINITY),
        (Kind::Double, f64::NAN),
    ] {
        // Larger than one chunk of the scan, with the bad number in the last one.
        let tensor = Tensor::ones([300, 300], (kind, Device::Cpu));
        let file = one_tensor_file(dir.path(), &tensor);
        let open = || Checkpoint::open(&[&file]).unwrap().weights(Device::Cpu, kind);
        let _ = open().get("block.weight", &[300, 300]).unwrap();
        let _ = tensor.get(299).get(298).fill_(bad);
        one_tensor_file(dir.path(), &tensor);
        let error = one_line(open().get("block.weight", &[300, 300]).unwrap_err(), &file);
        assert!(error.contains("tensor block.weight holds NaN or infinity"), "{error}");
    }
}

#[test]
fn numbers_too_large_for_the_number_type_are_told_apart_from_damage() {
    let dir = tempfile::tempdir().unwrap();
    let file = one_tensor_file(dir.path(), &Tensor::from_slice(&[1.0f32, 70000.0]));
    let weights = Checkpoint::open(&[&file]).unwrap().weights(Device::Cpu, Kind::Half);
    let error = one_line(weights.get("block.weight", &[2]).unwrap_err(), &file);
    assert!(error.contains("overflows in Half") && error.contains("--dtype"), "{error}");
}

#[test]
fn writing_into_a_mapped_tensor_leaves_the_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = one_tensor_file(dir.path(), &Tensor::from_slice(&[1.0f32, 2.0]));
    let before = std::fs::read(&file).unwrap();
    let checkpoint = Checkpoint::open(&[&file]).unwrap();
    let mut tensor = checkpoint.read("block.weight", Device::Cpu, Kind::Float).unwrap();
    drop(checkpoint);
    let _ = tensor.fill_(7.0);
    assert_eq!(Vec::<f32>::try_from(&tensor).unwrap(), [7.0, 7.0]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn random_weights_need_no_files() {
    let weights = Weights::random(Device::Cpu, Kind::Float);
    assert_eq!(weights.at("any").get("thing", &[2, 3]).unwrap().size(), [2, 3]);
    weights.finish().unwrap();
}

/// Opens and reads everything; whatever comes out, it must not be a panic.
fn survive(path: &Path) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&[path])?;
    for name in checkpoint.names() {
        let entry = checkpoint.entry(name).unwrap();
        // A changed stride may describe a tensor far larger than the file: views cost nothing, copies do.
        let tensor = checkpoint.read(name, Device::Cpu, entry.kind)?;
        if tensor.numel() < 1 << 20 {
            content(&tensor);
        }
    }
    Ok(())
}

const VICTIMS: [&str; 6] = [
    "checkpoints/kinds.zip.pt",
    "checkpoints/kinds.legacy.pt",
    "checkpoints/trained.legacy.pt",
    "checkpoints/unaligned.safetensors",
    "checkpoints/state_dict.protocol4.pt",
    "lpips/alex.pth",
];

#[test]
fn a_truncated_file_is_an_error_wherever_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("truncated");
    for victim in VICTIMS {
        let bytes = std::fs::read(golden(victim)).unwrap();
        // Every end in the small files, a sample in the larger ones.
        for length in (1..bytes.len()).step_by(1.max(bytes.len() / 1500)) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let Err(error) = survive(&path) else { panic!("{victim} was read with {length} bytes only") };
            one_line(error, &path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn changed_bytes_never_end_in_a_panic(
        victim in 0..VICTIMS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(golden(VICTIMS[victim])).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changed");
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = survive(&path) {
            one_line(error, &path);
        }
    }
}
