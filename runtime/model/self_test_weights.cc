#include "runtime/model/self_test_weights.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "runtime/base/float16.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/layout.h"
#include "runtime/model/block_format.h"

namespace descant {
namespace {

using kernels::kColumnBlock;

bool IsOfLayer(WeightKind kind) {
  return static_cast<int32_t>(kind) < kLayerWeightKinds;
}

bool IsEmbedding(WeightKind kind) {
  return kind == WeightKind::kEmbedding ||
         kind == WeightKind::kPositionEmbedding;
}

// Uniform in [-1, 1), the same for the same arguments: SplitMix64's finalizer.
float Noise(WeightKind kind, int32_t layer, int64_t index) {
  const uint64_t tensor =
      static_cast<uint64_t>(layer) * kWeightKinds + static_cast<uint64_t>(kind);
  uint64_t z =
      (tensor << 40) + static_cast<uint64_t>(index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<float>(static_cast<int64_t>(z) >> 40) * 0x1p-23f;
}

class OneLayer final : public WeightSource {
 public:
  OneLayer(std::shared_ptr<const WeightSource> inner, const ModelConfig& config,
           int32_t layer)
      : inner_(std::move(inner)), config_(config), layer_(layer) {}

  absl::Status ReadBf16(WeightKind kind, int32_t /*layer*/, int64_t row_begin,
                        absl::Span<BFloat16> out) const override {
    if (IsOfLayer(kind)) return inner_->ReadBf16(kind, layer_, row_begin, out);
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = ToBFloat16(Value(kind, row_begin, i));
    }
    return absl::OkStatus();
  }

  absl::Status ReadFp32(WeightKind kind, int32_t /*layer*/, int64_t row_begin,
                        absl::Span<float> out) const override {
    if (IsOfLayer(kind)) return inner_->ReadFp32(kind, layer_, row_begin, out);
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = ToFloat(ToBFloat16(Value(kind, row_begin, i)));
    }
    return absl::OkStatus();
  }

  std::optional<StorageType> StoredAs(WeightKind kind,
                                      int32_t /*layer*/) const override {
    if (!IsOfLayer(kind)) return std::nullopt;
    return inner_->StoredAs(kind, layer_);
  }
  absl::Status ReadStored(WeightKind kind, int32_t /*layer*/, int64_t row_begin,
                          absl::Span<char> out) const override {
    return inner_->ReadStored(kind, layer_, row_begin, out);
  }

 private:
  float Value(WeightKind kind, int64_t row_begin, size_t i) const {
    if (kind == WeightKind::kFinalNorm) return 1;
    if (kind == WeightKind::kFinalNormBias) return 0;
    // A uniform value's variance is a third.
    const float scale =
        IsEmbedding(kind)
            ? std::sqrt(3.0f) * kSelfTestEmbedding
            : std::sqrt(3.0f / static_cast<float>(config_.hidden_size));
    return scale *
           Noise(kind, 0,
                 row_begin * config_.hidden_size + static_cast<int64_t>(i));
  }

  const std::shared_ptr<const WeightSource> inner_;
  const ModelConfig config_;
  const int32_t layer_;
};

// Reads fp32 of another source, changed.
class ChangedSource : public WeightSource {
 public:
  ChangedSource(std::shared_ptr<const WeightSource> inner,
                const ModelConfig& config)
      : inner_(std::move(inner)), config_(config) {}

  absl::Status ReadBf16(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<BFloat16> out) const override {
    std::vector<float> values(out.size());
    DESCANT_RETURN_IF_ERROR(
        ReadFp32(kind, layer, row_begin, absl::MakeSpan(values)));
    for (size_t i = 0; i < out.size(); ++i) out[i] = ToBFloat16(values[i]);
    return absl::OkStatus();
  }

 protected:
  const std::shared_ptr<const WeightSource> inner_;
  const ModelConfig config_;
};

class PackedValues final : public ChangedSource {
 public:
  PackedValues(std::shared_ptr<const WeightSource> inner,
               const ModelConfig& config, WeightType type)
      : ChangedSource(std::move(inner), config), type_(type) {}

