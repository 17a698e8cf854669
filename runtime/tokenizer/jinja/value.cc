#include "runtime/tokenizer/jinja/value.h"

#include <algorithm>

#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/operators.h"

namespace descant::jinja {
namespace {

// Dicts of more entries are searched by hash.
constexpr size_t kSmallDict = 12;

int DepthOf(const Value& value) {
  if (value.is(Kind::kList)) return value.list().depth;
  if (value.is(Kind::kDict)) return value.dict().depth();
  return 0;
}

// Saturates: a list that holds another twice, and so on, soon weighs more than
// any number.
int64_t AddWeights(int64_t a, int64_t b) {
  return std::min(a + b, int64_t{1} << 40);
}

absl::Status CheckDepth(int depth) {
  return depth <= kMaxValueDepth
             ? absl::OkStatus()
             : RenderError("a list or dict is nested too deeply");
}

}  // namespace

const void* Value::identity() const {
  return std::visit(
      [](const auto& data) -> const void* {
        if constexpr (requires { data.get(); }) {
          return data.get();
        } else {
          return nullptr;
        }
      },
      data_);
}

std::optional<int64_t> Value::as_integer() const {
  if (is(Kind::kInt)) return integer();
  if (is(Kind::kBool)) return boolean() ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::as_real() const {
  if (is(Kind::kFloat)) return real();
  const std::optional<int64_t> integer = as_integer();
  if (!integer.has_value()) return std::nullopt;
  return static_cast<double>(*integer);
}

bool Value::is_list(Flavour flavour) const {
  return is(Kind::kList) && list().flavour == flavour;
}

void Dict::Set(Value key, Value value) {
  depth_ = std::max({depth_, DepthOf(key) + 1, DepthOf(value) + 1});
  weight_ = AddWeights(weight_, AddWeights(WeightOf(key), WeightOf(value)));
  const size_t at = IndexOf(key);
  if (at < items_.size()) {
    items_[at].second = std::move(value);
    return;
  }
  items_.emplace_back(std::move(key), std::move(value));
  if (items_.size() == kSmallDict + 1) {
    for (size_t i = 0; i < items_.size(); ++i) {
      if (items_[i].first.is_string()) index_[items_[i].first.text()] = i;
    }
  } else if (items_.size() > kSmallDict && items_.back().first.is_string()) {
    index_[items_.back().first.text()] = items_.size() - 1;
  }
}

size_t Dict::IndexOf(absl::string_view key) const {
  if (items_.size() > kSmallDict) {
    const auto found = index_.find(key);
    return found == index_.end() ? items_.size() : found->second;
  }
  size_t at = 0;
  while (at < items_.size() &&
         !(items_[at].first.is_string() && items_[at].first.text() == key)) {
    ++at;
  }
  return at;
}

size_t Dict::IndexOf(const Value& key) const {
  if (key.is_string()) return IndexOf(key.text());
  size_t at = 0;
  while (at < items_.size() && !AreEqual(items_[at].first, key)) ++at;
  return at;
}

const Value* Dict::Find(absl::string_view key) const {
  const size_t at = IndexOf(key);
  return at < items_.size() ? &items_[at].second : nullptr;
}

const Value* Dict::Find(const Value& key) const {
  const size_t at = IndexOf(key);
  return at < items_.size() ? &items_[at].second : nullptr;
}

const Value* Namespace::Find(absl::string_view name) const {
  for (const auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Namespace::Set(absl::string_view name, Value value) {
  for (auto& [key, old] : attributes) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  attributes.emplace_back(std::string(name), std::move(value));
}

Value MakeString(std::string text) {
  return std::make_shared<const String>(String{std::move(text), false});
}

Value MakeMarkup(std::string text) {
  return std::make_shared<const String>(String{std::move(text), true});
}

absl::StatusOr<Value> MakeList(Flavour flavour, std::vector<Value> items) {
  auto list = std::make_shared<List>();
  bool all_hashable = true;
  for (const Value& item : items) {
    list->depth = std::max(list->depth, DepthOf(item) + 1);
    list->weight = AddWeights(list->weight, WeightOf(item));
    all_hashable &= IsHashable(item);
  }
  list->hashable = flavour == Flavour::kRange ||
                   flavour == Flavour::kGenerator ||
                   (flavour == Flavour::kTuple && all_hashable);
  list->flavour = flavour;
  list->items = std::move(items);
  DESCANT_RETURN_IF_ERROR(CheckDepth(list->depth));
  return Value(std::shared_ptr<const List>(std::move(list)));
}

absl::StatusOr<Value> MakeDict(Dict dict) {
  DESCANT_RETURN_IF_ERROR(CheckDepth(dict.depth()));
  return Value(std::make_shared<const Dict>(std::move(dict)));
}

Value MakeUndefined(absl::string_view message) {
  Undefined undefined;
  undefined.text =
      std::make_shared<const String>(String{std::string(message), false});
  return undefined;
}

bool IsHashable(const Value& value) {
  if (value.is(Kind::kList)) return value.list().hashable;
  return !value.is(Kind::kDict);
}

int64_t WeightOf(const Value& value) {
  if (value.is_string()) {
    return 1 + static_cast<int64_t>(value.text().size() / 64);
  }
  if (value.is(Kind::kList)) return value.list().weight;
  if (value.is(Kind::kDict)) return value.dict().weight();
  return 1;
}

}  // namespace descant::jinja
