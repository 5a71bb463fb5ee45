#include "ladder_mpi.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

// What a library does, whatever its handles are.
struct library {
  int (*rank)(int *);
  int (*size)(int *);
  int (*version)(char *, int *);
  int (*broadcast)(void *, int);
  int (*all_gather)(const void *, int, void *, const int *, const int *);
  int (*all_to_all)(const void *, const int *, const int *, void *, const int *, const int *);
  int (*test)(int *);
  int (*message)(int, char *, int *);
  int (*end)(void);
};

// MPICH, Intel MPI, MVAPICH, Cray MPI: numbers.
#define HANDLE int
#define NAME(x) number_##x
#include "calls.h"
#undef HANDLE
#undef NAME

// Open MPI and the standard ABI: pointers.
#define HANDLE void *
#define NAME(x) pointer_##x
#include "calls.h"
#undef HANDLE
#undef NAME

static const struct library *mpi;

static int failure(char *error, int capacity, const char *path, const char *what) {
  snprintf(error, capacity, "%s: %s", path, what);
  return 1;
}

int ladder_mpi_begin(const char *path, char *error, int capacity) {
  // Open MPI's own parts look for its symbols among the global ones.
  void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (!library) return failure(error, capacity, path, dlerror());
  void *world = dlsym(library, "ompi_mpi_comm_world");
  const char *name = strrchr(path, '/');
  const int is_standard = strstr(name ? name : path, "mpi_abi") != NULL, is_number = !is_standard && !world;
  const char *missing = is_number ? number_find(library) : pointer_find(library);
  if (missing) {
    char text[160];
    snprintf(text, sizeof text, "it has no %s; MPI 3 or later is needed", missing);
    return failure(error, capacity, path, text);
  }
  int code;
  // The handles' values are those of the libraries' headers.
  if (is_number) {
    code = number_begin(0x44000000, 0x4c00010d, 0x54000001, 2, (void *)1);
  } else if (is_standard) {
    code = pointer_begin((void *)0x101, (void *)0x247, (void *)0x143, 2048, NULL);
  } else {
    void *byte = dlsym(library, "ompi_mpi_byte"), *errors_return = dlsym(library, "ompi_mpi_errors_return");
    if (!byte || !errors_return) return failure(error, capacity, path, "it lacks handles of Open MPI");
    code = pointer_begin(world, byte, errors_return, 2, NULL);
  }
  if (code) {
    failure(error, capacity, path, code < 0 ? "it takes calls from the main thread alone" : "it cannot begin");
    return 2;
  }
  mpi = is_number ? &number_library : &pointer_library;
  return 0;
}

int ladder_mpi_rank(void) {
  int rank = 0;
  return mpi->rank(&rank) ? -1 : rank;
}

int ladder_mpi_size(void) {
  int size = 0;
  return mpi->size(&size) ? -1 : size;
}

// The standard's longest text is 8,192 bytes.
static void line(int code, int length, const char *long_text, char *text, int capacity) {
  snprintf(text, capacity, "%.*s", code ? 0 : length, long_text);
  text[strcspn(text, "\n")] = 0;
}

void ladder_mpi_version(char *text, int capacity) {
  char long_text[8193] = "";
  int length = 0, code = mpi->version(long_text, &length);
  line(code, length, long_text, text, capacity);
}

void ladder_mpi_message(int number, char *text, int capacity) {
  char long_text[8193] = "";
  int length = 0, code = mpi->message(number, long_text, &length);
  line(code, length, long_text, text, capacity);
}

int ladder_mpi_broadcast(void *bytes, int count) { return mpi->broadcast(bytes, count); }

int ladder_mpi_all_gather(const void *own, int count, void *all, const int *counts, const int *places) {
  return mpi->all_gather(own, count, all, counts, places);
}

int ladder_mpi_all_to_all(
  const void *own, const int *own_counts, const int *own_places, void *all, const int *counts, const int *places) {
  return mpi->all_to_all(own, own_counts, own_places, all, counts, places);
}

int ladder_mpi_test(int *done) { return mpi->test(done); }
int ladder_mpi_end(void) { return mpi->end(); }
