#include "tests/testing/cuda_emulation/emulated_launch.h"

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/cuda_emulation/emulated_block.h"

namespace descant::cuda_emulation {
namespace {

// Of every architecture that Descant is compiled for.
constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kMaxGridYz = 65535;

uint64_t seed_of_launches = 1;
uint64_t launches = 0;

absl::Status CheckLimits(const char* name, const kernels::LaunchShape& shape) {
  const uint64_t threads =
      uint64_t{shape.block.x} * shape.block.y * shape.block.z;
  if (threads == 0 || threads > kMaxThreads || shape.block.z > 64) {
    return absl::InternalError(
        absl::StrCat(name, ": ", threads, " threads a block"));
  }
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0 ||
      shape.grid.x > 0x7fffffffu || shape.grid.y > kMaxGridYz ||
      shape.grid.z > kMaxGridYz) {
    return absl::InternalError(absl::StrCat(name, ": a grid of ", shape.grid.x,
                                            " x ", shape.grid.y, " x ",
                                            shape.grid.z));
  }
  return absl::OkStatus();
}

}  // namespace

void SetSeed(uint64_t seed) {
  seed_of_launches = seed;
  launches = 0;
}

absl::Status RunGrid(const char* name, const kernels::LaunchShape& shape,
                     const std::function<void()>& body) {
  if (absl::Status status = CheckLimits(name, shape); !status.ok()) {
    return status;
  }
  const auto dim = [](const kernels::LaunchDim& d) {
    return Dim3{d.x, d.y, d.z};
  };
  EmulatedBlock block(dim(shape.grid), dim(shape.block));
  std::vector<Dim3> order;
  order.reserve(size_t{shape.grid.x} * shape.grid.y * shape.grid.z);
  for (uint32_t z = 0; z < shape.grid.z; ++z) {
    for (uint32_t y = 0; y < shape.grid.y; ++y) {
      for (uint32_t x = 0; x < shape.grid.x; ++x) order.push_back({x, y, z});
    }
  }
  uint64_t random = seed_of_launches * 0x9e3779b97f4a7c15u + ++launches;
  for (size_t i = order.size() - 1; i > 0; --i) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::swap(order[i], order[(random >> 33) % (i + 1)]);
  }
  for (const Dim3& index : order) {
    const std::string failure = block.Run(index, ++random, body);
    if (!failure.empty()) {
      return absl::InternalError(absl::StrCat(name, ": ", failure));
    }
  }
  return absl::OkStatus();
}

}  // namespace descant::cuda_emulation
