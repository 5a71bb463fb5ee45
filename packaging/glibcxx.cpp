// For a C++ library older than the compiler that built Swift's static libraries: what its headers call and GCC 10 lacks.
#include <new>

namespace std {
__attribute__((weak)) void __throw_bad_array_new_length() { throw bad_array_new_length(); }
}  // namespace std
