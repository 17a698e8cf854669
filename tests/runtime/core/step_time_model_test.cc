#include "runtime/core/step_time_model.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#include "gtest/gtest.h"

namespace descant {
namespace {

constexpr uint32_t kSeed = 20261126;

// A machine: 9 ms, 1 ms a row, 20 ms for 64 MiB of adapters, 1 us a token.
struct Machine {
  double base = 0.009;
  double row = 0.001;
  double byte = 0.020 / (64 << 20);
  double token = 1e-6;

  double Time(const StepWork& work) const {
    return base + row * work.rows +
           byte * static_cast<double>(work.adapter_bytes) +
           token * static_cast<double>(work.attended_tokens);
  }
};

// Decodes beside prefills of any size.
class Load {
 public:
  explicit Load(uint32_t seed = kSeed) : rng_(seed) {
    std::printf("seed %u\n", seed);
  }
  StepWork Decodes() {
    StepWork work;
    const int count = Pick(1, 24);
    for (int i = 0; i < count; ++i) work.AddRows(Pick(10, 900), 1);
    work.adapter_bytes = Pick(0, 8) * (int64_t{1} << 20);
    return work;
  }
  StepWork Any() {
    StepWork work = Decodes();
    if (Pick(0, 2) == 0) work.AddRows(Pick(0, 512), Pick(1, 200));
    return work;
  }
  int Pick(int low, int high) {
    return low + static_cast<int>(rng_() % (high - low + 1));
  }
  // 1 on average, within a tenth.
  double Noise() { return 0.9 + Pick(0, 2000) / 10000.0; }

