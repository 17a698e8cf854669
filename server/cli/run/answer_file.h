// What `descant run` writes: one line of JSON for each line of the input.
#ifndef DESCANT_SERVER_CLI_RUN_ANSWER_FILE_H_
#define DESCANT_SERVER_CLI_RUN_ANSWER_FILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/cli/json_output.h"

namespace descant::cli {

// An answer: {"line", "id", "input", ...}; `line` counts from 1, `id` is left
// out where the line has none, `input` is InputDigest() in hex. What follows
// is `generate --json`'s answer, or "error": {"code", "reason", "message"}.
Json AnswerRecord(int64_t line, const std::string& id, uint64_t digest,
                  const Json& body);

// A record lies in the file wholly or not: each is one write, and what a crash
// tore off is cut when the file is opened again. Holds a lock on the file.
// Remembers nine bytes for each line that is answered. Thread-compatible.
class AnswerFile {
 public:
  // "-" is standard output, which is never read. With `retry_failed`, records
  // of errors are dropped. INVALID_ARGUMENT: something else than answers is
  // in the file; ALREADY_EXISTS: another run writes there; NOT_FOUND: it can't
  // be opened.
  static absl::StatusOr<AnswerFile> Open(const std::string& path,
                                         bool retry_failed);
  AnswerFile(AnswerFile&& other) noexcept;
  AnswerFile& operator=(AnswerFile&&) = delete;
  ~AnswerFile();

  // The digest recorded for a line that is answered, error or not.
  std::optional<uint64_t> Find(int64_t line) const;
  // The highest line that is answered; 0 for none.
  int64_t last_line() const { return static_cast<int64_t>(digests_.size()); }
  int64_t answered() const { return answered_; }  // without errors
  int64_t failed() const { return failed_; }

  // INTERNAL: could not be written.
  absl::Status Append(const Json& record);

  // Makes the file durable; `in_order`: sorts it by line first, as a new file
  // that replaces it.
  absl::Status Finish(bool in_order);

 private:
  AnswerFile(std::string path, int descriptor)
      : path_(std::move(path)), descriptor_(descriptor) {}

  struct Extent {
    int64_t line;
    uint64_t begin;
    uint64_t size;
  };

  // Reads what is there, and cuts a torn end.
  absl::Status Load();
  absl::Status Note(int64_t line, uint64_t digest, bool failed);
  // Replaces the file by these pieces of it, in that order.
  absl::Status Rewrite(const std::vector<Extent>& extents);
  absl::Status DropFailed();

  std::string path_;
  int descriptor_;
  std::vector<uint64_t> digests_;  // by line - 1
  std::vector<uint8_t> state_;     // by line - 1: none, answered, failed
  int64_t answered_ = 0;
  int64_t failed_ = 0;
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_RUN_ANSWER_FILE_H_
