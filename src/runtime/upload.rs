//! Copies to a GPU that the GPU makes by itself, from pinned memory.

use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Result, bail};
use tch::{Device, Tensor};

use super::cuda_shim::{Shim, shim as of_cuda};
use super::shim;

/// A tensor of the CPU on `device`, without waiting for the work that a GPU was given before.
pub fn upload(x: &Tensor, device: Device) -> Tensor {
    if !device.is_cuda() {
        return x.to_device(device);
    }
    // Without page-locked memory copies take longer.
    let locked = x.f_internal_pin_memory(device).unwrap_or_else(|_| x.shallow_clone());
    locked.internal_to_copy((x.kind(), device), true)
}

/// A tensor of the CPU that a thread makes ready for the work of another.
///
/// On a GPU it is there when this returns, whatever that has to do meanwhile: the page-locked memory on its way is free for the
/// next one, where a data set's worth of it would take the system long to give and to take back.
#[derive(Debug)]
pub struct Delivered(Tensor);

impl Delivered {
    /// Brings it to `device`.
    pub fn to(device: Device, x: &Tensor) -> Self {
        let there = if let Device::Cuda(gpu) = device { shim::delivered(x, gpu) } else { None };
        Self(there.unwrap_or_else(|| x.to_device(device)))
    }

    /// For the work of this thread.
    ///
    /// # Errors
    /// Where libtorch refuses to share it between two queues of a GPU.
    pub fn take(self) -> Result<Tensor> {
        if self.0.device().is_cuda() {
            shim::used_here(&self.0)?;
        }
        Ok(self.0)
    }
}

/// Copies to one device. They are made on the stream that the calling thread's work goes to, so that
/// work asked for later finds the bytes in place.
pub struct Uploads {
    shim: &'static Shim,
    device: i8,
    /// Whether the device refused to wait for a word.
    cannot_hold: AtomicBool,
}

/// Memory that stays where it is, so that a device can fetch from it.
pub struct Pinned {
    shim: &'static Shim,
    bytes: *mut u8,
    length: usize,
}

/// A place in the work of a device.
pub struct Reached {
    shim: &'static Shim,
    event: *mut c_void,
}

// SAFETY: pinned memory and events belong to the process; every thread may use them.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Send for Reached {}

impl Uploads {
    /// None where there is no CUDA.
    pub fn to(device: usize) -> Option<Self> {
        Some(Self { shim: of_cuda()?, device: device as i8, cannot_hold: AtomicBool::new(false) })
    }

    pub fn pinned(&self, length: usize) -> Result<Pinned> {
        // SAFETY: new memory that nobody else has; null is checked.
        let bytes = unsafe { (self.shim.pinned_new)(self.device, length) }.cast();
        self.found(bytes, "no pinned memory")?;
        Ok(Pinned { shim: self.shim, bytes, length })
    }

    /// Has what is asked for from now on wait on the device until a word is 1, and returns at once. False where the device
    /// cannot do that.
    ///
    /// # Safety
    /// The word must be in pinned memory, and stay until the device has seen it. What turns it must need nothing of the device.
    pub unsafe fn hold(&self, word: *const AtomicU32) -> bool {
        // SAFETY: as the caller promises.
        let holds = !self.cannot_hold.load(Ordering::Relaxed) && unsafe { (self.shim.hold)(self.device, word.cast()) };
        if !holds && !self.cannot_hold.swap(true, Ordering::Relaxed) {
            tracing::debug!("the GPU cannot wait for what is read: {}", self.shim.error());
        }
        holds
    }

    /// Asks for a copy to device memory; does not wait for it where `from` is pinned.
    ///
    /// # Safety
    /// `to` must have room on the device, and what is at `from` must be there when the copy is made.
    pub unsafe fn start(&self, from: *const u8, to: *mut u8, length: usize) -> Result<()> {
        // SAFETY: as the caller promises.
        if !unsafe { (self.shim.upload)(self.device, to.cast(), from.cast(), length) } {
            bail!("copying to the GPU: {}", self.shim.error());
        }
        Ok(())
    }

    /// The place behind all work that this thread has asked for.
    pub fn reached(&self) -> Result<Reached> {
        // SAFETY: no memory is passed; null is checked.
        let event = unsafe { (self.shim.event_new)(self.device) };
        self.found(event, "no CUDA event")?;
        Ok(Reached { shim: self.shim, event })
    }

    fn found<T>(&self, pointer: *mut T, what: &str) -> Result<()> {
        if pointer.is_null() {
            bail!("{what}: {}", self.shim.error());
        }
        Ok(())
    }
}

impl Reached {
    /// Waits until the device is there.
    pub fn wait(self) -> Result<()> {
        // SAFETY: the event lives as long as `self`.
        if !unsafe { (self.shim.event_wait)(self.event) } {
            bail!("waiting for the GPU: {}", self.shim.error());
        }
        Ok(())
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { (self.shim.event_free)(self.event) };
    }
}

impl Deref for Pinned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as many bytes as were asked for, and owned.
        unsafe { std::slice::from_raw_parts(self.bytes, self.length) }
    }
}

impl DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.bytes, self.length) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { (self.shim.pinned_free)(self.bytes.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_delivered_on_a_cpu_is_the_same() {
        let x = Tensor::arange(24, (tch::Kind::Uint8, Device::Cpu)).view([1, 2, 4, 3]).permute([0, 3, 1, 2]);
        assert!(Delivered::to(Device::Cpu, &x).take().unwrap().equal(&x));
    }
}
