// Times whole steps of the CPU runner: decodes of 1 to 32 rows and prefill
// chunks, without adapters, with 32 of rank 8 on q and v, with 32 of rank 16 on
// all linear modules, with those loaded but unused, and decodes at the end of
// long contexts. Sampling is greedy and included. Beside each time stands its
// bound, what must be read by the measured bandwidth or what must be computed
// by the measured peak, and below each table where the time goes, by phase.
//
//   step_bench [OPTIONS] [MODEL] [REPETITIONS]     (--help)
//
// MODEL is a GGUF file, a Hugging Face directory or shape:NAME[:LAYERS], a
// published model's sizes with random weights
// (tests/runtime/model/synthetic_model.h), cut to LAYERS layers.
//
// The digest of a table is of its steps' tokens and log-probabilities: two
// builds that should compute the same bits print the same one.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/cpu_phase_timer.h"
#include "runtime/model/cpu_runner.h"
#include "runtime/model/model.h"
#include "runtime/model/weight_type.h"
#include "tests/bench/machine/machine.h"
#include "tests/bench/step/batches.h"
#include "tests/bench/step/cost.h"
#include "tests/bench/step/report.h"
#include "tests/runtime/model/synthetic_model.h"

namespace descant::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kContext = 161;  // tokens in the cache before a decode
constexpr int32_t kSequences = 32;
constexpr int32_t kMaxRows = 512;
constexpr uint64_t kDigestStart = 0xcbf29ce484222325u;

struct Options {
  std::string model;
  int repetitions = 30;
  int32_t threads = 0;
  std::vector<std::string> only;
  std::string json;
  WeightType weights = WeightType::kBf16;
  AdapterWeightType adapter_weights = AdapterWeightType::kBf16;

  bool Wants(const std::string& table) const {
    return only.empty() ||
           std::find(only.begin(), only.end(), table) != only.end();
  }
};

double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

// FNV-1a over the bits of what a step sampled.
void AddToDigest(const StepOutput& output, uint64_t* digest) {
  const auto add = [digest](const void* bytes, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      *digest ^= static_cast<const unsigned char*>(bytes)[i];
      *digest *= 0x100000001b3u;
    }
  };
  for (const auto& sampled : output.sampled) {
    add(&sampled.token, sizeof sampled.token);
    add(&sampled.logprob, sizeof sampled.logprob);
  }
}

// A model's path, or shape:NAME[:LAYERS].
absl::StatusOr<std::shared_ptr<const Model>> OpenModel(
    const std::string& argument) {
  const std::vector<std::string> parts = absl::StrSplit(argument, ':');
  if (parts[0] != "shape" || parts.size() < 2) {
    DESCANT_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(argument));
    return loaded.model;
  }
  const int layers = parts.size() > 2 ? std::atoi(parts[2].c_str()) : 0;
  const auto config = SyntheticConfig(parts[1], layers);
  if (!config.has_value()) {
    return absl::NotFoundError(absl::StrCat(
        "no such shape; there are ", absl::StrJoin(SyntheticShapes(), ", ")));
  }
  return MakeSyntheticModel(*config, 1);
}

// Of one value of the base weights, on average: what the runner holds but a
// table of embeddings, of which a step reads a few rows.
double WeightBytes(const ModelConfig& config, const CpuWeights& weights) {
  double bytes = static_cast<double>(weights.bytes());
  if (!config.tied_embeddings) {
    bytes -=
        sizeof(kernels::bf16_t) * 1.0 * config.vocab_size * config.hidden_size;
  }
  return bytes / BaseValues(config);
}

// Milliseconds of a tick of the time-stamp counter.
double TickMs() {
  const auto start = Clock::now();
  const uint64_t first = __rdtsc();
  while (MsSince(start) < 20) {
  }
  const uint64_t ticks = __rdtsc() - first;
  return MsSince(start) / static_cast<double>(ticks);
}

class StepBench {
 public:
  StepBench(const Options& options, std::shared_ptr<const Model> model,
            std::unique_ptr<CpuRunner> runner)
      : options_(options),
        model_(std::move(model)),
        runner_(std::move(runner)),
        timer_(runner_->workers()),
        vocab_(std::min(model_->config.vocab_size, 40000)),
        tick_ms_(TickMs()),
        weight_bytes_(WeightBytes(model_->config, runner_->weights())) {
    greedy_.temperature = 0;
    report_.machine = DescribeMachine();
    report_.model = options.model;
    report_.runner = runner_->Describe();
    report_.weights = std::string(WeightTypeName(options.weights));
  }

  void Run();
  const StepReport& report() const { return report_; }

 private:
  // Before each table: neighbours on a host take some of its bandwidth now and
  // then, and a table's bounds are of its own time.
  void MeasureMachine();
  void PrintMachine() const;
  void LoadAdapters(int32_t rank, bool all);
  // `used`: rows run under the adapters that are loaded.
  void Table(const std::string& name, const AdapterCost& adapters);
  void LongContexts();
  // Measures and prints. `digest`: null to leave this step out of it.
  void Measure(const std::string& table, const std::string& kind,
               int32_t sequences, int32_t rows, int32_t context,
               const AdapterCost& adapters, int repetitions, uint64_t* digest);
  double Launch(const Batch& batch, uint64_t* digest);
  void Profile(const Batch& batch, int repetitions, StepFigures* figures);
  void PrintPhases(size_t first_step, const std::string& table,
                   uint64_t digest);

