// What tch does not offer: allocator statistics, attention and matrix precision switches, linear
// layers over weights laid out for oneDNN, generators of their own, and tensors over memory that someone else owns. Only
// symbols of libtorch_cpu and libc10 are used, so the program links and starts without CUDA.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_addmm_activation.h>
#include <ATen/ops/_fused_sdp_choice.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/randn.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/headeronly/version.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

// Waits until CUDA is set up: before, or while another thread does it, the allocator has no part for some of the devices, and
// asking it for them ends the process.
c10::DeviceAllocator* cuda_allocator() {
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  return c10::getDeviceAllocator(c10::DeviceType::CUDA);
}

// A queue of the GPU beside that of its other work, the same for all who ask.
c10::Stream queue_aside(int8_t device) {
  static std::mutex lock;
  static std::map<int8_t, c10::Stream> streams;
  const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
  const std::lock_guard<std::mutex> guard(lock);
  auto found = streams.find(device);
  if (found == streams.end()) {
    const c10::Device there(c10::DeviceType::CUDA, device);
    found = streams.emplace(device, cuda.getStreamFromGlobalPool(there)).first;
  }
  return found->second;
}

// Runs `work`; false when libtorch threw.
template <typename Work>
bool succeeds(Work work) {
  try {
    work();
    return true;
  } catch (...) {
    return false;
  }
}

// Calls an operator by name, whether or not this libtorch has it; null when it has not, or when it
// refuses its arguments.
at::Tensor* call(const char* name, torch::jit::Stack stack) {
  try {
    auto found = c10::Dispatcher::singleton().findSchema({name, ""});
    if (!found) return nullptr;
    found->callBoxed(stack);
    return new at::Tensor(stack.at(0).toTensor());
  } catch (...) {
    return nullptr;
  }
}

}  // namespace

extern "C" {

const char* toolkit_libtorch_version() { return TORCH_VERSION; }

// out: bytes allocated now, most bytes allocated since the last reset, bytes taken from the device now.
bool toolkit_cuda_allocated(int8_t device, int64_t* out) {
  return succeeds([&] {
    auto stats = cuda_allocator()->getDeviceStats(device);
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    out[0] = stats.allocated_bytes[all].current;
    out[1] = stats.allocated_bytes[all].peak;
    out[2] = stats.reserved_bytes[all].current;
  });
}

// The most that may be taken from each device, as a share of its memory. Counts only before the first allocation there.
bool toolkit_cuda_memory_share(double share) {
  return succeeds(
      [&] { c10::CachingAllocator::setAllocatorSettings("per_process_memory_fraction:" + std::to_string(share)); });
}

bool toolkit_cuda_reset_peak(int8_t device) {
  return succeeds([&] { cuda_allocator()->resetPeakStats(device); });
}

// Gives cached but unused memory back to the device.
bool toolkit_cuda_empty_cache() {
  return succeeds([] { cuda_allocator()->emptyCache(); });
}

// out: free and total bytes of the device.
bool toolkit_cuda_memory(int8_t device, int64_t* out) {
  return succeeds([&] {
    auto [free, total] = cuda_allocator()->getMemoryInfo(device);
    out[0] = static_cast<int64_t>(free);
    out[1] = static_cast<int64_t>(total);
  });
}

// From now on scaled_dot_product_attention takes the first of these backends that can (numbers of at::SDPBackend).
bool toolkit_attention_order(int8_t device, const int64_t* order, size_t count) {
  return succeeds([&] {
    // At its first choice on some GPUs libtorch puts cuDNN first, whatever the order was before: it chooses once here.
    auto options = at::TensorOptions().dtype(at::kHalf).device(at::kCUDA, device);
    auto x = at::empty({1, 1, 8, 8}, options);
    at::_fused_sdp_choice(x, x, x);
    at::globalContext().setSDPPriorityOrder(std::vector<int64_t>(order, order + count));
  });
}

// float32 matrix products and convolutions on CUDA in TensorFloat-32.
bool toolkit_allow_tf32(bool allow) {
  return succeeds([&] {
    at::globalContext().setAllowTF32CuBLAS(allow);
    at::globalContext().setAllowTF32CuDNN(allow);
  });
}

// Whether all of them are.
bool toolkit_tf32_is_allowed() {
  return at::globalContext().allowTF32CuBLAS() && at::globalContext().allowTF32CuDNN();
}

// The weight [output, input] of a linear layer in the blocks that oneDNN reads.
void* toolkit_pack_linear_weight(const at::Tensor* weight) {
  return call("mkldnn::_reorder_linear_weight", {*weight, c10::IValue()});
}

// activation(x · Wᵀ + b) by oneDNN, with such a weight or a plain one; `bias` may be null. `activation` is "none", or one of
// oneDNN's with the `algorithm` by which it is computed.
void* toolkit_onednn_linear(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const char* activation,
                            const char* algorithm) {
  c10::List<std::optional<at::Scalar>> no_scalars;
  return call("mkldnn::_linear_pointwise",
              {*x, *weight, bias ? c10::IValue(*bias) : c10::IValue(), activation, no_scalars, algorithm});
}

// relu(x ∗ W + b), a convolution over pictures by oneDNN.
void* toolkit_onednn_conv_relu(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, int64_t stride,
                               const int64_t* padding) {
  const std::vector<int64_t> around(padding, padding + 2), strides(2, stride), dilation(2, 1);
  c10::List<std::optional<at::Scalar>> no_scalars;
  return call("mkldnn::_convolution_pointwise",
              {*x, *weight, *bias, around, strides, dilation, int64_t(1), "relu", no_scalars, ""});
}

// gelu(x · Wᵀ + b) or relu(x · Wᵀ + b) of x [rows, input], inside the matrix product; the GELU on CUDA by the
// approximation with tanh. tch's own call of this operator puts its last argument in another's place.
void* toolkit_linear_activation(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, bool gelu) {
  try {
    return new at::Tensor(at::_addmm_activation(*bias, *x, weight->t(), 1, 1, gelu));
  } catch (...) {
    return nullptr;
  }
}

// softmax(q · kᵀ / √head_dim) · v by cuDNN, whatever the order of backends is; tch has no call for it. Where `causal`, each
// query sees the keys up to its own place.
void* toolkit_cudnn_attention(const at::Tensor* q, const at::Tensor* k, const at::Tensor* v, bool causal) {
  try {
    auto out = at::_scaled_dot_product_cudnn_attention(*q, *k, *v, std::nullopt, false, 0.0, causal);
    return new at::Tensor(std::get<0>(out));
  } catch (...) {
    return nullptr;
  }
}

// torch.Generator("cpu").manual_seed(seed); null when libtorch threw.
at::Generator* toolkit_generator_new(uint64_t seed) {
  try {
    return new at::Generator(at::detail::createCPUGenerator(seed));
  } catch (...) {
    return nullptr;
  }
}

void toolkit_generator_free(at::Generator* generator) { delete generator; }

// The generator's next standard normal numbers.
void* toolkit_generator_normal(at::Generator* generator, const int64_t* shape, size_t dims, int8_t kind) {
  try {
    auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(kind));
    return new at::Tensor(at::randn(at::IntArrayRef(shape, dims), *generator, options));
  } catch (...) {
    return nullptr;
  }
}

