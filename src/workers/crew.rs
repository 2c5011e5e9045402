//! The parent's side: one queue, workers that take from it, and what is done when one is gone.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Result, anyhow, bail};
use serde::Serialize;
use serde_json::Value;

use super::message::{Order, Reply};
use super::process::{Event, Heard, Process, Team};
use super::stage::{Ledger, Packed, Parcel, Stage};
use crate::error::usage;

/// So many workers may be lost by one batch, and so often may a worker be lost without a batch done in between.
const PATIENCE: usize = 3;

/// What a worker that has nothing to do may load already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    pub stage: &'static str,
    pub model: String,
}

/// Workers over one task.
pub struct Crew {
    team: Team,
    task: Value,
    workers: Vec<Worker>,
    events: Receiver<Heard>,
    sender: Sender<Heard>,
    /// Processes started so far.
    started: u64,
    /// Why the first worker that was given up can do nothing.
    reason: Option<anyhow::Error>,
}

struct Worker {
    name: String,
    device: String,
    process: Option<Process>,
    /// A process that was started before there was a task.
    early: Option<Process>,
    /// The number of the process.
    number: u64,
    is_ready: bool,
    /// Batches of the pass that it has, by their places; the first is being computed.
    holds: VecDeque<usize>,
    /// How often it was lost since a batch was done.
    losses: usize,
    is_given_up: bool,
    /// Whether it has heard what may be loaded.
    is_told: bool,
}

impl Crew {
    /// Nothing is started before there is something to do.
    pub fn new(team: &Team, task: &impl Serialize) -> Result<Self> {
        let worker = |(at, device): (usize, &String)| Worker {
            name: format!("worker {} ({device})", at + 1),
            device: device.clone(),
            process: None,
            early: None,
            number: 0,
            is_ready: false,
            holds: VecDeque::new(),
            losses: 0,
            is_given_up: false,
            is_told: false,
        };
        let workers = team.devices.iter().enumerate().map(worker).collect();
        let (sender, events) = channel();
        let task = serde_json::to_value(task)?;
        Ok(Self { team: team.clone(), task, workers, events, sender, started: 0, reason: None })
    }

    /// Starts all workers before it is known what they will do; [`Self::give`] tells them.
    pub fn early(team: &Team) -> Result<Self> {
        let mut crew = Self::new(team, &Value::Null)?;
        for worker in &mut crew.workers {
            worker.early = Some(Process::spawn((team.command)(&worker.device), &worker.name)?);
        }
        Ok(crew)
    }

    /// The task of workers that were started without one.
    pub fn give(&mut self, task: &impl Serialize) -> Result<()> {
        self.task = serde_json::to_value(task)?;
        Ok(())
    }

    /// Ends all workers at once, and does not wait for them: giving a GPU back takes a moment.
    pub fn leave(mut self) {
        let processes = self.workers.iter_mut().flat_map(|worker| [worker.process.take(), worker.early.take()]);
        processes.flatten().for_each(Process::leave);
    }

    /// Whether these are the workers of such a team.
    pub fn is_of(&self, team: &Team) -> bool {
        self.team.devices == team.devices
    }

