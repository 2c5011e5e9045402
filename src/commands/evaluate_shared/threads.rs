//! One process looks at the pictures, with a thread for each device: CUDA is loaded once for all of them, and what they
//! find need not go between processes. A GPU that fails leaves its batches to the others; a crash ends the command.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};

use anyhow::{Context, Error, Result};
use tch::{Device, Kind, Tensor};

use super::made::{Made, Table};
use super::networks::Networks;
use super::task::{Batch, Look, Seen};
use super::waiting::Waiting;
use crate::metrics::image::{frechet, lpips};
use crate::runtime::{Runtime, RuntimeOptions, catch_panics, log_moment, one_line};

/// Batches that are decoded, or being decoded, while a device computes one.
const AHEAD: usize = 7;
const AHEAD_ON_CPU: usize = 3;
/// Batches that are laid out for a device while it computes one.
const LAID_OUT: usize = 2;
/// As much as the first thread of a program has.
const STACK: usize = 8 << 20;

/// The batches of all devices: one queue, from which each takes what it is ready for.
struct Counter<'a> {
    look: &'a Look,
    batches: &'a [Batch],
    for_gpu: bool,
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    /// Batches that nobody has and that are not begun.
    upcoming: VecDeque<usize>,
    /// Those that are being decoded.
    prepared: VecDeque<(usize, Waiting)>,
    /// Batches that are not done.
    left: usize,
    /// Devices that can work.
    able: usize,
    /// Why nothing more is to be done.
    failed: Option<Error>,
}

/// What a device has made of a batch.
type Done = (usize, Made);

/// Looks at all sets. `whole` hears of each, on the first device, when the last of it has come.
pub fn look(
    devices: &[RuntimeOptions],
    (look, batches, for_gpu): (&Look, &[Batch], bool),
    whole: &mut dyn FnMut(usize, Seen) -> Result<()>,
) -> Result<Runtime> {
    let queue = Queue {
        upcoming: (0..batches.len()).collect(),
        prepared: VecDeque::new(),
        left: batches.len(),
        able: devices.len(),
        failed: None,
    };
    let counter = Counter { look, batches, for_gpu, queue: Mutex::new(queue), changed: Condvar::new() };
    counter.prepare(&mut counter.queue());
    let first = std::thread::scope(|scope| {
        let (sender, done) = channel();
        for (at, options) in devices.iter().enumerate() {
            let name = if devices.len() > 1 { format!("{}: ", options.device) } else { String::new() };
            if let Err(error) = counter.start(scope, options.clone(), (name, at == 0), sender.clone()) {
                counter.fail(error);
            }
        }
        drop(sender);
        let collected = catch_panics(|| {
            let first = Runtime::new(devices[0].clone())?;
            counter.collect(done, first.device, whole)?;
            Ok(first)
        });
        collected.map_err(|error| counter.fail(error)).ok()
    });
    let failed = counter.queue().failed.take();
    failed.map_or(Ok(()), Err)?;
    first.context("nothing was measured")
}

impl<'a> Counter<'a> {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to decode the next batches.
    fn prepare(&self, queue: &mut Queue) {
        let most = queue.able * if self.for_gpu { AHEAD } else { AHEAD_ON_CPU };
        while queue.prepared.len() < most
            && let Some(at) = queue.upcoming.pop_front()
        {
            queue.prepared.push_back((at, Waiting::start(self.look, &self.batches[at], self.for_gpu)));
        }
    }

    /// The next batch; none where there is none now. With `wait`, none means that all is done or nothing more is to be.
    fn take(&self, networks: Option<&Networks>, wait: bool) -> Option<(usize, Waiting)> {
        let mut queue = self.queue();
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if let Some(next) = queue.prepared.pop_front() {
                self.prepare(&mut queue);
                if let Some(networks) = networks {
                    queue.prepared.iter_mut().for_each(|(_, waiting)| waiting.decode(networks));
                }
                return Some(next);
            }
            // What another device cannot do may come back.
            if !wait || queue.left == 0 {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn count_done(&self) {
        let mut queue = self.queue();
        queue.left -= 1;
        if queue.left == 0 {
            self.changed.notify_all();
        }
    }

    /// Nothing more is to be done, whatever the reason is.
    fn fail(&self, error: Error) {
        self.queue().failed.get_or_insert(error);
        self.changed.notify_all();
    }

    /// A device can do nothing more: its batches go to the others.
    fn give_up(&self, name: &str, held: Vec<usize>, error: Error) {
        let mut queue = self.queue();
        queue.able -= 1;
        if queue.able == 0 {
            drop(queue);
            return self.fail(error);
        }
        tracing::warn!("{name}it is given up, the others go on: {}", one_line(&error));
        for at in held.into_iter().rev() {
            queue.prepared.push_front((at, Waiting::start(self.look, &self.batches[at], self.for_gpu)));
        }
        drop(queue);
        self.changed.notify_all();
    }

    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        options: RuntimeOptions,
        (name, is_first): (String, bool),
        done: Sender<Done>,
    ) -> Result<()> {
        let thread = options.device.clone();
        let work = move || {
            let mut hands = Hands { counter: self, name, is_first, done, ahead: VecDeque::new(), asked: None };
            if let Err(error) = catch_panics(|| hands.begin(options)) {
                let held = hands.asked.take().map(|(at, _)| at).into_iter();
                let held = held.chain(hands.ahead.drain(..).map(|(at, _)| at)).collect();
                self.give_up(&hands.name, held, error);
            }
        };
        Builder::new().name(thread).stack_size(STACK).spawn_scoped(scope, work)?;
        Ok(())
    }

    /// Puts together what the devices have made.
    fn collect(
        &self,
        done: Receiver<Done>,
        first: Device,
        whole: &mut dyn FnMut(usize, Seen) -> Result<()>,
    ) -> Result<()> {
        let sets = &self.look.sets;
        let mut table = Table::new(sets.iter().map(|set| set.len()));
        let mut left = vec![0; sets.len()];
        self.batches.iter().for_each(|batch| left[batch.set] += 1);
        for (at, made) in done {
            let Batch { set, places } = &self.batches[at];
            table.put(*set, places.start, made);
            left[*set] -= 1;
            if left[*set] == 0 {
                whole(*set, table.seen(*set, first)?)?;
            }
        }
        Ok(())
    }
}

/// What a device does.
struct Hands<'a> {
    counter: &'a Counter<'a>,
    /// What its messages begin with.
    name: String,
    is_first: bool,
    done: Sender<Done>,
    /// Batches that are laid out.
    ahead: VecDeque<(usize, Waiting)>,
    /// What the device was asked for and may not have finished.
    asked: Option<Done>,
}

