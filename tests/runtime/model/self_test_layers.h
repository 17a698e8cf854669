// What tests of the self-test share: its checks of a tiny model's layers, and a
// weight that only the runner under test reads wrongly.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_SELF_TEST_LAYERS_H_
#define DESCANT_TESTS_RUNTIME_MODEL_SELF_TEST_LAYERS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/model/self_test.h"
#include "runtime/model/weight_source.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {

inline std::shared_ptr<const Model> LoadTinyModel(const std::string& name) {
  const auto loaded =
      LoadModel(SourcePath("tests/golden/models/" + ReadGolden(name).model));
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return loaded.ok() ? loaded->model : nullptr;
}

inline std::vector<SelfTestCheck> ChecksOfLayers(
    const std::shared_ptr<const Model>& model, WeightType weights,
    const RunnerFactory& make_runner) {
  RunnerOptions options;
  options.threads = 2;
  options.weights = weights;
  std::vector<SelfTestCheck> checks;
  TestLayers(model, options, make_runner,
             [&](const SelfTestCheck& check) { checks.push_back(check); });
  return checks;
}

inline void ExpectAllOk(const std::vector<SelfTestCheck>& checks) {
  for (const SelfTestCheck& check : checks) {
    std::printf("%s: error %.5f, bound %.5f\n", check.name.c_str(), check.error,
                check.bound);
    EXPECT_TRUE(check.ok()) << check.name << ": " << check.error << ", bound "
                            << check.bound << ", " << check.status;
  }
}

inline std::vector<std::string> FailedOf(
    const std::vector<SelfTestCheck>& checks) {
  std::vector<std::string> names;
  for (const SelfTestCheck& check : checks) {
    if (!check.ok()) names.push_back(check.name);
  }
  return names;
}

// `first` and `second` row of one tensor are exchanged.
class ExchangedRows final : public WeightSource {
 public:
  ExchangedRows(std::shared_ptr<const WeightSource> inner, WeightKind kind,
                int64_t columns)
      : inner_(std::move(inner)), kind_(kind), columns_(columns) {}

  absl::Status ReadBf16(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<BFloat16> out) const override {
    const absl::Status status = inner_->ReadBf16(kind, layer, row_begin, out);
    if (kind == kind_ && row_begin == 0) Exchange(out.data());
    return status;
  }
  absl::Status ReadFp32(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<float> out) const override {
    const absl::Status status = inner_->ReadFp32(kind, layer, row_begin, out);
    if (kind == kind_ && row_begin == 0) Exchange(out.data());
    return status;
  }

 private:
  template <typename T>
  void Exchange(T* rows) const {
    std::swap_ranges(rows, rows + columns_, rows + columns_);
  }

  const std::shared_ptr<const WeightSource> inner_;
  const WeightKind kind_;
  const int64_t columns_;
};

// Makes the runners of `inner`; of the model named `name` with one tensor's
// first two rows exchanged.
inline RunnerFactory WithExchangedRows(const RunnerFactory& inner,
                                       const std::string& name,
                                       WeightKind kind) {
  return [=](std::shared_ptr<const Model> model, const RunnerOptions& options) {
    if (model->name != name) return inner(std::move(model), options);
    auto changed = std::make_shared<Model>(*model);
    changed->weights = std::make_shared<ExchangedRows>(
        model->weights, kind, ShapeOf(model->config, kind).columns);
    return inner(std::move(changed), options);
  };
}

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_SELF_TEST_LAYERS_H_
