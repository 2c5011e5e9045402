// CUDA graphs, custom kernels and copies from pinned memory, for which tch has no calls. This is a library of its own,
// carried inside the program and loaded after libtorch_cuda, whose symbols it finds in the process.

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda.h>
#include <dlfcn.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

thread_local std::string last_error;

// Runs `work`; false, with the text kept, when it threw.
template <typename Work>
bool succeeds(Work work) {
  try {
    work();
    return true;
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown";
  }
  return false;
}

// The stream on which all work of a device is recorded: the default one cannot be. One for all, since cuBLAS keeps
// 32 MiB for each stream that it has worked on.
struct Side {
  c10::cuda::CUDAStream stream;
  // A recording within another one fails by itself, in CUDA: it must not wait here for ever.
  std::recursive_mutex in_use;

  static Side& of(int8_t device) {
    static std::mutex one_at_a_time;
    static std::map<int8_t, std::unique_ptr<Side>> sides;
    const std::lock_guard<std::mutex> guard(one_at_a_time);
    auto& side = sides[device];
    if (!side) side.reset(new Side{c10::cuda::getStreamFromPool(false, device), {}});
    return *side;
  }
};

// A captured piece of work. Capturing looks at the current device of the thread, which need not be the one that the
// work is for: each call makes it so for its time.
struct Recorded {
  at::cuda::CUDAGraph graph;
  Side& side;
  std::unique_lock<std::recursive_mutex> turn;
  std::optional<c10::cuda::CUDAStream> before;

  explicit Recorded(int8_t device) : side(Side::of(device)) {}

  c10::DeviceIndex device() const { return side.stream.device_index(); }

  // From now on work of this thread goes to the side stream, after all that was asked for before.
  void enter() {
    std::unique_lock<std::recursive_mutex> own_turn(side.in_use);
    const auto current = c10::cuda::getCurrentCUDAStream(device());
    current.synchronize();
    before = current;
    turn = std::move(own_turn);
    c10::cuda::setCurrentCUDAStream(side.stream);
  }

  void leave() {
    if (!before) return;
    // Stream and turn are given back, also when what was recorded has failed.
    const auto own_turn = std::move(turn);
    c10::cuda::setCurrentCUDAStream(*before);
    before.reset();
    side.stream.synchronize();
  }
};

// Calls a method of a captured piece of work, with its device as the current one.
template <typename Work>
bool on_its_device(void* graph, Work work) {
  return succeeds([&] {
    auto& recorded = *static_cast<Recorded*>(graph);
    const c10::cuda::CUDAGuard guard(recorded.device());
    work(recorded);
  });
}

template <typename Function>
Function symbol(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  if (found == nullptr) throw std::runtime_error(std::string(name) + " is not in this process");
  return reinterpret_cast<Function>(found);
}

void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  const char* text = nullptr;
  symbol<CUresult (*)(CUresult, const char**)>("cuGetErrorString")(result, &text);
  throw std::runtime_error(std::string(what) + ": " + (text != nullptr ? text : "unknown error"));
}

void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  static const auto text = symbol<const char* (*)(cudaError_t)>("cudaGetErrorString");
  throw std::runtime_error(std::string(what) + ": " + text(result));
}

int device_attribute(CUdevice_attribute which, int device) {
  static const auto get = symbol<CUresult (*)(int*, CUdevice_attribute, CUdevice)>("cuDeviceGetAttribute");
  int value = 0;
  check(get(&value, which, device), "the device's architecture");
  return value;
}

int generation(int device) { return device_attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device); }

// The name by which the compiler knows the device, e.g. sm_80. Of Hopper, with what only Hopper has: sm_90a.
std::string machine(int device) {
  const int minor = device_attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
  const int major = generation(device);
  return "sm_" + std::to_string(major) + std::to_string(minor) + (major == 9 ? "a" : "");
}

// The run-time compiler's calls, declared here because its header comes with another package.
using nvrtcProgram = struct Program*;

struct Compiler {
  int (*create)(nvrtcProgram*, const char*, const char*, int, const char* const*, const char* const*);
  int (*compile)(nvrtcProgram, int, const char* const*);
  int (*log_size)(nvrtcProgram, size_t*);
  int (*log)(nvrtcProgram, char*);
  int (*cubin_size)(nvrtcProgram, size_t*);
  int (*cubin)(nvrtcProgram, char*);
  int (*destroy)(nvrtcProgram*);
  int (*version)(int*, int*);

  Compiler()
      : create(symbol<decltype(create)>("nvrtcCreateProgram")),
        compile(symbol<decltype(compile)>("nvrtcCompileProgram")),
        log_size(symbol<decltype(log_size)>("nvrtcGetProgramLogSize")),
        log(symbol<decltype(log)>("nvrtcGetProgramLog")),
        cubin_size(symbol<decltype(cubin_size)>("nvrtcGetCUBINSize")),
        cubin(symbol<decltype(cubin)>("nvrtcGetCUBIN")),
        destroy(symbol<decltype(destroy)>("nvrtcDestroyProgram")),
        version(symbol<decltype(version)>("nvrtcVersion")) {}

