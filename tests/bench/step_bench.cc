// Times whole steps of the CPU runner on the demo model: decodes of 1 to 32
// rows and prefill chunks, without adapters, with 32 of rank 8 on q and v, and
// with 32 of rank 16 on all linear modules. Sampling is greedy and included.
//
//   step_bench [path of a GGUF file or Hugging Face directory] [repetitions]
//   step_bench shape:NAME[:LAYERS] [repetitions]
//
// The second form takes a published model's sizes and random weights
// (tests/runtime/model/synthetic_model.h), cut to LAYERS layers.
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

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/model.h"
#include "tests/runtime/model/synthetic_model.h"

namespace descant {
namespace {

constexpr int32_t kContext = 161;  // tokens in the cache before a decode
constexpr int32_t kSequences = 32;
constexpr int32_t kMaxRows = 512;

// A batch of `sequences` sequences with `rows` rows each from position
// `computed` on; sequence i uses slot i when `adapters`.
Batch MakeBatch(int32_t sequences, int32_t rows, int32_t computed,
                int32_t vocab, bool adapters, const SamplingParams& sampling) {
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
      batch.tokens.push_back(static_cast<int32_t>(random() % vocab));
      batch.positions.push_back(computed + r);
    }
    sequence.output = OutputKind::kTokens;
    sequence.output_begin = batch.outputs();
    batch.output_rows.push_back(batch.rows() - 1);
    sequence.output_end = batch.outputs();
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

void Table(Runner* runner, int32_t vocab, const char* what, bool adapters,
           int repetitions) {
  SamplingParams greedy;
  greedy.temperature = 0;
  uint64_t digest = 0xcbf29ce484222325u;
  for (const int32_t rows : {1, 2, 4, 8, 16, 32}) {
    const Batch batch = MakeBatch(rows, 1, kContext, vocab, adapters, greedy);
    const Time time = Measure(runner, batch, repetitions, &digest);
    std::printf("%-12s decode  %3d rows %8.2f ms (median %8.2f) %7.0f rows/s\n",
                what, rows, time.best, time.median, rows * 1e3 / time.best);
  }
  for (const int32_t sequences : {1, 2, 4}) {
    const Batch batch = MakeBatch(sequences, 128, 0, vocab, adapters, greedy);
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

// One sequence at the end of long contexts: attention counts.
void LongContexts(Runner* runner, int32_t vocab, int32_t most,
                  int repetitions) {
  SamplingParams greedy;
  greedy.temperature = 0;
  uint64_t digest = 0xcbf29ce484222325u;
  for (int32_t context = 1000; context < most; context *= 2) {
    const Batch batch = MakeBatch(1, 1, context, vocab, false, greedy);
    const Time time = Measure(runner, batch, repetitions, &digest);
    std::printf("one decode after %5d tokens %8.2f ms (median %8.2f)\n",
                context, time.best, time.median);
  }
  std::printf("long contexts digest %016llx\n",
              static_cast<unsigned long long>(digest));
  std::fflush(stdout);
}

void LoadAdapters(Runner* runner, const BaseShape& base, int32_t rank,
                  bool all) {
  for (int32_t slot = 0; slot < kSequences; ++slot) {
    DESCANT_CHECK(
        runner->LoadAdapter(slot, MakeSyntheticAdapter(base, rank, all, slot))
            .ok());
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

int Main(int argc, char** argv) {
  const char* deps = std::getenv("DESCANT_DEPS_DIR");
  const std::string path = argc > 1
                               ? argv[1]
                               : std::string(deps != nullptr ? deps : ".deps") +
                                     "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  const int repetitions = argc > 2 ? std::atoi(argv[2]) : 30;
  const auto model = OpenModel(path);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
    return 1;
  }
  RunnerOptions options;
  options.limits.max_rows = kMaxRows;
  options.limits.max_sequences = kSequences;
  options.limits.max_outputs = kSequences;
  options.limits.max_blocks_per_sequence = 256;
  options.limits.max_slots = kSequences;
  const auto start = std::chrono::steady_clock::now();
  auto runner = MakeCpuRunner(*model, options);
  if (!runner.ok()) {
    std::fprintf(stderr, "%s\n", runner.status().ToString().c_str());
    return 1;
  }
  const std::chrono::duration<double> load =
      std::chrono::steady_clock::now() - start;
  std::printf("%s; packed in %.2f s\n", (*runner)->Describe().c_str(),
              load.count());
  const int32_t vocab = std::min((*model)->config.vocab_size, 40000);
  const BaseShape& base = (*model)->base_shape;
  Table(runner->get(), vocab, "base", false, repetitions);
  LoadAdapters(runner->get(), base, 8, false);
  Table(runner->get(), vocab, "q,v rank 8", true, repetitions);
  LoadAdapters(runner->get(), base, 16, true);
  Table(runner->get(), vocab, "all rank 16", true, repetitions);
  // Last: what it leaves in the KV cache, later steps would read.
  const int32_t positions = options.limits.max_blocks_per_sequence * kBlockSize;
  LongContexts(runner->get(), vocab,
               std::min(positions, (*model)->config.max_position), repetitions);
  return 0;
}

}  // namespace
}  // namespace descant

int main(int argc, char** argv) { return descant::Main(argc, argv); }
