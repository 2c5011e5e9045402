// Feature maps with the channels last: [pictures, places, channels].

// Mean and sum of squared differences from it, of each group over a share of the places: block
// (share, picture), a thread eight channels of every so-many-th place.
// partial: [pictures, shares, groups, 2]
extern "C" __global__ void group_moments(const Eight* x, float* partial, long places, int channels, int groups,
                                         int per_share) {
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
        } else if (n > 0) {
          const float all = channel[0] + n, apart = mean - channel[1];
          channel[2] += around + apart * apart * channel[0] * n / all;
          channel[1] += apart * n / all;
          channel[0] = all;
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
      const float all = n + channel[0], apart = channel[1] - mean;
      around += channel[2] + apart * apart * n * channel[0] / all;
      mean += apart * channel[0] / all;
      n = all;
    }
    float* out = partial + (((long)picture * gridDim.x + share) * groups + g) * 2;
    out[0] = mean;
    out[1] = around;
  }
}

// The moments of all shares together, as a factor and a summand for each channel: block (picture),
// a thread a group at a time. affine: [pictures, channels, 2]
extern "C" __global__ void group_affine(const float* partial, const half_t* weight, const half_t* bias, float* affine,
                                        long places, int channels, int groups, int shares, int per_share, float eps) {
  const int picture = blockIdx.x, width = channels / groups;
  for (int g = threadIdx.x; g < groups; g += blockDim.x) {
    float n = 0, mean = 0, around = 0;
    for (int s = 0; s < shares; s++) {
      const float* from = partial + (((long)picture * shares + s) * groups + g) * 2;
      const float own = (float)min((long)per_share, places - (long)s * per_share) * width;
      const float all = n + own, apart = from[0] - mean;
      around += from[1] + apart * apart * n * own / all;
      mean += apart * own / all;
      n = all;
    }
    const float factor = rsqrtf(around / n + eps);
    for (int c = g * width; c < (g + 1) * width; c++) {
      const float scale = factor * up(weight[c]);
      affine[((long)picture * channels + c) * 2] = scale;
      affine[((long)picture * channels + c) * 2 + 1] = up(bias[c]) - mean * scale;
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
