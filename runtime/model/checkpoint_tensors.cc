#include "runtime/model/checkpoint_tensors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/formats/safetensors.h"
#include "runtime/base/check.h"
#include "runtime/base/float16.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/bfloat16_convert.h"
#include "runtime/model/dequantize.h"

namespace descant {
namespace {

// Values computed at a time: an adapter's A is widened once for each of these.
constexpr int64_t kChunkValues = 4 << 20;

// Values of one tensor as bytes of its dtype, to a sink.
class ValueWriter {
 public:
  ValueWriter(const std::string& name, Dtype dtype, const ByteSink& sink)
      : name_(name), dtype_(dtype), sink_(sink) {}

  // OUT_OF_RANGE: a value that this dtype does not have.
  absl::Status Write(absl::Span<const float> values) {
    const size_t count = values.size();
    bytes_.resize(count * DtypeBytes(dtype_));
    bool finite = true;
    switch (dtype_) {
      case Dtype::kF32:
        std::memcpy(bytes_.data(), values.data(), bytes_.size());
        for (const float value : values) finite &= std::isfinite(value);
        break;
      case Dtype::kBF16: {
        auto* rounded = reinterpret_cast<BFloat16*>(bytes_.data());
        FloatToBFloat16(values.data(), static_cast<int64_t>(count),
                        &rounded->bits);
        for (size_t i = 0; i < count; ++i) {
          finite &= std::isfinite(ToFloat(rounded[i]));
        }
        break;
      }
      case Dtype::kF16: {
        auto* rounded = reinterpret_cast<Float16*>(bytes_.data());
        for (size_t i = 0; i < count; ++i) {
          rounded[i] = ToFloat16(values[i]);
          finite &= (rounded[i].bits & 0x7c00u) != 0x7c00u;
        }
        break;
      }
      case Dtype::kOther:
        DESCANT_CHECK(dtype_ != Dtype::kOther);
    }
    if (!finite) {
      return absl::OutOfRangeError(
          absl::StrCat("tensor ", name_, ": a value is no finite number in ",
                       DtypeName(dtype_)));
    }
    return sink_(absl::MakeConstSpan(bytes_.data(), bytes_.size()));
  }

 private:
  const std::string& name_;
  const Dtype dtype_;
  const ByteSink& sink_;
  std::vector<char> bytes_;
};

// One tensor of a family, made of the weights that it holds.
class RuleTensor {
 public:
  RuleTensor(const TensorRule& rule, int32_t layer, const ModelConfig& config,
             std::shared_ptr<const MergedWeightSource> source)
      : rule_(rule), layer_(layer), source_(std::move(source)) {
    for (int32_t i = 0; i < rule_.num_parts; ++i) {
      shapes_[i] = ShapeOf(config, rule_.parts[i]);
    }
  }

  bool is_vector() const { return shapes_[0].rows == 1; }
  // What multiplies is 1 + what is stored.
  void set_minus_one(bool minus_one) { minus_one_ = minus_one; }

  bool IsMerged() const {
    return std::any_of(
        rule_.parts.begin(), rule_.parts.begin() + rule_.num_parts,
        [this](WeightKind kind) { return source_->IsMerged(kind, layer_); });
  }

  std::vector<uint64_t> Shape() const {
    uint64_t total = 0;
    for (const WeightShape& part : shapes_) {
      total += is_vector() ? part.columns : part.rows;
    }
    if (is_vector()) return {total};
    std::vector<uint64_t> shape = {total,
                                   static_cast<uint64_t>(shapes_[0].columns)};
    if (rule_.conv1d) std::reverse(shape.begin(), shape.end());
    return shape;
  }

  absl::Status Write(ValueWriter* writer) const {
    // (A vector is stored as it is.)
    return rule_.conv1d && !is_vector() ? WriteTransposed(writer)
                                        : WriteRows(writer);
  }

