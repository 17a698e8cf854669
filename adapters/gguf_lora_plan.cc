#include "adapters/gguf_lora_plan.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/error_reason.h"
#include "adapters/formats/dtype.h"
#include "runtime/base/check.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

absl::Status Refuse(absl::string_view reason, absl::string_view subject,
                    absl::string_view message) {
  const std::string safe = LogSafe(subject);
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason,
                       absl::StrCat("GGUF: ", safe, ": ", message), safe);
}

// The base's tensor without "blk.<layer>." and ".weight".
absl::string_view PartName(LinearKind kind) {
  switch (kind) {
    case LinearKind::kQ:
      return "attn_q";
    case LinearKind::kK:
      return "attn_k";
    case LinearKind::kV:
      return "attn_v";
    case LinearKind::kO:
      return "attn_output";
    case LinearKind::kGate:
      return "ffn_gate";
    case LinearKind::kUp:
    case LinearKind::kGateUp:
      return "ffn_up";
    case LinearKind::kDown:
      return "ffn_down";
    case LinearKind::kQkv:
      return "attn_qkv";
  }
  return "";
}

std::optional<Dtype> DtypeOf(GgufType type) {
  switch (type) {
    case GgufType::kF32:
      return Dtype::kF32;
    case GgufType::kF16:
      return Dtype::kF16;
    case GgufType::kBF16:
      return Dtype::kBF16;
    default:
      return std::nullopt;
  }
}

// A [rows, columns] matrix, however many dimensions of 1 were written or left
// out behind it.
struct Matrix {
  uint64_t rows = 1;
  uint64_t columns = 1;
};

std::optional<Matrix> MatrixOf(const GgufTensor& tensor) {
  for (size_t i = 2; i < tensor.dims.size(); ++i) {
    if (tensor.dims[i] != 1) return std::nullopt;
  }
  return Matrix{tensor.dims.size() > 1 ? tensor.dims[1] : 1, tensor.columns()};
}

struct Pair {
  const GgufTensor* a = nullptr;
  const GgufTensor* b = nullptr;
};

absl::Status RequireString(const GgufIndex& index, absl::string_view key,
                           absl::string_view want, absl::string_view reason) {
  if (index.GetString(key) == want) return absl::OkStatus();
  return Refuse(reason, key, absl::StrCat("must be \"", want, "\""));
}

absl::Status CheckKey(absl::string_view key) {
  if (absl::StartsWith(key, "general.") || key == "adapter.type" ||
      key == "adapter.lora.alpha" ||
      // Hints to clients.
      key == "adapter.lora.task_name" || key == "adapter.lora.prompt_prefix") {
    return absl::OkStatus();
  }
  if (absl::StartsWith(key, "adapter.alora.")) {
    return Refuse(reason::kFeatureUnsupported, key,
                  "activated LoRA is not served");
  }
  return Refuse(reason::kConfigUnknownKey, key, "unknown key");
}

// No hole, no overlap, no tail. `tensors` by offset.
absl::Status CheckLayout(const std::vector<const GgufTensor*>& tensors,
                         const GgufIndex& index, uint64_t file_size) {
  const auto round_up = [mask = index.alignment() - 1](uint64_t offset) {
    return (offset + mask) & ~mask;
  };
  uint64_t end = index.header_bytes();
  for (const GgufTensor* tensor : tensors) {
    if (tensor->begin != round_up(end)) {
      return Refuse(reason::kGgufLayout, tensor->name,
                    tensor->begin < end
                        ? "overlaps with what is before it"
                        : "must begin where the tensor before it ends");
    }
    end = tensor->begin + tensor->bytes;
  }
  if (file_size != end && file_size != round_up(end)) {
    return ReasonedError(absl::StatusCode::kInvalidArgument,
                         reason::kGgufLayout,
                         "GGUF: bytes after the last tensor's data");
  }
  return absl::OkStatus();
}

