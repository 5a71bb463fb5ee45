// One variant of the kernels: the includer defines NAME(f), TARGET, WIDTH (numbers of a vector) and ENTRIES (weight rows at a time).
// Written with the compiler's vectors; TARGET decides the instructions that they become.

typedef float NAME(vec) __attribute__((vector_size(4 * WIDTH), aligned(4)));
typedef int NAME(ints) __attribute__((vector_size(4 * WIDTH), aligned(4)));
#define VEC NAME(vec)
#define INTS NAME(ints)
#define INLINE static inline __attribute__((always_inline)) TARGET

INLINE VEC NAME(load)(const float *p) { return *(const VEC *)p; }
INLINE void NAME(store)(float *p, VEC v) { *(VEC *)p = v; }
INLINE VEC NAME(all)(float x) { return x - (VEC){0}; }
INLINE VEC NAME(pick)(INTS mask, VEC a, VEC b) { return (VEC)((mask & (INTS)a) | (~mask & (INTS)b)); }

// eˣ within 2e-7 of its value for x from −87 to 88, and at the nearer end beyond.
INLINE VEC NAME(exp)(VEC x) {
  x = NAME(pick)(x > -87.0f, x, NAME(all)(-87.0f));
  x = NAME(pick)(x < 88.0f, x, NAME(all)(88.0f));
  // Adding 1.5·2²³ rounds to a whole number, which then lies in the lowest bits: 2ⁿ comes by adding it to an exponent.
  VEC shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
  VEC r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  VEC p = r * 1.9875691e-4f + 1.3981999e-3f;
  p = p * r + 8.333452e-3f;
  p = p * r + 4.1665796e-2f;
  p = p * r + 1.6666665e-1f;
  p = p * r + 5.0000001e-1f;
  VEC e = p * (r * r) + r + 1.0f;
  return (VEC)((INTS)e + ((INTS)shifted << 23));
}

// `count` weight rows, known when compiled, with both vectors of a panel; added to `out` where `adds`. Weight e of channel k lies at
// e·row + k·channel.
INLINE void NAME(block)(const float *weights, long row, long channel, int channels, const float *panel, float *out, long stride, int adds, const int count) {
  VEC low[ENTRIES], high[ENTRIES];
#pragma clang loop unroll(full)
  for (int e = 0; e < count; e++) {
    low[e] = adds ? NAME(load)(out + e * stride) : (VEC){0};
    high[e] = adds ? NAME(load)(out + e * stride + WIDTH) : (VEC){0};
  }
  for (int k = 0; k < channels; k++) {
    VEC a = NAME(load)(panel + 2 * WIDTH * (long)k), b = NAME(load)(panel + 2 * WIDTH * (long)k + WIDTH);
#pragma clang loop unroll(full)
    for (int e = 0; e < count; e++) {
      VEC w = NAME(all)(weights[e * row + k * channel]);
      low[e] = w * a + low[e];
      high[e] = w * b + high[e];
    }
  }
#pragma clang loop unroll(full)
  for (int e = 0; e < count; e++) {
    NAME(store)(out + e * stride, low[e]);
    NAME(store)(out + e * stride + WIDTH, high[e]);
  }
}

INLINE void NAME(blocks)(const float *weights, int entries, long row, long channel, int channels, const float *panel, float *out, long stride, int adds) {
  int e = 0;
  for (; e + ENTRIES <= entries; e += ENTRIES) NAME(block)(weights + e * row, row, channel, channels, panel, out + e * stride, stride, adds, ENTRIES);
  for (; e + 2 <= entries; e += 2) NAME(block)(weights + e * row, row, channel, channels, panel, out + e * stride, stride, adds, 2);
  if (e < entries) NAME(block)(weights + e * row, row, channel, channels, panel, out + e * stride, stride, adds, 1);
}

TARGET static void NAME(products)(const float *weights, int entries, int width, const float *panel, float *out, long stride) {
  for (int k = 0; k < width; k += CHANNELS) {
    const int channels = k + CHANNELS < width ? CHANNELS : width - k;
    NAME(blocks)(weights + k, entries, width, 1, channels, panel + 2 * WIDTH * (long)k, out, stride, k > 0);
  }
}

