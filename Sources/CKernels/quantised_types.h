// What the kernels for quantised weights share, whatever the width of their vectors.
#include <immintrin.h>

#define SHARED static inline __attribute__((always_inline))

typedef int unaligned_int __attribute__((aligned(1)));
typedef unsigned unaligned_unsigned __attribute__((aligned(1)));
typedef unsigned short unaligned_half __attribute__((aligned(1)));

enum { block_numbers = 32, block_words = block_numbers / 4, line_weights = 8 };

// 32 numbers of a row. What stands for the weights' offset is their sum times it, with the sign turned. For weights in blocks of 256:
// where factors are one for 16 numbers, the sums of both halves, else those of this block and of the next, in blocks of even number.
struct row_block {
  signed char numbers[block_numbers];
  float scale;
  int start;
  union {
    short sums[2];
    int both;
  };
  int unused;
};
_Static_assert(sizeof(struct row_block) == BLOCK_BYTES, "what ladder_quantised_bytes says of 32 numbers");

SHARED long quantised_bytes(int blocks, const enum ladder_quantisation type) {
  switch (type) {
  case ladder_q8_0: return 34l * blocks;
  case ladder_q5_0: return 22l * blocks;
  case ladder_q4_0: return 18l * blocks;
  case ladder_q4_k: return 18l * blocks;
  case ladder_q5_k: return 22l * blocks;
  case ladder_q6_k: return 210l * (blocks / 8);
  }
}

// Asks for what lies from `from` on before `end`, by lines of 64 bytes. A few lines at a time: a burst of them waits for each other. What
// comes faster than it is multiplied, weights of many bits, is asked for from the second-level cache.
SHARED void quantised_ask(const char *at, const long from, const long end, const enum ladder_quantisation type) {
  const int many = type == ladder_q8_0 || type == ladder_q6_k;
#pragma clang loop unroll(full)
  for (long i = (from + 63) / 64 * 64; i < end; i += 64)
    if (many) _mm_prefetch(at + i, _MM_HINT_T1);
    else _mm_prefetch(at + i, _MM_HINT_T0);
}

// What is added to weights so that they are unsigned.
SHARED int quantised_start(const enum ladder_quantisation type) {
  return type == ladder_q8_0 ? 128 : type == ladder_q5_0 ? 16 : type == ladder_q4_0 ? 8 : type == ladder_q6_k ? 32 : 0;
}

// Whether the factors of a block of 256 are one for 16 numbers; the others are for 32, and those have minima.
SHARED int has_halves(const enum ladder_quantisation type) { return type == ladder_q6_k; }

// Where the scale of a block of 256 lies, in F16; what minima are multiples of is behind it.
SHARED long quantised_scale_at(const enum ladder_quantisation type) { return has_halves(type) ? 208 : 0; }

// The whole factors of a block of 256, in their order: 16 signed bytes, or 8 unsigned ones and as many minima.
SHARED void quantised_factors(const unsigned char *block, const enum ladder_quantisation type, unsigned long long *first, unsigned long long *second) {
  if (has_halves(type)) {
    __builtin_memcpy(first, block + 192, 8);
    __builtin_memcpy(second, block + 200, 8);
    return;
  }
  const unaligned_unsigned *q = (const unaligned_unsigned *)(block + 4);
  const unsigned factors = q[0] & 0x3f3f3f3f, later = (q[2] & 0x0f0f0f0f) | (q[0] >> 6 & 0x03030303) << 4;
  const unsigned minima = q[1] & 0x3f3f3f3f, latest = (q[2] >> 4 & 0x0f0f0f0f) | (q[1] >> 6 & 0x03030303) << 4;
  *first = factors | (unsigned long long)later << 32;
  *second = minima | (unsigned long long)latest << 32;
}

#define AVX2 SHARED __attribute__((target("avx2")))

AVX2 __m256i bytes_of_halves(const void *halves) {
  const __m128i both = _mm_loadu_si128(halves);
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15));
}

