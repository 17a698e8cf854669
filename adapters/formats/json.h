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
  explicit JsonValue(bool value) : kind_(kBool), integer_(value ? 1 : 0) {}
  explicit JsonValue(uint64_t value) : kind_(kUnsigned), integer_(value) {}
  explicit JsonValue(int64_t value)
      : kind_(kNegative), integer_(static_cast<uint64_t>(value)) {}
  explicit JsonValue(double value) : kind_(kFloat), float_(value) {}
  explicit JsonValue(std::string value)
      : kind_(kString), string_(std::move(value)) {}
  explicit JsonValue(Array value) : kind_(kArray), array_(std::move(value)) {}
  explicit JsonValue(Object value)
      : kind_(kObject), object_(std::move(value)) {}

  Kind kind() const { return kind_; }
  bool is_null() const { return kind() == kNull; }
  bool is_number() const {
    return kind() == kUnsigned || kind() == kNegative || kind() == kFloat;
  }

  // Meaningful for the matching kind; else zero or empty.
  bool boolean() const { return integer_ != 0; }
  uint64_t unsigned_integer() const { return integer_; }
  int64_t negative_integer() const { return static_cast<int64_t>(integer_); }
  const std::string& string() const { return string_; }
  const Array& array() const { return array_; }
  const Object& object() const { return object_; }
  Array& array() { return array_; }
  Object& object() { return object_; }
  // REQUIRES: is_number().
  double number() const;

  // The member of that name, or null.
  const JsonValue* Find(absl::string_view key) const;

 private:
  Kind kind_ = kNull;
  uint64_t integer_ = 0;
  double float_ = 0;
  std::string string_;
  Array array_;
  Object object_;
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
