// Products of quantised weights with rows in 8 bits, by kernels of one width: `NAME` says which.
//
// A panel holds some weight rows, block by block of 32 numbers: each word has four neighbours of one row, in bytes, and behind a block's
// words are the rows' scales. Nothing is summed across a vector. The sum of a block is exact; where 256 numbers have one scale, theirs is,
// with each block's times its whole factor.
_Static_assert(MOST_QUANTISED / block_numbers * sizeof(struct NAME(panel)) <= PACKED_BYTES, "a panel of the widest rows fits");

// 8 signed bytes from `i` on, which is 0 or 8, as words.
INLINE __m256i NAME(widened)(__m128i bytes, const int i) { return _mm256_cvtepi8_epi32(i ? _mm_srli_si128(bytes, 8) : bytes); }

// The same of two, each pair in a word.
INLINE __m256i NAME(pair)(__m128i a, __m128i b, const int i) { return _mm256_blend_epi16(NAME(widened)(a, i), _mm256_slli_epi32(NAME(widened)(b, i), 16), 0xaa); }

// The scales of a panel whose rows lie here: those in F16 are copied first and widened together.
INLINE void NAME(scales)(const unsigned char *const *rows, int blocks, const enum ladder_quantisation type, struct NAME(panel) *panel) {
  if (has_blocks_of_32(type)) {
    const long bytes = quantised_bytes(1, type);
    for (int i = 0; i < NAME(lanes); i++)
      for (int b = 0; b < blocks; b++) ((unsigned short *)panel[b].factors)[i] = *(const unsigned short *)(rows[i] + b * bytes);
    for (int b = 0; b < blocks; b++) NAME(widen_scales)(panel + b);
    return;
  }
  for (int b = 0; b < blocks; b += 8) {
    unsigned long long first[16] = {0}, second[16] = {0};
    __m128i columns[16];
#pragma clang loop unroll(full)
    for (int i = 0; i < NAME(lanes); i++) quantised_factors(rows[i] + quantised_bytes(b, type), type, first + i, second + i);
    quantised_turn_bytes(first, columns);
    quantised_turn_bytes(second, columns + 8);
#pragma clang loop unroll(full)
    for (int i = 0; i < NAME(lanes); i += 8) {
      const long at = quantised_bytes(b, type) + quantised_scale_at(type);
      _mm256_storeu_ps(panel[b].scales + i, quantised_line_halves(rows + i, at));
      if (!has_halves(type)) _mm256_storeu_ps(panel[b + 1].scales + i, quantised_line_halves(rows + i, at + 2));
#pragma clang loop unroll(full)
      for (int j = 0; j < 8; j++) {
        if (has_halves(type)) {
          _mm256_storeu_si256((void *)(panel[b + j].factors + i), NAME(pair)(columns[2 * j], columns[2 * j + 1], i));
          continue;
        }
        _mm256_storeu_si256((void *)(panel[b + j].factors + i), NAME(factors)(NAME(widened)(columns[j], i)));
        if (j < 4) _mm256_storeu_si256((void *)(panel[b + 2 + j].minima + i), NAME(pair)(columns[8 + 2 * j], columns[9 + 2 * j], i));
      }
    }
  }
}

// A panel's rows, the last of `count` standing for those that are missing. What lies two panels on is asked for meanwhile.
INLINE void NAME(pack)(const unsigned char *weights, long stride, int count, int blocks, const enum ladder_quantisation type, struct NAME(panel) *panel) {
  const unsigned char *rows[NAME(lanes)];
  for (int i = 0; i < NAME(lanes); i++) rows[i] = weights + (i < count ? i : count - 1) * stride;
  NAME(scales)(rows, blocks, type, panel);
  const long ahead = quantised_bytes(8, type) * NAME(lanes) / 8;
  for (int b = 0; b < blocks; b++) {
    const unsigned char *next = weights + 2 * NAME(lanes) * stride + b * ahead;
    for (int i = 0; i < ahead; i += 64) _mm_prefetch((const char *)next + i, _MM_HINT_T1);
    NAME(pack_words)(rows, b, type, panel + b);
  }
}

// Adds the products of a row's block `b` with those of 8 weight rows, as `tile` adds them.
INLINE __m256 NAME(line_step)(__m256 sums, const unsigned char *const *weights, int b, const struct row_block *x, const char *ahead,
                              const enum ladder_quantisation type) {
  quantised_ask(ahead, 0, line_weights * quantised_bytes(1, type), type);
  __m256i whole = NAME(line_sums)(weights, b, _mm256_loadu_si256((const void *)x->numbers), type);
  if (NAME(has_starts)(type)) whole = _mm256_add_epi32(whole, _mm256_set1_epi32(x->start));
  const __m256 scales = quantised_line_halves(weights, quantised_bytes(b, type));
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), _mm256_mul_ps(scales, _mm256_set1_ps(x->scale)), sums);
}

