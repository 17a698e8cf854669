#include "runtime/model/model_config.h"

#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"

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

absl::Status CheckRange(absl::string_view name, int64_t value, int64_t max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", value, ", must be 1 to ", max));
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
  if (rope.scaling == RopeScaling::kLlama3 &&
      !(positive(rope.low_freq_factor) &&
        positive(rope.high_freq_factor - rope.low_freq_factor) &&
        rope.original_max_position > 0)) {
    return absl::InvalidArgumentError(
        "rope scaling llama3 needs 0 < low_freq_factor < high_freq_factor and "
        "a positive original_max_position_embeddings");
  }
  if (!rope.frequency_divisors.empty()) {
    if (static_cast<int32_t>(rope.frequency_divisors.size()) != head_dim / 2) {
      return absl::InvalidArgumentError(absl::StrCat(
          "rope frequency divisors: ", rope.frequency_divisors.size(),
          ", must be ", head_dim / 2));
    }
    for (const float divisor : rope.frequency_divisors) {
      if (!positive(divisor)) {
        return absl::InvalidArgumentError(
            "rope frequency divisors must be positive");
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<float> RopeInverseFrequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  std::vector<float> result(config.head_dim / 2);
  for (int32_t i = 0; i < config.head_dim / 2; ++i) {
    const float exponent =
        static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    float value = 1.0f / std::pow(rope.theta, exponent);
    if (rope.scaling == RopeScaling::kLinear) value /= rope.factor;
    if (rope.scaling == RopeScaling::kLlama3) value = ScaleLlama3(value, rope);
    if (!rope.frequency_divisors.empty()) value /= rope.frequency_divisors[i];
    result[i] = value;
  }
  return result;
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
    if (absl::Status status = CheckRange(range.name, range.value, range.max);
        !status.ok()) {
      return status;
    }
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.num_heads, " heads are no multiple of ",
                     config.num_kv_heads, " key-value heads"));
  }
  if (config.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head size ", config.head_dim, " is odd"));
  }
  if (!(std::isfinite(config.rms_norm_eps) && config.rms_norm_eps > 0)) {
    return absl::InvalidArgumentError("rms_norm_eps must be positive");
  }
  return ValidateRope(config.rope, config.head_dim);
}

}  // namespace descant
