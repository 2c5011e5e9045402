//! The safe side of `shim.cpp`.

use std::ffi::{CStr, c_char, c_void};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail, ensure};
use tch::{Kind, Tensor};

unsafe extern "C" {
    fn toolkit_libtorch_version() -> *const c_char;
    fn toolkit_cuda_allocated(device: i8, out: *mut i64) -> bool;
    fn toolkit_cuda_memory_share(share: f64) -> bool;
    fn toolkit_cuda_reset_peak(device: i8) -> bool;
    fn toolkit_cuda_empty_cache() -> bool;
    fn toolkit_cuda_memory(device: i8, out: *mut i64) -> bool;
    fn toolkit_attention_order(device: i8, order: *const i64, count: usize) -> bool;
    fn toolkit_allow_tf32(allow: bool) -> bool;
    fn toolkit_tf32_is_allowed() -> bool;
    fn toolkit_linear_activation(
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        gelu: bool,
    ) -> *mut c_void;
    fn toolkit_cudnn_attention(q: *const c_void, k: *const c_void, v: *const c_void, causal: bool) -> *mut c_void;
    fn toolkit_generator_new(seed: u64) -> *mut c_void;
    fn toolkit_generator_free(generator: *mut c_void);
    fn toolkit_generator_normal(generator: *mut c_void, shape: *const i64, dims: usize, kind: i8) -> *mut c_void;
    fn toolkit_work_aside(device: i8) -> bool;
    fn toolkit_wait_for_own(device: i8) -> bool;
    fn toolkit_delivered(x: *const c_void, device: i8) -> *mut c_void;
    fn toolkit_used_here(x: *const c_void) -> bool;
    fn toolkit_pinned_bytes(shape: *const i64, dims: usize) -> *mut c_void;
    fn toolkit_tensor_over(
        data: *mut c_void,
        shape: *const i64,
        strides: *const i64,
        dims: usize,
        kind: i8,
        owner: *mut c_void,
        release: extern "C" fn(*mut c_void),
    ) -> *mut c_void;
}

/// The version of libtorch that the program was built with.
pub fn libtorch_version() -> String {
    // SAFETY: a constant text that ends in zero.
    unsafe { CStr::from_ptr(toolkit_libtorch_version()) }.to_string_lossy().into_owned()
}

/// Bytes of device memory in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocated {
    /// Held by tensors now.
    pub now: u64,
    /// Held by tensors at most since [`reset_peak`].
    pub peak: u64,
    /// Taken from the device: held by tensors, or kept for the next ones.
    pub reserved: u64,
}

/// What libtorch's allocator holds; None where there is no CUDA, and before it held anything.
pub fn cuda_allocated(device: usize) -> Option<Allocated> {
    let mut out = [0; 3];
    // SAFETY: `out` has the three places that are written.
    let known = unsafe { toolkit_cuda_allocated(device as i8, out.as_mut_ptr()) };
    let [now, peak, reserved] = out.map(|bytes| bytes as u64);
    known.then_some(Allocated { now, peak, reserved })
}

/// Lets libtorch take at most this share (0 to 1) of each device's memory, its cache included; more is an error of the
/// allocation. Counts only before the first allocation. False where libtorch refuses.
pub fn share_cuda_memory(share: f64) -> bool {
    // SAFETY: no memory is passed.
    unsafe { toolkit_cuda_memory_share(share) }
}

/// Starts a new measurement of the peak.
pub fn reset_peak(device: usize) {
    // SAFETY: no memory is passed.
    unsafe { toolkit_cuda_reset_peak(device as i8) };
}

/// Gives memory that libtorch caches and no tensor uses back to the device.
pub fn empty_cache() {
    // SAFETY: no memory is passed.
    unsafe { toolkit_cuda_empty_cache() };
}

/// Free and total bytes of the device, None where there is no CUDA.
pub fn cuda_memory(device: usize) -> Option<(u64, u64)> {
    let mut out = [0; 2];
    // SAFETY: `out` has the two places that are written.
    let known = unsafe { toolkit_cuda_memory(device as i8, out.as_mut_ptr()) };
    known.then_some((out[0] as u64, out[1] as u64))
}

