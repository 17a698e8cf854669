#include "adapters/registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/error_reason.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

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

// The handle of a version that no request may use.
std::shared_ptr<const Adapter> HandleOf(const AdapterInfo& info) {
  auto adapter = std::make_shared<Adapter>();
  adapter->tenant = info.tenant;
  adapter->name = info.name;
  adapter->digest = info.digest;
  adapter->max_rank = info.max_rank;
  adapter->module_kinds = info.module_kinds;
  adapter->created_unix = info.created_unix;
  return adapter;
}

const AdapterLabels& LabelsOf(
    const std::shared_ptr<const AdapterLabels>& labels) {
  static const auto* none = new AdapterLabels;
  return labels == nullptr ? *none : *labels;
}

}  // namespace

absl::Status AdapterNotFound() {
  return ReasonedError(StatusCode::kNotFound, reason::kAdapterNotFound,
                       "no adapter of that name", "adapter_id");
}

std::shared_ptr<const std::string> AdapterRegistry::TextPool::Intern(
    absl::string_view text) {
  const auto it = texts_.find(text);
  if (it != texts_.end()) return *it;
  if (texts_.size() >= sweep_at_) {
    for (auto next = texts_.begin(); next != texts_.end();) {
      next = next->use_count() == 1 ? texts_.erase(next) : std::next(next);
    }
    sweep_at_ = std::max<size_t>(16, 2 * texts_.size());
  }
  return *texts_.insert(std::make_shared<const std::string>(text)).first;
}

void AdapterRegistry::SetListener(Listener listener) {
  MutexLock lock(&mutex_);
  listener_ = std::move(listener);
}

AdapterRegistry::Version AdapterRegistry::Pack(RegistryEntry entry) {
  AdapterInfo& info = entry.info;
  Version version;
  version.adapter =
      entry.adapter != nullptr ? std::move(entry.adapter) : HandleOf(info);
  version.base_fingerprint = texts_.Intern(info.base_fingerprint);
  version.base_model_name = texts_.Intern(info.base_model_name);
  if (!info.labels.empty()) {
    version.labels =
        std::make_shared<const AdapterLabels>(std::move(info.labels));
  }
  version.number = info.version;
  version.file_bytes = info.file_bytes;
  version.parameters = info.parameters;
  version.num_modules = info.num_modules;
  version.state = entry.state;
  return version;
}

RegistryEntry AdapterRegistry::Unpack(const Version& version) {
  const Adapter& adapter = *version.adapter;
  RegistryEntry entry;
  entry.info.tenant = adapter.tenant;
  entry.info.name = adapter.name;
  entry.info.digest = adapter.digest;
  entry.info.version = version.number;
  entry.info.file_bytes = version.file_bytes;
  entry.info.max_rank = adapter.max_rank;
  entry.info.num_modules = version.num_modules;
  entry.info.module_kinds = adapter.module_kinds;
  entry.info.parameters = version.parameters;
  entry.info.base_fingerprint = *version.base_fingerprint;
  entry.info.base_model_name = *version.base_model_name;
  entry.info.created_unix = adapter.created_unix;
  entry.info.labels = LabelsOf(version.labels);
  entry.state = version.state;
  if (version.state == AdapterState::kReady) entry.adapter = version.adapter;
  return entry;
}

const AdapterRegistry::History* AdapterRegistry::FindLocked(
    absl::string_view tenant, absl::string_view name) const {
  const auto owner = tenants_.find(tenant);
  if (owner == tenants_.end()) return nullptr;
  const auto it = owner->second.names.find(name);
  return it == owner->second.names.end() ? nullptr : &it->second;
}

