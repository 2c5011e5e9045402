//! What tests on a GPU share. They run one at a time: whether custom kernels are used is one switch for the
//! whole process.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use tch::{Device, Kind, Tensor};
use toolkit::runtime::{DtypeChoice, Runtime, RuntimeOptions, load_cuda};

/// Numbers of 16 bits are rounded to these parts of themselves.
const PRECISION: [(Kind, f64); 2] = [(Kind::Half, 1e-3), (Kind::BFloat16, 8e-3)];

/// The GPU, for this test alone until its thread ends; None where there is none. `TOOLKIT_TEST_GPU=1` takes the second
/// one, while the current device of the thread stays the first.
pub fn gpu() -> Option<Device> {
    static ALONE: Mutex<()> = Mutex::new(());
    thread_local!(static MINE: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) });
    load_cuda();
    let index = std::env::var("TOOLKIT_TEST_GPU").map_or(0, |index| index.parse().unwrap());
    if tch::Cuda::device_count() <= index as i64 {
        println!("no GPU here: not compared");
        return None;
    }
    MINE.with_borrow_mut(|mine| {
        mine.get_or_insert_with(|| ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    });
    // As every command begins: it settles what libtorch would decide otherwise. On a thread of its own, for it changes the
    // current device.
    let name = format!("cuda:{index}");
    let options =
        RuntimeOptions { device: name, dtype: DtypeChoice::Auto, threads: None, memory_limit: None, offline: true };
    let rt = std::thread::spawn(move || Runtime::new(options)).join().unwrap().unwrap();
    Some(rt.device)
}

/// Where the checkpoints are found when the test binary was carried to another machine.
pub fn root() -> PathBuf {
    std::env::var_os("TOOLKIT_HOME").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf(), PathBuf::from)
}

/// The program with these arguments: `TOOLKIT_BIN`, where it was carried to another machine with the tests.
pub fn toolkit(arguments: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = match std::env::var_os("TOOLKIT_BIN") {
        Some(program) => assert_cmd::Command::new(program),
        None => assert_cmd::Command::cargo_bin("toolkit").unwrap(),
    };
    command.arg("--offline").args(arguments).assert()
}

/// Whether a case of so many numbers is computed: each one, but under `TOOLKIT_TEST_SMALL=1` only small ones, for tools
/// under which a kernel takes a thousand times as long (scripts/sanitize).
pub fn is_affordable(numbers: i64) -> bool {
    std::env::var_os("TOOLKIT_TEST_SMALL").is_none() || numbers <= 1_000_000
}

pub fn random(shape: &[i64], kind: Kind, device: Device) -> Tensor {
    Tensor::randn(shape, (Kind::Float, device)).to_kind(kind)
}

pub fn wide(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float)
}

/// ‖ours − theirs‖ / ‖theirs‖
pub fn apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    (&ours - &theirs).norm().double_value(&[]) / theirs.norm().double_value(&[])
}

/// Compares in both number types what `ours` gives with what `theirs` gives of the same numbers.
pub fn compare(name: &str, device: Device, case: impl Fn(Kind, Device) -> (Tensor, Tensor)) {
    for (kind, precision) in PRECISION {
        let (ours, theirs) = case(kind, device);
        let difference = apart(&ours, &theirs);
        println!("{name} {kind:?}: {difference:.1e}");
        assert!(difference < precision, "{name} {kind:?}: {difference:.1e}");
    }
}
