// A linear layer over at most eight rows. Such a layer takes as long as its weight takes to be read,
// so all is laid out for that: each warp keeps several lines of its rows on the way at any time, and
// tensor cores multiply 16 rows of the weight with all rows of x at once.

#ifndef TILES
#define TILES 1
#endif
#ifndef WARPS
#define WARPS 8
#endif
#ifndef STAGES
#define STAGES 4
#endif
// Numbers of a row that are fetched at once: a line of the cache.
#define CHUNK 64
// Chunks of x that are on the way.
#define AHEAD 3
// Floats of shared memory between the results of one row of x and of the next.
#define COLUMN 20

// Asynchronous copies and these matrix products came with this generation.
#if __CUDA_ARCH__ >= 800

// Two numbers times two factors; `squares` grows by the squares of the numbers.
__device__ inline word_t scaled(word_t numbers, word_t factors, float& squares) {
  const float low = up((half_t)(numbers & 0xffff)), high = up((half_t)(numbers >> 16));
  squares += low * low;
  squares += high * high;
  return pair(low * up((half_t)(factors & 0xffff)), high * up((half_t)(factors >> 16)));
}

// 16 bytes on their way into shared memory; zeros where `inside` is not so.
__device__ inline void copy(void* to, const void* from, bool inside, unsigned long long policy) {
  const word_t place = (word_t)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(place), "l"(from),
               "r"(inside ? 16 : 0), "l"(policy)
               : "memory");
}

__device__ inline void close_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// All groups but the last `count` have arrived.
template <int count>
__device__ inline void await_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(count) : "memory");
}

// out [rows, outputs] = x [rows, inputs] · weightᵀ [outputs, inputs] + bias + added.
// With `factors` [inputs] x is normed first: x / rms(x) · factors. With `gated` the weight has twice
// as many rows, and out = silu(first half) · second half. With `gelu` what is added comes after that. bias, added [rows, outputs] and factors may
// be null. A block takes 16 · TILES rows of the weight; its warps share the long axis, chunk by chunk.
extern "C" __global__ void __launch_bounds__(WARPS * 32, TILES == 1 ? 3 : 2)
    skinny_gemm(const half_t* x, const half_t* weight, const half_t* bias, const half_t* added, const half_t* factors,
             half_t* out, int rows, int inputs, int outputs, int gated, int gelu, float eps) {
  extern __shared__ Words memory[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Words* stages = memory + warp * (STAGES * TILES * 16 * 8);
  Words* kept_factors = memory + WARPS * (STAGES * TILES * 16 * 8);
  const int chunks = (inputs + CHUNK - 1) / CHUNK;
  const int mine = warp < chunks ? (chunks - warp + WARPS - 1) / WARPS : 0;
  const int first = blockIdx.x * (gated ? 16 : 16 * TILES), apart = gated ? outputs : 16;
  const int last = (gated ? 2 * outputs : outputs) - 1;
  unsigned long long once;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(once));

  // Eight lanes fetch the line of a row. Rows past the end are fetched from the last one and left.
  const int line = lane / 8, piece = lane % 8;
  auto fetch = [&](int turn) {
    const int at = (warp + turn * WARPS) * CHUNK + piece * 8;
    // Odd rows have their halves swapped, so that reading meets each bank once.
    Words* to = stages + (turn % STAGES) * (TILES * 16 * 8) + line * 8 + (piece ^ (line % 2 * 4));
#pragma unroll
    for (int i = 0; i < 4 * TILES; i++) {
      const int row = min(first + i / 4 * apart + i % 4 * 4 + line, last);
      const bool inside = at < inputs;
      copy(to + i * 4 * 8, weight + (long)row * inputs + (inside ? at : 0), inside, once);
    }
  };
  if (factors != nullptr && lane < 8) {
    for (int turn = 0; turn < mine; turn++) {
      const int at = (warp + turn * WARPS) * CHUNK + lane * 8;
      copy(kept_factors + at / 8, factors + (at < inputs ? at : 0), at < inputs, once);
    }
  }
#pragma unroll
  for (int turn = 0; turn < STAGES - 1; turn++) {
    if (turn < mine) fetch(turn);
    close_group();
  }
  let_next_start();
  wait_for_previous();

  // The one result that this thread writes in the end: row `own_row` of x, column `own` of the weight's rows.
  const int own_tile = gated ? 0 : threadIdx.x / 128, own_row = threadIdx.x % 128 / 16, own_line = threadIdx.x % 16;
  const int own = first + own_tile * 16 + own_line;
  const bool writes = threadIdx.x < (gated ? 128 : 128 * TILES) && own_row < rows && own < outputs;
  const bool biased = writes && bias != nullptr;
  const half_t start = biased ? bias[own] : 0, start_gated = biased && gated ? bias[own + outputs] : 0;
  const half_t summand = writes && added != nullptr ? added[(long)own_row * outputs + own] : 0;

  // Lane: row lane / 4, and eight numbers of each half of the chunk.
  const int row = lane / 4, part = lane % 4;
  Words ahead[AHEAD][2];
  auto look_ahead = [&](Words* to, int turn) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int at = (warp + turn * WARPS) * CHUNK + half * 32 + part * 8;
      to[half] = row < rows && at < inputs ? *(const Words*)(x + (long)row * inputs + at) : Words{};
    }
  };
