// W0 + scale B A against the same sum written as three loops over the adapter's
// modules, in every family and dtype; rows from anywhere on.
#include "runtime/model/merged_weight_source.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "adapters/adapter.h"
#include "adapters/formats/random_adapter.h"
#include "adapters/validate.h"
#include "runtime/model/add_rows.h"
#include "runtime/model/model.h"
#include "runtime/model/weight_source.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

double At(const AdapterMatrix& matrix, int64_t row, int64_t column) {
  const int64_t i = row * matrix.columns + column;
  switch (matrix.dtype) {
    case Dtype::kBF16:
      return ToFloat(static_cast<const BFloat16*>(matrix.data)[i]);
    case Dtype::kF16:
      return ToFloat(static_cast<const Float16*>(matrix.data)[i]);
    default:
      return static_cast<const float*>(matrix.data)[i];
  }
}

// Where a weight's rows are in a module.
struct Part {
  LinearKind module;
  WeightKind weight;
};
constexpr Part kParts[] = {
    {LinearKind::kQ, WeightKind::kQuery},
    {LinearKind::kK, WeightKind::kKey},
    {LinearKind::kV, WeightKind::kValue},
    {LinearKind::kO, WeightKind::kAttentionOut},
    {LinearKind::kGate, WeightKind::kGate},
    {LinearKind::kUp, WeightKind::kUp},
    {LinearKind::kDown, WeightKind::kDown},
    {LinearKind::kQkv, WeightKind::kQuery},
    {LinearKind::kQkv, WeightKind::kKey},
    {LinearKind::kQkv, WeightKind::kValue},
    {LinearKind::kGateUp, WeightKind::kGate},
    {LinearKind::kGateUp, WeightKind::kUp},
};

struct Change {
  const AdapterModule* module = nullptr;
  int64_t first_row = 0;  // of B
};
using Changes = std::map<std::pair<int32_t, WeightKind>, Change>;

Changes ChangesOf(const ModelConfig& config, const Adapter& adapter) {
  Changes changes;
  for (const AdapterModule& module : adapter.modules) {
    int64_t row = 0;
    for (const Part& part : kParts) {
      if (part.module != module.kind) continue;
      changes[{module.layer, part.weight}] = {&module, row};
      row += ShapeOf(config, part.weight).rows;
    }
  }
  return changes;
}

std::vector<float> Read(const WeightSource& source, WeightKind kind,
                        int32_t layer, int64_t row, int64_t count) {
  std::vector<float> values(count);
  EXPECT_TRUE(source.ReadFp32(kind, layer, row, absl::MakeSpan(values)).ok());
  return values;
}

std::vector<BFloat16> ReadRounded(const WeightSource& source, WeightKind kind,
                                  int32_t layer, int64_t row, int64_t count) {
  std::vector<BFloat16> values(count);
  EXPECT_TRUE(source.ReadBf16(kind, layer, row, absl::MakeSpan(values)).ok());
  return values;
}

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// One changed weight: all of it, and some rows alone.
void ExpectMerged(const WeightSource& base, const MergedWeightSource& merged,
                  WeightKind kind, int32_t layer, const WeightShape& shape,
                  const Change& change) {
  const int64_t size = shape.rows * shape.columns;
  const std::vector<float> before = Read(base, kind, layer, 0, size);
  const std::vector<float> after = Read(merged, kind, layer, 0, size);
  const AdapterModule& module = *change.module;
  ASSERT_EQ(module.a.columns, shape.columns);
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t column = 0; column < shape.columns; ++column) {
      double sum = 0, size_of_terms = 0;
      for (int32_t r = 0; r < module.rank; ++r) {
        const double term =
            At(module.b, change.first_row + row, r) * At(module.a, r, column);
        sum += term;
        size_of_terms += std::abs(term);
      }
      const int64_t i = row * shape.columns + column;
      const double expected = before[i] + module.scale * sum;
      const double bound =
          1e-6 * (std::abs(before[i]) + module.scale * size_of_terms);
      ASSERT_NEAR(after[i], expected, bound) << "row " << row;
    }
  }
  std::vector<BFloat16> rounded;
  for (const float value : after) rounded.push_back(ToBFloat16(value));
  EXPECT_TRUE(SameBits(ReadRounded(merged, kind, layer, 0, size), rounded));
  for (const int64_t first : {int64_t{1}, shape.rows / 2 + 1, shape.rows - 1}) {
    const int64_t rows = std::min<int64_t>(3, shape.rows - first);
    const auto begin = after.begin() + first * shape.columns;
    EXPECT_TRUE(
        SameBits(Read(merged, kind, layer, first, rows * shape.columns),
                 std::vector<float>(begin, begin + rows * shape.columns)))
        << "rows from " << first;
  }
}

