// When the self-test runs before serving, and what it remembers.
#include "server/self_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "runtime/base/fs.h"

namespace descant {
namespace {

using ::testing::HasSubstr;

class StartupSelfTestTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = ::testing::TempDir() + "/self-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    const auto loaded = LoadModel(std::string(getenv("DESCANT_SOURCE_DIR")) +
                                  "/tests/golden/models/tiny-llama");
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    model_ = loaded->model;
    options_.threads = 1;
    options_.weights_cache = folder_ + "/cache/descant";
    device_.name = "cuda, some GPU";
    device_.tested_by_default = true;
    device_.make_runner = &MakeCpuRunner;
    device_.test_kernels = [this](SelfTestReport report) {
      ++tests_;
      report({.name = "kernel shrink", .error = error_, .bound = 0.5});
    };
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  absl::Status Start(StartupSelfTest mode) {
    return SelfTestBeforeServing(mode, model_, options_, device_, &fs_);
  }
  // How often it was tested in that start.
  int TestsOf(StartupSelfTest mode) {
    const int before = tests_;
    EXPECT_TRUE(Start(mode).ok());
    return tests_ - before;
  }

  PosixFs fs_;
  std::string folder_;
  std::shared_ptr<const Model> model_;
  RunnerOptions options_;
  DeviceUnderTest device_;
  double error_ = 0.25;
  int tests_ = 0;
};

TEST_F(StartupSelfTestTest, AutoTestsOnceForEachModelDeviceAndWeights) {
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 1);
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 0);
  EXPECT_EQ(TestsOf(StartupSelfTest::kOn), 1);
  EXPECT_EQ(TestsOf(StartupSelfTest::kOff), 0);
  device_.name = "cuda, another GPU";
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 1);
  options_.weights = WeightType::kInt8;
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 1);
  auto other = std::make_shared<Model>(*model_);
  other->base_shape.fingerprint = "sha256:other";
  model_ = other;
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 1);
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 0);
}

TEST_F(StartupSelfTestTest, DevicesThatAreNotTestedByDefault) {
  device_.tested_by_default = false;
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 0);
  EXPECT_EQ(TestsOf(StartupSelfTest::kOn), 1);
}

TEST_F(StartupSelfTestTest, AFailureIsToldAndTestedAgain) {
  error_ = 0.75;
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = Start(StartupSelfTest::kAuto);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("kernel shrink: error 0.75, allowed is 0.5"));
  }
  EXPECT_EQ(tests_, 2);
}

TEST_F(StartupSelfTestTest, WithoutAFolderItTestsEachTime) {
  for (const char* folder : {"", "/proc/nowhere/cache"}) {
    options_.weights_cache = folder;
    EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 1);
    EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 1);
  }
}

TEST_F(StartupSelfTestTest, AFileThatSaysSomethingElseIsNoPass) {
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 1);
  for (const auto& entry :
       std::filesystem::directory_iterator(options_.weights_cache)) {
    std::ofstream(entry.path()) << "descant";
  }
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 1);
  EXPECT_EQ(TestsOf(StartupSelfTest::kAuto), 0);
}

}  // namespace
}  // namespace descant
