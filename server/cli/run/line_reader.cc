#include "server/cli/run/line_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "runtime/base/status_macros.h"

namespace descant::cli {

constexpr size_t kReadBytes = 64 << 10;
constexpr char kByteOrderMark[] = "\xef\xbb\xbf";

absl::StatusOr<LineReader> LineReader::Open(const std::string& path) {
  const int descriptor = path == "-" ? dup(STDIN_FILENO)
                                     : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info = {};
  if (descriptor < 0 || fstat(descriptor, &info) != 0 ||
      S_ISDIR(info.st_mode)) {
    if (descriptor >= 0) close(descriptor);
    return absl::NotFoundError(absl::StrCat(path, ": can't be read"));
  }
  const bool is_file = S_ISREG(info.st_mode) && path != "-";
  return LineReader(
      descriptor, is_file,
      S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0);
}

LineReader::LineReader(LineReader&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      is_file_(other.is_file_),
      total_bytes_(other.total_bytes_),
      buffer_(std::move(other.buffer_)),
      begin_(other.begin_),
      scanned_(other.scanned_),
      skipping_(other.skipping_),
      at_end_(other.at_end_),
      number_(other.number_),
      offset_(other.offset_) {}

LineReader::~LineReader() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::StatusOr<LineReader::Result> LineReader::Fill() {
  if (!is_file_) {
    pollfd ready = {descriptor_, POLLIN, 0};
    if (poll(&ready, 1, 0) == 0) return Result::kNotYet;
  }
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t size = buffer_.size();
  buffer_.resize(size + kReadBytes);
  const ssize_t count = read(descriptor_, buffer_.data() + size, kReadBytes);
  buffer_.resize(size + static_cast<size_t>(std::max<ssize_t>(count, 0)));
  if (count < 0) {
    if (errno == EINTR || errno == EAGAIN) return Result::kNotYet;
    return absl::InternalError(
        absl::StrCat("reading the input: ", strerror(errno)));
  }
  if (count == 0) at_end_ = true;
  return Result::kLine;
}

void LineReader::Take(size_t size, InputLine* line) {
  line->number = number_;
  line->text.assign(buffer_, begin_, size);
  line->too_long = size >= kMaxLineBytes;
  line->end = offset_;
  if (number_ == 1 && absl::string_view(line->text).substr(0, 3) ==
                          absl::string_view(kByteOrderMark)) {
    line->text.erase(0, 3);
  }
  if (!line->text.empty() && line->text.back() == '\r') line->text.pop_back();
}

absl::StatusOr<LineReader::Result> LineReader::Next(InputLine* line) {
  while (true) {
    const size_t end = buffer_.find('\n', begin_ + scanned_);
    const bool whole = end != std::string::npos;
    const size_t size = (whole ? end : buffer_.size()) - begin_;
    if (whole || (at_end_ && size > 0) || size >= kMaxLineBytes) {
      const bool rest = std::exchange(skipping_, !whole && !at_end_);
      if (!rest) ++number_;
      const size_t used = size + (whole ? 1 : 0);
      offset_ += used;
      if (!rest) Take(size, line);
      begin_ += used;
      scanned_ = 0;
      if (rest || absl::StripAsciiWhitespace(line->text).empty()) continue;
      return Result::kLine;
    }
    if (at_end_) return Result::kEnd;
    scanned_ = size;
    DESCANT_ASSIGN_OR_RETURN(const Result result, Fill());
    if (result == Result::kNotYet) return Result::kNotYet;
  }
}

}  // namespace descant::cli
