// Group norms of feature maps with the channels last ([pictures, places, channels]) in one go: `blocks` blocks
// keep some of the channels of a picture (whole groups of `width`) in their shared memory and tell each other
// what they found. Blocks (part of the channels · blocks + share of the places, picture). Older devices
// than compute capability 9 have no such clusters of blocks, and none of these kernels.

#if __CUDA_ARCH__ >= 900

// partial: [2][groups], mean and squared differences of each group in this block's share of the places →
// whole: [2][groups], mean and variance in all shares. Eight threads take a group, each a block at most.
__device__ inline void join_blocks(const float* partial, float* whole, int groups, int places, int share, int width,
                                   int blocks) {
  arrive();
  wait_for_all();
  const int rank = threadIdx.x % 8;
  for (int base = 0; base < groups; base += blockDim.x / 8) {
    const int g = base + threadIdx.x / 8;
    const bool is_there = g < groups && rank < blocks;
    float n = is_there ? (float)max(min(places - rank * share, share), 0) * width : 0;
    float mean = n > 0 ? of_block(partial + g, rank) : 0, around = n > 0 ? of_block(partial + groups + g, rank) : 0;
    for (int offset = 4; offset > 0; offset /= 2) {
      const float own = __shfl_down_sync(~0u, n, offset, 8), its = __shfl_down_sync(~0u, mean, offset, 8);
      merge(n, mean, around, own, its, __shfl_down_sync(~0u, around, offset, 8));
    }
    if (is_there && rank == 0) {
      whole[g] = mean;
      whole[groups + g] = around / n;
    }
  }
  // None leaves while another one still reads what it found.
  arrive();
  __syncthreads();
}

// out = act(norm(x + deferred_bias) · weight + bias); act is SiLU or nothing, deferred_bias (one number for each channel) may
// be null. A thread takes eight channels of every `rows`-th place.
__device__ __noinline__ void group_norm(const Eight* x, const half_t* deferred_bias, const half_t* weight,
                                        const half_t* bias, Eight* out, int places, int channels, int part, int width,
                                        int rows, float eps, int silu, int blocks) {
  extern __shared__ Eight kept[];
  const int vectors = part / 8, vector = threadIdx.x % vectors, row = threadIdx.x / vectors, groups = part / width;
  const int share = (places + blocks - 1) / blocks, from = blockIdx.x % blocks * share;
  const int here = max(min(places - from, share), 0), count = row < rows ? here : 0;
  float* sums = (float*)(kept + share * vectors);
  float *origins = sums + 2 * rows * part, *partial = origins + part, *whole = partial + 2 * groups;
  const int first = blockIdx.x / blocks * part, channel = first + vector * 8, all = channels / 8;
  const Eight* picture = x + (long)blockIdx.y * places * all + channel / 8;

  Channels own(picture[0]);
#pragma unroll 4
  for (int place = row; place < count; place += rows) {
    const Eight numbers = picture[(long)(from + place) * all];
    kept[place * vectors + vector] = numbers;
    own.add(numbers);
  }
  join_rows(own, sums, origins, rows, part, here);
  for (int g = threadIdx.x / 32; g < groups; g += blockDim.x / 32) {
    float mean, around;
    const half_t* deferred_bias_here = deferred_bias != nullptr ? deferred_bias + first + g * width : nullptr;
    join_channels(sums + g * width, sums + rows * part + g * width, deferred_bias_here, width, here, mean, around);
    if (threadIdx.x % 32 == 0) {
      partial[g] = mean;
      partial[groups + g] = around;
    }
  }
  join_blocks(partial, whole, groups, places, share, width, blocks);

  float scale[8], shift[8];
  for (int j = 0; j < 8; j++) {
    const int g = (vector * 8 + j) / width;
    const float summand = deferred_bias != nullptr ? up(deferred_bias[channel + j]) : 0;
    scale[j] = rsqrtf(whole[groups + g] + eps) * up(weight[channel + j]);
    shift[j] = up(bias[channel + j]) + (summand - whole[g]) * scale[j];
  }
  Eight* place_out = out + (long)blockIdx.y * places * all + channel / 8;
  // A thread reads what it kept itself.
#pragma unroll 4
  for (int place = row; place < count; place += rows) {
    const Eight numbers = kept[place * vectors + vector];
    Eight result;
    for (int j = 0; j < 8; j++) {
      float number = up(numbers.x[j]) * scale[j] + shift[j];
      if (silu) number = __fdividef(number, 1 + __expf(-number));
      result.x[j] = down(number);
    }
    place_out[(long)(from + place) * all] = result;
  }
  wait_for_all();
}

#define GROUP_NORM(BLOCKS)                                                                           \
  extern "C" __global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(512) group_norm_##BLOCKS(                  \
      const Eight* x, const half_t* deferred_bias, const half_t* weight, const half_t* bias, Eight* out, int places,          \
      int channels, int part, int width, int rows, float eps, int silu) {                                              \
    group_norm(x, deferred_bias, weight, bias, out, places, channels, part, width, rows, eps, silu, BLOCKS);                  \
  }

GROUP_NORM(2)
GROUP_NORM(8)
#endif
