// What `quantised.h` is made of, for AVX2: products of unsigned and signed bytes are summed in pairs to 16 bits, as many of them as these
// hold whatever the numbers are, before they are widened. Q8_0's weights give their sign to the row's numbers.
enum { pairs_lanes = 8, pairs_tile_rows = 4 };

// 8 rows' block, as that of 16 with AVX-512, but that one factor for 32 numbers stands there twice.
struct pairs_panel {
  unsigned words[block_words][pairs_lanes];
  int factors[pairs_lanes];
  union {
    float scales[pairs_lanes];
    int minima[pairs_lanes];
  };
};

// What stands in a panel for a factor.
INLINE __m256i pairs_factors(__m256i factors) { return _mm256_or_si256(factors, _mm256_slli_epi32(factors, 16)); }

// Block `b` of a row in bytes, all of which but Q8_0's are unsigned.
INLINE __m256i pairs_block(const unsigned char *row, int b, const enum ladder_quantisation type) {
  const __m256i low = quantised_low_bits(row, b, type), sixteen = _mm256_set1_epi8(16);
  if (type == ladder_q5_0) {
    const __m256i bytes = _mm256_shuffle_epi8(
      _mm256_set1_epi32(*(const unaligned_int *)(row + 22 * (long)b + 2)), _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0));
    const __m256i bits = _mm256_set1_epi64x((long long)0x8040201008040201);
    return _mm256_or_si256(low, _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits), sixteen));
  }
  if (type == ladder_q5_k) {
    const __m256i bit = _mm256_set1_epi8((char)(1 << b % 8)), fifth = _mm256_loadu_si256((const void *)(row + 176 * (long)(b / 8) + 16));
    return _mm256_or_si256(low, _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(fifth, bit), bit), sixteen));
  }
  return low;
}

INLINE void pairs_widen_scales(struct pairs_panel *panel) { _mm256_storeu_ps(panel->scales, _mm256_cvtph_ps(_mm_loadu_si128((const void *)panel->factors))); }

INLINE void pairs_pack_words(const unsigned char *const *rows, int b, const enum ladder_quantisation type, struct pairs_panel *panel) {
  __m256 blocks[8], words[8];
#pragma clang loop unroll(full)
  for (int i = 0; i < pairs_lanes; i++) blocks[i] = _mm256_castsi256_ps(pairs_block(rows[i], b, type));
  quantised_turn(blocks, words);
#pragma clang loop unroll(full)
  for (int j = 0; j < block_words; j++) _mm256_storeu_si256((void *)panel->words[j], _mm256_castps_si256(words[j]));
}

// Of unsigned bytes of at most 15, 31 or 63 and signed ones that many neighbouring pairs' sums are less than 2^15.
INLINE int pairs_words_at_once(const enum ladder_quantisation type) {
  return type == ladder_q8_0 ? 1 : type == ladder_q6_k ? 2 : type == ladder_q5_0 || type == ladder_q5_k ? 4 : 8;
}

INLINE void pairs_store(float *out, __m256 sums, int entries) {
  if (entries == pairs_lanes) _mm256_storeu_ps(out, sums);
  else _mm256_maskstore_ps(out, _mm256_cmpgt_epi32(_mm256_set1_epi32(entries), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), sums);
}

// The products of a block's words from `from` on before `end` with the numbers of `count` rows, each pair times its factors, added to `whole`.
INLINE void pairs_dot(__m256i *whole, const struct pairs_panel *panel, const struct row_block *rows, int blocks, __m256i factors,
                      const enum ladder_quantisation type, const int count, const int from, const int end) {
  const int is_signed = type == ladder_q8_0, at_once = pairs_words_at_once(type);
  __m256i pairs[pairs_tile_rows];
#pragma clang loop unroll(full)
  for (int j = from; j < end; j++) {
    const __m256i words = _mm256_loadu_si256((const void *)panel->words[j]), sizes = is_signed ? _mm256_abs_epi8(words) : words;
#pragma clang loop unroll(full)
    for (int r = 0; r < count; r++) {
      __m256i numbers = _mm256_set1_epi32(((const int *)rows[r * (long)blocks].numbers)[j]);
      if (is_signed) numbers = _mm256_sign_epi8(numbers, words);
      const __m256i products = _mm256_maddubs_epi16(sizes, numbers);
      pairs[r] = j % at_once == 0 ? products : _mm256_add_epi16(pairs[r], products);
      if (j % at_once == at_once - 1) whole[r] = _mm256_add_epi32(whole[r], _mm256_madd_epi16(pairs[r], factors));
    }
  }
}

// `count` rows, known when compiled, with a panel of so many entries.
INLINE void pairs_tile(const struct pairs_panel *panel, const struct row_block *rows, int blocks, float *out, long stride, int entries,
                       const enum ladder_quantisation type, const int count) {
  __m256 sums[pairs_tile_rows];
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) sums[r] = _mm256_setzero_ps();
  for (int b = 0; b < blocks; b++, panel++) {
    __m256i whole[pairs_tile_rows];
    const __m256 scales = _mm256_loadu_ps(panel->scales);
#pragma clang loop unroll(full)
    for (int r = 0; r < count; r++) whole[r] = _mm256_set1_epi32(type == ladder_q8_0 ? 0 : rows[r * (long)blocks + b].start);
    pairs_dot(whole, panel, rows + b, blocks, _mm256_set1_epi16(1), type, count, 0, block_words);
#pragma clang loop unroll(full)
    for (int r = 0; r < count; r++)
      sums[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[r]), _mm256_mul_ps(scales, _mm256_set1_ps(rows[r * (long)blocks + b].scale)), sums[r]);
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) pairs_store(out + r * stride, sums[r], entries);
}

