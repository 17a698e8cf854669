#include "runtime/model/weights_cache.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/identity.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

namespace stdfs = std::filesystem;

constexpr absl::string_view kMagic = "DSCPACK1";
constexpr absl::string_view kSuffix = ".packed";
constexpr absl::string_view kTemporary = ".packed.tmp";
constexpr uint64_t kChunk = 8 << 20;
// Data begins on a page.
constexpr uint64_t kPage = 4096;
// A writer that is older was killed.
constexpr std::chrono::hours kAbandoned{1};

uint64_t ChunksOf(uint64_t bytes) { return (bytes + kChunk - 1) / kChunk; }

absl::string_view ChunkOf(absl::Span<const std::byte> arena, uint64_t index) {
  const absl::Span<const std::byte> chunk =
      arena.subspan(index * kChunk, kChunk);
  return {reinterpret_cast<const char*>(chunk.data()), chunk.size()};
}

// All before the data but the padding. `checksums`: of the chunks.
std::string EncodeHeader(absl::string_view key, uint64_t arena_bytes,
                         const std::vector<uint32_t>& checksums) {
  std::string header(kMagic);
  AppendLittleEndian<uint64_t>(arena_bytes, &header);
  AppendLittleEndian<uint32_t>(static_cast<uint32_t>(key.size()), &header);
  AppendLittleEndian<uint32_t>(static_cast<uint32_t>(checksums.size()),
                               &header);
  for (const uint32_t checksum : checksums) {
    AppendLittleEndian<uint32_t>(checksum, &header);
  }
  header.append(key.data(), key.size());
  AppendLittleEndian<uint32_t>(Crc32c(header), &header);
  return header;
}

uint64_t HeaderBytes(absl::string_view key, uint64_t arena_bytes) {
  return EncodeHeader(key, arena_bytes,
                      std::vector<uint32_t>(ChunksOf(arena_bytes)))
      .size();
}

uint64_t DataOffset(uint64_t header_bytes) {
  return (header_bytes + kPage - 1) / kPage * kPage;
}

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("packed weights: ", what));
}

absl::Status ReadFully(const ReadableFile& file, uint64_t offset,
                       absl::Span<char> out) {
  DESCANT_ASSIGN_OR_RETURN(const size_t got, file.Read(offset, out));
  return got == out.size() ? absl::OkStatus() : Damaged("the file is cut off");
}

// What the workers share.
struct ReadRegion {
  const ReadableFile* file;
  absl::Span<std::byte> arena;
  uint64_t data_offset;
  std::vector<uint32_t> checksums;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
};

void ReadTask(void* context, int32_t worker) {
  ReadRegion& region = *static_cast<ReadRegion*>(context);
  while (!region.failed.load(std::memory_order_relaxed)) {
    const uint64_t index = region.next.fetch_add(1);
    if (index >= region.checksums.size()) return;
    const absl::Span<std::byte> chunk =
        region.arena.subspan(index * kChunk, kChunk);
    const absl::Status read = ReadFully(
        *region.file, region.data_offset + index * kChunk,
        absl::MakeSpan(reinterpret_cast<char*>(chunk.data()), chunk.size()));
    if (!read.ok() ||
        Crc32c(ChunkOf(region.arena, index)) != region.checksums[index]) {
      region.failed.store(true);
    }
  }
}

void Touch(const std::string& path) {
  std::error_code ignored;
  stdfs::last_write_time(path, stdfs::file_time_type::clock::now(), ignored);
}

}  // namespace

std::string WeightsCache::PathOf(absl::string_view key) const {
  return absl::StrCat(directory_, "/", HexOf(Sha256Of(key)).substr(0, 32),
                      kSuffix);
}

