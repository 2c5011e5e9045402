// CUDA graphs and own kernels, for which tch has no calls. This is a library of its own, carried
// inside the program and loaded after libtorch_cuda, whose symbols it finds in the process.

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda.h>
#include <dlfcn.h>

#include <cstdint>
#include <memory>
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

// A captured piece of work, and the stream on which it is recorded: the default one cannot be.
struct Recorded {
  at::cuda::CUDAGraph graph;
  c10::cuda::CUDAStream side;
  std::optional<c10::cuda::CUDAStream> before;

  explicit Recorded(int8_t device) : side(c10::cuda::getStreamFromPool(false, device)) {}

  // From now on work goes to the side stream, after all that was asked for before.
  void enter() {
    before = c10::cuda::getCurrentCUDAStream(side.device_index());
    before->synchronize();
    c10::cuda::setCurrentCUDAStream(side);
  }

  void leave() {
    if (!before) return;
    side.synchronize();
    c10::cuda::setCurrentCUDAStream(*before);
    before.reset();
  }
};

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

// The name by which the compiler knows the device, e.g. sm_90.
std::string machine(int device) {
  const auto attribute = symbol<CUresult (*)(int*, CUdevice_attribute, CUdevice)>("cuDeviceGetAttribute");
  int major = 0, minor = 0;
  check(attribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device), "the device's architecture");
  check(attribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device), "the device's architecture");
  return "sm_" + std::to_string(major) + std::to_string(minor);
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

  Compiler()
      : create(symbol<decltype(create)>("nvrtcCreateProgram")),
        compile(symbol<decltype(compile)>("nvrtcCompileProgram")),
        log_size(symbol<decltype(log_size)>("nvrtcGetProgramLogSize")),
        log(symbol<decltype(log)>("nvrtcGetProgramLog")),
        cubin_size(symbol<decltype(cubin_size)>("nvrtcGetCUBINSize")),
        cubin(symbol<decltype(cubin)>("nvrtcGetCUBIN")),
        destroy(symbol<decltype(destroy)>("nvrtcDestroyProgram")) {}

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

}  // namespace

extern "C" {

const char* toolkit_cuda_error() { return last_error.c_str(); }

void* toolkit_graph_new(int8_t device) {
  Recorded* recorded = nullptr;
  succeeds([&] { recorded = new Recorded(device); });
  return recorded;
}

// Work goes to the graph's own stream until `leave`: warm-up first, then what is recorded.
bool toolkit_graph_enter(void* graph) {
  return succeeds([&] { static_cast<Recorded*>(graph)->enter(); });
}

bool toolkit_graph_leave(void* graph) {
  return succeeds([&] { static_cast<Recorded*>(graph)->leave(); });
}

// Thread-local: other threads may go on taking memory while this one records.
bool toolkit_graph_begin(void* graph) {
  return succeeds(
      [&] { static_cast<Recorded*>(graph)->graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal); });
}

bool toolkit_graph_end(void* graph) {
  return succeeds([&] { static_cast<Recorded*>(graph)->graph.capture_end(); });
}

bool toolkit_graph_replay(void* graph) {
  return succeeds([&] { static_cast<Recorded*>(graph)->graph.replay(); });
}

void toolkit_graph_free(void* graph) {
  succeeds([&] {
    auto* recorded = static_cast<Recorded*>(graph);
    recorded->leave();
    delete recorded;
  });
}

// Compiles `source` for this device and keeps it loaded there for good. Null: see the error.
void* toolkit_module_new(int8_t device, const char* source, const char* name, const char* const* options, int count) {
  CUmodule module = nullptr;
  const bool loaded = succeeds([&] {
    const c10::cuda::CUDAGuard guard(device);
    const std::string architecture = "--gpu-architecture=" + machine(device);
    std::vector<const char*> all(options, options + count);
    all.push_back(architecture.c_str());
    const std::string cubin = Compiler()(source, name, all.data(), static_cast<int>(all.size()));
    check(symbol<CUresult (*)(CUmodule*, const void*)>("cuModuleLoadData")(&module, cubin.data()), name);
  });
  return loaded ? module : nullptr;
}

void* toolkit_module_function(void* module, const char* name) {
  CUfunction function = nullptr;
  const bool found = succeeds([&] {
    auto get = symbol<CUresult (*)(CUfunction*, CUmodule, const char*)>("cuModuleGetFunction");
    check(get(&function, static_cast<CUmodule>(module), name), name);
  });
  return found ? function : nullptr;
}

// On the current stream of the device. `arguments`: pointers to the values.
bool toolkit_launch(void* function, int8_t device, const uint32_t* grid, const uint32_t* block, uint32_t shared_bytes,
                    void** arguments) {
  return succeeds([&] {
    static const auto launch = symbol<CUresult (*)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned,
                                                   unsigned, unsigned, CUstream, void**, void**)>("cuLaunchKernel");
    const auto stream = c10::cuda::getCurrentCUDAStream(device).stream();
    check(launch(static_cast<CUfunction>(function), grid[0], grid[1], grid[2], block[0], block[1], block[2],
                 shared_bytes, stream, arguments, nullptr),
          "cuLaunchKernel");
  });
}
}
