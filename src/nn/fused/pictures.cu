// Feature maps with the channels last: [pictures, places, channels].

// Takes `own` more numbers, with their mean and squared differences, to those of n numbers.
__device__ inline void merge(float& n, float& mean, float& around, float own, float its, float spread) {
  if (own == 0) return;
  const float all = n + own, apart = its - mean;
  around += spread + apart * apart * n * own / all;
  mean += apart * own / all;
  n = all;
}

// Mean and sum of squared differences from it, of each group over a share of the places: block
// (share, picture), a thread eight channels of every so-many-th place.
// `raised` (null: nothing) is added to the channels first. partial: [pictures, shares, groups, 2]
extern "C" __global__ void group_moments(const Eight* x, const half_t* raised, float* partial, long places,
                                         int channels, int groups, int per_share) {
  extern __shared__ float shared[];
  const int share = blockIdx.x, picture = blockIdx.y, vectors = channels / 8;
  const int rows = blockDim.x / vectors, vector = threadIdx.x % vectors, row = threadIdx.x / vectors;
  const long from = (long)share * per_share, to = min(from + per_share, places);
  // Sums of differences from the first number of the channel: no digits are lost where the mean is large.
  float sum[8], squares[8], origin[8];
  const Eight* map = x + (long)picture * places * vectors + vector;
  const Eight first = map[from * vectors];
  for (int j = 0; j < 8; j++) {
    origin[j] = up(first.x[j]);
    sum[j] = squares[j] = 0;
  }
  long count = 0;
  for (long place = from + row; row < rows && place < to; place += rows, count++) {
    const Eight numbers = map[place * vectors];
    for (int j = 0; j < 8; j++) {
      const float difference = up(numbers.x[j]) - origin[j];
      sum[j] += difference;
      squares[j] += difference * difference;
    }
  }
  // [channels][3]: count, mean, squared differences, merged over the rows of threads one after another.
  for (int turn = 0; turn < rows; turn++) {
    if (turn == row && row < rows) {
      for (int j = 0; j < 8; j++) {
        float* channel = shared + (vector * 8 + j) * 3;
        const float n = count, mean = n > 0 ? origin[j] + sum[j] / n : 0;
        const float around = n > 0 ? squares[j] - sum[j] * sum[j] / n : 0;
        if (turn == 0) {
          channel[0] = n, channel[1] = mean, channel[2] = around;
        } else {
          merge(channel[0], channel[1], channel[2], n, mean, around);
        }
      }
    }
    __syncthreads();
  }
  const int width = channels / groups;
  for (int g = threadIdx.x; g < groups; g += blockDim.x) {
    float n = 0, mean = 0, around = 0;
    for (int c = 0; c < width; c++) {
      const float* channel = shared + (g * width + c) * 3;
      const float summand = raised != nullptr ? up(raised[g * width + c]) : 0;
      merge(n, mean, around, channel[0], channel[1] + summand, channel[2]);
    }
    float* out = partial + (((long)picture * gridDim.x + share) * groups + g) * 2;
    out[0] = mean;
    out[1] = around;
  }
}

// The moments of all shares together, as a factor and a summand for each channel of x: block (picture), a warp
// a group at a time. affine: [pictures, channels, 2]
extern "C" __global__ void group_affine(const float* partial, const half_t* raised, const half_t* weight,
                                        const half_t* bias, float* affine, long places, int channels, int groups,
                                        int shares, int per_share, float eps) {
  const int picture = blockIdx.x, width = channels / groups, lane = threadIdx.x % 32;
  for (int g = threadIdx.x / 32; g < groups; g += blockDim.x / 32) {
    float n = 0, mean = 0, around = 0;
    for (int s = lane; s < shares; s += 32) {
      const float* from = partial + (((long)picture * shares + s) * groups + g) * 2;
      const float own = (float)min((long)per_share, places - (long)s * per_share) * width;
      merge(n, mean, around, own, from[0], from[1]);
    }
    for (int offset = 16; offset > 0; offset /= 2) {
      const float own = __shfl_down_sync(~0u, n, offset), its = __shfl_down_sync(~0u, mean, offset);
      merge(n, mean, around, own, its, __shfl_down_sync(~0u, around, offset));
    }
    mean = __shfl_sync(~0u, mean, 0);
    const float factor = rsqrtf(__shfl_sync(~0u, around / n, 0) + eps);
    for (int c = g * width + lane; c < (g + 1) * width; c += 32) {
      const float scale = factor * up(weight[c]), summand = raised != nullptr ? up(raised[c]) : 0;
      affine[((long)picture * channels + c) * 2] = scale;
      affine[((long)picture * channels + c) * 2 + 1] = up(bias[c]) + (summand - mean) * scale;
    }
  }
}

// out = act(x · factor + summand), a thread eight channels of a place; act is SiLU or nothing.
extern "C" __global__ void apply_affine(const Eight* x, const float* affine, Eight* out, long places, int channels,
                                        long count, int silu) {
  const long at = (long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int vectors = channels / 8;
  const long picture = at / (places * vectors), channel = at % vectors * 8;
  const float* own = affine + (picture * channels + channel) * 2;
  const Eight numbers = x[at];
  Eight result;
  for (int j = 0; j < 8; j++) {
    float number = up(numbers.x[j]) * own[2 * j] + own[2 * j + 1];
    if (silu) number = number / (1 + __expf(-number));
    result.x[j] = down(number);
  }
  out[at] = result;
}

// out = x + map + raised, a thread eight channels of a place; raised has a number for each channel.
extern "C" __global__ void add_raised(const Eight* x, const Eight* map, const Eight* raised, Eight* out, int vectors,
                                      long count) {
  const long at = (long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const Eight numbers = x[at], added = map[at], summands = raised[at % vectors];
  Eight result;
  for (int j = 0; j < 8; j++) result.x[j] = down(up(numbers.x[j]) + up(added.x[j]) + up(summands.x[j]));
  out[at] = result;
}

// out = value · gelu(gate), the two halves of each row of `size` + `size` numbers; gelu by the error function.
extern "C" __global__ void gelu_product(const Eight* value_gate, Eight* out, int size, long count) {
  const long at = (long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int vectors = size / 8;
  const long row = at / vectors, column = at % vectors;
  const Eight values = value_gate[row * 2 * vectors + column], gates = value_gate[(row * 2 + 1) * vectors + column];
  Eight result;
  for (int j = 0; j < 8; j++) {
    const float gate = up(gates.x[j]);
    result.x[j] = down(up(values.x[j]) * rounded(0.5f * gate * (1 + erff(gate * 0.70710678f))));
  }
  out[at] = result;
}
