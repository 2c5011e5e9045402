// One new token a row: turned, written into the cache, and attended to.

#ifndef WIDTH
#define WIDTH 128
#endif
#ifndef GROUPS
#define GROUPS 3
#endif
// Threads that share a key, and keys that a block works on at once.
#define LANES (WIDTH / 8)
#define THREADS 256
#define STREAMS (THREADS / LANES)
#define WARPS (THREADS / 32)
// Keys of a stream that are on the way.
#define AHEAD 4
#define MOST_SPLITS 64

// Eight numbers of a head, of which the first `rotary` are turned by cos and sin.
__device__ inline Eight turned(const half_t* head, const half_t* cos, const half_t* sin, int rotary, int at) {
  Eight own = *(const Eight*)(head + at);
  if (at >= rotary) return own;
  const bool front = at < rotary / 2;
  const Eight other = *(const Eight*)(head + (front ? at + rotary / 2 : at - rotary / 2));
  const Eight cosines = *(const Eight*)(cos + at), sines = *(const Eight*)(sin + at);
  for (int j = 0; j < 8; j++) {
    const float crossed = front ? -up(other.x[j]) : up(other.x[j]);
    own.x[j] = down(rounded(up(own.x[j]) * up(cosines.x[j])) + rounded(crossed * up(sines.x[j])));
  }
  return own;
}

// Whole prompts: queries and keys of joint [prompts, tokens, heads + 2 · kv_heads, WIDTH] are turned where
// they stand, by cos and sin [prompts, tokens, rotary]; keys and values go to the first places of
// `copies` rows a prompt of the caches [rows, kv_heads, capacity, WIDTH]. Block (token, prompt).
extern "C" __global__ void apply_rope(half_t* joint, const half_t* cos, const half_t* sin, half_t* keys,
                                        half_t* values, int kv_heads, int rotary, int copies, long capacity) {
  const int token = blockIdx.x, tokens = gridDim.x, prompt = blockIdx.y, heads = kv_heads * GROUPS;
  const long place = (long)prompt * tokens + token;
  joint += place * (heads + 2 * kv_heads) * WIDTH;
  cos += place * rotary;
  sin += place * rotary;
  const int half = rotary / 2;
  for (int i = threadIdx.x; i < (heads + 2 * kv_heads) * LANES; i += blockDim.x) {
    const int head = i / LANES, at = i % LANES * 8;
    const bool is_turned = head < heads + kv_heads && at < rotary;
    // Who has eight numbers of the front half has those of the back half, too.
    if (is_turned && at >= half) continue;
    half_t* own = joint + head * WIDTH + at;
    Eight front = *(const Eight*)own, back = {};
    if (is_turned) {
      back = turned(joint + head * WIDTH, cos, sin, rotary, at + half);
      front = turned(joint + head * WIDTH, cos, sin, rotary, at);
      *(Eight*)own = front;
      *(Eight*)(own + half) = back;
    }
    if (head < heads) continue;
    const bool is_key = head < heads + kv_heads;
    const int kv_head = head - heads - (is_key ? 0 : kv_heads);
    for (int copy = 0; copy < copies; copy++) {
      const long row = (long)prompt * copies + copy;
      half_t* to = (is_key ? keys : values) + ((row * kv_heads + kv_head) * capacity + token) * WIDTH + at;
      *(Eight*)to = front;
      if (is_turned) *(Eight*)(to + half) = back;
    }
  }
}

