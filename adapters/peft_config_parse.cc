#include <cmath>
#include <functional>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/formats/json.h"
#include "adapters/peft_config.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr int32_t kMaxConfigDepth = 16;
constexpr int32_t kMaxPatterns = 1024;
// All patterns' instructions together: matching a whole model's modules stays
// within a second or two at the very worst.
constexpr int64_t kMaxProgramSize = 32768;

absl::Status Refuse(absl::string_view reason, absl::string_view key,
                    absl::string_view message) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, reason,
      absl::StrCat("adapter_config.json: ", key, ": ", message),
      absl::StrCat("adapter_config.", key));
}

// Python's falsity: what PEFT takes as "not set".
bool IsInert(const JsonValue& value) {
  switch (value.kind()) {
    case JsonValue::kNull:
      return true;
    case JsonValue::kBool:
      return !value.boolean();
    case JsonValue::kString:
      return value.string().empty();
    case JsonValue::kArray:
      return value.array().empty();
    case JsonValue::kObject:
      return value.object().empty();
    default:
      return value.number() == 0;
  }
}

absl::StatusOr<double> ParseAlpha(const JsonValue& value,
                                  absl::string_view key) {
  if (!value.is_number()) {
    return Refuse(reason::kConfigInvalid, key, "must be a number");
  }
  const double alpha = value.number();
  if (!std::isfinite(alpha) || alpha == 0) {
    return Refuse(reason::kAdapterScale, key, "must be finite and not 0");
  }
  return alpha;
}

absl::StatusOr<int32_t> ParseRank(const JsonValue& value, absl::string_view key,
                                  int32_t max_rank) {
  if (value.kind() != JsonValue::kUnsigned &&
      value.kind() != JsonValue::kNegative) {
    return Refuse(reason::kConfigInvalid, key, "must be an integer");
  }
  if (value.kind() == JsonValue::kNegative || value.unsigned_integer() < 1 ||
      value.unsigned_integer() > static_cast<uint64_t>(max_rank)) {
    return Refuse(reason::kAdapterRank, key,
                  absl::StrCat("must be 1 to ", max_rank));
  }
  return static_cast<int32_t>(value.unsigned_integer());
}

absl::StatusOr<std::vector<std::string>> ParseNames(const JsonValue& value,
                                                    absl::string_view key) {
  std::vector<std::string> names;
  for (const JsonValue& item : value.array()) {
    if (item.kind() != JsonValue::kString || item.string().empty()) {
      return Refuse(reason::kConfigInvalid, key,
                    "must hold strings that are not empty");
    }
    names.push_back(item.string());
  }
  return names;
}

class ConfigParser {
 public:
  explicit ConfigParser(int32_t max_rank) : max_rank_(max_rank) {}

  absl::StatusOr<PeftConfig> Parse(const JsonValue& root) {
    if (root.kind() != JsonValue::kObject) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, reason::kConfigInvalid,
          "adapter_config.json: must be an object", "adapter_config");
    }
    for (const auto& [key, value] : root.object()) {
      DESCANT_RETURN_IF_ERROR(ParseKey(key, value));
    }
    DESCANT_RETURN_IF_ERROR(CheckWhole());
    return std::move(config_);
  }

 private:
  absl::Status ParseKey(const std::string& key, const JsonValue& value);
  absl::Status ParseHandled(absl::string_view key, const JsonValue& value);
  absl::Status ParseInit(absl::string_view key, const JsonValue& value);
  absl::StatusOr<ModuleSelector> ParseSelector(absl::string_view key,
                                               const JsonValue& value);
  absl::Status ParseLayers(absl::string_view key, const JsonValue& value);
  absl::Status ParseLayersPattern(absl::string_view key,
                                  const JsonValue& value);
  template <typename T, typename ParseValue>
  absl::Status ParsePatternMap(
      absl::string_view key, const JsonValue& value, ParseValue parse_value,
      std::vector<std::pair<PeftPattern, T>>* patterns);
  absl::StatusOr<PeftPattern> Compile(absl::string_view pattern,
                                      PeftPattern::Form form,
                                      absl::string_view key);
  absl::Status CheckWhole() const;

  const int32_t max_rank_;
  PeftConfig config_;
  bool has_target_modules_ = false;
  bool has_layers_pattern_ = false;
  int64_t program_size_ = 0;
};

// Keys that say nothing about the computation, whatever their value.
const absl::flat_hash_set<absl::string_view>& HarmlessKeys() {
  static const auto* keys = new absl::flat_hash_set<absl::string_view>{
      "auto_mapping", "inference_mode", "lora_dropout",     "megatron_core",
      "peft_version", "revision",       "qalora_group_size"};
  return *keys;
}

