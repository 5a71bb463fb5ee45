// What `quantised.h` is made of, for AVX-512 with instructions for sums of bytes' products (VNNI): weights are unsigned bytes.
enum { vnni_lanes = 16, vnni_tile_rows = 8 };

// 16 rows' block: words [8][16]; scales; those of its second half, or minima, where the type has them.
struct vnni_panel {
  unsigned words[block_words][vnni_lanes];
  float scales[vnni_lanes], seconds[vnni_lanes];
};

// Block `b` of a row in bytes, all of which but Q8_0's are unsigned.
INLINE __m256i vnni_block(const unsigned char *row, int b, const enum ladder_quantisation type) {
  const __m256i low = quantised_low_bits(row, b, type);
  __mmask32 fifth;
  if (type == ladder_q5_0) fifth = *(const __mmask32 *)(row + 22 * (long)b + 2);
  else if (type == ladder_q5_k) fifth = _mm256_test_epi8_mask(_mm256_loadu_si256((const void *)(row + 176 * (long)(b / 8) + 16)), _mm256_set1_epi8((char)(1 << b % 8)));
  else return low;
  return _mm256_mask_add_epi8(low, fifth, low, _mm256_set1_epi8(16));
}

INLINE void vnni_widen_scales(struct vnni_panel *panel) { _mm512_storeu_ps(panel->scales, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)panel->seconds))); }

INLINE void vnni_pack_words(const unsigned char *const *rows, int b, const enum ladder_quantisation type, struct vnni_panel *panel) {
  __m512i z[8], t[8], u[8];
  // Rows that are four apart share a vector, so that the last step of the transpose leaves them in their order.
#pragma clang loop unroll(full)
  for (int a = 0; a < 8; a++) {
    const int i = a < 4 ? a : a + 4;
    z[a] = _mm512_inserti64x4(_mm512_castsi256_si512(vnni_block(rows[i], b, type)), vnni_block(rows[i + 4], b, type), 1);
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

INLINE void vnni_store(float *out, __m512 sums, int entries) { _mm512_mask_storeu_ps(out, (__mmask16)((1u << entries) - 1), sums); }

// `count` rows, known when compiled, with a panel of so many entries.
INLINE void vnni_tile(const struct vnni_panel *panel, const struct row_block *rows, int blocks, float *out, long stride, int entries,
                      const enum ladder_quantisation type, const int count) {
  const int halves = type == ladder_q6_k, minima = type == ladder_q4_k || type == ladder_q5_k;
  __m512 sums[vnni_tile_rows];
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
  for (int r = 0; r < count; r++) vnni_store(out + r * stride, sums[r], entries);
}

// Numbers of a row with block `b` of 8 weight rows: their sums, in the rows' order.
INLINE __m256i vnni_line_sums(const unsigned char *const *weights, int b, __m256i row, const enum ladder_quantisation type) {
  const __m512i numbers = _mm512_broadcast_i64x4(row), none = _mm512_setzero_si512();
  __m512i z[4], t[2];
  // Rows that are four apart share a vector.
#pragma clang loop unroll(full)
  for (int a = 0; a < 4; a++) {
    __m512i words = _mm512_inserti64x4(_mm512_castsi256_si512(vnni_block(weights[a], b, type)), vnni_block(weights[a + 4], b, type), 1);
    if (type == ladder_q8_0) words = _mm512_xor_si512(words, _mm512_set1_epi8(-128));
    z[a] = _mm512_dpbusd_epi32(none, words, numbers);
  }
#pragma clang loop unroll(full)
  for (int a = 0; a < 2; a++) t[a] = _mm512_add_epi32(_mm512_unpacklo_epi32(z[2 * a], z[2 * a + 1]), _mm512_unpackhi_epi32(z[2 * a], z[2 * a + 1]));
  const __m512i u = _mm512_add_epi32(_mm512_unpacklo_epi64(t[0], t[1]), _mm512_unpackhi_epi64(t[0], t[1]));
  const __m512i halves = _mm512_shuffle_i64x2(u, u, 0xd8);
  return _mm256_add_epi32(_mm512_castsi512_si256(halves), _mm512_extracti64x4_epi64(halves, 1));
}

// Whether a block's sum is without what its weights' offset takes away.
INLINE int vnni_has_starts(const enum ladder_quantisation type) { return 1; }

// 16 numbers, times this, as bytes; and their sum.
INLINE int vnni_round_half(const float *x, float inverse, signed char *out) {
  __m512i numbers = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse)));
  numbers = _mm512_max_epi32(_mm512_min_epi32(numbers, _mm512_set1_epi32(127)), _mm512_set1_epi32(-128));
  _mm_storeu_si128((void *)out, _mm512_cvtepi32_epi8(numbers));
  return _mm512_reduce_add_epi32(numbers);
}

// The largest magnitude; NaN where there is one.
INLINE float vnni_most(const float *x, int count) {
  __m512 most = _mm512_setzero_ps();
  __mmask16 unordered = 0;
  for (int i = 0; i < count; i += 16) {
    const __m512 numbers = _mm512_loadu_ps(x + i);
    most = _mm512_max_ps(most, _mm512_andnot_ps(_mm512_set1_ps(-0.0f), numbers));
    unordered |= _mm512_cmp_ps_mask(numbers, numbers, _CMP_UNORD_Q);
  }
  return unordered ? __builtin_nanf("") : _mm512_reduce_max_ps(most);
}
