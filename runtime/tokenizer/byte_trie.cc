#include "runtime/tokenizer/byte_trie.h"

namespace descant {

uint32_t ByteTrie::Insert(absl::string_view key) {
  uint32_t node = kRoot;
  for (const char c : key) {
    const auto [it, inserted] = edges_.try_emplace(
        Edge(node, c), static_cast<uint32_t>(values_.size()));
    if (inserted) values_.push_back(kNone);
    node = it->second;
  }
  return node;
}

}  // namespace descant
