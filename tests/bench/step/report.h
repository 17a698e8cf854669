// What step_bench prints.
#ifndef DESCANT_TESTS_BENCH_STEP_REPORT_H_
#define DESCANT_TESTS_BENCH_STEP_REPORT_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/model/cpu_phase_timer.h"
#include "tests/bench/machine/machine.h"
#include "tests/bench/step/cost.h"

namespace descant::bench {

// Milliseconds of a phase, a mean over the workers.
struct PhaseTime {
  double work = 0;
  double wait = 0;  // at its barriers
};

struct StepFigures {
  std::string table;  // "base", "q,v rank 8", ...
  std::string kind;   // "decode" or "prefill"
  int32_t rows = 0;
  int32_t sequences = 0;
  int32_t context = 0;  // tokens in the cache of each before the step
  double best_ms = 0;   // other work on the machine only ever adds time
  double median_ms = 0;
  Bounds bounds;  // at the time
  StepCost cost;
  std::array<PhaseTime, kCpuPhases> phases;  // of the fastest timed step
  double phased_ms = 0;                      // that step's time
};

struct StepReport {
  Machine machine;
  std::string model;
  std::string runner;
  std::string weights;   // their type's name
  double best_read = 0;  // bytes a second, the most that was measured
  Peak peak;
  std::vector<StepFigures> steps;
};

// "base decode 1 rows 3.95 ms (median 3.99) 253 rows/s bound 3.71 x 1.06".
// The bound is the larger of all bytes by bandwidth and all operations by peak.
std::string StepLine(const StepFigures& step);

// Column heads, and a step's phases: "time/bound" in ms where a phase has a
// bound, waiting at barriers of all phases together, and what lies outside the
// parallel region.
std::string PhaseHeadings();
std::string PhaseLine(const StepFigures& step);

// {machine, commit, date, model, runner, limits{read_gb_per_s, fp32_tflops,
//  bf16_tflops, int8_tops}, steps[{..., phases{name{work_ms, wait_ms,
//  bound_ms}}}]}, one line.
std::string ReportJson(const StepReport& report);

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_STEP_REPORT_H_
