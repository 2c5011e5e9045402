// Attention in float8 (e4m3) over heads of up to 64 numbers, without a mask, for Hopper: `float8_tiles` quantises keys and
// values into tiles that lie in global memory as they will in shared memory, `float8_attention` runs over them.
//
// A weight 2^x goes into the product as the e4m3 number whose code is 8 x + TOP, rounded: between powers of two that is
// a straight line for 2^x, 6 % too high in the middle. What it is too high by on average is so in the sum of weights too,
// for that is summed up by the same product, from the same codes: eight more columns of values hold ones. So no
// exponential is computed. Scores come as float16, two in a register, and so do codes, as 1024 + code.
//
// A tile's keys and its values have a scale each. That of values is a power of two, 2^e: the weights of the tile grow by it
// and its ones shrink.

// Numbers of a head, eight by eight; zeros up to 64 follow them.
#ifndef HEAD
#define HEAD 64
#endif
#define WIDTH 64
#define KEYS 128
// Rows of the transposed values: those of the head and the ones.
#define COLUMNS 72
#define KEY_BYTES (KEYS * WIDTH)
#define VALUE_BYTES (COLUMNS * KEYS)
// Beside them: the keys' scale, and the exponent of the values'.
#define TILE_BYTES (KEY_BYTES + VALUE_BYTES + 128)
// Tiles start where the swizzle's pattern does.
#define STAGE_BYTES (KEY_BYTES + VALUE_BYTES + 1024)
#ifndef STAGES
#define STAGES 4
#endif
// Groups of four warps; each takes 64 queries.
#ifndef GROUPS
#define GROUPS 2
#endif
// Tensor cores add to a sum of float8 products with some 14 bits and cut off the rest, so a sum of many tiles would lose
// small weights: after so many it is moved out, to shared memory.
#ifndef TOGETHER
#define TOGETHER 8
#endif
#ifndef BLOCKS_AT_ONCE
#define BLOCKS_AT_ONCE 2
#endif
// The code of weight 1: 2^8.
#define TOP 120
#define LARGEST 448.0f
// Length of a query, and largest number of a key: products stay below the largest float16.
#define QUERY_LENGTH 128.0f
#define LARGEST_OF_KEY 56.0f
#define LOG2_E 1.4426950408889634f

struct alignas(1024) Stage {
  byte_t x[STAGE_BYTES];
};

// The first goes to the lower byte.
__device__ inline word_t two_bytes(float first, float second) {
  half_t out;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(out) : "f"(second), "f"(first));
  return out;
}

__device__ inline word_t four_bytes(float a, float b, float c, float d) { return two_bytes(a, b) | two_bytes(c, d) << 16; }

__device__ inline float block_max(float x, float* shared) {
  for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, offset));
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  for (int i = 0; i < (blockDim.x + 31) / 32; i++) x = fmaxf(x, shared[i]);
  return x;
}

// ---- Tiles of keys and values ----

#define LAYING_THREADS 256
// Vectors of keys that a thread lays out, and of values: those of four keys that stand side by side in the product.
#define VECTORS 4

