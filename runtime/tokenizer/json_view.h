// Typed access to tokenizer files: nlohmann's getters throw, these return a
// Status that names the field. Private to this folder.
#ifndef DESCANT_RUNTIME_TOKENIZER_JSON_VIEW_H_
#define DESCANT_RUNTIME_TOKENIZER_JSON_VIEW_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

using Json = nlohmann::json;

// INVALID_ARGUMENT naming `file` when `text` is not one JSON object.
absl::StatusOr<Json> ParseJsonObject(absl::string_view text,
                                     absl::string_view file);

// All take an object (other kinds have no members) and the name of a member.
// Missing and null members are the same.

// Null when missing.
const Json* Member(const Json& object, const char* name);

// The default when missing; INVALID_ARGUMENT when of another type.
absl::StatusOr<bool> BoolOr(const Json& object, const char* name, bool missing);
absl::StatusOr<std::string> StringOr(const Json& object, const char* name,
                                     absl::string_view missing);

// INVALID_ARGUMENT when missing or of another type.
absl::StatusOr<std::string> String(const Json& object, const char* name);
absl::StatusOr<const Json*> Array(const Json& object, const char* name);
absl::StatusOr<const Json*> Object(const Json& object, const char* name);

// A token id: an integer in [0, TokenTable::kMaxSize).
absl::StatusOr<int32_t> TokenIdFrom(const Json& value, absl::string_view what);

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_JSON_VIEW_H_
