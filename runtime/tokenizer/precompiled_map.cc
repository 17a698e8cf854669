#include "runtime/tokenizer/precompiled_map.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {
namespace {

// Longer clusters are looked up by characters only.
constexpr size_t kMaxCluster = 6;

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("precompiled_charsmap: ", what));
}

uint32_t ReadUint32(absl::string_view bytes, size_t offset) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |=
        static_cast<uint32_t>(static_cast<unsigned char>(bytes[offset + i]))
        << (8 * i);
  }
  return value;
}

// The fields of a Darts-clone unit.
bool HasLeaf(uint32_t unit) { return ((unit >> 8) & 1) == 1; }
uint32_t Value(uint32_t unit) { return unit & 0x7fffffff; }
uint32_t Label(uint32_t unit) { return unit & 0x800000ff; }
size_t Offset(uint32_t unit) {
  return static_cast<size_t>(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

// Length of the grapheme cluster that `text` begins with.
size_t ClusterLength(absl::string_view text) {
  Utf8Step step = NextUtf8(text);
  size_t length = step.length;
  utf8proc_int32_t state = 0;
  auto previous = static_cast<utf8proc_int32_t>(step.code_point);
  while (length < text.size()) {
    step = NextUtf8(text.substr(length));
    const auto next = static_cast<utf8proc_int32_t>(step.code_point);
    if (utf8proc_grapheme_break_stateful(previous, next, &state)) break;
    length += step.length;
    previous = next;
  }
  return length;
}

}  // namespace

absl::StatusOr<PrecompiledMap> PrecompiledMap::Parse(absl::string_view bytes) {
  if (bytes.size() < 4) return Malformed("no trie");
  const size_t trie_bytes = ReadUint32(bytes, 0);
  bytes.remove_prefix(4);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > bytes.size()) {
    return Malformed("the trie's size is wrong");
  }
  PrecompiledMap map;
  map.units_.resize(trie_bytes / 4);
  for (size_t i = 0; i < map.units_.size(); ++i) {
    map.units_[i] = ReadUint32(bytes, 4 * i);
  }
  map.replacements_ = std::string(bytes.substr(trie_bytes));
  if (!IsValidUtf8(map.replacements_)) {
    return Malformed("a replacement is not UTF-8");
  }
  return map;
}

std::optional<absl::string_view> PrecompiledMap::Find(
    absl::string_view chunk) const {
  size_t node = Offset(units_[0]);
  for (const char c : chunk) {
    const auto label = static_cast<unsigned char>(c);
    if (label == 0) return std::nullopt;
    node ^= label;
    if (node >= units_.size() || Label(units_[node]) != label) {
      return std::nullopt;
    }
    const uint32_t unit = units_[node];
    node ^= Offset(unit);
    if (node >= units_.size()) return std::nullopt;
    if (!HasLeaf(unit)) continue;
    const size_t begin = Value(units_[node]);
    if (begin > replacements_.size()) return std::nullopt;
    const absl::string_view rest =
        absl::string_view(replacements_).substr(begin);
    // Not into the middle of a character.
    if (!rest.empty() && (static_cast<unsigned char>(rest[0]) & 0xc0) == 0x80) {
      return std::nullopt;
    }
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

bool PrecompiledMap::Replace(absl::string_view chunk, std::string* out) const {
  const auto replacement = Find(chunk);
  if (!replacement.has_value()) return false;
  out->append(replacement->data(), replacement->size());
  return true;
}

absl::StatusOr<std::string> PrecompiledMap::Apply(absl::string_view text,
                                                  size_t limit,
                                                  size_t* origin_bytes) const {
  std::string out;
  out.reserve(text.size());
  size_t origin = 0;
  size_t position = 0;
  while (position < text.size()) {
    const absl::string_view cluster =
        text.substr(position, ClusterLength(text.substr(position)));
    position += cluster.size();
    if (cluster.size() >= kMaxCluster || !Replace(cluster, &out)) {
      for (size_t i = 0; i < cluster.size();) {
        const absl::string_view character =
            cluster.substr(i, NextUtf8(cluster.substr(i)).length);
        if (!Replace(character, &out)) {
          out.append(character.data(), character.size());
        }
        i += character.size();
        if (out.size() > limit) {
          return absl::InvalidArgumentError(
              "the tokenizer's normalizer makes the text too long");
        }
      }
    }
    if (*origin_bytes > 0 && origin == 0) origin = out.size();
    if (out.size() > limit) {
      return absl::InvalidArgumentError(
          "the tokenizer's normalizer makes the text too long");
    }
  }
  *origin_bytes = origin;
  return out;
}

}  // namespace descant
