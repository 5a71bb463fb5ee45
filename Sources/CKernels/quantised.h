// Products of quantised weights with rows in 8 bits, for processors with AVX-512's instructions for sums of bytes' products (VNNI).
//
// A panel holds 16 weight rows, block by block of 32 numbers: each word has four neighbours of one row, in unsigned bytes, and behind a
// block's words are the rows' scales. Nothing is summed across a vector, and a block's sum is exact.
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { quantised_lanes = 16, block_numbers = 32, block_words = block_numbers / 4, tile_rows = 8 };

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

// 16 rows' block: words [8][16]; scales; those of its second half, or minima, where the type has them.
struct panel_block {
  unsigned words[block_words][quantised_lanes];
  float scales[quantised_lanes], seconds[quantised_lanes];
};
_Static_assert(MOST_QUANTISED / block_numbers * sizeof(struct panel_block) <= SCRATCH, "a panel of the widest rows fits");

INLINE __m256i bytes_of_halves(const void *halves) {
  const __m128i both = _mm_loadu_si128(halves);
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15));
}

INLINE long quantised_bytes(int blocks, const enum ladder_quantisation type) {
  switch (type) {
  case ladder_q8_0: return 34l * blocks;
  case ladder_q5_0: return 22l * blocks;
  case ladder_q4_0: return 18l * blocks;
  case ladder_q4_k: return 18l * blocks;
  case ladder_q5_k: return 22l * blocks;
  case ladder_q6_k: return 210l * (blocks / 8);
  }
}

// Block `b` of a row in unsigned bytes; Q8_0's are signed still.
INLINE __m256i quantised_block(const unsigned char *row, int b, const enum ladder_quantisation type) {
  const __m256i low = _mm256_set1_epi8(15);
  switch (type) {
  case ladder_q8_0: return _mm256_loadu_si256((const void *)(row + 34 * (long)b + 2));
  case ladder_q5_0: {
    const __m256i four = bytes_of_halves(row + 22 * (long)b + 6);
    return _mm256_mask_add_epi8(four, *(const __mmask32 *)(row + 22 * (long)b + 2), four, _mm256_set1_epi8(16));
  }
  case ladder_q4_0: return bytes_of_halves(row + 18 * (long)b + 2);
  case ladder_q4_k:
  case ladder_q5_k: {
    const int j = b % 8, five = type == ladder_q5_k;
    row += (five ? 176 : 144) * (long)(b / 8);
    __m256i four = _mm256_loadu_si256((const void *)(row + (five ? 48 : 16) + j / 2 * 32));
    four = _mm256_and_si256(j % 2 ? _mm256_srli_epi16(four, 4) : four, low);
    if (!five) return four;
    const __mmask32 fifth = _mm256_test_epi8_mask(_mm256_loadu_si256((const void *)(row + 16)), _mm256_set1_epi8((char)(1 << j)));
    return _mm256_mask_add_epi8(four, fifth, four, _mm256_set1_epi8(16));
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

// The scales of a panel whose rows lie here: those in F16 are copied first and widened together.
INLINE void quantised_scales(const unsigned char *const *rows, int blocks, const enum ladder_quantisation type, struct panel_block *panel) {
  if (has_blocks_of_32(type)) {
    const long bytes = quantised_bytes(1, type);
    for (int i = 0; i < quantised_lanes; i++)
      for (int b = 0; b < blocks; b++) ((unsigned short *)panel[b].seconds)[i] = *(const unsigned short *)(rows[i] + b * bytes);
    for (int b = 0; b < blocks; b++) _mm512_storeu_ps(panel[b].scales, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)panel[b].seconds)));
    return;
  }
  for (int i = 0; i < quantised_lanes; i++)
    for (int b = 0; b < blocks; b += 8) {
      const unsigned char *block = rows[i] + quantised_bytes(b, type);
      for (int j = 0; j < 8; j++) {
        int first, second;
        float scale, other;
        if (type == ladder_q6_k) {
          const signed char *scales = (const signed char *)block + 192;
          first = scales[2 * j];
          second = scales[2 * j + 1];
          scale = other = (float)*(const half_number *)(block + 208);
        } else {
          const unsigned char *q = block + 4;
          first = j < 4 ? q[j] & 63 : (q[j + 4] & 15) | (q[j - 4] >> 6 << 4);
          second = j < 4 ? q[j + 4] & 63 : (q[j + 4] >> 4) | (q[j] >> 6 << 4);
          scale = (float)*(const half_number *)block;
          other = (float)*(const half_number *)(block + 2);
        }
        panel[b + j].scales[i] = scale * (float)first;
        panel[b + j].seconds[i] = other * (float)second;
      }
    }
}

