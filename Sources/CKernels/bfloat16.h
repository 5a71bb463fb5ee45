// The kernels for processors with AVX-512's instructions for BF16: products of pairs of numbers in BF16, sums in F32.
// A word holds two neighbours along the channels; channels past the last are zero.
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) TARGET

// Channels at a time, of which a panel of 32 lanes has as many words as one of F32 has numbers.
#define PAIRS CHANNELS
enum { bf16_lanes = 32, bf16_entries = 12 };

INLINE __m512i bf16_widened(__m512 x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)); }

// `count` rows, known when compiled, with the 32 lanes of a panel; added to `out` where `adds`. Word k of row e lies at e·row + k·pair.
INLINE void bf16_block(const unsigned *rows, long row, long pair, int pairs, const unsigned *panel, float *out, long stride, int adds, const int count) {
  __m512 low[bf16_entries], high[bf16_entries];
#pragma clang loop unroll(full)
  for (int e = 0; e < count; e++) {
    low[e] = adds ? _mm512_loadu_ps(out + e * stride) : _mm512_setzero_ps();
    high[e] = adds ? _mm512_loadu_ps(out + e * stride + 16) : _mm512_setzero_ps();
  }
  for (int k = 0; k < pairs; k++) {
    const __m512bh a = (__m512bh)_mm512_loadu_si512(panel + bf16_lanes * (long)k), b = (__m512bh)_mm512_loadu_si512(panel + bf16_lanes * (long)k + 16);
#pragma clang loop unroll(full)
    for (int e = 0; e < count; e++) {
      const __m512bh w = (__m512bh)_mm512_set1_epi32((int)rows[e * row + k * pair]);
      low[e] = _mm512_dpbf16_ps(low[e], w, a);
      high[e] = _mm512_dpbf16_ps(high[e], w, b);
    }
  }
#pragma clang loop unroll(full)
  for (int e = 0; e < count; e++) {
    _mm512_storeu_ps(out + e * stride, low[e]);
    _mm512_storeu_ps(out + e * stride + 16, high[e]);
  }
}

INLINE void bf16_blocks(const unsigned *rows, int count, long row, long pair, int pairs, const unsigned *panel, float *out, long stride, int adds) {
  int e = 0;
  for (; e + bf16_entries <= count; e += bf16_entries) bf16_block(rows + e * row, row, pair, pairs, panel, out + e * stride, stride, adds, bf16_entries);
  for (; e + 2 <= count; e += 2) bf16_block(rows + e * row, row, pair, pairs, panel, out + e * stride, stride, adds, 2);
  if (e < count) bf16_block(rows + e * row, row, pair, pairs, panel, out + e * stride, stride, adds, 1);
}

// `count` neighbours, at most 16, each in the lower half of a word, and zeros behind them.
INLINE __m512i bf16_numbers(const void *numbers, long place, int count, const int is_bf16) {
  const __mmask16 mask = count >= 16 ? 0xffff : (1u << count) - 1;
  if (is_bf16) return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, (const unsigned short *)numbers + place));
  return bf16_widened(_mm512_maskz_loadu_ps(mask, (const float *)numbers + place));
}