// Attention of the GROUPS queries that share a key head; block (split, kv_head, row) looks at one of
// gridDim.x shares of the places that the row sees: from padding[row] on, up to and with `slot`, at
// most `window` of them (0: all). The last block to end puts the shares together.
// joint: [rows, heads + 2 · kv_heads, WIDTH], queries, keys, values; cos, sin: [rows, rotary]
// keys, values: [rows, kv_heads, capacity, WIDTH], which get the new ones at place `slot`
// partial: [rows, kv_heads, splits, GROUPS, WIDTH + 2], weighted values, largest score, sum of weights
// arrivals: [rows, kv_heads] of zeros, and again after; out: [rows, heads, WIDTH]
extern "C" __global__ void __launch_bounds__(THREADS, GROUPS > 4 || WIDTH > 128 ? 1 : 2)
    attend(const half_t* joint, const half_t* cos, const half_t* sin, half_t* keys, half_t* values, const long* slot,
           const long* padding, float* partial, int* arrivals, half_t* out, int rotary, long capacity, int window,
           float scale) {
  const int split = blockIdx.x, splits = gridDim.x, kv_head = blockIdx.y, kv_heads = gridDim.y, row = blockIdx.z;
  const int lane = threadIdx.x % LANES, stream = threadIdx.x / LANES, at = lane * 8;
  const int last = *slot, unseen = window > 0 ? last - window + 1 : 0, first = max((int)padding[row], unseen);
  const int share = (last - first + splits) / splits;
  const int from = first + split * share, to = min(from + share - 1, last);
  const int pair = row * kv_heads + kv_head;
  keys += (long)pair * capacity * WIDTH + at;
  values += (long)pair * capacity * WIDTH + at;

  // What earlier steps left in the cache is fetched before this one's projection is there.
  Eight coming_keys[AHEAD] = {}, coming_values[AHEAD] = {};
  auto look_ahead = [&](int u, int place) {
    if (place > to || place == last) return;
    coming_keys[u] = *(const Eight*)(keys + place * WIDTH);
    coming_values[u] = *(const Eight*)(values + place * WIDTH);
  };
#pragma unroll
  for (int u = 0; u < AHEAD; u++) look_ahead(u, from + u * STREAMS + stream);
  let_next_start();
  wait_for_previous();

  const half_t* heads = joint + (long)row * kv_heads * (GROUPS + 2) * WIDTH;
  cos += (long)row * rotary;
  sin += (long)row * rotary;
  float query[GROUPS][8], sum[GROUPS][8], best[GROUPS], weight[GROUPS];
#pragma unroll
  for (int g = 0; g < GROUPS; g++) {
    const Eight numbers = turned(heads + (kv_head * GROUPS + g) * WIDTH, cos, sin, rotary, at);
    for (int j = 0; j < 8; j++) {
      query[g][j] = up(numbers.x[j]) * scale;
      sum[g][j] = 0;
    }
    best[g] = -1e30f;
    weight[g] = 0;
  }
  Eight new_key = {}, new_value = {};
  if (to == last && from <= to) {
    new_key = turned(heads + (kv_heads * GROUPS + kv_head) * WIDTH, cos, sin, rotary, at);
    new_value = *(const Eight*)(heads + (kv_heads * (GROUPS + 1) + kv_head) * WIDTH + at);
  }

  // All lanes of a warp go the same number of rounds: they talk to each other.
  for (int base = from; base <= to; base += AHEAD * STREAMS) {
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
      if (base + u * STREAMS > to) break;
      const int place = base + u * STREAMS + stream;
      Eight key = coming_keys[u], value = coming_values[u];
      if (place == last) {
        key = new_key;
        value = new_value;
        *(Eight*)(keys + place * WIDTH) = key;
        *(Eight*)(values + place * WIDTH) = value;
      }
      look_ahead(u, place + AHEAD * STREAMS);
#pragma unroll
      for (int g = 0; g < GROUPS; g++) {
        float score = 0;
        for (int j = 0; j < 8; j++) score += query[g][j] * up(key.x[j]);
        for (int offset = LANES / 2; offset > 0; offset /= 2) score += __shfl_xor_sync(~0u, score, offset);
        if (place > to) continue;
        const float higher = fmaxf(best[g], score), fade = __expf(best[g] - higher), own = __expf(score - higher);
        for (int j = 0; j < 8; j++) sum[g][j] = sum[g][j] * fade + own * up(value.x[j]);
        weight[g] = weight[g] * fade + own;
        best[g] = higher;
      }
    }
  }

  __shared__ float bests[GROUPS][STREAMS], weights[GROUPS][WARPS], sums[GROUPS][WARPS][WIDTH];
  const int warp = threadIdx.x / 32;
  if (lane == 0) {
    for (int g = 0; g < GROUPS; g++) bests[g][stream] = best[g];
  }
  __syncthreads();
#pragma unroll
  for (int g = 0; g < GROUPS; g++) {
    float highest = bests[g][0];
    for (int s = 1; s < STREAMS; s++) highest = fmaxf(highest, bests[g][s]);
    const float fade = __expf(best[g] - highest);
    best[g] = highest;
    weight[g] *= fade;
    for (int j = 0; j < 8; j++) sum[g][j] *= fade;
    for (int offset = LANES; offset < 32; offset *= 2) {
      weight[g] += __shfl_xor_sync(~0u, weight[g], offset);
      for (int j = 0; j < 8; j++) sum[g][j] += __shfl_xor_sync(~0u, sum[g][j], offset);
    }
    if (threadIdx.x % 32 < LANES) {
      for (int j = 0; j < 8; j++) sums[g][warp][at + j] = sum[g][j];
      if (lane == 0) weights[g][warp] = weight[g];
    }
  }
  __syncthreads();
  float* shares = partial + (long)pair * splits * GROUPS * (WIDTH + 2);
  for (int i = threadIdx.x; i < GROUPS * WIDTH; i += THREADS) {
    const int g = i / WIDTH, number = i % WIDTH;
    float mixed = 0, total = 0;
    for (int w = 0; w < WARPS; w++) mixed += sums[g][w][number];
    for (int w = 0; w < WARPS; w++) total += weights[g][w];
    float* own = shares + (split * GROUPS + g) * (WIDTH + 2);
    own[number] = mixed;
    if (number == 0) own[WIDTH + 1] = total;
  }
  if (threadIdx.x == 0) {
    for (int g = 0; g < GROUPS; g++) shares[(split * GROUPS + g) * (WIDTH + 2) + WIDTH] = best[g];
  }

  // Who finds that all others have arrived goes on.
  __shared__ int arrived;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) arrived = atomicAdd(arrivals + pair, 1);
  __syncthreads();
  if (arrived != splits - 1) return;
  __threadfence();
  if (threadIdx.x == 0) arrivals[pair] = 0;
  __shared__ float parts[GROUPS][MOST_SPLITS];
  if (warp < GROUPS) {
    // A warp takes a query, a lane every 32nd share.
    const float* own = shares + warp * (WIDTH + 2) + WIDTH;
    const int step = GROUPS * (WIDTH + 2), me = threadIdx.x % 32;
    float highest = -1e30f, total = 0;
    for (int s = me; s < splits; s += 32) highest = fmaxf(highest, __ldcg(own + s * step));
    for (int offset = 16; offset > 0; offset /= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
    for (int s = me; s < splits; s += 32) {
      const float part = __expf(__ldcg(own + s * step) - highest);
      parts[warp][s] = part;
      total += part * __ldcg(own + s * step + 1);
    }
    for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(~0u, total, offset);
    for (int s = me; s < splits; s += 32) parts[warp][s] /= total;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < GROUPS * WIDTH; i += THREADS) {
    const int g = i / WIDTH, number = i % WIDTH;
    float mixed = 0;
#pragma unroll 8
    for (int s = 0; s < splits; s++) mixed += parts[g][s] * __ldcg(shares + (s * GROUPS + g) * (WIDTH + 2) + number);
    out[pair * (GROUPS * WIDTH) + i] = down(mixed);
  }
}
