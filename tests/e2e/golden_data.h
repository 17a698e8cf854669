// The oracle's data of tests/golden/data (see there).
#ifndef DESCANT_TESTS_E2E_GOLDEN_DATA_H_
#define DESCANT_TESTS_E2E_GOLDEN_DATA_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/formats/random_adapter.h"

namespace descant::e2e {

struct GoldenAdapter {
  std::string name;
  AdapterFiles files;
};

struct GoldenCase {
  std::string adapter;  // "" is the base model
  std::vector<int64_t> prompt;
  std::vector<int32_t> tokens;  // greedy, end of sequence ignored
  // Per token: the oracle's likeliest [id, log-probability], best first.
  std::vector<std::vector<std::pair<int32_t, double>>> top;
  // Per token: log-probability of the likeliest less that of the second.
  std::vector<double> gaps;
};

struct Golden {
  std::vector<GoldenAdapter> adapters;  // without the base
  std::vector<GoldenCase> cases;
};

// Everything in demo_base.json, demo_trained.json and demo_random.json. Trained
// adapters come from deploy/demo/adapters, random ones from their seed.
absl::StatusOr<Golden> LoadDemoGolden();

// One file, "tiny_gpt2", and the folder of its model under
// tests/golden/models.
struct FamilyGolden {
  std::string model;
  Golden golden;
};
absl::StatusOr<FamilyGolden> LoadFamilyGolden(const std::string& name);

// Log-probability error of Transformers + PEFT in bf16 on the same data.
struct Yardstick {
  double p50 = 0;
  double p99 = 0;
  double max = 0;
  // By adapter: the median error of an answer that leaves the adapter out.
  std::map<std::string, double> left_out_p50;
};
absl::StatusOr<Yardstick> LoadYardstick();
absl::StatusOr<Yardstick> LoadFamilyYardstick(const std::string& name);

}  // namespace descant::e2e

#endif  // DESCANT_TESTS_E2E_GOLDEN_DATA_H_
