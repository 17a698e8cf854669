#include "runtime/kernels/cgroup_quota.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace descant::kernels {
namespace {

constexpr int32_t kNoQuota = INT32_MAX;

class CgroupQuotaTest : public testing::Test {
 protected:
  CgroupQuotaTest() : root_(testing::TempDir() + "/cgroup_quota_test") {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  ~CgroupQuotaTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + "/mount/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }

  int32_t Cpus(const std::string& membership) {
    std::ofstream(root_ + "/membership") << membership;
    return CgroupCpus(root_ + "/membership", root_ + "/mount");
  }

  const std::string root_;
};

TEST_F(CgroupQuotaTest, NoneWithoutFiles) {
  EXPECT_EQ(kNoQuota, Cpus("0::/\n"));
  EXPECT_EQ(kNoQuota, Cpus(""));
  EXPECT_EQ(kNoQuota, CgroupCpus(root_ + "/none", root_ + "/none"));
}

TEST_F(CgroupQuotaTest, LeastOfTheGroupAndThoseAboveIt) {
  Write("cpu.max", "max 100000");
  Write("pods/cpu.max", "400000 100000");
  Write("pods/one/cpu.max", "250000 100000");
  Write("pods/two/cpu.max", "max 100000");
  EXPECT_EQ(2, Cpus("0::/pods/one\n"));
  EXPECT_EQ(4, Cpus("0::/pods/two\n"));
  EXPECT_EQ(kNoQuota, Cpus("0::/other\n"));
}

// In a container the mount begins at its own group.
TEST_F(CgroupQuotaTest, PathsBeyondTheMountArePassedOver) {
  Write("cpu.max", "300000 100000");
  EXPECT_EQ(3, Cpus("0::/kubepods/pod17/abc\n"));
}

TEST_F(CgroupQuotaTest, AtLeastOneCpu) {
  Write("cpu.max", "50000 100000");
  EXPECT_EQ(1, Cpus("0::/\n"));
}

TEST_F(CgroupQuotaTest, VersionOne) {
  const std::string membership =
      "9:name=systemd:/box\n5:devices:/box\n2:cpu,cpuacct:/box/inner\n0::/\n";
  Write("cpu,cpuacct/box/inner/cpu.cfs_quota_us", "-1");
  Write("cpu,cpuacct/box/inner/cpu.cfs_period_us", "100000");
  EXPECT_EQ(kNoQuota, Cpus(membership));
  Write("cpu,cpuacct/box/cpu.cfs_quota_us", "150000");
  Write("cpu,cpuacct/box/cpu.cfs_period_us", "50000");
  EXPECT_EQ(3, Cpus(membership));
  // Mounted under one name of several.
  Write("cpu/box/inner/cpu.cfs_quota_us", "200000");
  Write("cpu/box/inner/cpu.cfs_period_us", "100000");
  EXPECT_EQ(2, Cpus(membership));
  // A group of other controllers is none of the CPU's.
  EXPECT_EQ(kNoQuota, Cpus("3:cpuset:/box/inner\n"));
}

TEST_F(CgroupQuotaTest, WhatIsNoNumberIsNoQuota) {
  Write("cpu.max", "soon");
  Write("cpu/cpu.cfs_quota_us", "100000");
  Write("cpu/cpu.cfs_period_us", "0");
  EXPECT_EQ(kNoQuota, Cpus("nonsense\n1:cpu:/\n0::/\n4:cpu\n"));
}

}  // namespace
}  // namespace descant::kernels
