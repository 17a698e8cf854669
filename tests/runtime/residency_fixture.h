// An engine whose adapters come from a disk that can be held or broken, and
// what it says about them.
#ifndef DESCANT_TESTS_RUNTIME_RESIDENCY_FIXTURE_H_
#define DESCANT_TESTS_RUNTIME_RESIDENCY_FIXTURE_H_

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/runtime/engine_fixture.h"

namespace descant {

// Reads from "disk": counts, and may be held or fail.
class Disk {
 public:
  std::shared_ptr<const Adapter> Stored(const std::string& name,
                                        const std::string& tenant = "") {
    auto adapter = std::make_shared<Adapter>(*MakeFakeAdapter(name, tenant));
    adapter->source = std::make_shared<Source>(this);
    return adapter;
  }
  void Hold(const std::string& name) {
    MutexLock lock(&mutex_);
    held_.insert(name);
  }
  void Open() {
    MutexLock lock(&mutex_);
    held_.clear();
    changed_.SignalAll();
  }
  void WaitUntilRead(const std::string& name, int times = 1) {
    MutexLock lock(&mutex_);
    while (begun_[name] < times) changed_.Wait(&mutex_);
  }
  int reads(const std::string& name) {
    MutexLock lock(&mutex_);
    return begun_[name];
  }
  void Break(const std::string& name, absl::Status status) {
    MutexLock lock(&mutex_);
    broken_[name] = std::move(status);
  }

 private:
  class Source final : public AdapterSource {
   public:
    explicit Source(Disk* disk) : disk_(disk) {}
    absl::StatusOr<std::shared_ptr<const Adapter>> Load(
        const Adapter& adapter) const override {
      const absl::Status status = disk_->Read(adapter.name);
      if (!status.ok()) return status;
      auto loaded = std::make_shared<Adapter>(adapter);
      loaded->source = nullptr;
      return std::shared_ptr<const Adapter>(std::move(loaded));
    }

   private:
    Disk* const disk_;
  };
  absl::Status Read(const std::string& name) {
    MutexLock lock(&mutex_);
    ++begun_[name];
    changed_.SignalAll();
    while (held_.count(name) > 0) changed_.Wait(&mutex_);
    const auto broken = broken_.find(name);
    return broken == broken_.end() ? absl::OkStatus() : broken->second;
  }

  Mutex mutex_;
  CondVar changed_;
  std::set<std::string> held_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> begun_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> broken_ ABSL_GUARDED_BY(mutex_);
};

class EngineResidencyTest : public EngineFixture {
 protected:
  EngineResidencyTest() {
    runner_options_.adapter_bytes = 10;
    options_.host_adapter_bytes = 100;
    options_.on_residency = [this](const ResidentAdapter& adapter) {
      MutexLock lock(&mutex_);
      events_.push_back(absl::StrCat(adapter.name, ":",
                                     LevelName(adapter.level),
                                     adapter.pinned ? "!" : "", adapter.bytes));
      changed_.SignalAll();
    };
    options_.on_adapter_load = [this](AdapterLevel level, Duration took) {
      MutexLock lock(&mutex_);
      EXPECT_GE(took.count(), 0);
      ++timed_[level];
    };
  }
  ~EngineResidencyTest() override { disk_.Open(); }

  static std::string LevelName(AdapterLevel level) {
    return level == AdapterLevel::kDisk   ? "disk"
           : level == AdapterLevel::kHost ? "host"
                                          : "device";
  }

  // Shares nothing with `status`: copies count in Abseil's own library, where
  // TSan does not see it, and the engine's thread lets go of its one as well.
  static absl::Status OwnCopy(const absl::Status& status) {
    absl::Status copy(status.code(), status.message());
    status.ForEachPayload(
        [&copy](absl::string_view type, const absl::Cord& payload) {
          copy.SetPayload(type, absl::Cord(std::string(payload)));
        });
    return copy;
  }

  // Begins an action; its result comes with Result.
  int Begin(AdapterAction action, const std::shared_ptr<const Adapter>& a) {
    int id = 0;
    {
      MutexLock lock(&mutex_);
      id = static_cast<int>(results_.size());
      results_.emplace_back();
    }
    engine_->Manage(action, a, [this, id](const AdapterActionResult& result) {
      MutexLock inner(&mutex_);
      EXPECT_FALSE(results_[id].has_value()) << "done twice";
      results_[id] =
          AdapterActionResult{OwnCopy(result.status), result.freed_device_bytes,
                              result.freed_host_bytes};
      changed_.SignalAll();
    });
    return id;
  }
  AdapterActionResult Result(int id) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    MutexLock lock(&mutex_);
    while (!results_[id] && changed_.WaitUntil(&mutex_, deadline)) {
    }
    EXPECT_TRUE(results_[id].has_value()) << "never done";
    return results_[id].value_or(AdapterActionResult{absl::UnknownError("")});
  }
  bool Ended(int id) {
    MutexLock lock(&mutex_);
    return results_[id].has_value();
  }
  AdapterActionResult Do(AdapterAction action,
                         const std::shared_ptr<const Adapter>& adapter) {
    return Result(Begin(action, adapter));
  }

  AdapterLevel Level(const Adapter& adapter, bool* pinned = nullptr) {
    return engine_->LevelOf(adapter.tenant, adapter.digest, pinned);
  }
  std::vector<std::string> TakeEvents() {
    MutexLock lock(&mutex_);
    return std::exchange(events_, {});
  }
  int timed(AdapterLevel level) {
    MutexLock lock(&mutex_);
    return timed_[level];
  }
  // The stats follow by a moment.
  void ExpectBytes(uint64_t device, uint64_t host) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    EngineStats stats = engine_->Stats();
    while ((stats.device_bytes != device || stats.host_bytes != host) &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
      stats = engine_->Stats();
    }
    EXPECT_EQ(stats.device_bytes, device);
    EXPECT_EQ(stats.host_bytes, host);
  }
  void ExpectAlone(const Request& request, CollectingSink* sink) {
    const RequestResult result = sink->Wait();
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(sink->tokens(), Alone(request).tokens);
  }

  Disk disk_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> events_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::optional<AdapterActionResult>> results_
      ABSL_GUARDED_BY(mutex_);
  std::map<AdapterLevel, int> timed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_RESIDENCY_FIXTURE_H_