const AdapterRegistry::Version* AdapterRegistry::FindVersionLocked(
    absl::string_view tenant, const AdapterId& id) const {
  const absl::string_view owner = id.owner.empty() ? tenant : id.owner;
  if (owner != tenant && !MayUseLocked(tenant, owner, id.name)) return nullptr;
  const History* history = FindLocked(owner, id.name);
  if (history == nullptr) return nullptr;
  if (id.digest.empty()) return &history->front();
  const auto it = std::find_if(
      history->begin(), history->end(),
      [&id](const Version& v) { return v.adapter->digest == id.digest; });
  return it == history->end() ? nullptr : &*it;
}

void AdapterRegistry::CountVersion(Tenant* tenant, const Version& version,
                                   int sign) {
  for (Usage* usage : {&tenant->usage, &total_}) {
    usage->versions += sign;
    usage->file_bytes += sign > 0 ? version.file_bytes : -version.file_bytes;
    if (version.state == AdapterState::kCorrupt) usage->damaged += sign;
  }
}

void AdapterRegistry::CountName(Tenant* tenant, int sign) {
  tenant->usage.adapters += sign;
  total_.adapters += sign;
}

void AdapterRegistry::Notify(RegistryChange change, const Version& version) {
  if (listener_) listener_(change, Unpack(version));
}

absl::StatusOr<PublishOutcome> AdapterRegistry::CheckLocked(
    const AdapterInfo& info, const PublishCondition& condition) const {
  const History* history = FindLocked(info.tenant, info.name);
  const uint64_t current = history == nullptr ? 0 : history->front().number;
  if (condition.expected_version.has_value() &&
      (*condition.expected_version != current ||
       (current == 0 && history != nullptr))) {
    return ReasonedError(StatusCode::kAborted, reason::kAdapterVersionMismatch,
                         "the adapter's version is not the expected one",
                         "expected_version");
  }
  if (history == nullptr) return PublishOutcome::kCreated;
  const Version& version = history->front();
  const bool same_digest = version.adapter->digest == info.digest;
  if (same_digest && LabelsOf(version.labels) == info.labels) {
    return version.state == AdapterState::kReady
               ? PublishOutcome::kUnchanged
               : PublishOutcome::kReplaced;  // a repair
  }
  if (!condition.replace && !condition.expected_version.has_value()) {
    return ReasonedError(StatusCode::kAlreadyExists, reason::kAdapterExists,
                         same_digest
                             ? "the name has other labels; ask to replace it"
                             : "the name has another version; ask to replace "
                               "it",
                         "name");
  }
  return PublishOutcome::kReplaced;
}

absl::StatusOr<PublishOutcome> AdapterRegistry::CheckPublish(
    const AdapterInfo& info, const PublishCondition& condition) const {
  MutexLock lock(&mutex_);
  return CheckLocked(info, condition);
}

void AdapterRegistry::PutLocked(RegistryEntry entry, size_t keep,
                                History* dropped) {
  DESCANT_CHECK(keep > 0);
  Tenant& tenant = tenants_[entry.info.tenant];
  History& history = tenant.names[entry.info.name];
  if (history.empty()) CountName(&tenant, 1);
  history.insert(history.begin(), Pack(std::move(entry)));
  CountVersion(&tenant, history.front(), 1);
  while (history.size() > keep) {
    CountVersion(&tenant, history.back(), -1);
    dropped->push_back(std::move(history.back()));
    history.pop_back();
  }
  if (history.size() == 1) history.shrink_to_fit();
  Notify(RegistryChange::kPublished, history.front());
}

void AdapterRegistry::Put(RegistryEntry entry, size_t keep,
                          std::vector<RegistryEntry>* trimmed) {
  History dropped;  // destroyed outside the lock
  MutexLock lock(&mutex_);
  PutLocked(std::move(entry), keep, &dropped);
  if (trimmed == nullptr) return;
  for (const Version& version : dropped) trimmed->push_back(Unpack(version));
}