// 16 words of channels that are neighbours: those from `place` on, of which `count` are there.
INLINE __m512i bf16_words(const void *numbers, long place, int count, const int is_bf16) {
  const __mmask32 mask = count >= 32 ? ~0u : (1u << count) - 1;
  if (is_bf16) return _mm512_maskz_loadu_epi16(mask, (const unsigned short *)numbers + place);
  const __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, (const float *)numbers + place);
  const __m512 high = mask >> 16 ? _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), (const float *)numbers + place + 16) : _mm512_setzero_ps();
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// The lanes from `lane` on over the channels from `first` on, a word of each channel pair after another.
INLINE void bf16_pack_lanes(const struct ladder_product *p, int lane, int first, int channels, const int is_bf16, unsigned *panel) {
  const int count = p->lane_count - lane < bf16_lanes ? p->lane_count - lane : bf16_lanes, pairs = (channels + 1) / 2;
  if (p->lanes_are_columns) {
    for (int k = 0; k < pairs; k++)
      for (int i = 0; i < bf16_lanes; i += 16) {
        const int there = count - i < 0 ? 0 : count - i;
        const long place = (first + 2 * k) * p->lane_stride + lane + i;
        const __m512i low = bf16_numbers(p->lanes, place, there, is_bf16);
        const __m512i high = 2 * k + 1 < channels ? bf16_numbers(p->lanes, place + p->lane_stride, there, is_bf16) : _mm512_setzero_si512();
        _mm512_storeu_si512(panel + bf16_lanes * (long)k + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
    return;
  }
  if (count < bf16_lanes) __builtin_memset(panel, 0, sizeof(unsigned) * bf16_lanes * pairs);
  for (int k = 0; k < pairs; k += 16)
    for (int i = 0; i < count; i++) {
      unsigned words[16];
      _mm512_storeu_si512(words, bf16_words(p->lanes, (lane + i) * p->lane_stride + first + 2 * k, channels - 2 * k, is_bf16));
      const int there = pairs - k < 16 ? pairs - k : 16;
      for (int j = 0; j < there; j++) panel[bf16_lanes * (long)(k + j) + i] = words[j];
    }
}

// Rows as words: of each row its pairs, PAIRS apart; where rows are columns, of each pair its rows, ROW_GROUP apart.
INLINE void bf16_pack_rows(const struct ladder_product *p, int row, int rows, int first, int channels, const int is_bf16, unsigned *words) {
  const int pairs = (channels + 1) / 2;
  if (p->rows_are_columns) {
    for (int k = 0; k < pairs; k++)
      for (int i = 0; i < rows; i += 16) {
        const long place = (first + 2 * k) * p->row_stride + row + i;
        const __m512i low = bf16_numbers(p->rows, place, rows - i, 0);
        const __m512i high = 2 * k + 1 < channels ? bf16_numbers(p->rows, place + p->row_stride, rows - i, 0) : _mm512_setzero_si512();
        _mm512_storeu_si512(words + ROW_GROUP * (long)k + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
    return;
  }
  for (int i = 0; i < rows; i++)
    for (int k = 0; k < pairs; k += 16)
      _mm512_storeu_si512(words + PAIRS * (long)i + k, bf16_words(p->rows, (row + i) * p->row_stride + first + 2 * k, channels - 2 * k, is_bf16));
}

TARGET static void bf16_multiply(const struct ladder_product *p, int first_lane, int last_lane, int first_row, int last_row, float *scratch) {
  enum { group = PANEL_NUMBERS / PAIRS / bf16_lanes };
  unsigned *panels = (unsigned *)scratch, *words = panels + PANEL_NUMBERS;
  float *edge = (float *)(words + ROW_GROUP * PAIRS);
  const long row_words = p->rows_are_columns ? 1 : PAIRS, pair_words = p->rows_are_columns ? ROW_GROUP : 1;
  for (int start = first_lane; start < last_lane; start += group * bf16_lanes) {
    const int end = start + group * bf16_lanes < last_lane ? start + group * bf16_lanes : last_lane;
    for (int k = 0; k < p->inner; k += 2 * PAIRS) {
      const int channels = k + 2 * PAIRS < p->inner ? 2 * PAIRS : p->inner - k, pairs = (channels + 1) / 2, adds = k > 0;
      for (int lane = start; lane < end; lane += bf16_lanes) {
        unsigned *panel = panels + (lane - start) * PAIRS;
        if (p->lanes_are_bf16) bf16_pack_lanes(p, lane, k, channels, 1, panel);
        else bf16_pack_lanes(p, lane, k, channels, 0, panel);
      }
      for (int row = first_row; row < last_row; row += ROW_GROUP) {
        const int rows = row + ROW_GROUP < last_row ? ROW_GROUP : last_row - row;
        if (p->rows_are_bf16) bf16_pack_rows(p, row, rows, k, channels, 1, words);
        else bf16_pack_rows(p, row, rows, k, channels, 0, words);
        for (int lane = start; lane < end; lane += bf16_lanes) {
          const unsigned *panel = panels + (lane - start) * PAIRS;
          const int whole = p->lane_count - lane >= bf16_lanes, width = whole ? 0 : p->lane_count - lane;
          float *out = p->out + row * p->out_stride + lane, *target = whole ? out : edge;
          const long out_stride = whole ? p->out_stride : bf16_lanes;
          for (int i = 0; adds && i < rows && !whole; i++) __builtin_memcpy(edge + i * bf16_lanes, out + i * p->out_stride, sizeof(float) * width);
          bf16_blocks(words, rows, row_words, pair_words, pairs, panel, target, out_stride, adds);
          for (int i = 0; i < rows && !whole; i++) __builtin_memcpy(out + i * p->out_stride, edge + i * bf16_lanes, sizeof(float) * width);
        }
      }
    }
  }
}

// A panel of up to 32 rows of an even width.
TARGET static void bf16_panel(const float *rows, int count, int width, unsigned *panel) {
  const struct ladder_product p = {.lanes = rows, .lane_stride = width, .lane_count = count};
  bf16_pack_lanes(&p, 0, 0, width, 0, panel);
}

TARGET static void bf16_products(const unsigned short *weights, int entries, int width, const unsigned *panel, float *out, long stride) {
  for (int k = 0; k < width / 2; k += PAIRS) {
    const int pairs = k + PAIRS < width / 2 ? PAIRS : width / 2 - k;
    bf16_blocks((const unsigned *)weights + k, entries, width / 2, 1, pairs, panel + bf16_lanes * (long)k, out, stride, k > 0);
  }
}

#undef TARGET
#undef INLINE
