// Attention of one new token a row over places that its head sees all: a text so far, or a picture. A
// block takes a head of a row; nothing is left to be joined by another kernel.

#ifndef WIDTH
#define WIDTH 64
#endif
// Vectors of a head, and threads that share a place: a power of two, so that they can talk to each other.
#define PARTS (WIDTH / 8)
#define LANES (PARTS <= 1 ? 1 : PARTS <= 2 ? 2 : PARTS <= 4 ? 4 : PARTS <= 8 ? 8 : PARTS <= 16 ? 16 : 32)
// Places that a thread asks memory for before it computes.
#define AHEAD 2
// Smaller than any score; large enough that differences from it are finite.
#define NOTHING (-1e30f)

// What has been seen of some places: the largest score, the sum of weights, the weighted values.
struct Seen {
  float best, weight, sum[8];
};

__device__ inline void take_in(Seen& seen, float best, float weight, const float* sum) {
  const float higher = fmaxf(seen.best, best), fade = exp2f(seen.best - higher), other = exp2f(best - higher);
  seen.best = higher;
  seen.weight = seen.weight * fade + weight * other;
  for (int j = 0; j < 8; j++) seen.sum[j] = seen.sum[j] * fade + sum[j] * other;
}

// queries: row r, head h at r · stride + h · WIDTH. Keys and values: places of owner r / sharers, place p
// and head h at owner · owner_stride + p · place_stride + h · head_stride (in numbers).
// Without a slot a token sees `places` places. With one it sees those up to `slot`, after its own key and
// value, which follow the queries in each row (all heads of keys, then of values), are written there.
// out: [rows, heads, WIDTH]; scale is that of the scores times log2(e).
extern "C" __global__ void __launch_bounds__(1024)
    attend_one(const half_t* queries, half_t* keys, half_t* values, half_t* out, const long* slot, int places,
               int stride, long owner_stride, int place_stride, int head_stride, int sharers, float scale) {
  const int head = blockIdx.x, heads = gridDim.x, row = blockIdx.y;
  const int lane = threadIdx.x % LANES, stream = threadIdx.x / LANES, streams = blockDim.x / LANES;
  const long start = row / sharers * owner_stride + (long)head * head_stride;
  const int newest = slot != nullptr ? *slot : -1;
  if (slot != nullptr) places = newest + 1;
  keys += start + lane * 8;
  values += start + lane * 8;

  // What earlier steps left is fetched before this one's queries are there.
  Eight zero;
  for (int j = 0; j < 8; j++) zero.x[j] = 0;
  const bool works = lane < PARTS;
  Eight coming_keys[AHEAD], coming_values[AHEAD];
  auto look_ahead = [&](int a, int place) {
    const bool is_there = works && place < places && place != newest;
    coming_keys[a] = is_there ? *(const Eight*)(keys + (long)place * place_stride) : zero;
    coming_values[a] = is_there ? *(const Eight*)(values + (long)place * place_stride) : zero;
  };
#pragma unroll
  for (int a = 0; a < AHEAD; a++) look_ahead(a, stream + a * streams);
  let_next_start();
  wait_for_previous();

  const half_t* own = queries + (long)row * stride + head * WIDTH + lane * 8;
  const Eight numbers = works ? *(const Eight*)own : zero;
  float query[8];
  Seen seen = {NOTHING, 0, {}};
  for (int j = 0; j < 8; j++) query[j] = up(numbers.x[j]) * scale;
  // All streams of a warp go the same number of rounds: their threads talk to each other.
  const int in_warp = stream % (32 / LANES);
  for (int base = stream - in_warp; base < places; base += streams * AHEAD) {
    float score[AHEAD], highest = seen.best;
    Eight value[AHEAD];
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      const int place = base + in_warp + a * streams;
      Eight key = coming_keys[a];
      value[a] = coming_values[a];
      if (place == newest && works) {
        key = *(const Eight*)(own + heads * WIDTH);
        value[a] = *(const Eight*)(own + heads * WIDTH * 2);
        *(Eight*)(keys + (long)place * place_stride) = key;
        *(Eight*)(values + (long)place * place_stride) = value[a];
      }
      look_ahead(a, place + streams * AHEAD);
      score[a] = 0;
      for (int j = 0; j < 8; j++) score[a] += query[j] * up(key.x[j]);
      for (int offset = LANES / 2; offset > 0; offset /= 2) score[a] += __shfl_xor_sync(~0u, score[a], offset);
      if (place >= places) score[a] = NOTHING;
      highest = fmaxf(highest, score[a]);
    }
    const float fade = exp2f(seen.best - highest);
    seen.best = highest;
    seen.weight *= fade;
    for (int j = 0; j < 8; j++) seen.sum[j] *= fade;
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      const float weight = score[a] == NOTHING ? 0 : exp2f(score[a] - highest);
      seen.weight += weight;
      for (int j = 0; j < 8; j++) seen.sum[j] += weight * up(value[a].x[j]);
    }
  }

  // The streams of a warp together, then the warps.
  for (int offset = LANES; offset < 32; offset *= 2) {
    float sum[8];
    const float best = __shfl_xor_sync(~0u, seen.best, offset), weight = __shfl_xor_sync(~0u, seen.weight, offset);
    for (int j = 0; j < 8; j++) sum[j] = __shfl_xor_sync(~0u, seen.sum[j], offset);
    take_in(seen, best, weight, sum);
  }
  __shared__ float sums[32][WIDTH], bests[32], weights[32];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
  if (threadIdx.x % 32 < LANES && works) {
    for (int j = 0; j < 8; j++) sums[warp][lane * 8 + j] = seen.sum[j];
    bests[warp] = seen.best;
    weights[warp] = seen.weight;
  }
  __syncthreads();
  float highest = NOTHING;
  for (int w = 0; w < warps; w++) highest = fmaxf(highest, bests[w]);
  for (int i = threadIdx.x; i < WIDTH; i += blockDim.x) {
    float mixed = 0, total = 0;
    for (int w = 0; w < warps; w++) {
      const float share = exp2f(bests[w] - highest);
      mixed += sums[w][i] * share;
      total += weights[w] * share;
    }
    out[((long)row * heads + head) * WIDTH + i] = down(mixed / total);
  }
}
