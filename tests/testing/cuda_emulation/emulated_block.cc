#include "tests/testing/cuda_emulation/emulated_block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

// A failed block's threads are left as they are, with what they own.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
#endif

namespace descant::cuda_emulation {
namespace {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

// Sanitizers need larger frames.
constexpr size_t kStackBytes = size_t{256} << 10;

// Of every architecture (CUDA C++ Programming Guide, technical specifications).
constexpr uint32_t kMaxStaticShared = 48 << 10;

constexpr size_t kLastFrames = size_t{8} << 10;

EmulatedBlock* current = nullptr;

// Stacks of all blocks, one after the other, used again and again. Each ends
// at a page that can't be written, and begins at another offset in its page:
// else all of them would share a few sets of the cache.
class Stacks {
 public:
  std::byte* Top(uint32_t thread) {
    return Bottom(thread) + kStackBytes - thread * 7 % 64 * 64;
  }
  std::byte* Bottom(uint32_t thread) {
    while (stacks_.size() <= thread) {
      void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
      if (memory == MAP_FAILED || mprotect(memory, 4096, PROT_NONE) != 0) {
        std::perror("stack of an emulated thread");
        std::abort();
      }
      stacks_.push_back(static_cast<std::byte*>(memory));
    }
    return stacks_[thread];
  }