  absl::Status ReadFp32(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<float> out) const override {
    // The runner looks tied embeddings up in the head.
    if (kind == WeightKind::kEmbedding && config_.tied_embeddings) {
      kind = WeightKind::kHead;
    }
    const WeightShape shape = ShapeOf(config_, kind);
    if (shape.rows == 1 || IsEmbedding(kind)) {
      return inner_->ReadFp32(kind, layer, row_begin, out);
    }
    const int64_t columns = shape.columns;
    const BlockFormat* const format =
        LinearFormat(BlockFormatOf(type_), *inner_, FusedWith(kind), layer);
    std::vector<Line> block(format->bytes(columns) / sizeof(Line));
    std::byte* const bytes = block.front().bytes;
    PackScratch scratch;
    const int64_t rows = static_cast<int64_t>(out.size()) / columns;
    for (int64_t first = 0; first < rows; first += kColumnBlock) {
      const auto count =
          static_cast<int32_t>(std::min<int64_t>(kColumnBlock, rows - first));
      std::fill(block.begin(), block.end(), Line{});
      DESCANT_RETURN_IF_ERROR(format->pack(
          *inner_, {kind, layer, row_begin + first, count, columns}, &scratch,
          bytes));
      for (int32_t row = 0; row < count; ++row) {
        format->unpack(bytes, row, columns,
                       out.data() + (first + row) * columns);
      }
    }
    return absl::OkStatus();
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };

  // All parts of a fused module have one format.
  std::vector<WeightKind> FusedWith(WeightKind kind) const {
    switch (kind) {
      case WeightKind::kQuery:
      case WeightKind::kKey:
      case WeightKind::kValue:
        return {WeightKind::kQuery, WeightKind::kKey, WeightKind::kValue};
      case WeightKind::kGate:
      case WeightKind::kUp:
        if (config_.gated_mlp) return {WeightKind::kUp, WeightKind::kGate};
        return {WeightKind::kUp};
      default:
        return {kind};
    }
  }

  const WeightType type_;
};

class NoisyValues final : public ChangedSource {
 public:
  NoisyValues(std::shared_ptr<const WeightSource> inner,
              const ModelConfig& config, WeightType type)
      : ChangedSource(std::move(inner), config), type_(type) {}

  absl::Status ReadFp32(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<float> out) const override {
    DESCANT_RETURN_IF_ERROR(inner_->ReadFp32(kind, layer, row_begin, out));
    const WeightShape shape = ShapeOf(config_, kind);
    const bool by_row = type_ == WeightType::kInt8 && shape.rows > 1;
    const int64_t columns = shape.columns;
    for (size_t first = 0; first < out.size(); first += columns) {
      const absl::Span<float> row = out.subspan(first, columns);
      float largest = 0;
      for (const float w : row) largest = std::max(largest, std::abs(w));
      const int64_t at = row_begin * columns + static_cast<int64_t>(first);
      for (int64_t i = 0; i < columns; ++i) {
        // Eight bits of the row's largest, or eight of the value's own.
        const float unit = by_row ? largest / 127 : std::abs(row[i]) * 0x1p-8f;
        row[i] += unit * Noise(kind, layer, at + i);
      }
    }
    return absl::OkStatus();
  }

 private:
  const WeightType type_;
};

}  // namespace

std::shared_ptr<const WeightSource> OneLayerWeights(
    std::shared_ptr<const WeightSource> inner, const ModelConfig& config,
    int32_t layer) {
  return std::make_shared<OneLayer>(std::move(inner), config, layer);
}

std::shared_ptr<const WeightSource> AsPacked(
    std::shared_ptr<const WeightSource> inner, const ModelConfig& config,
    WeightType type) {
  return std::make_shared<PackedValues>(std::move(inner), config, type);
}

std::shared_ptr<const WeightSource> WithRoundingNoise(
    std::shared_ptr<const WeightSource> inner, const ModelConfig& config,
    WeightType type) {
  return std::make_shared<NoisyValues>(std::move(inner), config, type);
}

}  // namespace descant