// The same for the 8 blocks from `b` on that have one scale, as `tile_of_256` adds them.
INLINE __m256 NAME(line_step_of_256)(__m256 sums, const unsigned char *const *weights, int b, const struct row_block *x, const char *ahead,
                                     const enum ladder_quantisation type) {
  const int halves = has_halves(type);
  const long at = quantised_bytes(b, type) + quantised_scale_at(type);
  __m256i z[line_weights], y[line_weights];
  // The row's sums in the order of the factors, or of the minima.
  int words[8];
#pragma clang loop unroll(full)
  for (int j = 0; j < 8; j++) words[j] = halves ? x[j].both : j < 4 ? x[2 * j].both : 0;
  const __m256i others = _mm256_loadu_si256((const void *)words);
#pragma clang loop unroll(full)
  for (int i = 0; i < line_weights; i++) {
    quantised_ask(ahead, i * quantised_bytes(8, type), (i + 1) * quantised_bytes(8, type), type);
    unsigned long long first, second;
    quantised_factors(weights[i] + quantised_bytes(b, type), type, &first, &second);
    const __m256i factors = _mm256_cvtepi8_epi16(_mm_set_epi64x((long long)second, (long long)first));
    const __m256i early = _mm256_permute4x64_epi64(factors, 0x44), late = _mm256_permute4x64_epi64(factors, 0xee);
    z[i] = _mm256_setzero_si256();
#pragma clang loop unroll(full)
    for (int j = 0; j < 8; j++) {
      // Where the factors of the block's halves, or that of both, stand among 8 of 16 bits.
      const int one = halves ? 2 * (j % 4) : j, other = halves ? one + 1 : one;
      const __m256i spread = _mm256_set_m128i(_mm_set1_epi16((short)(0x202 * other + 0x100)), _mm_set1_epi16((short)(0x202 * one + 0x100)));
      const __m256i products = _mm256_maddubs_epi16(NAME(block)(weights[i], b + j, type), _mm256_loadu_si256((const void *)x[j].numbers));
      z[i] = NAME(add_pairs)(z[i], products, _mm256_shuffle_epi8(halves && j > 3 ? late : early, spread));
    }
    y[i] = _mm256_madd_epi16(halves ? factors : late, others);
  }
  const __m256i second = quantised_totals(y);
  __m256i whole = quantised_totals(z);
  if (halves) whole = _mm256_sub_epi32(whole, _mm256_slli_epi32(second, 5));
  const __m256 scale = _mm256_set1_ps(x->scale);
  sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), _mm256_mul_ps(quantised_line_halves(weights, at), scale), sums);
  if (!halves) sums = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(second), _mm256_mul_ps(quantised_line_halves(weights, at + 2), scale), sums);
  return sums;
}

// Entries from `first` on before `last` of one row: nothing is packed, as each weight is used once. The sums are those of a row among
// others, in the same order.
INLINE void NAME(lines)(const struct ladder_quantised_product *p, int first, int last, int row, const enum ladder_quantisation type) {
  const int blocks = p->inner / block_numbers, step = has_blocks_of_32(type) ? 1 : 8;
  const struct row_block *x = (const struct row_block *)p->rows + row * (long)blocks;
  for (int entry = first; entry < last; entry += line_weights) {
    const unsigned char *weights[line_weights];
#pragma clang loop unroll(full)
    for (int i = 0; i < line_weights; i++) weights[i] = (const unsigned char *)p->weights + (entry + i < last ? entry + i : last - 1) * p->weight_stride;
    const char *next = (const char *)weights[0] + line_weights * p->weight_stride;
    __m256 sums = _mm256_setzero_ps();
    for (int b = 0; b < blocks; b += step) {
      const char *ahead = next + line_weights * quantised_bytes(b, type);
      sums = step == 1 ? NAME(line_step)(sums, weights, b, x + b, ahead, type) : NAME(line_step_of_256)(sums, weights, b, x + b, ahead, type);
    }
    float *out = p->out + row * p->out_stride + entry;
    if (last - entry >= line_weights) _mm256_storeu_ps(out, sums);
    else _mm256_maskstore_ps(out, _mm256_cmpgt_epi32(_mm256_set1_epi32(last - entry), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), sums);
  }
}

