// Dense products and host loops over rows of numbers, for processors with AVX2 or AVX-512: what ggml has no operation for, or none that is
// fast there.
// Which variant runs is decided once, by the processor.
#pragma once

// Rows of one panel: 16 with AVX2, 32 with AVX-512; 0 on other processors, where the functions on panels must not be called.
int ladder_panel_rows(void);

// A panel of `count` rows, [count][width], channel by channel; rows that are missing are zero.
void ladder_panel_pack(const float *rows, int count, int width, float *panel);

// Products of `entries` weight rows with one panel of rows.
//   weights: [entries][width]; panel: [width][panel rows]; out: entries × panel rows, `stride` numbers between entries.
void ladder_panel_products(const float *weights, int entries, int width, const float *panel, float *out, long stride);

// Products of every row with every lane over `inner` channels: out[row·out_stride + lane] = Σ rows[row][channel]·lanes[lane][channel].
struct ladder_product {
  // F32, or BF16: matrices whose rows lie `…_stride` numbers apart. Lanes, and rows, are such a matrix's rows or its columns.
  const void *lanes, *rows;
  float *out;
  long lane_stride, row_stride, out_stride;
  int lane_count, row_count, inner;
  // So many such products, whose matrices lie this many numbers apart; neighbours share a matrix of lanes, or of rows.
  int count, lane_sharers, row_sharers;
  long next_lanes, next_rows, next_out;
  // Rows that are columns are F32.
  unsigned char lanes_are_bf16, lanes_are_columns, rows_are_bf16, rows_are_columns;
  // Whether numbers in F32 may be rounded to BF16, where that is faster. Where one matrix is in BF16 the other is rounded there too.
  unsigned char rounds;
};

// The part of it that one thread does; all of them call this, and it is done when all have returned.
//   scratch: `ladder_multiply_scratch` bytes that the threads share; the first 128 are zero before the first product.
void ladder_multiply(const struct ladder_product *product, int thread, int threads, void *scratch);
long ladder_multiply_scratch(int threads);

// Whether these products are faster than ggml's: with AVX2 or AVX-512, but for processors with AMX.
int ladder_multiplies_fast(void);

// Whether the processor has AVX-512's instructions for BF16, and they are used for matrices in BF16.
int ladder_multiplies_bf16(void);

// The types of quantised weights that `ladder_quantised_multiply` reads, by ggml's numbers.
enum ladder_quantisation { ladder_q4_0 = 2, ladder_q5_0 = 6, ladder_q8_0 = 8, ladder_q4_k = 12, ladder_q5_k = 13, ladder_q6_k = 14 };

// Whether the processor multiplies weights of this ggml type faster so than ggml does, with `inner` numbers a row.
int ladder_multiplies_quantised(int type, int inner);

// At most this width from now on: 2 is AVX-512's, 1 AVX2's, 0 none. For tests.
void ladder_limit_quantised(int width);

// Products of every weight row with every row: out[row·out_stride + entry] = Σ weights[entry][channel]·rows[row][channel].
struct ladder_quantised_product {
  // Quantised as ggml has them, rows `weight_stride` bytes apart.
  const void *weights;
  long weight_stride;
  // What `ladder_quantise_rows` wrote for this type, `ladder_quantised_bytes` a row.
  const void *rows;
  float *out;
  long out_stride;
  int entries, row_count, inner;
  enum ladder_quantisation type;
};

// The part of it that one thread does, as above and in the same scratch.
void ladder_quantised_multiply(const struct ladder_quantised_product *product, int thread, int threads, void *scratch);

// Rows in 8 bits, rounded as ggml rounds them for weights of this type; one thread's part.
//   rows: [row_count][inner], `stride` numbers apart.
void ladder_quantise_rows(const float *rows, long stride, int row_count, int inner, enum ladder_quantisation type, void *out, int thread, int threads);
long ladder_quantised_bytes(int inner);

// Both, one after the other, with the rows in 8 bits in `rows` in between.
//   numbers: [row_count][inner], `stride` apart.
void ladder_round_and_multiply(
  const struct ladder_quantised_product *product, const float *numbers, long stride, void *rows, int thread, int threads, void *scratch);

// Panels in BF16 for such processors: words of two neighbouring channels, [width / 2][panel rows]; weights [entries][width], width even.
void ladder_panel_pack_bf16(const float *rows, int count, int width, unsigned *panel);
void ladder_panel_products_bf16(const unsigned short *weights, int entries, int width, const unsigned *panel, float *out, long stride);

// outer·tanh(inner·z) of each number, where `inner` is not 0, else outer·z.
//   z: entries × panel rows, `stride` numbers between entries.
void ladder_panel_curve(float *z, int entries, long stride, float inner, float outer);

// The largest number of each of the panel's rows.
//   logits: entries × panel rows, `stride` numbers between entries; maxima: [panel rows].
void ladder_panel_maxima(const float *logits, int entries, long stride, float *maxima);

// Σ exp(logit − maximum) over each 16 entries of each of the panel's rows; the last group may have fewer.
//   sums: [groups][panel rows]; totals: of each row over all groups.
void ladder_panel_sums(const float *logits, int entries, long stride, const float *maxima, float *sums, float *totals);

// Of one row, on any processor: its largest number, Σ exp(logit − maximum), and f in place as above.
float ladder_row_maximum(const float *logits, int count);
float ladder_row_sum(const float *logits, int count, float maximum);
// The second for each 16 numbers, the last group of which may be smaller, and for all.
float ladder_row_sums(const float *logits, int count, float maximum, float *sums);
void ladder_row_curve(float *z, int count, float inner, float outer);

// Σ a·b, and target += factor·x. On any processor.
float ladder_dot(const float *a, const float *b, int count);
void ladder_add_scaled(float factor, const float *x, float *target, int count);

// F32 to BF16, to the nearest (to even in the middle), and back. On any processor.
void ladder_to_bf16(const float *source, unsigned short *target, long count);
void ladder_from_bf16(const unsigned short *source, float *target, long count);

// The numbers of a row in ggml's Q8_0: blocks of 32 bytes behind an F16 scale. `count` is a multiple of 32.
void ladder_dequantise_q8_0(const void *row, float *target, int count);

// The same in Q4_0: behind each scale 16 bytes, whose lower halves are the first 16 numbers plus 8, the upper halves the others.
void ladder_dequantise_q4_0(const void *row, float *target, int count);
