//! Tensors that are views of a storage: whatever its size, the offset and the strides, the values are those
//! that `torch.load` gives (tests/reference/checkpoint_views.py), or those of a plain walk over the elements.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::nn::Linear;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints").join(name)
}

fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    if tensor.numel() == 0 {
        return Vec::new();
    }
    Vec::try_from(tensor.flatten(0, -1).view_dtype(Kind::Uint8)).unwrap()
}

#[test]
fn views_hold_what_torch_reads() {
    let bytes = std::fs::read(golden("views.expected")).unwrap();
    let expected = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for container in ["zip", "legacy"] {
        let checkpoint = Checkpoint::open(&[golden(&format!("views.{container}.pt"))]).unwrap();
        let mut compared = 0;
        for (name, wanted) in expected.tensors() {
            // torch cannot read float8 in the legacy container.
            if container == "legacy" && name.starts_with("float8") {
                continue;
            }
            let kind = checkpoint.entry(&name).unwrap().kind;
            let found = checkpoint.read(&name, Device::Cpu, kind).unwrap();
            assert!(found.is_contiguous(), "{name}");
            let shape: Vec<i64> = wanted.shape().iter().map(|&n| n as i64).collect();
            assert_eq!((found.size(), bytes_of(&found)), (shape, wanted.data().to_vec()), "{container}: {name}");
            compared += 1;
        }
        assert_eq!(compared, checkpoint.names().count());
        assert!(compared > 200);
    }
}

/// A tensor as a pickle describes it.
#[derive(Debug, Clone)]
struct View {
    name: String,
    /// Class of its storage.
    class: &'static str,
    storage: Vec<u8>,
    offset: i64,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

const CLASSES: [(&str, Kind); 10] = [
    ("DoubleStorage", Kind::Double),
    ("FloatStorage", Kind::Float),
    ("HalfStorage", Kind::Half),
    ("BFloat16Storage", Kind::BFloat16),
    ("LongStorage", Kind::Int64),
    ("IntStorage", Kind::Int),
    ("ShortStorage", Kind::Int16),
    ("CharStorage", Kind::Int8),
    ("ByteStorage", Kind::Uint8),
    ("BoolStorage", Kind::Bool),
];

impl View {
    fn kind(&self) -> Kind {
        CLASSES.iter().find(|(class, _)| *class == self.class).unwrap().1
    }

    fn count(&self) -> i64 {
        (self.storage.len() / self.kind().elt_size_in_bytes()) as i64
    }

    /// The elements in row-major order, each looked up on its own; None = one of them lies outside.
    fn gathered(&self) -> Option<Vec<u8>> {
        let width = self.kind().elt_size_in_bytes();
        let mut bytes = Vec::new();
        for n in 0..self.shape.iter().product::<i64>() {
            let (mut rest, mut at) = (n, self.offset);
            for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
                at += rest % size * stride;
                rest /= size;
            }
            let start = at as usize * width;
            bytes.extend(self.storage.get(start..start + width)?);
        }
        Some(bytes)
    }
}

