#include "adapters/store_scrubber.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace descant {
namespace {

constexpr uint64_t kPieceBytes = 256 << 10;

}  // namespace

StoreScrubber::StoreScrubber(AdapterStore* store, const Clock* clock,
                             const ScrubberOptions& options)
    : store_(store),
      clock_(clock),
      options_(options),
      last_tick_(clock->Now()),
      next_walk_(last_tick_) {}

StoreScrubber::Progress StoreScrubber::progress() const {
  MutexLock lock(&mutex_);
  return progress_;
}

void StoreScrubber::Tick() {
  const MonotonicTime now = clock_->Now();
  const auto rate = static_cast<double>(options_.bytes_per_second);
  allowance_ = std::min(
      rate,
      allowance_ + rate * ToSeconds(now - std::exchange(last_tick_, now)));
  if (now < next_walk_) return;
  while (allowance_ > 0) {
    if (files_ == nullptr && !OpenNext()) {
      tenant_.clear();
      name_.clear();
      version_ = 0;
      next_walk_ = now + options_.interval;
      MutexLock lock(&mutex_);
      ++progress_.walks;
      return;
    }
    allowance_ -= static_cast<double>(ReadPiece());
  }
}

bool StoreScrubber::OpenNext() {
  while (const std::optional<RegistryEntry> entry =
             store_->registry().NextVersion(tenant_, name_, version_)) {
    const AdapterInfo& info = entry->info;
    // A rollback's bytes are those of a neighbour.
    const bool read =
        info.tenant == tenant_ && info.name == name_ && info.digest == digest_;
    tenant_ = info.tenant;
    name_ = info.name;
    version_ = info.version;
    digest_ = info.digest;
    if (read || entry->state == AdapterState::kCorrupt) continue;
    auto files = store_->OpenFiles(*entry);
    if (files.ok()) {
      files_ = *std::move(files);
      offset_ = 0;
      return true;
    }
    End(files.status());
  }
  return false;
}

uint64_t StoreScrubber::ReadPiece() {
  const uint64_t count =
      std::min(kPieceBytes, files_->safetensors_bytes() - offset_);
  buffer_.resize(count);
  const absl::Status read = files_->Read(offset_, absl::MakeSpan(buffer_));
  offset_ += count;
  if (!read.ok()) {
    End(read);
  } else if (offset_ == files_->safetensors_bytes()) {
    End(files_->Finish());
  }
  MutexLock lock(&mutex_);
  progress_.bytes += count;
  return count;
}

void StoreScrubber::End(const absl::Status& status) {
  files_.reset();
  std::string().swap(buffer_);
  // Gone meanwhile, or not readable right now: nothing is known of it.
  if (!status.ok() && !absl::IsDataLoss(status)) return;
  MutexLock lock(&mutex_);
  ++progress_.versions;
  if (!status.ok()) ++progress_.damaged;
}

}  // namespace descant
