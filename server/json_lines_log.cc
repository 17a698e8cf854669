#include "server/json_lines_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/base/check.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using Json = nlohmann::ordered_json;

// So much is written without waiting for the interval.
constexpr size_t kWriteAtBytes = 64 << 10;

absl::Status ErrnoStatus(absl::string_view operation) {
  return absl::UnavailableError(
      absl::StrCat(operation, ": ", std::strerror(errno)));
}

std::string LineOf(const Json& json) {
  std::string line =
      json.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  line += '\n';
  return line;
}

}  // namespace

// The open file and those it was rotated into. One thread.
class JsonLinesLog::File {
 public:
  explicit File(const JsonLinesLogOptions& options)
      : path_(options.path),
        max_bytes_(options.max_file_bytes),
        rotated_(options.rotated_files) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }

  // Opens the path, or leaves what is open.
  absl::Status Open() {
    // O_NONBLOCK: a FIFO is refused below instead of waited for.
    const int fd =
        ::open(path_.c_str(),
               O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd < 0) return ErrnoStatus("open");
    struct stat info = {};
    const bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    if (!regular) {
      ::close(fd);
      return absl::UnavailableError("not a regular file");
    }
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
    char last = '\n';
    if (info.st_size > 0) (void)!::pread(fd_, &last, 1, info.st_size - 1);
    torn_ = last != '\n';
    return absl::OkStatus();
  }

  // Appends the lines that fit into one file, whole, and takes them from
  // `lines`.
  absl::Status Write(std::deque<std::string>* lines) {
    DESCANT_RETURN_IF_ERROR(Failpoint("json_lines_log.write"));
    DESCANT_ASSIGN_OR_RETURN(uint64_t size, Size());
    if (max_bytes_ > 0 && size > 0 &&
        size + lines->front().size() > max_bytes_) {
      DESCANT_RETURN_IF_ERROR(Rotate());
      size = 0;
    }
    buffer_.clear();
    if (torn_) buffer_ += '\n';
    size_t count = 0;
    for (const std::string& line : *lines) {
      if (count > 0 && max_bytes_ > 0 &&
          size + buffer_.size() + line.size() > max_bytes_) {
        break;
      }
      buffer_ += line;
      ++count;
    }
    const absl::Status status = WriteBuffer();
    if (!status.ok()) {
      // Also frees the bytes that filled the disk.
      torn_ = ::ftruncate(fd_, static_cast<off_t>(size)) != 0 || torn_;
      return status;
    }
    torn_ = false;
    lines->erase(lines->begin(),
                 lines->begin() + static_cast<ptrdiff_t>(count));
    return absl::OkStatus();
  }

  absl::Status Sync() {
    if (::fdatasync(fd_) != 0) return ErrnoStatus("fdatasync");
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<uint64_t> Size() {
    struct stat info = {};
    if (::fstat(fd_, &info) != 0) return ErrnoStatus("stat");
    return static_cast<uint64_t>(info.st_size);
  }

  absl::Status WriteBuffer() {
    absl::string_view rest = buffer_;
    while (!rest.empty()) {
      const ssize_t done = ::write(fd_, rest.data(), rest.size());
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) return ErrnoStatus("write");
      rest.remove_prefix(static_cast<size_t>(done));
    }
    return absl::OkStatus();
  }

  std::string RotatedPath(int32_t i) const {
    return i == 0 ? path_ : absl::StrCat(path_, ".", i);
  }

  bool PathIsOpenFile() const {
    struct stat named = {};
    struct stat open = {};
    return ::stat(path_.c_str(), &named) == 0 && ::fstat(fd_, &open) == 0 &&
           named.st_dev == open.st_dev && named.st_ino == open.st_ino;
  }

  // Whatever fails leaves a file open that can be written to.
  absl::Status Rotate() {
    DESCANT_RETURN_IF_ERROR(Sync());
    if (!PathIsOpenFile()) return Open();  // somebody moved it
    for (int32_t i = rotated_; i > 0; --i) {
      const std::string from = RotatedPath(i - 1);
      if (::rename(from.c_str(), RotatedPath(i).c_str()) != 0 &&
          errno != ENOENT) {
        return ErrnoStatus("rename");
      }
    }
    return Open();
  }

  const std::string path_;
  const uint64_t max_bytes_;
  const int32_t rotated_;
  int fd_ = -1;
  bool torn_ = false;  // ends in the middle of a line
  std::string buffer_;
};

absl::StatusOr<std::unique_ptr<JsonLinesLog>> JsonLinesLog::Open(
    JsonLinesLogOptions options) {
  DESCANT_CHECK(options.rotated_files >= 1);
  auto file = std::make_unique<File>(options);
  if (const absl::Status status = file->Open(); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.path, ": ", status.message()));
  }
  return std::unique_ptr<JsonLinesLog>(
      new JsonLinesLog(std::move(options), std::move(file)));
}

JsonLinesLog::JsonLinesLog(JsonLinesLogOptions options,
                           std::unique_ptr<File> file)
    : options_(std::move(options)), file_(std::move(file)) {
  thread_ = std::thread([this] { Run(); });
}