 private:
  absl::Status WriteRows(ValueWriter* writer) const {
    std::vector<float> values;
    for (int32_t i = 0; i < rule_.num_parts; ++i) {
      const auto [rows, columns] = shapes_[i];
      const int64_t step = std::max<int64_t>(1, kChunkValues / columns);
      for (int64_t row = 0; row < rows; row += step) {
        values.resize(std::min(step, rows - row) * columns);
        DESCANT_RETURN_IF_ERROR(source_->ReadFp32(rule_.parts[i], layer_, row,
                                                  absl::MakeSpan(values)));
        if (minus_one_) {
          for (float& value : values) value -= 1.0f;
        }
        DESCANT_RETURN_IF_ERROR(writer->Write(values));
      }
    }
    return absl::OkStatus();
  }

  // Stored [in, out]: all of it is read, then turned.
  absl::Status WriteTransposed(ValueWriter* writer) const {
    const std::vector<uint64_t> shape = Shape();
    const size_t in = shape[0], out = shape[1];
    std::vector<float> values(in * out);
    size_t begin = 0;
    for (int32_t i = 0; i < rule_.num_parts; ++i) {
      const size_t size = shapes_[i].rows * in;
      DESCANT_RETURN_IF_ERROR(
          source_->ReadFp32(rule_.parts[i], layer_, 0,
                            absl::MakeSpan(values).subspan(begin, size)));
      begin += size;
    }
    const size_t step = std::max<size_t>(1, kChunkValues / out);
    std::vector<float> turned;
    for (size_t row = 0; row < in; row += step) {
      turned.clear();
      for (size_t i = row; i < std::min(in, row + step); ++i) {
        for (size_t j = 0; j < out; ++j) turned.push_back(values[j * in + i]);
      }
      DESCANT_RETURN_IF_ERROR(writer->Write(turned));
    }
    return absl::OkStatus();
  }

  const TensorRule& rule_;  // of a family: lives as long as the program
  const int32_t layer_;
  const std::shared_ptr<const MergedWeightSource> source_;
  std::array<WeightShape, 3> shapes_;
  bool minus_one_ = false;
};

SafetensorsSpec SpecOf(std::string name, Dtype dtype,
                       std::vector<uint64_t> shape) {
  SafetensorsSpec spec;
  spec.name = std::move(name);
  spec.dtype = std::string(DtypeName(dtype));
  spec.bytes = DtypeBytes(dtype);
  for (const uint64_t dim : shape) spec.bytes *= dim;
  spec.shape = std::move(shape);
  return spec;
}

CheckpointTensor Computed(std::string name, Dtype dtype, RuleTensor tensor) {
  CheckpointTensor result;
  result.spec = SpecOf(std::move(name), dtype, tensor.Shape());
  result.merged = tensor.IsMerged();
  result.write = [name = result.spec.name, dtype,
                  tensor = std::move(tensor)](const ByteSink& sink) {
    ValueWriter writer(name, dtype, sink);
    return tensor.Write(&writer);
  };
  return result;
}

// Calls visit(name, rule, layer) for every tensor that the model has.
template <typename Visit>
void ForTensors(const HuggingFaceFamily& family, const ModelConfig& config,
                Visit visit) {
  const auto has = [&](const TensorRule& rule) {
    if (rule.parts[0] == WeightKind::kHead && config.tied_embeddings) {
      return false;
    }
    return HasWeight(config, rule.parts[0]);
  };
  for (const TensorRule& rule : family.model_tensors) {
    if (has(rule)) visit(std::string(rule.name), rule, 0);
  }
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (const auto rules : {family.layer_modules, family.layer_norms}) {
      for (const TensorRule& rule : rules) {
        if (!has(rule)) continue;
        visit(absl::StrCat(family.prefix, family.layers, ".", layer, ".",
                           rule.name),
              rule, layer);
      }
    }
  }
}

StorageType StorageOf(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF16:
      return StorageType::kF16;
    case Dtype::kBF16:
      return StorageType::kBF16;
    case Dtype::kF32:
    case Dtype::kOther:
      break;
  }
  return StorageType::kF32;
}

