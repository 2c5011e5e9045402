//! The stack machine of the pickle format, protocols 2 to 5, as far as state dicts need it.
//!
//! Instruction set: Python's `Lib/pickletools.py`. Values live in one arena and refer to each other
//! by index, so neither deep nor cyclic structures can exhaust the stack.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

use super::functions::{call, function};
use super::tensors::storage;
use super::values::{Arena, Value};

/// Runs one pickle at the start of `bytes`: its value, and how many bytes it took.
pub(super) fn run(bytes: &[u8], arena: &mut Arena) -> Result<(Value, usize)> {
    let mut machine = Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), arena };
    loop {
        let start = machine.at;
        let step = machine.step().with_context(|| format!("pickle, at byte {start}"))?;
        if let Some(value) = step {
            return Ok((value, machine.at));
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    arena: &'a mut Arena,
}

impl Machine<'_> {
    /// One instruction; Some = the pickle's end and its value. It adds one value at most, on the stack, in a
    /// container or in the memo, apart from what calls make.
    fn step(&mut self) -> Result<Option<Value>> {
        self.arena.budget.values(1)?;
        match self.byte()? {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            0x95 => drop(self.take(8)?), // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.push(*self.stack.last().context("the stack is empty")?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let number = self.number(4)? as u32 as i32;
                self.push(Value::Int(number.into()));
            }
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => self.opaque(8)?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            b'C' => self.sized_opaque(1)?,
            b'B' => self.sized_opaque(4)?,
            0x8e => self.sized_opaque(8)?,
            other => self.step_on_containers(other)?,
        }
        Ok(None)
    }

    fn step_on_containers(&mut self, instruction: u8) -> Result<()> {
        match instruction {
            b')' => self.push_tuple(Vec::new()),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_tuple(items);
            }
            0x85..=0x87 => {
                let height = self.stack.len().checked_sub((instruction - 0x84).into()).context("the stack is empty")?;
                let items = self.stack.split_off(self.above_mark(height)?);
                self.push_tuple(items);
            }
            b']' => self.push_list(Vec::new()),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push_list(items);
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            b'}' => {
                let dict = self.arena.new_dict(Vec::new());
                self.push(dict);
            }
            b'd' => {
                let pairs = pairs(self.pop_to_mark()?)?;
                let dict = self.arena.new_dict(pairs);
                self.push(dict);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.insert(items)?;
            }
            0x8f => self.push(Value::Opaque),  // EMPTY_SET
            0x90 => drop(self.pop_to_mark()?), // ADDITEMS, to a set
            other => self.step_on_functions(other)?,
        }
        Ok(())
    }

    fn step_on_functions(&mut self, instruction: u8) -> Result<()> {
        match instruction {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Function(function(&module, &name)?));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let known = self.arena.text(module).zip(self.arena.text(name)).context("a function has no name")?;
                let found = function(known.0, known.1)?;
                self.push(Value::Function(found));
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => self.store(self.memo.len() as u32)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'Q' => {
                let id = self.pop()?;
                let storage = storage(self.arena, id)?;
                self.arena.storages.push(storage);
                self.push(Value::Storage(self.arena.storages.len() - 1));
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let Value::Function(callee) = callee else { bail!("something that is no function is called") };
                let result = call(self.arena, callee, arguments)?;
                self.push(result);
            }
            // The state of an ordered dictionary is torch's `_metadata`; no other state is looked at.
            b'b' => drop(self.pop()?),
            other => bail!("instruction 0x{other:02x} is not one that torch writes: a damaged file?"),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else { bail!("the file ends too early: a broken download?") };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize> {
        usize::try_from(self.number(bytes)?).context("an impossible length")
    }

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => bail!("pickle protocol {other} is not one that torch writes"),
        }
    }

    fn unsigned(&mut self, bytes: usize) -> Result<()> {
        let number = self.number(bytes)? as i64;
        self.push(Value::Int(number));
        Ok(())
    }

    /// Two's complement, little-endian, of the length that stands before it.
    fn long(&mut self, bytes: usize) -> Result<()> {
        let length = self.length(bytes)?;
        let start = self.at;
        let taken = self.take(length)?;
        let value = if length <= 8 {
            let negative = taken.last().is_some_and(|&byte| byte >= 0x80);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..length].copy_from_slice(taken);
            Value::Int(i64::from_le_bytes(wide))
        } else {
            Value::Long(start, length)
        };
        self.push(value);
        Ok(())
    }

    fn text(&mut self, bytes: usize) -> Result<()> {
        let length = self.length(bytes)?;
        let start = self.at;
        self.take(length)?;
        let text = String::from_utf8_lossy(&self.bytes[start..self.at]);
        let value = self.arena.new_text(&text)?;
        self.push(value);
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let length = self.bytes[self.at..].iter().take(1000).position(|&byte| byte == b'\n');
        let length = length.context("a name has no end")?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.at += 1;
        Ok(line)
    }

    fn opaque(&mut self, length: usize) -> Result<()> {
        self.take(length)?;
        self.push(Value::Opaque);
        Ok(())
    }

    fn sized_opaque(&mut self, bytes: usize) -> Result<()> {
        let length = self.length(bytes)?;
        self.opaque(length)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn push_tuple(&mut self, items: Vec<Value>) {
        let tuple = self.arena.new_sequence(items);
        self.push(Value::Tuple(tuple));
    }

    fn push_list(&mut self, items: Vec<Value>) {
        let list = self.arena.new_sequence(items);
        self.push(Value::List(list));
    }

    fn above_mark(&self, height: usize) -> Result<usize> {
        if height < self.marks.last().copied().unwrap_or(0) {
            bail!("the stack is empty");
        }
        Ok(height)
    }

    fn pop(&mut self) -> Result<Value> {
        let height = self.stack.len().checked_sub(1).context("the stack is empty")?;
        self.above_mark(height)?;
        self.stack.pop().context("the stack is empty")
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().context("the stack has no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Value> {
        self.stack.last().copied().context("the stack is empty")
    }

    fn extend(&mut self, items: Vec<Value>) -> Result<()> {
        match self.top()? {
            Value::List(at) => self.arena.sequences[at].extend(items),
            Value::Opaque => {}
            _ => bail!("items are added to something that is no list"),
        }
        Ok(())
    }

    fn insert(&mut self, items: Vec<Value>) -> Result<()> {
        let pairs = pairs(items)?;
        match self.top()? {
            Value::Dict(at) => self.arena.dicts[at].extend(pairs),
            Value::Opaque => {}
            _ => bail!("items are added to something that is no dictionary"),
        }
        Ok(())
    }

    fn remember(&mut self, bytes: usize) -> Result<()> {
        let key = self.number(bytes)? as u32;
        self.store(key)
    }

    fn store(&mut self, key: u32) -> Result<()> {
        self.memo.insert(key, self.top()?);
        Ok(())
    }

    fn recall(&mut self, bytes: usize) -> Result<()> {
        let key = self.number(bytes)? as u32;
        let value = *self.memo.get(&key).with_context(|| format!("nothing is remembered as {key}"))?;
        self.push(value);
        Ok(())
    }
}

fn pairs(items: Vec<Value>) -> Result<Vec<(Value, Value)>> {
    if !items.len().is_multiple_of(2) {
        bail!("a dictionary's key has no value");
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}
