#include "runtime/model/hf_config.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/formats/json.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr JsonLimits kLimits = {1 << 20, 16, 1 << 18};

// Typed members of one JSON object. The first violation is kept.
class ObjectReader {
 public:
  ObjectReader(const JsonValue* object, absl::string_view path)
      : object_(object), path_(path) {}

  // Missing and null give `missing`.
  int32_t Int(absl::string_view key, int32_t missing) {
    const JsonValue* value = Find(key);
    if (value == nullptr) return missing;
    constexpr uint64_t kMax = std::numeric_limits<int32_t>::max();
    if (value->kind() == JsonValue::kUnsigned &&
        value->unsigned_integer() <= kMax) {
      return static_cast<int32_t>(value->unsigned_integer());
    }
    Fail(absl::StrCat(key, " must be an integer of at most ", kMax));
    return missing;
  }
  float Float(absl::string_view key, float missing) {
    const JsonValue* value = Find(key);
    if (value == nullptr) return missing;
    if (value->is_number()) return static_cast<float>(value->number());
    Fail(absl::StrCat(key, " must be a number"));
    return missing;
  }
  bool Bool(absl::string_view key, bool missing) {
    const JsonValue* value = Find(key);
    if (value == nullptr) return missing;
    if (value->kind() == JsonValue::kBool) return value->boolean();
    Fail(absl::StrCat(key, " must be true or false"));
    return missing;
  }
  std::string String(absl::string_view key, absl::string_view missing) {
    const JsonValue* value = Find(key);
    if (value == nullptr) return std::string(missing);
    if (value->kind() == JsonValue::kString) return value->string();
    Fail(absl::StrCat(key, " must be a string"));
    return std::string(missing);
  }
  // Null where there is none.
  const JsonValue* Object(absl::string_view key) {
    const JsonValue* value = Find(key);
    if (value == nullptr || value->kind() == JsonValue::kObject) return value;
    Fail(absl::StrCat(key, " must be an object"));
    return nullptr;
  }
  bool Has(absl::string_view key) const { return Find(key) != nullptr; }

  void Fail(absl::string_view rule) {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(absl::StrCat(path_, ": ", rule));
    }
  }
  const absl::Status& status() const { return status_; }

 private:
  const JsonValue* Find(absl::string_view key) const {
    const JsonValue* value = object_->Find(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }

  const JsonValue* const object_;
  const absl::string_view path_;
  absl::Status status_;
};

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

absl::Status CheckArchitecture(const JsonValue& root, absl::string_view path) {
  const JsonValue* list = root.Find("architectures");
  if (list == nullptr || list->kind() != JsonValue::kArray ||
      list->array().size() != 1 ||
      list->array()[0].kind() != JsonValue::kString) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": architectures must name one architecture"));
  }
  const std::string& name = list->array()[0].string();
  if (name != "LlamaForCausalLM") {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": unknown architecture ", JsonQuote(name),
                     "; this server computes LlamaForCausalLM"));
  }
  return absl::OkStatus();
}

void RefuseUnsupported(ObjectReader* reader) {
  for (const absl::string_view key : {"attention_bias", "mlp_bias"}) {
    if (reader->Bool(key, false)) {
      reader->Fail(absl::StrCat(key, " true is not supported"));
    }
  }
  const std::string activation = reader->String("hidden_act", "silu");
  if (activation != "silu") {
    reader->Fail(absl::StrCat("hidden_act ", JsonQuote(activation),
                              " is not supported, only \"silu\""));
  }
  if (reader->Has("quantization_config")) {
    reader->Fail("quantization_config is not supported");
  }
}

// `rope` holds the type and its parameters; `root` may hold rope_theta.
absl::Status ReadRope(const JsonValue* rope, const ModelConfig& model,
                      absl::string_view path, RopeConfig* result) {
  if (rope == nullptr) return absl::OkStatus();
  ObjectReader reader(rope, path);
  result->theta = reader.Float("rope_theta", result->theta);
  const std::string type =
      reader.String("rope_type", reader.String("type", "default"));
  if (reader.Float("partial_rotary_factor", 1.0f) != 1.0f) {
    reader.Fail("partial_rotary_factor is not supported");
  }
  if (type == "linear" || type == "llama3") {
    if (!reader.Has("factor")) reader.Fail("rope factor is missing");
    result->factor = reader.Float("factor", 1.0f);
  }
  if (type == "linear") {
    result->scaling = RopeScaling::kLinear;
  } else if (type == "llama3") {
    result->scaling = RopeScaling::kLlama3;
    for (const absl::string_view key :
         {"low_freq_factor", "high_freq_factor"}) {
      if (!reader.Has(key)) {
        reader.Fail(absl::StrCat("rope ", key, " is missing"));
      }
    }
    result->low_freq_factor = reader.Float("low_freq_factor", 1.0f);
    result->high_freq_factor = reader.Float("high_freq_factor", 4.0f);
    result->original_max_position =
        reader.Int("original_max_position_embeddings", model.max_position);
  } else if (type != "default") {
    reader.Fail(absl::StrCat("rope type ", JsonQuote(type),
                             " is not supported, only \"default\", "
                             "\"linear\" and \"llama3\""));
  }
  return reader.status();
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
  DESCANT_RETURN_IF_ERROR(CheckArchitecture(root, path));
  ObjectReader reader(&root, path);
  for (const absl::string_view key :
       {"num_hidden_layers", "hidden_size", "intermediate_size",
        "num_attention_heads", "vocab_size"}) {
    if (!reader.Has(key)) reader.Fail(absl::StrCat(key, " is missing"));
  }
  HuggingFaceConfig config;
  ModelConfig& model = config.model;
  model.architecture = "llama";
  model.num_layers = reader.Int("num_hidden_layers", 0);
  model.hidden_size = reader.Int("hidden_size", 0);
  model.intermediate_size = reader.Int("intermediate_size", 0);
  model.num_heads = reader.Int("num_attention_heads", 0);
  model.num_kv_heads = reader.Int("num_key_value_heads", model.num_heads);
  model.head_dim =
      reader.Int("head_dim",
                 model.num_heads > 0 ? model.hidden_size / model.num_heads : 0);
  model.vocab_size = reader.Int("vocab_size", 0);
  model.max_position = reader.Int("max_position_embeddings", 2048);
  model.norm_eps = reader.Float("rms_norm_eps", 1e-6f);
  model.tied_embeddings = reader.Bool("tie_word_embeddings", false);
  model.rope.theta = reader.Float("rope_theta", 10000.0f);
  RefuseUnsupported(&reader);
  const JsonValue* parameters = reader.Object("rope_parameters");
  const JsonValue* scaling = reader.Object("rope_scaling");
  DESCANT_RETURN_IF_ERROR(reader.status());
  DESCANT_RETURN_IF_ERROR(ReadRope(parameters != nullptr ? parameters : scaling,
                                   model, path, &model.rope));
  if (const absl::Status status = ValidateModelConfig(model); !status.ok()) {
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
