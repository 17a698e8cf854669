// What arrives in the traces of merge_traces.h.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numbers>
#include <utility>

#include "tests/sim/merge_traces.h"

namespace descant {
namespace {

// Rows that drift, as sequences come and go.
class Rows {
 public:
  Rows(int32_t least, int32_t most) : least_(least), most_(most) {}
  int32_t Next(std::mt19937_64* random) {
    if ((*random)() % 20 == 0) {
      rows_ += (*random)() % 2 == 0 ? 1 : -1;
      rows_ = std::clamp(rows_, least_, most_);
    }
    return rows_;
  }

 private:
  int32_t least_;
  int32_t most_;
  int32_t rows_ = 8;
};

struct Chance {
  explicit Chance(uint64_t seed) : random(seed * 7919 + 13) {}
  double Uniform() {
    return std::uniform_real_distribution<double>(0, 1)(random);
  }
  double Exponential(double mean) { return -mean * std::log(1 - Uniform()); }
  int32_t Below(int32_t end) {
    return static_cast<int32_t>(random() % static_cast<uint64_t>(end));
  }
  std::mt19937_64 random;
};

TraceSource Steady(const TraceSettings& settings) {
  return [chance = Chance(settings.seed), rows = Rows(4, 16)](
             double, const MergeStates&) mutable {
    return TraceWork{0, rows.Next(&chance.random)};
  };
}

// Half of the pauses are idle, half have others' steps.
TraceSource Bursty(const TraceSettings& settings) {
  struct State {
    explicit State(uint64_t seed) : chance(seed) {}
    Chance chance;
    Rows rows{4, 16};
    bool on = false;
    double until = 0;
    bool idle = false;
  };
  auto state = std::make_shared<State>(settings.seed);
  return [state](double now, const MergeStates&) {
    if (now >= state->until) {
      state->on = !state->on;
      state->until = now + state->chance.Exponential(state->on ? 30 : 20);
      state->idle = state->chance.Below(2) == 0;
    }
    const int32_t rows = state->rows.Next(&state->chance.random);
    if (state->on) return TraceWork{0, rows};
    if (!state->idle) return TraceWork{TraceWork::kMixed, rows};
    return TraceWork{TraceWork::kIdle, 0, state->until - now};
  };
}

TraceSource AlternatingEvery(uint64_t seed, double period) {
  return [chance = Chance(seed), rows = Rows(4, 16), period](
             double now, const MergeStates&) mutable {
    const auto phase = static_cast<int64_t>(now / period);
    return TraceWork{static_cast<int32_t>(phase % 2),
                     rows.Next(&chance.random)};
  };
}

TraceSource Alternating(const TraceSettings& settings) {
  static constexpr std::array<double, 5> kPeriods = {0.5, 3, 12, 40, 120};
  return AlternatingEvery(settings.seed,
                          kPeriods[settings.seed % kPeriods.size()]);
}

// Phases of about the length that makes a policy build at the end of each.
TraceSource AlternatingAtThreshold(const TraceSettings& settings) {
  const double saves = std::max(0.01, settings.gain);
  const double part = 0.5 + 0.5 * static_cast<double>(settings.seed % 5);
  return AlternatingEvery(settings.seed,
                          std::max(0.2, part * settings.build_seconds / saves));
}

// Eight adapters, one over its rank as popular, some steps each in a row; and
// mixed steps.
TraceSource Popular(const TraceSettings& settings) {
  struct State {
    explicit State(uint64_t seed) : chance(seed) {}
    Chance chance;
    Rows rows{1, 32};
    int32_t adapter = 0;
    int32_t left = 0;
  };
  auto state = std::make_shared<State>(settings.seed);
  return [state](double, const MergeStates&) {
    Chance& chance = state->chance;
    if (state->left-- <= 0) {
      state->left = 1 + static_cast<int32_t>(chance.Exponential(20));
      double at = chance.Uniform() * 2.7179;  // 1 + 1/2 + ... + 1/8
      state->adapter = 0;
      while (state->adapter < 7 && (at -= 1.0 / (state->adapter + 1)) > 0) {
        ++state->adapter;
      }
      if (chance.Below(10) < 3) state->adapter = TraceWork::kMixed;
    }
    return TraceWork{state->adapter, state->rows.Next(&chance.random)};
  };
}

// Four adapters whose days are a quarter apart: 120 s long.
TraceSource Diurnal(const TraceSettings& settings) {
  struct State {
    explicit State(uint64_t seed) : chance(seed) {}
    Chance chance;
    Rows rows{1, 16};
    int32_t adapter = 0;
    int32_t left = 0;
  };
  auto state = std::make_shared<State>(settings.seed);
  return [state](double now, const MergeStates&) {
    Chance& chance = state->chance;
    if (state->left-- <= 0) {
      state->left = 1 + static_cast<int32_t>(chance.Exponential(20));
      const int32_t adapter = chance.Below(4);
      const double day = 2 * std::numbers::pi * (now / 120 - adapter / 4.0);
      const bool awake = chance.Uniform() < std::pow(std::cos(day / 2), 4);
      state->adapter = awake                  ? adapter
                       : chance.Below(2) == 0 ? TraceWork::kMixed
                                              : TraceWork::kIdle;
    }
    const int32_t rows = state->rows.Next(&chance.random);
    return TraceWork{state->adapter, rows, 0.02};
  };
}

// Goes when it is merged; the rest is mixed.
TraceSource Vanishing(const TraceSettings& settings) {
  return [chance = Chance(settings.seed), rows = Rows(4, 16), gone = false](
             double, const MergeStates& states) mutable {
    gone = gone || states.IsMerged(0);
    return TraceWork{gone ? TraceWork::kMixed : 0, rows.Next(&chance.random)};
  };
}

// And there is always another one like it.
TraceSource VanishingOneByOne(const TraceSettings& settings) {
  return [chance = Chance(settings.seed), rows = Rows(4, 16), adapter = 0](
             double, const MergeStates& states) mutable {
    if (states.IsMerged(adapter)) ++adapter;
    return TraceWork{adapter, rows.Next(&chance.random)};
  };
}

// Always one of those that have no weights.
TraceSource AlwaysAnother(const TraceSettings& settings) {
  return [chance = Chance(settings.seed), rows = Rows(4, 16), adapter = 0](
             double, const MergeStates& states) mutable {
    for (int32_t i = 0; states.IsMerged(adapter) && i < 3; ++i) {
      adapter = (adapter + 1) % 3;
    }
    return TraceWork{adapter, rows.Next(&chance.random)};
  };
}

}  // namespace

std::vector<TraceFamily> TraceFamilies() {
  return {
      {"steady", {1}, Steady},
      {"bursty", {1}, Bursty},
      {"alternating", {1, 0.6}, Alternating},
      {"alternating at the threshold", {1, 0.8}, AlternatingAtThreshold},
      {"popular, mixed", {0.6, 1, 0.4, 1, 0.2, 0.8, 0.3, 0}, Popular},
      {"diurnal", {1, 0.3, 0.7, 0.5}, Diurnal},
      {"vanishing", {1}, Vanishing},
      {"vanishing one by one", {1}, VanishingOneByOne, false},
      {"always another", {1, 0.9, 0.8}, AlwaysAnother, false},
  };
}

}  // namespace descant
