#include "tests/testing/crash_fs.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "runtime/base/status_macros.h"

namespace descant {
namespace {

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

class CrashReadableFile final : public ReadableFile {
 public:
  explicit CrashReadableFile(std::string data) : data_(std::move(data)) {}
  absl::StatusOr<size_t> Read(uint64_t offset,
                              absl::Span<char> out) const override {
    if (offset >= data_.size()) return 0;
    const size_t count = std::min<uint64_t>(out.size(), data_.size() - offset);
    std::copy_n(data_.begin() + static_cast<int64_t>(offset), count,
                out.begin());
    return count;
  }
  uint64_t size() const override { return data_.size(); }

 private:
  const std::string data_;
};

class CrashFileLock final : public FileLock {
 public:
  CrashFileLock(std::set<std::string>* locks, std::string path)
      : locks_(locks), path_(std::move(path)) {}
  ~CrashFileLock() override { locks_->erase(path_); }

 private:
  std::set<std::string>* const locks_;
  const std::string path_;
};

// What may be left of a file: 0 the synced part, 1 everything, 2 half of the
// rest, 3 the right length with zeros, 4 and 5 up to the first and the last
// multiple of 512 within the rest.
constexpr int kTails = 6;
constexpr size_t kSector = 512;
std::string Tail(const std::string& synced, const std::string& data, int kind) {
  if (kind == 0) return synced;
  if (kind == 1 || data.size() <= synced.size()) return data;
  const size_t rest = data.size() - synced.size();
  switch (kind) {
    case 2:
      return data.substr(0, synced.size() + rest / 2);
    case 3:
      return data.substr(0, synced.size()) + std::string(rest, '\0');
    case 4:
      return data.substr(0, (synced.size() / kSector + 1) * kSector);
    default:
      return data.substr(
          0, std::max(synced.size(), (data.size() - 1) / kSector * kSector));
  }
}

}  // namespace

class CrashWritableFile final : public WritableFile {
 public:
  CrashWritableFile(CrashFs* fs, CrashFs::InodePtr inode)
      : fs_(fs), inode_(std::move(inode)) {}

  absl::Status Append(absl::Span<const char> data) override {
    const absl::Status status = fs_->Change();
    const size_t written = status.ok() ? data.size() : data.size() / 2;
    inode_->data.append(data.data(), written);
    fs_->Done();
    return status;
  }
  absl::Status Sync() override {
    DESCANT_RETURN_IF_ERROR(fs_->Change());
    inode_->synced = inode_->data;
    fs_->Done();
    return absl::OkStatus();
  }

