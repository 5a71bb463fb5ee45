#include "ladder_kernels.h"

#include <stdatomic.h>

#include "processor.h"

// Of what `ladder_multiply` packs at a time: numbers of all panels, and rows.
#define PANEL_NUMBERS (64 << 10)
#define ROW_GROUP 96
// Channels at a time: that part of a panel stays in the first-level cache while all weight rows go by.
#define CHANNELS 256
#define PACKED_NUMBERS (PANEL_NUMBERS + ROW_GROUP * (CHANNELS + 2 * 16))
// Of 32 numbers of a row in 8 bits.
#define BLOCK_BYTES 48
// A thread's scratch, in bytes: those numbers, or a panel of quantised weights of up to MOST_QUANTISED channels; and a row in 8 bits.
#define MOST_QUANTISED (32 << 10)
#define PACKED_BYTES (MOST_QUANTISED * 20L)
#define SCRATCH (PACKED_BYTES + MOST_QUANTISED / 32 * BLOCK_BYTES)

_Static_assert(sizeof(float) * PACKED_NUMBERS <= PACKED_BYTES, "what is packed of dense matrices fits");

// Whether a quantisation has a scale for each 32 numbers; the others have theirs in blocks of 256.
static inline int has_blocks_of_32(int type) { return type == ladder_q8_0 || type == ladder_q5_0 || type == ladder_q4_0; }

static int parts(int count, int size) { return (count + size - 1) / size; }

typedef _Float16 half_number __attribute__((aligned(1)));

#define NAME(f) plain_##f
#define TARGET
#define WIDTH 4
#define ENTRIES 2
#include "variant.h"
#undef NAME
#undef TARGET
#undef WIDTH
#undef ENTRIES

#if defined(__x86_64__)
#define NAME(f) avx2_##f
#define TARGET __attribute__((target("avx2,fma,f16c")))
#define WIDTH 8
#define ENTRIES 6
#include "variant.h"
#undef NAME
#undef TARGET
#undef WIDTH
#undef ENTRIES

#define NAME(f) avx512_##f
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma,f16c")))
#define WIDTH 16
#define ENTRIES 12
#include "variant.h"
#undef NAME
#undef TARGET
#undef WIDTH
#undef ENTRIES

#include "bfloat16.h"
#include "quantised_types.h"

#define INLINE static inline __attribute__((always_inline)) TARGET
#define NAME(f) vnni_##f
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")))
#include "quantised_avx512.h"
#include "quantised.h"
#undef NAME
#undef TARGET

#define NAME(f) pairs_##f
#define TARGET __attribute__((target("avx2,fma,f16c")))
#include "quantised_avx2.h"
#include "quantised.h"
#undef NAME
#undef TARGET
#endif

int ladder_multiplies_bf16(void) {
#if defined(__x86_64__)
  static int known = -1;
  if (known < 0) known = variant() == 2 && has_bf16() && !has_amx();
  return known;
#else
  return 0;
#endif
}

#if defined(__x86_64__)
#define CHOOSE(f, ...) (variant() == 2 ? avx512_##f(__VA_ARGS__) : variant() == 1 ? avx2_##f(__VA_ARGS__) : plain_##f(__VA_ARGS__))
#else
#define CHOOSE(f, ...) plain_##f(__VA_ARGS__)
#endif

int ladder_panel_rows(void) { return variant() == 2 ? 32 : variant() == 1 ? 16 : 0; }

void ladder_panel_products(const float *weights, int entries, int width, const float *panel, float *out, long stride) {
  CHOOSE(products, weights, entries, width, panel, out, stride);
}

void ladder_panel_pack(const float *rows, int count, int width, float *panel) { CHOOSE(pack_rows, rows, count, width, panel); }

#if defined(__x86_64__)
void ladder_panel_pack_bf16(const float *rows, int count, int width, unsigned *panel) { bf16_panel(rows, count, width, panel); }

void ladder_panel_products_bf16(const unsigned short *weights, int entries, int width, const unsigned *panel, float *out, long stride) {
  bf16_products(weights, entries, width, panel, out, stride);
}
#else
void ladder_panel_pack_bf16(const float *rows, int count, int width, unsigned *panel) {}
void ladder_panel_products_bf16(const unsigned short *weights, int entries, int width, const unsigned *panel, float *out, long stride) {}
#endif

// The threads take parts of a product as they come to them: another process may slow one of them down.
struct turns {
  atomic_int next, finished, arrived, meetings;
  char rest[112];
};