  const Options& options_;
  const std::shared_ptr<const Model> model_;
  const std::unique_ptr<CpuRunner> runner_;
  CpuPhaseTimer timer_;
  const int32_t vocab_;
  const double tick_ms_;
  const double weight_bytes_;
  SamplingParams greedy_;
  Bounds bounds_;
  StepReport report_;
};

void StepBench::MeasureMachine() {
  kernels::WorkerPool pool(options_.threads);
  const auto isa = kernels::ChooseCpuIsa();
  DESCANT_CHECK(isa.ok());
  report_.peak = MeasurePeak(*isa, &pool);
  // int4's are expanded to bf16.
  const bool int8 = options_.weights == WeightType::kInt8;
  bounds_ = {MeasureReadBandwidth(&pool),
             int8 ? report_.peak.int8 : report_.peak.bf16};
  report_.best_read = std::max(report_.best_read, bounds_.read);
}

void StepBench::PrintMachine() const {
  std::printf(
      "%s, %d cores, commit %s, %s\n%s, %.2f bytes a weight; reads %.1f GB/s; "
      "fp32 %.2f, bf16 %.2f TFLOP/s, int8 %.2f TOP/s\n",
      report_.machine.cpu.c_str(), report_.machine.cores,
      report_.machine.commit.c_str(), report_.machine.date.c_str(),
      report_.runner.c_str(), weight_bytes_, 1e-9 * report_.best_read,
      1e-12 * report_.peak.fp32, 1e-12 * report_.peak.bf16,
      1e-12 * report_.peak.int8);
}

void StepBench::Run() {
  MeasureMachine();
  PrintMachine();
  const auto lora_bytes =
      static_cast<double>(AdapterWeightBytes(options_.adapter_weights));
  if (options_.Wants("base")) Table("base", {});
  if (options_.Wants("narrow")) {
    LoadAdapters(8, false);
    Table("q,v rank 8", {.rank = 8, .bytes_per_value = lora_bytes});
  }
  if (options_.Wants("wide") || options_.Wants("unused")) {
    LoadAdapters(16, true);
  }
  if (options_.Wants("wide")) {
    Table("all rank 16",
          {.rank = 16, .all_linear = true, .bytes_per_value = lora_bytes});
  }
  if (options_.Wants("unused")) Table("unused", {});
  // Last: what it leaves in the KV cache, later steps would read.
  if (options_.Wants("long")) LongContexts();
  MeasureMachine();
  PrintMachine();
}

void StepBench::LoadAdapters(int32_t rank, bool all) {
  for (int32_t slot = 0; slot < kSequences; ++slot) {
    DESCANT_CHECK(
        runner_
            ->LoadAdapter(
                slot, MakeSyntheticAdapter(model_->base_shape, rank, all, slot))
            .ok());
  }
}

double StepBench::Launch(const Batch& batch, uint64_t* digest) {
  const auto start = Clock::now();
  DESCANT_CHECK(runner_->Launch(batch).ok());
  const auto output = runner_->Collect();
  DESCANT_CHECK(output.ok());
  const double ms = MsSince(start);
  if (digest != nullptr) AddToDigest(**output, digest);
  return ms;
}

void StepBench::Profile(const Batch& batch, int repetitions,
                        StepFigures* figures) {
  runner_->SetTimer(&timer_);
  for (int i = 0; i < repetitions; ++i) {
    timer_.Clear();
    const double ms = Launch(batch, nullptr);
    if (i > 0 && ms >= figures->phased_ms) continue;
    figures->phased_ms = ms;
    for (int32_t k = 0; k < kCpuPhases; ++k) {
      const auto ticks = timer_.Total(static_cast<CpuPhase>(k));
      figures->phases[k] = {static_cast<double>(ticks.work) * tick_ms_,
                            static_cast<double>(ticks.wait) * tick_ms_};
    }
  }
  runner_->SetTimer(nullptr);
}

void StepBench::Measure(const std::string& table, const std::string& kind,
                        int32_t sequences, int32_t rows, int32_t context,
                        const AdapterCost& adapters, int repetitions,
                        uint64_t* digest) {
  const Batch batch =
      MakeBatch(sequences, rows, context, vocab_, adapters.rank > 0, greedy_);
  StepFigures figures{.table = table,
                      .kind = kind,
                      .rows = sequences * rows,
                      .sequences = sequences,
                      .context = context,
                      .bounds = bounds_};
  figures.cost = CostOf(model_->config, weight_bytes_, adapters, batch);
  std::vector<double> times;
  Launch(batch, digest);
  for (int i = 0; i < repetitions; ++i) {
    times.push_back(Launch(batch, nullptr));
  }
  std::sort(times.begin(), times.end());
  figures.best_ms = times.front();
  figures.median_ms = times[times.size() / 2];
  Profile(batch, std::max(3, repetitions / 3), &figures);
  std::printf("%s\n", StepLine(figures).c_str());
  std::fflush(stdout);
  report_.steps.push_back(std::move(figures));
}

