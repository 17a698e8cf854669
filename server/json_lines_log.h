// A file of records, one JSON object a line, that only grows: usage, audit.
#ifndef DESCANT_SERVER_JSON_LINES_LOG_H_
#define DESCANT_SERVER_JSON_LINES_LOG_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"

namespace descant {

struct JsonLinesLogOptions {
  std::string path;  // the operator's: links are followed
  // Beyond this size FILE becomes FILE.1, FILE.1 becomes FILE.2, ...; 0: never.
  uint64_t max_file_bytes = 0;
  int32_t rotated_files = 8;  // at least 1; the oldest goes
  // Of lines that wait to be written; what comes beyond is left out.
  size_t max_pending_bytes = size_t{4} << 20;
  // A line waits at most so long for its write, and a written one so long for
  // fdatasync: what a process that is killed, and a machine that loses its
  // power, may lose.
  Duration write_interval = std::chrono::milliseconds(100);
  Duration sync_interval = std::chrono::seconds(1);
};

// One thread of its own writes; callers never wait for the disk unless they
// call Flush. Whole lines only: one that failed half-way is cut off again, and
// a file that a crash left in the middle of a line goes on on a new one. While
// writing fails, lines wait and are tried again; those that find no room are
// counted, and a line {"time":...,"dropped_lines":N} tells of them near where
// they would have been. Thread-safe.
class JsonLinesLog {
 public:
  struct Counts {
    uint64_t written = 0;   // lines, those that tell of dropped ones included
    uint64_t dropped = 0;   // lines that found no room
    uint64_t failures = 0;  // attempts to write, rotate or reopen
  };

  // The file is made with mode 0600 where there is none. INVALID_ARGUMENT, one
  // line that begins with the path: it can't be opened, or is no regular file.
  static absl::StatusOr<std::unique_ptr<JsonLinesLog>> Open(
      JsonLinesLogOptions options);
  // Writes and syncs what waits, once.
  ~JsonLinesLog();
  JsonLinesLog(const JsonLinesLog&) = delete;
  JsonLinesLog& operator=(const JsonLinesLog&) = delete;

  // Queues a line. ASCII only: all else is escaped, and bytes that are not
  // UTF-8 become U+FFFD. False: there was no room.
  bool Append(const nlohmann::ordered_json& line);

  // Returns when every line appended before is in the file and synced; else
  // why not: lines that are not in the file wait still. Calls that overlap
  // share their fdatasync.
  absl::Status Flush();

  // Opens the path anew before the next line, for whoever moved the file away.
  // Where that fails the old file goes on.
  void Reopen();

  Counts counts() const;

 private:
  class File;
  struct Work {
    std::deque<std::string> lines;
    uint64_t flushes = 0;  // Flush calls up to this one are answered by it
    uint64_t dropped = 0;  // lines to tell of
    uint64_t written = 0;
    bool sync = false;
    bool reopen = false;
    bool stop = false;
  };

  JsonLinesLog(JsonLinesLogOptions options, std::unique_ptr<File> file);
  void Run();
  bool Urgent() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Work TakeWork();
  // Takes the lines that are in the file from `work`.
  absl::Status Do(Work* work);
  void Settle(Work work, const absl::Status& status);

  const JsonLinesLogOptions options_;

  // The thread's.
  const std::unique_ptr<File> file_;
  bool failing_ = false;
  MonotonicTime unsynced_since_ = kNoDeadline;  // none: all is synced

  mutable Mutex mutex_;
  CondVar work_;
  CondVar settled_;
  std::deque<std::string> pending_ ABSL_GUARDED_BY(mutex_);
  // With the lines of the attempt at hand.
  size_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t dropped_untold_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t flushes_asked_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t flushes_done_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status flush_status_ ABSL_GUARDED_BY(mutex_);
  bool reopen_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool retry_ ABSL_GUARDED_BY(mutex_) = false;  // the last attempt failed
  Counts counts_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

// "2026-11-26T21:00:20.123Z", from Clock::UnixSeconds().
std::string FormatLogTime(double unix_seconds);

}  // namespace descant

#endif  // DESCANT_SERVER_JSON_LINES_LOG_H_
