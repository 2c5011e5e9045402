// Norms over the last axis, with what stands before and after them. A block takes a row; each thread
// keeps up to VECTORS times eight numbers of it.

// sum = x + y (y null: nothing is added, and sum not written); out = sum / rms(sum) · weight.
extern "C" __global__ void add_rms_norm(const Eight* x, const Eight* y, const Eight* weight, Eight* sum, Eight* out,
                                        int size, float eps) {
  __shared__ float shared[32];
  const int vectors = size / 8;
  const long row = (long)blockIdx.x * vectors;
  let_next_start();
  wait_for_previous();
  float kept[VECTORS][8];
  float squares = 0;
  for (int v = 0, i = threadIdx.x; v < VECTORS && i < vectors; v++, i += blockDim.x) {
    Eight numbers = x[row + i];
    if (y != nullptr) {
      const Eight added = y[row + i];
      for (int j = 0; j < 8; j++) numbers.x[j] = down(up(numbers.x[j]) + up(added.x[j]));
      sum[row + i] = numbers;
    }
    for (int j = 0; j < 8; j++) {
      kept[v][j] = up(numbers.x[j]);
      squares += kept[v][j] * kept[v][j];
    }
  }
  const float scale = rsqrtf(block_sum(squares, shared) / size + eps);
  for (int v = 0, i = threadIdx.x; v < VECTORS && i < vectors; v++, i += blockDim.x) {
    const Eight factors = weight[i];
    Eight result;
    for (int j = 0; j < 8; j++) result.x[j] = down(rounded(kept[v][j] * scale) * up(factors.x[j]));
    out[row + i] = result;
  }
}

// sum = x + y (y null: nothing is added, and sum null; sum null: not wanted, and then not rounded on its way);
// out = (sum − mean) / deviation · weight + bias. y has `y_rows` rows, again and again. A warp takes a row, a
// lane up to LANE_VECTORS vectors of it.
template <int LANE_VECTORS>
__device__ inline void add_layer_norm(const Eight* x, const Eight* y, const Eight* weight, const Eight* bias,
                                      Eight* sum, Eight* out, int size, long rows, long y_rows, float eps) {
  const int vectors = size / 8, lane = threadIdx.x % 32;
  const long row = (long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  Eight factors[LANE_VECTORS], shifts[LANE_VECTORS];
#pragma unroll
  for (int v = 0; v < LANE_VECTORS; v++) {
    const int i = lane + v * 32;
    if (i >= vectors) break;
    factors[v] = weight[i];
    shifts[v] = bias[i];
  }
  let_next_start();
  wait_for_previous();
  if (row >= rows) return;
  x += row * vectors;
  if (y != nullptr) y += row % y_rows * vectors;
  float kept[LANE_VECTORS][8], total = 0, squares = 0;
#pragma unroll
  for (int v = 0; v < LANE_VECTORS; v++) {
    const int i = lane + v * 32;
    if (i >= vectors) break;
    Eight numbers = x[i];
    for (int j = 0; j < 8; j++) kept[v][j] = up(numbers.x[j]);
    if (y != nullptr) {
      const Eight added = y[i];
      for (int j = 0; j < 8; j++) {
        kept[v][j] += up(added.x[j]);
        if (sum != nullptr) kept[v][j] = up(numbers.x[j] = down(kept[v][j]));
      }
    }
    if (sum != nullptr) sum[row * vectors + i] = numbers;
    for (int j = 0; j < 8; j++) total += kept[v][j];
  }
  for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(~0u, total, offset);
  const float mean = total / size;
#pragma unroll
  for (int v = 0; v < LANE_VECTORS; v++) {
    if (lane + v * 32 >= vectors) break;
    for (int j = 0; j < 8; j++) squares += (kept[v][j] - mean) * (kept[v][j] - mean);
  }
  for (int offset = 16; offset > 0; offset /= 2) squares += __shfl_xor_sync(~0u, squares, offset);
  const float factor = rsqrtf(squares / size + eps);
#pragma unroll
  for (int v = 0; v < LANE_VECTORS; v++) {
    const int i = lane + v * 32;
    if (i >= vectors) break;
    Eight result;
    for (int j = 0; j < 8; j++) {
      result.x[j] = down((kept[v][j] - mean) * factor * up(factors[v].x[j]) + up(shifts[v].x[j]));
    }
    out[row * vectors + i] = result;
  }
}

#define ADD_LAYER_NORM(VECTORS)                                                                               \
  extern "C" __global__ void __launch_bounds__(128) add_layer_norm_##VECTORS(                                          \
      const Eight* x, const Eight* y, const Eight* weight, const Eight* bias, Eight* sum, Eight* out, int size,        \
      long rows, long y_rows, float eps) {                                                                             \
    add_layer_norm<VECTORS>(x, y, weight, bias, sum, out, size, rows, y_rows, eps);                                    \
  }

