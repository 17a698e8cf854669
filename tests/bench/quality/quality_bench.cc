// What types of weights cost in quality, beside bf16 on the same machine. A
// type is the base weights', or TYPE/ADAPTERS with that of the adapters.
//
// - Text: files of this repository in windows of kWindow tokens, every token
//   given its true past. Perplexity; how often the likeliest next token is that
//   of bf16; the mean divergence of the distributions from those of bf16.
// - Adapters: each demo adapter's answers to its held-out prompts (none of
//   which it was trained on), greedy; right is equal to the letter, up to the
//   end token (deploy/demo/README.md).
//
//   DESCANT_SOURCE_DIR=. quality_bench [OPTIONS] [MODEL]       (--help)
//
// Prints a Markdown table. No times: see step_bench.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/cpu_runner.h"
#include "runtime/model/model.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant::bench {
namespace {

constexpr char kReference[] = "bf16";
constexpr int32_t kWindow = 256;
constexpr int32_t kTogether = 30;  // held-out prompts in one batch
constexpr int32_t kLongestAnswer = 48;
constexpr const char* kTexts[] = {
    "README.md",         "LICENSE",
    "CHANGELOG.md",      "server/CONFIGURATION.md",
    "runtime/README.md", "runtime/model/README.md",
    "server/METRICS.md", "deploy/demo/RECIPE.md"};
constexpr const char* kAdapters[] = {"sentiment", "json-extract", "text-to-sql",
                                     "pirate"};

struct Options {
  std::string model;
  std::vector<std::string> weights = {"bf16", "int8", "int4", "bf16/int8"};
  int32_t windows = 8;  // of each text
  int32_t prompts = 120;
  int32_t threads = 0;
  std::string json;
};

struct TextFigures {
  int64_t tokens = 0;
  double loss = 0;  // sum of -ln p(token)
  int64_t agreed = 0;
  double divergence = 0;

  double Perplexity() const { return std::exp(loss / tokens); }
  double Agreement() const { return 1.0 * agreed / tokens; }
};

struct Figures {
  std::string weights;
  std::string runner;
  TextFigures text;
  std::vector<int32_t> right;  // by adapter
  int32_t prompts = 0;
};

struct Item {
  std::vector<int32_t> prompt;
  std::string answer;
};

// One window from position 0 on, with logits for every row.
Batch WindowBatch(const std::vector<int32_t>& tokens,
                  const SamplingParams& greedy) {
  Batch batch;
  BatchSequence sequence;
  sequence.id = 1;
  sequence.row_end = static_cast<int32_t>(tokens.size());
  sequence.block_count = (sequence.row_end + kBlockSize - 1) / kBlockSize;
  sequence.output = OutputKind::kTokens;
  sequence.output_end = sequence.row_end;
  sequence.sampling = &greedy;
  for (int32_t i = 0; i < sequence.block_count; ++i) {
    batch.block_tables.push_back(i);
  }
  batch.tokens = tokens;
  for (int32_t i = 0; i < sequence.row_end; ++i) {
    batch.positions.push_back(i);
    batch.output_rows.push_back(i);
  }
  batch.sequences.push_back(sequence);
  return batch;
}

double LogSum(absl::Span<const float> logits) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  return most + std::log(sum);
}

void AddPosition(absl::Span<const float> reference,
                 absl::Span<const float> logits, int32_t next,
                 TextFigures* figures) {
  const auto best = [](absl::Span<const float> values) {
    return std::max_element(values.begin(), values.end()) - values.begin();
  };
  const double total = LogSum(logits);
  ++figures->tokens;
  figures->loss += total - logits[next];
  figures->agreed += best(reference) == best(logits);
  if (reference.data() == logits.data()) return;
  const double reference_total = LogSum(reference);
  double divergence = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float log_p = static_cast<float>(reference[i] - reference_total);
    const float log_q = static_cast<float>(logits[i] - total);
    divergence += std::exp(log_p) * (log_p - log_q);
  }
  figures->divergence += divergence;
}

absl::Status Step(Runner* runner, const Batch& batch) {
  DESCANT_RETURN_IF_ERROR(runner->Launch(batch));
  return runner->Collect().status();
}

