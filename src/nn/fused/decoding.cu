// One new token a row: turned, written into the cache, and attended to.

// From the joint projection [rows, (heads + 2 · kv_heads) · width]: queries and keys are turned by
// cos and sin [rows, rotary] over their first `rotary` numbers; queries go to `queries`
// [rows, heads, width], keys and values to place `slot` of the caches [rows, kv_heads, capacity, width].
// A block takes a head of a row, a thread a number of it.
extern "C" __global__ void turn_and_store(const half_t* joint, const half_t* cos, const half_t* sin, const long* slot,
                                          half_t* queries, half_t* keys, half_t* values, int heads, int kv_heads,
                                          int width, int rotary, long capacity) {
  const int head = blockIdx.x, row = blockIdx.y, at = threadIdx.x;
  const half_t* from = joint + ((long)row * (heads + 2 * kv_heads) + head) * width;
  half_t number = from[at];
  if (head < heads + kv_heads && at < rotary) {
    const int half = rotary / 2;
    const float crossed = at < half ? -up(from[at + half]) : up(from[at - half]);
    const float turned = rounded(up(number) * up(cos[row * rotary + at]));
    number = down(turned + rounded(crossed * up(sin[row * rotary + at])));
  }
  if (head < heads) {
    queries[((long)row * heads + head) * width + at] = number;
    return;
  }
  const bool is_key = head < heads + kv_heads;
  const int kv_head = head - heads - (is_key ? 0 : kv_heads);
  (is_key ? keys : values)[(((long)row * kv_heads + kv_head) * capacity + *slot) * width + at] = number;
}

#ifndef WIDTH
#define WIDTH 128
#endif
#ifndef GROUPS
#define GROUPS 3
#endif
// Threads that share a key, and keys that a block reads at once.
#define LANES (WIDTH / 8)
#define THREADS 128
#define STREAMS (THREADS / LANES)

// Attention of the GROUPS queries that share a key head over `share` places of the cache; block
// (split, kv_head, row). What it finds goes to `partial` [rows, kv_heads, splits, GROUPS, WIDTH + 2]:
// the weighted values, the largest score and the sum of weights. A row sees the places from
// padding[row] on, up to and with `slot`, at most `window` of them (0: all).
extern "C" __global__ void attend_share(const half_t* queries, const half_t* keys, const half_t* values,
                                        const long* slot, const long* padding, float* partial, int share,
                                        long capacity, long window, float scale) {
  const int split = blockIdx.x, kv_head = blockIdx.y, kv_heads = gridDim.y, row = blockIdx.z;
  const int lane = threadIdx.x % LANES, stream = threadIdx.x / LANES;
  const long last = *slot;
  long first = padding[row];
  if (window > 0 && last - window + 1 > first) first = last - window + 1;
  const long from = max((long)split * share, first), to = min((long)(split + 1) * share - 1, last);
  const long cache = ((long)row * kv_heads + kv_head) * capacity * WIDTH;

  float query[GROUPS][8], sum[GROUPS][8], best[GROUPS], weight[GROUPS];
  for (int g = 0; g < GROUPS; g++) {
    const Eight numbers = *(const Eight*)(queries + (((long)row * kv_heads + kv_head) * GROUPS + g) * WIDTH + lane * 8);
    for (int j = 0; j < 8; j++) {
      query[g][j] = up(numbers.x[j]) * scale;
      sum[g][j] = 0;
    }
    best[g] = -1e30f;
    weight[g] = 0;
  }
  // All lanes of a warp go the same number of rounds: they talk to each other.
  for (long base = from; base <= to; base += STREAMS) {
    const long place = base + stream;
    const bool seen = place <= to;
    const long at = cache + (seen ? place : from) * WIDTH + lane * 8;
    const Eight key = *(const Eight*)(keys + at), value = *(const Eight*)(values + at);
    for (int g = 0; g < GROUPS; g++) {
      float score = 0;
      for (int j = 0; j < 8; j++) score += query[g][j] * up(key.x[j]);
      for (int offset = LANES / 2; offset > 0; offset /= 2) score += __shfl_xor_sync(~0u, score, offset);
      if (!seen) continue;
      const float higher = fmaxf(best[g], score), fade = __expf(best[g] - higher), own = __expf(score - higher);
      for (int j = 0; j < 8; j++) sum[g][j] = sum[g][j] * fade + own * up(value.x[j]);
      weight[g] = weight[g] * fade + own;
      best[g] = higher;
    }
  }

  __shared__ float sums[STREAMS][WIDTH], bests[STREAMS], weights[STREAMS];
  for (int g = 0; g < GROUPS; g++) {
    __syncthreads();
    for (int j = 0; j < 8; j++) sums[stream][lane * 8 + j] = sum[g][j];
    if (lane == 0) {
      bests[stream] = best[g];
      weights[stream] = weight[g];
    }
    __syncthreads();
    float highest = -1e30f, total = 0;
    for (int s = 0; s < STREAMS; s++) highest = fmaxf(highest, bests[s]);
    for (int s = 0; s < STREAMS; s++) total += weights[s] * __expf(bests[s] - highest);
    const long splits = gridDim.x;
    float* out = partial + ((((long)row * kv_heads + kv_head) * splits + split) * GROUPS + g) * (WIDTH + 2);
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) {
      float mixed = 0;
      for (int s = 0; s < STREAMS; s++) mixed += sums[s][i] * __expf(bests[s] - highest);
      out[i] = mixed;
    }
    if (threadIdx.x == 0) {
      out[WIDTH] = highest;
      out[WIDTH + 1] = total;
    }
  }
}

// The shares of a query head together: block (head, row), a thread a number.
// out: [rows, heads, WIDTH]
extern "C" __global__ void join_shares(const float* partial, half_t* out, int splits) {
  const int head = blockIdx.x, heads = gridDim.x, row = blockIdx.y, at = threadIdx.x;
  const int kv_head = head / GROUPS, g = head % GROUPS, kv_heads = heads / GROUPS;
  const float* from = partial + (((long)row * kv_heads + kv_head) * splits * GROUPS + g) * (WIDTH + 2);
  const long step = GROUPS * (WIDTH + 2);
  float highest = -1e30f, total = 0, mixed = 0;
  for (int s = 0; s < splits; s++) highest = fmaxf(highest, from[s * step + WIDTH]);
  for (int s = 0; s < splits; s++) {
    const float fade = __expf(from[s * step + WIDTH] - highest);
    total += from[s * step + WIDTH + 1] * fade;
    mixed += from[s * step + at] * fade;
  }
  out[((long)row * heads + head) * WIDTH + at] = down(mixed / total);
}