absl::Status WeightsCache::Read(absl::string_view key,
                                kernels::WorkerPool* pool,
                                absl::Span<std::byte> arena) const {
  const std::string path = PathOf(key);
  DESCANT_ASSIGN_OR_RETURN(const auto file, fs_->OpenRead(path));
  std::string header(HeaderBytes(key, arena.size()), '\0');
  ReadRegion region;
  region.file = file.get();
  region.arena = arena;
  region.data_offset = DataOffset(header.size());
  if (file->size() != region.data_offset + arena.size()) {
    return Damaged("the file has another size");
  }
  DESCANT_RETURN_IF_ERROR(ReadFully(*file, 0, absl::MakeSpan(header)));
  const char* checksums = header.data() + kMagic.size() + 16;
  for (uint64_t i = 0; i < ChunksOf(arena.size()); ++i) {
    region.checksums.push_back(LoadLittleEndian<uint32_t>(checksums + 4 * i));
  }
  // Equal where magic, sizes, key and checksum are what they must be.
  if (header != EncodeHeader(key, arena.size(), region.checksums)) {
    return Damaged("the header is not this format's");
  }
  pool->Run(&ReadTask, &region);
  if (region.failed.load()) return Damaged("a checksum differs");
  Touch(path);
  return absl::OkStatus();
}

absl::Status WeightsCache::Write(absl::string_view key,
                                 absl::Span<const std::byte> arena,
                                 const std::atomic<bool>* stop) const {
  std::error_code error;
  stdfs::create_directories(stdfs::path(directory_).parent_path(), error);
  DESCANT_RETURN_IF_ERROR(fs_->CreateDirectory(directory_));
  const std::string path = PathOf(key);
  // Several processes may write the same: each its own, the last one stays.
  const std::string temporary = absl::StrCat(
      path.substr(0, path.size() - kSuffix.size()), ".", getpid(), ".",
      std::chrono::steady_clock::now().time_since_epoch().count(), kTemporary);
  absl::Status status = WriteFile(temporary, key, arena, stop);
  if (status.ok()) status = fs_->Rename(temporary, path);
  if (!status.ok()) {
    fs_->Remove(temporary).IgnoreError();
    return status;
  }
  DropOldest();
  return fs_->SyncDirectory(directory_);
}

absl::Status WeightsCache::WriteFile(const std::string& path,
                                     absl::string_view key,
                                     absl::Span<const std::byte> arena,
                                     const std::atomic<bool>* stop) const {
  DESCANT_ASSIGN_OR_RETURN(const auto file, fs_->Create(path));
  std::vector<uint32_t> checksums(ChunksOf(arena.size()));
  for (uint64_t i = 0; i < checksums.size(); ++i) {
    checksums[i] = Crc32c(ChunkOf(arena, i));
  }
  std::string header = EncodeHeader(key, arena.size(), checksums);
  header.resize(DataOffset(header.size()));
  DESCANT_RETURN_IF_ERROR(file->Append(header));
  for (uint64_t i = 0; i < checksums.size(); ++i) {
    if (stop->load(std::memory_order_relaxed)) {
      return absl::CancelledError("packed weights: stopped");
    }
    DESCANT_RETURN_IF_ERROR(file->Append(ChunkOf(arena, i)));
  }
  return file->Sync();
}

// Links and folders are not ours and stay.
void WeightsCache::DropOldest() const {
  const auto entries = fs_->ListDirectory(directory_);
  if (!entries.ok()) return;
  std::vector<std::pair<stdfs::file_time_type, std::string>> files;
  const auto now = stdfs::file_time_type::clock::now();
  for (const DirectoryEntry& entry : *entries) {
    const std::string path = absl::StrCat(directory_, "/", entry.name);
    std::error_code error;
    const auto time = stdfs::last_write_time(path, error);
    if (error || !entry.is_file) continue;
    if (absl::EndsWith(entry.name, kTemporary) && now - time > kAbandoned) {
      fs_->Remove(path).IgnoreError();
    } else if (absl::EndsWith(entry.name, kSuffix)) {
      files.emplace_back(time, path);
    }
  }
  std::sort(files.begin(), files.end());
  for (size_t i = 0; i + kCachedWeights < files.size(); ++i) {
    fs_->Remove(files[i].second).IgnoreError();
  }
}

std::string DefaultWeightsCache() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') {
    return absl::StrCat(cache, "/descant");
  }
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') {
    return absl::StrCat(home, "/.cache/descant");
  }
  return "";
}

}  // namespace descant