/// Fixes the backends of `scaled_dot_product_attention` on CUDA, for the whole process: FlashAttention, then the
/// memory-efficient one, then plain operators, then cuDNN, which builds a plan for each new shape. libtorch itself would
/// take one order on some GPUs and another on others. Needs CUDA to be there.
pub fn fix_attention_order(device: usize) {
    // libtorch's numbers of FlashAttention, memory-efficient, plain, cuDNN and "overrideable": each must be named.
    const ORDER: [i64; 5] = [1, 2, 0, 3, 4];
    // SAFETY: pointer and length belong together.
    unsafe { toolkit_attention_order(device as i8, ORDER.as_ptr(), ORDER.len()) };
}

/// Lets float32 products and convolutions on CUDA use TensorFloat-32 (about three decimal digits).
pub fn allow_tf32(allow: bool) {
    // SAFETY: no memory is passed.
    unsafe { toolkit_allow_tf32(allow) };
}

/// Whether [`allow_tf32`] has allowed it. libtorch itself begins with it for convolutions alone.
pub fn tf32_is_allowed() -> bool {
    // SAFETY: no memory is passed.
    unsafe { toolkit_tf32_is_allowed() }
}

/// gelu(x · Wᵀ + b), one piece of work on CUDA, where the GELU is the approximation with tanh: x [rows, input],
/// weight [output, input], bias `[output]`. None when libtorch refuses the arguments.
pub fn linear_gelu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Option<Tensor> {
    linear_activation(x, weight, bias, true)
}

/// relu(x · Wᵀ + b) in the same way.
pub fn linear_relu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Option<Tensor> {
    linear_activation(x, weight, bias, false)
}

fn linear_activation(x: &Tensor, weight: &Tensor, bias: &Tensor, gelu: bool) -> Option<Tensor> {
    let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.as_ptr() as *const c_void);
    // SAFETY: tch's pointers are `at::Tensor`s, which are only read.
    new_tensor(unsafe { toolkit_linear_activation(x, weight, bias, gelu) })
}