INLINE void NAME(any_tile)(const struct NAME(panel) *panel, const struct row_block *rows, int blocks, float *out, long stride, int entries,
                           const enum ladder_quantisation type, const int count) {
  if (has_blocks_of_32(type)) NAME(tile)(panel, rows, blocks, out, stride, entries, type, count);
  else NAME(tile_of_256)(panel, rows, blocks, out, stride, entries, type, count);
}

// Entries from `first` on before `last`, of the rows from `row` on before `end`; `at_once` of them, whole panels, are packed before any is
// multiplied.
INLINE void NAME(part)(const struct ladder_quantised_product *p, int first, int last, int row, int end, int at_once, struct NAME(panel) *panels,
                       const enum ladder_quantisation type) {
  const int blocks = p->inner / block_numbers;
  if (end - row == 1) {
    NAME(lines)(p, first, last, row, type);
    return;
  }
  for (; first < last; first += at_once) {
    const int stop = first + at_once < last ? first + at_once : last;
    for (int entry = first; entry < stop; entry += NAME(lanes)) {
      const unsigned char *weights = (const unsigned char *)p->weights + entry * p->weight_stride;
      const int count = stop - entry < NAME(lanes) ? stop - entry : NAME(lanes);
      NAME(pack)(weights, p->weight_stride, count, blocks, type, panels + (entry - first) / NAME(lanes) * (long)blocks);
    }
    for (int at = row; at < end;) {
      const int left = end - at, tile = left >= NAME(tile_rows) ? NAME(tile_rows) : left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const struct row_block *rows = (const struct row_block *)p->rows + at * (long)blocks;
      for (int entry = first; entry < stop; entry += NAME(lanes)) {
        const struct NAME(panel) *panel = panels + (entry - first) / NAME(lanes) * (long)blocks;
        const int count = stop - entry < NAME(lanes) ? stop - entry : NAME(lanes);
        float *out = p->out + at * p->out_stride + entry;
        if (tile == NAME(tile_rows)) NAME(any_tile)(panel, rows, blocks, out, p->out_stride, count, type, NAME(tile_rows));
        else if (tile == 4) NAME(any_tile)(panel, rows, blocks, out, p->out_stride, count, type, 4);
        else if (tile == 2) NAME(any_tile)(panel, rows, blocks, out, p->out_stride, count, type, 2);
        else NAME(any_tile)(panel, rows, blocks, out, p->out_stride, count, type, 1);
      }
      at += tile;
    }
  }
}

TARGET static void NAME(multiply)(const struct ladder_quantised_product *p, int first, int last, int row, int end, int at_once, void *panels) {
  switch (p->type) {
#define CASE(t) case t: NAME(part)(p, first, last, row, end, at_once, panels, t); break;
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
INLINE void NAME(numbers)(const float *x, float scale, float inverse, const enum ladder_quantisation type, struct row_block *block) {
  int sums[2];
#pragma clang loop unroll(full)
  for (int half = 0; half < 2; half++) sums[half] = NAME(round_half)(x + 16 * half, inverse, block->numbers + 16 * half);
  block->scale = scale;
  block->start = -quantised_start(type) * (sums[0] + sums[1]);
  block->sums[0] = (short)(has_halves(type) ? sums[0] : sums[0] + sums[1]);
  block->sums[1] = (short)(has_halves(type) ? sums[1] : 0);
  block->unused = 0;
}

// As ggml rounds them for these weights: blocks of 32 with a scale in F16, or of 256 with one in F32.
TARGET static void NAME(row)(const float *x, int count, enum ladder_quantisation type, struct row_block *blocks) {
  if (has_blocks_of_32(type)) {
    for (int i = 0; i < count; i += block_numbers, blocks++) {
      const float most = NAME(most)(x + i, block_numbers);
      const float scale = _cvtsh_ss(_cvtss_sh(most / 127, _MM_FROUND_TO_NEAREST_INT));
      NAME(numbers)(x + i, scale, most != 0 ? 127 / most : 0, type, blocks);
    }
    return;
  }
  for (int i = 0; i < count; i += 256, blocks += 8) {
    const float most = NAME(most)(x + i, 256);
    // The first of that magnitude becomes −127.
    float peak = most;
    for (int j = 0; j < 256; j++)
      if (x[i + j] == most || x[i + j] == -most) {
        peak = x[i + j];
        break;
      }
    const float inverse = most != 0 ? -127 / peak : 0, scale = most != 0 ? 1 / inverse : 0;
    for (int j = 0; j < 8; j++) NAME(numbers)(x + i + 32 * j, scale, inverse, type, blocks + j);
    if (!has_halves(type))
      for (int j = 0; j < 8; j += 2) blocks[j].sums[1] = blocks[j + 1].sums[0];
  }
}
