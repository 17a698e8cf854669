#include "runtime/tokenizer/jinja/printing.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/jinja/operators.h"
#include "runtime/tokenizer/jinja/text.h"

namespace descant::jinja {
namespace {

absl::Status AppendItems(Work& work, const std::vector<Value>& items,
                         std::string* out) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out->append(", ");
    DESCANT_RETURN_IF_ERROR(AppendRepr(work, items[i], out));
  }
  return absl::OkStatus();
}

absl::Status AppendListRepr(Work& work, const List& list, std::string* out) {
  switch (list.flavour) {
    case Flavour::kRange:
      return NotServed("the text of a range");
    case Flavour::kGenerator:
      return NotServed("the text of a generator");
    case Flavour::kTuple:
      out->append("(");
      DESCANT_RETURN_IF_ERROR(AppendItems(work, list.items, out));
      out->append(list.items.size() == 1 ? ",)" : ")");
      return absl::OkStatus();
    case Flavour::kList:
      out->append("[");
      DESCANT_RETURN_IF_ERROR(AppendItems(work, list.items, out));
      out->append("]");
      return absl::OkStatus();
    default:
      out->append(list.flavour == Flavour::kKeys     ? "dict_keys(["
                  : list.flavour == Flavour::kValues ? "dict_values(["
                                                     : "dict_items([");
      DESCANT_RETURN_IF_ERROR(AppendItems(work, list.items, out));
      out->append("])");
      return absl::OkStatus();
  }
}

// json.dumps; its members are the state of one call.
class JsonWriter {
 public:
  JsonWriter(Work* work, const JsonStyle* style) : work_(work), style_(style) {}

  absl::Status Append(const Value& value, int level) {
    DESCANT_RETURN_IF_ERROR(work_->Steps(1));
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        return absl::OkStatus();
      case Kind::kBool:
        out_ += value.boolean() ? "true" : "false";
        return absl::OkStatus();
      case Kind::kInt:
        absl::StrAppend(&out_, value.integer());
        return absl::OkStatus();
      case Kind::kFloat:
        out_ += Number(value.real());
        return absl::OkStatus();
      case Kind::kString:
        return AppendString(value.text());
      case Kind::kDict:
        return AppendDict(value.dict(), level);
      case Kind::kList:
        if (value.is_list(Flavour::kList) || value.is_list(Flavour::kTuple)) {
          return AppendArray(value.list().items, level);
        }
        [[fallthrough]];
      default:
        return RenderError(absl::StrCat("Object of type ", TypeName(value),
                                        " is not JSON serializable"));
    }
  }

  std::string Take() { return std::move(out_); }

 private:
  static std::string Number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(value);
  }

  absl::Status AppendString(absl::string_view text) {
    DESCANT_RETURN_IF_ERROR(work_->Bytes(text.size()));
    out_ += '"';
    while (!text.empty()) {
      absl::string_view rest = text;
      const char32_t c = TakeCharacter(&rest);
      if (c == '"' || c == '\\') {
        out_ += '\\';
        out_ += static_cast<char>(c);
      } else if (c < 0x20) {
        AppendControl(c);
      } else if (style_->ensure_ascii && c >= 0x10000) {
        const auto rest_bits = static_cast<uint32_t>(c - 0x10000);
        absl::StrAppendFormat(&out_, "\\u%04x\\u%04x",
                              0xd800 + (rest_bits >> 10),
                              0xdc00 + (rest_bits & 0x3ff));
      } else if (style_->ensure_ascii && c >= 0x7f) {
        absl::StrAppendFormat(&out_, "\\u%04x", static_cast<uint32_t>(c));
      } else {
        out_.append(text.data(), text.size() - rest.size());
      }
      text = rest;
    }
    out_ += '"';
    return absl::OkStatus();
  }

  void AppendControl(char32_t c) {
    switch (c) {
      case '\n':
        out_ += "\\n";
        return;
      case '\r':
        out_ += "\\r";
        return;
      case '\t':
        out_ += "\\t";
        return;
      case '\b':
        out_ += "\\b";
        return;
      case '\f':
        out_ += "\\f";
        return;
      default:
        absl::StrAppendFormat(&out_, "\\u%04x", static_cast<uint32_t>(c));
    }
  }

  absl::Status NewLine(int level) {
    if (!style_->indent.has_value()) return absl::OkStatus();
    DESCANT_RETURN_IF_ERROR(
        work_->Bytes(style_->indent->size() * static_cast<size_t>(level)));
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += *style_->indent;
    return absl::OkStatus();
  }

  absl::Status AppendArray(const std::vector<Value>& items, int level) {
    if (items.empty()) {
      out_ += "[]";
      return absl::OkStatus();
    }
    out_ += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_->item_separator;
      DESCANT_RETURN_IF_ERROR(NewLine(level + 1));
      DESCANT_RETURN_IF_ERROR(Append(items[i], level + 1));
    }
    DESCANT_RETURN_IF_ERROR(NewLine(level));
    out_ += ']';
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Key(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        return key.text();
      case Kind::kNone:
        return std::string("null");
      case Kind::kBool:
        return std::string(key.boolean() ? "true" : "false");
      case Kind::kInt:
        return absl::StrCat(key.integer());
      case Kind::kFloat:
        return Number(key.real());
      default:
        return RenderError(absl::StrCat(
            "keys must be str, int, float, bool or None, not ", TypeName(key)));
    }
  }

  absl::Status AppendDict(const Dict& dict, int level) {
    if (dict.items().empty()) {
      out_ += "{}";
      return absl::OkStatus();
    }
    std::vector<const Dict::Item*> items;
    for (const Dict::Item& item : dict.items()) items.push_back(&item);
    if (style_->sort_keys) {
      absl::Status failed;
      std::stable_sort(items.begin(), items.end(),
                       [&](const Dict::Item* a, const Dict::Item* b) {
                         const auto less = IsLess(*work_, a->first, b->first);
                         if (!less.ok()) failed.Update(less.status());
                         return less.ok() && *less;
                       });
      DESCANT_RETURN_IF_ERROR(failed);
    }
    out_ += '{';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_->item_separator;
      DESCANT_RETURN_IF_ERROR(NewLine(level + 1));
      DESCANT_ASSIGN_OR_RETURN(const std::string key, Key(items[i]->first));
      DESCANT_RETURN_IF_ERROR(AppendString(key));
      out_ += style_->key_separator;
      DESCANT_RETURN_IF_ERROR(Append(items[i]->second, level + 1));
    }
    DESCANT_RETURN_IF_ERROR(NewLine(level));
    out_ += '}';
    return absl::OkStatus();
  }

  Work* work_;
  const JsonStyle* style_;
  std::string out_;
};

}  // namespace

