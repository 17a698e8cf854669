// Times whole steps of the CPU runner on the demo model: decodes of 1 to 32
// rows and prefill chunks, without adapters, with 32 of rank 8 on q and v, and
// with 32 of rank 16 on all seven modules. Sampling is greedy and included.
//
//   step_bench [path of a GGUF file or Hugging Face directory] [repetitions]
//
// Prints the best and the median of the repetitions: other work on the machine
// only ever adds time. The digest of a table is of its steps' tokens and
// log-probabilities: two builds that should compute the same bits print the
// same one.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "runtime/base/check.h"
#include "runtime/base/float16.h"
#include "runtime/model/model.h"

namespace descant {
namespace {

constexpr int32_t kContext = 161;  // tokens in the cache before a decode
constexpr int32_t kSequences = 32;
constexpr int32_t kMaxRows = 512;

// Random adapters whose matrices live in one buffer.
std::shared_ptr<const Adapter> MakeAdapter(const BaseShape& base, int32_t rank,
                                           bool all_modules, uint32_t seed) {
  auto adapter = std::make_shared<Adapter>();
  int64_t elements = 0;
  std::vector<const BaseModule*> modules;
  for (const BaseModule& module : base.modules) {
    if (!all_modules && module.kind != LinearKind::kQ &&
        module.kind != LinearKind::kV) {
      continue;
    }
    modules.push_back(&module);
    elements += int64_t{rank} * (module.in + module.out);
  }
  auto values = std::make_shared<std::vector<BFloat16>>(elements);
  std::mt19937 random(seed);
  for (BFloat16& value : *values) {
    value = ToBFloat16((static_cast<float>(random() % 2001) - 1000) * 1e-5f);
  }
  const BFloat16* at = values->data();
  for (const BaseModule* module : modules) {
    AdapterModule lora;
    lora.layer = module->layer;
    lora.kind = module->kind;
    lora.rank = rank;
    lora.scale = 2;
    lora.a = {Dtype::kBF16, rank, module->in, at};
    at += int64_t{rank} * module->in;
    lora.b = {Dtype::kBF16, module->out, rank, at};
    at += int64_t{rank} * module->out;
    adapter->modules.push_back(lora);
  }
  adapter->max_rank = rank;
  adapter->buffer = std::shared_ptr<const char>(
      values, reinterpret_cast<const char*>(values->data()));
  return adapter;
}

// A batch of `sequences` sequences with `rows` rows each from position
// `computed` on; sequence i uses slot i when `adapters`.
Batch MakeBatch(int32_t sequences, int32_t rows, int32_t computed,
                bool adapters, bool output, const SamplingParams& sampling) {
  Batch batch;
  std::mt19937 random(3);
  const int32_t blocks = (computed + rows + kBlockSize - 1) / kBlockSize;
  for (int32_t i = 0; i < sequences; ++i) {
    BatchSequence sequence;
    sequence.id = i + 1;
    sequence.state_slot = i;
    sequence.slot = adapters ? i : kNoSlot;
    sequence.row_begin = batch.rows();
    sequence.row_end = batch.rows() + rows;
    sequence.computed_length = computed;
    sequence.block_begin = static_cast<int32_t>(batch.block_tables.size());
    sequence.block_count = blocks;
    sequence.sampling = &sampling;
    for (int32_t b = 0; b < blocks; ++b) {
      batch.block_tables.push_back(i * blocks + b);
    }
    for (int32_t r = 0; r < rows; ++r) {
      batch.tokens.push_back(static_cast<int32_t>(random() % 40000));
      batch.positions.push_back(computed + r);
    }
    if (output) {
      sequence.output = OutputKind::kTokens;
      sequence.output_begin = batch.outputs();
      batch.output_rows.push_back(batch.rows() - 1);
      sequence.output_end = batch.outputs();
    }
    if (adapters) {
      batch.segments.push_back({sequence.row_begin, sequence.row_end, i, 1.0f});
    }
    batch.sequences.push_back(sequence);
  }
  return batch;
}

struct Time {
  double best;
  double median;
};

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

Time Measure(Runner* runner, const Batch& batch, int repetitions,
             uint64_t* digest) {
  std::vector<double> times;
  for (int i = 0; i < repetitions + 1; ++i) {
    const auto start = std::chrono::steady_clock::now();
    DESCANT_CHECK(runner->Launch(batch).ok());
    const auto output = runner->Collect();
    DESCANT_CHECK(output.ok());
    const std::chrono::duration<double, std::milli> time =
        std::chrono::steady_clock::now() - start;
    if (i > 0) times.push_back(time.count());
    if (i == 0) AddToDigest(**output, digest);
  }
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2]};
}

