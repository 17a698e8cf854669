// One thread block of a CUDA kernel that was compiled as C++: every thread is a
// fiber, run in an order that a seed decides, until a barrier or a warp's
// exchange has it wait. What a GPU would leave undefined fails the launch with
// a message:
//
// - a barrier that a part of the block has left, or a warp function whose lanes
//   do not all come, or come to different ones, or with different masks;
// - a deadlock;
// - shared memory: more of it than a block has, a read or write beyond an
// array,
//   a read of what no thread has written, two threads at one place, one of them
//   writing, without a barrier between them (shared_memory.h).
//
// A missing barrier also shows as a result that depends on the seed.
//
// What this can't show: timing, occupancy, memory ordering between blocks.
#ifndef DESCANT_TESTS_TESTING_CUDA_EMULATION_EMULATED_BLOCK_H_
#define DESCANT_TESTS_TESTING_CUDA_EMULATION_EMULATED_BLOCK_H_

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/testing/cuda_emulation/shared_memory.h"

namespace descant::cuda_emulation {

inline constexpr uint32_t kWarp = 32;

struct Dim3 {
  uint32_t x = 1;
  uint32_t y = 1;
  uint32_t z = 1;
};

// Thread-hostile: everything happens on the launching thread.
class EmulatedBlock {
 public:
  EmulatedBlock(Dim3 grid, Dim3 block);
  EmulatedBlock(const EmulatedBlock&) = delete;
  EmulatedBlock& operator=(const EmulatedBlock&) = delete;

  // Runs `body` once for every thread of block `index`. What went wrong, or
  // nothing.
  std::string Run(Dim3 index, uint64_t seed, const std::function<void()>& body);

  // The rest is called by the threads.
  static EmulatedBlock& Current();
  const Dim3& grid_dim() const { return grid_; }
  const Dim3& block_dim() const { return block_; }
  const Dim3& block_index() const { return index_; }
  const Dim3& thread_index() const { return threads_[running_].index; }
  uint32_t lane() const { return running_ % kWarp; }

  void SyncThreads();
  void SyncWarp(uint32_t mask);
  // Every lane of `mask` gives a value; the result has those of all of them, by
  // lane, and is read before the lane's next exchange. `name` is of the
  // function, for messages: one literal for all lanes.
  template <typename T>
  class Values {
   public:
    explicit Values(const std::byte (*at)[64]) : at_(at) {}
    T operator[](uint32_t lane) const {
      T value;
      std::memcpy(&value, at_[lane], sizeof(T));
      return value;
    }

   private:
    const std::byte (*at_)[64];
  };
  template <typename T>
  Values<T> Exchange(uint32_t mask, const char* name, const T& mine) {
    static_assert(sizeof(T) <= 64);
    return Values<T>(Meet(mask, name, &mine, sizeof(T)));
  }

  // What is at `key`, of so many bytes; made at the first call of a run.
  SharedRange StaticShared(const void* key, uint32_t bytes);
  // The bytes at `offset` of shared memory, after a check of this access.
  std::byte* TouchShared(uint32_t offset, uint32_t bytes, AccessKind kind);
  [[noreturn]] void Fail(const std::string& what);

 private:
  using Context = boost::context::detail::fcontext_t;
  enum class State : uint8_t { kReady, kAtBarrier, kInExchange, kEnded };
  struct Thread {
    Dim3 index;
    Context context = nullptr;
    std::byte* stack = nullptr;
    size_t stack_bytes = 0;
    State state = State::kReady;
  };
  // Lanes of a warp that meet under one mask. Values alternate between two
  // places: the fastest lane may be one exchange ahead.
  struct Meeting {
    const char* name = nullptr;
    uint32_t mask = 0;
    uint32_t arrived = 0;
    uint32_t turn = 0;
    alignas(16) std::byte values[2][kWarp][64] = {};
  };

  static void Enter(boost::context::detail::transfer_t from);
  void SwitchTo(uint32_t thread);
  void SwitchBack();
  void ReleaseBarrierIfAll();
  void CheckWhoWaitsForThis();
  // Waits until all lanes of `mask` came. Their values, by lane.
  const std::byte (*Meet(uint32_t mask, const char* name, const void* value,
                         size_t bytes))[64];
  Meeting& MeetingOf(uint32_t warp, uint32_t mask);
  void CheckLanes(uint32_t warp, uint32_t mask, const char* name);
  uint32_t WarpMask(uint32_t warp) const;  // of the lanes it has
  uint64_t NextRandom();
  std::string Name(uint32_t thread) const;

  const Dim3 grid_;
  const Dim3 block_;
  Dim3 index_;
  uint64_t random_ = 0;
  const std::function<void()>* body_ = nullptr;
  std::vector<Thread> threads_;
  uint32_t running_ = 0;
  Context main_ = nullptr;
  uint32_t at_barrier_ = 0;
  uint32_t ended_ = 0;
  uint32_t block_epoch_ = 0;
  std::vector<uint32_t> warp_epochs_;
  std::vector<Meeting> whole_warps_;
  // Of parts of a warp, by warp and mask.
  std::map<std::pair<uint32_t, uint32_t>, std::unique_ptr<Meeting>> parts_;
  std::map<const void*, SharedRange> shared_;
  SharedMemory memory_;
  std::string failure_;
};

}  // namespace descant::cuda_emulation

#endif  // DESCANT_TESTS_TESTING_CUDA_EMULATION_EMULATED_BLOCK_H_
