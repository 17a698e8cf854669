#include "adapters/content_digest.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "adapters/peft_config.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

// As wide as any server's: these bytes were accepted once.
SafetensorsLimits WideLimits() {
  SafetensorsLimits limits;
  limits.max_header_bytes = 16 << 20;
  limits.max_tensors = 1 << 17;
  return limits;
}

}  // namespace

bool ContentDigest::Take(uint64_t total, absl::Span<const char>* chunk) {
  if (header_.size() < total) {
    const size_t taken =
        std::min<uint64_t>(total - header_.size(), chunk->size());
    header_.append(chunk->data(), taken);
    chunk->remove_prefix(taken);
  }
  return header_.size() >= total;
}

absl::Status ContentDigest::Append(absl::Span<const char> chunk) {
  if (chunk.size() > size_ - received_) {
    return absl::InvalidArgumentError("more bytes than declared");
  }
  received_ += chunk.size();
  if (!header_done_) DESCANT_RETURN_IF_ERROR(ConsumeHeader(&chunk));
  while (!chunk.empty()) ConsumeTensor(&chunk);
  return absl::OkStatus();
}

absl::Status ContentDigest::ConsumeHeader(absl::Span<const char>* chunk) {
  if (!Take(kSafetensorsPrefixBytes, chunk)) return absl::OkStatus();
  const absl::Span<const char> head = absl::MakeConstSpan(header_);
  DESCANT_ASSIGN_OR_RETURN(
      const uint64_t length,
      ParseSafetensorsPrefix(head.subspan(0, kSafetensorsPrefixBytes), size_,
                             WideLimits()));
  if (!Take(kSafetensorsPrefixBytes + length, chunk)) return absl::OkStatus();
  DESCANT_ASSIGN_OR_RETURN(
      index_, ParseSafetensorsHeader(
                  absl::MakeConstSpan(header_).subspan(kSafetensorsPrefixBytes),
                  size_, WideLimits()));
  header_done_ = true;
  position_ = header_.size();
  std::string().swap(header_);
  hashes_.resize(index_.tensors.size());
  file_order_.resize(index_.tensors.size());
  std::iota(file_order_.begin(), file_order_.end(), size_t{0});
  std::sort(file_order_.begin(), file_order_.end(), [this](size_t a, size_t b) {
    return index_.tensors[a].begin < index_.tensors[b].begin;
  });
  return absl::OkStatus();
}

// The layout has no holes, and no tensor is empty.
void ContentDigest::ConsumeTensor(absl::Span<const char>* chunk) {
  const size_t current = file_order_[next_];
  const SafetensorsTensor& tensor = index_.tensors[current];
  if (position_ == tensor.begin) hash_.emplace();
  const size_t taken =
      std::min<uint64_t>(tensor.end - position_, chunk->size());
  hash_->Update(chunk->subspan(0, taken));
  chunk->remove_prefix(taken);
  position_ += taken;
  if (position_ == tensor.end) {
    hashes_[current] = hash_->Finish();
    ++next_;
  }
}

absl::StatusOr<std::string> ContentDigest::Finish() {
  if (received_ < size_ || !header_done_) {
    return absl::InvalidArgumentError("fewer bytes than declared");
  }
  DESCANT_ASSIGN_OR_RETURN(const PeftConfig config,
                           ParsePeftConfig(config_json_, kMaxRank));
  return AdapterDigest(CanonicalConfig(config), index_, hashes_,
                       base_fingerprint_);
}

}  // namespace descant