/// softmax(q · kᵀ / √head_dim) · v by cuDNN, heads first, whatever the order of backends is; where `causal`, each query sees
/// the keys up to its own place. Query heads may share those of keys and values. None where libtorch refuses: on the CPU,
/// and in float32.
pub fn cudnn_attention(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Option<Tensor> {
    let [q, k, v] = [q, k, v].map(|tensor| tensor.as_ptr() as *const c_void);
    // SAFETY: tch's pointers are `at::Tensor`s, which are only read.
    new_tensor(unsafe { toolkit_cudnn_attention(q, k, v, causal) })
}

/// `torch.Generator("cpu").manual_seed(seed)`: libtorch's default generator is one for all threads of a process.
#[derive(Debug)]
pub struct NoiseGenerator(NonNull<c_void>);

// SAFETY: the generator belongs to this value alone, and drawing needs `&mut`.
unsafe impl Send for NoiseGenerator {}

impl NoiseGenerator {
    pub fn new(seed: u64) -> Result<Self> {
        // SAFETY: no memory is passed.
        let generator = unsafe { toolkit_generator_new(seed) };
        NonNull::new(generator).map(Self).ok_or_else(|| anyhow!("libtorch gave no random generator"))
    }

    /// The next standard normal numbers in `kind`, on the CPU: what `torch.randn(shape, generator=…, dtype=kind)` gives.
    pub fn normal(&mut self, shape: &[i64], kind: Kind) -> Result<Tensor> {
        // SAFETY: a generator of `new`, and a pointer and a length that belong together.
        let drawn =
            unsafe { toolkit_generator_normal(self.0.as_ptr(), shape.as_ptr(), shape.len(), scalar_type(kind)?) };
        new_tensor(drawn).ok_or_else(|| anyhow!("libtorch drew no noise of shape {shape:?} in {kind:?}"))
    }
}

impl Drop for NoiseGenerator {
    fn drop(&mut self) {
        // SAFETY: a generator of `new`, freed once.
        unsafe { toolkit_generator_free(self.0.as_ptr()) };
    }
}

/// What the shim returns: a new `at::Tensor`, which is what tch's pointer is, or null.
pub(super) fn new_tensor(pointer: *mut c_void) -> Option<Tensor> {
    // SAFETY: the shim gave the tensor away.
    (!pointer.is_null()).then(|| unsafe { Tensor::from_ptr(pointer as *mut torch_sys::C_tensor) })
}

/// libtorch's number of a kind (`c10::ScalarType`).
fn scalar_type(kind: Kind) -> Result<i8> {
    Ok(match kind {
        Kind::Uint8 => 0,
        Kind::Int8 => 1,
        Kind::Int16 => 2,
        Kind::Int => 3,
        Kind::Int64 => 4,
        Kind::Half => 5,
        Kind::Float => 6,
        Kind::Double => 7,
        Kind::Bool => 11,
        Kind::BFloat16 => 15,
        Kind::Float8e5m2 => 23,
        Kind::Float8e4m3fn => 24,
        other => bail!("number type {other:?} cannot be mapped"),
    })
}

/// Gives what this thread asks of a GPU from now on a queue of its own, beside that of other threads. Who reads its tensors
/// elsewhere needs [`wait_for_own`] before and [`used_here`] there. False where that is not possible: nothing changes.
pub fn work_aside(gpu: usize) -> bool {
    // SAFETY: no memory is passed.
    unsafe { toolkit_work_aside(gpu as i8) }
}

/// Waits for what this thread has asked of a GPU.
///
/// # Errors
/// Where that failed.
pub fn wait_for_own(gpu: usize) -> Result<()> {
    // SAFETY: no memory is passed.
    let waited = unsafe { toolkit_wait_for_own(gpu as i8) };
    ensure!(waited, "waiting for cuda:{gpu} failed");
    Ok(())
}

/// A tensor of the CPU on a GPU when this returns, beside the work of the GPU that this thread has asked for. Who reads it needs
/// [`used_here`]. None where there is no pinned memory.
pub fn delivered(x: &Tensor, gpu: usize) -> Option<Tensor> {
    // SAFETY: tch's pointer is an `at::Tensor`, which is only read.
    new_tensor(unsafe { toolkit_delivered(x.as_ptr() as *const c_void, gpu as i8) })
}

/// Says that work of this thread reads a tensor that one [working aside](work_aside) has made, or that was [`delivered`].
///
/// # Errors
/// Where libtorch refuses.
pub fn used_here(x: &Tensor) -> Result<()> {
    // SAFETY: tch's pointer is an `at::Tensor`.
    let noted = unsafe { toolkit_used_here(x.as_ptr() as *const c_void) };
    ensure!(noted, "libtorch cannot share a tensor between two queues of a GPU");
    Ok(())
}

/// Bytes of this shape in main memory that a GPU fetches by itself, as `fill` writes them (what they are before is unknown).
/// None where there is no GPU or no such memory.
pub fn pinned_bytes(shape: &[i64], fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Option<Result<Tensor>> {
    // SAFETY: pointer and length belong together.
    let tensor = new_tensor(unsafe { toolkit_pinned_bytes(shape.as_ptr(), shape.len()) })?;
    // SAFETY: dense bytes, as many as the shape says, that nobody else knows of.
    let bytes = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), tensor.numel()) };
    Some(fill(bytes).map(|()| tensor))
}

