#include "adapters/registry.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/error_reason.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

// One text for absent, foreign and deleted.
absl::Status NotFound() {
  return ReasonedError(StatusCode::kNotFound, reason::kAdapterNotFound,
                       "no adapter of that name", "adapter_id");
}

// A page token is the last name of the page, in hex behind a tag, so that it
// is opaque and a forged one is told from a real one.
constexpr absl::string_view kTokenTag = "p1-";

std::string PageToken(absl::string_view last_name) {
  return absl::StrCat(kTokenTag, absl::BytesToHexString(last_name));
}

absl::StatusOr<std::string> ParsePageToken(absl::string_view token) {
  if (token.empty()) return std::string();
  absl::string_view hex = token;
  std::string name;
  if (absl::ConsumePrefix(&hex, kTokenTag) && hex.size() <= 126) {
    name = absl::HexStringToBytes(hex);
  }
  if (!ParseAdapterId(name).ok() || PageToken(name) != token) {
    return ReasonedError(StatusCode::kInvalidArgument,
                         reason::kPageTokenInvalid, "page_token: not valid",
                         "page_token");
  }
  return name;
}

}  // namespace

absl::StatusOr<PublishOutcome> AdapterRegistry::CheckLocked(
    const Key& key, absl::string_view digest,
    const PublishCondition& condition) const {
  const auto it = entries_.find(key);
  const bool exists = it != entries_.end();
  if (condition.expected_digest.has_value() &&
      *condition.expected_digest != (exists ? it->second.info.digest : "")) {
    return ReasonedError(StatusCode::kAborted, reason::kAdapterVersionMismatch,
                         "the adapter's version is not the expected one",
                         "expected_digest");
  }
  if (!exists) return PublishOutcome::kCreated;
  if (it->second.info.digest == digest) {
    return it->second.state == AdapterState::kReady
               ? PublishOutcome::kUnchanged
               : PublishOutcome::kReplaced;  // a repair
  }
  if (!condition.replace && !condition.expected_digest.has_value()) {
    return ReasonedError(StatusCode::kAlreadyExists, reason::kAdapterExists,
                         "the name has another version; ask to replace it",
                         "name");
  }
  return PublishOutcome::kReplaced;
}

absl::StatusOr<PublishOutcome> AdapterRegistry::CheckPublish(
    absl::string_view tenant, absl::string_view name, absl::string_view digest,
    const PublishCondition& condition) const {
  MutexLock lock(&mutex_);
  return CheckLocked(Key(tenant, name), digest, condition);
}

absl::StatusOr<PublishOutcome> AdapterRegistry::Publish(
    RegistryEntry entry, const PublishCondition& condition) {
  Key key(entry.info.tenant, entry.info.name);
  // The replaced version is destroyed outside the lock.
  RegistryEntry replaced;
  MutexLock lock(&mutex_);
  DESCANT_ASSIGN_OR_RETURN(const PublishOutcome outcome,
                           CheckLocked(key, entry.info.digest, condition));
  if (outcome != PublishOutcome::kUnchanged) {
    RegistryEntry& place = entries_[std::move(key)];
    replaced = std::move(place);
    place = std::move(entry);
  }
  return outcome;
}

absl::StatusOr<std::shared_ptr<const Adapter>> AdapterRegistry::Lookup(
    absl::string_view tenant, const AdapterId& id) const {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(Key(tenant, id.name));
  if (it == entries_.end()) return NotFound();
  const RegistryEntry& entry = it->second;
  if (!id.digest.empty() && id.digest != entry.info.digest) return NotFound();
  switch (entry.state) {
    case AdapterState::kReady:
      return entry.adapter;
    case AdapterState::kIncompatible:
      return ReasonedError(
          StatusCode::kFailedPrecondition, reason::kAdapterIncompatible,
          "the adapter was made for another base model", "adapter_id");
    case AdapterState::kCorrupt:
      break;
  }
  return ReasonedError(StatusCode::kDataLoss, reason::kAdapterDataLoss,
                       "the adapter's stored bytes are damaged", "adapter_id");
}

absl::StatusOr<RegistryEntry> AdapterRegistry::Get(
    absl::string_view tenant, absl::string_view name) const {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(Key(tenant, name));
  if (it == entries_.end()) return NotFound();
  return it->second;
}

absl::Status AdapterRegistry::Remove(absl::string_view tenant,
                                     absl::string_view name) {
  RegistryEntry removed;
  MutexLock lock(&mutex_);
  const auto it = entries_.find(Key(tenant, name));
  if (it == entries_.end()) return NotFound();
  removed = std::move(it->second);
  entries_.erase(it);
  return absl::OkStatus();
}

void AdapterRegistry::Quarantine(const Adapter& adapter) {
  std::shared_ptr<const Adapter> dropped;  // destroyed outside the lock
  MutexLock lock(&mutex_);
  const auto it = entries_.find(Key(adapter.tenant, adapter.name));
  if (it == entries_.end() || it->second.adapter.get() != &adapter) return;
  it->second.state = AdapterState::kCorrupt;
  dropped = std::move(it->second.adapter);
}

absl::StatusOr<AdapterPage> AdapterRegistry::List(
    absl::string_view tenant, int32_t page_size,
    absl::string_view page_token) const {
  if (page_size < 0 || page_size > kMaxPageSize) {
    return ReasonedError(StatusCode::kInvalidArgument, reason::kPageSizeInvalid,
                         absl::StrCat("page_size: want 0 to ", kMaxPageSize),
                         "page_size");
  }
  DESCANT_ASSIGN_OR_RETURN(const std::string after, ParsePageToken(page_token));
  const size_t limit = page_size == 0 ? kDefaultPageSize : page_size;
  AdapterPage page;
  MutexLock lock(&mutex_);
  auto it = entries_.upper_bound(Key(tenant, after));
  for (; it != entries_.end() && it->first.first == tenant; ++it) {
    if (page.entries.size() == limit) {
      page.next_page_token = PageToken(page.entries.back().info.name);
      break;
    }
    page.entries.push_back(it->second);
  }
  return page;
}

AdapterRegistry::Usage AdapterRegistry::UsageOf(
    absl::string_view tenant) const {
  Usage usage;
  MutexLock lock(&mutex_);
  for (auto it = entries_.lower_bound(Key(tenant, ""));
       it != entries_.end() && it->first.first == tenant; ++it) {
    ++usage.adapters;
    usage.file_bytes += it->second.info.file_bytes;
  }
  return usage;
}

AdapterRegistry::Usage AdapterRegistry::TotalUsage() const {
  Usage usage;
  MutexLock lock(&mutex_);
  for (const auto& [key, entry] : entries_) {
    ++usage.adapters;
    usage.file_bytes += entry.info.file_bytes;
  }
  return usage;
}

}  // namespace descant
