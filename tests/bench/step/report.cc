#include "tests/bench/step/report.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace descant::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kLabel = 30;
constexpr int kColumn = 13;

double OutsideMs(const StepFigures& step) {
  double inside = 0;
  for (const PhaseTime& phase : step.phases) inside += phase.work + phase.wait;
  return step.phased_ms - inside;
}

Json StepJson(const StepFigures& step) {
  const Work total = step.cost.Total();
  Json phases;
  for (int32_t i = 0; i < kCpuPhases; ++i) {
    phases[kCpuPhaseNames[i]] = {
        {"work_ms", step.phases[i].work},
        {"wait_ms", step.phases[i].wait},
        {"bound_ms", BoundMs(step.cost.phases[i], step.bounds)}};
  }
  const double bound = BoundMs(total, step.bounds);
  return {{"table", step.table},
          {"kind", step.kind},
          {"rows", step.rows},
          {"sequences", step.sequences},
          {"context", step.context},
          {"best_ms", step.best_ms},
          {"median_ms", step.median_ms},
          {"rows_per_s", 1e3 * step.rows / step.best_ms},
          {"bytes", total.bytes},
          {"operations", total.operations},
          {"read_gb_per_s", 1e-9 * step.bounds.read},
          {"bytes_ms", 1e3 * total.bytes / step.bounds.read},
          {"bound_ms", bound},
          {"ratio", step.best_ms / bound},
          {"phased_ms", step.phased_ms},
          {"outside_ms", OutsideMs(step)},
          {"phases", phases}};
}

}  // namespace

std::string StepLine(const StepFigures& step) {
  const Work total = step.cost.Total();
  const double bound = BoundMs(total, step.bounds);
  const double seconds = 1e-3 * step.best_ms;
  std::string line = absl::StrFormat(
      "%-12s %-7s %3d rows %8.2f ms (median %8.2f) %7.0f rows/s  "
      "bound %7.2f x %.2f  %5.1f GB/s %5.2f TFLOP/s",
      step.table, step.kind, step.rows, step.best_ms, step.median_ms,
      step.rows / seconds, bound, step.best_ms / bound,
      1e-9 * total.bytes / seconds, 1e-12 * total.operations / seconds);
  if (step.sequences != step.rows || step.context >= 1000) {
    absl::StrAppend(&line, "  (", step.sequences, " x ",
                    step.rows / step.sequences, " after ", step.context, ")");
  }
  return line;
}

std::string PhaseHeadings() {
  std::string line = absl::StrFormat("%-*s", kLabel, "ms/bound");
  for (const char* name : kCpuPhaseNames) {
    absl::StrAppendFormat(&line, "%*s", kColumn, name);
  }
  absl::StrAppendFormat(&line, "%*s%*s", kColumn, "barriers", kColumn,
                        "outside");
  return line;
}

std::string PhaseLine(const StepFigures& step) {
  std::string line = absl::StrFormat(
      "%-*s", kLabel,
      absl::StrFormat("%s %s %d", step.table, step.kind, step.rows));
  double wait = 0;
  for (int32_t i = 0; i < kCpuPhases; ++i) {
    wait += step.phases[i].wait;
    std::string cell = absl::StrFormat("%.2f", step.phases[i].work);
    const double bound = BoundMs(step.cost.phases[i], step.bounds);
    if (bound > 0) absl::StrAppendFormat(&cell, "/%.2f", bound);
    absl::StrAppendFormat(&line, "%*s", kColumn, cell);
  }
  absl::StrAppendFormat(&line, "%*.2f%*.2f", kColumn, wait, kColumn,
                        OutsideMs(step));
  return line;
}

std::string ReportJson(const StepReport& report) {
  Json steps = Json::array();
  for (const StepFigures& step : report.steps) {
    steps.push_back(StepJson(step));
  }
  const Json json = {
      {"bench", "step"},
      {"machine",
       {{"cpu", report.machine.cpu}, {"cores", report.machine.cores}}},
      {"commit", report.machine.commit},
      {"date", report.machine.date},
      {"model", report.model},
      {"runner", report.runner},
      {"weights", report.weights},
      {"limits",
       {{"read_gb_per_s", 1e-9 * report.best_read},
        {"fp32_tflops", 1e-12 * report.peak.fp32},
        {"bf16_tflops", 1e-12 * report.peak.bf16},
        {"int8_tops", 1e-12 * report.peak.int8}}},
      {"steps", steps}};
  return json.dump();
}

}  // namespace descant::bench
