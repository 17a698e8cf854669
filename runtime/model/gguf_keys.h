// Typed look-ups of GGUF metadata that keep the first violation.
#ifndef DESCANT_RUNTIME_MODEL_GGUF_KEYS_H_
#define DESCANT_RUNTIME_MODEL_GGUF_KEYS_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "adapters/formats/gguf.h"

namespace descant {

// Not thread-safe. Messages begin with the path.
class GgufKeys {
 public:
  GgufKeys(const GgufIndex& index, std::string path)
      : index_(index), path_(std::move(path)) {}

  bool Has(absl::string_view key) const {
    return index_.FindValue(key) != nullptr;
  }
  // Without `missing` the key is required. Not negative.
  int32_t Int(absl::string_view key, std::optional<int32_t> missing) {
    if (!Has(key)) return Missing(key, missing);
    const std::optional<int64_t> value = index_.GetInt(key);
    if (value.has_value() && *value >= 0 &&
        *value <= std::numeric_limits<int32_t>::max()) {
      return static_cast<int32_t>(*value);
    }
    Fail(absl::StrCat("key ", key, " must be a 31-bit integer"));
    return 0;
  }
  float Float(absl::string_view key, std::optional<float> missing) {
    if (!Has(key)) return Missing(key, missing);
    const std::optional<double> value = index_.GetFloat(key);
    if (value.has_value()) return static_cast<float>(*value);
    Fail(absl::StrCat("key ", key, " must be a float"));
    return 0;
  }
  bool Bool(absl::string_view key, bool missing) {
    if (!Has(key)) return missing;
    const std::optional<bool> value = index_.GetBool(key);
    if (value.has_value()) return *value;
    Fail(absl::StrCat("key ", key, " must be a bool"));
    return missing;
  }
  std::string String(absl::string_view key, absl::string_view missing) {
    if (!Has(key)) return std::string(missing);
    const std::optional<absl::string_view> value = index_.GetString(key);
    if (value.has_value()) return std::string(*value);
    Fail(absl::StrCat("key ", key, " must be a string"));
    return std::string(missing);
  }

  void Fail(absl::string_view rule) {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(absl::StrCat(path_, ": ", rule));
    }
  }
  const absl::Status& status() const { return status_; }
  const GgufIndex& index() const { return index_; }

 private:
  template <typename T>
  T Missing(absl::string_view key, std::optional<T> missing) {
    if (!missing.has_value()) Fail(absl::StrCat("key ", key, " is missing"));
    return missing.value_or(T{});
  }

  const GgufIndex& index_;
  const std::string path_;
  absl::Status status_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_GGUF_KEYS_H_
