// A set of byte strings with values, walked byte by byte.
#ifndef DESCANT_RUNTIME_TOKENIZER_BYTE_TRIE_H_
#define DESCANT_RUNTIME_TOKENIZER_BYTE_TRIE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace descant {

// Thread-safe once filled.
class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0;
  static constexpr int32_t kNone = -1;

  ByteTrie() : values_(1, kNone) {}

  // Node of `key`; creates what is missing. REQUIRES: fewer than 2^32 bytes in
  // all keys.
  uint32_t Insert(absl::string_view key);
  // The value of a node, kNone where no key ends.
  int32_t value(uint32_t node) const { return values_[node]; }
  void set_value(uint32_t node, int32_t value) { values_[node] = value; }

  // Steps from `*node` along `byte`; false: there is no such key.
  bool Step(char byte, uint32_t* node) const {
    const auto it = edges_.find(Edge(*node, byte));
    if (it == edges_.end()) return false;
    *node = it->second;
    return true;
  }

 private:
  static uint64_t Edge(uint32_t node, char byte) {
    return static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(byte);
  }

  absl::flat_hash_map<uint64_t, uint32_t> edges_;
  std::vector<int32_t> values_;  // by node
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_BYTE_TRIE_H_
