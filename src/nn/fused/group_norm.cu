// Group norms of feature maps with the channels last ([pictures, places, channels]) in one go: `blocks` blocks
// keep some of the channels of a picture (whole groups of `width`, eight channels of at most two groups at a time) in
// their shared memory and tell each other what they found. Blocks (part of the channels · blocks + share of the
// places, picture). Older devices than compute capability 9 have no such clusters of blocks, and none of these kernels.

#if __CUDA_ARCH__ >= 900

#define MOST_BLOCKS 8

// What a thread found in the first group of its eight channels and in the next one: sums of differences from the
// group's origin, and of their squares.
struct alignas(16) Found {
  float sum, squares, next_sum, next_squares;
};

// Sums of all blocks of the cluster.
struct alignas(8) Share {
  float sum, squares;
};

// What all rows of threads found of group g; for all lanes of a warp.
__device__ inline Share join_found(const Found* found, int g, int rows, int vectors, int width) {
  Share whole = {0, 0};
  for (int v = g * width / 8; v <= ((g + 1) * width - 1) / 8; v++) {
    const bool is_next = v * 8 / width != g;
    for (int row = threadIdx.x % 32; row < rows; row += 32) {
      const Found own = found[row * vectors + v];
      whole.sum += is_next ? own.next_sum : own.sum;
      whole.squares += is_next ? own.next_squares : own.squares;
    }
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    whole.sum += __shfl_xor_sync(~0u, whole.sum, offset);
    whole.squares += __shfl_xor_sync(~0u, whole.squares, offset);
  }
  return whole;
}

// Mean, as its distance from the origin, and 1 / deviation of group g, of which each block told its share.
__device__ inline void moments_of(const Share* told, int g, int groups, int blocks, float count, float eps, float& mean,
                                  float& factor) {
  float sum = 0, squares = 0;
#pragma unroll
  for (int b = 0; b < MOST_BLOCKS; b++) {
    if (b >= blocks) break;
    sum += told[b * groups + g].sum;
    squares += told[b * groups + g].squares;
  }
  mean = sum / count;
  factor = rsqrtf(fmaxf(squares / count - mean * mean, 0) + eps);
}

// out = act(norm(x + deferred_bias) · weight + bias); act is SiLU or nothing, deferred_bias (one number for each channel) may
// be null. A thread takes eight channels of every `rows`-th place.
__device__ __noinline__ void group_norm(const Eight* x, const half_t* deferred_bias, const half_t* weight,
                                        const half_t* bias, Eight* out, int places, int channels, int part, int width,
                                        int rows, float eps, int silu, int blocks) {
  extern __shared__ Eight kept[];
  const int vectors = part / 8, vector = threadIdx.x % vectors, row = threadIdx.x / vectors, groups = part / width;
  const int rank = blockIdx.x % blocks, share = (places + blocks - 1) / blocks, from = rank * share;
  const int here = max(min(places - from, share), 0), count = row < rows ? here : 0;
  Found* found = (Found*)(kept + share * vectors);
  Share* told = (Share*)(found + rows * vectors);
  const int first = blockIdx.x / blocks * part, channel = first + vector * 8, all = channels / 8;
  const long start = (long)blockIdx.y * places * all + channel / 8;

  // None tells another one anything before that one has begun.
  if (blocks > 1) arrive();
  const Eight weights = *(const Eight*)(weight + channel), biases = *(const Eight*)(bias + channel);
  let_next_start();
  wait_for_previous();
  const Eight* own = x + start + (long)from * all;
#pragma unroll 4
  for (int place = row; place < count; place += rows) fetch(&kept[place * vectors + vector], &own[(long)place * all]);

  // The first `border` of the eight channels are of group g. What is summed are differences from a number of the group
  // itself, so that no digits are lost where the mean is large.
  const int g = vector * 8 / width, border = (g + 1) * width - vector * 8, next = min(g + 1, groups - 1);
  const half_t* of_groups = (const half_t*)(x + (long)blockIdx.y * places * all) + first;
  float origin = up(of_groups[g * width]), next_origin = up(of_groups[next * width]), summand[8];
  if (deferred_bias != nullptr) {
    origin += up(deferred_bias[first + g * width]);
    next_origin += up(deferred_bias[first + next * width]);
  }
  for (int j = 0; j < 8; j++) {
    summand[j] = (deferred_bias != nullptr ? up(deferred_bias[channel + j]) : 0) - (j < border ? origin : next_origin);
  }
  wait_for_fetched();
  float sums[8] = {}, squares[8] = {};
#pragma unroll 2
  for (int place = row; place < count; place += rows) {
    const Eight numbers = kept[place * vectors + vector]; // which this thread fetched itself
    for (int j = 0; j < 8; j++) {
      const float difference = up(numbers.x[j]) + summand[j];
      sums[j] += difference;
      squares[j] += difference * difference;
    }
  }
  Found mine = {0, 0, 0, 0};
  for (int j = 0; j < 8; j++) {
    const bool is_first = j < border;
    mine.sum += is_first ? sums[j] : 0;
    mine.squares += is_first ? squares[j] : 0;
    mine.next_sum += is_first ? 0 : sums[j];
    mine.next_squares += is_first ? 0 : squares[j];
  }
  if (row < rows) found[threadIdx.x] = mine;
  __syncthreads();

  if (blocks > 1) wait_for_all();
  for (int i = threadIdx.x / 32; i < groups; i += blockDim.x / 32) {
    const Share whole = join_found(found, i, rows, vectors, width);
    const int lane = threadIdx.x % 32;
    if (blocks > 1 && lane < blocks) {
      tell(&told[rank * groups + i].sum, lane, whole.sum);
      tell(&told[rank * groups + i].squares, lane, whole.squares);
    } else if (blocks == 1 && lane == 0) {
      told[i] = whole;
    }
  }
  if (blocks > 1) {
    arrive();
    wait_for_all();
  } else {
    __syncthreads();
  }

  float mean, factor, next_mean, next_factor, scale[8];
  const float numbers_of_group = (float)places * width;
  moments_of(told, g, groups, blocks, numbers_of_group, eps, mean, factor);
  moments_of(told, next, groups, blocks, numbers_of_group, eps, next_mean, next_factor);
  for (int j = 0; j < 8; j++) {
    scale[j] = (j < border ? factor : next_factor) * up(weights.x[j]);
    summand[j] = up(biases.x[j]) + (summand[j] - (j < border ? mean : next_mean)) * scale[j];
  }
  Eight* own_out = out + start + (long)from * all;
#pragma unroll 2
  for (int place = row; place < count; place += rows) {
    const Eight numbers = kept[place * vectors + vector];
    Eight result;
    for (int j = 0; j < 8; j++) {
      float number = up(numbers.x[j]) * scale[j] + summand[j];
      if (silu) number = __fdividef(number, 1 + __expf(-number));
      result.x[j] = down(number);
    }
    own_out[(long)place * all] = result;
  }
}

#define GROUP_NORM(BLOCKS)                                                                           \
  extern "C" __global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(512, 2) group_norm_##BLOCKS(               \
      const Eight* x, const half_t* deferred_bias, const half_t* weight, const half_t* bias, Eight* out, int places,          \
      int channels, int part, int width, int rows, float eps, int silu) {                                              \
    group_norm(x, deferred_bias, weight, bias, out, places, channels, part, width, rows, eps, silu, BLOCKS);                  \
  }

GROUP_NORM(1)
GROUP_NORM(2)
GROUP_NORM(4)
GROUP_NORM(8)
#endif
