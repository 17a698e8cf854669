#include "adapters/tensor_modules.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/error_reason.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr absl::string_view kPrefix = "base_model.model.";
constexpr absl::string_view kSuffixA = ".lora_A.weight";
constexpr absl::string_view kSuffixB = ".lora_B.weight";

absl::Status Refuse(absl::string_view reason, absl::string_view subject,
                    absl::string_view message) {
  const std::string safe = LogSafe(subject);
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason,
                       absl::StrCat(safe, ": ", message), safe);
}

struct TensorPair {
  std::optional<size_t> a;
  std::optional<size_t> b;
};

// Tensors of PEFT features that the config should have named already.
absl::string_view UnservedFeature(absl::string_view name) {
  if (absl::StrContains(name, "lora_magnitude_vector")) return "use_dora";
  if (absl::StrContains(name, "lora_embedding_")) return "embedding adapters";
  if (absl::EndsWith(name, ".lora_B.bias")) return "lora_bias";
  if (absl::StrContains(name, "modules_to_save")) return "modules_to_save";
  return "";
}

absl::Status CheckShape(const SafetensorsTensor& tensor, uint64_t rows,
                        uint64_t columns) {
  if (tensor.shape.size() == 2 && tensor.shape[0] == rows &&
      tensor.shape[1] == columns) {
    return absl::OkStatus();
  }
  return Refuse(reason::kAdapterShape, tensor.name,
                absl::StrCat("shape must be [", rows, ", ", columns, "]"));
}

class Matcher {
 public:
  Matcher(const SafetensorsIndex& index, const PeftConfig& config,
          const BaseShape& base)
      : index_(index),
        config_(config),
        base_(base),
        pairs_(base.modules.size()) {
    for (size_t i = 0; i < base.modules.size(); ++i) {
      by_path_.emplace(base.modules[i].path, i);
    }
  }

  absl::StatusOr<std::vector<ValidatedModule>> Match() {
    for (size_t i = 0; i < index_.tensors.size(); ++i) {
      DESCANT_RETURN_IF_ERROR(Assign(i));
    }
    std::vector<ValidatedModule> modules;
    for (size_t i = 0; i < base_.modules.size(); ++i) {
      DESCANT_RETURN_IF_ERROR(AddModule(i, &modules));
    }
    if (modules.empty()) {
      return ReasonedError(absl::StatusCode::kInvalidArgument,
                           reason::kAdapterNoModules,
                           "the adapter targets no module of the base model",
                           "adapter_config.target_modules");
    }
    std::sort(modules.begin(), modules.end(), [](const auto& x, const auto& y) {
      return std::pair(x.layer, x.kind) < std::pair(y.layer, y.kind);
    });
    return modules;
  }

 private:
  absl::Status Assign(size_t tensor) {
    const std::string& name = index_.tensors[tensor].name;
    absl::string_view path = name;
    const bool is_a = absl::EndsWith(path, kSuffixA);
    if (!absl::ConsumePrefix(&path, kPrefix) ||
        !absl::ConsumeSuffix(&path, is_a ? kSuffixA : kSuffixB)) {
      const absl::string_view feature = UnservedFeature(name);
      if (!feature.empty()) {
        return Refuse(reason::kFeatureUnsupported, name,
                      absl::StrCat(feature, " is not served"));
      }
      return Refuse(reason::kAdapterTensorName, name,
                    "want base_model.model.<module>.lora_A.weight or "
                    "lora_B.weight");
    }
    const auto it = by_path_.find(path);
    if (it == by_path_.end()) {
      return Refuse(reason::kAdapterModuleUnknown, name,
                    "the base model has no such module to adapt");
    }
    TensorPair& pair = pairs_[it->second];
    (is_a ? pair.a : pair.b) = tensor;
    return absl::OkStatus();
  }

  absl::Status AddModule(size_t module, std::vector<ValidatedModule>* modules) {
    const BaseModule& base = base_.modules[module];
    const TensorPair& pair = pairs_[module];
    const bool targeted = config_.Targets(base);
    if (!pair.a.has_value() && !pair.b.has_value()) {
      if (!targeted) return absl::OkStatus();
      // A file without any tensor gets the clearer answer.
      if (index_.tensors.empty()) return absl::OkStatus();
      return Refuse(reason::kAdapterModuleMissing, base.path,
                    "the config targets it, the file has no tensors for it");
    }
    if (!pair.a.has_value() || !pair.b.has_value()) {
      return Refuse(
          reason::kAdapterTensorUnpaired, base.path,
          pair.a.has_value() ? "lora_B is missing" : "lora_A is missing");
    }
    if (!targeted) {
      return Refuse(reason::kAdapterModuleUntargeted, base.path,
                    "the file has tensors for it, the config does not target "
                    "it");
    }
    ValidatedModule entry{.layer = base.layer,
                          .kind = base.kind,
                          .rank = config_.RankOf(base.path),
                          .scale = 0,
                          .tensor_a = *pair.a,
                          .tensor_b = *pair.b};
    DESCANT_RETURN_IF_ERROR(CheckRank(base, entry));
    entry.scale = static_cast<float>(config_.ScaleOf(base.path));
    if (!std::isnormal(entry.scale)) {
      return Refuse(reason::kAdapterScale, base.path,
                    "alpha and rank give a scale out of range");
    }
    modules->push_back(entry);
    return absl::OkStatus();
  }

  absl::Status CheckRank(const BaseModule& base,
                         const ValidatedModule& entry) const {
    const SafetensorsTensor& a = index_.tensors[entry.tensor_a];
    const SafetensorsTensor& b = index_.tensors[entry.tensor_b];
    const auto in = static_cast<uint64_t>(base.in);
    const auto out = static_cast<uint64_t>(base.out);
    const auto rank = static_cast<uint64_t>(entry.rank);
    // Right in the other dimension: it is the rank that is wrong.
    if ((a.shape[1] == in && a.shape[0] != rank) ||
        (b.shape[0] == out && b.shape[1] != rank)) {
      return Refuse(reason::kAdapterRank, base.path,
                    absl::StrCat("the config's rank is ", rank, ", A has ",
                                 a.shape[0], ", B has ", b.shape[1]));
    }
    DESCANT_RETURN_IF_ERROR(CheckShape(a, rank, in));
    return CheckShape(b, out, rank);
  }

  const SafetensorsIndex& index_;
  const PeftConfig& config_;
  const BaseShape& base_;
  std::vector<TensorPair> pairs_;  // [module]
  absl::flat_hash_map<absl::string_view, size_t> by_path_;
};

}  // namespace

absl::StatusOr<std::vector<ValidatedModule>> MatchTensors(
    const SafetensorsIndex& index, const PeftConfig& config,
    const BaseShape& base) {
  return Matcher(index, config, base).Match();
}

}  // namespace descant
