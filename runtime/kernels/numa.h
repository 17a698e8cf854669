// Nodes of memory (NUMA) on machines that have several: which CPUs are near
// which, and where pages come from. On a machine with one node, and where the
// kernel refuses, nothing changes.
#ifndef DESCANT_RUNTIME_KERNELS_NUMA_H_
#define DESCANT_RUNTIME_KERNELS_NUMA_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace descant::kernels {

// Immutable.
class NumaNodes {
 public:
  // From a directory laid out as Linux's /sys/devices/system/node
  // (nodeN/cpulist). Without one: a single node 0.
  static NumaNodes Read(const std::string& directory);
  // This machine's, read once.
  static const NumaNodes& OfMachine();

  // Ascending, at least one. Nodes without CPUs aren't among them.
  const std::vector<int32_t>& nodes() const { return nodes_; }
  bool several() const { return nodes_.size() > 1; }
  // 0 where unknown.
  int32_t NodeOf(int32_t cpu) const;

 private:
  std::vector<int32_t> nodes_;
  std::vector<int32_t> node_of_cpu_;
};

// Memory in equal items, of which worker w of n reads those in
// [items * w / n, items * (w + 1) / n), as phases of a step share them out.
struct SharedItems {
  const std::byte* begin;
  int64_t items;
  int64_t item_bytes;
};

// The node for each page of [base, base + bytes): that of the worker who reads
// its middle; -1 where nobody does. `worker_nodes` has each worker's node.
std::vector<int32_t> NodesOfPages(absl::Span<const SharedItems> shares,
                                  absl::Span<const int32_t> worker_nodes,
                                  const std::byte* base, uint64_t bytes,
                                  uint64_t page_bytes);

// Has each of these pages come from the node that NodesOfPages says.
void PlaceNearWorkers(absl::Span<const SharedItems> shares,
                      absl::Span<const int32_t> worker_nodes, std::byte* base,
                      uint64_t bytes, uint64_t page_bytes);

// Pages of [begin, begin + bytes) that nobody touched yet come from `node`, as
// long as it has any, or from all of `nodes` in turn. `begin` is at a page's
// start. False where the kernel refused. (mbind(2): MPOL_PREFERRED,
// MPOL_INTERLEAVE)
bool PreferNode(std::byte* begin, uint64_t bytes, int32_t node);
bool InterleaveNodes(std::byte* begin, uint64_t bytes,
                     absl::Span<const int32_t> nodes);

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_NUMA_H_