// The same for weights in blocks of 256.
INLINE void pairs_tile_of_256(const struct pairs_panel *panel, const struct row_block *rows, int blocks, float *out, long stride, int entries,
                              const enum ladder_quantisation type, const int count) {
  const int halves = has_halves(type);
  __m256 sums[pairs_tile_rows];
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) sums[r] = _mm256_setzero_ps();
  for (int b = 0; b < blocks; b += 8, panel += 8) {
    __m256i wholes[pairs_tile_rows];
#pragma clang loop unroll(full)
    for (int r = 0; r < count; r++) wholes[r] = _mm256_setzero_si256();
    for (int j = 0; j < 8; j++) {
      const __m256i factors = _mm256_loadu_si256((const void *)panel[j].factors);
      if (!halves) {
        pairs_dot(wholes, panel + j, rows + b + j, blocks, factors, type, count, 0, block_words);
        continue;
      }
      const __m256i above = _mm256_slli_epi32(factors, 16), below = _mm256_srli_epi32(factors, 16);
      pairs_dot(wholes, panel + j, rows + b + j, blocks, _mm256_blend_epi16(factors, above, 0xaa), type, count, 0, block_words / 2);
      pairs_dot(wholes, panel + j, rows + b + j, blocks, _mm256_blend_epi16(below, factors, 0xaa), type, count, block_words / 2, block_words);
    }
    const __m256 scales = _mm256_loadu_ps(panel[0].scales), multiples = _mm256_loadu_ps(panel[1].scales);
#pragma clang loop unroll(full)
    for (int r = 0; r < count; r++) {
      const struct row_block *row = rows + r * (long)blocks + b;
      const __m256 scale = _mm256_set1_ps(row->scale);
      __m256i others = _mm256_setzero_si256();
#pragma clang loop unroll(full)
      for (int j = 0; j < (halves ? 8 : 4); j++) {
        const __m256i pairs = _mm256_loadu_si256((const void *)(halves ? panel[j].factors : panel[2 + j].minima));
        others = _mm256_add_epi32(others, _mm256_madd_epi16(pairs, _mm256_set1_epi32(row[halves ? j : 2 * j].both)));
      }
      if (halves) wholes[r] = _mm256_sub_epi32(wholes[r], _mm256_slli_epi32(others, 5));
      sums[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(wholes[r]), _mm256_mul_ps(scales, scale), sums[r]);
      if (!halves) sums[r] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(others), _mm256_mul_ps(multiples, scale), sums[r]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < count; r++) pairs_store(out + r * stride, sums[r], entries);
}

// Pairs of 16 bits multiplied and added.
INLINE __m256i pairs_add_pairs(__m256i sums, __m256i a, __m256i b) { return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)); }

// Numbers of a row with block `b` of 8 weight rows: their sums, in the rows' order.
INLINE __m256i pairs_line_sums(const unsigned char *const *weights, int b, __m256i numbers, const enum ladder_quantisation type) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i z[8];
#pragma clang loop unroll(full)
  for (int a = 0; a < 8; a++) {
    const __m256i words = pairs_block(weights[a], b, type);
    const __m256i products =
      type == ladder_q8_0 ? _mm256_maddubs_epi16(_mm256_abs_epi8(words), _mm256_sign_epi8(numbers, words)) : _mm256_maddubs_epi16(words, numbers);
    z[a] = _mm256_madd_epi16(products, ones);
  }
  return quantised_totals(z);
}

// Whether a block's sum is without what its weights' offset takes away: Q8_0's have none here.
INLINE int pairs_has_starts(const enum ladder_quantisation type) { return type != ladder_q8_0; }

// 16 numbers, times this, as bytes; and their sum.
INLINE int pairs_round_half(const float *x, float inverse, signed char *out) {
  const __m256 factor = _mm256_set1_ps(inverse);
  const __m256i first = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor)), second = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), factor));
  const __m256i narrow = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(narrow), _mm256_extracti128_si256(narrow, 1));
  _mm_storeu_si128((void *)out, bytes);
  const __m256i wide = _mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), _mm256_set1_epi16(1));
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

// The largest magnitude; NaN where there is one.
INLINE float pairs_most(const float *x, int count) {
  __m256 most = _mm256_setzero_ps(), unordered = most;
  for (int i = 0; i < count; i += 8) {
    const __m256 numbers = _mm256_loadu_ps(x + i);
    most = _mm256_max_ps(most, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), numbers));
    unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(numbers, numbers, _CMP_UNORD_Q));
  }
  if (_mm256_movemask_ps(unordered)) return __builtin_nanf("");
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1)), two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
