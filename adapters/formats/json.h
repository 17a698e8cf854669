// Strict, bounded JSON (RFC 8259) for untrusted text: caps on size, depth and
// number of values; duplicate keys, byte-order marks, NUL bytes, comments,
// trailing commas, invalid UTF-8 and numbers out of range are errors. Never
// recursive in the text's depth.
#ifndef DESCANT_ADAPTERS_FORMATS_JSON_H_
#define DESCANT_ADAPTERS_FORMATS_JSON_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

// A parsed value. Keeps the order of an object's members and tells integers
// from floats as they were written ("8" is kUnsigned, "8.0" and "8e0" are
// kFloat, "-8" is kNegative).
class JsonValue {
 public:
  using Member = std::pair<std::string, JsonValue>;
  using Array = std::vector<JsonValue>;
  using Object = std::vector<Member>;
  enum Kind {
    kNull,
    kBool,
    kUnsigned,
    kNegative,
    kFloat,
    kString,
    kArray,
    kObject
  };

  JsonValue() = default;
  template <typename T>
  explicit JsonValue(T value) : value_(std::move(value)) {}

  Kind kind() const { return static_cast<Kind>(value_.index()); }
  bool is_null() const { return kind() == kNull; }
  bool is_number() const {
    return kind() == kUnsigned || kind() == kNegative || kind() == kFloat;
  }

  // REQUIRES: the matching kind.
  bool boolean() const { return std::get<bool>(value_); }
  uint64_t unsigned_integer() const { return std::get<uint64_t>(value_); }
  int64_t negative_integer() const { return std::get<int64_t>(value_); }
  const std::string& string() const { return std::get<std::string>(value_); }
  const Array& array() const { return std::get<Array>(value_); }
  const Object& object() const { return std::get<Object>(value_); }
  Array& array() { return std::get<Array>(value_); }
  Object& object() { return std::get<Object>(value_); }
  // REQUIRES: is_number().
  double number() const;

  // The member of that name, or null. REQUIRES: kObject.
  const JsonValue* Find(absl::string_view key) const;

 private:
  std::variant<std::monostate, bool, uint64_t, int64_t, double, std::string,
               Array, Object>
      value_;
};

struct JsonLimits {
  size_t max_bytes = 64 << 10;
  int32_t max_depth = 16;      // nested arrays and objects
  int32_t max_values = 65536;  // all values, members included
};

// INVALID_ARGUMENT, message without any of the text. Reads `text` whole:
// anything but whitespace after the value is an error.
absl::StatusOr<JsonValue> ParseJson(absl::string_view text,
                                    const JsonLimits& limits);

// `text` as a quoted JSON string.
std::string JsonQuote(absl::string_view text);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_FORMATS_JSON_H_
