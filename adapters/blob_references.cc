#include "adapters/blob_references.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace descant {

Sha256Digest BlobReferences::KeyOf(absl::string_view tenant,
                                   absl::string_view digest) {
  // Digests have no NUL: no two pairs make the same text.
  return Sha256Of(absl::StrCat(digest, absl::string_view("\0", 1), tenant));
}

const BlobReferences::Reference* BlobReferences::Find(
    absl::string_view tenant, absl::string_view digest) const {
  const auto it = references_.find(KeyOf(tenant, digest));
  return it == references_.end() ? nullptr : &it->second;
}

std::shared_ptr<StoredTensors> BlobReferences::Add(absl::string_view tenant,
                                                   absl::string_view digest,
                                                   uint64_t bytes,
                                                   bool* first) {
  const Sha256Digest key = KeyOf(tenant, digest);
  Reference& reference = references_[key];
  if (reference.tensors == nullptr) {
    reference.tensors = std::make_shared<StoredTensors>(context_);
    reference.bytes = bytes;
  } else if (reference.versions == 0) {
    garbage_.erase(key);
    garbage_bytes_ -= reference.bytes;
  }
  *first = reference.versions++ == 0;
  return reference.tensors;
}

std::shared_ptr<StoredTensors> BlobReferences::Renew(absl::string_view tenant,
                                                     absl::string_view digest,
                                                     uint64_t bytes) {
  Reference& reference = references_.at(KeyOf(tenant, digest));
  if (reference.versions == 0) garbage_bytes_ += bytes - reference.bytes;
  reference.bytes = bytes;
  reference.tensors = std::make_shared<StoredTensors>(context_);
  return reference.tensors;
}

uint64_t BlobReferences::Remove(absl::string_view tenant,
                                absl::string_view digest, MonotonicTime now) {
  const Sha256Digest key = KeyOf(tenant, digest);
  const auto it = references_.find(key);
  DESCANT_CHECK(it != references_.end() && it->second.versions > 0);
  if (--it->second.versions > 0) return 0;
  garbage_[key] = {BlobPath(context_->blobs, tenant, digest), now};
  garbage_bytes_ += it->second.bytes;
  return it->second.bytes;
}

void BlobReferences::Collect(
    MonotonicTime since,
    const std::function<bool(const std::string&)>& remove) {
  for (auto next = garbage_.begin(); next != garbage_.end();) {
    const auto it = next++;
    const auto reference = references_.find(it->first);
    DESCANT_CHECK(reference != references_.end());
    // Nobody can get at the source anew: no version has it.
    if (it->second.since > since || reference->second.tensors.use_count() > 1 ||
        !remove(it->second.path)) {
      continue;
    }
    garbage_bytes_ -= reference->second.bytes;
    references_.erase(reference);
    garbage_.erase(it);
  }
}

}  // namespace descant
