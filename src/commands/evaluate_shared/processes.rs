//! Worker processes look at the pictures; this one scores. A crash costs a batch.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use tch::Device;

use super::made::{Made, Table};
use super::networks::Networks;
use super::task::{Batch, Look, Seen};
use super::waiting::Waiting;
use crate::images;
use crate::metrics::image::pictures::Square;
use crate::runtime::{Background, Runtime, RuntimeOptions, choose_tf32, device_named, log_moment};
use crate::workers::{Crew, Desk, Ledger, Stage};

/// So many batches are laid out for a device while it computes one: each takes memory that cannot be swapped out.
const LAID_OUT: usize = 2;

/// Has workers look at all sets. `whole` hears of each set, on this device, when the last of it has come.
pub fn look(
    crew: &mut Crew,
    look: &Look,
    batches: &[Batch],
    device: Device,
    whole: &mut dyn FnMut(usize, Seen) -> Result<()>,
) -> Result<()> {
    let table = Table::new(look.sets.iter().map(|set| set.len()));
    let left = (0..look.sets.len()).map(|set| batches.iter().filter(|batch| batch.set == set).count()).collect();
    let mut ledger = Incoming { stage: Measure::new(look, None), table, left, device, whole };
    crew.pass(&mut ledger, batches, None, |_| ())
}

/// Looks, as a worker, at what the command asks for. Takes orders before its device is ready.
pub fn serve(look: Look, options: RuntimeOptions, loading: Option<Background>, desk: &mut Desk) -> Result<()> {
    choose_tf32(look.tf32);
    desk.is_on(device_named(&options.device));
    let stage = Measure { loading: Cell::new(loading), ..Measure::new(&look, Some(options)) };
    while desk.stage().is_some() {
        desk.run(&stage)?;
    }
    Ok(())
}

type Ready = Rc<RefCell<Waiting>>;

struct Measure<'a> {
    look: &'a Look,
    /// None in the parent.
    options: Option<RuntimeOptions>,
    /// What loads the device in the background.
    loading: Cell<Option<Background>>,
    networks: OnceCell<Networks>,
    /// Batches that are not laid out, with the pictures in their sets.
    prepared: RefCell<VecDeque<(Ready, usize)>>,
}

impl<'a> Measure<'a> {
    fn new(look: &'a Look, options: Option<RuntimeOptions>) -> Self {
        Self { look, options, loading: Cell::new(None), networks: OnceCell::new(), prepared: RefCell::default() }
    }

    /// The device and number type of this worker, whether they are ready or not.
    fn place(&self) -> Result<Runtime> {
        let options = self.options.as_ref().context("the parent measures nothing")?;
        Ok(Runtime { device: device_named(&options.device), dtype: options.dtype, offline: options.offline })
    }

    /// Lays out the next batches for the device, which must be ready.
    fn lay_out(&self, count: usize, rt: &Runtime) {
        for _ in 0..count {
            let Some((ready, set)) = self.prepared.borrow_mut().pop_front() else { return };
            ready.borrow_mut().lay_out((self.look, &self.look.sets[set]), rt, self.networks.get());
        }
    }
}

impl Stage for Measure<'_> {
    const LABEL: &'static str = "measuring";
    /// So many are decoded while CUDA is loaded.
    const DEPTH: usize = 7;
    const IS_DEFERRED: bool = true;
    type Batch = Batch;
    type Ready = Result<Ready>;
    type Model = ();
    type Made = Made;

    /// All networks together.
    fn model(&self, _batch: &Batch) -> String {
        String::new()
    }

    fn load(&self, _name: &str) -> Result<()> {
        if self.networks.get().is_some() {
            return Ok(());
        }
        // One thread after the other makes the device its own.
        drop(self.loading.take());
        let rt = Runtime::new(self.options.clone().context("the parent measures nothing")?)?;
        log_moment("the device is ready");
        if self.look.nets.sees().is_none() {
            self.lay_out(1, &rt);
        }
        let _ = self.networks.set(Networks::load(&self.look.nets, &rt, "")?);
        self.lay_out(LAID_OUT, &rt);
        Ok(())
    }

    /// Decodes, and lays out for the device where that is ready.
    fn prepare(&self, batch: &Batch) -> Result<Ready> {
        let for_gpu = self.place()?.device.is_cuda();
        let ready = Rc::new(RefCell::new(Waiting::start(self.look, batch, for_gpu)));
        if let Some(networks) = self.networks.get() {
            ready.borrow_mut().decode(networks);
        }
        self.prepared.borrow_mut().push_back((ready.clone(), batch.set));
        Ok(ready)
    }

    fn work(&self, batch: &Batch, ready: Result<Ready>, (): &()) -> Result<Made> {
        let networks = self.networks.get().context("no network is loaded")?;
        let (set, rt) = (&self.look.sets[batch.set], self.place()?);
        let ready = ready?;
        while self.prepared.borrow().iter().any(|(other, _)| Rc::ptr_eq(other, &ready)) {
            self.lay_out(1, &rt);
        }
        let pictures = std::mem::replace(&mut *ready.borrow_mut(), Waiting::Nothing);
        let texts = set.texts.get(batch.places.clone()).unwrap_or_default();
        let mut made = Made::fetched(networks.measure(set, texts, pictures.laid_out())?, rt.device)?;
        self.lay_out(1, &rt);
        made.without_face = set.square.as_ref().map_or(0, Square::take_without_face);
        Ok(made)
    }

    fn lost(&self, batch: &Batch, reason: &str) -> Result<Made> {
        let set = &self.look.sets[batch.set];
        let name = |at: usize| match set.files.0.get(at) {
            Some(file) => images::path_text(file),
            None => format!("text {at}"),
        };
        let (first, last) = (batch.places.start, batch.places.end.saturating_sub(1));
        bail!("the pictures from {} to {} cannot be measured: {reason}", name(first), name(last))
    }
}

/// What has come of each set.
struct Incoming<'a> {
    stage: Measure<'a>,
    table: Table,
    /// Batches of each set that are still to come.
    left: Vec<usize>,
    device: Device,
    whole: &'a mut dyn FnMut(usize, Seen) -> Result<()>,
}

impl<'a> Ledger for Incoming<'a> {
    type Stage = Measure<'a>;

    fn stage(&self) -> &Measure<'a> {
        &self.stage
    }

    fn record(&mut self, batch: &Batch, made: Made) -> Result<usize> {
        let set = batch.set;
        if let Some(square) = &self.stage.look.sets[set].square {
            square.add_without_face(made.without_face);
        }
        self.table.put(set, batch.places.start, made);
        self.left[set] -= 1;
        if self.left[set] == 0 {
            (self.whole)(set, self.table.seen(set, self.device)?)?;
        }
        Ok(batch.places.len())
    }
}
