// Group norms of feature maps with the channels last ([pictures, places, channels]) in one go: `blocks` blocks
// keep some of the channels of a picture (whole groups of `width`) in their shared memory and tell each other
// their sums. Blocks (part of the channels · blocks + share of the places, picture). Older devices
// than compute capability 9 have no such clusters of blocks, and none of these kernels.

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

// Sums of the threads' own eight channels over all threads, channels of a group, and blocks: whole[group].
// Always in the same order. sums: [rows][part]; partial, whole: [groups of the part]
__device__ inline void sum_groups(const float own[8], float* sums, float* partial, float* whole, int rows, int part,
                                  int width, int blocks) {
  const int vectors = part / 8, vector = threadIdx.x % vectors, row = threadIdx.x / vectors, groups = part / width;
  if (row < rows) {
    for (int j = 0; j < 8; j++) sums[row * part + vector * 8 + j] = own[j];
  }
  __syncthreads();
  for (int c = threadIdx.x; c < part; c += blockDim.x) {
    float sum = 0;
#pragma unroll 8
    for (int r = 0; r < rows; r++) sum += sums[r * part + c];
    sums[c] = sum;
  }
  __syncthreads();
  const int lane = threadIdx.x % 32;
  for (int g = threadIdx.x / 32; g < groups; g += blockDim.x / 32) {
    float sum = 0;
    for (int c = lane; c < width; c += 32) sum += sums[g * width + c];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
    if (lane == 0) partial[g] = sum;
  }
  arrive();
  wait_for_all();
  for (int g = threadIdx.x; g < groups; g += blockDim.x) {
    float sum = 0;
    for (int rank = 0; rank < blocks; rank++) sum += of_block(partial + g, rank);
    whole[g] = sum;
  }
  __syncthreads();
}

// out = act(norm(x + raised) · weight + bias); act is SiLU or nothing, raised (one number for each channel) may
// be null. A thread takes eight channels of every `rows`-th place.
__device__ __noinline__ void group_norm(const Eight* x, const half_t* raised, const half_t* weight,
                                        const half_t* bias, Eight* out, int places, int channels, int part, int width,
                                        int rows, float eps, int silu, int blocks) {
  extern __shared__ Eight kept[];
  const int vectors = part / 8, vector = threadIdx.x % vectors, row = threadIdx.x / vectors, groups = part / width;
  const int share = (places + blocks - 1) / blocks, from = blockIdx.x % blocks * share;
  const int count = row < rows ? min(places - from, share) : 0;
  float* sums = (float*)(kept + share * vectors);
  float *partial = sums + rows * part, *whole = partial + 2 * groups;
  const int channel = blockIdx.x / blocks * part + vector * 8, all = channels / 8;
  const long start = ((long)blockIdx.y * places + from) * all + channel / 8;

  float own[8], summand[8];
  for (int j = 0; j < 8; j++) {
    own[j] = 0;
    summand[j] = raised != nullptr ? up(raised[channel + j]) : 0;
  }
#pragma unroll 4
  for (int place = row; place < count; place += rows) {
    const Eight numbers = x[start + (long)place * all];
    kept[place * vectors + vector] = numbers;
    for (int j = 0; j < 8; j++) own[j] += up(numbers.x[j]) + summand[j];
  }
  sum_groups(own, sums, partial, whole, rows, part, width, blocks);
  const float total = (float)places * width;
  float mean[8];
  for (int j = 0; j < 8; j++) {
    mean[j] = whole[(vector * 8 + j) / width] / total;
    own[j] = 0;
  }
  // A thread reads what it kept itself.
  for (int place = row; place < count; place += rows) {
    const Eight numbers = kept[place * vectors + vector];
    for (int j = 0; j < 8; j++) {
      const float difference = up(numbers.x[j]) + summand[j] - mean[j];
      own[j] += difference * difference;
    }
  }
  sum_groups(own, sums, partial + groups, whole + groups, rows, part, width, blocks);
  // None leaves while another one still reads its sums.
  arrive();
  float scale[8], shift[8];
  for (int j = 0; j < 8; j++) {
    const float variance = whole[groups + (vector * 8 + j) / width] / total;
    scale[j] = rsqrtf(variance + eps) * up(weight[channel + j]);
    shift[j] = up(bias[channel + j]) + (summand[j] - mean[j]) * scale[j];
  }
  for (int place = row; place < count; place += rows) {
    const Eight numbers = kept[place * vectors + vector];
    Eight result;
    for (int j = 0; j < 8; j++) {
      float number = up(numbers.x[j]) * scale[j] + shift[j];
      if (silu) number = number / (1 + __expf(-number));
      result.x[j] = down(number);
    }
    out[start + (long)place * all] = result;
  }
  wait_for_all();
}

#define GROUP_NORM(BLOCKS)                                                                           \
  extern "C" __global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(512) group_norm_##BLOCKS(                  \
      const Eight* x, const half_t* raised, const half_t* weight, const half_t* bias, Eight* out, int places,          \
      int channels, int part, int width, int rows, float eps, int silu) {                                              \
    group_norm(x, raised, weight, bias, out, places, channels, part, width, rows, eps, silu, BLOCKS);                  \
  }

GROUP_NORM(2)
GROUP_NORM(8)
#endif