class Planner {
 public:
  Planner(const GgufIndex& index, uint64_t file_size, const BaseShape& base,
          int32_t max_rank)
      : index_(index),
        file_size_(file_size),
        base_(base),
        max_rank_(max_rank),
        pairs_(base.modules.size()) {
    for (size_t i = 0; i < base.modules.size(); ++i) {
      const BaseModule& module = base.modules[i];
      by_name_.emplace(absl::StrCat("blk.", module.layer, ".",
                                    PartName(module.kind), ".weight"),
                       i);
    }
  }

  absl::StatusOr<GgufLoraPlan> Plan() {
    DESCANT_RETURN_IF_ERROR(CheckKeys());
    DESCANT_ASSIGN_OR_RETURN(const float alpha, Alpha());
    for (const GgufTensor& tensor : index_.tensors()) {
      DESCANT_RETURN_IF_ERROR(Assign(tensor));
    }
    std::vector<GgufLoraModule> modules;
    for (size_t i = 0; i < pairs_.size(); ++i) {
      DESCANT_RETURN_IF_ERROR(AddModule(i, &modules));
    }
    if (modules.empty()) {
      return ReasonedError(absl::StatusCode::kInvalidArgument,
                           reason::kAdapterNoModules,
                           "GGUF: the file has no LoRA tensors");
    }
    GgufLoraPlan plan;
    DESCANT_RETURN_IF_ERROR(PlaceTensors(&plan));
    plan.config_json = GgufLoraConfig(
        modules, base_, alpha,
        index_.GetString("general.base_model.0.name").value_or(""));
    return plan;
  }

