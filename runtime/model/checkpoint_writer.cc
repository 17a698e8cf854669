#include "runtime/model/checkpoint_writer.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "adapters/formats/json.h"
#include "adapters/formats/safetensors_file_writer.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

// The file system says no paths.
absl::Status At(const std::string& path, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", status.message()));
}

// Absolute, without "." and "..", so that it has a parent and a name.
std::string Plain(const std::string& directory) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(directory, error);
  std::string path = (error ? std::filesystem::path(directory) : absolute)
                         .lexically_normal()
                         .string();
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string ParentOf(const std::string& plain) {
  return std::filesystem::path(plain).parent_path().string();
}

// Tensors of one file.
using Shard = std::vector<const CheckpointTensor*>;

// In order of names, as a file's are.
std::vector<Shard> Split(const Checkpoint& checkpoint, uint64_t max_bytes) {
  Shard sorted;
  for (const CheckpointTensor& tensor : checkpoint.tensors) {
    sorted.push_back(&tensor);
  }
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    return a->spec.name < b->spec.name;
  });
  std::vector<Shard> shards(1);
  uint64_t bytes = 0;
  for (const CheckpointTensor* tensor : sorted) {
    if (!shards.back().empty() && bytes + tensor->spec.bytes > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(tensor);
    bytes += tensor->spec.bytes;
  }
  return shards;
}

std::string ShardName(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  return absl::StrFormat("model-%05d-of-%05d.safetensors", index + 1, count);
}

std::string IndexOf(const std::vector<Shard>& shards, uint64_t bytes) {
  std::vector<std::string> entries;
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const CheckpointTensor* tensor : shards[i]) {
      entries.push_back(absl::StrCat("    ", JsonQuote(tensor->spec.name), ": ",
                                     JsonQuote(ShardName(i, shards.size()))));
    }
  }
  return absl::StrCat("{\n  \"metadata\": {\"total_size\": ", bytes,
                      "},\n  \"weight_map\": {\n",
                      absl::StrJoin(entries, ",\n"), "\n  }\n}\n");
}

// Fills one new folder.
class FolderWriter {
 public:
  FolderWriter(Fs* fs, std::string folder)
      : fs_(fs), folder_(std::move(folder)) {}

  absl::Status WriteFile(const CheckpointFile& file) {
    const size_t slash = file.name.find('/');
    if (slash != std::string::npos) {
      const std::string sub = PathOf(file.name.substr(0, slash));
      DESCANT_RETURN_IF_ERROR(At(sub, fs_->CreateDirectory(sub)));
      subfolders_.insert(sub);
    }
    const std::string path = PathOf(file.name);
    auto created = fs_->Create(path);
    if (!created.ok()) return At(path, created.status());
    DESCANT_RETURN_IF_ERROR(At(path, (*created)->Append(file.content)));
    return At(path, (*created)->Sync());
  }

  absl::Status WriteShard(const std::string& name, const Shard& shard,
                          const SafetensorsMetadata& metadata,
                          const std::function<absl::Status()>& may_go_on) {
    const std::string path = PathOf(name);
    std::vector<SafetensorsSpec> specs;
    for (const CheckpointTensor* tensor : shard) specs.push_back(tensor->spec);
    auto file = SafetensorsFileWriter::Create(fs_, path, specs, metadata);
    if (!file.ok()) return At(path, file.status());
    const ByteSink sink = [&](absl::Span<const char> bytes) {
      return At(path, (*file)->Append(bytes));
    };
    for (const CheckpointTensor* tensor : shard) {
      if (may_go_on != nullptr) DESCANT_RETURN_IF_ERROR(may_go_on());
      DESCANT_RETURN_IF_ERROR(tensor->write(sink));
    }
    return At(path, (*file)->Finish());
  }

  absl::Status Sync() {
    for (const std::string& sub : subfolders_) {
      DESCANT_RETURN_IF_ERROR(At(sub, fs_->SyncDirectory(sub)));
    }
    return At(folder_, fs_->SyncDirectory(folder_));
  }