absl::StatusOr<PublishOutcome> AdapterRegistry::Publish(
    RegistryEntry entry, const PublishCondition& condition, size_t keep) {
  History dropped;  // destroyed outside the lock
  MutexLock lock(&mutex_);
  DESCANT_ASSIGN_OR_RETURN(const PublishOutcome outcome,
                           CheckLocked(entry.info, condition));
  if (outcome != PublishOutcome::kUnchanged) {
    PutLocked(std::move(entry), keep, &dropped);
  }
  return outcome;
}

absl::StatusOr<std::shared_ptr<const Adapter>> AdapterRegistry::Lookup(
    absl::string_view tenant, const AdapterId& id) const {
  MutexLock lock(&mutex_);
  const Version* version = FindVersionLocked(tenant, id);
  if (version == nullptr) return AdapterNotFound();
  switch (version->state) {
    case AdapterState::kReady:
      return version->adapter;
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
  return Find(tenant, {std::string(name), ""});
}

absl::StatusOr<RegistryEntry> AdapterRegistry::Find(absl::string_view tenant,
                                                    const AdapterId& id) const {
  MutexLock lock(&mutex_);
  const Version* version = FindVersionLocked(tenant, id);
  if (version == nullptr) return AdapterNotFound();
  return Unpack(*version);
}

absl::StatusOr<std::vector<RegistryEntry>> AdapterRegistry::Versions(
    absl::string_view tenant, absl::string_view name) const {
  MutexLock lock(&mutex_);
  const History* history = FindLocked(tenant, name);
  if (history == nullptr) return AdapterNotFound();
  std::vector<RegistryEntry> entries;
  for (const Version& version : *history) entries.push_back(Unpack(version));
  return entries;
}

std::vector<AdapterInfo> AdapterRegistry::AllVersions() const {
  std::vector<AdapterInfo> infos;
  MutexLock lock(&mutex_);
  infos.reserve(static_cast<size_t>(total_.versions));
  for (const auto& [name, tenant] : tenants_) {
    for (const auto& [adapter, history] : tenant.names) {
      for (const Version& version : history) {
        infos.push_back(Unpack(version).info);
      }
    }
  }
  return infos;
}

std::optional<RegistryEntry> AdapterRegistry::NextVersion(
    absl::string_view tenant, absl::string_view name, uint64_t version) const {
  MutexLock lock(&mutex_);
  for (auto owner = tenants_.lower_bound(tenant); owner != tenants_.end();
       ++owner) {
    const auto& names = owner->second.names;
    const bool same_tenant = owner->first == tenant;
    for (auto it = same_tenant ? names.lower_bound(name) : names.begin();
         it != names.end(); ++it) {
      const bool same_name = same_tenant && it->first == name;
      for (const Version& next : it->second) {
        if (!same_name || next.number < version) return Unpack(next);
      }
    }
  }
  return std::nullopt;
}

absl::Status AdapterRegistry::Remove(absl::string_view tenant,
                                     absl::string_view name,
                                     std::vector<RegistryEntry>* removed) {
  History dropped;  // destroyed outside the lock
  MutexLock lock(&mutex_);
  const auto owner = tenants_.find(tenant);
  if (owner == tenants_.end()) return AdapterNotFound();
  const auto it = owner->second.names.find(name);
  if (it == owner->second.names.end()) return AdapterNotFound();
  dropped = std::move(it->second);
  owner->second.names.erase(it);
  shared_.erase(absl::StrCat(tenant, "/", name));
  CountName(&owner->second, -1);
  for (const Version& version : dropped) {
    CountVersion(&owner->second, version, -1);
    if (removed != nullptr) removed->push_back(Unpack(version));
  }
  Notify(RegistryChange::kDeleted, dropped.front());
  if (owner->second.names.empty()) tenants_.erase(owner);
  return absl::OkStatus();
}

void AdapterRegistry::QuarantineLocked(
    absl::string_view tenant,
    const std::function<bool(const Adapter&)>& damaged) {
  const auto owner = tenants_.find(tenant);
  if (owner == tenants_.end()) return;
  for (auto& [name, history] : owner->second.names) {
    for (Version& version : history) {
      if (version.state == AdapterState::kCorrupt) continue;
      if (!damaged(*version.adapter)) continue;
      CountVersion(&owner->second, version, -1);
      version.state = AdapterState::kCorrupt;
      CountVersion(&owner->second, version, 1);
      Notify(RegistryChange::kStateChanged, version);
    }
  }
}

void AdapterRegistry::Quarantine(const Adapter& adapter) {
  MutexLock lock(&mutex_);
  QuarantineLocked(adapter.tenant, [&adapter](const Adapter& other) {
    return &other == &adapter ||
           (adapter.source != nullptr && other.source == adapter.source);
  });
}

void AdapterRegistry::Quarantine(absl::string_view tenant,
                                 const AdapterSource* source) {
  MutexLock lock(&mutex_);
  QuarantineLocked(tenant, [source](const Adapter& adapter) {
    return source != nullptr && adapter.source.get() == source;
  });
}

void AdapterRegistry::Restore(
    absl::string_view tenant, absl::string_view digest,
    const std::shared_ptr<const AdapterSource>& source, uint64_t file_bytes,
    absl::string_view base_fingerprint) {
  std::vector<std::shared_ptr<const Adapter>> dropped;  // outside the lock
  MutexLock lock(&mutex_);
  const auto owner = tenants_.find(tenant);
  if (owner == tenants_.end()) return;
  for (auto& [name, history] : owner->second.names) {
    for (Version& version : history) {
      if (version.state != AdapterState::kCorrupt ||
          version.adapter->digest != digest) {
        continue;
      }
      auto adapter = std::make_shared<Adapter>(*version.adapter);
      adapter->source = source;
      dropped.push_back(std::exchange(version.adapter, std::move(adapter)));
      CountVersion(&owner->second, version, -1);
      version.file_bytes = file_bytes;
      version.state = *version.base_fingerprint == base_fingerprint
                          ? AdapterState::kReady
                          : AdapterState::kIncompatible;
      CountVersion(&owner->second, version, 1);
      Notify(RegistryChange::kStateChanged, version);
    }
  }
}

absl::StatusOr<size_t> AdapterRegistry::PageLimit(int32_t page_size) {
  if (page_size < 0 || page_size > kMaxPageSize) {
    return ReasonedError(StatusCode::kInvalidArgument, reason::kPageSizeInvalid,
                         absl::StrCat("page_size: want 0 to ", kMaxPageSize),
                         "page_size");
  }
  return page_size == 0 ? kDefaultPageSize : page_size;
}

absl::StatusOr<AdapterPage> AdapterRegistry::List(
    absl::string_view tenant, int32_t page_size,
    absl::string_view page_token) const {
  DESCANT_ASSIGN_OR_RETURN(const size_t limit, PageLimit(page_size));
  DESCANT_ASSIGN_OR_RETURN(const std::string after, ParsePageToken(page_token));
  AdapterPage page;
  MutexLock lock(&mutex_);
  const auto owner = tenants_.find(tenant);
  if (owner == tenants_.end()) return page;
  const auto& names = owner->second.names;
  page.total = names.size();
  for (auto it = names.upper_bound(after); it != names.end(); ++it) {
    if (page.entries.size() == limit) {
      page.next_page_token = PageToken(page.entries.back().info.name);
      break;
    }
    page.entries.push_back(Unpack(it->second.front()));
  }
  return page;
}

AdapterRegistry::Usage AdapterRegistry::UsageOf(
    absl::string_view tenant) const {
  MutexLock lock(&mutex_);
  const auto owner = tenants_.find(tenant);
  return owner == tenants_.end() ? Usage() : owner->second.usage;
}

AdapterRegistry::Usage AdapterRegistry::TotalUsage() const {
  MutexLock lock(&mutex_);
  return total_;
}

}  // namespace descant
