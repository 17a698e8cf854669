#include "runtime/model/model_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

// Llama 3.1's rule: long wavelengths are divided by the factor, short ones are
// kept, those between are blended.
float ScaleLlama3(float inverse_frequency, const RopeConfig& rope) {
  const float original = static_cast<float>(rope.original_max_position);
  const float low_wavelength = original / rope.low_freq_factor;
  const float high_wavelength = original / rope.high_freq_factor;
  const float wavelength = 2.0f * std::numbers::pi_v<float> / inverse_frequency;
  if (wavelength < high_wavelength) return inverse_frequency;
  const float scaled = inverse_frequency / rope.factor;
  if (wavelength > low_wavelength) return scaled;
  const float smooth = (original / wavelength - rope.low_freq_factor) /
                       (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0f - smooth) * scaled + smooth * inverse_frequency;
}

// The fractional dimension whose wavelength makes `rotations` turns within the
// original context.
double YarnDimension(double rotations, int32_t dim, const RopeConfig& rope) {
  return dim *
         std::log(rope.original_max_position /
                  (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(static_cast<double>(rope.theta)));
}

// YaRN's ramp: high frequencies are kept, low ones divided by the factor.
// Takes theta^(2i / dim), leaves inverse frequencies.
void ScaleYarn(const RopeConfig& rope, int32_t dim,
               std::vector<float>* powers) {
  double low = YarnDimension(rope.beta_fast, dim, rope);
  double high = YarnDimension(rope.beta_slow, dim, rope);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  const auto from = static_cast<float>(low);
  const auto width = static_cast<float>(high - low);
  for (size_t i = 0; i < powers->size(); ++i) {
    const float ramp =
        std::clamp((static_cast<float>(i) - from) / width, 0.0f, 1.0f);
    const float kept = 1.0f - ramp;
    const float power = (*powers)[i];
    (*powers)[i] =
        1.0f / (rope.factor * power) * (1.0f - kept) + 1.0f / power * kept;
  }
}

absl::Status CheckRange(absl::string_view name, int64_t value, int64_t max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", value, ", must be 1 to ", max));
}

absl::Status ValidateDivisors(const RopeConfig& rope, int32_t pairs) {
  if (rope.frequency_divisors.empty() &&
      rope.scaling != RopeScaling::kLongRope) {
    return absl::OkStatus();
  }
  if (static_cast<int32_t>(rope.frequency_divisors.size()) != pairs) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rope frequency divisors: ", rope.frequency_divisors.size(),
        ", must be ", pairs));
  }
  for (const float divisor : rope.frequency_divisors) {
    if (!(std::isfinite(divisor) && divisor > 0)) {
      return absl::InvalidArgumentError(
          "rope frequency divisors must be positive");
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateRope(const RopeConfig& rope, int32_t head_dim) {
  const auto positive = [](float value) {
    return std::isfinite(value) && value > 0;
  };
  if (!positive(rope.theta)) {
    return absl::InvalidArgumentError("rope theta must be positive");
  }
  if (!positive(rope.factor)) {
    return absl::InvalidArgumentError("rope factor must be positive");
  }
  if (!positive(rope.attention_factor)) {
    return absl::InvalidArgumentError("rope attention_factor must be positive");
  }
  if (rope.rotary_dim < 0 || rope.rotary_dim > head_dim ||
      rope.rotary_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope of ", rope.rotary_dim, " elements of a head of ",
                     head_dim, ", must be even and at most the head"));
  }
  if (rope.scaling == RopeScaling::kLlama3 &&
      !(positive(rope.low_freq_factor) &&
        positive(rope.high_freq_factor - rope.low_freq_factor) &&
        rope.original_max_position > 0)) {
    return absl::InvalidArgumentError(
        "rope scaling llama3 needs 0 < low_freq_factor < high_freq_factor and "
        "a positive original_max_position_embeddings");
  }
  if (rope.scaling == RopeScaling::kYarn &&
      !(positive(rope.beta_slow) && positive(rope.beta_fast - rope.beta_slow) &&
        rope.theta > 1 && rope.original_max_position > 0)) {
    return absl::InvalidArgumentError(
        "rope scaling yarn needs 0 < beta_slow < beta_fast, a theta over 1 and "
        "a positive original_max_position_embeddings");
  }
  return ValidateDivisors(rope, RotaryDim(rope, head_dim) / 2);
}