typedef unsigned NAME(bits) __attribute__((vector_size(4 * WIDTH), aligned(4)));
typedef unsigned short NAME(shorts) __attribute__((vector_size(2 * WIDTH), aligned(2)));

// Of numbers in F32 or BF16, which is known when compiled: the one at a place, and a vector of them from there on.
INLINE float NAME(number)(const void *numbers, long place, const int is_bf16) {
  if (!is_bf16) return ((const float *)numbers)[place];
  const unsigned all = (unsigned)((const unsigned short *)numbers)[place] << 16;
  float x;
  __builtin_memcpy(&x, &all, 4);
  return x;
}

INLINE VEC NAME(numbers)(const void *numbers, long place, const int is_bf16) {
  if (!is_bf16) return NAME(load)((const float *)numbers + place);
  return (VEC)(__builtin_convertvector(*(const NAME(shorts) *)((const unsigned short *)numbers + place), NAME(bits)) << 16);
}

TARGET static void NAME(from_bf16)(const unsigned short *source, float *target, long count) {
  long i = 0;
  for (; i + WIDTH <= count; i += WIDTH) NAME(store)(target + i, NAME(numbers)(source, i, 1));
  for (; i < count; i++) target[i] = NAME(number)(source, i, 1);
}

INLINE float NAME(sum_of_products)(const void *a, const float *b, int count, const int is_bf16) {
  VEC parts[4] = {{0}, {0}, {0}, {0}};
  int i = 0;
  for (; i + 4 * WIDTH <= count; i += 4 * WIDTH)
    for (int j = 0; j < 4; j++) parts[j] = NAME(numbers)(a, i + j * WIDTH, is_bf16) * NAME(load)(b + i + j * WIDTH) + parts[j];
  VEC sum = (parts[0] + parts[1]) + (parts[2] + parts[3]);
  float total = 0;
  for (int j = 0; j < WIDTH; j++) total += sum[j];
  for (; i < count; i++) total += NAME(number)(a, i, is_bf16) * b[i];
  return total;
}

TARGET static float NAME(dot)(const float *a, const float *b, int count) { return NAME(sum_of_products)(a, b, count, 0); }
TARGET static float NAME(dot_bf16)(const unsigned short *a, const float *b, int count) { return NAME(sum_of_products)(a, b, count, 1); }

TARGET static void NAME(to_bf16)(const float *source, unsigned short *target, long count);

// The same numbers rounded to BF16.
INLINE void NAME(rounded)(const float *source, float *target, long count) {
  unsigned short numbers[256];
  for (long i = 0; i < count; i += 256) {
    const long part = i + 256 < count ? 256 : count - i;
    NAME(to_bf16)(source + i, numbers, part);
    NAME(from_bf16)(numbers, target + i, part);
  }
}

// Few rows with lanes that are rows: nothing is packed. Numbers in F32 are rounded to BF16 where `rounds`.
TARGET static void NAME(multiply_few)(const struct ladder_product *p, int first_lane, int last_lane, float *scratch, int rounds) {
  float *own_lane = scratch + PACKED_NUMBERS / 2;
  for (int row = 0; row < p->row_count; row++) {
    for (int k = 0; k < p->inner; k += PACKED_NUMBERS / 2) {
      const int channels = k + PACKED_NUMBERS / 2 < p->inner ? PACKED_NUMBERS / 2 : p->inner - k;
      const float *numbers = (const float *)p->rows + row * p->row_stride + k;
      if (p->rows_are_bf16) {
        NAME(from_bf16)((const unsigned short *)p->rows + row * p->row_stride + k, scratch, channels);
        numbers = scratch;
      } else if (rounds) {
        NAME(rounded)(numbers, scratch, channels);
        numbers = scratch;
      }
      for (int lane = first_lane; lane < last_lane; lane++) {
        const long place = lane * p->lane_stride + k;
        const float *lane_numbers = (const float *)p->lanes + place;
        if (rounds && !p->lanes_are_bf16) {
          NAME(rounded)(lane_numbers, own_lane, channels);
          lane_numbers = own_lane;
        }
        const float sum = p->lanes_are_bf16 ? NAME(dot_bf16)((const unsigned short *)p->lanes + place, numbers, channels)
                                            : NAME(dot)(lane_numbers, numbers, channels);
        float *out = p->out + row * p->out_stride + lane;
        *out = k > 0 ? *out + sum : sum;
      }
    }
  }
}

