// The bound of runtime/core/fairness.h, held against a scheduler from outside.
#ifndef DESCANT_TESTS_SIM_FAIRNESS_BOUND_H_
#define DESCANT_TESTS_SIM_FAIRNESS_BOUND_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "runtime/core/scheduler.h"

namespace descant {

// "Backlogged = has a request whose adapter is READY; waiting for a load is
// bounded separately by 2 s." Told the scheduler's state before and after each
// Schedule, it knows from that alone who is backlogged through which passes,
// and checks for each two of them, at the end of each pass, how far their
// counters are apart and what they got since both are.
class FairnessBound {
 public:
  // `max_adapters`: SchedulerOptions::max_adapters, 0 as there.
  explicit FairnessBound(int32_t max_adapters) : max_adapters_(max_adapters) {}

  void BeforePass(const Scheduler& scheduler) { ready_ = Ready(scheduler); }

  void AfterPass(const Scheduler& scheduler) {
    const std::set<const Sequence*> still = Ready(scheduler);
    std::set<std::string> backlogged;
    for (const Sequence* sequence : still) {
      if (ready_.count(sequence) == 0 ||
          scheduler.fairness().passed_over(sequence->tenant)) {
        continue;
      }
      backlogged.insert(sequence->request().tenant);
    }
    Measure(scheduler);
    std::erase_if(pairs_, [&](const auto& item) {
      return backlogged.count(item.first.first) == 0 ||
             backlogged.count(item.first.second) == 0;
    });
    for (const std::string& a : backlogged) {
      for (const std::string& b : backlogged) {
        if (a == b) continue;
        const auto [pair, first] = pairs_.try_emplace({a, b});
        if (first) pair->second = {tenants_[a].counter, tenants_[b].counter};
        Check(tenants_[a], tenants_[b], pair->second);
      }
    }
  }

  // Passes of pairs that were checked.
  uint64_t checked() const { return checked_; }
  // The largest lead, as a part of what is allowed.
  double closest() const { return closest_; }

 private:
  struct Tenant {
    double counter = 0;
    double bound = 0;  // the largest so far
    int32_t longest_prompt = 0;
    int32_t weight = 1;
  };
  struct Since {  // when both were backlogged
    double a = 0;
    double b = 0;
  };

  std::set<const Sequence*> Ready(const Scheduler& scheduler) const {
    bool starving = false;
    scheduler.ForEachSequence([&](const Sequence& sequence) {
      // As in the scheduler: then slots are kept for somebody.
      starving |= sequence.skipped_steps >= 64;
    });
    std::set<const Sequence*> ready;
    scheduler.ForEachSequence([&](const Sequence& sequence) {
      if (sequence.state != SequenceState::kWaiting || sequence.paused) return;
      const Adapter* adapter = sequence.request().adapter.get();
      if (adapter == nullptr) {
        ready.insert(&sequence);
        return;
      }
      const SlotTable& slots = scheduler.slots();
      const auto slot = slots.Find(KeyOf(*adapter));
      if (!slot || !slots.loaded(*slot) || slots.retiring(*slot)) return;
      if (!sequence.lease && starving) return;
      if (!sequence.lease && max_adapters_ > 0 && slots.users(*slot) == 0 &&
          slots.used() >= max_adapters_) {
        return;
      }
      ready.insert(&sequence);
    });
    return ready;
  }

  void Measure(const Scheduler& scheduler) {
    std::map<std::string, int64_t> to_come;
    scheduler.ForEachSequence([&](const Sequence& sequence) {
      const Request& request = sequence.request();
      Tenant& tenant = tenants_[request.tenant];
      tenant.weight = request.tenant_weight;
      tenant.longest_prompt =
          std::max(tenant.longest_prompt, sequence.prompt_length);
      tenant.counter =
          static_cast<double>(scheduler.fairness().counter(sequence.tenant)) /
          static_cast<double>(kCounterUnit);
      if (sequence.state != SequenceState::kRunning &&
          sequence.state != SequenceState::kPreempted) {
        return;
      }
      to_come[request.tenant] +=
          sequence.max_length - static_cast<int64_t>(sequence.tokens.size());
    });
    for (auto& [name, tenant] : tenants_) {
      const double cost =
          static_cast<double>(kPromptTokenCost * tenant.longest_prompt +
                              kOutputTokenCost * to_come[name] + kMaxLead);
      tenant.bound = std::max(tenant.bound, cost / tenant.weight);
    }
  }

  void Check(const Tenant& a, const Tenant& b, const Since& since) {
    constexpr double kRounding = 1e-2;
    ++checked_;
    const double lead = a.counter - b.counter;
    const double allowed = std::max(since.a - since.b, 0.0) + a.bound;
    EXPECT_LE(lead, allowed + kRounding);
    const double more = (a.counter - since.a) - (b.counter - since.b);
    const double owed = std::max(since.b - since.a, 0.0);
    const double most = 2 * std::max(a.bound, b.bound) + owed;
    EXPECT_LE(more, most + kRounding);
    closest_ = std::max({closest_, lead / allowed, more / most});
  }

  const int32_t max_adapters_;
  std::set<const Sequence*> ready_;
  std::map<std::string, Tenant> tenants_;
  std::map<std::pair<std::string, std::string>, Since> pairs_;
  uint64_t checked_ = 0;
  double closest_ = 0;
};

}  // namespace descant

#endif  // DESCANT_TESTS_SIM_FAIRNESS_BOUND_H_
