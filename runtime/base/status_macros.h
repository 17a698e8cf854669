// Early return on a failed absl::Status or absl::StatusOr. (Abseil 20220623
// ships no public macros for it.)
#ifndef DESCANT_RUNTIME_BASE_STATUS_MACROS_H_
#define DESCANT_RUNTIME_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define DESCANT_RETURN_IF_ERROR(expression)                                 \
  do {                                                                      \
    if (absl::Status descant_status = (expression); !descant_status.ok()) { \
      return descant_status;                                                \
    }                                                                       \
  } while (false)

#define DESCANT_CONCAT_INNER(a, b) a##b
#define DESCANT_CONCAT(a, b) DESCANT_CONCAT_INNER(a, b)

// DESCANT_ASSIGN_OR_RETURN(auto x, StatusOrReturningCall());
#define DESCANT_ASSIGN_OR_RETURN(lhs, expression)                           \
  auto DESCANT_CONCAT(descant_statusor_, __LINE__) = (expression);          \
  if (!DESCANT_CONCAT(descant_statusor_, __LINE__).ok()) {                  \
    return std::move(DESCANT_CONCAT(descant_statusor_, __LINE__)).status(); \
  }                                                                         \
  /* NOLINTNEXTLINE(bugprone-macro-parentheses): may be a declaration */    \
  lhs = *std::move(DESCANT_CONCAT(descant_statusor_, __LINE__))

#endif  // DESCANT_RUNTIME_BASE_STATUS_MACROS_H_