// `reference` may be `runner`.
absl::StatusOr<TextFigures> MeasureText(
    CpuRunner* reference, CpuRunner* runner,
    const std::vector<std::vector<int32_t>>& windows) {
  SamplingParams greedy;
  greedy.temperature = 0;
  TextFigures figures;
  for (const std::vector<int32_t>& window : windows) {
    const Batch batch = WindowBatch(window, greedy);
    DESCANT_RETURN_IF_ERROR(Step(runner, batch));
    if (reference != runner) DESCANT_RETURN_IF_ERROR(Step(reference, batch));
    for (size_t i = 0; i + 1 < window.size(); ++i) {
      const int32_t output = static_cast<int32_t>(i);
      AddPosition(reference->Logits(output), runner->Logits(output),
                  window[i + 1], &figures);
    }
  }
  return figures;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> ReadWindows(
    const Tokenizer& tokenizer, int32_t most) {
  std::vector<std::vector<int32_t>> windows;
  for (const char* name : kTexts) {
    DESCANT_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                             tokenizer.Encode(ReadFileOrDie(SourcePath(name))));
    for (int32_t i = 0; i < most; ++i) {
      const size_t begin = static_cast<size_t>(i) * kWindow;
      if (begin + 2 > tokens.size()) break;
      const size_t end = std::min(begin + kWindow, tokens.size());
      windows.emplace_back(tokens.begin() + begin, tokens.begin() + end);
    }
  }
  return windows;
}

absl::StatusOr<std::vector<Item>> ReadItems(const Tokenizer& tokenizer,
                                            const std::string& adapter,
                                            int32_t most) {
  std::istringstream lines(ReadFileOrDie(SourcePath(
      absl::StrCat("deploy/demo/data/", adapter, ".held_out.jsonl"))));
  std::vector<Item> items;
  std::string line;
  while (static_cast<int32_t>(items.size()) < most &&
         std::getline(lines, line)) {
    const auto json = nlohmann::json::parse(line);
    DESCANT_ASSIGN_OR_RETURN(
        std::vector<int32_t> prompt,
        tokenizer.Encode(json.at("prompt").get<std::string>()));
    items.push_back({std::move(prompt), json.at("answer")});
  }
  return items;
}

// How many items the adapter in slot 0 answers rightly.
absl::StatusOr<int32_t> CountRight(CpuRunner* runner,
                                   const Tokenizer& tokenizer,
                                   const std::vector<int32_t>& ends,
                                   const std::vector<Item>& items) {
  int32_t right = 0;
  for (size_t first = 0; first < items.size(); first += kTogether) {
    const size_t last = std::min(first + kTogether, items.size());
    std::vector<DrivenSequence> sequences;
    for (size_t i = first; i < last; ++i) {
      DrivenSequence sequence;
      sequence.prompt = items[i].prompt;
      sequence.slot = 0;
      sequence.sampling.temperature = 0;
      sequence.sampling.max_tokens = kLongestAnswer;
      sequences.push_back(std::move(sequence));
    }
    DESCANT_ASSIGN_OR_RETURN(const std::vector<DrivenResult> results,
                             Drive(runner, sequences));
    for (size_t i = first; i < last; ++i) {
      std::vector<int32_t> tokens = results[i - first].tokens;
      tokens.erase(std::find_first_of(tokens.begin(), tokens.end(),
                                      ends.begin(), ends.end()),
                   tokens.end());
      right += tokenizer.Decode(tokens, false) == items[i].answer;
    }
  }
  return right;
}

class QualityBench {
 public:
  QualityBench(const Options& options, LoadedModel loaded)
      : options_(options), loaded_(std::move(loaded)) {}

  absl::Status Run() {
    DESCANT_ASSIGN_OR_RETURN(windows_,
                             ReadWindows(*loaded_.tokenizer, options_.windows));
    for (const char* adapter : kAdapters) {
      DESCANT_ASSIGN_OR_RETURN(
          std::vector<Item> items,
          ReadItems(*loaded_.tokenizer, adapter, options_.prompts));
      items_.push_back(std::move(items));
    }
    DESCANT_ASSIGN_OR_RETURN(reference_, MakeRunner(kReference));
    for (const std::string& name : options_.weights) {
      DESCANT_RETURN_IF_ERROR(Measure(name));
    }
    return absl::OkStatus();
  }

  std::string Markdown() const {
    std::string text = absl::StrCat(
        "| weights | perplexity | likeliest token as bf16's | divergence, nats "
        "|");
    for (const char* adapter : kAdapters)
      absl::StrAppend(&text, " ", adapter, " |");
    absl::StrAppend(&text, "\n| --- | --- | --- | --- |");
    for (size_t i = 0; i < std::size(kAdapters); ++i) text += " --- |";
    for (const Figures& row : rows_) {
      char figures[160];
      std::snprintf(figures, sizeof figures, "\n| %s | %.3f | %.2f %% | %.5f |",
                    row.weights.c_str(), row.text.Perplexity(),
                    100 * row.text.Agreement(),
                    row.text.divergence / row.text.tokens);
      text += figures;
      for (const int32_t right : row.right) {
        absl::StrAppend(&text, " ", right, " of ", row.prompts, " |");
      }
    }
    return text + "\n";
  }

