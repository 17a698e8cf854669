// What caches, slots and loads know an adapter by: its tenant and its digest,
// never its name.
#ifndef DESCANT_ADAPTERS_ADAPTER_KEY_H_
#define DESCANT_ADAPTERS_ADAPTER_KEY_H_

#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "adapters/adapter.h"

namespace descant {

// Tenant and digest, owned by somebody else.
struct AdapterKeyView {
  absl::string_view tenant;
  absl::string_view digest;
};

struct AdapterKey {
  std::string tenant;
  std::string digest;

  AdapterKey() = default;
  AdapterKey(std::string t, std::string d)
      : tenant(std::move(t)), digest(std::move(d)) {}
  explicit AdapterKey(const Adapter& adapter)
      : tenant(adapter.tenant), digest(adapter.digest) {}

  // NOLINTNEXTLINE(google-explicit-constructor): a view, as of a string
  operator AdapterKeyView() const { return {tenant, digest}; }
  friend bool operator==(const AdapterKey& a, const AdapterKey& b) {
    return a.digest == b.digest && a.tenant == b.tenant;
  }
};

inline AdapterKeyView KeyOf(const Adapter& adapter) {
  return {adapter.tenant, adapter.digest};
}

inline bool SameKey(AdapterKeyView a, AdapterKeyView b) {
  return a.digest == b.digest && a.tenant == b.tenant;
}

// Look-ups by view allocate nothing.
struct AdapterKeyHash {
  using is_transparent = void;
  size_t operator()(AdapterKeyView key) const {
    return absl::HashOf(key.tenant, key.digest);
  }
};
struct AdapterKeyEqual {
  using is_transparent = void;
  bool operator()(AdapterKeyView a, AdapterKeyView b) const {
    return SameKey(a, b);
  }
};

template <typename Value>
using AdapterKeyMap =
    absl::flat_hash_map<AdapterKey, Value, AdapterKeyHash, AdapterKeyEqual>;

}  // namespace descant

#endif  // DESCANT_ADAPTERS_ADAPTER_KEY_H_
