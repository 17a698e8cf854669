#include "runtime/model/hf_object_reader.h"

#include <limits>

#include "absl/strings/str_cat.h"

namespace descant {

const JsonValue* ObjectReader::Find(absl::string_view key) const {
  if (object_ == nullptr) return nullptr;
  const JsonValue* value = object_->Find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void ObjectReader::Fail(absl::string_view rule) {
  if (status_.ok()) {
    status_ = absl::InvalidArgumentError(absl::StrCat(path_, ": ", rule));
  }
}

int32_t ObjectReader::Int(absl::string_view key, int32_t missing) {
  const JsonValue* value = Find(key);
  if (value == nullptr) return missing;
  constexpr uint64_t kMax = std::numeric_limits<int32_t>::max();
  if (value->kind() == JsonValue::kUnsigned &&
      value->unsigned_integer() <= kMax) {
    return static_cast<int32_t>(value->unsigned_integer());
  }
  Fail(absl::StrCat(key, " must be an integer of at most ", kMax));
  return missing;
}

float ObjectReader::Float(absl::string_view key, float missing) {
  const JsonValue* value = Find(key);
  if (value == nullptr) return missing;
  if (value->is_number()) return static_cast<float>(value->number());
  Fail(absl::StrCat(key, " must be a number"));
  return missing;
}

bool ObjectReader::Bool(absl::string_view key, bool missing) {
  const JsonValue* value = Find(key);
  if (value == nullptr) return missing;
  if (value->kind() == JsonValue::kBool) return value->boolean();
  Fail(absl::StrCat(key, " must be true or false"));
  return missing;
}

std::string ObjectReader::String(absl::string_view key,
                                 absl::string_view missing) {
  const JsonValue* value = Find(key);
  if (value == nullptr) return std::string(missing);
  if (value->kind() == JsonValue::kString) return value->string();
  Fail(absl::StrCat(key, " must be a string"));
  return std::string(missing);
}

const JsonValue* ObjectReader::Object(absl::string_view key) {
  const JsonValue* value = Find(key);
  if (value == nullptr || value->kind() == JsonValue::kObject) return value;
  Fail(absl::StrCat(key, " must be an object"));
  return nullptr;
}

std::vector<float> ObjectReader::Floats(absl::string_view key) {
  const JsonValue* value = Find(key);
  std::vector<float> result;
  if (value == nullptr) return result;
  if (value->kind() == JsonValue::kArray) {
    for (const JsonValue& item : value->array()) {
      if (!item.is_number()) break;
      result.push_back(static_cast<float>(item.number()));
    }
    if (result.size() == value->array().size()) return result;
  }
  Fail(absl::StrCat(key, " must be a list of numbers"));
  return {};
}

std::vector<std::string> ObjectReader::Strings(absl::string_view key) {
  const JsonValue* value = Find(key);
  std::vector<std::string> result;
  if (value == nullptr) return result;
  if (value->kind() == JsonValue::kArray) {
    for (const JsonValue& item : value->array()) {
      if (item.kind() != JsonValue::kString) break;
      result.push_back(item.string());
    }
    if (result.size() == value->array().size()) return result;
  }
  Fail(absl::StrCat(key, " must be a list of strings"));
  return {};
}

bool ObjectReader::IsNull(absl::string_view key) const {
  if (object_ == nullptr) return false;
  const JsonValue* value = object_->Find(key);
  return value != nullptr && value->is_null();
}

void ObjectReader::Require(absl::string_view key) {
  if (!Has(key)) Fail(absl::StrCat(key, " is missing"));
}

void ObjectReader::Refuse(absl::string_view key) {
  const JsonValue* value = Find(key);
  if (value == nullptr) return;
  const bool inert = value->kind() == JsonValue::kBool ? !value->boolean()
                     : value->is_number()              ? value->number() == 0
                                                       : false;
  if (!inert) Fail(absl::StrCat(key, " is not supported"));
}

}  // namespace descant
