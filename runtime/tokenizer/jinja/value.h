// The values a template computes with, as Python has them: immutable but for
// namespaces, shared by reference.
#ifndef DESCANT_RUNTIME_TOKENIZER_JINJA_VALUE_H_
#define DESCANT_RUNTIME_TOKENIZER_JINJA_VALUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja/work.h"

namespace descant::jinja {

class Dict;
class Value;
struct Callable;
struct List;
struct Loop;
struct Namespace;

// In the order of Value's alternatives.
enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kDict,
  kNamespace,
  kCallable,
  kLoop,
};

struct String {
  std::string text;     // UTF-8
  bool markup = false;  // came out of `safe`: escapes what is added to it
};

// What is not there. It knows why, for the message of whoever needs it.
struct Undefined {
  enum Why : uint8_t { kName, kAttribute, kElement, kMessage };
  std::shared_ptr<const String> text;  // the name, or the whole message
  Why why = kMessage;
  Kind owner = Kind::kNone;  // of kAttribute and kElement
};

struct None {};

// What looks like a list.
enum class Flavour : uint8_t {
  kList,
  kTuple,
  kRange,
  kKeys,
  kValues,
  kItems,
  kGenerator,
};

class Value {
 public:
  Value() = default;                                   // undefined
  Value(None none) : data_(none) {}                    // NOLINT: a conversion
  Value(bool value) : data_(value) {}                  // NOLINT
  Value(int64_t value) : data_(value) {}               // NOLINT
  Value(double value) : data_(value) {}                // NOLINT
  Value(Undefined value) : data_(std::move(value)) {}  // NOLINT
  Value(std::shared_ptr<const String> value)           // NOLINT
      : data_(std::move(value)) {}
  Value(std::shared_ptr<const List> value)  // NOLINT
      : data_(std::move(value)) {}
  Value(std::shared_ptr<const Dict> value)  // NOLINT
      : data_(std::move(value)) {}
  Value(std::shared_ptr<Namespace> value)  // NOLINT
      : data_(std::move(value)) {}
  Value(std::shared_ptr<const Callable> value)  // NOLINT
      : data_(std::move(value)) {}
  Value(std::shared_ptr<const Loop> value)  // NOLINT
      : data_(std::move(value)) {}
  // A pointer would become a bool.
  template <typename T>
  Value(T*) = delete;

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind kind) const { return this->kind() == kind; }
  bool is_undefined() const { return is(Kind::kUndefined); }
  bool is_none() const { return is(Kind::kNone); }
  bool is_string() const { return is(Kind::kString); }

  // REQUIRES for each: the kind.
  const Undefined& undefined() const { return std::get<Undefined>(data_); }
  bool boolean() const { return std::get<bool>(data_); }
  int64_t integer() const { return std::get<int64_t>(data_); }
  double real() const { return std::get<double>(data_); }
  const std::string& text() const { return string()->text; }
  const std::shared_ptr<const String>& string() const {
    return std::get<std::shared_ptr<const String>>(data_);
  }
  const List& list() const { return *list_pointer(); }
  const std::shared_ptr<const List>& list_pointer() const {
    return std::get<std::shared_ptr<const List>>(data_);
  }
  const Dict& dict() const {
    return *std::get<std::shared_ptr<const Dict>>(data_);
  }
  Namespace& name_space() const {
    return *std::get<std::shared_ptr<Namespace>>(data_);
  }
  const Callable& callable() const {
    return *std::get<std::shared_ptr<const Callable>>(data_);
  }
  const Loop& loop() const {
    return *std::get<std::shared_ptr<const Loop>>(data_);
  }
  // Of a reference: what it refers to, for identity.
  const void* identity() const;

  // An int or a bool, as Python counts them.
  std::optional<int64_t> as_integer() const;
  // An int, a bool or a float.
  std::optional<double> as_real() const;
  bool is_list(Flavour flavour) const;

 private:
  std::variant<Undefined, None, bool, int64_t, double,
               std::shared_ptr<const String>, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
               std::shared_ptr<const Callable>, std::shared_ptr<const Loop>>
      data_;
};

struct List {
  Flavour flavour = Flavour::kList;
  std::vector<Value> items;
  int depth = 1;       // of the deepest element, plus one
  int64_t weight = 1;  // elements of elements added up, shared ones again
  bool hashable = false;
  // Of a generator: what is gone through is gone. A render is one thread.
  mutable size_t next = 0;
};

// Insertion order; keys are unique by Python's equality (1 == True == 1.0).
class Dict {
 public:
  using Item = std::pair<Value, Value>;

  // A later value for the same key takes the earlier one's place.
  // REQUIRES: the key is hashable.
  void Set(Value key, Value value);
  // Null: not there.
  const Value* Find(absl::string_view key) const;
  const Value* Find(const Value& key) const;

  const std::vector<Item>& items() const { return items_; }
  int depth() const { return depth_; }
  int64_t weight() const { return weight_; }

 private:
  size_t IndexOf(const Value& key) const;
  size_t IndexOf(absl::string_view key) const;

  std::vector<Item> items_;
  absl::flat_hash_map<std::string, size_t> index_;  // once there are many
  int depth_ = 1;
  int64_t weight_ = 1;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
  const Value* Find(absl::string_view name) const;
  void Set(absl::string_view name, Value value);
};

// Of a `for` that runs.
struct Loop {
  std::vector<Value> items;
  size_t index0 = 0;
  mutable std::vector<Value> last_changed;
  mutable bool has_changed = false;
};

Value MakeString(std::string text);
Value MakeMarkup(std::string text);
// An error beyond kMaxValueDepth.
absl::StatusOr<Value> MakeList(Flavour flavour, std::vector<Value> items);
absl::StatusOr<Value> MakeDict(Dict dict);
// Undefined, with the whole message.
Value MakeUndefined(absl::string_view message);

bool IsHashable(const Value& value);
// About what it costs to go through all of `value`, in steps; O(1).
int64_t WeightOf(const Value& value);

}  // namespace descant::jinja

#endif  // DESCANT_RUNTIME_TOKENIZER_JINJA_VALUE_H_
