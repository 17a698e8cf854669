// Lines of a file or of a pipe, without ever holding more than one.
#ifndef DESCANT_SERVER_CLI_RUN_LINE_READER_H_
#define DESCANT_SERVER_CLI_RUN_LINE_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace descant::cli {

inline constexpr size_t kMaxLineBytes = 16 << 20;

struct InputLine {
  int64_t number = 0;     // from 1; empty lines count and are skipped
  std::string text;       // without its end
  bool too_long = false;  // over kMaxLineBytes; `text` is its beginning
  uint64_t end = 0;       // bytes of the input up to and with this line
};

// Thread-compatible.
class LineReader {
 public:
  enum class Result { kLine, kNotYet, kEnd };

  // "-" is standard input. NOT_FOUND where the file can't be read.
  static absl::StatusOr<LineReader> Open(const std::string& path);
  LineReader(LineReader&& other) noexcept;
  LineReader& operator=(LineReader&&) = delete;
  ~LineReader();

  // The next line with anything in it. kNotYet: a pipe that has no whole line
  // yet; never blocks. INTERNAL: reading failed.
  absl::StatusOr<Result> Next(InputLine* line);

  // Whether it is a file, which can be read twice.
  bool is_file() const { return is_file_; }
  uint64_t total_bytes() const { return total_bytes_; }  // 0: unknown

 private:
  LineReader(int descriptor, bool is_file, uint64_t total_bytes)
      : descriptor_(descriptor), is_file_(is_file), total_bytes_(total_bytes) {}

  absl::StatusOr<Result> Fill();
  // Moves the line that `size` bytes from `begin_` hold to `line`.
  void Take(size_t size, InputLine* line);

  int descriptor_;
  const bool is_file_;
  const uint64_t total_bytes_;
  std::string buffer_;
  size_t begin_ = 0;       // of what is not yet returned
  size_t scanned_ = 0;     // from begin_: holds no line end
  bool skipping_ = false;  // inside a line that is too long
  bool at_end_ = false;
  int64_t number_ = 0;
  uint64_t offset_ = 0;  // of begin_ in the input
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_RUN_LINE_READER_H_
