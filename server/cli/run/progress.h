// How far a run is: a bar on a terminal, else a line every ten seconds.
#ifndef DESCANT_SERVER_CLI_RUN_PROGRESS_H_
#define DESCANT_SERVER_CLI_RUN_PROGRESS_H_

#include <cstdint>
#include <string>

#include "runtime/base/clock.h"
#include "server/cli/progress_bar.h"

namespace descant::cli {

struct RunCounts {
  int64_t answered = 0;
  int64_t failed = 0;
  int64_t skipped = 0;  // had a record before
  uint64_t output_tokens = 0;
  double seconds = 0;
  // Bytes of the input: of the lines done now, of those skipped, and of all; 0
  // where that is not known.
  uint64_t done_bytes = 0;
  uint64_t skipped_bytes = 0;
  uint64_t total_bytes = 0;
};

// "120 done, 3 failed, 951 tokens/s, 0:12 left"; the time where it is known.
std::string DescribeProgress(const RunCounts& counts);

// "0:07", "12:34", "3:00:00".
std::string FormatDuration(double seconds);

// On standard error. Thread-compatible.
class RunProgress {
 public:
  RunProgress(bool show, uint64_t total_bytes);

  void Update(const RunCounts& counts);

 private:
  const bool show_;
  ProgressBar bar_;
  MonotonicTime last_line_;
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_RUN_PROGRESS_H_
