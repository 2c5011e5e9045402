//! The worker's side: orders come in, what they came to goes out.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::message::{Order, Reply, read, write};
use super::stage::{Loaded, Packed, Parcel, Stage};
use crate::error::{UsageError, usage};
use crate::runtime::{free_memory, ignore_interrupts, note_stage, one_line};

/// A worker's place: what it is told and what it answers.
pub struct Desk {
    task: Value,
    orders: Receiver<Order>,
    /// An order that was taken and belongs to another stage.
    next: Option<Order>,
    parent: UnixStream,
    device: Device,
    is_ready: bool,
}

impl Desk {
    /// Takes the task from the parent. From now on the process ends at once when the parent does.
    pub fn open() -> Result<Self> {
        let alone = || usage("worker is a part of other commands (--device cuda:all), which start it themselves");
        let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let parent = stream.try_clone()?;
        let mut from = BufReader::new(stream);
        let task = read(&mut from).ok().flatten().ok_or_else(alone)?;
        ignore_interrupts();
        let (sender, orders) = channel();
        std::thread::spawn(move || listen(from, |order| sender.send(order).is_ok()));
        Ok(Self { task, orders, next: None, parent, device: Device::Cpu, is_ready: false })
    }

    /// A part of the task.
    pub fn task<T: DeserializeOwned>(&self, key: &str) -> Option<Result<T>> {
        let task = self.task.get(key)?.clone();
        Some(serde_json::from_value(task).context("the task of a worker is damaged"))
    }

    /// Where this worker computes.
    pub fn is_on(&mut self, device: Device) {
        self.device = device;
    }

    /// The stage of the next order; says that one can come, and waits for it. None when there will be none.
    pub fn stage(&mut self) -> Option<String> {
        if !std::mem::replace(&mut self.is_ready, true) {
            self.say(&Reply::Ready, &[]).ok()?;
        }
        if self.next.is_none() {
            self.next = self.orders.recv().ok();
        }
        self.next.as_ref().map(|order| order.stage().to_string())
    }

    /// Does the orders of this stage, until one of another comes.
    pub fn run<S: Stage>(&mut self, stage: &S) -> Result<()> {
        let (mut waiting, mut loaded) = (VecDeque::new(), Loaded::default());
        // What the device was asked for and is not told yet.
        let mut asked: Option<(usize, S::Made)> = None;
        loop {
            while let Some(order) = self.take(S::LABEL, waiting.is_empty() && asked.is_none()) {
                match order {
                    Order::Batch { at, batch, .. } => {
                        let batch: S::Batch = serde_json::from_value(batch).context("an order is damaged")?;
                        let ready = stage.prepare(&batch);
                        waiting.push_back((at, batch, ready));
                    }
                    Order::Load { model, .. } => {
                        loaded.get(stage, &model)?;
                        self.say(&Reply::Loaded { free: free_memory(self.device) }, &[])?;
                    }
                }
            }
            let next = waiting.pop_front();
            let is_last = next.is_none();
            let made = match next {
                Some((at, batch, ready)) => {
                    note_stage(S::LABEL);
                    let model = loaded.get(stage, &stage.model(&batch))?;
                    Some((at, stage.work(&batch, ready, model)))
                }
                None => None,
            };
            let before = asked.take();
            if is_last && before.is_none() {
                break;
            }
            if let Some((at, made)) = before {
                self.answer::<S>(at, Ok(made))?;
            }
            match made {
                Some((at, Ok(made))) if S::IS_DEFERRED => asked = Some((at, made)),
                Some((at, made)) => self.answer::<S>(at, made)?,
                None => {}
            }
        }
        loaded.forget();
        Ok(())
    }

    /// Tells what a batch came to.
    fn answer<S: Stage>(&mut self, at: usize, made: Result<S::Made>) -> Result<()> {
        match made.and_then(Parcel::pack) {
            Ok(Packed { value, blobs }) => {
                if !S::IS_DEFERRED {
                    // The other has waited for the device, and this would wait for the next batch.
                    self.check_device();
                }
                let lengths = blobs.iter().map(Vec::len).collect();
                self.say(&Reply::Made { at, value, blobs: lengths }, &blobs)
            }
            Err(error) => {
                self.check_device();
                let (error, usage) = told(&error);
                self.say(&Reply::Failed { error, usage }, &[])
            }
        }
    }

    /// The next order of a stage; one of another stays for later.
    fn take(&mut self, stage: &str, wait: bool) -> Option<Order> {
        if self.next.is_none() {
            self.next = if wait { self.orders.recv().ok() } else { self.orders.try_recv().ok() };
        }
        self.next.take_if(|order| order.stage() == stage)
    }

    /// Tells the parent why this worker ends, where it is not the end of the work.
    pub fn close(mut self, ended: Result<()>) -> Result<()> {
        if let Err(error) = &ended {
            let (error, usage) = told(error);
            self.say(&Reply::Unable { error, usage }, &[])?;
        }
        Ok(())
    }

    /// After some errors a GPU does nothing more for this process, and failures that it is to blame for would be taken
    /// for those of pictures: the process ends with a panic, and another does the batch again.
    fn check_device(&self) {
        if self.device.is_cuda() {
            drop(Tensor::ones([1], (Kind::Float, self.device)).to_device(Device::Cpu));
        }
    }

    fn say(&mut self, reply: &Reply, blobs: &[Vec<u8>]) -> Result<()> {
        write(&mut self.parent, reply, blobs).context("the parent of a worker does not listen")
    }
}

fn told(error: &anyhow::Error) -> (String, bool) {
    (one_line(error), error.is::<UsageError>())
}

/// Hears orders, and ends the process where the parent is gone: whatever is being computed, nobody waits for it.
fn listen(mut from: impl BufRead, mut hear: impl FnMut(Order) -> bool) {
    while let Ok(Some(order)) = read(&mut from) {
        if !hear(order) {
            return;
        }
    }
    // SAFETY: ends the process at once; nothing of it is to be kept.
    unsafe { libc::_exit(0) }
}
