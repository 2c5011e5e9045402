//! How weights get to a device: the ring of buffers, with a target on the CPU that makes every copy as
//! late as it may, and, where there is one, a GPU.

use crate::gpu;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Result;
use proptest::prelude::*;
use tch::{Cuda, Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;
use toolkit::checkpoints::staging::{Read, Staging, Target};

/// Copies that nobody has waited for are not made: what is overwritten too early arrives wrong.
#[derive(Default)]
struct Late {
    asked: RefCell<VecDeque<(*const u8, *mut u8, usize)>>,
    made: Cell<usize>,
    buffers: Rc<Cell<usize>>,
}

impl Target for Late {
    type Buffer = Vec<u8>;
    type Mark = usize;

    fn buffer(&self, bytes: usize) -> Result<Vec<u8>> {
        self.buffers.set(self.buffers.get() + 1);
        Ok(vec![0xee; bytes])
    }

    unsafe fn hold(&self, _word: *const AtomicU32) -> bool {
        false
    }

    unsafe fn copy(&self, from: *const u8, to: *mut u8, length: usize) -> Result<()> {
        self.asked.borrow_mut().push_back((from, to, length));
        Ok(())
    }

    fn mark(&self) -> Result<usize> {
        Ok(self.made.get() + self.asked.borrow().len())
    }

    fn wait(&self, mark: usize) -> Result<()> {
        while self.made.get() < mark {
            let (from, to, count) = self.asked.borrow_mut().pop_front().unwrap();
            // SAFETY: as the caller of `copy` promised.
            unsafe { std::ptr::copy_nonoverlapping(from, to, count) };
            self.made.set(self.made.get() + 1);
        }
        Ok(())
    }
}

/// Copies that are made at once, so that libtorch can work on what was sent.
struct AtOnce;

impl Target for AtOnce {
    type Buffer = Vec<u8>;
    type Mark = ();

    fn buffer(&self, bytes: usize) -> Result<Vec<u8>> {
        Ok(vec![0; bytes])
    }

    unsafe fn hold(&self, _word: *const AtomicU32) -> bool {
        false
    }

    unsafe fn copy(&self, from: *const u8, to: *mut u8, length: usize) -> Result<()> {
        // SAFETY: as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(from, to, length) };
        Ok(())
    }

    fn mark(&self) -> Result<()> {
        Ok(())
    }

    fn wait(&self, (): ()) -> Result<()> {
        Ok(())
    }
}

/// A device as a GPU is one: it does what it is asked for one after the other, and waits by itself for what is read.
struct OwnPace {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Hold(*const AtomicU32),
    Copy(*const u8, *mut u8, usize),
    Mark(Sender<()>),
}

// SAFETY: what the addresses are of outlives the order, as the ring promises; that is what is tested.
unsafe impl Send for Order {}

impl OwnPace {
    fn new() -> Self {
        let (orders, received) = channel();
        let work = move || {
            for order in received {
                match order {
                    Order::Hold(word) => {
                        // SAFETY: as of `Order`.
                        while unsafe { (*word).load(Ordering::Acquire) } != 1 {
                            std::thread::yield_now();
                        }
                    }
                    // SAFETY: as of `Order`.
                    Order::Copy(from, to, length) => unsafe { std::ptr::copy_nonoverlapping(from, to, length) },
                    Order::Mark(reached) => drop(reached.send(())),
                }
            }
        };
        Self { orders: Some(orders), thread: Some(std::thread::spawn(work)) }
    }

    fn ask(&self, order: Order) {
        self.orders.as_ref().unwrap().send(order).unwrap();
    }
}

impl Drop for OwnPace {
    fn drop(&mut self) {
        self.orders.take();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Target for OwnPace {
    type Buffer = Vec<u8>;
    type Mark = Receiver<()>;

    fn buffer(&self, bytes: usize) -> Result<Vec<u8>> {
        Ok(vec![0xee; bytes])
    }

    unsafe fn hold(&self, word: *const AtomicU32) -> bool {
        self.ask(Order::Hold(word));
        true
    }

    unsafe fn copy(&self, from: *const u8, to: *mut u8, length: usize) -> Result<()> {
        self.ask(Order::Copy(from, to, length));
        Ok(())
    }

    fn mark(&self) -> Result<Receiver<()>> {
        let (reached, mark) = channel();
        self.ask(Order::Mark(reached));
        Ok(mark)
    }

    fn wait(&self, mark: Receiver<()>) -> Result<()> {
        Ok(mark.recv()?)
    }
}

/// Bytes that are nowhere alike.
fn noise(count: usize) -> Vec<u8> {
    (0..count as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Sends pieces of these lengths one after the other; what they were, and what has arrived.
fn sent_to<T: Target>(target: T, lengths: &[usize], size: usize, most: usize) -> (Vec<u8>, Vec<u8>) {
    let source = Arc::new(noise(lengths.iter().sum()));
    let mut arrived = vec![0; source.len()];
    let mut staging = Staging::new(target, size, most);
    let (mut at, to, mut all) = (0, arrived.as_mut_ptr(), Vec::new());
    for &length in lengths {
        let (source, start) = (source.clone(), at);
        let read: Read = Arc::new(move |offset, place| {
            place.copy_from_slice(&source[start + offset..][..place.len()]);
            Ok(())
        });
        // SAFETY: `arrived` is as long as all pieces, and outlives the ring.
        all.push(unsafe { staging.send(to.add(at), length, &read).unwrap() });
        at += length;
    }
    all.into_iter().for_each(|sent| sent.read().unwrap());
    drop(staging);
    (source.to_vec(), arrived)
}

/// The same to a target that makes copies late, and how many buffers it took.
fn sent(lengths: &[usize], size: usize, most: usize) -> (Vec<u8>, Vec<u8>, usize) {
    let late = Late::default();
    let buffers = late.buffers.clone();
    let (source, arrived) = sent_to(late, lengths, size, most);
    (source, arrived, buffers.get())
}

proptest! {
    #[test]
    fn everything_arrives_whatever_the_sizes(
        lengths in prop::collection::vec(prop_oneof![0..3usize, 250..260usize, 0..5000usize], 0..40),
        size in prop_oneof![1..600usize, Just(1024), Just(4096)],
        most in 1..5usize,
    ) {
        let (source, arrived, buffers) = sent(&lengths, size, most);
        prop_assert!(source == arrived);
        prop_assert!(buffers <= most);
    }
}

#[test]
fn large_tensors_are_read_by_many_threads() {
    let mebibyte = 1 << 20;
    let (source, arrived, buffers) = sent(&[5, 7 * mebibyte + 3, 1, 4 * mebibyte], 3 * mebibyte + 77, 2);
    assert!(source == arrived);
    assert_eq!(buffers, 2);
    let (source, arrived, buffers) = sent(&[4000; 100], 16 * mebibyte, 4);
    assert!(source == arrived);
    assert_eq!(buffers, 1, "small tensors share a buffer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_device_that_waits_by_itself_finds_everything(
        lengths in prop::collection::vec(prop_oneof![0..100usize, 60_000..70_000usize, 0..3_000_000usize], 0..12),
        size in prop_oneof![1_000..70_000usize, 300_000..1_500_000usize],
        most in 1..4usize,
    ) {
        let (source, arrived) = sent_to(OwnPace::new(), &lengths, size, most);
        prop_assert!(source == arrived);
    }
}

/// Whoever asks goes on while nothing is read yet, until all buffers are taken.
#[test]
fn nobody_waits_for_what_is_read() {
    let (open, closed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let wait = open.clone();
    let read: Read = Arc::new(move |_, place| {
        wait.wait();
        place.fill(7);
        Ok(())
    });
    let mut arrived = vec![0; 300_000];
    let mut staging = Staging::new(OwnPace::new(), 1 << 20, 2);
    // SAFETY: `arrived` has room and outlives the ring.
    let sent = unsafe { staging.send(arrived.as_mut_ptr(), 300_000, &read).unwrap() };
    let gate = closed.clone();
    let waiting = std::thread::spawn(move || {
        let outcome = sent.read();
        gate.wait();
        outcome
    });
    open.wait();
    closed.wait();
    waiting.join().unwrap().unwrap();
    drop(staging);
    assert!(arrived.iter().all(|byte| *byte == 7));
}

fn goes_on_after_what_cannot_be_read<T: Target>(target: T) {
    let mut staging = Staging::new(target, 3 << 20, 2);
    let mut arrived = vec![0; 5 << 20];
    let to = arrived.as_mut_ptr();
    let broken: Read = Arc::new(|offset, _| if offset > 0 { Err(io::Error::other("gone")) } else { Ok(()) });
    // SAFETY: `arrived` has room and outlives the ring.
    let error = unsafe { staging.send(to, 5 << 20, &broken) }.unwrap().read().unwrap_err();
    assert_eq!(error.to_string(), "gone");
    let lost: Read = Arc::new(|_, _| Err(io::Error::other("lost")));
    // SAFETY: as above. So few bytes are read at once.
    let error = unsafe { staging.send(to, 1000, &lost) };
    assert_eq!(error.err().unwrap().to_string(), "lost");
    let ones: Read = Arc::new(|_, place| {
        place.fill(1);
        Ok(())
    });
    // SAFETY: as above.
    unsafe { staging.send(to, 5 << 20, &ones) }.unwrap().read().unwrap();
    drop(staging);
    assert!(arrived.iter().all(|byte| *byte == 1));
}

#[test]
fn what_cannot_be_read_is_an_error_and_the_ring_goes_on() {
    goes_on_after_what_cannot_be_read(Late::default());
    goes_on_after_what_cannot_be_read(OwnPace::new());
}

fn golden(name: &str) -> PathBuf {
    gpu::root().join("tests/golden/checkpoints").join(name)
}

/// Tensors of odd sizes, strided, empty, of every number type, in every container.
fn containers() -> Vec<PathBuf> {
    let names = ["kinds", "state_dict", "trained", "nested", "views"];
    names.iter().flat_map(|name| ["zip", "legacy"].map(|end| golden(&format!("{name}.{end}.pt")))).collect()
}

/// The same numbers, NaN and all.
fn assert_same(ours: &Tensor, theirs: &Tensor, what: &str) {
    assert_eq!((ours.kind(), ours.size()), (theirs.kind(), theirs.size()), "{what}");
    let bytes = |x: &Tensor| {
        let flat = x.to_device(Device::Cpu).contiguous().flatten(0, -1);
        if flat.numel() == 0 { Vec::new() } else { Vec::<u8>::try_from(flat.view_dtype(Kind::Uint8)).unwrap() }
    };
    assert_eq!(bytes(ours), bytes(theirs), "{what}");
}

#[test]
fn staged_checkpoints_hold_what_mapped_ones_hold() {
    for file in containers() {
        let checkpoint = Checkpoint::open(&[&file]).unwrap();
        let mut late = Staging::new(Late::default(), 100, 3);
        let mut at_once = Staging::new(AtOnce, 1000, 2);
        let mut stored = Vec::new();
        for name in checkpoint.names() {
            let kind = checkpoint.entry(name).unwrap().kind;
            // What is laid out anew is read again, which a GPU does after its copies.
            if checkpoint.entry(name).unwrap().strides.is_none() {
                stored.push((name, kind, checkpoint.read_staged(name, Device::Cpu, kind, &mut late).unwrap()));
            }
            let kept = checkpoint.read_staged(name, Device::Cpu, kind, &mut at_once).unwrap();
            assert_same(&kept, &checkpoint.read(name, Device::Cpu, kind).unwrap(), name);
            let cast = checkpoint.read_staged(name, Device::Cpu, Kind::Float, &mut at_once).unwrap();
            assert_same(&cast, &checkpoint.read(name, Device::Cpu, Kind::Float).unwrap(), name);
        }
        // Whatever is still on its way arrives.
        drop(late);
        for (name, kind, tensor) in stored {
            assert_same(&tensor, &checkpoint.read(name, Device::Cpu, kind).unwrap(), name);
        }
    }
}

#[test]
fn a_file_that_was_cut_meanwhile_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.safetensors");
    let x = Tensor::arange(100_000, (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("x", x)], &file).unwrap();
    let checkpoint = Checkpoint::open(&[&file]).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(1000).unwrap();
    let mut staging = Staging::new(AtOnce, 1 << 20, 1);
    let error = checkpoint.read_staged("x", Device::Cpu, Kind::Float, &mut staging).unwrap_err();
    let line = toolkit::runtime::one_line(&error);
    assert!(line.contains("a.safetensors: reading tensor x: the file ends before it"), "{line}");
}

#[test]
fn weights_on_a_gpu_are_those_of_the_file() {
    let Some(device) = gpu::gpu() else { return };
    for file in containers() {
        let checkpoint = Checkpoint::open(&[&file]).unwrap();
        for name in checkpoint.names() {
            let kind = checkpoint.entry(name).unwrap().kind;
            let there = checkpoint.read(name, device, kind).unwrap();
            assert_same(&there, &checkpoint.read(name, Device::Cpu, kind).unwrap(), name);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    speed(folder.path(), device);
}

#[test]
fn a_gpu_finds_weights_that_are_not_finite() {
    let Some(device) = gpu::gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.safetensors");
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let x = Tensor::randn([300, 70], (Kind::Float, Device::Cpu)).to_kind(kind);
            let bad = x.copy();
            let _ = bad.get(299).get(3).fill_(wrong);
            Tensor::write_safetensors(&[("good", &x), ("wrong", &bad)], &file).unwrap();
            let build = |names: &[&str]| {
                let weights = Checkpoint::open(&[&file]).unwrap().weights(device, kind);
                weights.build(|weights| {
                    weights.at("wrong").ignore();
                    names.iter().try_for_each(|name| weights.get(name, &[300, 70]).map(drop))
                })
            };
            build(&["good"]).unwrap();
            let error = build(&["good", "wrong"]).unwrap_err().to_string();
            assert!(error.contains("tensor wrong holds NaN or infinity"), "{kind:?} {wrong}: {error}");
        }
    }
}

/// 4 GiB in tensors as large as those of transformers, from the memory of the file system.
fn speed(folder: &Path, device: Device) {
    let (file, count) = (folder.join("large.safetensors"), 64);
    let names: Vec<String> = (0..count).map(|i| i.to_string()).collect();
    let draw = || Tensor::randn([4096, 8192], (Kind::BFloat16, Device::Cpu));
    let tensors: Vec<(&str, Tensor)> = names.iter().map(|name| (name.as_str(), draw())).collect();
    Tensor::write_safetensors(&tensors, &file).unwrap();
    for (name, tensor) in &tensors {
        let checkpoint = Checkpoint::open(&[&file]).unwrap();
        assert_same(&checkpoint.read(name, device, Kind::BFloat16).unwrap(), tensor, name);
    }
    let checkpoint = Checkpoint::open(&[&file]).unwrap();
    Cuda::synchronize(0);
    let start = Instant::now();
    let there: Vec<Tensor> = names.iter().map(|name| checkpoint.read(name, device, Kind::BFloat16).unwrap()).collect();
    Cuda::synchronize(0);
    let bytes = there.iter().map(|x| x.numel() * 2).sum::<usize>() as f64;
    println!("{:.1} GB/s to the GPU", bytes / start.elapsed().as_secs_f64() / 1e9);
}
