// Typed members of one object of a config.json.
#ifndef DESCANT_RUNTIME_MODEL_HF_OBJECT_READER_H_
#define DESCANT_RUNTIME_MODEL_HF_OBJECT_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "adapters/formats/json.h"

namespace descant {

// Keeps the first violation as INVALID_ARGUMENT, one line that starts with
// `path`; then values are those for a missing key. The object and the path
// must outlive it. A missing key and null are the same unless said otherwise.
class ObjectReader {
 public:
  // `object` may be null: it has no members.
  ObjectReader(const JsonValue* object, absl::string_view path)
      : object_(object), path_(path) {}

  int32_t Int(absl::string_view key, int32_t missing);  // not negative
  float Float(absl::string_view key, float missing);
  bool Bool(absl::string_view key, bool missing);
  std::string String(absl::string_view key, absl::string_view missing);
  // Null where there is none.
  const JsonValue* Object(absl::string_view key);
  // Empty where there is none.
  std::vector<float> Floats(absl::string_view key);
  std::vector<std::string> Strings(absl::string_view key);

  bool Has(absl::string_view key) const { return Find(key) != nullptr; }
  // Is written down, as null.
  bool IsNull(absl::string_view key) const;
  // Fails unless Has.
  void Require(absl::string_view key);
  // Fails if `key` is true, or any number but 0, or not empty.
  void Refuse(absl::string_view key);

  void Fail(absl::string_view rule);
  // Of a reader of a part of this object.
  void Merge(const absl::Status& status) { status_.Update(status); }
  const absl::Status& status() const { return status_; }
  absl::string_view path() const { return path_; }

 private:
  const JsonValue* Find(absl::string_view key) const;

  const JsonValue* const object_;
  const absl::string_view path_;
  absl::Status status_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_HF_OBJECT_READER_H_
