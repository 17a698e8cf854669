// Names that tenants may use of others.
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/error_reason.h"
#include "adapters/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

// As the registry's other page tokens, of the last "owner/name".
constexpr absl::string_view kTokenTag = "s1-";
constexpr size_t kMaxTokenHex = 254;
// Names that are looked at in one hold of the lock.
constexpr int kScan = 1024;

std::string KeyOf(absl::string_view owner, absl::string_view name) {
  return absl::StrCat(owner, "/", name);
}

absl::StatusOr<std::string> ParsePageToken(absl::string_view token) {
  if (token.empty()) return std::string();
  absl::string_view hex = token;
  std::string key;
  if (absl::ConsumePrefix(&hex, kTokenTag) && hex.size() <= kMaxTokenHex) {
    key = absl::HexStringToBytes(hex);
  }
  const auto id = ParseQualifiedAdapterId(key);
  if (!id.ok() || id->owner.empty() ||
      absl::StrCat(kTokenTag, absl::BytesToHexString(key)) != token) {
    return ReasonedError(absl::StatusCode::kInvalidArgument,
                         reason::kPageTokenInvalid, "page_token: not valid",
                         "page_token");
  }
  return key;
}

}  // namespace

bool AdapterRegistry::MayUseLocked(absl::string_view tenant,
                                   absl::string_view owner,
                                   absl::string_view name) const {
  const auto it = shared_.find(KeyOf(owner, name));
  return it != shared_.end() && it->second.sharing.Includes(tenant);
}

absl::Status AdapterRegistry::Share(absl::string_view tenant,
                                    absl::string_view name,
                                    AdapterSharing sharing) {
  MutexLock lock(&mutex_);
  const History* history = FindLocked(tenant, name);
  if (history == nullptr) return AdapterNotFound();
  if (sharing.nobody()) {
    shared_.erase(KeyOf(tenant, name));
  } else {
    shared_[KeyOf(tenant, name)] = {tenant.size(), std::move(sharing)};
  }
  Notify(RegistryChange::kSharingChanged, history->front());
  return absl::OkStatus();
}

AdapterSharing AdapterRegistry::SharingOf(absl::string_view tenant,
                                          absl::string_view name) const {
  MutexLock lock(&mutex_);
  const auto it = shared_.find(KeyOf(tenant, name));
  return it == shared_.end() ? AdapterSharing() : it->second.sharing;
}

std::vector<SharedName> AdapterRegistry::AllShared() const {
  std::vector<SharedName> names;
  MutexLock lock(&mutex_);
  names.reserve(shared_.size());
  for (const auto& [key, shared] : shared_) {
    names.push_back({key.substr(0, shared.owner_bytes),
                     key.substr(shared.owner_bytes + 1), shared.sharing});
  }
  return names;
}

absl::StatusOr<AdapterPage> AdapterRegistry::ListShared(
    absl::string_view tenant, int32_t page_size,
    absl::string_view page_token) const {
  DESCANT_ASSIGN_OR_RETURN(const size_t limit, PageLimit(page_size));
  DESCANT_ASSIGN_OR_RETURN(const std::string after, ParsePageToken(page_token));
  AdapterPage page;
  std::string seen;  // the last key that was looked at
  std::string last;  // the last one of the page
  for (bool more = true; more;) {
    MutexLock lock(&mutex_);
    auto it = shared_.upper_bound(seen);
    for (int i = 0; i < kScan && it != shared_.end(); ++i, ++it) {
      seen = it->first;
      const absl::string_view key(seen);
      const absl::string_view owner = key.substr(0, it->second.owner_bytes);
      if (owner == tenant || !it->second.sharing.Includes(tenant)) continue;
      ++page.total;
      if (key <= after) continue;
      if (page.entries.size() == limit) {
        page.next_page_token =
            absl::StrCat(kTokenTag, absl::BytesToHexString(last));
        continue;
      }
      last = seen;
      const History* history = FindLocked(owner, key.substr(owner.size() + 1));
      DESCANT_CHECK(history != nullptr);
      page.entries.push_back(Unpack(history->front()));
    }
    more = it != shared_.end();
  }
  return page;
}

}  // namespace descant
