#include "runtime/tokenizer/json_view.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/tokenizer_parts.h"

namespace descant {
namespace {

absl::Status WrongType(absl::string_view name, absl::string_view type) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name, "\" must be ", type));
}

}  // namespace

absl::StatusOr<Json> ParseJsonObject(absl::string_view text,
                                     absl::string_view file) {
  // The parser keeps its own stack on the heap, and so does the destructor.
  Json json = Json::parse(text.begin(), text.end(), nullptr,
                          /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " is not a JSON object"));
  }
  return json;
}

const Json* Member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<bool> BoolOr(const Json& object, const char* name,
                            bool missing) {
  const Json* value = Member(object, name);
  if (value == nullptr) return missing;
  if (!value->is_boolean()) return WrongType(name, "a boolean");
  return value->get<bool>();
}

absl::StatusOr<std::string> StringOr(const Json& object, const char* name,
                                     absl::string_view missing) {
  const Json* value = Member(object, name);
  if (value == nullptr) return std::string(missing);
  if (!value->is_string()) return WrongType(name, "a string");
  return value->get<std::string>();
}

absl::StatusOr<std::string> String(const Json& object, const char* name) {
  const Json* value = Member(object, name);
  if (value == nullptr || !value->is_string()) {
    return WrongType(name, "a string");
  }
  return value->get<std::string>();
}

absl::StatusOr<const Json*> Array(const Json& object, const char* name) {
  const Json* value = Member(object, name);
  if (value == nullptr || !value->is_array()) {
    return WrongType(name, "an array");
  }
  return value;
}

absl::StatusOr<const Json*> Object(const Json& object, const char* name) {
  const Json* value = Member(object, name);
  if (value == nullptr || !value->is_object()) {
    return WrongType(name, "an object");
  }
  return value;
}

absl::StatusOr<int32_t> TokenIdFrom(const Json& value, absl::string_view what) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() >= static_cast<uint64_t>(TokenTable::kMaxSize)) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a token id must be an integer in [0, ",
                     TokenTable::kMaxSize, ")"));
  }
  return value.get<int32_t>();
}

}  // namespace descant
