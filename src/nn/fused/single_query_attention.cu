// Attention of one new token a row over places that its head sees all: a text so far, or a picture. A
// block takes a head of a row, or a cluster of blocks does; nothing is left to be joined by another kernel.

#ifndef WIDTH
#define WIDTH 64
#endif
// Vectors of a head, and threads that share a place: a power of two, so that they can talk to each other.
#define PARTS (WIDTH / 8)
#define LANES (PARTS <= 1 ? 1 : PARTS <= 2 ? 2 : PARTS <= 4 ? 4 : PARTS <= 8 ? 8 : PARTS <= 16 ? 16 : 32)
#ifndef THREADS
#define THREADS 128
#endif
// Places that a thread asks memory for before it computes.
#define AHEAD 3
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
// BLOCKS blocks, side by side, share the places of a head.
template <int BLOCKS>
__device__ inline void attend(const half_t* queries, half_t* keys, half_t* values, half_t* out, const long* slot,
                              int places, int stride, long owner_stride, int place_stride, int head_stride,
                              int sharers, float scale) {
  const int head = blockIdx.x / BLOCKS, heads = gridDim.x / BLOCKS, row = blockIdx.y;
  const int lane = threadIdx.x % LANES, stream = threadIdx.x / LANES, streams = THREADS / LANES;
  const long start = row / sharers * owner_stride + (long)head * head_stride;
  const int newest = slot != nullptr ? *slot : -1;
  if (slot != nullptr) places = newest + 1;
  const int share = (places + BLOCKS - 1) / BLOCKS, from = blockIdx.x % BLOCKS * share;
  const int to = min(from + share, places);
  keys += start + lane * 8;
  values += start + lane * 8;

  // What earlier steps left is fetched before this one's queries are there.
  Eight zero;
  for (int j = 0; j < 8; j++) zero.x[j] = 0;
  const bool works = lane < PARTS;
  Eight coming_keys[AHEAD], coming_values[AHEAD];
  auto look_ahead = [&](Eight& coming, const half_t* at, int place) {
    coming = works && place < to && place != newest ? *(const Eight*)(at + (long)place * place_stride) : zero;
  };
#pragma unroll
  for (int a = 0; a < AHEAD; a++) {
    look_ahead(coming_keys[a], keys, from + stream + a * streams);
    look_ahead(coming_values[a], values, from + stream + a * streams);
  }
  let_next_start();
  wait_for_previous();

  const half_t* own = queries + (long)row * stride + head * WIDTH + lane * 8;
  const Eight numbers = works ? *(const Eight*)own : zero;
  float query[8];
  Seen seen = {NOTHING, 0, {}};
  for (int j = 0; j < 8; j++) query[j] = up(numbers.x[j]) * scale;
  // All streams of a warp go the same number of rounds: their threads talk to each other.
  const int in_warp = stream % (32 / LANES);
  for (int base = from + stream - in_warp; base < to; base += streams * AHEAD) {
    float score[AHEAD], highest = seen.best;
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      const int place = base + in_warp + a * streams;
      Eight key = coming_keys[a];
      if (place == newest && works) {
        key = *(const Eight*)(own + heads * WIDTH);
        *(Eight*)(keys + (long)place * place_stride) = key;
      }
      look_ahead(coming_keys[a], keys, place + streams * AHEAD);
      score[a] = 0;
      for (int j = 0; j < 8; j++) score[a] += query[j] * up(key.x[j]);
      for (int offset = LANES / 2; offset > 0; offset /= 2) score[a] += __shfl_xor_sync(~0u, score[a], offset);
      if (place >= to) score[a] = NOTHING;
      highest = fmaxf(highest, score[a]);
    }
    const float fade = exp2f(seen.best - highest);
    seen.best = highest;
    seen.weight *= fade;
    for (int j = 0; j < 8; j++) seen.sum[j] *= fade;
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      const int place = base + in_warp + a * streams;
      Eight value = coming_values[a];
      if (place == newest && works) {
        value = *(const Eight*)(own + heads * WIDTH * 2);
        *(Eight*)(values + (long)place * place_stride) = value;
      }
      look_ahead(coming_values[a], values, place + streams * AHEAD);
      const float weight = score[a] == NOTHING ? 0 : exp2f(score[a] - highest);
      seen.weight += weight;
      for (int j = 0; j < 8; j++) seen.sum[j] += weight * up(value.x[j]);
    }
  }

  // The streams of a warp together, then the warps.
  for (int offset = LANES; offset < 32; offset *= 2) {
    float sum[8];
    const float best = __shfl_xor_sync(~0u, seen.best, offset), weight = __shfl_xor_sync(~0u, seen.weight, offset);
    for (int j = 0; j < 8; j++) sum[j] = __shfl_xor_sync(~0u, seen.sum[j], offset);
    take_in(seen, best, weight, sum);
  }
  const int warp = threadIdx.x / 32, warps = THREADS / 32;
  __shared__ float sums[warps][WIDTH], bests[warps], weights[warps];
  if (threadIdx.x % 32 < LANES && works) {
    for (int j = 0; j < 8; j++) sums[warp][lane * 8 + j] = seen.sum[j];
    bests[warp] = seen.best;
    weights[warp] = seen.weight;
  }
  __syncthreads();
  float highest = NOTHING;
  for (int w = 0; w < warps; w++) highest = fmaxf(highest, bests[w]);
  // What this block found, for the first of its cluster: weighted values, sum of weights, largest score.
  __shared__ float found[WIDTH + 2];
  for (int i = threadIdx.x; i < WIDTH; i += THREADS) {
    float mixed = 0, total = 0;
    for (int w = 0; w < warps; w++) {
      const float part = exp2f(bests[w] - highest);
      mixed += sums[w][i] * part;
      total += weights[w] * part;
    }
    if (BLOCKS == 1) out[((long)row * heads + head) * WIDTH + i] = down(mixed / total);
    found[i] = mixed;
    if (i == 0) {
      found[WIDTH] = total;
      found[WIDTH + 1] = highest;
    }
  }
  if (BLOCKS == 1) return;