// PEFT features that change the computation and are not served: refused by
// name unless inert.
const absl::flat_hash_set<absl::string_view>& UnservedKeys() {
  static const auto* keys =
      new absl::flat_hash_set<absl::string_view>{"alora_invocation_tokens",
                                                 "alora_invocation_string",
                                                 "arrow_config",
                                                 "corda_config",
                                                 "ensure_weight_tying",
                                                 "eva_config",
                                                 "kasa_config",
                                                 "layer_replication",
                                                 "loftq_config",
                                                 "lora_bias",
                                                 "lora_ga_config",
                                                 "megatron_config",
                                                 "modules_to_save",
                                                 "monteclora_config",
                                                 "target_parameters",
                                                 "trainable_token_indices",
                                                 "use_bdlora",
                                                 "use_dora",
                                                 "use_qalora",
                                                 "velora_config"};
  return *keys;
}

absl::Status ConfigParser::ParseKey(const std::string& key,
                                    const JsonValue& value) {
  static const auto* handled =
      new absl::flat_hash_set<absl::string_view>{"alpha_pattern",
                                                 "base_model_name_or_path",
                                                 "bias",
                                                 "exclude_modules",
                                                 "fan_in_fan_out",
                                                 "init_lora_weights",
                                                 "layers_pattern",
                                                 "layers_to_transform",
                                                 "lora_alpha",
                                                 "peft_type",
                                                 "r",
                                                 "rank_pattern",
                                                 "target_modules",
                                                 "task_type",
                                                 "use_rslora"};
  if (handled->contains(key)) return ParseHandled(key, value);
  if (HarmlessKeys().contains(key)) return absl::OkStatus();
  if (UnservedKeys().contains(key)) {
    if (IsInert(value)) return absl::OkStatus();
    return Refuse(reason::kFeatureUnsupported, key,
                  "this PEFT feature is not served");
  }
  if (key != "auto_map" && IsInert(value)) return absl::OkStatus();
  return Refuse(reason::kConfigUnknownKey, LogSafe(key), "unknown key");
}

absl::Status ConfigParser::ParseHandled(absl::string_view key,
                                        const JsonValue& value) {
  // null is the default everywhere in PEFT.
  if (value.is_null()) return absl::OkStatus();
  if (key == "r") {
    DESCANT_ASSIGN_OR_RETURN(config_.r, ParseRank(value, key, max_rank_));
  } else if (key == "lora_alpha") {
    DESCANT_ASSIGN_OR_RETURN(config_.lora_alpha, ParseAlpha(value, key));
  } else if (key == "rank_pattern") {
    return ParsePatternMap(
        key, value,
        [this](const JsonValue& v, absl::string_view k) {
          return ParseRank(v, k, max_rank_);
        },
        &config_.rank_pattern);
  } else if (key == "alpha_pattern") {
    return ParsePatternMap(key, value, ParseAlpha, &config_.alpha_pattern);
  } else if (key == "target_modules") {
    DESCANT_ASSIGN_OR_RETURN(config_.target_modules, ParseSelector(key, value));
    has_target_modules_ = true;
  } else if (key == "exclude_modules") {
    if (IsInert(value)) return absl::OkStatus();
    DESCANT_ASSIGN_OR_RETURN(config_.exclude_modules,
                             ParseSelector(key, value));
  } else if (key == "layers_to_transform") {
    return ParseLayers(key, value);
  } else if (key == "layers_pattern") {
    return ParseLayersPattern(key, value);
  } else if (key == "use_rslora") {
    if (value.kind() != JsonValue::kBool) {
      return Refuse(reason::kConfigInvalid, key, "must be true or false");
    }
    config_.use_rslora = value.boolean();
  } else if (key == "fan_in_fan_out") {
    // How the base stores its matrix. PEFT corrects it to what the module is,
    // and B A x does not depend on it.
    if (value.kind() != JsonValue::kBool) {
      return Refuse(reason::kConfigInvalid, key, "must be true or false");
    }
  } else if (key == "init_lora_weights") {
    return ParseInit(key, value);
  } else if (value.kind() != JsonValue::kString) {
    return Refuse(reason::kConfigInvalid, key, "must be a string");
  } else if (key == "base_model_name_or_path") {
    config_.base_model_name = LogSafe(value.string());
  } else {
    const absl::string_view served = key == "bias"        ? "none"
                                     : key == "peft_type" ? "LORA"
                                                          : "CAUSAL_LM";
    if (value.string() != served) {
      return Refuse(reason::kFeatureUnsupported, key,
                    absl::StrCat("only ", served, " is served"));
    }
  }
  return absl::OkStatus();
}

// Initialisations that leave the base as it is say nothing about a trained
// adapter; the others change W0, so their adapters belong to another base.
absl::Status ConfigParser::ParseInit(absl::string_view key,
                                     const JsonValue& value) {
  if (value.kind() == JsonValue::kBool) return absl::OkStatus();
  if (value.kind() == JsonValue::kString &&
      (value.string() == "gaussian" || value.string() == "orthogonal")) {
    return absl::OkStatus();
  }
  return Refuse(reason::kFeatureUnsupported, key,
                "this initialisation is not served");
}