void Table(Runner* runner, const char* what, bool adapters, int repetitions) {
  SamplingParams greedy;
  greedy.temperature = 0;
  uint64_t digest = 0xcbf29ce484222325u;
  for (const int32_t rows : {1, 2, 4, 8, 16, 32}) {
    const Batch batch =
        MakeBatch(rows, 1, kContext, adapters, /*output=*/true, greedy);
    const Time time = Measure(runner, batch, repetitions, &digest);
    std::printf("%-12s decode  %3d rows %8.2f ms (median %8.2f) %7.0f rows/s\n",
                what, rows, time.best, time.median, rows * 1e3 / time.best);
  }
  for (const int32_t sequences : {1, 2, 4}) {
    const Batch batch =
        MakeBatch(sequences, 128, 0, adapters, /*output=*/true, greedy);
    const Time time =
        Measure(runner, batch, std::max(3, repetitions / 3), &digest);
    const int32_t rows = 128 * sequences;
    std::printf("%-12s prefill %3d rows %8.2f ms (median %8.2f) %7.0f rows/s\n",
                what, rows, time.best, time.median, rows * 1e3 / time.best);
  }
  std::printf("%-12s digest %016llx\n", what,
              static_cast<unsigned long long>(digest));
  std::fflush(stdout);
}

void LoadAdapters(Runner* runner, const BaseShape& base, int32_t rank,
                  bool all) {
  for (int32_t slot = 0; slot < kSequences; ++slot) {
    DESCANT_CHECK(
        runner->LoadAdapter(slot, MakeAdapter(base, rank, all, slot)).ok());
  }
}

int Main(int argc, char** argv) {
  const char* deps = std::getenv("DESCANT_DEPS_DIR");
  const std::string path = argc > 1
                               ? argv[1]
                               : std::string(deps != nullptr ? deps : ".deps") +
                                     "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  const int repetitions = argc > 2 ? std::atoi(argv[2]) : 30;
  const auto loaded = LoadModel(path);
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s\n", loaded.status().ToString().c_str());
    return 1;
  }
  RunnerOptions options;
  options.limits.max_rows = kMaxRows;
  options.limits.max_sequences = kSequences;
  options.limits.max_outputs = kSequences;
  options.limits.max_blocks_per_sequence = 64;
  options.limits.max_slots = kSequences;
  const auto start = std::chrono::steady_clock::now();
  auto runner = MakeCpuRunner(loaded->model, options);
  if (!runner.ok()) {
    std::fprintf(stderr, "%s\n", runner.status().ToString().c_str());
    return 1;
  }
  const std::chrono::duration<double> load =
      std::chrono::steady_clock::now() - start;
  std::printf("%s; packed in %.2f s\n", (*runner)->Describe().c_str(),
              load.count());
  const BaseShape& base = loaded->model->base_shape;
  Table(runner->get(), "base", false, repetitions);
  LoadAdapters(runner->get(), base, 8, false);
  Table(runner->get(), "q,v rank 8", true, repetitions);
  LoadAdapters(runner->get(), base, 16, true);
  Table(runner->get(), "all rank 16", true, repetitions);
  return 0;
}

}  // namespace
}  // namespace descant

int main(int argc, char** argv) { return descant::Main(argc, argv); }
