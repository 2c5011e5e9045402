// Blocks that run at the same time and read each other's shared memory: from compute capability 9 on.

#if __CUDA_ARCH__ >= 900

// What a block of the cluster has where this block has `own`.
__device__ inline float of_block(const float* own, int rank) {
  const word_t here = (word_t)__cvta_generic_to_shared(own);
  word_t there;
  float out;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(rank));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(out) : "r"(there) : "memory");
  return out;
}

// For all threads of the cluster: a barrier in two halves.
__device__ inline void arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
__device__ inline void wait_for_all() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

#endif