#if __CUDA_ARCH__ >= 900
  arrive();
  wait_for_all();
  for (int i = threadIdx.x; i < WIDTH && blockIdx.x % BLOCKS == 0; i += THREADS) {
    float best[BLOCKS], mixed[BLOCKS], weight[BLOCKS], top = NOTHING, sum = 0, total = 0;
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
      mixed[b] = of_block(found + i, b);
      weight[b] = of_block(found + WIDTH, b);
      best[b] = of_block(found + WIDTH + 1, b);
      top = fmaxf(top, best[b]);
    }
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
      const float part = exp2f(best[b] - top);
      sum += mixed[b] * part;
      total += weight[b] * part;
    }
    out[((long)row * heads + head) * WIDTH + i] = down(sum / total);
  }
  // None leaves while the first one still reads what it found.
  arrive();
  wait_for_all();
#endif
}

#define ATTEND(NAME, BLOCKS, CLUSTER)                                                                                  \
  extern "C" __global__ void CLUSTER __launch_bounds__(THREADS, 6)                                                     \
      NAME(const half_t* queries, half_t* keys, half_t* values, half_t* out, const long* slot, int places, int stride, \
           long owner_stride, int place_stride, int head_stride, int sharers, float scale) {                           \
    attend<BLOCKS>(queries, keys, values, out, slot, places, stride, owner_stride, place_stride, head_stride, sharers, \
                   scale);                                                                                             \
  }

ATTEND(attend_one, 1, )
#if __CUDA_ARCH__ >= 900
ATTEND(attend_one_2, 2, __cluster_dims__(2, 1, 1))
ATTEND(attend_one_4, 4, __cluster_dims__(4, 1, 1))
ATTEND(attend_one_8, 8, __cluster_dims__(8, 1, 1))
#endif