// The last thread makes them ready for the next product.
static void finish(struct turns *turns, int threads) {
  if (atomic_fetch_add(&turns->finished, 1) == threads - 1) {
    atomic_store(&turns->next, 0);
    atomic_store(&turns->finished, 0);
  }
}

#if defined(__x86_64__)
// Threads go on from here when all have come.
static void meet(struct turns *turns, int threads) {
  const int meeting = atomic_load(&turns->meetings);
  if (atomic_fetch_add(&turns->arrived, 1) == threads - 1) {
    atomic_store(&turns->arrived, 0);
    atomic_store(&turns->meetings, meeting + 1);
  } else {
    while (atomic_load_explicit(&turns->meetings, memory_order_acquire) == meeting) __builtin_ia32_pause();
  }
}
#endif

long ladder_multiply_scratch(int threads) { return sizeof(struct turns) + threads * SCRATCH; }

static int pieces(const struct ladder_product *p, int lanes, int rows) { return parts(p->lane_count, lanes) * parts(p->row_count, rows); }

void ladder_multiply(const struct ladder_product *p, int thread, int threads, void *scratch) {
  struct turns *turns = scratch;
  float *packed = (float *)((char *)(turns + 1) + thread * SCRATCH);
  // Parts as large as leave each thread some, but one of several panels and many rows packs little for what it multiplies.
  const int wide = ladder_panel_rows();
  const int few = p->row_count < 8 && !p->lanes_are_columns;
  const int rounds = ladder_multiplies_bf16() && (p->rounds || p->lanes_are_bf16 || p->rows_are_bf16);
  int lanes = PANEL_NUMBERS / CHANNELS, rows = p->row_count;
  const int wanted = parts(3 * threads, p->count), least = parts(threads, p->count);
  while (lanes > 4 * wide && pieces(p, lanes, rows) < wanted) lanes /= 2;
  while (rows > 2 * ROW_GROUP && pieces(p, lanes, rows) < wanted) rows = (rows + 1) / 2;
  while (rows > 48 && pieces(p, lanes, rows) < least) rows = (rows + 1) / 2;
  const int across = parts(p->lane_count, lanes), each = pieces(p, lanes, rows);
  for (int turn; (turn = atomic_fetch_add_explicit(&turns->next, 1, memory_order_relaxed)) < each * p->count;) {
    const int one = turn / each, part = turn % each, lane = part % across * lanes, row = part / across * rows;
    struct ladder_product own = *p;
    own.lanes = (const char *)p->lanes + one / p->lane_sharers * p->next_lanes * (p->lanes_are_bf16 ? 2 : 4);
    own.rows = (const char *)p->rows + one / p->row_sharers * p->next_rows * (p->rows_are_bf16 ? 2 : 4);
    own.out = p->out + one * p->next_out;
    const int last_lane = lane + lanes < p->lane_count ? lane + lanes : p->lane_count, last_row = row + rows < p->row_count ? row + rows : p->row_count;
    if (few)
      CHOOSE(multiply_few, &own, lane, last_lane, packed, rounds);
#if defined(__x86_64__)
    else if (rounds)
      bf16_multiply(&own, lane, last_lane, row, last_row, packed);
#endif
    else
      CHOOSE(multiply, &own, lane, last_lane, row, last_row, packed);
  }
  finish(turns, threads);
}

int ladder_multiplies_quantised(int type, int inner) {
  const int many = type == ladder_q4_k || type == ladder_q5_k || type == ladder_q6_k;
  // With wide vectors but without VNNI ggml's own kernels for packed weights in four bits are wider than ours.
  if (variant() == 2 && widest_quantised() < 2 && (type == ladder_q4_0 || type == ladder_q4_k)) return 0;
  return quantised_width() > 0 && inner <= MOST_QUANTISED && ((has_blocks_of_32(type) && inner % 32 == 0) || (many && inner % 256 == 0));
}

long ladder_quantised_bytes(int inner) { return inner / 32 * BLOCK_BYTES; }

void ladder_quantise_rows(const float *rows, long stride, int row_count, int inner, enum ladder_quantisation type, void *out, int thread, int threads) {
#if defined(__x86_64__)
  for (int i = (int)((long)row_count * thread / threads); i < (long)row_count * (thread + 1) / threads; i++)
    (quantised_width() == 2 ? vnni_row : pairs_row)(rows + i * stride, inner, type, (struct row_block *)((char *)out + i * ladder_quantised_bytes(inner)));
#endif
}

