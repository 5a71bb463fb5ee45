// MPI from a library that is found when it is asked for: Open MPI, MPICH and its kin, or any with the standard ABI of MPI 5.
// All calls come from one thread at a time. Where they return int it is 0, or MPI's error code.
#pragma once

// Loads the library and initialises it. Returns 0, or with a line in `error` 1 where it is no such library, 2 where it does not begin.
//   path: as dlopen takes it.
int ladder_mpi_begin(const char *path, char *error, int capacity);

int ladder_mpi_rank(void);
int ladder_mpi_size(void);
// What the library calls itself, in a line.
void ladder_mpi_version(char *text, int capacity);

// Each begins a collective over all ranks, one at a time; its buffers stay until ladder_mpi_test says that it is done. Counts and places
// are bytes, one of each for every rank.
int ladder_mpi_broadcast(void *bytes, int count);  // from rank 0
int ladder_mpi_all_gather(const void *own, int count, void *all, const int *counts, const int *places);
int ladder_mpi_all_to_all(
  const void *own, const int *own_counts, const int *own_places, void *all, const int *counts, const int *places);
// Whether the collective is done.
int ladder_mpi_test(int *done);

void ladder_mpi_message(int code, char *text, int capacity);
// Waits for all ranks.
int ladder_mpi_end(void);