/// A CPU tensor that *is* the mapped bytes from `offset` on; the map lives as long as the tensor and
/// its views. Shape and strides (in elements) must stay inside the map; that is checked.
///
/// The tensor must not be written to unless the map is writable (`MmapOptions::map_copy`).
pub fn tensor_over_map<M: Deref<Target = [u8]> + Send + Sync + 'static>(
    map: Arc<M>,
    offset: usize,
    shape: &[i64],
    strides: &[i64],
    kind: Kind,
) -> Result<Tensor> {
    let size = kind.elt_size_in_bytes();
    let empty = shape.contains(&0);
    let last: i64 = shape.iter().zip(strides).map(|(&n, &step)| (n - 1) * step).sum();
    let end = if empty { offset } else { offset + (last as usize + 1) * size };
    if shape.len() != strides.len() || strides.iter().any(|&step| step < 0) || end > map.len() {
        bail!("the file ends before it (truncated download?)");
    }
    let data = map[offset..].as_ptr();
    if !(data as usize).is_multiple_of(size) {
        bail!("the tensor is not aligned to its number type");
    }
    extern "C" fn release<M>(owner: *mut c_void) {
        // SAFETY: `owner` is the Arc that `into_raw` gave out below, released once.
        drop(unsafe { Arc::from_raw(owner as *const M) });
    }
    let scalar_type = scalar_type(kind)?;
    let owner = Arc::into_raw(map) as *mut c_void;
    // SAFETY: the bytes lie inside the map (checked above), which `owner` keeps alive.
    let tensor = unsafe {
        toolkit_tensor_over(
            data as *mut c_void,
            shape.as_ptr(),
            strides.as_ptr(),
            shape.len(),
            scalar_type,
            owner,
            release::<M>,
        )
    };
    new_tensor(tensor).ok_or_else(|| {
        release::<M>(owner);
        anyhow!("libtorch refused a tensor of shape {shape:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use memmap2::Mmap;
    use std::io::Write;

    fn map(bytes: &[u8]) -> Arc<Mmap> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        // SAFETY: nobody else has the file.
        Arc::new(unsafe { Mmap::map(&file).unwrap() })
    }

    #[test]
    fn a_mapped_tensor_keeps_its_file_until_the_last_view_is_gone() {
        let numbers: Vec<u8> = (0..12).flat_map(|n| (n as f32).to_le_bytes()).collect();
        let map = map(&numbers);
        let tensor = tensor_over_map(map.clone(), 8, &[2, 2], &[4, 1], Kind::Float).unwrap();
        assert_eq!(Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap(), [2., 3., 6., 7.]);
        let view = tensor.select(0, 1);
        drop(tensor);
        assert_eq!(Arc::strong_count(&map), 2);
        drop(view);
        assert_eq!(Arc::strong_count(&map), 1);
    }

    #[test]
    fn memory_for_a_gpu_is_filled_or_not_there() {
        let made = pinned_bytes(&[2, 3], |bytes| {
            bytes.copy_from_slice(&[0, 1, 2, 3, 4, 5]);
            Ok(())
        });
        match made {
            Some(tensor) => assert_eq!(Vec::<u8>::try_from(tensor.unwrap().view([-1])).unwrap(), [0, 1, 2, 3, 4, 5]),
            None => assert!(!tch::Cuda::is_available()),
        }
    }

    #[test]
    fn generators_know_nothing_of_each_other() {
        let draw = |generator: &mut NoiseGenerator| generator.normal(&[5], Kind::Float).unwrap();
        let (mut one, mut other) = (NoiseGenerator::new(7).unwrap(), NoiseGenerator::new(7).unwrap());
        let alone = [draw(&mut one), draw(&mut one)];
        let first = draw(&mut other);
        tch::manual_seed(1);
        drop(draw(&mut NoiseGenerator::new(7).unwrap()));
        assert_eq!([first, draw(&mut other)], alone);
        assert!(one.normal(&[-1], Kind::Float).is_err());
    }

    #[test]
    fn what_lies_outside_or_askew_is_refused() {
        let map = map(&[0; 16]);
        assert!(tensor_over_map(map.clone(), 0, &[5], &[1], Kind::Float).is_err());
        assert!(tensor_over_map(map.clone(), 2, &[1], &[1], Kind::Float).is_err());
        assert!(tensor_over_map(map.clone(), 0, &[2, 2], &[3, 1], Kind::Float).is_err());
        assert!(tensor_over_map(map.clone(), 16, &[0], &[1], Kind::Float).is_ok());
        assert_eq!(Arc::strong_count(&map), 1);
    }

    #[test]
    fn the_product_ends_with_an_activation() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, tch::Device::Cpu));
        let (x, weight, bias) = (random(&[5, 7]), random(&[3, 7]), random(&[3]));
        let expected = x.linear(&weight, Some(&bias)).gelu("tanh");
        // The CPU's is exact, which is 5e-4 apart from the approximation at most.
        let apart = linear_gelu(&x, &weight, &bias).unwrap() - expected;
        assert!(apart.abs().max().double_value(&[]) < 1e-3);
        let apart = linear_relu(&x, &weight, &bias).unwrap() - x.linear(&weight, Some(&bias)).relu();
        assert!(apart.abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn without_cuda_there_are_no_figures() {
        if tch::Cuda::device_count() == 0 {
            assert_eq!(cuda_allocated(0), None);
            assert_eq!(cuda_memory(0), None);
        }
    }
}
