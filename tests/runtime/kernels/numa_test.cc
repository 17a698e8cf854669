#include "runtime/kernels/numa.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "runtime/kernels/arena.h"
#include "runtime/kernels/worker_pool.h"

namespace descant::kernels {
namespace {

class NumaNodesTest : public testing::Test {
 protected:
  NumaNodesTest() : root_(testing::TempDir() + "/numa_test") {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  ~NumaNodesTest() override { std::filesystem::remove_all(root_); }

  void AddNode(const std::string& name, const std::string& cpus) {
    std::filesystem::create_directories(root_ + "/" + name);
    std::ofstream(root_ + "/" + name + "/cpulist") << cpus << "\n";
  }

  const std::string root_;
};

TEST_F(NumaNodesTest, OneNodeWithoutADirectory) {
  const NumaNodes nodes = NumaNodes::Read(root_ + "/none");
  EXPECT_EQ(std::vector<int32_t>{0}, nodes.nodes());
  EXPECT_FALSE(nodes.several());
  EXPECT_EQ(0, nodes.NodeOf(3));
}

TEST_F(NumaNodesTest, ReadsLists) {
  AddNode("node0", "0-1,4");
  AddNode("node2", "2-3,5");
  AddNode("node3", "");  // memory alone
  std::ofstream(root_ + "/possible") << "0-3\n";
  AddNode("node1x", "6");
  const NumaNodes nodes = NumaNodes::Read(root_);
  EXPECT_EQ((std::vector<int32_t>{0, 2}), nodes.nodes());
  EXPECT_TRUE(nodes.several());
  for (const int32_t cpu : {0, 1, 4}) EXPECT_EQ(0, nodes.NodeOf(cpu)) << cpu;
  for (const int32_t cpu : {2, 3, 5}) EXPECT_EQ(2, nodes.NodeOf(cpu)) << cpu;
  EXPECT_EQ(0, nodes.NodeOf(6));
  EXPECT_EQ(0, nodes.NodeOf(-1));
}

// Pages of 100 bytes; items of 50, of which four workers read two each.
TEST(NodesOfPagesTest, APageGoesToTheReaderOfItsMiddle) {
  static std::byte memory[1000];
  const std::byte* base = memory;
  const int32_t nodes[] = {0, 0, 1, 1};
  const SharedItems shares[] = {{base, 8, 50}};
  EXPECT_EQ((std::vector<int32_t>{0, 0, 1, 1, -1}),
            NodesOfPages(shares, nodes, base, 450, 100));
  // The border between nodes lies within a page.
  const SharedItems later[] = {{base + 60, 8, 50}};
  EXPECT_EQ((std::vector<int32_t>{-1, 0, 0, 1, 1}),
            NodesOfPages(later, nodes, base, 450, 100));
  const SharedItems earlier[] = {{base + 40, 8, 50}};
  EXPECT_EQ((std::vector<int32_t>{0, 0, 1, 1, -1}),
            NodesOfPages(earlier, nodes, base, 450, 100));
}

TEST(NodesOfPagesTest, FewerItemsThanWorkers) {
  static std::byte memory[1000];
  const std::byte* base = memory;
  const int32_t nodes[] = {0, 1};
  const SharedItems shares[] = {{base, 1, 300}, {base + 300, 0, 100}};
  EXPECT_EQ((std::vector<int32_t>{1, 1, 1, -1}),
            NodesOfPages(shares, nodes, base, 400, 100));
}

// The policy of a page, as the kernel tells it.
int PolicyOf(const std::byte* page) {
  constexpr unsigned long kOfAddress = 2;  // MPOL_F_ADDR
  int policy = -1;
  if (syscall(SYS_get_mempolicy, &policy, nullptr, 0, page, kOfAddress) != 0) {
    return -1;
  }
  return policy;
}

TEST(PlacementTest, TheKernelTakesIt) {
  auto arena = Arena::Create(4 * Arena::kPageBytes);
  ASSERT_TRUE(arena.ok()) << arena.status();
  std::byte* base = arena->data();
  const int32_t node = NumaNodes::OfMachine().nodes()[0];
  if (!PreferNode(base, Arena::kPageBytes, node)) {
    GTEST_SKIP() << "a kernel without NUMA";
  }
  constexpr int kPreferred = 1, kInterleaved = 3;
  EXPECT_EQ(kPreferred, PolicyOf(base));
  EXPECT_TRUE(InterleaveNodes(base + Arena::kPageBytes, Arena::kPageBytes,
                              NumaNodes::OfMachine().nodes()));
  EXPECT_EQ(kInterleaved, PolicyOf(base + Arena::kPageBytes));
  const SharedItems shares[] = {{base + 3 * Arena::kPageBytes, 2,
                                 static_cast<int64_t>(Arena::kPageBytes / 2)}};
  const int32_t nodes[] = {node, node};
  PlaceNearWorkers(shares, nodes, base, arena->size(), Arena::kPageBytes);
  EXPECT_EQ(kPreferred, PolicyOf(base + 3 * Arena::kPageBytes));
  EXPECT_NE(kPreferred, PolicyOf(base + 2 * Arena::kPageBytes));
  std::memset(base, 1, arena->size());
  EXPECT_FALSE(PreferNode(base, Arena::kPageBytes, -1));
}

TEST(PlacementTest, WorkersAreOnNodesOfTheMachine) {
  const WorkerPool pool(0);
  const auto& nodes = NumaNodes::OfMachine().nodes();
  for (int32_t worker = 0; worker < pool.size(); ++worker) {
    EXPECT_NE(nodes.end(),
              std::find(nodes.begin(), nodes.end(), pool.NodeOf(worker)));
  }
}

}  // namespace
}  // namespace descant::kernels
