// Numbers of 16 bits, computed with in float32. `BF16` or `F16` is defined by who compiles; the
// conversions are instructions of the device, so that no header of the CUDA toolkit is needed.

typedef unsigned short half_t;
typedef unsigned int word_t;

#ifdef BF16
__device__ inline float up(half_t x) { return __uint_as_float((word_t)x << 16); }
__device__ inline half_t down(float x) {
  half_t out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
}
#else
__device__ inline float up(half_t x) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x));
  return out;
}
__device__ inline half_t down(float x) {
  half_t out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
}
#endif

// Eight numbers, read and written at once.
struct alignas(16) Eight {
  half_t x[8];
};

// The same as four words.
struct alignas(16) Words {
  word_t x[4];
};

__device__ inline Words words(const Eight& numbers) {
  Words out;
  for (int i = 0; i < 4; i++) out.x[i] = numbers.x[2 * i] | (word_t)numbers.x[2 * i + 1] << 16;
  return out;
}

__device__ inline float rounded(float x) { return up(down(x)); }

// The sum over all threads of the block, given to each; `shared` has a place for each warp.
__device__ inline float block_sum(float x, float* shared) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(~0u, x, offset);
  const int warps = (blockDim.x + 31) / 32;
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  x = 0;
  for (int i = 0; i < warps; i++) x += shared[i];
  return x;
}

// Of kernels that may start before the one before them has ended (see `launch_dependent`): what that one
// wrote can be read, and what it read be written to, only after this.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// From here on of all blocks, the next kernel may start where there is room.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
