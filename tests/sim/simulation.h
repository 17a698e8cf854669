// One seed's events, and the checks after each.
#ifndef DESCANT_TESTS_SIM_SIMULATION_H_
#define DESCANT_TESTS_SIM_SIMULATION_H_

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/core/scheduler.h"
#include "tests/sim/block_writers.h"
#include "tests/sim/simulated_client.h"
#include "tests/testing/fake_runner.h"

namespace descant {

inline constexpr int64_t kMaxSteps = 200000;
inline const std::vector<int32_t> kEos = {0};

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed) {
    FakeRunnerOptions runner;
    runner.num_blocks = Pick(2, 24);
    runner.limits.max_rows = Pick(4, 80);
    runner.limits.max_sequences = Pick(1, 10);
    runner.limits.max_outputs =
        runner.limits.max_sequences + (Chance(50) ? Pick(0, 40) : 0);
    runner.limits.max_blocks_per_sequence = Pick(2, 12);
    runner.limits.max_slots = Pick(1, 5);
    runner.arena_adapters = Chance(30) ? Pick(1, 3) : 100;
    runner_ = std::make_unique<FakeRunner>(runner);

    SchedulerOptions options;
    options.limits = runner.limits;
    options.num_blocks = runner.num_blocks;
    options.max_model_len = Pick(40, 400);
    options.max_running_sequences = Pick(1, 10);
    options.max_adapters = Chance(30) ? Pick(1, 3) : 0;
    options.eos_token_ids = kEos;
    options.prefix_cache = Chance(80);
    scheduler_ = std::make_unique<Scheduler>(options);
    scheduler_->slots().SetEvictionListener(
        [this](int32_t slot, const Adapter& wanted) {
          CheckEviction(slot, wanted);
        });

    pipelined_ = Chance(40);
    faults_ = Chance(30);
    pauses_ = Chance(40);
    slow_loads_ = Chance(60);
    operated_ = Chance(50);
    MakeClients();
  }

  void Run() {
    for (step_ = 0; !Done() && step_ < kMaxSteps; ++step_) {
      now_ += std::chrono::milliseconds(1);
      Disturb();
      scheduler_->CheckInvariants();
      if (pipelined_) {
        PipelinedStep();
      } else {
        PlainStep();
      }
      scheduler_->CheckInvariants();
    }
    EXPECT_TRUE(Done()) << "starved: " << Unfinished();
    for (SlotLease& pin : pins_) {
      scheduler_->slots().SetPinned(pin.slot(), false);
    }
    pins_.clear();
    for (auto& [id, client] : clients_) CheckAnswer(client);
    EXPECT_TRUE(scheduler_->idle());
    EXPECT_EQ(scheduler_->running(), 0);
    EXPECT_EQ(scheduler_->waiting(), 0);
    scheduler_->TaintedBlocksCleared();
    EXPECT_EQ(scheduler_->blocks().available(), scheduler_->blocks().total());
    EXPECT_EQ(scheduler_->slots().leased(), 0);
    EXPECT_THAT(runner_->violations(), testing::IsEmpty());
  }

  uint64_t preemptions() const { return scheduler_->preemptions(); }
  uint64_t loaded() const { return loaded_; }
  uint64_t several_done() const { return several_done_; }
  uint64_t shared() const { return runner_->shared_entries(); }
  uint64_t cached() const { return cached_; }
  uint64_t taken() const { return taken_; }
  uint64_t unloaded() const { return unloaded_; }

 private:
  int32_t Pick(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random_() %
                                      static_cast<uint64_t>(high - low + 1));
  }
  bool Chance(int32_t percent) { return Pick(0, 99) < percent; }

  void MakeClients() {
    const int32_t tenants = Pick(1, 3);
    // By tenant. One of them may have many, each used little.
    std::vector<std::vector<std::shared_ptr<const Adapter>>> adapters(tenants);
    for (int32_t tenant = 0; tenant < tenants; ++tenant) {
      const int32_t count = Chance(25) ? Pick(8, 16) : Pick(1, 5);
      for (int i = 0; i < count; ++i) {
        adapters[tenant].push_back(MakeFakeAdapter(
            absl::StrCat("a", i), absl::StrCat("t", tenant + 1)));
        all_adapters_.push_back(adapters[tenant].back());
        if (faults_ && Chance(10)) {
          runner_->broken_digests.insert(adapters[tenant].back()->digest);
        }
      }
    }
    std::vector<int32_t> common(300);
    for (int32_t& token : common) token = Pick(0, 63);
    const int32_t count = Pick(3, 24);
    for (int i = 1; i <= count; ++i) {
      Client client;
      Request& request = client.request;
      request.id = i;
      const int32_t tenant = Pick(0, tenants - 1);
      request.tenant = absl::StrCat("t", tenant + 1);
      request.tenant_weight = 1 + 3 * tenant;
      request.priority = Chance(20) ? Pick(-1, 1) : 0;
      const int32_t longest =
          std::min(scheduler_->max_length() - 1, Chance(20) ? 300 : 60);
      const int32_t prompt = Pick(1, longest);
      for (int j = 0; j < prompt; ++j) request.prompt.push_back(Pick(0, 63));
      // Many begin alike, also those of other tenants and adapters.
      if (Chance(60)) {
        std::copy_n(common.begin(), Pick(0, prompt), request.prompt.begin());
      }
      request.bypass_prefix_cache = Chance(10);
      request.sampling.max_tokens = Chance(10) ? 500 : Pick(1, 50);
      request.sampling.ignore_eos = Chance(60);
      if (Chance(10)) request.sampling.stop_token_ids = {Pick(0, 63)};
      if (Chance(15)) {
        request.sampling.min_tokens = Pick(1, request.sampling.max_tokens);
      }
      if (Chance(30)) request.sampling.n = Pick(2, 5);
      if (Chance(20)) request.sampling.prompt_logprobs = Pick(0, 2);
      if (Chance(70)) {
        const auto& own = adapters[tenant];
        request.adapter = own[Pick(0, static_cast<int32_t>(own.size()) - 1)];
      }
      client.arrives = Chance(50) ? 0 : Pick(0, 150);
      if (Chance(12)) client.aborts = client.arrives + Pick(0, 80);
      if (Chance(12)) {
        request.deadline =
            now_ + std::chrono::milliseconds(client.arrives + Pick(0, 100));
      }
      for (int j = 0; j < request.sampling.n; ++j) {
        Request one = request;
        one.sampling.choice = j;
        client.choices.emplace_back().alone =
            runner_->Alone(one, kEos, scheduler_->max_length());
      }
      clients_.emplace(request.id, std::move(client));
    }
  }

  void Disturb() {
    for (auto& [id, client] : clients_) {
      if (client.arrives == step_) {
        EXPECT_TRUE(scheduler_->Validate(client.request).ok());
        scheduler_->Add(client.request);
      }
      if (client.aborts == step_) {
        scheduler_->Abort(id, FinishReason::kCancelled);
      }
      if (client.arrives > step_ || client.done) continue;
      const bool pause =
          pauses_ && step_ < 600 && (client.paused ? Chance(90) : Chance(4));
      if (pause != client.paused) {
        client.paused = pause;
        scheduler_->SetPaused(id, pause);
      }
      if (faults_ && Chance(1)) runner_->faulty_requests.insert(id);
    }
    Take(nullptr);
  }

  // Counted here from what the table shows, not from what it counts.
  void CheckEviction(int32_t slot, const Adapter& wanted) {
    const SlotTable& table = scheduler_->slots();
    const std::string& loser = table.adapter(slot)->tenant;
    EXPECT_EQ(table.leases(slot), 0);
    if (loser == wanted.tenant) return;
    ++taken_;
    std::map<std::string, int> slots;
    std::map<std::string, int> loaded;
    int shared = 0;
    int shared_loaded = 0;
    slots[wanted.tenant] = 0;
    loaded[wanted.tenant] = 0;
    for (int32_t i = 0; i < table.num_slots(); ++i) {
      if (table.pinned(i)) continue;
      ++shared;
      if (table.adapter(i) == nullptr) continue;
      ++slots[table.adapter(i)->tenant];
      if (!table.loaded(i)) continue;
      ++loaded[table.adapter(i)->tenant];
      ++shared_loaded;
    }
    // For a slot, or for the memory of one.
    const bool for_slot = !table.Find(KeyOf(wanted)).has_value();
    auto& counts = for_slot ? slots : loaded;
    std::erase_if(counts, [&wanted](const auto& item) {
      return item.second == 0 && item.first != wanted.tenant;
    });
    const int total = for_slot ? shared : shared_loaded;
    EXPECT_GT(counts[loser], total / static_cast<int>(counts.size()));
    EXPECT_GT(counts[loser], counts[wanted.tenant]);
  }

  // What operators do: pins that come and go, slots that are emptied.
  void Operate() {
    SlotTable& table = scheduler_->slots();
    std::erase_if(pins_, [&](const SlotLease& pin) {
      if (!Chance(2) && table.loaded(pin.slot())) return false;
      if (table.loading(pin.slot())) return false;
      table.SetPinned(pin.slot(), false);
      return true;
    });
    for (int32_t slot = 0; slot < table.num_slots(); ++slot) {
      if (!table.retiring(slot)) continue;
      scheduler_->PreemptPausedOn(slot);
      if (!table.retired(slot)) continue;
      runner_->UnloadAdapter(slot);
      table.FreeRetired(slot);
      ++unloaded_;
    }
    if (step_ > 2000 || !Chance(10)) return;
    const int32_t slot = Pick(0, table.num_slots() - 1);
    if (Chance(50)) {
      const bool pinned = std::any_of(
          pins_.begin(), pins_.end(),
          [slot](const SlotLease& pin) { return pin.slot() == slot; });
      if (table.adapter(slot) != nullptr && !pinned) table.Retire(slot);
      return;
    }
    const auto& adapter =
        all_adapters_[Pick(0, static_cast<int32_t>(all_adapters_.size()) - 1)];
    if (static_cast<int32_t>(pins_.size()) + 1 >= table.num_slots()) return;
    const auto found = table.Find(KeyOf(*adapter));
    if (found && table.pinned(*found)) return;
    auto lease = table.Acquire(adapter, LeaseKind::kHold);
    if (!lease) return;
    table.SetPinned(lease->slot(), true);
    if (!table.loaded(lease->slot()) && !table.loading(lease->slot())) {
      table.BeginLoad(lease->slot());
      runner_->UnloadAdapter(lease->slot());
      loads_.push_back({lease->slot(), step_ + Pick(0, 12)});
    }
    pins_.push_back(std::move(*lease));
  }

  // Loads take a while; each ends in the step in which it is due.
  void BeginLoads() {
    for (const int32_t slot : scheduler_->slots_to_load()) {
      runner_->UnloadAdapter(slot);
      loads_.push_back({slot, step_ + (slow_loads_ ? Pick(0, 12) : 0)});
    }
  }

  void EndLoads() {
    std::vector<Load> due;
    std::erase_if(loads_, [&](const Load& load) {
      if (load.due <= step_) due.push_back(load);
      return load.due <= step_;
    });
    for (const Load& load : due) {
      EndLoad(load.slot);
      scheduler_->CheckInvariants();
    }
  }

  void EndLoad(int32_t slot) {
    SlotTable& table = scheduler_->slots();
    ++loaded_;
    const absl::Status status = runner_->LoadAdapter(slot, table.adapter(slot));
    if (status.ok()) return scheduler_->SlotLoaded(slot);
    runner_->UnloadAdapter(slot);
    if (absl::IsResourceExhausted(status)) {
      if (table.leases(slot) == 0) return scheduler_->DeferSlot(slot);
      if (const auto idle = table.EvictFor(slot)) {
        runner_->UnloadAdapter(*idle);
        loads_.push_back({slot, step_ + 1});
        return;
      }
      if (OthersLoaded(slot)) {
        return scheduler_->DeferSlot(slot, table.OnlyOwnMemory(slot));
      }
      if (AnyRetired()) {  // its memory is about to come free
        loads_.push_back({slot, step_ + 1});
        return;
      }
      // Pinned ones fill the memory, or the adapter is not one for it.
      pins_fill_ |= !pins_.empty();
    }
    scheduler_->SlotLoadFailed(slot);
    Take(nullptr);
  }

  bool AnyRetired() const {
    const SlotTable& table = scheduler_->slots();
    for (int32_t i = 0; i < table.num_slots(); ++i) {
      if (table.retired(i)) return true;
    }
    return false;
  }

  bool OthersLoaded(int32_t slot) const {
    const SlotTable& table = scheduler_->slots();
    for (int32_t i = 0; i < table.num_slots(); ++i) {
      if (i != slot && table.leases(i) > 0 && table.loaded(i) &&
          !table.pinned(i)) {
        return true;
      }
    }
    return false;
  }

  void Finish() {
    const auto output = runner_->Collect();
    in_flight_ = false;
    if (output.ok()) {
      scheduler_->Update(**output);
      Take(*output);
    } else {
      scheduler_->FailStep();
      Take(nullptr);
    }
  }

  void ClearTainted() {
    runner_->ClearBlocks(scheduler_->tainted_blocks());
    scheduler_->TaintedBlocksCleared();
  }

  void Launch() {
    const Batch& batch = scheduler_->batch();
    if (faults_ && Chance(1)) runner_->failing_steps.insert(batch.step);
    writers_.Check(
        batch, [this](RequestId id) { return clients_.at(id).request.tenant; });
    EXPECT_TRUE(runner_->Launch(batch).ok());
    in_flight_ = true;
  }

  void PlainStep() {
    ClearTainted();
    EndLoads();
    if (operated_) Operate();
    scheduler_->Schedule(now_);
    Take(nullptr);
    BeginLoads();
    scheduler_->CheckInvariants();
    if (scheduler_->batch().empty()) return;
    Launch();
    Finish();
  }

  // The next step is scheduled before the last one's tokens are known.
  void PipelinedStep() {
    EndLoads();
    if (operated_ && !in_flight_) Operate();
    scheduler_->Schedule(now_);
    Take(nullptr);
    BeginLoads();
    scheduler_->CheckInvariants();
    if (Chance(5) && !clients_.empty()) {
      scheduler_->AbortChoice(Pick(1, static_cast<int32_t>(clients_.size())),
                              Pick(0, 2), FinishReason::kStopString);
      Take(nullptr);
    }
    if (in_flight_) Finish();
    ClearTainted();
    if (!scheduler_->batch().empty()) Launch();
  }

  void Take(const StepOutput* output) {
    for (const SequenceEvent& event : scheduler_->events()) {
      Client& client = clients_.at(event.id);
      EXPECT_FALSE(client.done) << "an event after the last";
      Choice& choice = client.choices.at(event.choice);
      EXPECT_EQ(choice.finish, FinishReason::kNone) << "finished twice";
      for (int32_t i = event.prompt_begin; i < event.begin; ++i) {
        EXPECT_EQ(event.choice, 0);
        client.scores.push_back(output->sampled[i].logprob);
        EXPECT_EQ(output->sampled[i].token,
                  client.request.prompt.at(client.scores.size()));
      }
      for (int32_t i = event.begin; i < event.end; ++i) {
        choice.tokens.push_back(output->sampled[i].token);
      }
      EXPECT_EQ(event.generated_tokens,
                static_cast<int32_t>(choice.tokens.size()));
      choice.finish = event.finish;
      client.done = event.last;
      if (event.last) cached_ += event.cached_tokens;
    }
    scheduler_->ClearEvents();
  }

  bool Done() const {
    return std::all_of(clients_.begin(), clients_.end(),
                       [](const auto& item) { return item.second.done; }) &&
           !in_flight_ && loads_.empty();
  }

  std::string Unfinished() const {
    std::string result;
    for (const auto& [id, client] : clients_) {
      if (!client.done) absl::StrAppend(&result, id, " ");
    }
    return result;
  }

  void CheckAnswer(const Client& client) {
    bool failed = false;
    for (const Choice& choice : client.choices) {
      CheckChoice(client.request.id, choice);
      failed |= choice.finish == FinishReason::kCancelled ||
                choice.finish == FinishReason::kDeadline ||
                choice.finish == FinishReason::kError;
      // Those that did not start when the request failed.
      EXPECT_TRUE(failed || choice.finish != FinishReason::kNone);
      several_done_ += client.choices.size() > 1 && !failed;
    }
    if (client.request.sampling.prompt_logprobs < 0) {
      EXPECT_TRUE(client.scores.empty());
      return;
    }
    const std::vector<float>& all = client.choices[0].alone.prompt_logprobs;
    ASSERT_LE(client.scores.size(), all.size());
    EXPECT_TRUE(
        std::equal(client.scores.begin(), client.scores.end(), all.begin()));
    if (!client.choices[0].tokens.empty()) {
      EXPECT_EQ(client.scores.size(), all.size()) << client.request.id;
    }
  }

  void CheckChoice(RequestId id, const Choice& choice) const {
    switch (choice.finish) {
      case FinishReason::kLength:
      case FinishReason::kEndOfSequence:
      case FinishReason::kStopToken:
        EXPECT_EQ(choice.tokens, choice.alone.tokens) << "request " << id;
        EXPECT_EQ(choice.finish, choice.alone.reason) << "request " << id;
        return;
      case FinishReason::kError:
        EXPECT_TRUE(faults_ || pins_fill_) << "request " << id;
        break;
      default:
        break;
    }
    ASSERT_LE(choice.tokens.size(), choice.alone.tokens.size());
    EXPECT_TRUE(std::equal(choice.tokens.begin(), choice.tokens.end(),
                           choice.alone.tokens.begin()))
        << "request " << id;
  }

  std::mt19937_64 random_;
  std::unique_ptr<FakeRunner> runner_;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<RequestId, Client> clients_;
  MonotonicTime now_{std::chrono::seconds(1)};
  int64_t step_ = 0;
  uint64_t several_done_ = 0;
  struct Load {
    int32_t slot;
    int64_t due;  // the step it ends in
  };
  std::vector<Load> loads_;  // in the order of their beginning
  std::vector<std::shared_ptr<const Adapter>> all_adapters_;
  std::vector<SlotLease> pins_;  // before scheduler_ goes, Run empties it
  uint64_t loaded_ = 0;
  BlockWriters writers_;
  uint64_t cached_ = 0;  // tokens of prompts found in the prefix cache
  uint64_t taken_ = 0;   // slots that went from one tenant to another
  uint64_t unloaded_ = 0;
  bool pins_fill_ = false;
  bool operated_ = false;
  bool slow_loads_ = false;
  bool pipelined_ = false;
  bool faults_ = false;
  bool pauses_ = false;
  bool in_flight_ = false;
};

}  // namespace descant

#endif  // DESCANT_TESTS_SIM_SIMULATION_H_