// 16 rows, the last of `count` standing for those that are missing. What lies two panels on is asked for meanwhile.
INLINE void quantised_pack(const unsigned char *weights, long stride, int count, int blocks, const enum ladder_quantisation type, struct panel_block *panel) {
  const unsigned char *rows[quantised_lanes];
  for (int i = 0; i < quantised_lanes; i++) rows[i] = weights + (i < count ? i : count - 1) * stride;
  quantised_scales(rows, blocks, type, panel);
  const long ahead = quantised_bytes(8, type) * quantised_lanes / 8;
  for (int b = 0; b < blocks; b++, panel++) {
    __m512i z[8], t[8], u[8];
    const unsigned char *next = weights + 2 * quantised_lanes * stride + b * ahead;
    for (int i = 0; i < ahead; i += 64) _mm_prefetch((const char *)next + i, _MM_HINT_T1);
    // Rows that are four apart share a vector, so that the last step of the transpose leaves them in their order.
#pragma clang loop unroll(full)
    for (int a = 0; a < 8; a++) {
      const int i = a < 4 ? a : a + 4;
      z[a] = _mm512_inserti64x4(_mm512_castsi256_si512(quantised_block(rows[i], b, type)), quantised_block(rows[i + 4], b, type), 1);
      if (type == ladder_q8_0) z[a] = _mm512_xor_si512(z[a], _mm512_set1_epi8(-128));
    }
#pragma clang loop unroll(full)
    for (int a = 0; a < 8; a += 2) {
      t[a] = _mm512_unpacklo_epi32(z[a], z[a + 1]);
      t[a + 1] = _mm512_unpackhi_epi32(z[a], z[a + 1]);
    }
#pragma clang loop unroll(full)
    for (int a = 0; a < 8; a += 4)
#pragma clang loop unroll(full)
      for (int c = 0; c < 2; c++) {
        u[a + 2 * c] = _mm512_unpacklo_epi64(t[a + c], t[a + c + 2]);
        u[a + 2 * c + 1] = _mm512_unpackhi_epi64(t[a + c], t[a + c + 2]);
      }
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++) {
      _mm512_storeu_si512(panel->words[c], _mm512_shuffle_i64x2(u[c], u[c + 4], 0x88));
      _mm512_storeu_si512(panel->words[c + 4], _mm512_shuffle_i64x2(u[c], u[c + 4], 0xdd));
    }
  }
}

INLINE int quantised_start(const enum ladder_quantisation type) {
  return type == ladder_q8_0 ? 128 : type == ladder_q5_0 ? 16 : type == ladder_q4_0 ? 8 : type == ladder_q6_k ? 32 : 0;
}

// `count` rows, known when compiled, with a panel.
INLINE void quantised_tile(const struct panel_block *panel, const struct row_block *rows, int blocks, float *out, long stride, __mmask16 mask,
                           const enum ladder_quantisation type, const int count) {
  const int halves = type == ladder_q6_k, minima = type == ladder_q4_k || type == ladder_q5_k;
  __m512 sums[tile_rows];
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) sums[r] = _mm512_setzero_ps();
  for (int b = 0; b < blocks; b++, panel++) {
    __m512i words[block_words];
#pragma clang loop unroll(full)
    for (int j = 0; j < block_words; j++) words[j] = _mm512_loadu_si512(panel->words[j]);
    const __m512 scales = _mm512_loadu_ps(panel->scales), seconds = _mm512_loadu_ps(panel->seconds);
#pragma clang loop unroll(full)
    for (int r = 0; r < count; r++) {
      const struct row_block *row = rows + r * (long)blocks + b;
      const int *numbers = (const int *)row->numbers;
      const __m512 scale = _mm512_set1_ps(row->scale);
      __m512i sum = minima ? _mm512_setzero_si512() : _mm512_set1_epi32(row->starts[0]);
#pragma clang loop unroll(full)
      for (int j = 0; j < (halves ? block_words / 2 : block_words); j++) sum = _mm512_dpbusd_epi32(sum, words[j], _mm512_set1_epi32(numbers[j]));
      sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scales, scale), sums[r]);
      if (minima) sums[r] = _mm512_fnmadd_ps(seconds, _mm512_set1_ps(row->sum), sums[r]);
      if (halves) {
        __m512i second = _mm512_set1_epi32(row->starts[1]);
#pragma clang loop unroll(full)
        for (int j = block_words / 2; j < block_words; j++) second = _mm512_dpbusd_epi32(second, words[j], _mm512_set1_epi32(numbers[j]));
        sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(second), _mm512_mul_ps(seconds, scale), sums[r]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) _mm512_mask_storeu_ps(out + r * stride, mask, sums[r]);
}

