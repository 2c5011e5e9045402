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
// they stand, by cos and sin [prompts, tokens, rotary]; keys and values go to the places from `start` on of the
// caches [rows, kv_heads, capacity, WIDTH]: of the row that `own_rows` [prompts] names, or where that is null of
// `copies` rows a prompt. Block (token, prompt).
extern "C" __global__ void apply_rope(half_t* joint, const half_t* cos, const half_t* sin, half_t* keys,
                                        half_t* values, const long* own_rows, int kv_heads, int rotary, int copies,
                                        int start, long capacity) {
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
      const long row = own_rows != nullptr ? own_rows[prompt] : (long)prompt * copies + copy;
      half_t* to = (is_key ? keys : values) + ((row * kv_heads + kv_head) * capacity + start + token) * WIDTH + at;
      *(Eight*)to = front;
      if (is_turned) *(Eight*)(to + half) = back;
    }
  }
}

// Puts what the `splits` blocks of a row and key head found together, in the last one that comes here: shares
// [splits, GROUPS, WIDTH + 2], weighted values, largest score, sum of weights; out [GROUPS, WIDTH].
__device__ inline void join_shares(const float* shares, int* arrivals, half_t* out, int splits) {
  // Who finds that all others have arrived goes on.
  __shared__ int arrived;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) arrived = atomicAdd(arrivals, 1);
  __syncthreads();
  if (arrived != splits - 1) return;
  __threadfence();
  if (threadIdx.x == 0) *arrivals = 0;
  __shared__ float parts[GROUPS][MOST_SPLITS];
  // A warp takes a query, a lane every 32nd share.
  for (int g = threadIdx.x / 32; g < GROUPS; g += blockDim.x / 32) {
    const float* own = shares + g * (WIDTH + 2) + WIDTH;
    const int step = GROUPS * (WIDTH + 2), me = threadIdx.x % 32;
    float highest = -1e30f, total = 0;
    for (int s = me; s < splits; s += 32) highest = fmaxf(highest, __ldcg(own + s * step));
    for (int offset = 16; offset > 0; offset /= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
    for (int s = me; s < splits; s += 32) {
      const float part = __expf(__ldcg(own + s * step) - highest);
      parts[g][s] = part;
      total += part * __ldcg(own + s * step + 1);
    }
    for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(~0u, total, offset);
    for (int s = me; s < splits; s += 32) parts[g][s] /= total;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < GROUPS * WIDTH; i += blockDim.x) {
    const int g = i / WIDTH, number = i % WIDTH;
    float mixed = 0;
#pragma unroll 8
    for (int s = 0; s < splits; s++) mixed += parts[g][s] * __ldcg(shares + (s * GROUPS + g) * (WIDTH + 2) + number);
    out[i] = down(mixed);
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

  join_shares(shares, arrivals + pair, out + (long)pair * GROUPS * WIDTH, splits);
}

#if __CUDA_ARCH__ >= 800 && WIDTH <= 128

// Places that a warp takes at once, and warps of a block.
#define TILE 16
#define TILE_WARPS 4
// Smaller than any score; large enough that differences from it are finite.
#define NOTHING (-1e30f)

// The same for many rows, by tensor cores: keys times queries, then values times weights, with the queries that share a
// key head as the columns. The kernel above computes as long as memory takes for few rows only.
// A lane has places lane / 4 and lane / 4 + 8 of the keys, and four places of the values, as their products want
// them: all comes from memory as it is used, sixteen bytes at a time.
extern "C" __global__ void __launch_bounds__(TILE_WARPS * 32, 3)
    attend_tiles(const half_t* joint, const half_t* cos, const half_t* sin, half_t* keys, half_t* values,
                 const long* slot, const long* padding, float* partial, int* arrivals, half_t* out, int rotary,
                 long capacity, int window, float scale) {
  const int split = blockIdx.x, splits = gridDim.x, kv_head = blockIdx.y, kv_heads = gridDim.y, row = blockIdx.z;
  const int warp = threadIdx.x / 32, line = threadIdx.x % 32 / 4, part = threadIdx.x % 4;
  const int last = *slot, unseen = window > 0 ? last - window + 1 : 0, first = max((int)padding[row], unseen);
  const int share = (last - first + splits) / splits;
  const int from = first + split * share, to = min(from + share - 1, last);
  const int own = row * kv_heads + kv_head;
  keys += (long)own * capacity * WIDTH + part * 8;
  values += (long)own * capacity * WIDTH + line * 8;

  // What earlier steps left in the cache is fetched before this one's projection is there.
  Words key[2][WIDTH / 32], value[4][WIDTH / 64];
  auto key_place = [&](int tile, int i) { return tile + i * 8 + line; };
  auto value_place = [&](int tile, int i) { return tile + i / 2 * 8 + part * 2 + i % 2; };
  auto fetch_keys = [&](int tile) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int place = key_place(tile, i);
      const bool is_there = place <= to && place != last;
#pragma unroll
      for (int c = 0; c < WIDTH / 32; c++)
        key[i][c] = is_there ? *(const Words*)(keys + (long)place * WIDTH + c * 32) : Words{};
    }
  };
  auto fetch_values = [&](int tile) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int place = value_place(tile, i);
      const bool is_there = place <= to && place != last;