// The lanes from `lane` on over the channels from `first` on, channel by channel; lanes past the last are zero.
INLINE void NAME(pack)(const struct ladder_product *p, int lane, int first, int channels, const int is_bf16, float *panel) {
  const int count = p->lane_count - lane < 2 * WIDTH ? p->lane_count - lane : 2 * WIDTH;
  if (count < 2 * WIDTH) __builtin_memset(panel, 0, sizeof(float) * 2 * WIDTH * channels);
  if (p->lanes_are_columns) {
    for (int k = 0; k < channels; k++)
      for (int i = 0; i < count; i++) panel[2 * WIDTH * k + i] = NAME(number)(p->lanes, (first + k) * p->lane_stride + lane + i, is_bf16);
  } else {
    for (int k = 0; k < channels; k++)
      for (int i = 0; i < count; i++) panel[2 * WIDTH * k + i] = NAME(number)(p->lanes, (lane + i) * p->lane_stride + first + k, is_bf16);
  }
}

// All channels of up to a panel's rows.
TARGET static void NAME(pack_rows)(const float *rows, int count, int width, float *panel) {
  const struct ladder_product p = {.lanes = rows, .lane_stride = width, .lane_count = count};
  NAME(pack)(&p, 0, 0, width, 0, panel);
}

TARGET static void NAME(multiply)(const struct ladder_product *p, int first_lane, int last_lane, int first_row, int last_row, float *scratch) {
  enum { lanes = 2 * WIDTH, group = PANEL_NUMBERS / CHANNELS / lanes };
  float *panels = scratch, *converted = panels + PANEL_NUMBERS, *edge = converted + ROW_GROUP * CHANNELS;
  for (int start = first_lane; start < last_lane; start += group * lanes) {
    const int end = start + group * lanes < last_lane ? start + group * lanes : last_lane;
    for (int k = 0; k < p->inner; k += CHANNELS) {
      const int channels = k + CHANNELS < p->inner ? CHANNELS : p->inner - k, adds = k > 0;
      for (int lane = start; lane < end; lane += lanes) {
        float *panel = panels + (lane - start) * CHANNELS;
        if (p->lanes_are_bf16) NAME(pack)(p, lane, k, channels, 1, panel);
        else NAME(pack)(p, lane, k, channels, 0, panel);
      }
      for (int row = first_row; row < last_row; row += ROW_GROUP) {
        const int rows = row + ROW_GROUP < last_row ? ROW_GROUP : last_row - row;
        const float *source = (const float *)p->rows + (p->rows_are_columns ? k * p->row_stride + row : row * p->row_stride + k);
        long stride = p->row_stride;
        if (p->rows_are_bf16) {
          for (int i = 0; i < rows; i++)
            NAME(from_bf16)((const unsigned short *)p->rows + (row + i) * p->row_stride + k, converted + i * CHANNELS, channels);
          source = converted;
          stride = CHANNELS;
        }
        for (int lane = start; lane < end; lane += lanes) {
          const float *panel = panels + (lane - start) * CHANNELS;
          const int whole = p->lane_count - lane >= lanes;
          float *out = p->out + row * p->out_stride + lane, *target = whole ? out : edge;
          const long out_stride = whole ? p->out_stride : lanes;
          const int width = whole ? 0 : p->lane_count - lane;
          for (int i = 0; adds && i < rows && !whole; i++) __builtin_memcpy(edge + i * lanes, out + i * p->out_stride, sizeof(float) * width);
          if (p->rows_are_columns) NAME(blocks)(source, rows, 1, stride, channels, panel, target, out_stride, adds);
          else NAME(blocks)(source, rows, stride, 1, channels, panel, target, out_stride, adds);
          for (int i = 0; i < rows && !whole; i++) __builtin_memcpy(out + i * p->out_stride, edge + i * lanes, sizeof(float) * width);
        }
      }
    }
  }
}

