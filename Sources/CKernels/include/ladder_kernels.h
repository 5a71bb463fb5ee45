// Host loops over rows of numbers, for processors with AVX2 or AVX-512: what ggml has no operation for, or none that is fast there.
// Which variant runs is decided once, by the processor.
#pragma once

// Rows of one panel: 16 with AVX2, 32 with AVX-512; 0 on other processors, where the functions on panels must not be called.
int ladder_panel_rows(void);

// Products of `entries` weight rows with one panel of rows.
//   weights: [entries][width]; panel: [width][panel rows]; out: entries × panel rows, `stride` numbers between entries.
void ladder_panel_products(const float *weights, int entries, int width, const float *panel, float *out, long stride);

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