// The larger numbers, where all are without a sign.
__device__ inline word_t pair_larger(word_t a, word_t b) {
  word_t out;
  asm("max.u16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}

// The largest number of all threads' vectors, its sign left out.
__device__ inline float largest_of(const Words* vectors, float* shared) {
  word_t largest = 0;
#pragma unroll
  for (int v = 0; v < VECTORS; v++)
    for (int w = 0; w < 4; w++) largest = pair_larger(largest, vectors[v].x[w] & 0x7fff7fffu);
  return fmaxf(block_max(fmaxf(up(largest & 0xffff), up(largest >> 16)), shared), 1e-12f);
}

// The number at place 2 w, or at 2 w + 1.
__device__ inline float number_of(const Words& vector, int w, int odd) {
  return up(odd ? vector.x[w] >> 16 : vector.x[w] & 0xffff);
}

// Block (tile, head of a picture). Keys beyond the last are copies of it, so that no score is new; their values and
// ones are zero.
extern "C" __global__ void __launch_bounds__(LAYING_THREADS, 4)
    float8_tiles(const half_t* keys, const half_t* values, byte_t* tiles, int tokens, int heads, long token_stride,
                 long batch_stride) {
  __shared__ alignas(128) byte_t image[TILE_BYTES];
  __shared__ float of_keys[LAYING_THREADS / 32], of_values[LAYING_THREADS / 32];
  const int first = blockIdx.x * KEYS, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  // Vector of the head, and keys: in a group of 16, 4 t + i of the product's long axis is what the scores have in column
  // 2 t + i % 2 + i / 2 * 8.
  const int part = warp % 4 * 2 + lane % 2, t = lane / 2 % 4, group = warp / 4 * 4 + lane / 8;
  const int row = group * 16 + t * 2;
  const long at = blockIdx.y / heads * batch_stride + blockIdx.y % heads * HEAD + part * 8;
  Words key[VECTORS], value[VECTORS];
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    const long from = at + min(first + row + v % 2 + v / 2 * 8, tokens - 1) * token_stride;
    const bool there = part < HEAD / 8;
    for (int w = 0; w < 4; w++) key[v].x[w] = value[v].x[w] = 0;
    if (there) key[v] = *(const Words*)(keys + from);
    if (there) value[v] = *(const Words*)(values + from);
  }
  const float largest_key = largest_of(key, of_keys), largest_value = largest_of(value, of_values);
  const float exponent = fminf(fmaxf(ceilf(log2f(largest_value / LARGEST)), -8.0f), 6.0f);
  const float key_factor = LARGEST_OF_KEY / largest_key, value_factor = exp2f(-exponent);
  const word_t one = two_bytes(value_factor, 0) & 0xff;
  word_t ones = 0;
  bool there[VECTORS];
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    const int place = row + v % 2 + v / 2 * 8;
    // Rows of 64 bytes; their four vectors of 16 are swapped as every second row says.
    const int offset = place * WIDTH + ((part / 2) ^ (place / 2 % 4)) * 16 + part % 2 * 8;
    float x[8];
    for (int j = 0; j < 8; j++) x[j] = number_of(key[v], j / 2, j % 2) * key_factor;
    *(uint2*)(image + offset) = make_uint2(four_bytes(x[0], x[1], x[2], x[3]), four_bytes(x[4], x[5], x[6], x[7]));
    there[v] = first + place < tokens;
    ones |= (there[v] ? one : 0) << (8 * v);
  }
  // Rows of 128 bytes, one for each number of the head; their eight vectors of 16 are swapped as the row says.
#pragma unroll
  for (int j = 0; j < 8; j++) {
    float x[VECTORS];
    for (int v = 0; v < VECTORS; v++) x[v] = there[v] ? number_of(value[v], j / 2, j % 2) * value_factor : 0;
    const int offset = KEY_BYTES + (part * 8 + j) * KEYS + (group ^ j) * 16 + t * 4;
    *(word_t*)(image + offset) = four_bytes(x[0], x[1], x[2], x[3]);
  }
  *(word_t*)(image + KEY_BYTES + (WIDTH + part) * KEYS + (group ^ part) * 16 + t * 4) = ones;
  if (threadIdx.x == 0) {
    float* beside = (float*)(image + KEY_BYTES + VALUE_BYTES);
    beside[0] = largest_key / LARGEST_OF_KEY;
    beside[1] = exponent;
  }
  __syncthreads();
  uint4* out = (uint4*)(tiles + ((long)blockIdx.y * gridDim.x + blockIdx.x) * TILE_BYTES);
  for (int i = threadIdx.x; i < TILE_BYTES / 16; i += LAYING_THREADS) out[i] = ((const uint4*)image)[i];
}

// ---- Copies and products ----

// The barrier's phase ends when the bytes are there.
__device__ inline void fetch(void* to, const void* from, int bytes, wide_t* barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(in_shared(barrier)), "r"(bytes) : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   in_shared(to)),
               "l"(from), "r"(bytes), "r"(in_shared(barrier))
               : "memory");
}

// The sums can be read after this only.
__device__ inline void wait_for_products(word_t (&s)[32], float (&o)[36]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;"
               : OUT16("+r", s, 0), OUT16("+r", s, 16), OUT16("+f", o, 0), OUT16("+f", o, 16), OUT4("+f", o, 32)::"memory");
}

// scores (float16, 64 × 128) = or += a · bᵀ over 32 places.
template <int SUMS>
__device__ inline void multiply_keys(word_t (&s)[32], const word_t* a, wide_t b) {
  asm volatile(
      "{\n.reg .pred sums;\nsetp.ne.b32 sums, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.f16.e4m3.e4m3 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, sums, 1, 1;\n}"
      : OUT16("+r", s, 0), OUT16("+r", s, 16)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(SUMS));
}

// out (float32, 64 × 72) += a · bᵀ over 32 places.
__device__ inline void multiply_values(float (&o)[36], const word_t* a, wide_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n72k32.f32.e4m3.e4m3 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35}, {%36, %37, %38, %39}, %40, 1, 1, 1;"
      : OUT16("+f", o, 0), OUT16("+f", o, 16), OUT4("+f", o, 32)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// ---- Pairs of float16 ----

