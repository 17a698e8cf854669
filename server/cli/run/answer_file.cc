#include "server/cli/run/answer_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "runtime/base/status_macros.h"

namespace descant::cli {
namespace {

enum State : uint8_t { kNone = 0, kAnswered = 1, kFailed = 2 };

constexpr size_t kCopyBytes = 256 << 10;
// How every record begins.
constexpr absl::string_view kBeginning = "{\"line\":";
// Lines of an input that are too many to keep nine bytes each of.
constexpr int64_t kMaxLine = int64_t{1} << 32;

absl::Status SystemError(absl::string_view what, const std::string& path) {
  return absl::InternalError(
      absl::StrCat(what, " ", path, ": ", strerror(errno)));
}

absl::Status WriteAll(int descriptor, absl::string_view bytes,
                      const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t count = write(descriptor, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      return SystemError("writing", path);
    }
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

struct Record {
  int64_t line = 0;
  uint64_t digest = 0;
  bool failed = false;
};

std::optional<Record> ParseRecord(absl::string_view text) {
  if (!absl::StartsWith(text, kBeginning)) return std::nullopt;
  const Json json = Json::parse(text.begin(), text.end(), nullptr,
                                /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto line = json.find("line");
  const auto input = json.find("input");
  if (line == json.end() || !line->is_number_unsigned() ||
      input == json.end() || !input->is_string()) {
    return std::nullopt;
  }
  Record record;
  record.line = line->get<int64_t>();
  const std::string& digest = input->get_ref<const std::string&>();
  if (record.line < 1 || record.line > kMaxLine || digest.size() != 16 ||
      !absl::SimpleHexAtoi(digest, &record.digest)) {
    return std::nullopt;
  }
  record.failed = json.contains("error");
  return record;
}

// Calls `take(text, offset)` for each line of the file, the last one also when
// it has no end; stops where that is an error.
template <typename Take>
absl::Status ForEachLine(int descriptor, const std::string& path, Take take) {
  std::string buffer;
  uint64_t offset = 0;  // of the buffer in the file
  size_t scanned = 0;
  while (true) {
    const size_t size = buffer.size();
    buffer.resize(size + kCopyBytes);
    const ssize_t count = pread(descriptor, buffer.data() + size, kCopyBytes,
                                static_cast<off_t>(offset + size));
    if (count < 0) return SystemError("reading", path);
    buffer.resize(size + static_cast<size_t>(count));
    size_t begin = 0;
    for (size_t end; (end = buffer.find('\n', std::max(begin, scanned))) !=
                     std::string::npos;
         begin = end + 1) {
      DESCANT_RETURN_IF_ERROR(
          take(absl::string_view(buffer).substr(begin, end + 1 - begin),
               offset + begin));
    }
    buffer.erase(0, begin);
    offset += begin;
    scanned = buffer.size();
    if (count == 0) break;
  }
  if (buffer.empty()) return absl::OkStatus();
  return take(buffer, offset);
}

}  // namespace

Json AnswerRecord(int64_t line, const std::string& id, uint64_t digest,
                  const Json& body) {
  Json record = {{"line", line}};
  if (!id.empty()) record["id"] = id;
  record["input"] = absl::StrFormat("%016x", digest);
  record.update(body);
  return record;
}

absl::StatusOr<AnswerFile> AnswerFile::Open(const std::string& path,
                                            bool retry_failed) {
  if (path == "-") return AnswerFile("-", dup(STDOUT_FILENO));
  const int descriptor =
      open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    return absl::NotFoundError(
        absl::StrCat(path, ": can't be opened: ", strerror(errno)));
  }
  AnswerFile file(path, descriptor);
  struct stat info = {};
  if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a file; \"-\" is standard output"));
  }
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, ": another run writes there"));
  }
  DESCANT_RETURN_IF_ERROR(file.Load());
  if (retry_failed && file.failed_ > 0) {
    DESCANT_RETURN_IF_ERROR(file.DropFailed());
  }
  return file;
}

AnswerFile::AnswerFile(AnswerFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      digests_(std::move(other.digests_)),
      state_(std::move(other.state_)),
      answered_(other.answered_),
      failed_(other.failed_) {}

AnswerFile::~AnswerFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status AnswerFile::Note(int64_t line, uint64_t digest, bool failed) {
  const auto index = static_cast<size_t>(line - 1);
  if (index >= state_.size()) {
    state_.resize(index + 1, kNone);
    digests_.resize(index + 1, 0);
  }
  if (state_[index] != kNone) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": line ", line, " is answered twice"));
  }
  state_[index] = failed ? kFailed : kAnswered;
  digests_[index] = digest;
  ++(failed ? failed_ : answered_);
  return absl::OkStatus();
}