JsonLinesLog::~JsonLinesLog() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    work_.Signal();
  }
  thread_.join();
}

bool JsonLinesLog::Append(const Json& json) {
  std::string line = LineOf(json);
  MutexLock lock(&mutex_);
  if (pending_bytes_ + line.size() > options_.max_pending_bytes) {
    ++counts_.dropped;
    ++dropped_untold_;
    return false;
  }
  pending_bytes_ += line.size();
  pending_.push_back(std::move(line));
  // Otherwise the thread's interval runs already.
  if (pending_.size() == 1 || pending_bytes_ >= kWriteAtBytes) work_.Signal();
  return true;
}

absl::Status JsonLinesLog::Flush() {
  MutexLock lock(&mutex_);
  const uint64_t mine = ++flushes_asked_;
  work_.Signal();
  while (flushes_done_ < mine) settled_.Wait(&mutex_);
  return flush_status_;
}

void JsonLinesLog::Reopen() {
  MutexLock lock(&mutex_);
  reopen_ = true;
  work_.Signal();
}

JsonLinesLog::Counts JsonLinesLog::counts() const {
  MutexLock lock(&mutex_);
  return counts_;
}

void JsonLinesLog::Run() {
  while (true) {
    Work work = TakeWork();
    const bool stop = work.stop;
    const absl::Status status = Do(&work);
    Settle(std::move(work), status);
    if (stop) return;
  }
}

bool JsonLinesLog::Urgent() const {
  return stop_ || reopen_ || flushes_done_ < flushes_asked_ ||
         (!retry_ && pending_bytes_ >= kWriteAtBytes);
}

JsonLinesLog::Work JsonLinesLog::TakeWork() {
  MutexLock lock(&mutex_);
  while (!Urgent() && pending_.empty() && unsynced_since_ == kNoDeadline) {
    work_.Wait(&mutex_);
  }
  const MonotonicTime soon =
      std::chrono::steady_clock::now() + options_.write_interval;
  while (!Urgent()) {
    const bool write = retry_ || !pending_.empty();
    if (!work_.WaitUntil(
            &mutex_, write ? soon : unsynced_since_ + options_.sync_interval)) {
      break;
    }
  }
  Work work;
  work.lines.swap(pending_);
  work.flushes = flushes_asked_;
  work.dropped = std::exchange(dropped_untold_, 0);
  work.sync = stop_ || flushes_done_ < flushes_asked_;
  work.reopen = std::exchange(reopen_, false);
  work.stop = stop_;
  return work;
}

absl::Status JsonLinesLog::Do(Work* work) {
  if (work->reopen) {
    // What the old file has must not be lost with the power.
    DESCANT_RETURN_IF_ERROR(file_->Sync());
    unsynced_since_ = kNoDeadline;
    DESCANT_RETURN_IF_ERROR(file_->Open());
  }
  if (work->dropped > 0) {
    work->lines.push_back(
        LineOf({{"time", FormatLogTime(SystemClock().UnixSeconds())},
                {"dropped_lines", std::exchange(work->dropped, 0)}}));
  }
  while (!work->lines.empty()) {
    const size_t before = work->lines.size();
    DESCANT_RETURN_IF_ERROR(file_->Write(&work->lines));
    work->written += before - work->lines.size();
    if (unsynced_since_ == kNoDeadline) {
      unsynced_since_ = std::chrono::steady_clock::now();
    }
  }
  if (unsynced_since_ == kNoDeadline) return absl::OkStatus();
  if (work->sync || std::chrono::steady_clock::now() >=
                        unsynced_since_ + options_.sync_interval) {
    DESCANT_RETURN_IF_ERROR(file_->Sync());
    unsynced_since_ = kNoDeadline;
  }
  return absl::OkStatus();
}

void JsonLinesLog::Settle(Work work, const absl::Status& status) {
  if (status.ok() && failing_) {
    LogInfo(options_.path, ": is written again");
  } else if (!status.ok() && !failing_) {
    LogError(options_.path, ": not written: ", status.message());
  }
  failing_ = !status.ok();
  MutexLock lock(&mutex_);
  pending_.insert(pending_.begin(), std::make_move_iterator(work.lines.begin()),
                  std::make_move_iterator(work.lines.end()));
  pending_bytes_ = 0;
  for (const std::string& line : pending_) pending_bytes_ += line.size();
  dropped_untold_ += work.dropped;
  counts_.written += work.written;
  counts_.failures += failing_ ? 1 : 0;
  retry_ = failing_;
  flushes_done_ = work.flushes;
  flush_status_ = status;
  settled_.SignalAll();
}

std::string FormatLogTime(double unix_seconds) {
  return absl::FormatTime(
      "%Y-%m-%dT%H:%M:%E3SZ",
      absl::FromUnixMillis(static_cast<int64_t>(unix_seconds * 1000)),
      absl::UTCTimeZone());
}

}  // namespace descant