 private:
  absl::Status CheckKeys() const {
    DESCANT_RETURN_IF_ERROR(
        RequireString(index_, "general.type", "adapter", reason::kGgufNotLora));
    DESCANT_RETURN_IF_ERROR(
        RequireString(index_, "adapter.type", "lora", reason::kGgufNotLora));
    if (base_.gguf_architecture.empty()) {
      return Refuse(reason::kGgufArchitecture, "general.architecture",
                    "GGUF adapters of this model are not served: upload the "
                    "PEFT files");
    }
    DESCANT_RETURN_IF_ERROR(RequireString(index_, "general.architecture",
                                          base_.gguf_architecture,
                                          reason::kGgufArchitecture));
    std::vector<absl::string_view> keys = index_.Keys();
    std::sort(keys.begin(), keys.end());  // the same answer every time
    for (const absl::string_view key : keys) {
      DESCANT_RETURN_IF_ERROR(CheckKey(key));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<float> Alpha() const {
    constexpr absl::string_view kKey = "adapter.lora.alpha";
    const GgufValue* value = index_.FindValue(kKey);
    if (value == nullptr) return 0.0f;
    if (value->type != GgufValueType::kFloat32) {
      return Refuse(reason::kConfigInvalid, kKey, "must be a float32");
    }
    const float alpha = LoadLittleEndian<float>(value->raw.data());
    if (!std::isfinite(alpha)) {
      return Refuse(reason::kAdapterScale, kKey, "must be finite");
    }
    return alpha;
  }

  absl::Status Assign(const GgufTensor& tensor) {
    absl::string_view name = tensor.name;
    const bool is_a = absl::EndsWith(name, ".lora_a");
    if (!absl::ConsumeSuffix(&name, is_a ? ".lora_a" : ".lora_b")) {
      return Refuse(reason::kAdapterTensorName, tensor.name,
                    "want <tensor>.lora_a or <tensor>.lora_b");
    }
    const auto it = by_name_.find(name);
    if (it == by_name_.end()) {
      return Refuse(reason::kAdapterModuleUnknown, tensor.name,
                    "the base model has no such module to adapt");
    }
    if (!DtypeOf(tensor.type).has_value()) {
      return Refuse(reason::kGgufDtype, tensor.name,
                    "must be F32, F16 or BF16");
    }
    Pair& pair = pairs_[it->second];
    (is_a ? pair.a : pair.b) = &tensor;
    return absl::OkStatus();
  }

  absl::Status AddModule(size_t i, std::vector<GgufLoraModule>* modules) {
    const BaseModule& module = base_.modules[i];
    const Pair& pair = pairs_[i];
    if (pair.a == nullptr && pair.b == nullptr) return absl::OkStatus();
    if (pair.a == nullptr || pair.b == nullptr) {
      return Refuse(reason::kAdapterTensorUnpaired,
                    (pair.a == nullptr ? pair.b : pair.a)->name,
                    "its other half is missing");
    }
    const std::optional<Matrix> a = MatrixOf(*pair.a);
    const std::optional<Matrix> b = MatrixOf(*pair.b);
    if (!a.has_value() || a->columns != static_cast<uint64_t>(module.in)) {
      return Refuse(reason::kAdapterShape, pair.a->name,
                    absl::StrCat("dimensions must be [", module.in, ", rank]"));
    }
    if (!b.has_value() || b->rows != static_cast<uint64_t>(module.out)) {
      return Refuse(
          reason::kAdapterShape, pair.b->name,
          absl::StrCat("dimensions must be [rank, ", module.out, "]"));
    }
    if (a->rows != b->columns || a->rows > static_cast<uint64_t>(max_rank_)) {
      return Refuse(
          reason::kAdapterRank, pair.a->name,
          absl::StrCat("rank must be 1 to ", max_rank_, ", that of lora_b"));
    }
    modules->push_back({&module, static_cast<int32_t>(a->rows)});
    return absl::OkStatus();
  }

  // Where the tensors are, here and there.
  absl::Status PlaceTensors(GgufLoraPlan* plan) {
    std::vector<const GgufTensor*> order;
    order.reserve(index_.tensors().size());
    for (const GgufTensor& tensor : index_.tensors()) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](const auto* x, const auto* y) {
      return std::pair(x->begin, x->bytes) < std::pair(y->begin, y->bytes);
    });
    DESCANT_RETURN_IF_ERROR(CheckLayout(order, index_, file_size_));
    std::string json = "{";
    uint64_t offset = 0;
    for (const GgufTensor* tensor : order) {
      const bool is_a = absl::EndsWith(tensor->name, ".lora_a");
      const BaseModule& module = base_.modules[by_name_.at(tensor->name.substr(
          0, tensor->name.size() - absl::string_view(".lora_a").size()))];
      const Matrix matrix = *MatrixOf(*tensor);
      const Dtype dtype = *DtypeOf(tensor->type);
      // (The path is the base's own: nothing to escape.)
      absl::StrAppend(
          &json, offset == 0 ? "" : ",", "\"base_model.model.", module.path,
          is_a ? ".lora_A" : ".lora_B", ".weight\":{\"dtype\":\"",
          DtypeName(dtype), "\",\"shape\":[", matrix.rows, ",", matrix.columns,
          "],\"data_offsets\":[", offset, ",", offset + tensor->bytes, "]}");
      offset += tensor->bytes;
      plan->tensors.push_back(Placed(*tensor, module, is_a));
    }
    json += "}";
    json.resize((json.size() + 7) / 8 * 8, ' ');
    AppendLittleEndian<uint64_t>(json.size(), &plan->safetensors_header);
    plan->safetensors_header += json;
    plan->safetensors_bytes = plan->safetensors_header.size() + offset;
    return absl::OkStatus();
  }

  static GgufLoraTensor Placed(const GgufTensor& tensor,
                               const BaseModule& module, bool is_a) {
    GgufLoraTensor placed;
    placed.begin = tensor.begin;
    placed.end = tensor.begin + tensor.bytes;
    const int32_t heads = module.gguf_interleaved_heads;
    if (is_a || heads == 0) return placed;
    DESCANT_CHECK(module.out % (2 * heads) == 0);
    placed.row_bytes = tensor.bytes / static_cast<uint64_t>(module.out);
    placed.head_bytes = tensor.bytes / static_cast<uint64_t>(heads);
    return placed;
  }

  const GgufIndex& index_;
  const uint64_t file_size_;
  const BaseShape& base_;
  const int32_t max_rank_;
  std::vector<Pair> pairs_;  // [module of the base]
  absl::flat_hash_map<std::string, size_t> by_name_;
};

}  // namespace

absl::StatusOr<GgufLoraPlan> PlanGgufLora(const GgufIndex& index,
                                          uint64_t file_size,
                                          const BaseShape& base,
                                          int32_t max_rank) {
  return Planner(index, file_size, base, max_rank).Plan();
}

}  // namespace descant