fn text(text: &str) -> Vec<u8> {
    [b"X", (text.len() as u32).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

fn tuple(numbers: &[i64]) -> Vec<u8> {
    let number = |n: &i64| [b"\x8a\x08".as_slice(), &n.to_le_bytes()].concat();
    [b"(".to_vec(), numbers.iter().flat_map(number).collect(), b"t".to_vec()].concat()
}

/// The pickle of a dictionary of these tensors; each has the storage of its own number.
fn pickle(views: &[View]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for (key, view) in views.iter().enumerate() {
        out.extend(text(&view.name));
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        out.extend(text("storage"));
        out.extend(format!("ctorch\n{}\n", view.class).into_bytes());
        out.extend([text(&key.to_string()), text("cpu")].concat());
        out.extend(&tuple(&[view.count()])[1..]);
        out.extend(b"Q\x8a\x08");
        out.extend(view.offset.to_le_bytes());
        out.extend([tuple(&view.shape), tuple(&view.strides), b"\x89NtR".to_vec()].concat());
    }
    out.extend(b"u.");
    out
}

fn legacy(views: &[View]) -> Vec<u8> {
    let mut out = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    out.extend([b"\x80\x02}".to_vec(), text("little_endian"), b"\x88s.".to_vec(), pickle(views)].concat());
    let keys = (0..views.len()).flat_map(|key| text(&key.to_string())).collect();
    out.extend([b"\x80\x02](".to_vec(), keys, b"e.".to_vec()].concat());
    for view in views {
        out.extend([&view.count().to_le_bytes(), view.storage.as_slice()].concat());
    }
    out
}

fn zip(views: &[View]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut put = |name: &str, bytes: &[u8]| {
        archive.start_file(name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    };
    put("a/data.pkl", &pickle(views));
    for (key, view) in views.iter().enumerate() {
        put(&format!("a/data/{key}"), &view.storage);
    }
    archive.finish().unwrap().into_inner()
}

/// The same with the second storage's name at the first one's place.
fn overlapping(views: &[View]) -> Vec<u8> {
    let mut bytes = zip(views);
    let records: Vec<usize> = (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(b"PK\x01\x02")).collect();
    // Offset of the local header, at byte 42 of a record.
    let first: Vec<u8> = bytes[records[1] + 42..][..4].to_vec();
    bytes[records[2] + 42..][..4].copy_from_slice(&first);
    bytes
}

fn open(bytes: &[u8]) -> anyhow::Result<Checkpoint> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pytorch_model.bin");
    std::fs::write(&file, bytes)?;
    Checkpoint::open(&[file])
}

fn any_view() -> impl Strategy<Value = View> {
    let axis = (0..5i64, prop_oneof![Just(0i64), 0..9i64]);
    let axes = prop::collection::vec(axis, 0..4);
    let storage = prop_oneof![Just(1usize), 0..60usize];
    (0..CLASSES.len(), storage, 0..8i64, axes, any::<u8>()).prop_map(|(class, count, offset, axes, seed)| {
        let (class, kind) = CLASSES[class];
        let byte = |i: usize| if kind == Kind::Bool { (i + seed as usize) as u8 % 2 } else { (i * 37) as u8 ^ seed };
        View {
            name: "layer.weight".to_string(),
            class,
            storage: (0..count * kind.elt_size_in_bytes()).map(byte).collect(),
            offset: offset.min(if count == 1 { 1 } else { 7 }),
            shape: axes.iter().map(|(n, _)| *n).collect(),
            strides: axes.iter().map(|(_, stride)| *stride).collect(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn any_view_is_gathered_or_refused(view in any_view()) {
        for bytes in [legacy(std::slice::from_ref(&view)), zip(std::slice::from_ref(&view))] {
            let opened = open(&bytes);
            match view.gathered() {
                None => {
                    let error = format!("{:#}", opened.unwrap_err());
                    prop_assert!(error.contains("tensor layer.weight: it reaches beyond its storage 0"), "{}", error);
                }
                Some(wanted) => {
                    let found = opened.unwrap().read("layer.weight", Device::Cpu, view.kind()).unwrap();
                    prop_assert!(found.is_contiguous());
                    prop_assert_eq!(found.size(), view.shape.clone());
                    prop_assert_eq!(bytes_of(&found), wanted);
                }
            }
        }
    }
}

fn floats(name: &str, numbers: &[f32], offset: i64, shape: &[i64], strides: &[i64]) -> View {
    let storage = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    View {
        name: name.to_string(),
        class: "FloatStorage",
        storage,
        offset,
        shape: shape.to_vec(),
        strides: strides.to_vec(),
    }
}

/// oneDNN reads a bias without looking at its stride.
#[test]
fn a_layer_whose_bias_is_one_number_expanded_adds_that_number() {
    let weight: Vec<f32> = (0..64 * 64).map(|i| (i % 13) as f32 / 13.0).collect();
    let views = [floats("weight", &weight, 0, &[64, 64], &[1, 64]), floats("bias", &[0.25], 0, &[64], &[0])];
    let x = Tensor::arange(3 * 64, (Kind::Float, Device::Cpu)).view([3, 64]) / 100.0;
    let expected = x.matmul(&Tensor::from_slice(&weight).view([64, 64])) + 0.25;
    for bytes in [legacy(&views), zip(&views)] {
        let weights = open(&bytes).unwrap().weights(Device::Cpu, Kind::Float);
        for layer in [Linear::new(&weights, 64, 64).unwrap(), Linear::new(&weights, 64, 64).unwrap().packed()] {
            let apart = (layer.forward(&x) - &expected).abs().max().double_value(&[]);
            // Sums in another order.
            assert!(apart < 1e-4, "{apart}");
        }
    }
}

#[test]
fn a_view_that_repeats_its_storage_without_measure_is_refused_before_it_is_made() {
    for (shape, strides) in
        [(vec![1 << 33], vec![0]), (vec![1 << 20, 1 << 20], vec![0, 0]), (vec![1 << 16, 1 << 14], vec![1, 0])]
    {
        let view = floats("layer.weight", &vec![1.0; 1 << 16], 0, &shape, &strides);
        for bytes in [legacy(std::slice::from_ref(&view)), zip(std::slice::from_ref(&view))] {
            let error = format!("{:#}", open(&bytes).unwrap_err());
            assert!(error.contains("pytorch_model.bin: tensor layer.weight: its strides repeat"), "{error}");
        }
    }
    // Many of them are as much as a large one.
    let views: Vec<View> = (0..70).map(|i| floats(&i.to_string(), &[1.0], 0, &[1 << 20], &[0])).collect();
    assert!(format!("{:#}", open(&zip(&views)).unwrap_err()).contains("its strides repeat"));
    // Constants of the size of real layers are not.
    assert_eq!(open(&zip(&views[..60])).unwrap().names().count(), 60);
}

#[test]
fn members_of_an_archive_do_not_overlap() {
    let views = [floats("a", &[1.0; 50], 0, &[50], &[1]), floats("b", &[2.0; 50], 0, &[50], &[1])];
    assert_eq!(open(&zip(&views)).unwrap().names().count(), 2);
    let error = format!("{:#}", open(&overlapping(&views)).unwrap_err());
    assert!(error.contains("its members overlap"), "{error}");
}

#[test]
fn trainers_checkpoints_are_read() {
    let bytes = std::fs::read(golden("lightning.expected")).unwrap();
    let expected = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let wanted: BTreeMap<String, Vec<u8>> =
        expected.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    for package in ["pytorch_lightning", "lightning", "lightning_fabric"] {
        let checkpoint = Checkpoint::open(&[golden(&format!("{package}.pt"))]).unwrap();
        let read = |name: &str| bytes_of(&checkpoint.read(name, Device::Cpu, Kind::Float).unwrap());
        let found: BTreeMap<String, Vec<u8>> = checkpoint.names().map(|name| (name.to_string(), read(name))).collect();
        assert_eq!(found, wanted, "{package}");
    }
}

#[test]
fn what_would_be_read_wrong_is_refused() {
    for (name, said) in [
        ("complex.pt", "torch.ComplexFloatStorage is not a storage of numbers that these models use"),
        ("negated.pt", "a tensor that is stored negated or conjugated: save it again after resolve_neg()"),
        ("torchscript.pt", "a TorchScript archive: save the weights alone"),
    ] {
        let error = format!("{:#}", Checkpoint::open(&[golden(name)]).unwrap_err());
        assert!(error.contains(name) && error.contains(said), "{error}");
    }
}
