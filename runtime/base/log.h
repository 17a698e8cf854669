// Logs as JSON lines on standard error:
// {"time":"…","level":"info","message":"…"}. Strings that come from a client
// are passed through LogSafe() first. Prompts and outputs are never logged.
#ifndef DESCANT_RUNTIME_BASE_LOG_H_
#define DESCANT_RUNTIME_BASE_LOG_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace descant {

enum class LogLevel { kInfo, kWarning, kError };

// Writes one line. Thread-safe.
void Log(LogLevel level, absl::string_view message);

template <typename... Parts>
void LogInfo(const Parts&... parts) {
  Log(LogLevel::kInfo, absl::StrCat(parts...));
}
template <typename... Parts>
void LogWarning(const Parts&... parts) {
  Log(LogLevel::kWarning, absl::StrCat(parts...));
}
template <typename... Parts>
void LogError(const Parts&... parts) {
  Log(LogLevel::kError, absl::StrCat(parts...));
}

// `text` cut to 128 bytes, every byte outside printable ASCII escaped.
std::string LogSafe(absl::string_view text);

}  // namespace descant

#endif  // DESCANT_RUNTIME_BASE_LOG_H_