// Block `b` of a row in bytes, but for the fifth bit of those that have five.
AVX2 __m256i quantised_low_bits(const unsigned char *row, int b, const enum ladder_quantisation type) {
  const __m256i low = _mm256_set1_epi8(15);
  switch (type) {
  case ladder_q8_0: return _mm256_loadu_si256((const void *)(row + 34 * (long)b + 2));
  case ladder_q5_0: return bytes_of_halves(row + 22 * (long)b + 6);
  case ladder_q4_0: return bytes_of_halves(row + 18 * (long)b + 2);
  case ladder_q4_k:
  case ladder_q5_k: {
    const int j = b % 8;
    const __m256i four = _mm256_loadu_si256((const void *)(row + (type == ladder_q5_k ? 176 : 144) * (long)(b / 8) + (type == ladder_q5_k ? 48 : 16) + j / 2 * 32));
    return _mm256_and_si256(j % 2 ? _mm256_srli_epi16(four, 4) : four, low);
  }
  case ladder_q6_k: {
    const int half = b / 4 % 2, j = b % 4;
    row += 210 * (long)(b / 8);
    const __m256i four = _mm256_loadu_si256((const void *)(row + 64 * half + 32 * (j % 2)));
    const __m256i two = _mm256_srl_epi16(_mm256_loadu_si256((const void *)(row + 128 + 32 * half)), _mm_cvtsi32_si128(2 * j));
    return _mm256_or_si256(
      _mm256_and_si256(j < 2 ? four : _mm256_srli_epi16(four, 4), low), _mm256_slli_epi16(_mm256_and_si256(two, _mm256_set1_epi8(3)), 4));
  }
  }
}

#define AVX2_F16 SHARED __attribute__((target("avx2,f16c")))

// What lies so far in each of 8 rows, in F16.
AVX2_F16 __m256 quantised_line_halves(const unsigned char *const *rows, long at) {
  __m128i halves = _mm_cvtsi32_si128(*(const unaligned_half *)(rows[0] + at));
#define ADD(i) halves = _mm_insert_epi16(halves, *(const unaligned_half *)(rows[i] + at), i);
  ADD(1) ADD(2) ADD(3) ADD(4) ADD(5) ADD(6) ADD(7)
#undef ADD
  return _mm256_cvtph_ps(halves);
}

// The sums of each of 8 vectors of words, in their order.
AVX2 __m256i quantised_totals(const __m256i *z) {
  __m256i t[4], u[2];
#pragma clang loop unroll(full)
  for (int a = 0; a < 4; a++) t[a] = _mm256_add_epi32(_mm256_unpacklo_epi32(z[2 * a], z[2 * a + 1]), _mm256_unpackhi_epi32(z[2 * a], z[2 * a + 1]));
#pragma clang loop unroll(full)
  for (int a = 0; a < 2; a++) u[a] = _mm256_add_epi32(_mm256_unpacklo_epi64(t[2 * a], t[2 * a + 1]), _mm256_unpackhi_epi64(t[2 * a], t[2 * a + 1]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(u[0], u[1], 0x20), _mm256_permute2x128_si256(u[0], u[1], 0x31));
}

// 16 rows of 8 bytes as their columns.
AVX2 void quantised_turn_bytes(const unsigned long long *rows, __m128i *columns) {
  __m128i a[8], b[8], c[8];
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i++) a[i] = _mm_unpacklo_epi8(_mm_cvtsi64_si128((long long)rows[i]), _mm_cvtsi64_si128((long long)rows[i + 8]));
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 4]);
    b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 4]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 2; i++)
#pragma clang loop unroll(full)
    for (int half = 0; half < 2; half++) {
      c[4 * i + 2 * half] = _mm_unpacklo_epi8(b[2 * i + half], b[2 * i + 4 + half]);
      c[4 * i + 2 * half + 1] = _mm_unpackhi_epi8(b[2 * i + half], b[2 * i + 4 + half]);
    }
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    columns[2 * i] = _mm_unpacklo_epi8(c[i], c[i + 4]);
    columns[2 * i + 1] = _mm_unpackhi_epi8(c[i], c[i + 4]);
  }
}

// 8 rows of 8 words as their columns.
AVX2 void quantised_turn(const __m256 *rows, __m256 *columns) {
  __m256 t[8], u[8];
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i += 4)
#pragma clang loop unroll(full)
    for (int c = 0; c < 2; c++) {
      u[i + 2 * c] = _mm256_shuffle_ps(t[i + c], t[i + c + 2], 0x44);
      u[i + 2 * c + 1] = _mm256_shuffle_ps(t[i + c], t[i + c + 2], 0xee);
    }
#pragma clang loop unroll(full)
  for (int c = 0; c < 4; c++) {
    columns[c] = _mm256_permute2f128_ps(u[c], u[c + 4], 0x20);
    columns[c + 4] = _mm256_permute2f128_ps(u[c], u[c + 4], 0x31);
  }
}

#undef AVX2_F16
#undef AVX2