#pragma unroll
  for (int turn = 0; turn < AHEAD; turn++) look_ahead(ahead[turn], turn);

  float sums[TILES][4] = {}, squares = 0;
  for (int base = 0; base < mine; base += AHEAD) {
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
      const int turn = base + u;
      if (turn >= mine) break;
      await_groups<STAGES - 2>();
      __syncwarp();
      // Into the place that all lanes have read in the turn before.
      if (turn + STAGES - 1 < mine) fetch(turn + STAGES - 1);
      close_group();
      Words numbers[2] = {ahead[u][0], ahead[u][1]};
      look_ahead(ahead[u], turn + AHEAD);
      if (factors != nullptr) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const Words by = kept_factors[(warp + turn * WARPS) * 8 + half * 4 + part];
          for (int j = 0; j < 4; j++) numbers[half].x[j] = scaled(numbers[half].x[j], by.x[j], squares);
        }
      }
      const Words* stage = stages + (turn % STAGES) * (TILES * 16 * 8) + row * 8 + part;
#pragma unroll
      for (int i = 0; i < 2 * TILES; i++) {
        const int tile = i / 2, half = i % 2;
        const Words* at = stage + tile * 16 * 8 + (half ^ (row % 2)) * 4;
        const Words upper = at[0], lower = at[8 * 8];
        multiply(sums[tile], upper.x[0], lower.x[0], upper.x[1], lower.x[1], numbers[half].x[0], numbers[half].x[1]);
        multiply(sums[tile], upper.x[2], lower.x[2], upper.x[3], lower.x[3], numbers[half].x[2], numbers[half].x[3]);
      }
    }
  }

  // What the warps found, each in its own memory, is added up in their order. A lane has rows
  // lane / 4 and lane / 4 + 8 of the weight, for rows lane % 4 · 2 and the next of x.
  await_groups<0>();
  __syncwarp();
  float* found = (float*)stages;
#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
    for (int i = 0; i < 4; i++) found[(tile * 8 + part * 2 + i % 2) * COLUMN + i / 2 * 8 + row] = sums[tile][i];
  }
  squares += __shfl_xor_sync(~0u, squares, 1);
  squares += __shfl_xor_sync(~0u, squares, 2);
  if (part == 0) found[TILES * 8 * COLUMN + row] = squares;
  __syncthreads();
  if (!writes) return;
  auto total = [&](int place) {
    const float* from = (const float*)memory + place;
    float sum = 0;
    for (int i = 0; i < WARPS; i++) sum += from[i * (STAGES * TILES * 16 * 8 * 4)];
    return sum;
  };
  const float scale = factors != nullptr ? rsqrtf(total(TILES * 8 * COLUMN + own_row) / inputs + eps) : 1;
  float result = total((own_tile * 8 + own_row) * COLUMN + own_line) * scale + up(start);
  if (gated) {
    const float other = total((8 + own_row) * COLUMN + own_line) * scale + up(start_gated);
    result = result / (1 + __expf(-result)) * other;
  }
  if (gelu) result *= 0.5f + 0.5f * erff(result * 0.70710678f);
  out[(long)own_row * outputs + own] = down(result + up(summand));
}
#endif