 private:
  CrashFs* const fs_;
  const CrashFs::InodePtr inode_;
};

CrashFs::CrashFs() = default;

CrashFs::CrashFs(const Snapshot& snapshot) {
  for (const std::string& path : snapshot.directories) names_[path] = nullptr;
  for (const auto& [path, content] : snapshot.files) {
    names_[path] = std::make_shared<Inode>(Inode{content, content});
  }
  durable_ = names_;
}

absl::Status CrashFs::Change() {
  return operations_++ == fail_at_ ? failure_ : absl::OkStatus();
}

void CrashFs::Done() {
  if (observer_) observer_();
}

void CrashFs::Apply(const Pending& change, Names* names) {
  if (!change.removed.empty()) names->erase(change.removed);
  if (!change.added.empty()) (*names)[change.added] = change.inode;
}

void CrashFs::AddPending(Pending change) {
  Apply(change, &names_);
  pending_.push_back(std::move(change));
  Done();
}

CrashFs::Snapshot CrashFs::Current() const {
  Snapshot snapshot;
  for (const auto& [path, inode] : names_) {
    if (inode == nullptr) {
      snapshot.directories.insert(path);
    } else {
      snapshot.files[path] = inode->data;
    }
  }
  return snapshot;
}

std::set<CrashFs::Snapshot> CrashFs::CrashStates(bool few) const {
  std::set<Snapshot> states;
  const auto unsynced = [](const InodePtr& inode) {
    return inode != nullptr && inode->synced != inode->data;
  };
  const auto any_in = [&unsynced](const Names& names) {
    return std::any_of(names.begin(), names.end(), [&unsynced](const auto& n) {
      return unsynced(n.second);
    });
  };
  const bool torn =
      any_in(names_) || any_in(durable_) ||
      std::any_of(pending_.begin(), pending_.end(),
                  [&unsynced](const Pending& p) { return unsynced(p.inode); });
  const int tails = torn ? kTails : 1;
  // All subsets of the latest changes; older ones are all there or all not.
  constexpr size_t kFree = 6;
  const size_t fixed = pending_.size() > kFree ? pending_.size() - kFree : 0;
  const size_t free = pending_.size() - fixed;
  const size_t subsets = size_t{1} << free;
  for (int older = 0; older < (fixed > 0 ? 2 : 1); ++older) {
    for (size_t subset = 0; subset < subsets; ++subset) {
      const auto kept_changes = static_cast<size_t>(std::popcount(subset));
      if (few && free > 3 && kept_changes > 1 && kept_changes + 1 < free) {
        continue;
      }
      Names names = durable_;
      for (size_t i = 0; i < pending_.size(); ++i) {
        const bool kept =
            i < fixed ? older == 1 : ((subset >> (i - fixed)) & 1) != 0;
        if (kept) Apply(pending_[i], &names);
      }
      for (int tail = 0; tail < tails; ++tail) {
        Snapshot snapshot;
        for (const auto& [path, inode] : names) {
          // A file is lost with its directory. Parents sort before children.
          const std::string parent = ParentOf(path);
          if (!parent.empty() && !snapshot.directories.contains(parent)) {
            continue;
          }
          if (inode == nullptr) {
            snapshot.directories.insert(path);
          } else {
            snapshot.files[path] = Tail(inode->synced, inode->data, tail);
          }
        }
        states.insert(std::move(snapshot));
      }
    }
  }
  return states;
}

absl::StatusOr<std::unique_ptr<WritableFile>> CrashFs::Create(
    const std::string& path) {
  if (names_.contains(path)) return absl::AlreadyExistsError("exists");
  if (!names_.contains(ParentOf(path))) return absl::NotFoundError("no parent");
  DESCANT_RETURN_IF_ERROR(Change());
  auto inode = std::make_shared<Inode>();
  AddPending({ParentOf(path), "", path, inode});
  return std::make_unique<CrashWritableFile>(this, inode);
}

absl::StatusOr<std::unique_ptr<WritableFile>> CrashFs::OpenAppend(
    const std::string& path, uint64_t size) {
  const auto it = names_.find(path);
  if (it == names_.end()) return absl::NotFoundError("no file");
  if (it->second == nullptr) return absl::InvalidArgumentError("directory");
  DESCANT_RETURN_IF_ERROR(Change());
  it->second->data.resize(size);
  Done();
  return std::make_unique<CrashWritableFile>(this, it->second);
}

absl::StatusOr<std::unique_ptr<ReadableFile>> CrashFs::OpenRead(
    const std::string& path) {
  const auto it = names_.find(path);
  if (it == names_.end()) return absl::NotFoundError("no file");
  if (it->second == nullptr) return absl::InvalidArgumentError("directory");
  return std::make_unique<CrashReadableFile>(it->second->data);
}

absl::Status CrashFs::Rename(const std::string& from, const std::string& to) {
  const auto it = names_.find(from);
  if (it == names_.end()) return absl::NotFoundError("no file");
  if (!names_.contains(ParentOf(to))) return absl::NotFoundError("no parent");
  DESCANT_RETURN_IF_ERROR(Change());
  AddPending({ParentOf(to), from, to, it->second});
  return absl::OkStatus();
}

absl::Status CrashFs::Remove(const std::string& path) {
  const auto it = names_.find(path);
  if (it == names_.end() || it->second == nullptr) {
    return absl::NotFoundError("no file");
  }
  DESCANT_RETURN_IF_ERROR(Change());
  AddPending({ParentOf(path), path, "", nullptr});
  return absl::OkStatus();
}

absl::Status CrashFs::CreateDirectory(const std::string& path) {
  const auto it = names_.find(path);
  if (it != names_.end()) {
    return it->second == nullptr ? absl::OkStatus()
                                 : absl::InvalidArgumentError("a file");
  }
  DESCANT_RETURN_IF_ERROR(Change());
  AddPending({ParentOf(path), "", path, nullptr});
  return absl::OkStatus();
}

absl::Status CrashFs::RemoveDirectory(const std::string& path) {
  const auto next = names_.upper_bound(path + "/");
  if (next != names_.end() && next->first.rfind(path + "/", 0) == 0) {
    return absl::FailedPreconditionError("not empty");
  }
  if (!names_.contains(path)) return absl::NotFoundError("no directory");
  DESCANT_RETURN_IF_ERROR(Change());
  AddPending({ParentOf(path), path, "", nullptr});
  return absl::OkStatus();
}

absl::Status CrashFs::SyncDirectory(const std::string& path) {
  DESCANT_RETURN_IF_ERROR(Change());
  std::vector<Pending> left;
  for (Pending& change : pending_) {
    if (change.directory == path) {
      Apply(change, &durable_);
    } else {
      left.push_back(std::move(change));
    }
  }
  pending_ = std::move(left);
  Done();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<DirectoryEntry>> CrashFs::ListDirectory(
    const std::string& path) {
  if (!names_.contains(path)) return absl::NotFoundError("no directory");
  std::vector<DirectoryEntry> entries;
  for (const auto& [name, inode] : names_) {
    if (ParentOf(name) != path || name == path) continue;
    entries.push_back(
        {name.substr(path.size() + 1), inode != nullptr, inode == nullptr});
  }
  return entries;
}

absl::StatusOr<std::unique_ptr<FileLock>> CrashFs::Lock(
    const std::string& path) {
  if (!locks_.insert(path).second) return absl::UnavailableError("locked");
  return std::make_unique<CrashFileLock>(&locks_, path);
}

absl::StatusOr<std::unique_ptr<FileLock>> CrashFs::LockShared(
    const std::string& path) {
  return Lock(path);
}

}  // namespace descant
