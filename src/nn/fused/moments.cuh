// Means and squared differences from them, of parts of a group, as they are put together.

// Takes `own` more numbers, with their mean and squared differences, to those of n numbers.
__device__ inline void merge(float& n, float& mean, float& around, float own, float its, float spread) {
  if (own == 0) return;
  const float all = n + own, apart = its - mean;
  around += spread + apart * apart * n * own / all;
  mean += apart * own / all;
  n = all;
}

// Sums and sums of squares of eight channels, of differences from `origin`: a number of the channel itself, so
// that no digits are lost where the mean is large.
struct Channels {
  float origin[8], sum[8], squares[8];

  __device__ inline Channels(const Eight& first) {
    for (int j = 0; j < 8; j++) {
      origin[j] = up(first.x[j]);
      sum[j] = squares[j] = 0;
    }
  }

  __device__ inline void add(const Eight& numbers) {
    for (int j = 0; j < 8; j++) {
      const float difference = up(numbers.x[j]) - origin[j];
      sum[j] += difference;
      squares[j] += difference * difference;
    }
  }
};

// What `rows` threads found of each of `width` channels, `count` numbers in all, becomes each channel's mean
// (without `deferred_bias`) and squared differences, always in the same order. sums: [2][rows][width], of which the first
// row of both keeps what was found; origins: [width].
__device__ inline void join_rows(const Channels& own, float* sums, float* origins, int rows, int width, float count) {
  const int vectors = width / 8, vector = threadIdx.x % vectors, row = threadIdx.x / vectors;
  float* squares = sums + rows * width;
  if (row < rows) {
    for (int j = 0; j < 8; j++) {
      sums[row * width + vector * 8 + j] = own.sum[j];
      squares[row * width + vector * 8 + j] = own.squares[j];
      if (row == 0) origins[vector * 8 + j] = own.origin[j];
    }
  }
  __syncthreads();
  // As many threads share a channel as there are, then one goes over what they found.
  const int shares = max(1, min((int)blockDim.x / width, rows));
  for (int i = threadIdx.x; i < width * shares; i += blockDim.x) {
    float sum = 0, square = 0;
    for (int at = i; at < rows * width; at += shares * width) {
      sum += sums[at];
      square += squares[at];
    }
    sums[i] = sum;
    squares[i] = square;
  }
  __syncthreads();
  for (int c = threadIdx.x; c < width; c += blockDim.x) {
    float sum = 0, square = 0;
    for (int s = 0; s < shares; s++) {
      sum += sums[s * width + c];
      square += squares[s * width + c];
    }
    const float mean = count > 0 ? sum / count : 0;
    sums[c] = origins[c] + mean;
    squares[c] = fmaxf(square - sum * mean, 0);
  }
  __syncthreads();
}

// Mean and squared differences of a group of `width` channels, from those of its channels, which have `count`
// numbers each; for all lanes of a warp. deferred_bias (or null) is added to the channels' means.
__device__ inline void join_channels(const float* means, const float* squares, const half_t* deferred_bias, int width,
                                     float count, float& mean, float& around) {
  const int lane = threadIdx.x % 32;
  float sum = 0;
  for (int c = lane; c < width; c += 32) sum += means[c] + (deferred_bias != nullptr ? up(deferred_bias[c]) : 0);
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
  mean = sum / width;
  around = 0;
  for (int c = lane; c < width; c += 32) {
    const float apart = means[c] + (deferred_bias != nullptr ? up(deferred_bias[c]) : 0) - mean;
    around += squares[c] + apart * apart * count;
  }
  for (int offset = 16; offset > 0; offset /= 2) around += __shfl_xor_sync(~0u, around, offset);
}
