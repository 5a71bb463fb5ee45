// The calls of one kind of MPI library, whose handles are of type HANDLE. Included once for each kind.

static struct {
  HANDLE world;
  HANDLE byte;
  HANDLE request;
  void *ignore;  // MPI_STATUS_IGNORE
  int (*init_thread)(int *, char ***, int, int *);
  int (*set_errhandler)(HANDLE, HANDLE);
  int (*rank)(HANDLE, int *);
  int (*size)(HANDLE, int *);
  int (*version)(char *, int *);
  int (*broadcast)(void *, int, HANDLE, int, HANDLE, HANDLE *);
  int (*all_gather)(const void *, int, HANDLE, void *, const int *, const int *, HANDLE, HANDLE, HANDLE *);
  int (*all_to_all)(
    const void *, const int *, const int *, HANDLE, void *, const int *, const int *, HANDLE, HANDLE, HANDLE *);
  int (*test)(HANDLE *, int *, void *);
  int (*error_string)(int, char *, int *);
  int (*finalize)(void);
} NAME(mpi);

// Returns the name of a function that is missing, or NULL.
static const char *NAME(find)(void *library) {
  const struct { const char *name; void **place; } calls[] = {
    {"MPI_Init_thread", (void **)&NAME(mpi).init_thread}, {"MPI_Comm_set_errhandler", (void **)&NAME(mpi).set_errhandler},
    {"MPI_Comm_rank", (void **)&NAME(mpi).rank}, {"MPI_Comm_size", (void **)&NAME(mpi).size},
    {"MPI_Get_library_version", (void **)&NAME(mpi).version}, {"MPI_Ibcast", (void **)&NAME(mpi).broadcast},
    {"MPI_Iallgatherv", (void **)&NAME(mpi).all_gather}, {"MPI_Ialltoallv", (void **)&NAME(mpi).all_to_all},
    {"MPI_Test", (void **)&NAME(mpi).test}, {"MPI_Error_string", (void **)&NAME(mpi).error_string},
    {"MPI_Finalize", (void **)&NAME(mpi).finalize},
  };
  for (unsigned index = 0; index < sizeof calls / sizeof *calls; index++) {
    if (!(*calls[index].place = dlsym(library, calls[index].name))) return calls[index].name;
  }
  return NULL;
}

static int NAME(begin)(HANDLE world, HANDLE byte, HANDLE errors_return, int serialized, void *ignore) {
  NAME(mpi).world = world;
  NAME(mpi).byte = byte;
  NAME(mpi).ignore = ignore;
  int provided = 0, code = NAME(mpi).init_thread(NULL, NULL, serialized, &provided);
  if (code) return code;
  if (provided < serialized) return -1;
  return NAME(mpi).set_errhandler(world, errors_return);
}

static int NAME(rank)(int *rank) { return NAME(mpi).rank(NAME(mpi).world, rank); }
static int NAME(size)(int *size) { return NAME(mpi).size(NAME(mpi).world, size); }
static int NAME(version)(char *text, int *length) { return NAME(mpi).version(text, length); }

static int NAME(broadcast)(void *bytes, int count) {
  return NAME(mpi).broadcast(bytes, count, NAME(mpi).byte, 0, NAME(mpi).world, &NAME(mpi).request);
}

static int NAME(all_gather)(const void *own, int count, void *all, const int *counts, const int *places) {
  return NAME(mpi).all_gather(
    own, count, NAME(mpi).byte, all, counts, places, NAME(mpi).byte, NAME(mpi).world, &NAME(mpi).request);
}

static int NAME(all_to_all)(
  const void *own, const int *own_counts, const int *own_places, void *all, const int *counts, const int *places) {
  return NAME(mpi).all_to_all(
    own, own_counts, own_places, NAME(mpi).byte, all, counts, places, NAME(mpi).byte, NAME(mpi).world,
    &NAME(mpi).request);
}

static int NAME(test)(int *done) { return NAME(mpi).test(&NAME(mpi).request, done, NAME(mpi).ignore); }
static int NAME(message)(int code, char *text, int *length) { return NAME(mpi).error_string(code, text, length); }
static int NAME(end)(void) { return NAME(mpi).finalize(); }

static const struct library NAME(library) = {
  NAME(rank), NAME(size), NAME(version), NAME(broadcast), NAME(all_gather), NAME(all_to_all), NAME(test), NAME(message),
  NAME(end),
};
