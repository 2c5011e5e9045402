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

// Writes a number to where block `rank` of the cluster has what is at `own` here.
__device__ inline void tell(const float* own, int rank, float number) {
  const word_t here = (word_t)__cvta_generic_to_shared(own);
  word_t there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(rank));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(number) : "memory");
}

// Copies eight numbers from memory to shared memory while the thread goes on; there for itself after `wait_for_fetched`.
__device__ inline void fetch(Eight* kept, const Eight* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((word_t)__cvta_generic_to_shared(kept)), "l"(from)
               : "memory");
}
__device__ inline void wait_for_fetched() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// For all threads of the cluster: a barrier in two halves.
__device__ inline void arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
__device__ inline void wait_for_all() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

#endif
