#include "runtime/model/hf_rope.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace descant {
namespace {

constexpr absl::string_view kOriginal = "original_max_position_embeddings";

void Require(absl::string_view key, ObjectReader* rope) {
  if (!rope->Has(key)) rope->Fail(absl::StrCat("rope ", key, " is missing"));
}

// The root's has priority, as in Transformers.
int32_t OriginalPositions(const ModelConfig& model, ObjectReader* root,
                          ObjectReader* rope) {
  return root->Int(kOriginal, rope->Int(kOriginal, model.max_position));
}

void ReadLlama3(ObjectReader* rope, RopeConfig* result) {
  result->scaling = RopeScaling::kLlama3;
  for (const absl::string_view key :
       {"factor", "low_freq_factor", "high_freq_factor"}) {
    Require(key, rope);
  }
  result->factor = rope->Float("factor", 1.0f);
  result->low_freq_factor = rope->Float("low_freq_factor", 1.0f);
  result->high_freq_factor = rope->Float("high_freq_factor", 4.0f);
}

// 0.1 m ln(factor) + 1, of https://arxiv.org/abs/2309.00071.
double YarnTemperature(double factor, double scale) {
  return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
}

void ReadYarn(const ModelConfig& model, ObjectReader* rope,
              RopeConfig* result) {
  result->scaling = RopeScaling::kYarn;
  const double factor = rope->Float(
      "factor", static_cast<float>(model.max_position) /
                    static_cast<float>(result->original_max_position));
  result->factor = static_cast<float>(factor);
  const float scale = rope->Float("mscale", 0.0f);
  const float scale_all = rope->Float("mscale_all_dim", 0.0f);
  const double temperature =
      scale != 0 && scale_all != 0
          ? YarnTemperature(factor, scale) / YarnTemperature(factor, scale_all)
          : YarnTemperature(factor, 1.0);
  result->attention_factor =
      rope->Float("attention_factor", static_cast<float>(temperature));
  const float fast = rope->Float("beta_fast", 0.0f);
  const float slow = rope->Float("beta_slow", 0.0f);
  result->beta_fast = fast != 0 ? fast : 32.0f;
  result->beta_slow = slow != 0 ? slow : 1.0f;
  result->truncate = rope->Bool("truncate", true);
}

void ReadLongRope(ObjectReader* rope, ModelConfig* model, RopeConfig* result) {
  result->scaling = RopeScaling::kLongRope;
  for (const absl::string_view key : {"short_factor", "long_factor"}) {
    Require(key, rope);
  }
  for (const absl::string_view key : {"short_mscale", "long_mscale"}) {
    if (rope->Has(key)) {
      rope->Fail(absl::StrCat("rope ", key, " is not supported"));
    }
  }
  result->frequency_divisors = rope->Floats("short_factor");
  const double original = result->original_max_position;
  const double factor =
      rope->Float("factor", static_cast<float>(model->max_position / original));
  const double temperature =
      factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(original));
  result->attention_factor =
      rope->Float("attention_factor", static_cast<float>(temperature));
  model->max_position =
      std::min(model->max_position, result->original_max_position);
}

int32_t RotaryDimOf(const RopeRules& rules, const ModelConfig& model,
                    ObjectReader* root, ObjectReader* rope) {
  constexpr absl::string_view kKey = "partial_rotary_factor";
  const float factor = rope->Float(kKey, root->Float(kKey, 1.0f));
  if (factor == 1.0f) return 0;
  if (!rules.partial) {
    rope->Fail("partial_rotary_factor is not supported");
    return 0;
  }
  if (!(factor > 0 && factor < 1)) {
    rope->Fail("partial_rotary_factor must be over 0 and at most 1");
    return 0;
  }
  return static_cast<int32_t>(model.head_dim * static_cast<double>(factor));
}

// `object` holds the type and its parameters, and may hold a theta other than
// `theta`.
RopeConfig ReadOne(const RopeRules& rules, const JsonValue* object, float theta,
                   ObjectReader* root, ModelConfig* model) {
  RopeConfig result;
  ObjectReader rope(object, root->path());
  for (const absl::string_view key : {"full_attention", "sliding_attention"}) {
    if (rope.Has(key)) rope.Fail("rope by layer type is not supported");
  }
  result.theta = rope.Float("rope_theta", theta);
  std::string type = rope.String("rope_type", rope.String("type", "default"));
  if (rules.yarn_is_longrope && (type == "su" || type == "yarn")) {
    type = "longrope";
  }
  result.rotary_dim = RotaryDimOf(rules, *model, root, &rope);
  if (type == "llama3" || type == "yarn" || type == "longrope") {
    result.original_max_position = OriginalPositions(*model, root, &rope);
    if (result.original_max_position < 1) {
      rope.Fail(absl::StrCat("rope ", kOriginal, " must be positive"));
    }
  }
  if (!rope.status().ok()) {
    root->Merge(rope.status());
    return result;
  }
  if (type == "linear") {
    result.scaling = RopeScaling::kLinear;
    Require("factor", &rope);
    result.factor = rope.Float("factor", 1.0f);
  } else if (type == "llama3") {
    ReadLlama3(&rope, &result);
  } else if (type == "yarn") {
    ReadYarn(*model, &rope, &result);
  } else if (type == "longrope") {
    ReadLongRope(&rope, model, &result);
  } else if (type != "default") {
    rope.Fail(absl::StrCat("rope type ", JsonQuote(type),
                           " is not supported, only \"default\", \"linear\", "
                           "\"llama3\", \"yarn\" and \"longrope\""));
  }
  root->Merge(rope.status());
  return result;
}

// An empty object counts as none.
const JsonValue* FilledObject(ObjectReader* root, absl::string_view key) {
  const JsonValue* object = root->Object(key);
  return object == nullptr || object->object().empty() ? nullptr : object;
}

}  // namespace

void ReadRope(const RopeRules& rules, ObjectReader* root, ModelConfig* model) {
  const JsonValue* scaling = FilledObject(root, "rope_scaling");
  const JsonValue* parameters = FilledObject(root, "rope_parameters");
  model->rope = ReadOne(rules, scaling != nullptr ? scaling : parameters,
                        root->Float("rope_theta", rules.theta), root, model);
}

void ReadGlobalAndWindowRope(ObjectReader* root, ModelConfig* model) {
  constexpr float kGlobalTheta = 1e6f;
  constexpr float kWindowTheta = 1e4f;
  const JsonValue* scaling = FilledObject(root, "rope_scaling");
  const JsonValue* parameters = FilledObject(root, "rope_parameters");
  ObjectReader by_layer(parameters, root->path());
  if (parameters != nullptr &&
      (by_layer.Has("rope_type") || by_layer.Has("rope_theta"))) {
    root->Fail("rope_parameters must be given by layer type");
    return;
  }
  const JsonValue* global = by_layer.Object("full_attention");
  const JsonValue* window = by_layer.Object("sliding_attention");
  if (scaling != nullptr && global != nullptr) {
    root->Fail("rope_scaling and rope_parameters must not both be given");
    return;
  }
  root->Merge(by_layer.status());
  const RopeRules rules;
  model->rope = ReadOne(rules, scaling != nullptr ? scaling : global,
                        root->Float("rope_theta", kGlobalTheta), root, model);
  model->window_rope =
      ReadOne(rules, window, root->Float("rope_local_base_freq", kWindowTheta),
              root, model);
}

}  // namespace descant
