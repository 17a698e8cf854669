// Aborts on our own bugs. Client input never reaches a check.
#ifndef DESCANT_RUNTIME_BASE_CHECK_H_
#define DESCANT_RUNTIME_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace descant::internal {

[[noreturn]] inline void CheckFailed(const char* expression, const char* file,
                                     int line) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, expression);
  std::abort();
}

}  // namespace descant::internal

// Kept in release builds.
#define DESCANT_CHECK(condition) \
  ((condition)                   \
       ? static_cast<void>(0)    \
       : ::descant::internal::CheckFailed(#condition, __FILE__, __LINE__))

#endif  // DESCANT_RUNTIME_BASE_CHECK_H_