 private:
  std::vector<std::byte*> stacks_;
};

Stacks& TheStacks() {
  static Stacks stacks;
  return stacks;
}

// AddressSanitizer is told of every change of stack.
struct StackChange {
#if defined(__SANITIZE_ADDRESS__)
  static void Leave(void** fake, const void* bottom, size_t size) {
    __sanitizer_start_switch_fiber(fake, bottom, size);
  }
  static void Arrive(void* fake, const void** bottom, size_t* size) {
    __sanitizer_finish_switch_fiber(fake, bottom, size);
  }
  // Frames that were never left are still marked.
  static void Forget(const void* stack, size_t size) {
    __asan_unpoison_memory_region(stack, size);
  }
#else
  static void Leave(void**, const void*, size_t) {}
  static void Arrive(void*, const void**, size_t*) {}
  static void Forget(const void*, size_t) {}
#endif
};

const void* main_bottom = nullptr;
size_t main_size = 0;

}  // namespace

EmulatedBlock::EmulatedBlock(Dim3 grid, Dim3 block)
    : grid_(grid),
      block_(block),
      threads_(size_t{block.x} * block.y * block.z),
      warp_epochs_((threads_.size() + kWarp - 1) / kWarp),
      whole_warps_(warp_epochs_.size()) {
  uint32_t i = 0;
  for (uint32_t z = 0; z < block.z; ++z) {
    for (uint32_t y = 0; y < block.y; ++y) {
      for (uint32_t x = 0; x < block.x; ++x) threads_[i++].index = {x, y, z};
    }
  }
}

EmulatedBlock& EmulatedBlock::Current() { return *current; }

uint64_t EmulatedBlock::NextRandom() {
  // splitmix64
  random_ += 0x9e3779b97f4a7c15u;
  uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::string EmulatedBlock::Name(uint32_t thread) const {
  const Dim3& t = threads_[thread].index;
  return "block (" + std::to_string(index_.x) + "," + std::to_string(index_.y) +
         "," + std::to_string(index_.z) + ") thread (" + std::to_string(t.x) +
         "," + std::to_string(t.y) + "," + std::to_string(t.z) + ")";
}

void EmulatedBlock::Enter(transfer_t from) {
  StackChange::Arrive(nullptr, &main_bottom, &main_size);
  EmulatedBlock& block = *current;
  block.main_ = from.fctx;
  (*block.body_)();
  Thread& self = block.threads_[block.running_];
  self.state = State::kEnded;
  ++block.ended_;
  block.CheckWhoWaitsForThis();
  block.ReleaseBarrierIfAll();
  block.SwitchBack();
}

// Lanes of this warp that came to a function whose mask has the one that ended.
void EmulatedBlock::CheckWhoWaitsForThis() {
  const uint32_t warp = running_ / kWarp;
  const auto check = [this](const Meeting& meeting) {
    if (meeting.arrived != 0 && ((meeting.mask >> lane()) & 1u) != 0) {
      Fail(std::string(meeting.name) + ": a lane of its mask has ended");
    }
  };
  check(whole_warps_[warp]);
  for (auto at = parts_.lower_bound({warp, 0});
       at != parts_.end() && at->first.first == warp; ++at) {
    check(*at->second);
  }
}

void EmulatedBlock::SwitchTo(uint32_t thread) {
  running_ = thread;
  Thread& to = threads_[thread];
  void* fake = nullptr;
  StackChange::Leave(&fake, to.stack, to.stack_bytes);
  const transfer_t back = jump_fcontext(to.context, nullptr);
  StackChange::Arrive(fake, nullptr, nullptr);
  to.context = back.fctx;
}

void EmulatedBlock::SwitchBack() {
  void* fake = nullptr;
  StackChange::Leave(&fake, main_bottom, main_size);
  const transfer_t again = jump_fcontext(main_, nullptr);
  StackChange::Arrive(fake, &main_bottom, &main_size);
  main_ = again.fctx;
}

std::string EmulatedBlock::Run(Dim3 index, uint64_t seed,
                               const std::function<void()>& body) {
  EmulatedBlock* const outer = std::exchange(current, this);
  index_ = index;
  random_ = seed;
  body_ = &body;
  at_barrier_ = ended_ = block_epoch_ = 0;
  std::fill(warp_epochs_.begin(), warp_epochs_.end(), 0);
  for (Meeting& meeting : whole_warps_) meeting.arrived = meeting.turn = 0;
  parts_.clear();
  shared_.clear();
  memory_.Reset();
  failure_.clear();
  for (uint32_t i = 0; i < threads_.size(); ++i) {
    std::byte* const top = TheStacks().Top(i);
    threads_[i].stack = TheStacks().Bottom(i);
    threads_[i].stack_bytes = static_cast<size_t>(top - threads_[i].stack);
    // What the thread before was in when it ended.
    StackChange::Forget(top - kLastFrames, kLastFrames);
    threads_[i].context =
        make_fcontext(top, threads_[i].stack_bytes, &EmulatedBlock::Enter);
    threads_[i].state = State::kReady;
  }
  std::vector<uint32_t> ready;
  while (failure_.empty() && ended_ < threads_.size()) {
    ready.clear();
    for (uint32_t i = 0; i < threads_.size(); ++i) {
      if (threads_[i].state == State::kReady) ready.push_back(i);
    }
    if (ready.empty()) {
      failure_ = "deadlock: " + std::to_string(at_barrier_) +
                 " threads at __syncthreads, " + std::to_string(ended_) +
                 " ended, the others in a warp's function";
      break;
    }
    for (size_t i = ready.size() - 1; i > 0; --i) {
      std::swap(ready[i], ready[((NextRandom() >> 32) * (i + 1)) >> 32]);
    }
    for (size_t i = 0; i < ready.size() && failure_.empty(); ++i) {
      SwitchTo(ready[i]);
    }
  }
  current = outer;
  if (!failure_.empty()) {
    for (const Thread& thread : threads_) {
      StackChange::Forget(thread.stack, thread.stack_bytes);
    }
  }
  return failure_;
}

void EmulatedBlock::Fail(const std::string& what) {
  failure_ = Name(running_) + ": " + what;
  SwitchBack();
  std::abort();  // a failed block's threads are never entered again
}

void EmulatedBlock::ReleaseBarrierIfAll() {
  if (at_barrier_ == 0 || at_barrier_ + ended_ < threads_.size()) return;
  if (ended_ > 0) Fail("__syncthreads that a part of the block has left");
  at_barrier_ = 0;
  ++block_epoch_;
  for (Thread& thread : threads_) thread.state = State::kReady;
}

void EmulatedBlock::SyncThreads() {
  threads_[running_].state = State::kAtBarrier;
  ++at_barrier_;
  ReleaseBarrierIfAll();
  SwitchBack();
}

uint32_t EmulatedBlock::WarpMask(uint32_t warp) const {
  const size_t threads = threads_.size() - size_t{warp} * kWarp;
  return threads >= kWarp ? ~uint32_t{0} : (uint32_t{1} << threads) - 1;
}

EmulatedBlock::Meeting& EmulatedBlock::MeetingOf(uint32_t warp, uint32_t mask) {
  if (mask == ~uint32_t{0}) return whole_warps_[warp];
  std::unique_ptr<Meeting>& part = parts_[{warp, mask}];
  if (part == nullptr) part = std::make_unique<Meeting>();
  return *part;
}

void EmulatedBlock::CheckLanes(uint32_t warp, uint32_t mask, const char* name) {
  for (uint32_t i = 0; i < kWarp; ++i) {
    if (((mask >> i) & 1u) == 0) continue;
    const uint32_t thread = warp * kWarp + i;
    if (thread >= threads_.size() || threads_[thread].state == State::kEnded) {
      Fail(std::string(name) + ": lane " + std::to_string(i) +
           " of its mask has ended");
    }
  }
}

const std::byte (*EmulatedBlock::Meet(uint32_t mask, const char* name,
                                      const void* value, size_t bytes))[64] {
  const uint32_t warp = running_ / kWarp;
  const uint32_t bit = uint32_t{1} << lane();
  if ((mask & bit) == 0) Fail(std::string(name) + ": own lane not in its mask");
  Meeting& meeting = MeetingOf(warp, mask);
  if (meeting.arrived == 0) {
    CheckLanes(warp, mask, name);
    meeting.name = name;
    meeting.mask = mask;
  } else if (meeting.name != name && std::strcmp(meeting.name, name) != 0) {
    Fail(std::string(name) + ": another lane came to " + meeting.name);
  }
  const auto place = meeting.values[meeting.turn % 2];
  if (value != nullptr) std::memcpy(place[lane()], value, bytes);
  meeting.arrived |= bit;
  if (meeting.arrived != mask) {
    threads_[running_].state = State::kInExchange;
    SwitchBack();
    return place;
  }
  meeting.arrived = 0;
  ++meeting.turn;
  for (uint32_t i = 0; i < kWarp; ++i) {
    if (((mask >> i) & 1u) == 0) continue;
    threads_[warp * kWarp + i].state = State::kReady;
  }
  // What a lane wrote before it is seen by the others. A part of the warp would
  // be ordered among itself only; no kernel needs that.
  if (value == nullptr && mask == WarpMask(warp)) ++warp_epochs_[warp];
  return place;
}

void EmulatedBlock::SyncWarp(uint32_t mask) {
  Meet(mask, "__syncwarp", nullptr, 0);
}

std::byte* EmulatedBlock::TouchShared(uint32_t offset, uint32_t bytes,
                                      AccessKind kind) {
  const std::string wrong =
      memory_.Check(offset, bytes, kind,
                    {running_, block_epoch_, warp_epochs_[running_ / kWarp]});
  if (!wrong.empty()) Fail(wrong);
  return memory_.data() + offset;
}

SharedRange EmulatedBlock::StaticShared(const void* key, uint32_t bytes) {
  const auto [at, is_new] = shared_.try_emplace(key);
  if (is_new) {
    at->second = {memory_.Allocate(bytes), bytes};
    if (at->second.begin + bytes > kMaxStaticShared) {
      Fail("more shared memory than a block has without asking for it");
    }
  }
  return at->second;
}

}  // namespace descant::cuda_emulation