// Entries from `first` on before `last`, of the rows from `row` on before `end`; `at_once` of them, whole panels, are packed before any is
// multiplied.
INLINE void quantised_part(const struct ladder_quantised_product *p, int first, int last, int row, int end, int at_once, struct panel_block *panels,
                           const enum ladder_quantisation type) {
  const int blocks = p->inner / block_numbers;
  for (; first < last; first += at_once) {
    const int stop = first + at_once < last ? first + at_once : last;
    for (int entry = first; entry < stop; entry += quantised_lanes) {
      const unsigned char *weights = (const unsigned char *)p->weights + entry * p->weight_stride;
      const int count = stop - entry < quantised_lanes ? stop - entry : quantised_lanes;
      quantised_pack(weights, p->weight_stride, count, blocks, type, panels + (entry - first) / quantised_lanes * (long)blocks);
    }
    for (int at = row; at < end;) {
      const int left = end - at, tile = left >= tile_rows ? tile_rows : left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const struct row_block *rows = (const struct row_block *)p->rows + at * (long)blocks;
      for (int entry = first; entry < stop; entry += quantised_lanes) {
        const struct panel_block *panel = panels + (entry - first) / quantised_lanes * (long)blocks;
        const int count = stop - entry < quantised_lanes ? stop - entry : quantised_lanes;
        const __mmask16 mask = (__mmask16)((1u << count) - 1);
        float *out = p->out + at * p->out_stride + entry;
        if (tile == tile_rows) quantised_tile(panel, rows, blocks, out, p->out_stride, mask, type, tile_rows);
        else if (tile == 4) quantised_tile(panel, rows, blocks, out, p->out_stride, mask, type, 4);
        else if (tile == 2) quantised_tile(panel, rows, blocks, out, p->out_stride, mask, type, 2);
        else quantised_tile(panel, rows, blocks, out, p->out_stride, mask, type, 1);
      }
      at += tile;
    }
  }
}

TARGET static void quantised_multiply(const struct ladder_quantised_product *p, int first, int last, int row, int end, int at_once, struct panel_block *panels) {
  switch (p->type) {
#define CASE(t) case t: quantised_part(p, first, last, row, end, at_once, panels, t); break;
    CASE(ladder_q8_0)
    CASE(ladder_q5_0)
    CASE(ladder_q4_0)
    CASE(ladder_q4_k)
    CASE(ladder_q5_k)
    CASE(ladder_q6_k)
#undef CASE
  }
}

// 32 numbers in 8 bits: their nearest multiples of the scale, whose inverse this is.
INLINE void quantised_numbers(const float *x, float scale, float inverse, const enum ladder_quantisation type, struct row_block *block) {
  const int offset = quantised_start(type);
  int sums[2];
#pragma clang loop unroll(full)
  for (int half = 0; half < 2; half++) {
    __m512i numbers = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16 * half), _mm512_set1_ps(inverse)));
    numbers = _mm512_max_epi32(_mm512_min_epi32(numbers, _mm512_set1_epi32(127)), _mm512_set1_epi32(-128));
    _mm_storeu_si128((void *)(block->numbers + 16 * half), _mm512_cvtepi32_epi8(numbers));
    sums[half] = _mm512_reduce_add_epi32(numbers);
  }
  block->scale = scale;
  block->unused = 0;
  block->starts[1] = 0;
  if (offset == 0) block->sum = scale * (float)(sums[0] + sums[1]);
  else if (type == ladder_q6_k) {
    block->starts[0] = -offset * sums[0];
    block->starts[1] = -offset * sums[1];
  } else block->starts[0] = -offset * (sums[0] + sums[1]);
}

// The largest magnitude; NaN where there is one.
INLINE float quantised_most(const float *x, int count) {
  __m512 most = _mm512_setzero_ps();
  __mmask16 unordered = 0;
  for (int i = 0; i < count; i += 16) {
    const __m512 numbers = _mm512_loadu_ps(x + i);
    most = _mm512_max_ps(most, _mm512_andnot_ps(_mm512_set1_ps(-0.0f), numbers));
    unordered |= _mm512_cmp_ps_mask(numbers, numbers, _CMP_UNORD_Q);
  }
  return unordered ? __builtin_nanf("") : _mm512_reduce_max_ps(most);
}

// As ggml rounds them for these weights: blocks of 32 with a scale in F16, or of 256 with one in F32.
TARGET static void quantised_row(const float *x, int count, enum ladder_quantisation type, struct row_block *blocks) {
  if (has_blocks_of_32(type)) {
    for (int i = 0; i < count; i += block_numbers, blocks++) {
      const float most = quantised_most(x + i, block_numbers);
      const float scale = _cvtsh_ss(_cvtss_sh(most / 127, _MM_FROUND_TO_NEAREST_INT));
      quantised_numbers(x + i, scale, most != 0 ? 127 / most : 0, type, blocks);
    }
    return;
  }
  for (int i = 0; i < count; i += 256, blocks += 8) {
    const float most = quantised_most(x + i, 256);
    // The first of that magnitude becomes −127.
    float peak = most;
    for (int j = 0; j < 256; j++)
      if (x[i + j] == most || x[i + j] == -most) {
        peak = x[i + j];
        break;
      }
    const float inverse = most != 0 ? -127 / peak : 0, scale = most != 0 ? 1 / inverse : 0;
    for (int j = 0; j < 8; j++) quantised_numbers(x + i + 32 * j, scale, inverse, type, blocks + j);
  }
}

#undef TARGET
#undef INLINE
