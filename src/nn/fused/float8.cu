// Rows quantised to float8 (e4m3, a sign, four bits of exponent, three of mantissa): each row has a scale of its own, by
// which its largest number becomes the largest that there is. A block takes a row.

#if __CUDA_ARCH__ < 890
#error "this device has no float8"
#endif

#define LARGEST 448.0f
// So that a row of zeros has a scale.
#define SMALLEST 1e-12f

struct alignas(8) EightBytes {
  half_t pairs[4];
};

// The first goes to the lower byte. What is not a number stays so.
__device__ inline half_t two_bytes(float first, float second) {
  half_t out;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(out) : "f"(second), "f"(first));
  return out;
}

__device__ inline float largest_of(const float* row, float so_far) {
  for (int j = 0; j < 8; j++) so_far = fmaxf(so_far, fabsf(row[j]));
  return so_far;
}

// The largest over all threads of the block, given to each; `shared` has a place for each warp.
__device__ inline float block_max(float x, float* shared) {
  for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, offset));
  const int warps = (blockDim.x + 31) / 32;
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  for (int i = 0; i < warps; i++) x = fmaxf(x, shared[i]);
  return x;
}

// Writes the row that the threads keep, and its scale.
__device__ inline void write_row(const float kept[VECTORS][8], float largest, EightBytes* out, float* scales,
                                 int vectors, float* shared) {
  largest = fmaxf(block_max(largest, shared), SMALLEST);
  if (threadIdx.x == 0) scales[blockIdx.x] = largest / LARGEST;
  const float factor = LARGEST / largest;
  for (int v = 0, i = threadIdx.x; v < VECTORS && i < vectors; v++, i += blockDim.x) {
    EightBytes result;
    for (int j = 0; j < 4; j++) result.pairs[j] = two_bytes(kept[v][2 * j] * factor, kept[v][2 * j + 1] * factor);
    out[(long)blockIdx.x * vectors + i] = result;
  }
}

// x · sigmoid(2 u): the GELU's approximation with tanh.
__device__ inline float gelu_tanh(float x) {
  const float u = 0.7978845608f * (x + 0.044715f * x * x * x);
  return x / (1 + __expf(-2 * u));
}

template <bool GELU>
__device__ inline void quantise_rows(const Eight* x, EightBytes* out, float* scales, int size) {
  __shared__ float shared[32];
  const int vectors = size / 8;
  float kept[VECTORS][8], largest = 0;
  for (int v = 0, i = threadIdx.x; v < VECTORS && i < vectors; v++, i += blockDim.x) {
    const Eight numbers = x[(long)blockIdx.x * vectors + i];
    for (int j = 0; j < 8; j++) kept[v][j] = GELU ? gelu_tanh(up(numbers.x[j])) : up(numbers.x[j]);
    largest = largest_of(kept[v], largest);
  }
  write_row(kept, largest, out, scales, vectors, shared);
}

extern "C" __global__ void float8_rows(const Eight* x, EightBytes* out, float* scales, int size) {
  quantise_rows<false>(x, out, scales, size);
}

// Of gelu(x).
extern "C" __global__ void float8_gelu_rows(const Eight* x, EightBytes* out, float* scales, int size) {
  quantise_rows<true>(x, out, scales, size);
}

// Of what `modulated_row` gives, without a rounding to 16 bits on the way.
extern "C" __global__ void float8_gated_add_modulated_norm(const Eight* x, const Eight* y, const Eight* gate,
                                                           const Eight* scale, const Eight* shift, Eight* sum,
                                                           EightBytes* out, float* scales, int size, int pictures,
                                                           long stride, float eps) {
  __shared__ float shared[32];
  float kept[VECTORS][8], largest = 0;
  const GatedAdd add = {x, y, gate, sum};
  const Modulation modulation = {scale, shift, pictures, stride, eps};
  modulated_row(add, modulation, size, true, kept, shared,
                [&](int, const float* row) { largest = largest_of(row, largest); });
  write_row(kept, largest, out, scales, size / 8, shared);
}
