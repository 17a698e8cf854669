#include "runtime/model/hf_config.h"

#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/formats/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/hf_object_reader.h"

namespace descant {
namespace {

constexpr JsonLimits kLimits = {1 << 20, 16, 1 << 18};

absl::StatusOr<JsonValue> ParseObject(absl::string_view json,
                                      absl::string_view path) {
  absl::StatusOr<JsonValue> value = ParseJson(json, kLimits);
  if (!value.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", value.status().message()));
  }
  if (value->kind() != JsonValue::kObject) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": must be a JSON object"));
  }
  return value;
}

// Architectures that route tokens through experts.
bool IsMixtureOfExperts(absl::string_view architecture, ObjectReader* root) {
  for (const absl::string_view part :
       {"Moe", "MoE", "moe", "Mixtral", "GptOss", "DeepseekV2", "DeepseekV3",
        "Dbrx", "Llama4", "Qwen3Next"}) {
    if (absl::StrContains(architecture, part)) return true;
  }
  for (const absl::string_view key :
       {"num_local_experts", "num_experts", "n_routed_experts"}) {
    if (root->Int(key, 0) > 0) return true;
  }
  return false;
}

absl::StatusOr<const HuggingFaceFamily*> FamilyOf(const JsonValue& json,
                                                  absl::string_view path) {
  const auto fail = [path](absl::string_view rule) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", rule));
  };
  const JsonValue* list = json.Find("architectures");
  if (list == nullptr || list->kind() != JsonValue::kArray ||
      list->array().size() != 1 ||
      list->array()[0].kind() != JsonValue::kString) {
    return fail("architectures must name one architecture");
  }
  const std::string& name = list->array()[0].string();
  ObjectReader root(&json, path);
  if (IsMixtureOfExperts(name, &root)) {
    return fail(absl::StrCat("architecture ", JsonQuote(name),
                             ": mixture of experts is not supported"));
  }
  if (absl::EndsWith(name, "ForConditionalGeneration")) {
    return fail(absl::StrCat("architecture ", JsonQuote(name),
                             ": images and encoders are not supported, only "
                             "checkpoints of a text model alone"));
  }
  const HuggingFaceFamily* family = FindHuggingFaceFamily(name);
  if (family == nullptr) {
    return fail(absl::StrCat("unknown architecture ", JsonQuote(name),
                             "; this server computes ",
                             HuggingFaceFamilyNames()));
  }
  return family;
}

absl::Status ReadEos(const JsonValue& root, absl::string_view path,
                     std::vector<int32_t>* ids) {
  const JsonValue* value = root.Find("eos_token_id");
  if (value == nullptr || value->is_null()) return absl::OkStatus();
  const auto add = [&](const JsonValue& id) {
    if (id.kind() != JsonValue::kUnsigned ||
        id.unsigned_integer() > std::numeric_limits<int32_t>::max()) {
      return false;
    }
    ids->push_back(static_cast<int32_t>(id.unsigned_integer()));
    return true;
  };
  bool valid = true;
  if (value->kind() == JsonValue::kArray) {
    for (const JsonValue& id : value->array()) valid = valid && add(id);
  } else {
    valid = add(*value);
  }
  if (valid) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": eos_token_id must be a token id or a list of them"));
}

}  // namespace

absl::StatusOr<HuggingFaceConfig> ParseHuggingFaceConfig(
    absl::string_view json, absl::string_view path) {
  DESCANT_ASSIGN_OR_RETURN(const JsonValue root, ParseObject(json, path));
  HuggingFaceConfig config;
  DESCANT_ASSIGN_OR_RETURN(config.family, FamilyOf(root, path));
  ObjectReader reader(&root, path);
  if (reader.Has("quantization_config")) {
    reader.Fail("quantization_config is not supported");
  }
  config.family->read(&reader, &config.model);
  DESCANT_RETURN_IF_ERROR(reader.status());
  if (const absl::Status status = ValidateModelConfig(config.model);
      !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", status.message()));
  }
  DESCANT_RETURN_IF_ERROR(ReadEos(root, path, &config.eos_token_ids));
  return config;
}

absl::StatusOr<std::vector<int32_t>> ParseEosTokenIds(absl::string_view json,
                                                      absl::string_view path) {
  DESCANT_ASSIGN_OR_RETURN(const JsonValue root, ParseObject(json, path));
  std::vector<int32_t> ids;
  DESCANT_RETURN_IF_ERROR(ReadEos(root, path, &ids));
  return ids;
}

}  // namespace descant
