#include "runtime/model/hf_tensors.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "adapters/formats/safetensors.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

struct Located {
  const SafetensorsFile* file;
  const SafetensorsTensor* tensor;
  const std::string* path;
};
using LocatedTensors = absl::flat_hash_map<absl::string_view, Located>;

absl::StatusOr<StorageType> StorageOf(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return StorageType::kF32;
    case Dtype::kF16:
      return StorageType::kF16;
    case Dtype::kBF16:
      return StorageType::kBF16;
    case Dtype::kOther:
      break;
  }
  return absl::InvalidArgumentError("dtype must be F32, F16 or BF16");
}

// Finds each tensor that the architecture has, and remembers the rest.
class TensorTaker {
 public:
  TensorTaker(const HuggingFaceConfig& config, const std::string& place,
              LocatedTensors located, FileWeights* weights)
      : family_(*config.family),
        config_(config.model),
        place_(place),
        located_(std::move(located)),
        weights_(weights) {
    // GPT-2's own checkpoints are of the decoder without its head.
    bare_ = std::none_of(located_.begin(), located_.end(),
                         [this](const auto& entry) {
                           return absl::StartsWith(entry.first, family_.prefix);
                         });
  }

  absl::Status TakeAll() {
    for (const TensorRule& rule : family_.model_tensors) {
      DESCANT_RETURN_IF_ERROR(Take(rule, std::string(rule.name), 0));
    }
    for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
      for (const auto rules : {family_.layer_modules, family_.layer_norms}) {
        for (const TensorRule& rule : rules) {
          DESCANT_RETURN_IF_ERROR(
              Take(rule,
                   absl::StrCat(family_.prefix, family_.layers, ".", layer, ".",
                                rule.name),
                   layer));
        }
      }
    }
    for (const auto& [name, rest] : located_) {
      if (!MayBeIgnored(name)) {
        return absl::InvalidArgumentError(
            absl::StrCat(*rest.path, ": tensor ", name, " does not belong to ",
                         family_.architecture));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Take(const TensorRule& rule, absl::string_view name,
                    int32_t layer) {
    if (!HasWeight(config_, rule.parts[0])) return absl::OkStatus();
    if (rule.parts[0] == WeightKind::kHead && config_.tied_embeddings) {
      return absl::OkStatus();
    }
    if (bare_) absl::ConsumePrefix(&name, family_.prefix);
    const auto found = located_.find(name);
    if (found == located_.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(place_, ": tensor ", name, " is missing"));
    }
    const Located located = found->second;
    if (const absl::Status status = Store(rule, layer, located); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          *located.path, ": tensor ", name, ": ", status.message()));
    }
    located_.erase(found);
    return absl::OkStatus();
  }

  // Errors say the rule alone.
  absl::Status Store(const TensorRule& rule, int32_t layer,
                     const Located& located) {
    const SafetensorsTensor& tensor = *located.tensor;
    DESCANT_ASSIGN_OR_RETURN(const StorageType type, StorageOf(tensor.dtype));
    const WeightShape first = ShapeOf(config_, rule.parts[0]);
    // A vector is one row of many columns; its parts are some of those.
    const bool vector = first.rows == 1;
    int64_t total = 0;
    for (int32_t i = 0; i < rule.num_parts; ++i) {
      const WeightShape shape = ShapeOf(config_, rule.parts[i]);
      total += vector ? shape.columns : shape.rows;
    }
    std::vector<uint64_t> expected = {static_cast<uint64_t>(total)};
    if (!vector) expected.push_back(first.columns);
    if (rule.conv1d) std::reverse(expected.begin(), expected.end());
    if (!std::equal(expected.begin(), expected.end(), tensor.shape.begin(),
                    tensor.shape.end())) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape [", absl::StrJoin(tensor.shape, ", "),
                       "], must be [", absl::StrJoin(expected, ", "), "]"));
    }
    StoredTensor stored;
    stored.type = type;
    stored.bytes = located.file->Bytes(tensor);
    stored.file = &located.file->file();
    stored.offset = tensor.begin;
    stored.plus_one = vector && family_.norms_plus_one &&
                      absl::EndsWith(rule.name, "norm.weight");
    if (rule.conv1d) stored.stored_columns = total;
    const int64_t row_bytes =
        (vector ? 1 : first.columns) * TraitsOf(type).block_bytes;
    int64_t begin = 0;
    for (int32_t i = 0; i < rule.num_parts; ++i) {
      const WeightShape shape = ShapeOf(config_, rule.parts[i]);
      const int64_t rows = vector ? shape.columns : shape.rows;
      StoredTensor part = stored;
      if (rule.conv1d) {
        part.first_column = begin;
      } else {
        part.bytes = stored.bytes.subspan(begin * row_bytes, rows * row_bytes);
        part.offset += begin * row_bytes;
      }
      weights_->Set(rule.parts[i], layer, part);
      begin += rows;
    }
    return absl::OkStatus();
  }

  bool MayBeIgnored(absl::string_view name) const {
    if (absl::EndsWith(name, "rotary_emb.inv_freq")) return true;
    if (config_.tied_embeddings && name == "lm_head.weight") return true;
    if (config_.naming != ModuleNaming::kGpt2) return false;
    // The causal mask, which GPT-2 once saved with every layer.
    if (!bare_) absl::ConsumePrefix(&name, family_.prefix);
    return absl::StartsWith(name, "h.") &&
           (absl::EndsWith(name, ".attn.bias") ||
            absl::EndsWith(name, ".attn.masked_bias"));
  }

  const HuggingFaceFamily& family_;
  const ModelConfig& config_;
  const std::string& place_;
  LocatedTensors located_;
  FileWeights* const weights_;
  bool bare_ = false;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const FileWeights>> OpenHuggingFaceWeights(
    const std::vector<std::string>& paths, const std::string& place,
    const HuggingFaceConfig& config) {
  auto weights = std::make_shared<FileWeights>(config.model);
  LocatedTensors located;
  for (const std::string& path : paths) {
    DESCANT_ASSIGN_OR_RETURN(std::shared_ptr<const SafetensorsFile> file,
                             SafetensorsFile::Open(path));
    for (const SafetensorsTensor& tensor : file->index().tensors) {
      if (!located.try_emplace(tensor.name, Located{file.get(), &tensor, &path})
               .second) {
        return absl::InvalidArgumentError(absl::StrCat(
            path, ": tensor ", tensor.name, " is also in another shard"));
      }
    }
    weights->Own(std::move(file));
  }
  DESCANT_RETURN_IF_ERROR(
      TensorTaker(config, place, std::move(located), weights.get()).TakeAll());
  return weights;
}

}  // namespace descant