void ladder_quantised_multiply(const struct ladder_quantised_product *p, int thread, int threads, void *scratch) {
#if defined(__x86_64__)
  struct turns *turns = scratch;
  void *panels = (char *)(turns + 1) + thread * SCRATCH;
  const int wide = quantised_width() == 2, least = wide ? vnni_lanes : pairs_lanes;
  // A panel for few rows at a time, for more of them as many as stay in the second-level cache beside the rows; parts that leave each
  // thread some, of several such groups where there are many entries, as what is asked for ahead of a part's end is for another thread.
  const long panel = p->inner / block_numbers * (long)(wide ? sizeof(struct vnni_panel) : sizeof(struct pairs_panel));
  int lanes = p->row_count <= 8 ? least : 8 * least, rows = p->row_count;
  while (lanes > least && (lanes / least * panel > PACKED_BYTES || parts(p->entries, lanes) < 3 * threads)) lanes /= 2;
  const int at_once = lanes;
  // Of one row, which packs nothing, three parts of one size for each thread.
  lanes = p->row_count == 1 ? parts(parts(p->entries, 3 * threads), line_weights) * line_weights : lanes * (p->entries / (16 * lanes * threads) + 1);
  while (rows > 64 && parts(p->entries, lanes) * parts(p->row_count, rows) < threads) rows = (rows + 1) / 2;
  const int across = parts(p->entries, lanes), all = across * parts(p->row_count, rows);
  for (int turn; (turn = atomic_fetch_add_explicit(&turns->next, 1, memory_order_relaxed)) < all;) {
    const int entry = turn % across * lanes, row = turn / across * rows;
    const int last = entry + lanes < p->entries ? entry + lanes : p->entries, end = row + rows < p->row_count ? row + rows : p->row_count;
    (wide ? vnni_multiply : pairs_multiply)(p, entry, last, row, end, at_once, panels);
  }
  finish(turns, threads);
#endif
}

void ladder_round_and_multiply(
  const struct ladder_quantised_product *p, const float *numbers, long stride, void *rows, int thread, int threads, void *scratch) {
#if defined(__x86_64__)
  struct ladder_quantised_product own = *p;
  // One row each thread rounds for itself: that takes less time than waiting.
  const int alone = p->row_count == 1;
  own.rows = alone ? (char *)scratch + sizeof(struct turns) + thread * SCRATCH + PACKED_BYTES : rows;
  ladder_quantise_rows(numbers, stride, p->row_count, p->inner, p->type, (void *)own.rows, alone ? 0 : thread, alone ? 1 : threads);
  if (!alone && threads > 1) meet(scratch, threads);
  ladder_quantised_multiply(&own, thread, threads, scratch);
#endif
}

int ladder_multiplies_fast(void) {
#if defined(__x86_64__)
  return variant() == 1 || (variant() == 2 && !has_bf16()) || ladder_multiplies_bf16();
#else
  return 0;
#endif
}

void ladder_panel_curve(float *z, int entries, long stride, float inner, float outer) { CHOOSE(curve, z, entries, stride, inner, outer); }

void ladder_panel_maxima(const float *logits, int entries, long stride, float *maxima) { CHOOSE(maxima, logits, entries, stride, maxima); }

void ladder_panel_sums(const float *logits, int entries, long stride, const float *maxima, float *sums, float *totals) {
  CHOOSE(sums, logits, entries, stride, maxima, sums, totals);
}

float ladder_row_maximum(const float *logits, int count) { return CHOOSE(row_maximum, logits, count); }

float ladder_row_sum(const float *logits, int count, float maximum) { return CHOOSE(row_sum, logits, count, maximum); }

float ladder_row_sums(const float *logits, int count, float maximum, float *sums) { return CHOOSE(row_sums, logits, count, maximum, sums); }

void ladder_row_curve(float *z, int count, float inner, float outer) { CHOOSE(row_curve, z, count, inner, outer); }

float ladder_dot(const float *a, const float *b, int count) { return CHOOSE(dot, a, b, count); }

void ladder_add_scaled(float factor, const float *x, float *target, int count) { CHOOSE(add_scaled, factor, x, target, count); }

void ladder_dequantise_q8_0(const void *row, float *target, int count) { CHOOSE(dequantise_q8_0, row, target, count); }

void ladder_dequantise_q4_0(const void *row, float *target, int count) { CHOOSE(dequantise_q4_0, row, target, count); }

void ladder_to_bf16(const float *source, unsigned short *target, long count) { CHOOSE(to_bf16, source, target, count); }

void ladder_from_bf16(const unsigned short *source, float *target, long count) { CHOOSE(from_bf16, source, target, count); }
