// What this processor can do: which variant of the kernels runs.
#if defined(__x86_64__)
#include <cpuid.h>

// By the instruction itself: GCC's runtime library knows these features by their names from its version 11 on, and before says no.
static int has_bf16(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 5 & 1);
}

static int has_vnni(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx >> 11 & 1);
}

// AMX multiplies BF16 faster still, by ggml's kernels.
static int has_amx(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx >> 22 & 1);
}

static int has_f16c(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

// 2 for AVX-512, 1 for AVX2, 0 for any other processor.
static int variant(void) {
#if defined(__x86_64__)
  static int known = -1;
  if (known < 0) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
      known = 2;
    else
      known = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() ? 1 : 0;
  }
  return known;
#else
  return 0;
#endif
}

// For products of quantised weights: 2 for AVX-512 with VNNI, 1 for AVX2, 0 for none of them.
static int widest_quantised(void) {
#if defined(__x86_64__)
  static int known = -1;
  if (known < 0) known = has_amx() ? 0 : variant() == 2 && has_vnni() ? 2 : variant() > 0;
  return known;
#else
  return 0;
#endif
}

static int most_quantised_width = 2;

void ladder_limit_quantised(int width) { most_quantised_width = width; }

static int quantised_width(void) { return widest_quantised() < most_quantised_width ? widest_quantised() : most_quantised_width; }
