#include "tests/sim/merge_traces.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace descant {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The server: what steps take, with noise, stalls and drift.
class Machine {
 public:
  Machine(const TraceFamily& family, const TraceSettings& settings)
      : family_(family),
        settings_(settings),
        random_(settings.seed),
        for_rehearsals_(settings.seed + 1) {
    phase_ = std::uniform_real_distribution<double>(0, 6)(random_);
  }

  TraceStep Step(const TraceWork& work, double now) {
    const double slowness = Slowness(now, &random_);
    const double seconds = (0.020 + 0.0005 * work.rows) * slowness;
    const double gain = work.adapter < 0 ? 0 : GainOf(work);
    return {work.adapter, seconds, seconds * (1 - gain)};
  }
  double Rehearsal(const TraceWork& work, double now) {
    return (0.020 + 0.0005 * work.rows) * (1 - GainOf(work)) *
           Slowness(now, &for_rehearsals_);
  }

 private:
  // An adapter's bytes are read once for all rows: few rows gain more.
  double GainOf(const TraceWork& work) const {
    const size_t at = std::min<size_t>(work.adapter, family_.gains.size() - 1);
    return std::min(
        0.4, settings_.gain * family_.gains[at] / (0.75 + work.rows / 32.0));
  }
  double Slowness(double now, std::mt19937_64* random) const {
    std::normal_distribution<double> noise(0, 0.03);
    const bool stalls = (*random)() % 200 == 0;
    const double drift =
        0.2 * std::sin(phase_ + now * 2 * std::numbers::pi / 90);
    return std::exp(noise(*random)) * (1 + drift) * (stalls ? 3 : 1);
  }

  const TraceFamily& family_;
  const TraceSettings& settings_;
  std::mt19937_64 random_;
  std::mt19937_64 for_rehearsals_;
  double phase_ = 0;
};

// A server that does as the policy says.
class Server : public MergeStates {
 public:
  Server(const TraceFamily& family, const TraceSettings& settings)
      : settings_(settings),
        machine_(family, settings),
        source_(family.source(settings)),
        // What the policy takes a build to cost at first is off by up to 2.
        bytes_(static_cast<uint64_t>(
            settings.build_seconds *
            std::exp2(static_cast<double>(settings.seed % 5) / 2 - 1) / 2e-9)),
        policy_(bytes_ * settings.copies) {}

  TraceResult Run() {
    while (now_ < settings_.trace_seconds) {
      Decide();
      const TraceWork work = source_(now_, *this);
      if (work.adapter == TraceWork::kIdle) {
        now_ += work.idle_seconds;
        continue;
      }
      Work(work);
    }
    result_.oracle =
        LeastSeconds(steps_, settings_.build_seconds, settings_.copies);
    return result_;
  }

  bool HasWeights(int32_t adapter) const override {
    const MergeState state = StateOf(adapter);
    return state != MergeState::kUnmerged && state != MergeState::kRefused;
  }
  bool IsMerged(int32_t adapter) const override {
    return StateOf(adapter) == MergeState::kMerged;
  }

 private:
  static AdapterKey KeyOf(int32_t adapter) {
    return AdapterKey("", absl::StrCat("adapter-", adapter));
  }
  // The history's last word on it; what it forgot is long over.
  MergeState StateOf(int32_t adapter) const {
    const AdapterKey key = KeyOf(adapter);
    const auto& history = policy_.history();
    const auto last =
        std::find_if(history.rbegin(), history.rend(),
                     [&](const auto& event) { return event.key == key; });
    return last == history.rend() ? MergeState::kUnmerged : last->state;
  }

  void Decide() {
    policy_.Decide(now_, &decision_);
    if (!decision_.build.has_value()) return;
    ++result_.builds;
    build_left_ = settings_.build_seconds;
    for (const MergeRecord& record : policy_.Records(now_)) {
      if (record.key == *decision_.build && !(record.gain.value_or(0) > 0)) {
        ++result_.builds_without_gain;
      }
    }
  }