 private:
  std::mt19937 rng_;
};

StepWork Chunk(int32_t decodes, int32_t rows) {
  StepWork work;
  for (int32_t i = 0; i < decodes; ++i) work.AddRows(200, 1);
  work.AddRows(0, rows);
  return work;
}

void ExpectNear(const StepTimeModel& model, const Machine& machine,
                const StepWork& work, double part) {
  EXPECT_NEAR(model.Predict(work), machine.Time(work),
              part * machine.Time(work))
      << work.rows << " rows";
}

TEST(StepTimeModel, FindsWhatItIsMadeOf) {
  const Machine machine;
  StepTimeModel model;
  Load load;
  for (int i = 0; i < 400; ++i) {
    const StepWork work = load.Any();
    model.Observe(work, machine.Time(work));
  }
  for (const int32_t rows : {1, 16, 64, 200}) {
    ExpectNear(model, machine, Chunk(8, rows), 0.02);
  }
}

TEST(StepTimeModel, NoiseAveragesOut) {
  const Machine machine;
  StepTimeModel model;
  Load load;
  for (int i = 0; i < 1000; ++i) {
    const StepWork work = load.Any();
    model.Observe(work, machine.Time(work) * load.Noise());
  }
  for (const int32_t rows : {1, 16, 64, 200}) {
    ExpectNear(model, machine, Chunk(8, rows), 0.08);
  }
  EXPECT_GT(model.error(), 0.0005);
  EXPECT_LT(model.error(), 0.010);
}

TEST(StepTimeModel, OneStallChangesLittle) {
  const Machine machine;
  StepTimeModel model;
  Load load;
  for (int i = 0; i < 500; ++i) {
    const StepWork work = load.Any();
    const double seconds = machine.Time(work) * load.Noise();
    model.Observe(work, i % 50 == 49 ? seconds + 2 : seconds);
  }
  model.Observe(load.Decodes(), 5);
  for (const int32_t rows : {1, 64, 200}) {
    ExpectNear(model, machine, Chunk(8, rows), 0.15);
  }
}

TEST(StepTimeModel, FollowsAMachineThatSlowsDown) {
  Machine machine;
  StepTimeModel model;
  Load load;
  for (int i = 0; i < 500; ++i) {
    const StepWork work = load.Any();
    model.Observe(work, machine.Time(work) * load.Noise());
  }
  machine = {0.020, 0.0025, machine.byte, 2e-6};
  for (int i = 0; i < 200; ++i) {
    const StepWork work = load.Any();
    model.Observe(work, machine.Time(work) * load.Noise());
  }
  for (const int32_t rows : {1, 64, 200}) {
    ExpectNear(model, machine, Chunk(8, rows), 0.25);
  }
}

// What a row costs is not forgotten while only decodes come.
TEST(StepTimeModel, RemembersWhatRecentStepsSayNothingAbout) {
  const Machine machine;
  StepTimeModel model;
  Load load;
  for (int i = 0; i < 400; ++i) {
    const StepWork work = load.Any();
    model.Observe(work, machine.Time(work) * load.Noise());
  }
  for (int i = 0; i < 20'000; ++i) {
    const StepWork work = Chunk(7, 1);
    model.Observe(work, machine.Time(work) * load.Noise());
  }
  ExpectNear(model, machine, Chunk(7, 1), 0.05);
  ExpectNear(model, machine, Chunk(7, 128), 0.3);
}

TEST(StepTimeModel, MoreNeverTakesLess) {
  StepTimeModel model;
  Load load;
  // Times that fall with the work.
  for (int i = 0; i < 300; ++i) {
    const StepWork work = load.Any();
    model.Observe(work, 0.3 / (1 + work.rows) * load.Noise());
  }
  double last = 0;
  for (int32_t rows = 1; rows < 300; ++rows) {
    const double now = model.Predict(Chunk(4, rows));
    EXPECT_GE(now, last);
    last = now;
  }
}

TEST(StepTimeModel, RowsStayWithinTheTarget) {
  const Machine machine;
  StepTimeModel model;
  Load load;
  for (int i = 0; i < 600; ++i) {
    const StepWork work = load.Any();
    model.Observe(work, machine.Time(work) * load.Noise());
  }
  const StepWork decodes = Chunk(8, 0);
  int32_t last = 0;
  for (const double target : {0.020, 0.030, 0.050, 0.100}) {
    const int32_t rows = model.RowsWithin(target, decodes, 0, 512);
    StepWork step = decodes;
    step.AddRows(0, rows);
    EXPECT_LE(machine.Time(step), 1.05 * target);
    EXPECT_GE(machine.Time(step), 0.7 * target - 0.004) << rows;
    EXPECT_GE(rows, last);
    last = rows;
  }
  EXPECT_EQ(model.RowsWithin(0.001, decodes, 0, 512), 0);
  EXPECT_EQ(model.RowsWithin(10, decodes, 0, 5), 5);
  // Rows far into a long prompt cost more.
  EXPECT_LT(model.RowsWithin(0.1, decodes, 4000, 512), last);
}

TEST(StepTimeModel, WhatWasNeverMeasuredIsApproachedInSteps) {
  StepTimeModel model;
  EXPECT_EQ(model.RowsWithin(10, {}, 0, 512), StepTimeModel::kFirstRows);
  for (int i = 0; i < 50; ++i) model.Observe(Chunk(3, 1), 0.012);
  EXPECT_TRUE(model.fitted());
  int32_t before = 4;
  for (int i = 0; i < 10; ++i) {
    const StepWork decodes = Chunk(4, 0);
    const int32_t rows = model.RowsWithin(10, decodes, 0, 2048);
    EXPECT_GT(rows, 0);
    EXPECT_LE(rows + 4, std::max(2 * before, StepTimeModel::kFirstRows));
    StepWork step = decodes;
    step.AddRows(0, rows);
    model.Observe(step, Machine().Time(step));
    before = step.rows;
  }
  EXPECT_GT(before, 1000);
}

TEST(StepTimeModel, TheSameStepsGiveTheSameModel) {
  StepTimeModel a;
  StepTimeModel b;
  Load load;
  for (int i = 0; i < 300; ++i) {
    const StepWork work = load.Any();
    const double seconds = Machine().Time(work) * load.Noise();
    a.Observe(work, seconds);
    b.Observe(work, seconds);
    b.Observe(work, std::numeric_limits<double>::quiet_NaN());
    b.Observe(work, -1);
    ASSERT_EQ(a.Predict(work), b.Predict(work));
  }
}

}  // namespace
}  // namespace descant
