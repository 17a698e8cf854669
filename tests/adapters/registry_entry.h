// An entry of the registry without an adapter's content.
#ifndef DESCANT_TESTS_ADAPTERS_REGISTRY_ENTRY_H_
#define DESCANT_TESTS_ADAPTERS_REGISTRY_ENTRY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "adapters/registry.h"

namespace descant {

inline RegistryEntry MakeEntry(const std::string& tenant,
                               const std::string& name,
                               const std::string& digest,
                               uint64_t version = 1) {
  auto adapter = std::make_shared<Adapter>();
  adapter->tenant = tenant;
  adapter->name = name;
  adapter->digest = digest;
  RegistryEntry entry;
  entry.info.tenant = tenant;
  entry.info.name = name;
  entry.info.digest = digest;
  entry.info.version = version;
  entry.info.file_bytes = 10;
  entry.adapter = adapter;
  return entry;
}

}  // namespace descant

#endif  // DESCANT_TESTS_ADAPTERS_REGISTRY_ENTRY_H_