  std::string operator()(const char* source, const char* name, const char* const* options, int count) {
    nvrtcProgram program = nullptr;
    if (create(&program, source, name, 0, nullptr, nullptr) != 0) throw std::runtime_error("NVRTC takes no program");
    std::string cubin_bytes;
    const bool compiled = compile(program, count, options) == 0;
    if (compiled) {
      size_t size = 0;
      cubin_size(program, &size);
      cubin_bytes.resize(size);
      cubin(program, cubin_bytes.data());
    } else {
      size_t size = 0;
      log_size(program, &size);
      cubin_bytes.resize(size);
      log(program, cubin_bytes.data());
    }
    destroy(&program);
    if (!compiled) throw std::runtime_error(cubin_bytes);
    return cubin_bytes;
  }
};

// Takes bytes over from a call, while it lasts.
using Take = void (*)(void* to, const char* bytes, size_t count);

}  // namespace

extern "C" {

// Makes a device the current one of this thread, so that nothing is set up on another.
bool toolkit_use_device(int8_t device) {
  return succeeds([&] { c10::cuda::set_device(device); });
}

// From here on a profiler that was told to wait looks at the device, or no longer does.
bool toolkit_profile(bool on) {
  return succeeds([&] { symbol<int (*)()>(on ? "cudaProfilerStart" : "cudaProfilerStop")(); });
}

const char* toolkit_cuda_error() { return last_error.c_str(); }

void* toolkit_graph_new(int8_t device) {
  Recorded* recorded = nullptr;
  succeeds([&] {
    const c10::cuda::CUDAGuard guard(device);
    recorded = new Recorded(device);
  });
  return recorded;
}

// Work goes to the graph's own stream until `leave`: warm-up first, then what is recorded.
bool toolkit_graph_enter(void* graph) {
  return on_its_device(graph, [](Recorded& recorded) { recorded.enter(); });
}

bool toolkit_graph_leave(void* graph) {
  return on_its_device(graph, [](Recorded& recorded) { recorded.leave(); });
}

// Thread-local: other threads may go on taking memory while this one records.
bool toolkit_graph_begin(void* graph) {
  return on_its_device(graph, [](Recorded& recorded) {
    recorded.graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  });
}

bool toolkit_graph_end(void* graph) {
  return on_its_device(graph, [](Recorded& recorded) { recorded.graph.capture_end(); });
}

bool toolkit_graph_replay(void* graph) {
  return on_its_device(graph, [](Recorded& recorded) { recorded.graph.replay(); });
}

void toolkit_graph_free(void* graph) {
  on_its_device(graph, [](Recorded& recorded) {
    const std::unique_ptr<Recorded> owned(&recorded);
    recorded.leave();
  });
}

// Device, compiler and driver, as far as they decide what a source becomes.
bool toolkit_compiler(int8_t device, Take take, void* to) {
  return succeeds([&] {
    int major = 0, minor = 0, driver = 0;
    if (Compiler().version(&major, &minor) != 0) throw std::runtime_error("NVRTC tells no version");
    check(symbol<CUresult (*)(int*)>("cuDriverGetVersion")(&driver), "the driver's version");
    const std::string text = machine(device) + " nvrtc " + std::to_string(major) + "." + std::to_string(minor) +
                             " driver " + std::to_string(driver);
    take(to, text.data(), text.size());
  });
}

// Compiles `source` for this device.
bool toolkit_compile(int8_t device, const char* source, const char* name, const char* const* options, int count,
                     Take take, void* to) {
  return succeeds([&] {
    const std::string architecture = "--gpu-architecture=" + machine(device);
    std::vector<const char*> all(options, options + count);
    all.push_back(architecture.c_str());
    const std::string cubin = Compiler()(source, name, all.data(), static_cast<int>(all.size()));
    take(to, cubin.data(), cubin.size());
  });
}

// Loads what was compiled onto this device, where it stays for good. Null: see the error.
void* toolkit_module_new(int8_t device, const char* name, const void* cubin) {
  CUmodule module = nullptr;
  const bool loaded = succeeds([&] {
    const c10::cuda::CUDAGuard guard(device);
    check(symbol<CUresult (*)(CUmodule*, const void*)>("cuModuleLoadData")(&module, cubin), name);
  });
  return loaded ? module : nullptr;
}

// `shared_bytes`: how much dynamic shared memory a block may take; what a multiprocessor has then goes
// there rather than to its cache. Negative: as it is.
void* toolkit_module_function(int8_t device, void* module, const char* name, int32_t shared_bytes) {
  CUfunction function = nullptr;
  const bool found = succeeds([&] {
    const c10::cuda::CUDAGuard guard(device);
    auto get = symbol<CUresult (*)(CUfunction*, CUmodule, const char*)>("cuModuleGetFunction");
    check(get(&function, static_cast<CUmodule>(module), name), name);
    if (shared_bytes < 0) return;
    auto set = symbol<CUresult (*)(CUfunction, CUfunction_attribute, int)>("cuFuncSetAttribute");
    check(set(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes), "shared memory");
    check(set(function, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100), "shared memory");
  });
  return found ? function : nullptr;
}

// Memory that does not move, from which the device can fetch by itself.
void* toolkit_pinned_new(int8_t device, size_t bytes) {
  void* memory = nullptr;
  const bool taken = succeeds([&] {
    const c10::cuda::CUDAGuard guard(device);
    static const auto take = symbol<cudaError_t (*)(void**, size_t, unsigned)>("cudaHostAlloc");
    check(take(&memory, bytes, cudaHostAllocPortable), "cudaHostAlloc");
  });
  return taken ? memory : nullptr;
}

void toolkit_pinned_free(void* memory) {
  succeeds([&] { check(symbol<cudaError_t (*)(void*)>("cudaFreeHost")(memory), "cudaFreeHost"); });
}

// On the current stream of the device.
bool toolkit_upload(int8_t device, void* to, const void* from, size_t bytes) {
  return succeeds([&] {
    const c10::cuda::CUDAGuard guard(device);
    static const auto copy =
        symbol<cudaError_t (*)(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t)>("cudaMemcpyAsync");
    const auto stream = c10::cuda::getCurrentCUDAStream(device).stream();
    check(copy(to, from, bytes, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
  });
}

// Has the current stream of the device wait until a 32-bit word in pinned memory is 1.
bool toolkit_hold(int8_t device, const void* word) {
  return succeeds([&] {
    const c10::cuda::CUDAGuard guard(device);
    static const auto hold =
        symbol<CUresult (*)(CUstream, CUdeviceptr, cuuint32_t, unsigned)>("cuStreamWaitValue32_v2");
    const auto stream = c10::cuda::getCurrentCUDAStream(device).stream();
    check(hold(stream, reinterpret_cast<CUdeviceptr>(word), 1, CU_STREAM_WAIT_VALUE_EQ), "cuStreamWaitValue32");
  });
}

// Behind all work on the current stream of the device.
void* toolkit_event_new(int8_t device) {
  cudaEvent_t event = nullptr;
  const bool recorded = succeeds([&] {
    const c10::cuda::CUDAGuard guard(device);
    static const auto create = symbol<cudaError_t (*)(cudaEvent_t*, unsigned)>("cudaEventCreateWithFlags");
    static const auto record = symbol<cudaError_t (*)(cudaEvent_t, cudaStream_t)>("cudaEventRecord");
    check(create(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    check(record(event, c10::cuda::getCurrentCUDAStream(device).stream()), "cudaEventRecord");
  });
  return recorded ? event : nullptr;
}

// An event knows its device: any thread may wait for it.
bool toolkit_event_wait(void* event) {
  return succeeds([&] {
    static const auto wait = symbol<cudaError_t (*)(cudaEvent_t)>("cudaEventSynchronize");
    check(wait(static_cast<cudaEvent_t>(event)), "cudaEventSynchronize");
  });
}

void toolkit_event_free(void* event) {
  succeeds([&] {
    check(symbol<cudaError_t (*)(cudaEvent_t)>("cudaEventDestroy")(static_cast<cudaEvent_t>(event)), "cudaEventDestroy");
  });
}

// On the current stream of the device; with `early` as soon as the kernel before it allows for it,
// where the device can do that. `arguments`: pointers to the values.
bool toolkit_launch(void* function, int8_t device, const uint32_t* grid, const uint32_t* block, uint32_t shared_bytes,
                    bool early, void** arguments) {
  return succeeds([&] {
    // The driver starts a kernel in the current context alone.
    const c10::cuda::CUDAGuard guard(device);
    static const auto launch =
        symbol<CUresult (*)(const CUlaunchConfig*, CUfunction, void**, void**)>("cuLaunchKernelEx");
    CUlaunchAttribute attribute{};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    CUlaunchConfig config{};
    config.gridDimX = grid[0], config.gridDimY = grid[1], config.gridDimZ = grid[2];
    config.blockDimX = block[0], config.blockDimY = block[1], config.blockDimZ = block[2];
    config.sharedMemBytes = shared_bytes;
    config.hStream = c10::cuda::getCurrentCUDAStream(device).stream();
    config.attrs = &attribute;
    config.numAttrs = early && generation(device) >= 9 ? 1 : 0;
    check(launch(&config, static_cast<CUfunction>(function), arguments, nullptr), "cuLaunchKernelEx");
  });
}
}