absl::Status AppendText(Work& work, const Value& value, std::string* out) {
  if (value.is_string()) {
    DESCANT_RETURN_IF_ERROR(work.Bytes(value.text().size()));
    out->append(value.text());
    return absl::OkStatus();
  }
  if (value.is_undefined()) return absl::OkStatus();
  return AppendRepr(work, value, out);
}

absl::StatusOr<std::string> ToText(Work& work, const Value& value) {
  std::string out;
  DESCANT_RETURN_IF_ERROR(AppendText(work, value, &out));
  return out;
}

absl::Status AppendRepr(Work& work, const Value& value, std::string* out) {
  DESCANT_RETURN_IF_ERROR(work.Steps(1));
  switch (value.kind()) {
    case Kind::kUndefined:
      out->append("Undefined");
      return absl::OkStatus();
    case Kind::kNone:
      out->append("None");
      return absl::OkStatus();
    case Kind::kBool:
      out->append(value.boolean() ? "True" : "False");
      return absl::OkStatus();
    case Kind::kInt:
      absl::StrAppend(out, value.integer());
      return absl::OkStatus();
    case Kind::kFloat:
      absl::StrAppend(out, FloatRepr(value.real()));
      return absl::OkStatus();
    case Kind::kString:
      DESCANT_RETURN_IF_ERROR(work.Bytes(4 * value.text().size()));
      if (value.string()->markup) out->append("Markup(");
      AppendRepr(value.text(), out);
      if (value.string()->markup) out->append(")");
      return absl::OkStatus();
    case Kind::kList:
      return AppendListRepr(work, value.list(), out);
    case Kind::kDict: {
      out->append("{");
      bool first = true;
      for (const auto& [key, item] : value.dict().items()) {
        if (!first) out->append(", ");
        first = false;
        DESCANT_RETURN_IF_ERROR(AppendRepr(work, key, out));
        out->append(": ");
        DESCANT_RETURN_IF_ERROR(AppendRepr(work, item, out));
      }
      out->append("}");
      return absl::OkStatus();
    }
    default:
      return NotServed(absl::StrCat("the text of a ", TypeName(value)));
  }
}

absl::StatusOr<std::string> ToJson(Work& work, const Value& value,
                                   const JsonStyle& style) {
  JsonWriter writer(&work, &style);
  DESCANT_RETURN_IF_ERROR(writer.Append(value, 0));
  return writer.Take();
}

std::string HtmlEscape(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"},
                                    {"<", "&lt;"},
                                    {">", "&gt;"},
                                    {"'", "&#39;"},
                                    {"\"", "&#34;"}});
}

}  // namespace descant::jinja
