// The table of bad inputs, rows 20 to 54, as far as it is decided below the
// server: every concrete input with its answer. bad_adapters_test.cc runs it.
#ifndef DESCANT_TESTS_ADAPTERS_BAD_ADAPTERS_H_
#define DESCANT_TESTS_ADAPTERS_BAD_ADAPTERS_H_

#include <functional>
#include <string>
#include <vector>

#include "adapters/formats/safetensors_writer.h"
#include "tests/adapters/adapter_fixture.h"

namespace descant {

struct BadAdapterCase {
  int row = 0;
  std::string name;
  std::function<std::string()> outcome;  // "INVALID_ARGUMENT ADAPTER_RANK"
  std::string expected;
};

// Row 20 to 25.
std::vector<BadAdapterCase> BadNames();
// Row 26 to 42: the container. Row 41 and 42 also of GGUF uploads.
std::vector<BadAdapterCase> BadContainers();
std::vector<BadAdapterCase> BadGgufFiles();
// Row 43 to 50 and 53: the tensors against config and base.
std::vector<BadAdapterCase> BadTensors();
// Row 43, 48, 51, 52, 54: adapter_config.json.
std::vector<BadAdapterCase> BadConfigFiles();

inline constexpr char kQueryPath[] = "model.layers.0.self_attn.q_proj";

// A PEFT pair for the tiny base: rank 2 on the first layer's q.
struct PeftDraft {
  std::string config =
      R"({"r":2,"lora_alpha":4,"target_modules":["layers.0.self_attn.q_proj"]})";
  std::vector<SafetensorsEntry> tensors = {
      Tensor(std::string(kQueryPath) + ".lora_A.weight", 2, 8),
      Tensor(std::string(kQueryPath) + ".lora_B.weight", 8, 2)};

  static SafetensorsEntry Tensor(const std::string& name, uint64_t rows,
                                 uint64_t columns) {
    return {"base_model.model." + name,
            Dtype::kF32,
            {rows, columns},
            std::string(rows * columns * 4, '\0')};
  }
};

// What the validator says of a pair for the tiny base: the same however the
// file is cut (files over 64 KiB are not cut into few bytes).
std::string PairOutcome(const std::string& config, const std::string& file);
std::string PairOutcome(const PeftDraft& draft);

}  // namespace descant

#endif  // DESCANT_TESTS_ADAPTERS_BAD_ADAPTERS_H_