absl::Status ValidateFeatures(const ModelConfig& config) {
  const auto cap = [](float value) {
    return std::isfinite(value) && value >= 0;
  };
  if (!(std::isfinite(config.norm_eps) && config.norm_eps > 0)) {
    return absl::InvalidArgumentError("the norms' epsilon must be positive");
  }
  if (!cap(config.attention_logit_cap) || !cap(config.final_logit_cap)) {
    return absl::InvalidArgumentError("logit caps must be positive");
  }
  if (!cap(config.attention_scale)) {
    return absl::InvalidArgumentError("attention scale must be positive");
  }
  if (!(std::isfinite(config.embedding_scale) && config.embedding_scale > 0)) {
    return absl::InvalidArgumentError("embedding scale must be positive");
  }
  if (!config.windows.empty() &&
      static_cast<int32_t>(config.windows.size()) != config.num_layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("attention windows for ", config.windows.size(),
                     " layers, must be ", config.num_layers));
  }
  for (const int32_t window : config.windows) {
    if (window < 0) {
      return absl::InvalidArgumentError("attention windows can't be negative");
    }
  }
  return absl::OkStatus();
}

}  // namespace

int32_t WindowOf(const ModelConfig& config, int32_t layer) {
  return config.windows.empty() ? 0 : config.windows[layer];
}

const RopeConfig& RopeOf(const ModelConfig& config, int32_t layer) {
  return config.window_rope.has_value() && WindowOf(config, layer) > 0
             ? *config.window_rope
             : config.rope;
}

float AttentionScale(const ModelConfig& config) {
  if (config.attention_scale > 0) return config.attention_scale;
  return static_cast<float>(1 /
                            std::sqrt(static_cast<double>(config.head_dim)));
}

int32_t RotaryDim(const RopeConfig& rope, int32_t head_dim) {
  return rope.rotary_dim > 0 ? rope.rotary_dim : head_dim;
}

std::vector<float> RopeInverseFrequencies(const RopeConfig& rope,
                                          int32_t head_dim) {
  const int32_t dim = RotaryDim(rope, head_dim);
  std::vector<float> result(dim / 2);
  for (int32_t i = 0; i < dim / 2; ++i) {
    result[i] = std::pow(rope.theta,
                         static_cast<float>(2 * i) / static_cast<float>(dim));
  }
  const std::vector<float>& divisors = rope.frequency_divisors;
  if (rope.scaling == RopeScaling::kYarn) {
    ScaleYarn(rope, dim, &result);
  } else if (rope.scaling == RopeScaling::kLongRope) {
    for (size_t i = 0; i < divisors.size(); ++i) {
      result[i] = 1.0f / (divisors[i] * result[i]);
    }
    return result;
  } else {
    for (float& value : result) {
      value = 1.0f / value;
      if (rope.scaling == RopeScaling::kLinear) value /= rope.factor;
      if (rope.scaling == RopeScaling::kLlama3) {
        value = ScaleLlama3(value, rope);
      }
    }
  }
  for (size_t i = 0; i < divisors.size(); ++i) result[i] /= divisors[i];
  return result;
}

RopeRotations MakeRopeRotations(const RopeConfig& rope, int32_t head_dim,
                                int32_t positions) {
  const std::vector<float> frequencies = RopeInverseFrequencies(rope, head_dim);
  const size_t pairs = frequencies.size();
  RopeRotations rotations;
  rotations.pairs = static_cast<int32_t>(pairs);
  rotations.cos.resize(static_cast<size_t>(positions) * pairs);
  rotations.sin.resize(static_cast<size_t>(positions) * pairs);
  for (size_t position = 0; position < static_cast<size_t>(positions);
       ++position) {
    for (size_t i = 0; i < pairs; ++i) {
      const float angle = static_cast<float>(position) * frequencies[i];
      const size_t at = position * pairs + i;
      rotations.cos[at] = std::cos(angle) * rope.attention_factor;
      rotations.sin[at] = std::sin(angle) * rope.attention_factor;
    }
  }
  return rotations;
}

absl::Status ValidateModelConfig(const ModelConfig& config) {
  const struct {
    absl::string_view name;
    int64_t value;
    int64_t max;
  } ranges[] = {
      {"number of layers", config.num_layers, 1024},
      {"hidden size", config.hidden_size, 1 << 17},
      {"intermediate size", config.intermediate_size, 1 << 20},
      {"number of heads", config.num_heads, 4096},
      {"number of key-value heads", config.num_kv_heads, config.num_heads},
      {"head size", config.head_dim, 1024},
      {"vocabulary size", config.vocab_size, 1 << 24},
      {"maximum position", config.max_position, 1 << 28},
  };
  for (const auto& range : ranges) {
    DESCANT_RETURN_IF_ERROR(CheckRange(range.name, range.value, range.max));
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.num_heads, " heads are no multiple of ",
                     config.num_kv_heads, " key-value heads"));
  }
  if (config.head_dim % 2 != 0 && config.position == PositionKind::kRope) {
    return absl::InvalidArgumentError(
        absl::StrCat("head size ", config.head_dim, " is odd"));
  }
  DESCANT_RETURN_IF_ERROR(ValidateFeatures(config));
  if (config.position != PositionKind::kRope) return absl::OkStatus();
  if (config.window_rope.has_value()) {
    DESCANT_RETURN_IF_ERROR(ValidateRope(*config.window_rope, config.head_dim));
  }
  return ValidateRope(config.rope, config.head_dim);
}

}  // namespace descant
