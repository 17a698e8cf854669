// A progress line on standard error: "pirate  [#######      ]  45 %  1.2 MB".
#ifndef DESCANT_SERVER_CLI_PROGRESS_BAR_H_
#define DESCANT_SERVER_CLI_PROGRESS_BAR_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "runtime/base/clock.h"

namespace descant::cli {

// "512 B", "1.2 kB", "3.4 MB": powers of 1000, three digits at most.
std::string FormatBytes(uint64_t bytes);

// The line without its carriage return, `note` at its end. `done` past `total`
// counts as `total`; a `total` of 0 is complete.
std::string RenderProgress(absl::string_view label, uint64_t done,
                           uint64_t total, absl::string_view note);

// Redraws at most ten times a second, and always at the end. Draws nothing
// where standard error is no terminal. Thread-compatible.
class ProgressBar {
 public:
  ProgressBar(absl::string_view label, uint64_t total);
  // Ends the line, so that what follows starts on its own.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // The note is the number of bytes done.
  void Update(uint64_t done) { Update(done, FormatBytes(done)); }
  void Update(uint64_t done, absl::string_view note);

  bool enabled() const { return enabled_; }

 private:
  const std::string label_;
  const uint64_t total_;
  const bool enabled_;
  bool drawn_ = false;
  MonotonicTime last_draw_;
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_PROGRESS_BAR_H_