  void Work(const TraceWork& work) {
    const TraceStep& step = steps_.emplace_back(machine_.Step(work, now_));
    result_.off += step.unmerged_seconds;
    MergeStep how = MergeStep::kUnmerged;
    double rehearsal = 0;
    if (work.adapter >= 0) {
      how = policy_.PlanStep(now_, KeyOf(work.adapter), bytes_, work.rows);
      if (how == MergeStep::kMeasure || how == MergeStep::kCheck) {
        rehearsal = machine_.Rehearsal(work, now_);
      }
    }
    double seconds =
        how == MergeStep::kMerged ? step.merged_seconds : step.unmerged_seconds;
    // Of two cores a build takes one.
    const double lost = std::min(build_left_, seconds);
    seconds += lost;
    now_ += rehearsal + seconds;
    result_.policy += rehearsal + seconds;
    result_.rehearsals += rehearsal;
    result_.build_seconds += lost;
    if (work.adapter >= 0) {
      policy_.StepTook(now_, KeyOf(work.adapter), how, work.rows, seconds,
                       rehearsal);
      if (how == MergeStep::kCheck) {
        policy_.CheckEnded(now_, KeyOf(work.adapter), "");
      }
    }
    if (lost > 0 && (build_left_ -= lost) <= 0) {
      policy_.BuildEnded(now_, settings_.build_seconds, "");
    }
  }

  const TraceSettings& settings_;
  Machine machine_;
  TraceSource source_;
  const uint64_t bytes_;
  MergePolicy policy_;
  MergePolicy::Decision decision_;
  double now_ = 0;
  double build_left_ = 0;
  std::vector<TraceStep> steps_;
  TraceResult result_;
};

// Steps that an adapter has in a row, others' mixed ones left out.
struct Phase {
  int32_t adapter;
  double saving;  // of all of them merged
};

std::vector<Phase> PhasesOf(const std::vector<TraceStep>& steps) {
  std::vector<Phase> phases;
  for (const TraceStep& step : steps) {
    if (step.adapter < 0) continue;
    if (phases.empty() || phases.back().adapter != step.adapter) {
      phases.push_back({step.adapter, 0});
    }
    phases.back().saving +=
        std::max(0.0, step.unmerged_seconds - step.merged_seconds);
  }
  return phases;
}

// Each adapter is built once, or never.
double MostSavedWithMemory(const std::vector<Phase>& phases,
                           double build_seconds) {
  std::map<int32_t, double> savings;
  for (const Phase& phase : phases) savings[phase.adapter] += phase.saving;
  double saved = 0;
  for (const auto& [adapter, saving] : savings) {
    saved += std::max(0.0, saving - build_seconds);
  }
  return saved;
}

// Over the sets of adapters that have weights: a build in the midst of a phase
// saves less than one at its beginning, and one before it no more.
double MostSavedWithin(const std::vector<Phase>& phases, double build_seconds,
                       int32_t copies) {
  std::vector<double> saved(1u << kMostInMemory, -kInfinity);
  saved[0] = 0;
  for (const Phase& phase : phases) {
    const uint32_t bit = 1u << phase.adapter;
    std::vector<double> next = saved;
    for (uint32_t held = 0; held < saved.size(); ++held) {
      if (saved[held] == -kInfinity) continue;
      if ((held & bit) != 0) {
        next[held] = std::max(next[held], saved[held] + phase.saving);
        continue;
      }
      const double built = saved[held] + phase.saving - build_seconds;
      if (std::popcount(held) < copies) {
        next[held | bit] = std::max(next[held | bit], built);
      }
      for (uint32_t rest = held; rest != 0; rest &= rest - 1) {
        const uint32_t after = (held & ~(rest & -rest)) | bit;
        next[after] = std::max(next[after], built);
      }
    }
    saved = next;
  }
  return *std::max_element(saved.begin(), saved.end());
}

}  // namespace

std::string TraceSettings::Text() const {
  return absl::StrFormat("seed %d, gain %.2f, build %.1f s, %d copies", seed,
                         gain, build_seconds, copies);
}

double LeastSeconds(const std::vector<TraceStep>& steps, double build_seconds,
                    int32_t copies) {
  double off = 0;
  int32_t adapters = 0;
  for (const TraceStep& step : steps) {
    off += step.unmerged_seconds;
    adapters = std::max(adapters, step.adapter + 1);
  }
  const std::vector<Phase> phases = PhasesOf(steps);
  return off - (adapters <= copies || adapters > kMostInMemory
                    ? MostSavedWithMemory(phases, build_seconds)
                    : MostSavedWithin(phases, build_seconds, copies));
}

TraceResult RunTrace(const TraceFamily& family, const TraceSettings& settings) {
  return Server(family, settings).Run();
}

}  // namespace descant
