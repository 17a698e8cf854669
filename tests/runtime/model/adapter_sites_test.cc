// Adapters whose tensors are elsewhere.
#include "runtime/model/adapter_sites.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <tuple>
#include <vector>

#include "adapters/adapter.h"
#include "adapters/base_shape.h"

namespace descant {
namespace {

uint32_t Bit(LinearKind kind) { return 1u << static_cast<uint32_t>(kind); }

class WithModulesOfKindsTest : public ::testing::Test {
 protected:
  WithModulesOfKindsTest() {
    for (int32_t layer = 0; layer < 2; ++layer) {
      base_.modules.push_back({"q", 8, 16, layer, LinearKind::kQ});
      base_.modules.push_back({"v", 8, 4, layer, LinearKind::kV});
      base_.modules.push_back({"down", 32, 8, layer, LinearKind::kDown});
    }
    adapter_.max_rank = 3;
  }

  std::vector<std::tuple<int32_t, LinearKind>> Modules() const {
    std::vector<std::tuple<int32_t, LinearKind>> modules;
    const Adapter whole = WithModulesOfKinds(base_, adapter_);
    for (const AdapterModule& module : whole.modules) {
      modules.emplace_back(module.layer, module.kind);
    }
    return modules;
  }

  BaseShape base_;
  Adapter adapter_;
};

TEST_F(WithModulesOfKindsTest, ThoseOfItsKindsOnAllLayers) {
  adapter_.module_kinds = Bit(LinearKind::kQ) | Bit(LinearKind::kDown);
  const std::vector<std::tuple<int32_t, LinearKind>> expected = {
      {0, LinearKind::kQ},
      {0, LinearKind::kDown},
      {1, LinearKind::kQ},
      {1, LinearKind::kDown}};
  EXPECT_EQ(Modules(), expected);
}

TEST_F(WithModulesOfKindsTest, AllWhereItDoesNotSay) {
  EXPECT_EQ(Modules().size(), base_.modules.size());
}

TEST_F(WithModulesOfKindsTest, OfTheBasesShapes) {
  adapter_.module_kinds = Bit(LinearKind::kDown);
  const AdapterModule module = WithModulesOfKinds(base_, adapter_).modules[0];
  EXPECT_EQ(module.rank, 3);
  EXPECT_EQ(module.a.rows, 3);
  EXPECT_EQ(module.a.columns, 32);
  EXPECT_EQ(module.b.rows, 8);
  EXPECT_EQ(module.b.columns, 3);
}

}  // namespace
}  // namespace descant