absl::StatusOr<PeftPattern> ConfigParser::Compile(absl::string_view pattern,
                                                  PeftPattern::Form form,
                                                  absl::string_view key) {
  DESCANT_ASSIGN_OR_RETURN(
      PeftPattern compiled,
      PeftPattern::Compile(pattern, form,
                           absl::StrCat("adapter_config.", key)));
  program_size_ += compiled.program_size();
  if (program_size_ > kMaxProgramSize) {
    return Refuse(reason::kConfigPattern, key,
                  "the config's patterns are too large together");
  }
  return compiled;
}

absl::StatusOr<ModuleSelector> ConfigParser::ParseSelector(
    absl::string_view key, const JsonValue& value) {
  if (value.kind() == JsonValue::kArray) {
    DESCANT_ASSIGN_OR_RETURN(ModuleNames names, ParseNames(value, key));
    return ModuleSelector(std::move(names));
  }
  if (value.kind() != JsonValue::kString) {
    return Refuse(reason::kConfigInvalid, key,
                  "must be a list of strings or a string");
  }
  if (key == "target_modules" &&
      absl::EqualsIgnoreCase(value.string(), "all-linear")) {
    return ModuleSelector(AllLinear());
  }
  DESCANT_ASSIGN_OR_RETURN(
      PeftPattern pattern,
      Compile(value.string(), PeftPattern::kFullMatch, key));
  return ModuleSelector(std::move(pattern));
}

absl::Status ConfigParser::ParseLayers(absl::string_view key,
                                       const JsonValue& value) {
  const auto refuse = [key] {
    return Refuse(reason::kConfigInvalid, key,
                  "must be an integer or a list of integers, not negative");
  };
  std::vector<int64_t> layers;
  const auto add = [&layers](const JsonValue& item) {
    if (item.kind() != JsonValue::kUnsigned ||
        item.unsigned_integer() > INT32_MAX) {
      return false;
    }
    layers.push_back(static_cast<int64_t>(item.unsigned_integer()));
    return true;
  };
  if (value.kind() == JsonValue::kArray) {
    for (const JsonValue& item : value.array()) {
      if (!add(item)) return refuse();
    }
  } else if (!add(value)) {
    return refuse();
  }
  config_.layers_to_transform = std::move(layers);
  return absl::OkStatus();
}

absl::Status ConfigParser::ParseLayersPattern(absl::string_view key,
                                              const JsonValue& value) {
  has_layers_pattern_ = true;
  std::vector<std::string> texts;
  if (value.kind() == JsonValue::kString) {
    if (!value.string().empty()) texts.push_back(value.string());
  } else if (value.kind() == JsonValue::kArray) {
    DESCANT_ASSIGN_OR_RETURN(texts, ParseNames(value, key));
  } else {
    return Refuse(reason::kConfigInvalid, key,
                  "must be a list of strings or a string");
  }
  for (const std::string& text : texts) {
    DESCANT_ASSIGN_OR_RETURN(PeftPattern pattern,
                             Compile(text, PeftPattern::kLayerIndex, key));
    config_.layers_pattern.push_back(std::move(pattern));
  }
  return absl::OkStatus();
}

template <typename T, typename ParseValue>
absl::Status ConfigParser::ParsePatternMap(
    absl::string_view key, const JsonValue& value, ParseValue parse_value,
    std::vector<std::pair<PeftPattern, T>>* patterns) {
  if (value.kind() != JsonValue::kObject ||
      value.object().size() > kMaxPatterns) {
    return Refuse(reason::kConfigInvalid, key,
                  absl::StrCat("must be an object of at most ", kMaxPatterns,
                               " entries"));
  }
  for (const auto& [text, item] : value.object()) {
    DESCANT_ASSIGN_OR_RETURN(const T parsed, parse_value(item, key));
    DESCANT_ASSIGN_OR_RETURN(PeftPattern pattern,
                             Compile(text, PeftPattern::kSuffix, key));
    patterns->emplace_back(std::move(pattern), parsed);
  }
  return absl::OkStatus();
}

absl::Status ConfigParser::CheckWhole() const {
  if (!has_target_modules_) {
    return Refuse(reason::kConfigInvalid, "target_modules", "missing");
  }
  const bool is_list =
      std::holds_alternative<ModuleNames>(config_.target_modules);
  if (!is_list &&
      (config_.layers_to_transform.has_value() || has_layers_pattern_)) {
    return Refuse(reason::kConfigInvalid, "target_modules",
                  "layers_to_transform and layers_pattern need a list");
  }
  if (!config_.layers_pattern.empty() &&
      !config_.layers_to_transform.has_value()) {
    return Refuse(reason::kConfigInvalid, "layers_pattern",
                  "needs layers_to_transform");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PeftConfig> ParsePeftConfig(absl::string_view json,
                                           int32_t max_rank) {
  JsonLimits limits;
  limits.max_bytes = kMaxConfigBytes;
  limits.max_depth = kMaxConfigDepth;
  absl::StatusOr<JsonValue> root = ParseJson(json, limits);
  if (!root.ok()) {
    return ReasonedError(root.status().code(), ReasonOf(root.status()),
                         absl::StrCat("adapter_config.json: ",
                                      std::string(root.status().message())),
                         "adapter_config");
  }
  return ConfigParser(max_rank).Parse(*root);
}

}  // namespace descant
