// Products by tensor cores, and how what goes into them is arranged.

#if __CUDA_ARCH__ >= 800

#ifdef BF16
#define PRODUCT "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#define PAIR "cvt.rn.bf16x2.f32"
#else
#define PRODUCT "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#define PAIR "cvt.rn.f16x2.f32"
#endif

// sum += a · b. A lane has the numbers of rows lane / 4 and lane / 4 + 8 of a, and of column lane / 4
// of b. Which 16 places of the long axis they stand for is free, as long as a and b agree. Of the sum it has
// columns lane % 4 · 2 and the next: of row lane / 4, then of row lane / 4 + 8.
__device__ inline void multiply(float* sum, word_t upper0, word_t lower0, word_t upper1, word_t lower1, word_t b0,
                                word_t b1) {
  asm volatile(PRODUCT " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(upper0), "r"(lower0), "r"(upper1), "r"(lower1), "r"(b0), "r"(b1));
}

// Two numbers as one word.
__device__ inline word_t pair(float low, float high) {
  word_t out;
  asm(PAIR " %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

// Of a matrix of 8 by 8 a lane has row lane / 4, columns lane % 4 · 2 and the next; then column lane / 4, these rows.
__device__ inline word_t transposed(word_t numbers) {
  word_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(numbers));
  return out;
}

#endif
