#include "runtime/kernels/numa.h"

#include <dirent.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace descant::kernels {
namespace {

// More than a kernel may be built for.
constexpr int32_t kMaxNodes = 1024;
constexpr int32_t kMaxCpus = 1 << 16;

// "0-3,8,10-11"
std::vector<int32_t> ParseCpuList(const std::string& text) {
  std::vector<int32_t> cpus;
  const char* at = text.c_str();
  while (*at >= '0' && *at <= '9') {
    char* end = nullptr;
    const long first = std::strtol(at, &end, 10);
    long last = first;
    if (*end == '-') last = std::strtol(end + 1, &end, 10);
    for (long cpu = first; cpu <= last && cpu < kMaxCpus; ++cpu) {
      cpus.push_back(static_cast<int32_t>(cpu));
    }
    at = *end == ',' ? end + 1 : end;
  }
  return cpus;
}

bool Bind(std::byte* begin, uint64_t bytes, int mode,
          absl::Span<const int32_t> nodes) {
  constexpr int32_t kBits = sizeof(unsigned long) * CHAR_BIT;
  unsigned long mask[kMaxNodes / kBits] = {};
  for (const int32_t node : nodes) {
    if (node < 0 || node >= kMaxNodes) return false;
    mask[node / kBits] |= 1ul << node % kBits;
  }
  // The kernel takes one bit less than it is told.
  return syscall(SYS_mbind, begin, bytes, mode, mask, kMaxNodes + 1, 0) == 0;
}

}  // namespace

NumaNodes NumaNodes::Read(const std::string& directory) {
  NumaNodes result;
  DIR* listing = opendir(directory.c_str());
  for (const dirent* entry = nullptr;
       listing != nullptr && (entry = readdir(listing)) != nullptr;) {
    int node = -1;
    char rest = 0;
    if (std::sscanf(entry->d_name, "node%d%c", &node, &rest) != 1) continue;
    if (node < 0 || node >= kMaxNodes) continue;
    std::ifstream file(directory + "/" + entry->d_name + "/cpulist");
    std::string line;
    std::getline(file, line);
    const std::vector<int32_t> cpus = ParseCpuList(line);
    if (cpus.empty()) continue;
    result.nodes_.push_back(node);
    const size_t size = static_cast<size_t>(cpus.back()) + 1;
    if (result.node_of_cpu_.size() < size) result.node_of_cpu_.resize(size);
    for (const int32_t cpu : cpus) result.node_of_cpu_[cpu] = node;
  }
  if (listing != nullptr) closedir(listing);
  if (result.nodes_.empty()) result.nodes_.push_back(0);
  std::sort(result.nodes_.begin(), result.nodes_.end());
  return result;
}

const NumaNodes& NumaNodes::OfMachine() {
  static const NumaNodes* nodes =
      new NumaNodes(Read("/sys/devices/system/node"));
  return *nodes;
}

int32_t NumaNodes::NodeOf(int32_t cpu) const {
  if (cpu < 0 || cpu >= static_cast<int32_t>(node_of_cpu_.size())) return 0;
  return node_of_cpu_[cpu];
}

std::vector<int32_t> NodesOfPages(absl::Span<const SharedItems> shares,
                                  absl::Span<const int32_t> worker_nodes,
                                  const std::byte* base, uint64_t bytes,
                                  uint64_t page_bytes) {
  std::vector<int32_t> pages((bytes + page_bytes - 1) / page_bytes, -1);
  const int64_t workers = static_cast<int64_t>(worker_nodes.size());
  const int64_t page = static_cast<int64_t>(page_bytes);
  // The first page whose middle is at `offset` or behind it.
  const auto page_from = [&](int64_t offset) {
    return std::clamp<int64_t>((offset + page / 2 - 1) / page, 0, pages.size());
  };
  for (const SharedItems& share : shares) {
    const int64_t start = share.begin - base;
    for (int64_t w = 0; w < workers; ++w) {
      const int64_t first = share.items * w / workers;
      const int64_t last = share.items * (w + 1) / workers;
      const int64_t end = page_from(start + last * share.item_bytes);
      for (int64_t i = page_from(start + first * share.item_bytes); i < end;
           ++i) {
        pages[i] = worker_nodes[w];
      }
    }
  }
  return pages;
}

void PlaceNearWorkers(absl::Span<const SharedItems> shares,
                      absl::Span<const int32_t> worker_nodes, std::byte* base,
                      uint64_t bytes, uint64_t page_bytes) {
  const std::vector<int32_t> pages =
      NodesOfPages(shares, worker_nodes, base, bytes, page_bytes);
  for (size_t begin = 0, end = 0; begin < pages.size(); begin = end) {
    while (end < pages.size() && pages[end] == pages[begin]) ++end;
    if (pages[begin] < 0) continue;
    (void)PreferNode(base + begin * page_bytes, (end - begin) * page_bytes,
                     pages[begin]);
  }
}

bool PreferNode(std::byte* begin, uint64_t bytes, int32_t node) {
  return Bind(begin, bytes, MPOL_PREFERRED, {&node, 1});
}

bool InterleaveNodes(std::byte* begin, uint64_t bytes,
                     absl::Span<const int32_t> nodes) {
  return Bind(begin, bytes, MPOL_INTERLEAVE, nodes);
}

}  // namespace descant::kernels