void StepBench::PrintPhases(size_t first_step, const std::string& table,
                            uint64_t digest) {
  std::printf("%-12s digest %016llx\n%s\n", table.c_str(),
              static_cast<unsigned long long>(digest), PhaseHeadings().c_str());
  for (size_t i = first_step; i < report_.steps.size(); ++i) {
    std::printf("%s\n", PhaseLine(report_.steps[i]).c_str());
  }
  std::printf("\n");
  std::fflush(stdout);
}

void StepBench::Table(const std::string& name, const AdapterCost& adapters) {
  MeasureMachine();
  const size_t first_step = report_.steps.size();
  uint64_t digest = kDigestStart;
  for (const int32_t rows : {1, 2, 4, 8, 16, 32}) {
    Measure(name, "decode", rows, 1, kContext, adapters, options_.repetitions,
            &digest);
  }
  const int few = std::max(3, options_.repetitions / 3);
  for (const int32_t sequences : {1, 2, 4}) {
    Measure(name, "prefill", sequences, 128, 0, adapters, few, &digest);
  }
  // One prompt. Not in the digest, which older builds have without it.
  Measure(name, "prefill", 1, kMaxRows, 0, adapters, few, nullptr);
  PrintPhases(first_step, name, digest);
}

// At the end of long contexts attention counts: alone, and 8 at once.
void StepBench::LongContexts() {
  MeasureMachine();
  const size_t first_step = report_.steps.size();
  const int32_t most =
      std::min(runner_->limits().max_blocks_per_sequence * kBlockSize,
               model_->config.max_position);
  uint64_t digest = kDigestStart;
  for (int32_t context = 1000; context < most; context *= 2) {
    Measure("long", "decode", 1, 1, context, {}, options_.repetitions, &digest);
  }
  for (const int32_t context : {1000, 2000, 4000, 8000}) {
    const int64_t blocks = int64_t{8} * (context / kBlockSize + 1);
    if (context >= most || blocks > runner_->num_blocks()) continue;
    Measure("long", "decode", 8, 1, context, {},
            std::max(3, options_.repetitions / 3), nullptr);
  }
  PrintPhases(first_step, "long", digest);
}

absl::Status RunStepBench(Options options) {
  if (options.model.empty()) {
    const char* deps = std::getenv("DESCANT_DEPS_DIR");
    options.model = absl::StrCat(deps != nullptr ? deps : ".deps",
                                 "/models/SmolLM2-135M-Instruct.Q4_1.gguf");
  }
  DESCANT_ASSIGN_OR_RETURN(std::shared_ptr<const Model> model,
                           OpenModel(options.model));
  RunnerOptions runner_options;
  runner_options.limits.max_rows = kMaxRows;
  runner_options.limits.max_sequences = kSequences;
  runner_options.limits.max_outputs = kSequences;
  runner_options.limits.max_blocks_per_sequence = 256;
  runner_options.limits.max_slots = kSequences;
  runner_options.threads = options.threads;
  runner_options.weights = options.weights;
  runner_options.adapter_weights = options.adapter_weights;
  const auto start = Clock::now();
  DESCANT_ASSIGN_OR_RETURN(std::unique_ptr<CpuRunner> runner,
                           CpuRunner::Create(model, runner_options));
  std::printf("%s, ready in %.2f s\n", options.model.c_str(),
              1e-3 * MsSince(start));
  StepBench bench(options, std::move(model), std::move(runner));
  bench.Run();
  if (options.json.empty()) return absl::OkStatus();
  std::ofstream file(options.json);
  file << ReportJson(bench.report()) << "\n";
  return file.good() ? absl::OkStatus()
                     : absl::InternalError("can't write " + options.json);
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Times whole steps of the CPU runner against their bounds");
  app.add_option("model", options.model,
                 "GGUF file, Hugging Face directory, or shape:NAME[:LAYERS]");
  app.add_option("repetitions", options.repetitions)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--weights",
         [&options](const std::string& name) {
           options.weights = ParseWeightType(name).value_or(WeightType::kBf16);
         },
         "bf16, int8 or int4")
      ->check(CLI::IsMember({"bf16", "int8", "int4"}));
  app.add_option_function<std::string>(
         "--adapter-weights",
         [&options](const std::string& name) {
           options.adapter_weights =
               ParseAdapterWeightType(name).value_or(AdapterWeightType::kBf16);
         },
         "bf16 or int8")
      ->check(CLI::IsMember({"bf16", "int8"}));
  app.add_option("--threads", options.threads, "Workers; 0: one for each CPU");
  app.add_option("--only", options.only,
                 "Tables: base, narrow, wide, unused, long")
      ->delimiter(',')
      ->check(CLI::IsMember({"base", "narrow", "wide", "unused", "long"}));
  app.add_option("--json", options.json, "Write all figures to this file");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = RunStepBench(options);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace descant::bench

int main(int argc, char** argv) { return descant::bench::Main(argc, argv); }
