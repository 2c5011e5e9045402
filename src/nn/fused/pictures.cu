// Feature maps with the channels last: [pictures, places, channels].

// Mean and sum of squared differences from it, of each group over a share of the places: block
// (share, picture), a thread eight channels of every so-many-th place.
// `deferred_bias` (null: nothing) is added to the channels first. partial: [pictures, shares, groups, 2]
extern "C" __global__ void group_moments(const Eight* x, const half_t* deferred_bias, float* partial, int places,
                                         int channels, int groups, int per_share) {
  extern __shared__ float shared[];
  const int share = blockIdx.x, picture = blockIdx.y, vectors = channels / 8, width = channels / groups;
  const int rows = blockDim.x / vectors, vector = threadIdx.x % vectors, row = threadIdx.x / vectors;
  const int from = share * per_share, here = min(per_share, places - from), count = row < rows ? here : 0;
  const Eight* map = x + ((long)picture * places + from) * vectors + vector;
  Channels own(map[0]);
#pragma unroll 4
  for (int place = row; place < count; place += rows) own.add(map[(long)place * vectors]);
  join_rows(own, shared, shared + 2 * rows * channels, rows, channels, here);
  for (int g = threadIdx.x / 32; g < groups; g += blockDim.x / 32) {
    float mean, around;
    const float* means = shared + g * width;
    const half_t* deferred_bias_here = deferred_bias != nullptr ? deferred_bias + g * width : nullptr;
    join_channels(means, means + rows * channels, deferred_bias_here, width, here, mean, around);
    if (threadIdx.x % 32 == 0) {
      float* out = partial + (((long)picture * gridDim.x + share) * groups + g) * 2;
      out[0] = mean;
      out[1] = around;
    }
  }
}

// The moments of all shares together, as a factor and a summand for each channel of x: block (picture, some
// groups), a warp a group. affine: [pictures, 2, channels]
extern "C" __global__ void group_affine(const float* partial, const half_t* deferred_bias, const half_t* weight,
                                        const half_t* bias, float* affine, int places, int channels, int groups,
                                        int shares, int per_share, float eps) {
  const int picture = blockIdx.x, width = channels / groups, lane = threadIdx.x % 32;
  const int g = blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32;
  if (g >= groups) return;
  float n = 0, mean = 0, around = 0;
#pragma unroll 4
  for (int s = lane; s < shares; s += 32) {
    const float* from = partial + (((long)picture * shares + s) * groups + g) * 2;
    merge(n, mean, around, (float)min(per_share, places - s * per_share) * width, from[0], from[1]);
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    const float own = __shfl_down_sync(~0u, n, offset), its = __shfl_down_sync(~0u, mean, offset);
    merge(n, mean, around, own, its, __shfl_down_sync(~0u, around, offset));
  }
  mean = __shfl_sync(~0u, mean, 0);
  const float factor = rsqrtf(__shfl_sync(~0u, around / n, 0) + eps);
  float* out = affine + (long)picture * 2 * channels;
  for (int c = g * width + lane; c < (g + 1) * width; c += 32) {
    const float scale = factor * up(weight[c]), summand = deferred_bias != nullptr ? up(deferred_bias[c]) : 0;
    out[c] = scale;
    out[channels + c] = up(bias[c]) + (summand - mean) * scale;
  }
}

// out = act(x · factor + summand); act is SiLU or nothing. Block (share of the places, picture), a thread eight
// channels of every so-many-th place.
extern "C" __global__ void apply_affine(const Eight* x, const float* affine, Eight* out, int places, int channels,
                                        int per_share, int silu) {
  const int vectors = channels / 8, vector = threadIdx.x % vectors, row = threadIdx.x / vectors;
  const int rows = blockDim.x / vectors, from = blockIdx.x * per_share, to = min(from + per_share, places);
  const float* own = affine + (long)blockIdx.y * 2 * channels + vector * 8;
  float factor[8], summand[8];
  for (int j = 0; j < 8; j++) {
    factor[j] = own[j];
    summand[j] = own[channels + j];
  }
  const long start = (long)blockIdx.y * places * vectors + vector;
#pragma unroll 4
  for (int place = from + row; place < to; place += rows) {
    const Eight numbers = x[start + (long)place * vectors];
    Eight result;
    for (int j = 0; j < 8; j++) {
      float number = up(numbers.x[j]) * factor[j] + summand[j];
      if (silu) number = __fdividef(number, 1 + __expf(-number));
      result.x[j] = down(number);
    }
    out[start + (long)place * vectors] = result;
  }
}

// out = x + map + deferred_bias (x null: nothing is added), a thread eight channels of a place; deferred_bias has a number for
// each channel. `out` may be `map`.
extern "C" __global__ void add_deferred_bias(const Eight* x, const Eight* map, const Eight* deferred_bias, Eight* out, int vectors,
                                      long count) {
  let_next_start();
  wait_for_previous();
  const long at = (long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const Eight added = map[at], summands = deferred_bias[at % vectors];
  Eight numbers = {}, result;
  if (x != nullptr) numbers = x[at];
  for (int j = 0; j < 8; j++) result.x[j] = down(up(numbers.x[j]) + up(added.x[j]) + up(summands.x[j]));
  out[at] = result;
}

// Each place of x [pictures, height, width] becomes four of out, a thread eight channels of it.
extern "C" __global__ void upsample_nearest_2x(const Eight* x, Eight* out, int width, int vectors, int count) {
  let_next_start();
  wait_for_previous();
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int place = at / vectors, vector = at % vectors, row = place / width, column = place % width;
  const Eight numbers = x[at];
  Eight* corner = out + ((long)row * 4 * width + 2 * column) * vectors + vector;
  const long below = 2L * width * vectors;
  corner[0] = corner[vectors] = corner[below] = corner[below + vectors] = numbers;
}

// out = value · gelu(gate), the two halves of each row of `size` + `size` numbers; gelu by the error function.
extern "C" __global__ void gelu_product(const Eight* value_gate, Eight* out, int size, long count) {
  let_next_start();
  wait_for_previous();
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