// As it lies in the file, or in another dtype.
CheckpointTensor Stored(std::shared_ptr<const SafetensorsFile> file,
                        const SafetensorsTensor& tensor, Dtype dtype) {
  CheckpointTensor result;
  result.spec.name = tensor.name;
  result.spec.shape.assign(tensor.shape.begin(), tensor.shape.end());
  const int64_t from = DtypeBytes(tensor.dtype);
  const bool same = dtype == tensor.dtype;
  result.spec.dtype = std::string(same ? tensor.dtype_name : DtypeName(dtype));
  result.spec.bytes =
      same ? tensor.bytes() : tensor.bytes() / from * DtypeBytes(dtype);
  result.write = [file = std::move(file), &tensor, dtype, from,
                  same](const ByteSink& sink) {
    const absl::Span<const char> bytes = file->Bytes(tensor);
    ValueWriter writer(tensor.name, dtype, sink);
    std::vector<float> values;
    const size_t step = kChunkValues * 4;
    for (size_t at = 0; at < bytes.size(); at += step) {
      const absl::Span<const char> chunk = bytes.subspan(at, step);
      if (same) {
        DESCANT_RETURN_IF_ERROR(sink(chunk));
      } else {
        values.resize(chunk.size() / from);
        Dequantize(StorageOf(tensor.dtype), chunk, absl::MakeSpan(values));
        DESCANT_RETURN_IF_ERROR(writer.Write(values));
      }
      file->file().Release(tensor.begin + at, chunk.size());
    }
    return absl::OkStatus();
  };
  return result;
}

}  // namespace

absl::StatusOr<std::vector<CheckpointTensor>> HuggingFaceCheckpointTensors(
    const std::vector<std::string>& paths, const HuggingFaceFamily& family,
    const ModelConfig& config, std::shared_ptr<const MergedWeightSource> merged,
    std::optional<Dtype> dtype) {
  std::vector<std::shared_ptr<const SafetensorsFile>> files;
  bool bare = true;  // of the decoder without its head, as GPT-2's own
  for (const std::string& path : paths) {
    DESCANT_ASSIGN_OR_RETURN(files.emplace_back(), SafetensorsFile::Open(path));
    for (const SafetensorsTensor& tensor : files.back()->index().tensors) {
      if (absl::StartsWith(tensor.name, family.prefix)) bare = false;
    }
  }
  absl::flat_hash_map<std::string, RuleTensor> changed;
  ForTensors(
      family, config,
      [&](absl::string_view name, const TensorRule& rule, int32_t layer) {
        if (bare) absl::ConsumePrefix(&name, family.prefix);
        RuleTensor tensor(rule, layer, config, merged);
        if (tensor.IsMerged()) changed.emplace(name, std::move(tensor));
      });
  std::vector<CheckpointTensor> tensors;
  for (const auto& file : files) {
    for (const SafetensorsTensor& tensor : file->index().tensors) {
      const Dtype target = tensor.dtype == Dtype::kOther
                               ? Dtype::kOther
                               : dtype.value_or(tensor.dtype);
      const auto found = changed.find(tensor.name);
      if (found == changed.end()) {
        tensors.push_back(Stored(file, tensor, target));
      } else {
        tensors.push_back(Computed(tensor.name, target, found->second));
        changed.erase(found);
      }
    }
  }
  // The model was loaded from these files.
  if (changed.empty()) return tensors;
  return absl::UnavailableError(
      "the model's files changed while they were read");
}

std::vector<CheckpointTensor> NewCheckpointTensors(
    const HuggingFaceFamily& family, const ModelConfig& config,
    std::shared_ptr<const MergedWeightSource> merged, Dtype dtype) {
  std::vector<CheckpointTensor> tensors;
  ForTensors(
      family, config,
      [&](const std::string& name, const TensorRule& rule, int32_t layer) {
        RuleTensor tensor(rule, layer, config, merged);
        tensor.set_minus_one(tensor.is_vector() && family.norms_plus_one &&
                             absl::EndsWith(rule.name, "norm.weight"));
        tensors.push_back(Computed(name, dtype, std::move(tensor)));
      });
  return tensors;
}

}  // namespace descant
