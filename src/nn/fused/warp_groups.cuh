// Products of groups of four warps (wgmma), which read their second matrix from shared memory by themselves, and the
// barriers by which they and what fills the memory wait for each other. For Hopper.

#ifndef __CUDA_ARCH_FEAT_SM90_ALL
#error "this device has no wgmma"
#endif

typedef unsigned char byte_t;
typedef unsigned long long wide_t;

__device__ inline word_t in_shared(const void* at) { return (word_t)__cvta_generic_to_shared(at); }

__device__ inline void init_barrier(wide_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(in_shared(barrier)), "r"(arrivals) : "memory");
}

__device__ inline void arrive_at(wide_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(in_shared(barrier)) : "memory");
}

__device__ inline void wait_at(wide_t* barrier, int phase) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}"
      ::"r"(in_shared(barrier)), "r"(phase)
      : "memory");
}

// A matrix in shared memory, its rows side by side, swizzled; `eight_rows`: bytes from a row to the eighth after it.
__device__ inline wide_t matrix_at(const void* at, int eight_rows, int swizzle) {
  return (wide_t)(in_shared(at) >> 4 & 0x3fff) | (wide_t)1 << 16 | (wide_t)(eight_rows >> 4) << 32 | (wide_t)swizzle << 62;
}

__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

#define OUT4(KIND, x, i) KIND(x[i]), KIND(x[i + 1]), KIND(x[i + 2]), KIND(x[i + 3])
#define OUT16(KIND, x, i) OUT4(KIND, x, i), OUT4(KIND, x, i + 4), OUT4(KIND, x, i + 8), OUT4(KIND, x, i + 12)