  std::string Json() const {
    nlohmann::json rows = nlohmann::json::array();
    for (const Figures& row : rows_) {
      nlohmann::json adapters;
      for (size_t i = 0; i < row.right.size(); ++i) {
        adapters[kAdapters[i]] = {{"right", row.right[i]},
                                  {"prompts", row.prompts}};
      }
      rows.push_back({{"weights", row.weights},
                      {"runner", row.runner},
                      {"tokens", row.text.tokens},
                      {"perplexity", row.text.Perplexity()},
                      {"agreement", row.text.Agreement()},
                      {"divergence", row.text.divergence / row.text.tokens},
                      {"adapters", adapters}});
    }
    return nlohmann::json({{"model", options_.model}, {"rows", rows}}).dump(2);
  }

 private:
  // `name`: TYPE or TYPE/ADAPTERS.
  absl::StatusOr<std::unique_ptr<CpuRunner>> MakeRunner(
      const std::string& name) const {
    const std::vector<std::string> types = absl::StrSplit(name, '/');
    RunnerOptions options;
    options.limits = DriverLimits(kTogether, 2 * kWindow, 1);
    options.limits.max_outputs = std::max(options.limits.max_outputs, kWindow);
    options.threads = options_.threads;
    options.weights = *ParseWeightType(types.front());
    if (types.size() > 1) {
      options.adapter_weights = *ParseAdapterWeightType(types.back());
    }
    return CpuRunner::Create(loaded_.model, options);
  }

  absl::Status Measure(const std::string& name) {
    std::unique_ptr<CpuRunner> made;
    if (name != kReference) {
      DESCANT_ASSIGN_OR_RETURN(made, MakeRunner(name));
    }
    CpuRunner* runner = made != nullptr ? made.get() : reference_.get();
    Figures row;
    row.weights = name;
    row.runner = runner->Describe();
    DESCANT_ASSIGN_OR_RETURN(row.text,
                             MeasureText(reference_.get(), runner, windows_));
    for (size_t i = 0; i < items_.size(); ++i) {
      GoldenAdapter demo;
      demo.name = kAdapters[i];
      demo.kind = "demo";
      DESCANT_ASSIGN_OR_RETURN(
          const std::shared_ptr<const Adapter> adapter,
          MakeGoldenAdapter(demo, loaded_.model->base_shape));
      DESCANT_RETURN_IF_ERROR(runner->LoadAdapter(0, adapter));
      DESCANT_ASSIGN_OR_RETURN(
          const int32_t right,
          CountRight(runner, *loaded_.tokenizer, loaded_.model->eos_token_ids,
                     items_[i]));
      row.right.push_back(right);
      row.prompts = static_cast<int32_t>(items_[i].size());
    }
    rows_.push_back(std::move(row));
    return absl::OkStatus();
  }

  const Options& options_;
  const LoadedModel loaded_;
  std::vector<std::vector<int32_t>> windows_;
  std::vector<std::vector<Item>> items_;
  std::unique_ptr<CpuRunner> reference_;
  std::vector<Figures> rows_;
};

absl::Status RunQualityBench(const Options& options) {
  DESCANT_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(options.model));
  QualityBench bench(options, std::move(loaded));
  DESCANT_RETURN_IF_ERROR(bench.Run());
  std::printf("%s", bench.Markdown().c_str());
  if (options.json.empty()) return absl::OkStatus();
  std::ofstream file(options.json);
  file << bench.Json() << "\n";
  return file.good() ? absl::OkStatus()
                     : absl::InternalError("can't write " + options.json);
}

int Main(int argc, char** argv) {
  Options options;
  options.model = DepsPath("models/SmolLM2-135M-Instruct.Q4_1.gguf");
  CLI::App app("Measures what types of weights cost in quality");
  app.add_option("model", options.model,
                 "GGUF file or Hugging Face directory; the adapters are for "
                 "SmolLM2-135M-Instruct");
  app.add_option("--weights", options.weights, "Types, in this order")
      ->delimiter(',')
      ->check(CLI::IsMember(
          {"bf16", "int8", "int4", "bf16/int8", "int8/int8", "int4/int8"}));
  app.add_option("--windows", options.windows, "Of 256 tokens, of each text")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--prompts", options.prompts, "Held-out, for each adapter")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Workers; 0: one for each CPU");
  app.add_option("--json", options.json, "Write the figures to this file");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = RunQualityBench(options);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace descant::bench

int main(int argc, char** argv) { return descant::bench::Main(argc, argv); }