// Bytes of main memory from which a GPU fetches by itself, kept by libtorch for the next ones; null where there is no GPU.
void* toolkit_pinned_bytes(const int64_t* shape, size_t dims) {
  try {
    return new at::Tensor(at::empty(at::IntArrayRef(shape, dims), at::TensorOptions().dtype(at::kByte).pinned_memory(true)));
  } catch (...) {
    return nullptr;
  }
}

// Gives what this thread asks of the GPU from now on a queue of its own, the same for all threads that say so.
bool toolkit_work_aside(int8_t device) {
  return succeeds([&] { c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).exchangeStream(queue_aside(device)); });
}

// A tensor of the CPU on the GPU, copied when this returns, by the queue of those that work aside: through pinned memory that
// the next one can have then. Null when libtorch threw.
at::Tensor* toolkit_delivered(const at::Tensor* x, int8_t device) {
  try {
    const c10::StreamGuard aside(queue_aside(device));
    const auto pinned = x->pin_memory();
    auto there = pinned.to(aside.current_device(), x->scalar_type(), /*non_blocking=*/true);
    aside.current_stream().synchronize();
    return new at::Tensor(std::move(there));
  } catch (...) {
    return nullptr;
  }
}

// Waits for what this thread has asked of the GPU.
bool toolkit_wait_for_own(int8_t device) {
  return succeeds([&] {
    const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
    cuda.synchronizeStream(cuda.getStream(c10::Device(c10::DeviceType::CUDA, device)));
  });
}

// Work that this thread asks for reads a tensor of another queue: its memory is kept until that is done.
bool toolkit_used_here(const at::Tensor* x) {
  return succeeds([&] {
    const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
    x->record_stream(cuda.getStream(x->device()));
  });
}

// A CPU tensor over `data`; `release(owner)` is called when the last view of it is gone.
void* toolkit_tensor_over(void* data, const int64_t* shape, const int64_t* strides, size_t dims, int8_t kind, void* owner,
                          void (*release)(void*)) {
  try {
    auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(kind));
    auto tensor = at::from_blob(
        data, at::IntArrayRef(shape, dims), at::IntArrayRef(strides, dims), [owner, release](void*) { release(owner); },
        options);
    return new at::Tensor(std::move(tensor));
  } catch (...) {
    return nullptr;
  }
}
}
