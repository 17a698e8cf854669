#include "adapters/formats/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "adapters/formats/format_reason.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

using absl::StatusCode;

absl::Status Invalid(absl::string_view reason, absl::string_view message) {
  return ReasonedError(StatusCode::kInvalidArgument, reason, message);
}

// Builds the value on an explicit stack of open containers.
class TreeBuilder {
 public:
  explicit TreeBuilder(const JsonLimits& limits) : limits_(limits) {}

  // The events of nlohmann's SAX interface; false stops the parser.
  bool null() { return Add(JsonValue()); }
  bool boolean(bool value) { return Add(JsonValue(value)); }
  bool number_unsigned(uint64_t value) { return Add(JsonValue(value)); }
  bool number_integer(int64_t value) { return Add(JsonValue(value)); }
  bool number_float(double value, const std::string&) {
    return Add(JsonValue(value));
  }
  bool string(std::string& value) { return Add(JsonValue(std::move(value))); }
  bool binary(std::vector<uint8_t>&) { return Fail(); }

  bool start_object(size_t) { return Open(JsonValue(JsonValue::Object())); }
  bool start_array(size_t) { return Open(JsonValue(JsonValue::Array())); }
  bool key(std::string& name) {
    open_.back().object().emplace_back(std::move(name), JsonValue());
    return true;
  }
  bool end_object() {
    if (!UniqueKeys(open_.back().object())) {
      status_ = Invalid(reason::kJsonDuplicateKey, "JSON: duplicate key");
      return false;
    }
    return Close();
  }
  bool end_array() { return Close(); }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) {
    status_ = Invalid(reason::kJsonInvalid,
                      absl::StrCat("JSON: not valid at byte ", position));
    return false;
  }

  const absl::Status& status() const { return status_; }
  JsonValue TakeRoot() { return std::move(root_); }

 private:
  static bool UniqueKeys(const JsonValue::Object& members) {
    absl::flat_hash_set<absl::string_view> keys;
    keys.reserve(members.size());
    return std::all_of(members.begin(), members.end(),
                       [&keys](const auto& member) {
                         return keys.insert(member.first).second;
                       });
  }

  bool Fail() {
    status_ = Invalid(reason::kJsonInvalid, "JSON: not valid");
    return false;
  }

  bool Count() {
    if (++values_ <= limits_.max_values) return true;
    status_ = Invalid(reason::kJsonTooLarge, "JSON: too many values");
    return false;
  }

  bool Open(JsonValue container) {
    if (!Count()) return false;
    if (static_cast<int32_t>(open_.size()) >= limits_.max_depth) {
      status_ = Invalid(reason::kJsonTooDeep, "JSON: nested too deep");
      return false;
    }
    open_.push_back(std::move(container));
    return true;
  }

  bool Close() {
    JsonValue value = std::move(open_.back());
    open_.pop_back();
    Place(std::move(value));
    return true;
  }

  bool Add(JsonValue value) {
    if (!Count()) return false;
    Place(std::move(value));
    return true;
  }

  void Place(JsonValue value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().kind() == JsonValue::kArray) {
      open_.back().array().push_back(std::move(value));
    } else {
      open_.back().object().back().second = std::move(value);
    }
  }

  const JsonLimits& limits_;
  std::vector<JsonValue> open_;
  JsonValue root_;
  int32_t values_ = 0;
  absl::Status status_;
};

}  // namespace

double JsonValue::number() const {
  switch (kind()) {
    case kUnsigned:
      return static_cast<double>(unsigned_integer());
    case kNegative:
      return static_cast<double>(negative_integer());
    default:
      return float_;
  }
}

const JsonValue* JsonValue::Find(absl::string_view key) const {
  for (const Member& member : object()) {
    if (member.first == key) return &member.second;
  }
  return nullptr;
}

absl::StatusOr<JsonValue> ParseJson(absl::string_view text,
                                    const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return Invalid(
        reason::kJsonTooLarge,
        absl::StrCat("JSON: larger than ", limits.max_bytes, " bytes"));
  }
  // The library skips a byte-order mark and takes NUL as the end of input.
  if (text.substr(0, 1) == "\xef") {
    return Invalid(reason::kJsonInvalid, "JSON: byte-order mark");
  }
  if (text.find('\0') != absl::string_view::npos) {
    return Invalid(reason::kJsonInvalid, "JSON: NUL byte");
  }
  TreeBuilder builder(limits);
  const bool parsed = nlohmann::json::sax_parse(
      text.data(), text.data() + text.size(), &builder,
      nlohmann::detail::input_format_t::json, /*strict=*/true,
      /*ignore_comments=*/false);
  if (!builder.status().ok()) return builder.status();
  if (!parsed) return Invalid(reason::kJsonInvalid, "JSON: not valid");
  return builder.TakeRoot();
}

std::string JsonQuote(absl::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20) {
      quoted += "\\u00";
      quoted += kHex[byte >> 4];
      quoted += kHex[byte & 15];
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace descant