    /// Has the batches computed and records them as they come; `done` hears how many things are. `next` is what will be
    /// needed then.
    pub fn pass<L: Ledger>(
        &mut self,
        ledger: &mut L,
        batches: &[<L::Stage as Stage>::Batch],
        next: Option<&Hint>,
        mut done: impl FnMut(usize),
    ) -> Result<()> {
        let mut pass = Pass::new(L::Stage::LABEL, L::Stage::DEPTH, batches.len());
        self.workers.iter_mut().for_each(|worker| worker.is_told = false);
        while pass.left > 0 {
            self.start(pass.queue.len())?;
            self.hand_out(&mut pass, batches)?;
            self.hint(&pass, next)?;
            let Some((at, event)) = self.hear()? else { continue };
            match event {
                Event::Said(Reply::Made { at: batch, value, blobs }, bytes) if blobs.len() == bytes.len() => {
                    let worker = &mut self.workers[at];
                    worker.holds.retain(|held| *held != batch);
                    worker.losses = 0;
                    let made = Parcel::unpack(Packed { value, blobs: bytes })?;
                    done(ledger.record(&batches[batch], made)?);
                    pass.left -= 1;
                    tracing::debug!("{}: {} {} of {}", worker.name, pass.label, pass.len - pass.left, pass.len);
                }
                Event::Said(Reply::Failed { error, usage: is_usage }, _) => {
                    return Err(if is_usage { usage(error) } else { anyhow!(error) });
                }
                Event::Said(..) => {}
                Event::Gone => {
                    if let Some((batch, reason)) = self.lose(at, &mut pass) {
                        let made = ledger.stage().lost(&batches[batch], &reason)?;
                        done(ledger.record(&batches[batch], made)?);
                        pass.left -= 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Starts all workers, so that they are ready sooner.
    pub fn begin(&mut self) -> Result<()> {
        self.start(usize::MAX)
    }

    /// Has every worker load a model; the bytes of memory that it leaves on the first device (none on the CPU).
    pub fn load(&mut self, hint: &Hint) -> Result<Option<u64>> {
        let mut asked = vec![0; self.workers.len()];
        let mut loaded = vec![None; self.workers.len()];
        let mut pass = Pass::new(hint.stage, 1, 0);
        loop {
            self.start(usize::MAX)?;
            for (worker, asked) in self.workers.iter_mut().zip(&mut asked) {
                if worker.is_ready && *asked != worker.number {
                    worker.tell(&Order::Load { stage: hint.stage.to_string(), model: hint.model.clone() })?;
                    *asked = worker.number;
                }
            }
            let first = self.workers.iter().position(|worker| !worker.is_given_up);
            if let Some(free) = first.and_then(|first| loaded[first]) {
                return Ok(free);
            }
            match self.hear()? {
                Some((at, Event::Said(Reply::Loaded { free }, _))) => loaded[at] = Some(free),
                Some((at, Event::Gone)) => drop(self.lose(at, &mut pass)),
                _ => {}
            }
        }
    }

    /// Starts the workers that are missing, as many as there are batches for.
    fn start(&mut self, most: usize) -> Result<()> {
        let idle = self.workers.iter().filter(|worker| worker.process.is_some() && worker.holds.is_empty()).count();
        let wanted = most.saturating_sub(idle);
        let missing = self.workers.iter_mut().enumerate();
        for (at, worker) in missing.filter(|(_, worker)| worker.process.is_none() && !worker.is_given_up).take(wanted) {
            self.started += 1;
            let mut process = match worker.early.take() {
                Some(process) => process,
                None => Process::spawn((self.team.command)(&worker.device), &worker.name)?,
            };
            process.begin(&self.task, (at, self.started), self.sender.clone())?;
            tracing::debug!("{}: started as process {}", worker.name, process.id());
            (worker.number, worker.is_ready, worker.process) = (self.started, false, Some(process));
        }
        if self.workers.iter().all(|worker| worker.is_given_up) {
            return Err(self.reason.take().unwrap_or_else(|| anyhow!("no worker is left")));
        }
        Ok(())
    }

    /// Gives every worker something to do, and batches beside it as long as there are as many for each of the others: towards
    /// the end of a pass a worker holds fewer.
    fn hand_out<B: Serialize>(&mut self, pass: &mut Pass, batches: &[B]) -> Result<()> {
        let able: Vec<usize> = (0..self.workers.len()).filter(|at| !self.workers[*at].is_given_up).collect();
        for level in 0..pass.depth {
            for &at in &able {
                let worker = &mut self.workers[at];
                let spared = pass.queue.len() < able.len() * level;
                if !worker.is_ready || worker.holds.len() != level || spared {
                    continue;
                }
                let Some(batch) = pass.take(at, &able) else { continue };
                let order = serde_json::to_value(&batches[batch])?;
                worker.holds.push_back(batch);
                worker.tell(&Order::Batch { stage: pass.label.to_string(), at: batch, batch: order })?;
            }
        }
        Ok(())
    }

    /// Lets workers that have nothing left to do load what comes next.
    fn hint(&mut self, pass: &Pass, next: Option<&Hint>) -> Result<()> {
        let Some(next) = next.filter(|_| pass.queue.is_empty()) else { return Ok(()) };
        for worker in &mut self.workers {
            if worker.is_ready && worker.holds.is_empty() && !worker.is_told {
                worker.is_told = true;
                tracing::debug!("{}: loads {} for {}", worker.name, next.model, next.stage);
                worker.tell(&Order::Load { stage: next.stage.to_string(), model: next.model.clone() })?;
            }
        }
        Ok(())
    }

    /// The next thing that is heard of a process that is still there, and what is the same for all passes.
    fn hear(&mut self) -> Result<Option<(usize, Event)>> {
        let (at, number, event) = self.events.recv()?;
        let worker = &mut self.workers[at];
        if worker.number != number || worker.process.is_none() {
            return Ok(None);
        }
        match event {
            Event::Said(Reply::Ready, _) => {
                worker.is_ready = true;
                tracing::debug!("{}: ready", worker.name);
                Ok(None)
            }
            Event::Said(Reply::Unable { error, usage: is_usage }, _) => {
                self.give_up(at, if is_usage { usage(error) } else { anyhow!(error) });
                Ok(Some((at, Event::Gone)))
            }
            event => Ok(Some((at, event))),
        }
    }

    /// A worker is gone: its batches go back into the queue. The one that it was at is given, with the reason, where it
    /// has lost too many.
    fn lose(&mut self, at: usize, pass: &mut Pass) -> Option<(usize, String)> {
        let worker = &mut self.workers[at];
        let how = worker.process.take().map(Process::end).unwrap_or_default();
        let (was_ready, name) = (std::mem::take(&mut worker.is_ready), worker.name.clone());
        let head = worker.holds.front().copied();
        while let Some(batch) = worker.holds.pop_back() {
            pass.queue.push_front(batch);
        }
        if worker.is_given_up {
            return None;
        }
        worker.losses += 1;
        let losses = worker.losses;
        let Some(head) = head.filter(|_| was_ready) else {
            tracing::debug!("{name}: {how}");
            if losses >= PATIENCE {
                self.give_up(at, anyhow!("it cannot be started: {how}"));
            }
            return None;
        };
        pass.lost[head].push(at);
        if pass.lost[head].len() >= PATIENCE {
            pass.queue.retain(|batch| *batch != head);
            // It was the batch's fault, not theirs.
            pass.lost[head].iter().for_each(|at| self.workers[*at].losses = 0);
            tracing::warn!("{name} {how}: a batch of {} has ended {PATIENCE} workers and is left out", pass.label);
            return Some((head, format!("{PATIENCE} workers ended over it, the last: {how}")));
        }
        tracing::warn!("{name} {how}: its batch of {} is done again", pass.label);
        if losses >= PATIENCE {
            self.give_up(at, anyhow!("it was lost {losses} times in a row: {how}"));
        }
        None
    }

    /// A worker that can do nothing more.
    fn give_up(&mut self, at: usize, reason: anyhow::Error) {
        self.workers[at].is_given_up = true;
        let name = &self.workers[at].name;
        if self.workers.iter().any(|worker| !worker.is_given_up) {
            tracing::warn!("{name} is given up, the others go on: {reason:#}");
        }
        self.reason.get_or_insert(reason.context(format!("{name} cannot work")));
    }
}

impl Drop for Crew {
    /// All end beside each other: giving a GPU back takes a moment.
    fn drop(&mut self) {
        self.workers
            .iter_mut()
            .flat_map(|worker| worker.process.iter_mut().chain(&mut worker.early))
            .for_each(Process::kill);
    }
}

impl Worker {
    fn tell(&mut self, order: &Order) -> Result<()> {
        let Some(process) = &mut self.process else { bail!("{} is not there", self.name) };
        process.say(order)
    }
}

/// The batches of a pass by their places.
struct Pass {
    label: &'static str,
    /// Batches that a worker holds at most.
    depth: usize,
    len: usize,
    /// Those that no worker has.
    queue: VecDeque<usize>,
    left: usize,
    /// Of each, the workers that were lost over it.
    lost: Vec<Vec<usize>>,
}

impl Pass {
    fn new(label: &'static str, depth: usize, len: usize) -> Self {
        Self { label, depth, len, queue: (0..len).collect(), left: len, lost: vec![Vec::new(); len] }
    }

    /// The next batch for a worker: none that it was lost over, unless all were.
    fn take(&mut self, worker: usize, able: &[usize]) -> Option<usize> {
        let fits = |batch: &usize| {
            let lost = &self.lost[*batch];
            !lost.contains(&worker) || able.iter().all(|other| lost.contains(other))
        };
        let at = self.queue.iter().position(fits)?;
        self.queue.remove(at)
    }
}
