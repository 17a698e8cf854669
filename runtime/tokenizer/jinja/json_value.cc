#include "runtime/tokenizer/jinja/json_value.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/limits.h"

namespace descant::jinja {
namespace {

// Builds the value from the inside out; its recursion is a vector.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return Add(None()); }
  bool boolean(bool value) override { return Add(Value(value)); }
  bool number_integer(number_integer_t value) override {
    return Add(Value(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail("an integer beyond 64 bits");
    }
    return Add(Value(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    // What does not fit an integer comes here too.
    if (text.find_first_of(".eE") == std::string::npos) {
      return Fail("an integer beyond 64 bits");
    }
    return Add(Value(value));
  }
  bool string(string_t& value) override {
    return Add(MakeString(std::move(value)));
  }
  bool binary(binary_t& value) override { return Fail("is not JSON"); }
  bool start_object(size_t elements) override { return Open(true); }
  bool start_array(size_t elements) override { return Open(false); }
  bool key(string_t& value) override {
    open_.back().key = std::move(value);
    return true;
  }
  bool end_object() override {
    return Close(MakeDict(std::move(open_.back().dict)));
  }
  bool end_array() override {
    return Close(MakeList(Flavour::kList, std::move(open_.back().items)));
  }
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    return Fail("is not JSON");
  }

  absl::StatusOr<Value> Take() {
    DESCANT_RETURN_IF_ERROR(status_);
    return std::move(result_);
  }

 private:
  struct Container {
    bool is_dict = false;
    std::string key;
    Dict dict;
    std::vector<Value> items;
  };

  bool Fail(absl::string_view what) {
    status_.Update(absl::InvalidArgumentError(what));
    return false;
  }

  bool Open(bool is_dict) {
    if (open_.size() >= static_cast<size_t>(kMaxValueDepth)) {
      return Fail("is nested too deeply");
    }
    open_.emplace_back().is_dict = is_dict;
    return true;
  }

  bool Close(absl::StatusOr<Value> value) {
    open_.pop_back();
    if (!value.ok()) return Fail("is nested too deeply");
    return Add(*std::move(value));
  }

  bool Add(Value value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (open_.back().is_dict) {
      open_.back().dict.Set(MakeString(std::move(open_.back().key)),
                            std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  absl::Status status_;
  Value result_;
  std::vector<Container> open_;
};

}  // namespace

absl::StatusOr<Value> ParseJson(absl::string_view text) {
  Builder builder;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    DESCANT_RETURN_IF_ERROR(builder.Take().status());
    return absl::InvalidArgumentError("is not JSON");
  }
  return builder.Take();
}

}  // namespace descant::jinja