INLINE VEC NAME(bent)(VEC x, float inner, float outer) {
  if (inner != 0) {
    x = x * (2 * inner);
    x = NAME(pick)(x < 18.0f, x, NAME(all)(18.0f));
    x = 1.0f - 2.0f / (NAME(exp)(x) + 1.0f);
  }
  return x * outer;
}

TARGET static void NAME(curve)(float *z, int entries, long stride, float inner, float outer) {
  for (int e = 0; e < entries; e++)
    for (int i = 0; i < 2 * WIDTH; i += WIDTH) NAME(store)(z + e * stride + i, NAME(bent)(NAME(load)(z + e * stride + i), inner, outer));
}

// The last numbers of a row, fewer than a vector's, with others behind them.
INLINE VEC NAME(rest)(const float *p, int count, float filling) {
  float numbers[WIDTH];
  for (int j = 0; j < WIDTH; j++) numbers[j] = j < count ? p[j] : filling;
  return NAME(load)(numbers);
}

TARGET static void NAME(row_curve)(float *z, int count, float inner, float outer) {
  int i = 0;
  for (; i + WIDTH <= count; i += WIDTH) NAME(store)(z + i, NAME(bent)(NAME(load)(z + i), inner, outer));
  VEC last = NAME(bent)(NAME(rest)(z + i, count - i, 0), inner, outer);
  for (int j = 0; i + j < count; j++) z[i + j] = last[j];
}

TARGET static float NAME(row_maximum)(const float *logits, int count) {
  VEC most = NAME(all)(-__builtin_inff()), second = most;
  int i = 0;
  for (; i + 2 * WIDTH <= count; i += 2 * WIDTH) {
    VEC x = NAME(load)(logits + i), y = NAME(load)(logits + i + WIDTH);
    most = NAME(pick)(x > most, x, most);
    second = NAME(pick)(y > second, y, second);
  }
  most = NAME(pick)(second > most, second, most);
  float largest = most[0];
  for (int j = 1; j < WIDTH; j++) largest = most[j] > largest ? most[j] : largest;
  for (; i < count; i++) largest = logits[i] > largest ? logits[i] : largest;
  return largest;
}

TARGET static float NAME(row_sum)(const float *logits, int count, float maximum) {
  VEC sum = (VEC){0};
  int i = 0;
  for (; i + WIDTH <= count; i += WIDTH) sum += NAME(exp)(NAME(load)(logits + i) - maximum);
  VEC last = NAME(exp)(NAME(rest)(logits + i, count - i, maximum) - maximum);
  float total = 0;
  for (int j = 0; j < WIDTH; j++) total += sum[j] + (i + j < count ? last[j] : 0);
  return total;
}

