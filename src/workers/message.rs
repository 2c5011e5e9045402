//! What the parent and a worker say to each other.

use std::io::{self, BufRead, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Loads the model that a stage will need.
    Load { stage: String, model: String },
    /// Computes a batch, the `at`-th of the stage's pass.
    Batch { stage: String, at: usize, batch: Value },
}

impl Order {
    pub fn stage(&self) -> &str {
        match self {
            Self::Load { stage, .. } | Self::Batch { stage, .. } => stage,
        }
    }
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It takes orders.
    Ready,
    /// A model is loaded; so many bytes of device memory are left (none on the CPU).
    Loaded { free: Option<u64> },
    /// What a batch came to; blobs of these lengths follow.
    Made { at: usize, value: Value, blobs: Vec<usize> },
    /// The batch cannot be computed by anyone.
    Failed { error: String, usage: bool },
    /// This worker can do nothing on its device, and ends.
    Unable { error: String, usage: bool },
}

/// A message as a line, with its end.
pub fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// The next message; none at the end.
pub fn read<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// The blobs that a message announced.
pub fn read_blobs(from: &mut impl Read, lengths: &[usize]) -> io::Result<Vec<Vec<u8>>> {
    let read = |length: &usize| {
        let mut blob = vec![0; *length];
        from.read_exact(&mut blob).map(|()| blob)
    };
    lengths.iter().map(read).collect()
}

/// Writes a line and its blobs.
pub fn write(to: &mut impl Write, message: &impl Serialize, blobs: &[Vec<u8>]) -> io::Result<()> {
    to.write_all(&line(message)?)?;
    blobs.iter().try_for_each(|blob| to.write_all(blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        let blobs = vec![vec![b'\n', 0, 255], Vec::new()];
        let made = Reply::Made { at: 3, value: Value::Null, blobs: vec![3, 0] };
        write(&mut bytes, &made, &blobs).unwrap();
        write(&mut bytes, &Reply::Ready, &[]).unwrap();
        let mut from = bytes.as_slice();
        let Some(Reply::Made { at: 3, blobs: lengths, .. }) = read(&mut from).unwrap() else { panic!("not made") };
        assert_eq!(read_blobs(&mut from, &lengths).unwrap(), blobs);
        assert!(matches!(read(&mut from).unwrap(), Some(Reply::Ready)));
        assert!(read::<Reply>(&mut from).unwrap().is_none());
    }
}
