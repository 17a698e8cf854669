// PEFT's adapter_config.json, of the LoRA kind (semantics of PEFT 0.21,
// peft/tuners/lora/{config,model,layer}.py and tuners_utils.py). What changes
// the computation is served exactly or refused by name; nothing is ignored in
// silence.
#ifndef DESCANT_ADAPTERS_PEFT_CONFIG_H_
#define DESCANT_ADAPTERS_PEFT_CONFIG_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/base_shape.h"

namespace re2 {
class RE2;
}

namespace descant {

inline constexpr size_t kMaxConfigBytes = 64 << 10;
inline constexpr size_t kMaxPatternBytes = 1 << 10;
// The largest rank any server serves; options may lower it.
inline constexpr int32_t kMaxRank = 512;

// A tenant's regular expression, compiled with RE2: linear time. Python's re
// syntax that RE2 lacks (look-around, back-references) is refused.
// Copyable, immutable, thread-safe.
class PeftPattern {
 public:
  // How PEFT uses a pattern on a module's path.
  enum Form {
    kFullMatch,   // target_modules, exclude_modules
    kSuffix,      // rank_pattern, alpha_pattern: (.*\.)?(pattern)$
    kLayerIndex,  // layers_pattern: (?:^|.*?\.)pattern\.(?P<idx>\d+)\.
    kFirstIndex,  // no layers_pattern: .*?\.pattern\.(?P<idx>\d+)\.
  };
  // INVALID_ARGUMENT, ADAPTER_CONFIG_PATTERN.
  static absl::StatusOr<PeftPattern> Compile(absl::string_view pattern,
                                             Form form,
                                             absl::string_view field);
  bool Matches(absl::string_view module_path) const;
  // kLayerIndex, kFirstIndex: false without a match; else the index's digits,
  // which may be empty.
  bool FindLayer(absl::string_view module_path, std::string* digits) const;
  const std::string& text() const { return text_; }
  // Instructions: what matching costs per byte, at worst.
  int32_t program_size() const;

 private:
  PeftPattern() = default;
  std::string text_;
  Form form_ = kFullMatch;
  std::shared_ptr<const re2::RE2> re_;
};

// Which modules an adapter names.
struct AllLinear {};
using ModuleNames = std::vector<std::string>;  // whole path or its last parts
using ModuleSelector = std::variant<ModuleNames, PeftPattern, AllLinear>;

struct PeftConfig {
  int32_t r = 8;
  double lora_alpha = 8;
  bool use_rslora = false;
  ModuleSelector target_modules;
  std::optional<ModuleSelector> exclude_modules;  // never AllLinear
  // First match wins, in the file's order.
  std::vector<std::pair<PeftPattern, int32_t>> rank_pattern;
  std::vector<std::pair<PeftPattern, double>> alpha_pattern;
  std::optional<std::vector<int64_t>> layers_to_transform;
  std::vector<PeftPattern> layers_pattern;
  std::string base_model_name;  // only recorded

  // PEFT's check_target_module_exists for a linear module of the base.
  bool Targets(const BaseModule& module) const;
  // r and alpha of a module after the patterns.
  int32_t RankOf(absl::string_view module_path) const;
  double AlphaOf(absl::string_view module_path) const;
  // alpha / r, or alpha / sqrt(r).
  double ScaleOf(absl::string_view module_path) const;
};

// INVALID_ARGUMENT with a reason of adapters/error_reason.h and the field
// "adapter_config.<key>". `max_rank` caps r and every rank_pattern.
absl::StatusOr<PeftConfig> ParsePeftConfig(absl::string_view json,
                                           int32_t max_rank);

// The fields that change the computation, as canonical JSON (sorted keys, no
// spaces): equal for configs that mean the same. Part of the digest.
std::string CanonicalConfig(const PeftConfig& config);

// The features served, for GetModel: "list target_modules", "rslora", ...
std::vector<std::string> ServedPeftFeatures();

}  // namespace descant

#endif  // DESCANT_ADAPTERS_PEFT_CONFIG_H_
