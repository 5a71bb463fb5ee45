// What the kernels for quantised weights share, whatever the width of their vectors.
#include <immintrin.h>

#define SHARED static inline __attribute__((always_inline))

typedef int unaligned_int __attribute__((aligned(1)));
typedef unsigned unaligned_unsigned __attribute__((aligned(1)));
typedef unsigned short unaligned_half __attribute__((aligned(1)));

enum { block_numbers = 32, block_words = block_numbers / 4, line_weights = 8 };

// 32 numbers of a row. What stands for the weights' offset is their sum times it, with the sign turned: where the scale is one for 16
// numbers, that of each half. Where weights have minima: the sum times the scale.
struct row_block {
  signed char numbers[block_numbers];
  float scale;
  union {
    int starts[2];
    float sum;
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

// What is added to weights so that they are unsigned.
SHARED int quantised_start(const enum ladder_quantisation type) {
  return type == ladder_q8_0 ? 128 : type == ladder_q5_0 ? 16 : type == ladder_q4_0 ? 8 : type == ladder_q6_k ? 32 : 0;
}

// The scale of the 32 numbers `j` of a block of 256; and that of their second half, or what their minimum is a multiple of.
SHARED void quantised_scales_of(const unsigned char *block, int j, const enum ladder_quantisation type, float *scale, float *second) {
  if (type == ladder_q6_k) {
    const signed char *scales = (const signed char *)block + 192;
    const float all = (float)*(const half_number *)(block + 208);
    *scale = all * (float)scales[2 * j];
    *second = all * (float)scales[2 * j + 1];
  } else {
    const unsigned char *q = block + 4;
    const int first = j < 4 ? q[j] & 63 : (q[j + 4] & 15) | (q[j - 4] >> 6 << 4), minimum = j < 4 ? q[j + 4] & 63 : (q[j + 4] >> 4) | (q[j] >> 6 << 4);
    *scale = (float)*(const half_number *)block * (float)first;
    *second = (float)*(const half_number *)(block + 2) * (float)minimum;
  }
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

// The scales of block `b` of 8 rows, in F16 before its numbers.
AVX2_F16 __m256 quantised_line_scales(const unsigned char *const *rows, int b, const enum ladder_quantisation type) {
  const long at = quantised_bytes(b, type);
  __m128i halves = _mm_cvtsi32_si128(*(const unaligned_half *)(rows[0] + at));
#define ADD(i) halves = _mm_insert_epi16(halves, *(const unaligned_half *)(rows[i] + at), i);
  ADD(1) ADD(2) ADD(3) ADD(4) ADD(5) ADD(6) ADD(7)
#undef ADD
  return _mm256_cvtph_ps(halves);
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

// `quantised_scales_of` for the 8 blocks from `b` on of 8 rows.
AVX2_F16 void quantised_line_scales_of(const unsigned char *const *rows, int b, const enum ladder_quantisation type, __m256 *scales, __m256 *seconds) {
  __m256 own[8], other[8];
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i++) {
    const unsigned char *block = rows[i] + quantised_bytes(b, type);
    if (type == ladder_q6_k) {
      const __m128i pairs = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(block + 192)), _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
      const __m256 all = _mm256_set1_ps((float)*(const half_number *)(block + 208));
      own[i] = _mm256_mul_ps(all, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(pairs)));
      other[i] = _mm256_mul_ps(all, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(pairs, 8))));
      continue;
    }
    const unaligned_unsigned *q = (const unaligned_unsigned *)(block + 4);
    const unsigned first = q[0] & 0x3f3f3f3f, after = (q[2] & 0x0f0f0f0f) | (q[0] >> 6 & 0x03030303) << 4;
    const unsigned minimum = q[1] & 0x3f3f3f3f, behind = (q[2] >> 4 & 0x0f0f0f0f) | (q[1] >> 6 & 0x03030303) << 4;
    const __m128i numbers = _mm_setr_epi32((int)first, (int)after, (int)minimum, (int)behind);
    own[i] = _mm256_mul_ps(_mm256_set1_ps((float)*(const half_number *)block), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(numbers)));
    other[i] =
      _mm256_mul_ps(_mm256_set1_ps((float)*(const half_number *)(block + 2)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(numbers, 8))));
  }
  quantised_turn(own, scales);
  quantised_turn(other, seconds);
}

#undef AVX2_F16
#undef AVX2