#pragma unroll
      for (int c = 0; c < WIDTH / 64; c++)
        value[i][c] = is_there ? *(const Words*)(values + (long)place * WIDTH + c * 64) : Words{};
    }
  };
  fetch_keys(from + warp * TILE);
  fetch_values(from + warp * TILE);
  let_next_start();
  wait_for_previous();

  const half_t* heads = joint + (long)row * kv_heads * (GROUPS + 2) * WIDTH;
  cos += (long)row * rotary;
  sin += (long)row * rotary;
  Words query[WIDTH / 32];
#pragma unroll
  for (int c = 0; c < WIDTH / 32; c++) {
    const half_t* head = heads + (kv_head * GROUPS + line) * WIDTH;
    query[c] = line < GROUPS ? words(turned(head, cos, sin, rotary, c * 32 + part * 8)) : Words{};
  }

  // Of queries part · 2 and the next: the largest score so far, the sum of weights, the weighted values.
  float best[2] = {NOTHING, NOTHING}, weight[2] = {0, 0}, sums[WIDTH / 16][4] = {};
  for (int tile = from + warp * TILE; tile <= to; tile += TILE_WARPS * TILE) {
    if (to == last && tile + TILE > last) {
      const half_t *new_key = heads + (kv_heads * GROUPS + kv_head) * WIDTH, *new_value = new_key + kv_heads * WIDTH;
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (key_place(tile, i) != last) continue;
#pragma unroll
        for (int c = 0; c < WIDTH / 32; c++) {
          key[i][c] = words(turned(new_key, cos, sin, rotary, c * 32 + part * 8));
          *(Words*)(keys + (long)last * WIDTH + c * 32) = key[i][c];
        }
      }
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (value_place(tile, i) != last) continue;
#pragma unroll
        for (int c = 0; c < WIDTH / 64; c++) {
          value[i][c] = *(const Words*)(new_value + c * 64 + line * 8);
          *(Words*)(values + (long)last * WIDTH + c * 64) = value[i][c];
        }
      }
    }

    // Of places line and line + 8: scores of the two queries.
    float score[4] = {};
#pragma unroll
    for (int c = 0; c < WIDTH / 32; c++) {
      const Words &upper = key[0][c], &lower = key[1][c];
      multiply(score, upper.x[0], lower.x[0], upper.x[1], lower.x[1], query[c].x[0], query[c].x[1]);
      multiply(score, upper.x[2], lower.x[2], upper.x[3], lower.x[3], query[c].x[2], query[c].x[3]);
    }
    fetch_keys(tile + TILE_WARPS * TILE);

    float fade[2];