__device__ inline word_t pair_of(float x) {
  word_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %1;" : "=r"(out) : "f"(x));
  return out;
}
__device__ inline word_t pair_max(word_t a, word_t b) {
  word_t out;
  asm("max.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}
__device__ inline word_t pair_multiply_add(word_t a, word_t b, word_t c) {
  word_t out;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
}
__device__ inline float low_of(word_t pair) {
  float out;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, low;\n}" : "=f"(out) : "r"(pair));
  return out;
}

// Weights as codes: a pair of float16 holds 1024 + code.
__device__ inline word_t coded(word_t scores, word_t factor, word_t shift) {
  return pair_max(pair_multiply_add(scores, factor, shift), 0x64006400u);
}

__device__ inline word_t four_codes(word_t first, word_t second) { return __byte_perm(first, second, 0x6420); }

// ---- Attention ----

// A row's largest score so far, as a whole number of powers of two.
__device__ inline float raised(float top, float score) { return fmaxf(top, ceilf(score)); }

#define THREADS (GROUPS * 128)
// Tiles on the way. Of the stages one is read by the groups that are ahead, one by those that are not.
#define AHEAD (STAGES - 2)

// Queries and out: token n, head h of picture b at n · token_stride + b · batch_stride + h · HEAD. `scale` is that of the
// scores. Dynamic shared memory: the stages, and 36 sums of each thread.
// Block (64 · GROUPS queries, head of a picture).
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
    float8_attention(const half_t* queries, const byte_t* tiles, half_t* out, int tokens, int heads, long token_stride,
                     long batch_stride, long out_token_stride, long out_batch_stride, float scale) {
  extern __shared__ Stage stages[];
  // What is moved out: four sums of each thread side by side.
  float4* kept = (float4*)(stages + STAGES) + threadIdx.x;
  __shared__ wide_t filled[STAGES], used[STAGES];
  const int count = (tokens + KEYS - 1) / KEYS, lane = threadIdx.x % 32;
  // The same for all lanes, and the compiler sees that.
  const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      init_barrier(filled + s, 1);
      init_barrier(used + s, GROUPS * 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();

  const byte_t* from = tiles + (long)blockIdx.y * count * TILE_BYTES;
  // The first warp fetches tiles on the way, `AHEAD` before they are wanted; what lay there is read no more by then.
  auto look_ahead = [&](int i) {
    if (warp != 0 || i >= count) return;
    const int stage = i % STAGES, round = i / STAGES;
    if (round > 0) wait_at(used + stage, (round - 1) & 1);
    if (lane == 0) fetch(stages[stage].x, from + (long)i * TILE_BYTES, TILE_BYTES, filled + stage);
  };
  for (int i = 0; i < AHEAD; i++) look_ahead(i);

  // The two rows of queries that a thread has numbers of.
  const int row = blockIdx.x * (GROUPS * 64) + warp * 16 + lane / 4;
  const int picture = blockIdx.y / heads, head = blockIdx.y % heads;
  word_t q[8];
  float factor[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const half_t* from = queries + (long)min(row + r * 8, tokens - 1) * token_stride + picture * batch_stride +
                         head * HEAD + lane % 4 * 4;
    float x[16], squares = 0;
#pragma unroll
    for (int v = 0; v < 4; v++) {
      const uint2 four = v * 16 + lane % 4 * 4 < HEAD ? *(const uint2*)(from + v * 16) : make_uint2(0, 0);
      x[v * 4] = up(four.x & 0xffff), x[v * 4 + 1] = up(four.x >> 16);
      x[v * 4 + 2] = up(four.y & 0xffff), x[v * 4 + 3] = up(four.y >> 16);
    }
#pragma unroll
    for (int j = 0; j < 16; j++) squares += x[j] * x[j];
    squares += __shfl_xor_sync(~0u, squares, 1);
    squares += __shfl_xor_sync(~0u, squares, 2);
    const float length = fmaxf(sqrtf(squares), 1e-12f), up_to = QUERY_LENGTH / length;
    factor[r] = length / QUERY_LENGTH * scale * LOG2_E;
#pragma unroll
    for (int v = 0; v < 4; v++)
      q[v / 2 * 4 + v % 2 * 2 + r] =
          four_bytes(x[v * 4] * up_to, x[v * 4 + 1] * up_to, x[v * 4 + 2] * up_to, x[v * 4 + 3] * up_to);
  }

  float o[36], top[2] = {-1e30f, -1e30f}, fade_of_kept[2] = {0, 0};
  word_t s[32], p[16];
#pragma unroll
  for (int j = 0; j < 36; j++) o[j] = 0;
#pragma unroll
  for (int j = 0; j < 9; j++) kept[j * THREADS] = make_float4(0, 0, 0, 0);

  // o is what came since it was moved out, and all that came when this is done.
  auto add_kept = [&] {
#pragma unroll
    for (int j = 0; j < 9; j++) {
      const float4 sums = kept[j * THREADS];
      o[4 * j] += sums.x * fade_of_kept[0], o[4 * j + 1] += sums.y * fade_of_kept[0];
      o[4 * j + 2] += sums.z * fade_of_kept[1], o[4 * j + 3] += sums.w * fade_of_kept[1];
    }
  };
  auto move_out = [&] {
    add_kept();
#pragma unroll
    for (int j = 0; j < 9; j++) {
      kept[j * THREADS] = make_float4(o[4 * j], o[4 * j + 1], o[4 * j + 2], o[4 * j + 3]);
      o[4 * j] = o[4 * j + 1] = o[4 * j + 2] = o[4 * j + 3] = 0;
    }
    fade_of_kept[0] = fade_of_kept[1] = 1;
  };
  auto score = [&](int stage) {
    const wide_t keys = matrix_at(stages[stage].x, 8 * WIDTH, 2);
    multiply_keys<0>(s, q, keys);
    multiply_keys<1>(s, q + 4, keys + 2);
  };

  auto weigh = [&](const byte_t* tile) {
    const float2 beside = *(const float2*)(tile + KEY_BYTES + VALUE_BYTES);
    word_t high = s[0], low = s[1];
#pragma unroll
    for (int j = 1; j < 16; j++) high = pair_max(high, s[2 * j]), low = pair_max(low, s[2 * j + 1]);
    // One pair for both rows.
    word_t both = pair_max(__byte_perm(high, low, 0x5410), __byte_perm(high, low, 0x7632));
    both = pair_max(both, __shfl_xor_sync(~0u, both, 1));
    both = pair_max(both, __shfl_xor_sync(~0u, both, 2));
    word_t factors[2], shifts[2];
    float raise[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      factors[r] = pair_of(8 * factor[r] * beside.x);
      raise[r] = raised(top[r], low_of(r == 0 ? both : both >> 16) * low_of(factors[r]) * 0.125f + beside.y);
      shifts[r] = pair_of(1024 + TOP + 8 * (beside.y - raise[r]));
    }
    if (__any_sync(~0u, raise[0] > top[0] || raise[1] > top[1])) {
      const float fade[2] = {exp2f(top[0] - raise[0]), exp2f(top[1] - raise[1])};
#pragma unroll
      for (int j = 0; j < 36; j++) o[j] *= fade[j / 2 % 2];
      fade_of_kept[0] *= fade[0], fade_of_kept[1] *= fade[1];
      top[0] = raise[0], top[1] = raise[1];
    }
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const word_t first = coded(s[4 * j + r], factors[r], shifts[r]);
        const word_t second = coded(s[4 * j + 2 + r], factors[r], shifts[r]);
        p[j / 2 * 4 + j % 2 * 2 + r] = four_codes(first, second);
      }
  };
  auto mix = [&](const byte_t* tile) {
    const wide_t values = matrix_at(tile + KEY_BYTES, 8 * KEYS, 1);
#pragma unroll
    for (int k = 0; k < 4; k++) multiply_values(o, p + 4 * k, values + 2 * k);
  };

  wait_at(filled, 0);
  look_ahead(AHEAD);
  begin_products();
  score(0);
  end_products();
  wait_for_products(s, o);
  weigh(stages[0].x);
  // The values of a tile are multiplied together with the keys of the next.
  int before = 0, stage = 1 % STAGES, phase = stage == 0;
  for (int i = 1; i < count; i++) {
    wait_at(filled + stage, phase);
    begin_products();
    mix(stages[before].x);
    score(stage);
    end_products();
    wait_for_products(s, o);
    if (lane == 0) arrive_at(used + before);
    look_ahead(i + AHEAD);
    if (i % TOGETHER == 0) move_out();
    weigh(stages[stage].x);
    before = stage;
    if (++stage == STAGES) stage = 0, phase ^= 1;
  }
  begin_products();
  mix(stages[before].x);
  end_products();
  wait_for_products(s, o);
  add_kept();

#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (row + r * 8 >= tokens) continue;
    half_t* to = out + (row + r * 8) * out_token_stride + picture * out_batch_stride + head * HEAD + lane % 4 * 2;
    const float whole = 1 / o[32 + 2 * r];
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
      *(word_t*)(to + 8 * j) = down(o[4 * j + 2 * r] * whole) | (word_t)down(o[4 * j + 2 * r + 1] * whole) << 16;
  }
}
