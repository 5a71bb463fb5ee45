// Products of quantised weights with rows in 8 bits, by kernels of one width: `NAME` says which.
//
// A panel holds some weight rows, block by block of 32 numbers: each word has four neighbours of one row, in bytes, and behind a block's
// words are the rows' scales. Nothing is summed across a vector, and a block's sum is exact.
_Static_assert(MOST_QUANTISED / block_numbers * sizeof(struct NAME(panel)) <= PACKED_BYTES, "a panel of the widest rows fits");

// The scales of a panel whose rows lie here: those in F16 are copied first and widened together.
INLINE void NAME(scales)(const unsigned char *const *rows, int blocks, const enum ladder_quantisation type, struct NAME(panel) *panel) {
  if (has_blocks_of_32(type)) {
    const long bytes = quantised_bytes(1, type);
    for (int i = 0; i < NAME(lanes); i++)
      for (int b = 0; b < blocks; b++) ((unsigned short *)panel[b].seconds)[i] = *(const unsigned short *)(rows[i] + b * bytes);
    for (int b = 0; b < blocks; b++) NAME(widen_scales)(panel + b);
    return;
  }
  for (int i = 0; i < NAME(lanes); i++)
    for (int b = 0; b < blocks; b += 8) {
      const unsigned char *block = rows[i] + quantised_bytes(b, type);
      for (int j = 0; j < 8; j++) quantised_scales_of(block, j, type, &panel[b + j].scales[i], &panel[b + j].seconds[i]);
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

// Adds the products of a row's block `b` with those of 8 weight rows, whose scales these are, as `tile` adds them.
INLINE __m256 NAME(line_step)(__m256 sums, const unsigned char *const *weights, int b, const struct row_block *x, __m256 scales, __m256 seconds,
                              const enum ladder_quantisation type) {
  const int halves = type == ladder_q6_k, minima = type == ladder_q4_k || type == ladder_q5_k;
  const __m256 scale = _mm256_set1_ps(x->scale);
  const __m256i numbers = _mm256_loadu_si256((const void *)x->numbers);
  __m256i whole = NAME(line_sums)(weights, b, halves ? _mm256_zextsi128_si256(_mm256_castsi256_si128(numbers)) : numbers, type);
  if (!minima && NAME(has_starts)(type)) whole = _mm256_add_epi32(whole, _mm256_set1_epi32(x->starts[0]));
  sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), _mm256_mul_ps(scales, scale), sums);
  if (minima) sums = _mm256_fnmadd_ps(seconds, _mm256_set1_ps(x->sum), sums);
  if (halves) {
    const __m256i other = _mm256_inserti128_si256(_mm256_setzero_si256(), _mm256_extracti128_si256(numbers, 1), 1);
    const __m256i second = _mm256_add_epi32(NAME(line_sums)(weights, b, other, type), _mm256_set1_epi32(x->starts[1]));
    sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(second), _mm256_mul_ps(seconds, scale), sums);
  }
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
    __m256 sums = _mm256_setzero_ps(), scales[8], seconds[8];
    for (int b = 0; b < blocks; b += step) {
#pragma clang loop unroll(full)
      for (int i = 0; i < line_weights * quantised_bytes(step, type); i += 64)
        _mm_prefetch(next + line_weights * quantised_bytes(b, type) + i, _MM_HINT_T0);
      if (step == 1) scales[0] = quantised_line_scales(weights, b, type);
      else quantised_line_scales_of(weights, b, type, scales, seconds);
#pragma clang loop unroll(full)
      for (int j = 0; j < step; j++) sums = NAME(line_step)(sums, weights, b + j, x + b + j, scales[j], seconds[j], type);
    }
    float *out = p->out + row * p->out_stride + entry;
    if (last - entry >= line_weights) _mm256_storeu_ps(out, sums);
    else _mm256_maskstore_ps(out, _mm256_cmpgt_epi32(_mm256_set1_epi32(last - entry), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), sums);
  }
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
        if (tile == NAME(tile_rows)) NAME(tile)(panel, rows, blocks, out, p->out_stride, count, type, NAME(tile_rows));
        else if (tile == 4) NAME(tile)(panel, rows, blocks, out, p->out_stride, count, type, 4);
        else if (tile == 2) NAME(tile)(panel, rows, blocks, out, p->out_stride, count, type, 2);
        else NAME(tile)(panel, rows, blocks, out, p->out_stride, count, type, 1);
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
  const int offset = quantised_start(type);
  int sums[2];
#pragma clang loop unroll(full)
  for (int half = 0; half < 2; half++) sums[half] = NAME(round_half)(x + 16 * half, inverse, block->numbers + 16 * half);
  block->scale = scale;
  block->unused = 0;
  block->starts[1] = 0;
  if (offset == 0) block->sum = scale * (float)(sums[0] + sums[1]);
  else if (type == ladder_q6_k) {
    block->starts[0] = -offset * sums[0];
    block->starts[1] = -offset * sums[1];
  } else block->starts[0] = -offset * (sums[0] + sums[1]);
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
  }
}