#pragma unroll
    for (int q = 0; q < 2; q++) {
      float highest = best[q];
      for (int i = q; i < 4; i += 2) {
        score[i] = key_place(tile, i / 2) <= to ? score[i] * (scale * 1.44269504f) : NOTHING;
        highest = fmaxf(highest, score[i]);
      }
      for (int offset = 4; offset < 32; offset *= 2) highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, offset));
      for (int i = q; i < 4; i += 2) score[i] = exp2f(score[i] - highest);
      fade[q] = exp2f(best[q] - highest);
      best[q] = highest;
    }
    const word_t upper = pair(score[0], score[1]), lower = pair(score[2], score[3]);
    // The sum is of the weights that the values are multiplied by.
    weight[0] = weight[0] * fade[0] + up((half_t)(upper & 0xffff)) + up((half_t)(lower & 0xffff));
    weight[1] = weight[1] * fade[1] + up((half_t)(upper >> 16)) + up((half_t)(lower >> 16));
    if (__any_sync(~0u, fade[0] != 1 || fade[1] != 1)) {
#pragma unroll
      for (int j = 0; j < WIDTH / 16; j++) {
        for (int i = 0; i < 4; i++) sums[j][i] *= fade[i % 2];
      }
    }
    const word_t first_weights = transposed(upper), second_weights = transposed(lower);
#pragma unroll
    for (int j = 0; j < WIDTH / 16; j++) {
      const int c = j / 4, w = j % 4;
      const word_t a = value[0][c].x[w], b = value[1][c].x[w], d = value[2][c].x[w], e = value[3][c].x[w];
      multiply(sums[j], __byte_perm(a, b, 0x5410), __byte_perm(a, b, 0x7632), __byte_perm(d, e, 0x5410),
               __byte_perm(d, e, 0x7632), first_weights, second_weights);
    }
    fetch_values(tile + TILE_WARPS * TILE);
  }

  // The warps together.
  __shared__ float found[TILE_WARPS][GROUPS][WIDTH + 2];
#pragma unroll
  for (int q = 0; q < 2; q++) {
    for (int offset = 4; offset < 32; offset *= 2) weight[q] += __shfl_xor_sync(~0u, weight[q], offset);
    if (part * 2 + q >= GROUPS) continue;
    float* to_found = found[warp][part * 2 + q];
#pragma unroll
    for (int j = 0; j < WIDTH / 16; j++) {
      const int number = j / 4 * 64 + line * 8 + j % 4 * 2;
      to_found[number] = sums[j][q];
      to_found[number + 1] = sums[j][q + 2];
    }
    if (line == 0) {
      to_found[WIDTH] = best[q];
      to_found[WIDTH + 1] = weight[q];
    }
  }
  __syncthreads();
  float* shares = partial + (long)own * splits * GROUPS * (WIDTH + 2);
  for (int i = threadIdx.x; i < GROUPS * WIDTH; i += TILE_WARPS * 32) {
    const int g = i / WIDTH, number = i % WIDTH;
    float highest = NOTHING, mixed = 0, total = 0;
    for (int w = 0; w < TILE_WARPS; w++) highest = fmaxf(highest, found[w][g][WIDTH]);
    for (int w = 0; w < TILE_WARPS; w++) {
      const float part_of = exp2f(found[w][g][WIDTH] - highest);
      mixed += found[w][g][number] * part_of;
      total += found[w][g][WIDTH + 1] * part_of;
    }
    if (splits == 1) {
      out[(long)own * GROUPS * WIDTH + i] = down(mixed / total);
      continue;
    }
    float* to_share = shares + (split * GROUPS + g) * (WIDTH + 2);
    to_share[number] = mixed;
    if (number == 0) {
      // Scores are kept in powers of e.
      to_share[WIDTH] = highest * 0.69314718f;
      to_share[WIDTH + 1] = total;
    }
  }
  if (splits > 1) join_shares(shares, arrivals + own, out + (long)own * GROUPS * WIDTH, splits);
}

#endif