  // Everything that was written, as far as that goes.
  void Remove() {
    for (const std::string& sub : subfolders_) RemoveFolder(sub);
    RemoveFolder(folder_);
  }

 private:
  std::string PathOf(const std::string& name) const {
    return absl::StrCat(folder_, "/", name);
  }

  void RemoveFolder(const std::string& folder) {
    const auto entries = fs_->ListDirectory(folder);
    if (!entries.ok()) return;
    for (const DirectoryEntry& entry : *entries) {
      fs_->Remove(absl::StrCat(folder, "/", entry.name)).IgnoreError();
    }
    fs_->RemoveDirectory(folder).IgnoreError();
  }

  Fs* const fs_;
  const std::string folder_;
  std::set<std::string> subfolders_;
};

absl::StatusOr<CheckpointSummary> Fill(const Checkpoint& checkpoint,
                                       const CheckpointOptions& options,
                                       FolderWriter* folder) {
  CheckpointSummary summary;
  for (const CheckpointTensor& tensor : checkpoint.tensors) {
    ++summary.tensors;
    summary.merged += tensor.merged ? 1 : 0;
    summary.bytes += tensor.spec.bytes;
  }
  const std::vector<Shard> shards = Split(checkpoint, options.max_shard_bytes);
  summary.shards = static_cast<int32_t>(shards.size());
  for (const CheckpointFile& file : checkpoint.files) {
    DESCANT_RETURN_IF_ERROR(folder->WriteFile(file));
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    DESCANT_RETURN_IF_ERROR(folder->WriteShard(ShardName(i, shards.size()),
                                               shards[i], checkpoint.metadata,
                                               options.may_go_on));
  }
  if (shards.size() > 1) {
    DESCANT_RETURN_IF_ERROR(folder->WriteFile(
        {"model.safetensors.index.json", IndexOf(shards, summary.bytes)}));
  }
  DESCANT_RETURN_IF_ERROR(folder->Sync());
  return summary;
}

}  // namespace

absl::Status CheckCheckpointDirectory(const std::string& given) {
  namespace fs = std::filesystem;
  const std::string directory = Plain(given);
  std::error_code error;
  const fs::file_status status = fs::symlink_status(directory, error);
  if (fs::is_directory(status)) {
    if (fs::is_empty(directory, error) && !error) return absl::OkStatus();
    return absl::AlreadyExistsError(
        absl::StrCat(directory, ": is there already and is not empty"));
  }
  if (fs::exists(status)) {
    return absl::AlreadyExistsError(
        absl::StrCat(directory, ": is there already and is no directory"));
  }
  const std::string parent = ParentOf(directory);
  if (fs::is_directory(parent, error)) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(parent, ": no such directory"));
}

absl::StatusOr<CheckpointSummary> WriteCheckpoint(
    Fs* fs, const std::string& given, const Checkpoint& checkpoint,
    const CheckpointOptions& options) {
  const std::string directory = Plain(given);
  DESCANT_RETURN_IF_ERROR(CheckCheckpointDirectory(directory));
  const std::string partial =
      absl::StrCat(directory, ".", getpid(), ".partial");
  // One of an earlier process of this number that crashed would be mixed up.
  DESCANT_RETURN_IF_ERROR(CheckCheckpointDirectory(partial));
  DESCANT_RETURN_IF_ERROR(At(partial, fs->CreateDirectory(partial)));
  FolderWriter folder(fs, partial);
  absl::Cleanup remove = [&folder] { folder.Remove(); };
  DESCANT_ASSIGN_OR_RETURN(const CheckpointSummary summary,
                           Fill(checkpoint, options, &folder));
  DESCANT_RETURN_IF_ERROR(At(directory, fs->Rename(partial, directory)));
  std::move(remove).Cancel();
  const std::string parent = ParentOf(directory);
  DESCANT_RETURN_IF_ERROR(At(parent, fs->SyncDirectory(parent)));
  return summary;
}

}  // namespace descant
