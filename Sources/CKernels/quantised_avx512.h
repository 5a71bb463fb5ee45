// What `quantised.h` is made of, for AVX-512 with instructions for sums of bytes' products (VNNI): weights are unsigned bytes.
enum { vnni_lanes = 16, vnni_tile_rows = 8 };

// 16 rows' block: words; in blocks of 256 their factors, those of both halves in a word; and scales: of 256 the first block's, what minima
// are multiples of in the second's, and minima in pairs in the next four.
struct vnni_panel {
  unsigned words[block_words][vnni_lanes];
  int factors[vnni_lanes];
  union {
    float scales[vnni_lanes];
    int minima[vnni_lanes];
  };
};

// What stands in a panel for a factor.
INLINE __m256i vnni_factors(__m256i factors) { return factors; }

// Block `b` of a row in bytes, all of which but Q8_0's are unsigned.
INLINE __m256i vnni_block(const unsigned char *row, int b, const enum ladder_quantisation type) {
  const __m256i low = quantised_low_bits(row, b, type);
  __mmask32 fifth;
  if (type == ladder_q5_0) fifth = *(const __mmask32 *)(row + 22 * (long)b + 2);
  else if (type == ladder_q5_k) fifth = _mm256_test_epi8_mask(_mm256_loadu_si256((const void *)(row + 176 * (long)(b / 8) + 16)), _mm256_set1_epi8((char)(1 << b % 8)));
  else return low;
  return _mm256_mask_add_epi8(low, fifth, low, _mm256_set1_epi8(16));
}

INLINE void vnni_widen_scales(struct vnni_panel *panel) { _mm512_storeu_ps(panel->scales, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)panel->factors))); }

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

// The products of a block's words from `from` on before `end` with a row's numbers, added to these.
INLINE __m512i vnni_dot(__m512i sum, const __m512i *words, const struct row_block *row, const int from, const int end) {
#pragma clang loop unroll(full)
  for (int j = from; j < end; j++) sum = _mm512_dpbusd_epi32(sum, words[j], _mm512_set1_epi32(((const int *)row->numbers)[j]));
  return sum;
}

INLINE void vnni_words(const struct vnni_panel *panel, __m512i *words) {
#pragma clang loop unroll(full)
  for (int j = 0; j < block_words; j++) words[j] = _mm512_loadu_si512(panel->words[j]);
}

// `count` rows, known when compiled, with a panel of so many entries.
INLINE void vnni_tile(const struct vnni_panel *panel, const struct row_block *rows, int blocks, float *out, long stride, int entries,
                      const enum ladder_quantisation type, const int count) {
  __m512 sums[vnni_tile_rows];
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) sums[r] = _mm512_setzero_ps();
  for (int b = 0; b < blocks; b++, panel++) {
    __m512i words[block_words];
    vnni_words(panel, words);
    const __m512 scales = _mm512_loadu_ps(panel->scales);
#pragma clang loop unroll(full)
    for (int r = 0; r < count; r++) {
      const struct row_block *row = rows + r * (long)blocks + b;
      const __m512i sum = vnni_dot(_mm512_set1_epi32(row->start), words, row, 0, block_words);
      sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scales, _mm512_set1_ps(row->scale)), sums[r]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) vnni_store(out + r * stride, sums[r], entries);
}

// The same for weights in blocks of 256.
INLINE void vnni_tile_of_256(const struct vnni_panel *panel, const struct row_block *rows, int blocks, float *out, long stride, int entries,
                             const enum ladder_quantisation type, const int count) {
  const int halves = has_halves(type);
  __m512 sums[vnni_tile_rows];
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) sums[r] = _mm512_setzero_ps();
  for (int b = 0; b < blocks; b += 8, panel += 8) {
    __m512i wholes[vnni_tile_rows];
#pragma clang loop unroll(full)
    for (int r = 0; r < count; r++) wholes[r] = _mm512_setzero_si512();
    for (int j = 0; j < 8; j++) {
      __m512i words[block_words];
      vnni_words(panel + j, words);
      const __m512i factors = _mm512_loadu_si512(panel[j].factors), none = _mm512_setzero_si512();
      const __m512i first = halves ? _mm512_srai_epi32(_mm512_slli_epi32(factors, 16), 16) : factors, second = _mm512_srai_epi32(factors, 16);
#pragma clang loop unroll(full)
      for (int r = 0; r < count; r++) {
        const struct row_block *row = rows + r * (long)blocks + b + j;
        wholes[r] = _mm512_add_epi32(wholes[r], _mm512_mullo_epi32(first, vnni_dot(none, words, row, 0, halves ? block_words / 2 : block_words)));
        if (halves) wholes[r] = _mm512_add_epi32(wholes[r], _mm512_mullo_epi32(second, vnni_dot(none, words, row, block_words / 2, block_words)));
      }
    }
    const __m512 scales = _mm512_loadu_ps(panel[0].scales), multiples = _mm512_loadu_ps(panel[1].scales);
#pragma clang loop unroll(full)
    for (int r = 0; r < count; r++) {
      const struct row_block *row = rows + r * (long)blocks + b;
      const __m512 scale = _mm512_set1_ps(row->scale);
      __m512i others = _mm512_setzero_si512();
#pragma clang loop unroll(full)
      for (int j = 0; j < (halves ? 8 : 4); j++)
        others = _mm512_dpwssd_epi32(
          others, _mm512_loadu_si512(halves ? panel[j].factors : panel[2 + j].minima), _mm512_set1_epi32(row[halves ? j : 2 * j].both));
      if (halves) wholes[r] = _mm512_sub_epi32(wholes[r], _mm512_slli_epi32(others, 5));
      sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(wholes[r]), _mm512_mul_ps(scales, scale), sums[r]);
      if (!halves) sums[r] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(others), _mm512_mul_ps(multiples, scale), sums[r]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) vnni_store(out + r * stride, sums[r], entries);
}

// Pairs of 16 bits multiplied and added.
INLINE __m256i vnni_add_pairs(__m256i sums, __m256i a, __m256i b) { return _mm256_dpwssd_epi32(sums, a, b); }

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
