#include "server/cli/run/request_line.h"

#include <google/protobuf/util/json_util.h>
#include <openssl/sha.h>

#include <array>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "server/cli/json_output.h"

namespace descant::cli {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr int kMaxDepth = 32;

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(what);
}

// Finds what the parser lets pass: keys given twice, and depth.
class KeyCheck {
 public:
  bool operator()(int depth, Json::parse_event_t event, const Json& value) {
    switch (event) {
      case Json::parse_event_t::object_start:
        seen_.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        seen_.pop_back();
        break;
      case Json::parse_event_t::key:
        if (!seen_.back().insert(value.get<std::string>()).second) {
          Fail(absl::StrCat("key ", value.dump(), " is given twice"));
        }
        break;
      default:
        break;
    }
    if (depth > kMaxDepth) Fail("nested too deeply");
    return true;
  }

  const std::string& fault() const { return fault_; }

 private:
  void Fail(std::string what) {
    if (fault_.empty()) fault_ = std::move(what);
  }

  std::vector<std::set<std::string>> seen_;
  std::string fault_;
};

absl::StatusOr<Json> ParseObject(absl::string_view line) {
  KeyCheck check;
  Json json;
  // The parser reports by exception; it ends here.
  try {
    json = Json::parse(line.begin(), line.end(), std::ref(check));
  } catch (const Json::parse_error& error) {
    return Bad(absl::StrCat("no JSON, at byte ", error.byte));
  } catch (const Json::exception&) {
    return Bad("no JSON");
  }
  if (!check.fault().empty()) return Bad(check.fault());
  if (!json.is_object()) return Bad("not a JSON object");
  return json;
}

// Fields that may stand at the top, and the message that has them.
const std::map<std::string, std::string>& Grouped() {
  static const auto* const grouped = [] {
    auto* fields = new std::map<std::string, std::string>;
    const Descriptor* request = v1::GenerateRequest::descriptor();
    for (const char* group : {"sampling", "stopping", "output"}) {
      const Descriptor* type = request->FindFieldByName(group)->message_type();
      for (int i = 0; i < type->field_count(); ++i) {
        const std::string& name = type->field(i)->name();
        if (request->FindFieldByName(name) == nullptr) {
          fields->emplace(name, group);
        }
      }
    }
    return fields;
  }();
  return *grouped;
}

// The first field of a message, where it is a list: what the message is for
// (token_ids, messages). Else null.
const FieldDescriptor* ListField(const FieldDescriptor* field) {
  if (field->is_repeated() || field->message_type() == nullptr) return nullptr;
  const FieldDescriptor* first = field->message_type()->FindFieldByNumber(1);
  return first != nullptr && first->is_repeated() ? first : nullptr;
}

// Into the form of proto3's JSON mapping; takes `id` out.
absl::StatusOr<Json> Nest(const Json& line, std::string* id) {
  const Descriptor* request = v1::GenerateRequest::descriptor();
  Json nested = Json::object();
  std::vector<std::pair<std::string, const Json*>> flat;
  for (const auto& [key, value] : line.items()) {
    if (key == "id") {
      if (!value.is_string()) return Bad("id: must be a string");
      *id = value.get<std::string>();
      continue;
    }
    const std::string name = key == "prompt"    ? "text"
                             : key == "adapter" ? "adapter_id"
                                                : key;
    const FieldDescriptor* field = request->FindFieldByName(name);
    if (field == nullptr) {
      if (!Grouped().contains(name)) {
        return Bad(absl::StrCat("unknown key ", Json(key).dump()));
      }
      flat.emplace_back(name, &value);
      continue;
    }
    if (nested.contains(name)) {
      return Bad(absl::StrCat(name, ": is given twice"));
    }
    const FieldDescriptor* list = ListField(field);
    nested[name] = list != nullptr && value.is_array()
                       ? Json{{list->name(), value}}
                       : value;
  }
  for (const auto& [name, value] : flat) {
    Json& group = nested[Grouped().at(name)];
    if (group.is_null()) group = Json::object();
    if (!group.is_object()) {
      return Bad(absl::StrCat(Grouped().at(name), ": must be an object"));
    }
    if (group.contains(name)) {
      return Bad(absl::StrCat(name, ": is given twice"));
    }
    group[name] = *value;
  }
  return nested;
}

// Clears in `base` what `over` sets: a merge would append to lists.
void ClearGiven(const Message& over, Message* base) {
  const google::protobuf::Reflection* reflection = over.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(over, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->message_type() != nullptr && !field->is_repeated() &&
        reflection->HasField(*base, field)) {
      ClearGiven(reflection->GetMessage(over, field),
                 reflection->MutableMessage(base, field));
    } else {
      reflection->ClearField(base, field);
    }
  }
}

}  // namespace

absl::StatusOr<RequestLine> ParseRequestLine(
    absl::string_view line, const v1::GenerateRequest& defaults) {
  DESCANT_ASSIGN_OR_RETURN(const Json json, ParseObject(line));
  RequestLine parsed;
  DESCANT_ASSIGN_OR_RETURN(const Json nested, Nest(json, &parsed.id));
  v1::GenerateRequest given;
  const auto status =
      google::protobuf::util::JsonStringToMessage(nested.dump(), &given);
  if (!status.ok()) {
    return Bad(std::string(status.message().data(), status.message().size()));
  }
  if (given.prompt_case() == v1::GenerateRequest::PROMPT_NOT_SET) {
    return Bad("no prompt: give text, token_ids or messages");
  }
  parsed.request = defaults;
  ClearGiven(given, &parsed.request);
  parsed.request.MergeFrom(given);
  return parsed;
}

uint64_t InputDigest(absl::string_view line,
                     const v1::GenerateRequest& defaults,
                     absl::string_view base_fingerprint) {
  const std::string options = defaults.SerializeAsString();
  // Lengths first, so that no two inputs run into the same bytes.
  const std::string text = absl::StrCat(line.size(), " ", options.size(), "\n",
                                        line, options, base_fingerprint);
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const uint8_t*>(text.data()), text.size(),
         digest.data());
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | digest[i];
  return value;
}

}  // namespace descant::cli