// Sums of each 16 neighbours, and of all.
TARGET static float NAME(row_sums)(const float *logits, int count, float maximum, float *sums) {
  float total = 0;
  int i = 0;
#if WIDTH == 16
  VEC totals = (VEC){0};
  for (; i + 256 <= count; i += 256) {
    VEC e[16];
#pragma clang loop unroll(full)
    for (int g = 0; g < 16; g++) e[g] = NAME(exp)(NAME(load)(logits + i + 16 * g) - maximum);
    // Of two vectors the neighbours are added, until each group's sum is one number.
#pragma clang loop unroll(full)
    for (int left = 8; left > 0; left /= 2)
#pragma clang loop unroll(full)
      for (int g = 0; g < left; g++)
        e[g] = __builtin_shufflevector(e[2 * g], e[2 * g + 1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
               + __builtin_shufflevector(e[2 * g], e[2 * g + 1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    NAME(store)(sums + i / 16, e[0]);
    totals += e[0];
  }
  for (int j = 0; j < WIDTH; j++) total += totals[j];
#endif
  for (; i < count; i += 16) {
    const float sum = NAME(row_sum)(logits + i, count - i < 16 ? count - i : 16, maximum);
    sums[i / 16] = sum;
    total += sum;
  }
  return total;
}

TARGET static void NAME(maxima)(const float *logits, int entries, long stride, float *maxima) {
  VEC a = NAME(load)(logits), b = NAME(load)(logits + WIDTH);
  for (int e = 1; e < entries; e++) {
    VEC x = NAME(load)(logits + e * stride), y = NAME(load)(logits + e * stride + WIDTH);
    a = NAME(pick)(x > a, x, a);
    b = NAME(pick)(y > b, y, b);
  }
  NAME(store)(maxima, a);
  NAME(store)(maxima + WIDTH, b);
}

TARGET static void NAME(sums)(const float *logits, int entries, long stride, const float *maxima, float *sums, float *totals) {
  VEC first_total = (VEC){0}, second_total = (VEC){0};
  VEC low = NAME(load)(maxima), high = NAME(load)(maxima + WIDTH);
  for (int first = 0; first < entries; first += 16) {
    int end = first + 16 < entries ? first + 16 : entries;
    VEC a = (VEC){0}, b = (VEC){0};
    for (int e = first; e < end; e++) {
      a += NAME(exp)(NAME(load)(logits + e * stride) - low);
      b += NAME(exp)(NAME(load)(logits + e * stride + WIDTH) - high);
    }
    NAME(store)(sums + first / 16 * 2 * WIDTH, a);
    NAME(store)(sums + first / 16 * 2 * WIDTH + WIDTH, b);
    first_total += a;
    second_total += b;
  }
  NAME(store)(totals, first_total);
  NAME(store)(totals + WIDTH, second_total);
}

// NaNs stay NaNs.
TARGET static void NAME(to_bf16)(const float *source, unsigned short *target, long count) {
  long i = 0;
  for (; i + WIDTH <= count; i += WIDTH) {
    NAME(bits) all = *(const NAME(bits) *)(source + i), round = (all + 0x7fff + ((all >> 16) & 1)) >> 16;
    NAME(bits) is_nan = (NAME(bits))((all & 0x7fffffff) > 0x7f800000);
    *(NAME(shorts) *)(target + i) = __builtin_convertvector((is_nan & (all >> 16 | 64)) | (~is_nan & round), NAME(shorts));
  }
  for (; i < count; i++) {
    unsigned all;
    __builtin_memcpy(&all, source + i, 4);
    target[i] = (all & 0x7fffffff) > 0x7f800000 ? all >> 16 | 64 : (all + 0x7fff + ((all >> 16) & 1)) >> 16;
  }
}

typedef signed char NAME(bytes) __attribute__((vector_size(WIDTH), aligned(1)));

TARGET static void NAME(dequantise_q8_0)(const void *row, float *target, int count) {
  const unsigned char *block = row;
  for (int i = 0; i < count; i += 32, block += 34) {
    float scale = (float)*(const half_number *)block;
    for (int j = 0; j < 32; j += WIDTH) NAME(store)(target + i + j, __builtin_convertvector(*(const NAME(bytes) *)(block + 2 + j), VEC) * scale);
  }
}

TARGET static void NAME(add_scaled)(float factor, const float *x, float *target, int count) {
  VEC f = NAME(all)(factor);
  int i = 0;
  for (; i + WIDTH <= count; i += WIDTH) NAME(store)(target + i, f * NAME(load)(x + i) + NAME(load)(target + i));
  for (; i < count; i++) target[i] += factor * x[i];
}

TARGET static void NAME(dequantise_q4_0)(const void *row, float *target, int count) {
  const unsigned char *block = row;
  for (int i = 0; i < count; i += 32, block += 18) {
    float scale = (float)*(const half_number *)block;
    for (int j = 0; j < 16; j += WIDTH) {
      NAME(bytes) halves = *(const NAME(bytes) *)(block + 2 + j), low = (halves & 15) - 8, high = ((halves >> 4) & 15) - 8;
      NAME(store)(target + i + j, __builtin_convertvector(low, VEC) * scale);
      NAME(store)(target + i + 16 + j, __builtin_convertvector(high, VEC) * scale);
    }
  }
}

#undef VEC
#undef INTS
#undef INLINE
