// A layer norm with scale and shift over the sum that stands before it, in rows: a block takes a row; each thread keeps
// up to VECTORS times eight numbers of it.

#define VECTORS 2

// Of the row that the threads of a block keep.
__device__ inline float variance(const float kept[VECTORS][8], float mean, int vectors, int size, float* shared) {
  float squares = 0;
  for (int v = 0, i = threadIdx.x; v < VECTORS && i < vectors; v++, i += blockDim.x) {
    for (int j = 0; j < 8; j++) squares += (kept[v][j] - mean) * (kept[v][j] - mean);
  }
  return block_sum(squares, shared) / size;
}

// sum = x + gate · y; y null: nothing is added, and sum not written. gate: see `Modulation`.
struct GatedAdd {
  const Eight *x, *y, *gate;
  Eight* sum;
};

// (sum − mean) / deviation · (1 + scale) + shift. gate, scale and shift are per picture: rows of `stride` numbers. Rows
// of x are of one picture after another.
struct Modulation {
  const Eight *scale, *shift;
  int pictures;
  long stride;
  float eps;
};

// Leaves what is said above of the block's row in `kept`, and calls `write` of each vector of it; without `normed` only
// the sum is written.
template <typename Write>
__device__ inline void modulated_row(const GatedAdd& add, const Modulation& modulation, int size, bool normed,
                                     float kept[VECTORS][8], float* shared, Write write) {
  const int vectors = size / 8;
  const long row = (long)blockIdx.x * vectors;
  const long picture = blockIdx.x % modulation.pictures * (modulation.stride / 8);
  float total = 0;
  for (int v = 0, i = threadIdx.x; v < VECTORS && i < vectors; v++, i += blockDim.x) {
    Eight numbers = add.x[row + i];
    if (add.y != nullptr) {
      const Eight added = add.y[row + i], gates = add.gate[picture + i];
      for (int j = 0; j < 8; j++) numbers.x[j] = down(up(numbers.x[j]) + up(gates.x[j]) * up(added.x[j]));
      add.sum[row + i] = numbers;
    }
    for (int j = 0; j < 8; j++) {
      kept[v][j] = up(numbers.x[j]);
      total += kept[v][j];
    }
  }
  if (!normed) return;
  const float mean = block_sum(total, shared) / size;
  const float factor = rsqrtf(variance(kept, mean, vectors, size, shared) + modulation.eps);
  for (int v = 0, i = threadIdx.x; v < VECTORS && i < vectors; v++, i += blockDim.x) {
    const Eight scales = modulation.scale[picture + i], shifts = modulation.shift[picture + i];
    for (int j = 0; j < 8; j++) {
      kept[v][j] = (kept[v][j] - mean) * factor * (1 + up(scales.x[j])) + up(shifts.x[j]);
    }
    write(i, kept[v]);
  }
}
