//! What a batch came to.

use anyhow::{Result, anyhow, bail};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::task::Seen;
use crate::runtime::upload::{Reached, Uploads};
use crate::workers::{Packed, Parcel, from_le_bytes, to_le_bytes};

/// Features [pictures, width] and LPIPS [pictures] of a batch, where they are asked for: perhaps still on their way from
/// the device.
#[derive(Default)]
pub struct Made {
    pub features: Option<Tensor>,
    pub lpips: Option<Tensor>,
    /// Where the device has finished them.
    reached: Option<Reached>,
    /// Pictures in which a face was looked for in vain since the batch before.
    pub without_face: usize,
}

impl Made {
    /// What a device was asked for.
    pub fn asked([features, lpips]: [Option<Tensor>; 2], device: Device) -> Result<Self> {
        let reached = match device {
            Device::Cuda(gpu) => match Uploads::to(gpu) {
                Some(uploads) => Some(uploads.reached()?),
                None => {
                    tch::Cuda::synchronize(gpu as i64);
                    None
                }
            },
            _ => None,
        };
        Ok(Self { features, lpips, reached, without_face: 0 })
    }

    /// The same, on its way to the CPU.
    pub fn fetched(parts: [Option<Tensor>; 2], device: Device) -> Result<Self> {
        let home = |tensor: Option<Tensor>| -> Result<Option<Tensor>> {
            let fetch =
                |tensor: Tensor| tensor.to_kind(Kind::Float).f_internal_to_copy((Kind::Float, Device::Cpu), true);
            Ok(tensor.map(fetch).transpose()?)
        };
        let [features, lpips] = parts;
        Self::asked([home(features)?, home(lpips)?], device)
    }

    /// Waits until the device has finished it.
    pub fn wait(&mut self) -> Result<()> {
        self.reached.take().map_or(Ok(()), Reached::wait)
    }

    /// The batches of a set, in the order of their pictures, on this device.
    pub fn joined(parts: &[Self], device: Device) -> Result<Seen> {
        let tensor = |part: fn(&Self) -> &Option<Tensor>| -> Result<Option<Tensor>> {
            let there = |part: &Tensor| Ok(part.f_to_device(device)?);
            let parts = parts.iter().filter_map(|made| part(made).as_ref()).map(there).collect::<Result<Vec<_>>>()?;
            Ok(if parts.is_empty() { None } else { Some(Tensor::f_cat(&parts, 0)?) })
        };
        Ok(Seen { features: tensor(|made| &made.features)?, lpips: tensor(|made| &made.lpips)? })
    }
}

impl Parcel for Made {
    fn pack(mut self) -> Result<Packed> {
        self.wait()?;
        let width = self.features.as_ref().and_then(|features| features.size().last().copied());
        let bytes = |tensor: Option<Tensor>| -> Result<Vec<u8>> {
            let Some(tensor) = tensor else { return Ok(Vec::new()) };
            Ok(to_le_bytes(&Vec::<f32>::try_from(tensor.contiguous().view([-1]))?))
        };
        Ok(Packed { value: json!([width, self.without_face]), blobs: vec![bytes(self.features)?, bytes(self.lpips)?] })
    }

    fn unpack(packed: Packed) -> Result<Self> {
        let tensor = |bytes: &[u8]| (!bytes.is_empty()).then(|| Tensor::from_slice(&from_le_bytes(bytes)));
        let [features, lpips] = packed.blobs.as_slice() else { bail!("a worker's message is damaged") };
        let (features, lpips) = (tensor(features), tensor(lpips));
        let number = |at: usize| packed.value[at].as_i64().ok_or_else(|| anyhow!("a worker's message is damaged"));
        let features = features.map(|all| Ok::<_, anyhow::Error>(all.f_view([-1, number(0)?])?)).transpose()?;
        Ok(Self { features, lpips, reached: None, without_face: number(1)? as usize })
    }
}

/// What was made of each set, a batch at the place of its first picture.
pub struct Table(Vec<Vec<Made>>);

impl Table {
    /// For sets of these lengths.
    pub fn new(lengths: impl Iterator<Item = usize>) -> Self {
        Self(lengths.map(|length| std::iter::repeat_with(Made::default).take(length).collect()).collect())
    }

    pub fn put(&mut self, set: usize, place: usize, made: Made) {
        self.0[set][place] = made;
    }

    /// All that is known of a set.
    pub fn seen(&mut self, set: usize, device: Device) -> Result<Seen> {
        Made::joined(&std::mem::take(&mut self.0[set]), device)
    }
}