ADD_LAYER_NORM(1)
ADD_LAYER_NORM(2)
ADD_LAYER_NORM(3)
ADD_LAYER_NORM(4)
ADD_LAYER_NORM(5)

// out of `modulated_row` (out null: only the sum is wanted).
extern "C" __global__ void gated_add_modulated_norm(const Eight* x, const Eight* y, const Eight* gate,
                                                    const Eight* scale, const Eight* shift, Eight* sum, Eight* out,
                                                    int size, int pictures, long stride, float eps) {
  __shared__ float shared[32];
  float kept[VECTORS][8];
  const GatedAdd add = {x, y, gate, sum};
  const Modulation modulation = {scale, shift, pictures, stride, eps};
  modulated_row(add, modulation, size, out != nullptr, kept, shared, [&](int i, const float* row) {
    Eight result;
    for (int j = 0; j < 8; j++) result.x[j] = down(row[j]);
    out[(long)blockIdx.x * (size / 8) + i] = result;
  });
}

// out = silu(gate) · up, the two halves of each row of `size` + `size` numbers.
extern "C" __global__ void silu_product(const Eight* gate_up, Eight* out, int size, long count) {
  let_next_start();
  wait_for_previous();
  const long at = (long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  const int vectors = size / 8;
  const long row = at / vectors, column = at % vectors;
  const Eight gates = gate_up[row * 2 * vectors + column], ups = gate_up[(row * 2 + 1) * vectors + column];
  Eight result;
  for (int j = 0; j < 8; j++) {
    const float gate = up(gates.x[j]);
    result.x[j] = down(rounded(gate / (1 + __expf(-gate))) * up(ups.x[j]));
  }
  out[at] = result;
}

// Root-mean-square norm of each head of queries and of keys, where they stand: a row holds queries, keys and
// values, `heads` of `width` each. A thread takes a vector, `width / 8` threads (a power of two) a head.
extern "C" __global__ void norm_heads(Eight* qkv, const Eight* of_queries, const Eight* of_keys, int heads, int width,
                                      long rows, float eps) {
  const int lanes = width / 8, lane = threadIdx.x % lanes;
  const long head = ((long)blockIdx.x * blockDim.x + threadIdx.x) / lanes, both = 2 * heads;
  const bool is_there = head < rows * both;
  const long row = is_there ? head / both : 0, place = is_there ? head % both : 0;
  Eight* own = qkv + (row * 3 * heads + place) * lanes + lane;
  Eight numbers = *own;
  float squares = 0;
  for (int j = 0; j < 8; j++) squares += up(numbers.x[j]) * up(numbers.x[j]);
  for (int offset = lanes / 2; offset > 0; offset /= 2) squares += __shfl_xor_sync(~0u, squares, offset);
  if (!is_there) return;
  const float scale = rsqrtf(squares / width + eps);
  const Eight factors = (place < heads ? of_queries : of_keys)[lane];
  for (int j = 0; j < 8; j++) numbers.x[j] = down(rounded(up(numbers.x[j]) * scale) * up(factors.x[j]));
  *own = numbers;
}