absl::Status AnswerFile::Load() {
  std::optional<uint64_t> torn;
  int64_t number = 0;
  const auto take = [&](absl::string_view text,
                        uint64_t offset) -> absl::Status {
    ++number;
    const std::optional<Record> record = ParseRecord(text);
    if (!torn && record && text.back() == '\n') {
      return Note(record->line, record->digest, record->failed);
    }
    // Only what can be the beginning of a record, and only at the end, is
    // torn; a file that we did not write is never cut.
    const bool ours = absl::StartsWith(text, kBeginning) ||
                      absl::StartsWith(kBeginning, text) ||
                      (number > 1 && text.find_first_not_of('\0') == text.npos);
    if (torn || !ours) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ":", number,
                       ": no answer of descant run; choose another "
                       "--out"));
    }
    torn = offset;
    return absl::OkStatus();
  };
  DESCANT_RETURN_IF_ERROR(ForEachLine(descriptor_, path_, take));
  if (torn && ftruncate(descriptor_, static_cast<off_t>(*torn)) != 0) {
    return SystemError("cutting", path_);
  }
  return absl::OkStatus();
}

std::optional<uint64_t> AnswerFile::Find(int64_t line) const {
  const auto index = static_cast<size_t>(line - 1);
  if (index >= state_.size() || state_[index] == kNone) return std::nullopt;
  return digests_[index];
}

absl::Status AnswerFile::Append(const Json& record) {
  // What a server sends is UTF-8; anything else becomes U+FFFD.
  std::string text =
      record.dump(-1, ' ', false, Json::error_handler_t::replace);
  text += '\n';
  return WriteAll(descriptor_, text, path_);
}

absl::Status AnswerFile::DropFailed() {
  std::vector<Extent> kept;
  DESCANT_RETURN_IF_ERROR(
      ForEachLine(descriptor_, path_,
                  [&](absl::string_view text, uint64_t offset) -> absl::Status {
                    const std::optional<Record> record = ParseRecord(text);
                    if (record && !record->failed) {
                      kept.push_back({record->line, offset, text.size()});
                    }
                    return absl::OkStatus();
                  }));
  DESCANT_RETURN_IF_ERROR(Rewrite(kept));
  for (uint8_t& state : state_) {
    if (state == kFailed) state = kNone;
  }
  failed_ = 0;
  return absl::OkStatus();
}

absl::Status AnswerFile::Rewrite(const std::vector<Extent>& extents) {
  std::string temporary = absl::StrCat(path_, ".XXXXXX");
  const int descriptor = mkostemp(temporary.data(), O_APPEND | O_CLOEXEC);
  if (descriptor < 0) return SystemError("making", temporary);
  // From here on, both files are locked until ours has the name.
  AnswerFile next(temporary, descriptor);
  struct stat info = {};
  absl::Status status;
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0 ||
      fstat(descriptor_, &info) != 0 ||
      fchmod(descriptor, info.st_mode & 0777) != 0) {
    status = SystemError("making", temporary);
  }
  std::string buffer;
  for (const Extent& extent : extents) {
    for (uint64_t done = 0; status.ok() && done < extent.size;) {
      buffer.resize(std::min<uint64_t>(kCopyBytes, extent.size - done));
      const ssize_t count = pread(descriptor_, buffer.data(), buffer.size(),
                                  static_cast<off_t>(extent.begin + done));
      if (count <= 0) {
        status = SystemError("reading", path_);
        break;
      }
      buffer.resize(static_cast<size_t>(count));
      status = WriteAll(descriptor, buffer, temporary);
      done += static_cast<uint64_t>(count);
    }
  }
  if (status.ok() && (fsync(descriptor) != 0 ||
                      rename(temporary.c_str(), path_.c_str()) != 0)) {
    status = SystemError("replacing", path_);
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  std::swap(descriptor_, next.descriptor_);
  return absl::OkStatus();
}

absl::Status AnswerFile::Finish(bool in_order) {
  if (path_ == "-") return absl::OkStatus();
  if (in_order) {
    std::vector<Extent> extents;
    DESCANT_RETURN_IF_ERROR(ForEachLine(
        descriptor_, path_,
        [&](absl::string_view text, uint64_t offset) -> absl::Status {
          int64_t line = 0;
          absl::string_view digits = text.substr(kBeginning.size());
          digits = digits.substr(0, digits.find(','));
          if (!absl::SimpleAtoi(digits, &line)) {
            return absl::InternalError(
                absl::StrCat(path_, ": changed while it was written"));
          }
          extents.push_back({line, offset, text.size()});
          return absl::OkStatus();
        }));
    const auto by_line = [](const Extent& a, const Extent& b) {
      return a.line < b.line;
    };
    if (!std::is_sorted(extents.begin(), extents.end(), by_line)) {
      std::sort(extents.begin(), extents.end(), by_line);
      return Rewrite(extents);
    }
  }
  return fsync(descriptor_) == 0 ? absl::OkStatus()
                                 : SystemError("writing", path_);
}

}  // namespace descant::cli