void ExpectAllMerged(const Model& model,
                     const std::shared_ptr<const Adapter>& adapter) {
  const ModelConfig& config = model.config;
  const MergedWeightSource merged(config, model.weights.get(), adapter);
  const Changes changes = ChangesOf(config, *adapter);
  int changed = 0;
  for (int32_t i = 0; i < kWeightKinds; ++i) {
    const auto kind = static_cast<WeightKind>(i);
    if (!HasWeight(config, kind)) continue;
    const WeightShape shape = ShapeOf(config, kind);
    const int64_t size = shape.rows * shape.columns;
    const int32_t layers = i < kLayerWeightKinds ? config.num_layers : 1;
    for (int32_t layer = 0; layer < layers; ++layer) {
      SCOPED_TRACE("kind " + std::to_string(i) + ", layer " +
                   std::to_string(layer));
      const auto found = changes.find({layer, kind});
      ASSERT_EQ(merged.IsMerged(kind, layer), found != changes.end());
      if (found != changes.end()) {
        ExpectMerged(*model.weights, merged, kind, layer, shape, found->second);
        ++changed;
        continue;
      }
      EXPECT_TRUE(SameBits(Read(merged, kind, layer, 0, size),
                           Read(*model.weights, kind, layer, 0, size)));
      EXPECT_TRUE(SameBits(ReadRounded(merged, kind, layer, 0, size),
                           ReadRounded(*model.weights, kind, layer, 0, size)));
    }
  }
  EXPECT_EQ(changed, static_cast<int>(changes.size()));
}

class MergedWeightSourceTest : public testing::TestWithParam<const char*> {};

// bf16, f16 and f32; ranks by pattern; some layers; fused modules.
TEST_P(MergedWeightSourceTest, EqualsTheSumOfTheGoldenAdapters) {
  const GoldenFile golden = ReadGolden(GetParam());
  const auto loaded =
      LoadModel(SourcePath("tests/golden/models/" + golden.model));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  int adapters = 0;
  for (const GoldenAdapter& entry : golden.adapters) {
    if (entry.kind == "base") continue;
    SCOPED_TRACE(entry.name);
    const auto adapter = MakeGoldenAdapter(entry, loaded->model->base_shape);
    ASSERT_TRUE(adapter.ok()) << adapter.status();
    ExpectAllMerged(*loaded->model, *adapter);
    ++adapters;
  }
  EXPECT_GT(adapters, 0);
}

INSTANTIATE_TEST_SUITE_P(All, MergedWeightSourceTest,
                         testing::ValuesIn(kGoldenModels));

// q and k are stored in another order; the others in blocks.
TEST(MergedWeightSourceGgufTest, EqualsTheSumOnAGgufFile) {
  const auto loaded = LoadModel(SourcePath("tests/golden/gguf/llama-mix.gguf"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  std::vector<RandomAdapterModule> modules;
  for (const BaseModule& module : loaded->model->base_shape.modules) {
    modules.push_back({module.path, module.in, module.out});
  }
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBF16}) {
    RandomAdapterOptions options;
    options.rank = 5;
    options.alpha = 15;
    options.seed = 7;
    options.dtype = dtype;
    const AdapterFiles files = MakeRandomAdapter(modules, options);
    const auto adapter =
        MakeAdapter("", "a", files.config_json, files.safetensors_bytes,
                    loaded->model->base_shape, AdapterLimits());
    ASSERT_TRUE(adapter.ok()) << adapter.status();
    ExpectAllMerged(*loaded->model, *adapter);
  }
}

TEST(AddRowsTest, EqualsPlainLoops) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> value(-1, 1);
  for (const int64_t columns : {1, 7, 8, 63, 64, 65, 200}) {
    for (const int64_t count : {0, 1, 5, 64}) {
      std::vector<float> factors(count), rows(count * columns), out(columns);
      for (auto* values : {&factors, &rows, &out}) {
        for (float& x : *values) x = value(random);
      }
      std::vector<double> expected(out.begin(), out.end());
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t i = 0; i < columns; ++i) {
          expected[i] +=
              static_cast<double>(factors[r]) * rows[r * columns + i];
        }
      }
      AddRows(factors.data(), rows.data(), count, columns, out.data());
      for (int64_t i = 0; i < columns; ++i) {
        EXPECT_NEAR(out[i], expected[i], 1e-5) << columns << " " << count;
      }
    }
  }
}

// The wide and the narrow part of the vector loop round alike: a weight's bits
// do not depend on how many columns follow it.
TEST(AddRowsTest, BitsDoNotDependOnTheNumberOfColumns) {
  std::mt19937 random(2);
  std::uniform_real_distribution<float> value(-1, 1);
  constexpr int64_t kCount = 16, kWide = 128, kNarrow = 61;
  std::vector<float> factors(kCount), rows(kCount * kWide), out(kWide);
  for (auto* values : {&factors, &rows, &out}) {
    for (float& x : *values) x = value(random);
  }
  std::vector<float> narrow_rows, narrow(out.begin(), out.begin() + kNarrow);
  for (int64_t r = 0; r < kCount; ++r) {
    const auto begin = rows.begin() + r * kWide;
    narrow_rows.insert(narrow_rows.end(), begin, begin + kNarrow);
  }
  AddRows(factors.data(), rows.data(), kCount, kWide, out.data());
  AddRows(factors.data(), narrow_rows.data(), kCount, kNarrow, narrow.data());
  for (int64_t i = 0; i < kNarrow; ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(out[i]),
              std::bit_cast<uint32_t>(narrow[i]))
        << i;
  }
}

}  // namespace
}  // namespace descant