impl Hands<'_> {
    fn begin(&mut self, options: RuntimeOptions) -> Result<()> {
        let rt = Runtime::new(options)?;
        log_moment(&format!("{}the device is ready", self.name));
        let nets = &self.counter.look.nets;
        if nets.sees().is_none() {
            // The first batch is laid out while the networks are loaded.
            self.lay_out(1, &rt, None);
        }
        let networks = Networks::load(nets, &rt, &self.name)?;
        // Loaded after what the first pictures wait for.
        let pairs = self.counter.look.later_pairs(self.counter.batches);
        let _of_pairs = pairs.and_then(|(count, size)| lpips::warm_up(rt.device, rt.kind(Kind::Float), count, size));
        let _solvers = (self.is_first && self.counter.look.solvers).then(|| frechet::warm_up(rt.device));
        self.work(&rt, &networks)
    }

    fn lay_out(&mut self, most: usize, rt: &Runtime, networks: Option<&Networks>) {
        while self.ahead.len() < most {
            let wait = self.ahead.is_empty() && self.asked.is_none();
            let Some((at, mut waiting)) = self.counter.take(networks, wait) else { return };
            let look = self.counter.look;
            waiting.lay_out((look, &look.sets[self.counter.batches[at].set]), rt, networks);
            self.ahead.push_back((at, waiting));
        }
    }

    /// Asks the device for one batch after the other, and for the next before one is finished.
    fn work(&mut self, rt: &Runtime, networks: &Networks) -> Result<()> {
        let mut is_first = true;
        loop {
            self.lay_out(LAID_OUT, rt, Some(networks));
            let before = self.asked.take();
            let Some((at, pictures)) = self.ahead.pop_front() else {
                match before {
                    Some(before) => self.tell(before, rt)?,
                    None => break,
                }
                continue;
            };
            match catch_panics(|| self.ask(at, pictures, (rt, networks))) {
                Ok(made) => self.asked = Some((at, made)),
                Err(error) if is_able(rt.device) => {
                    self.counter.fail(error);
                    return Ok(());
                }
                Err(error) => {
                    // All that it holds is for the others.
                    self.ahead.push_front((at, Waiting::Nothing));
                    self.asked = before;
                    return Err(error);
                }
            }
            if let Some(before) = before {
                self.tell(before, rt)?;
                if std::mem::take(&mut is_first) {
                    log_moment(&format!("{}the first batch is measured", self.name));
                }
            }
        }
        log_moment(&format!("{}nothing is left to measure", self.name));
        Ok(())
    }

    fn ask(&self, at: usize, pictures: Waiting, (rt, networks): (&Runtime, &Networks)) -> Result<Made> {
        let Batch { set, places } = &self.counter.batches[at];
        let set = &self.counter.look.sets[*set];
        let texts = set.texts.get(places.clone()).unwrap_or_default();
        let made = networks.measure(set, texts, pictures.laid_out())?;
        // The first device is where it is needed.
        if self.is_first { Made::asked(made, rt.device) } else { Made::fetched(made, rt.device) }
    }

    /// Waits for what a batch comes to.
    fn tell(&mut self, (at, mut made): Done, rt: &Runtime) -> Result<()> {
        if let Err(error) = made.wait() {
            if is_able(rt.device) {
                self.counter.fail(error);
                return Ok(());
            }
            self.ahead.push_front((at, Waiting::Nothing));
            return Err(error);
        }
        // Nobody listens where it has failed.
        let _ = self.done.send((at, made));
        self.counter.count_done();
        Ok(())
    }
}

/// Whether a device still computes: after some errors a GPU does nothing more for this process.
fn is_able(device: Device) -> bool {
    let work = || Ok(Tensor::f_ones([1], (Kind::Float, device))?.f_to_device(Device::Cpu).map(drop)?);
    !device.is_cuda() || catch_panics(work).is_ok()
}
