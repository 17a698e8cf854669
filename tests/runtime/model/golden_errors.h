// How far a runner's log-probabilities are from the stored ones of Transformers
// + PEFT in fp32, and how far those of Transformers + PEFT in bf16 are.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_GOLDEN_ERRORS_H_
#define DESCANT_TESTS_RUNTIME_MODEL_GOLDEN_ERRORS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/runtime/model/batch_driver.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {

// What Transformers + PEFT make in bf16 on the same data.
struct Yardstick {
  float p50, p99, max;
};

inline Yardstick ReadYardstick(const std::string& name) {
  const auto read = [](const char* file) {
    return nlohmann::json::parse(
        ReadFileOrDie(SourcePath(std::string("tests/golden/data/") + file)));
  };
  const auto families = read("yardstick_families.json").at("by_file");
  const auto all = families.contains(name)
                       ? families.at(name).at("all")
                       : read("yardstick_tiny.json").at("all");
  return {all.at("p50"), all.at("p99"), all.at("max")};
}

// Of log-probabilities, and where another token is the likeliest.
struct GoldenErrors {
  std::vector<float> values;
  int flips = 0;
  float flip_gap = 0;  // the oracle's widest gap at a flip

  void Add(const GoldenCase& golden, const DrivenResult& result) {
    for (size_t t = 0; t < golden.tokens.size(); ++t) {
      for (const TokenLogprob& expected : golden.top[t]) {
        for (const TokenLogprob& actual : result.top[t]) {
          if (actual.token != expected.token) continue;
          values.push_back(std::abs(actual.logprob - expected.logprob));
        }
      }
      if (result.tokens[t] == golden.tokens[t]) continue;
      ++flips;
      flip_gap = std::max(flip_gap, golden.gaps[t]);
    }
  }
};

struct ErrorQuantiles {
  float p50, p99, max;
};
inline ErrorQuantiles QuantilesOf(const GoldenFile& golden,
                                  const std::vector<DrivenResult>& results) {
  GoldenErrors errors;
  for (size_t i = 0; i < results.size(); ++i) {
    errors.Add(golden.cases[i], results[i]);
  }
  std::vector<float>& values = errors.values;
  EXPECT_FALSE(values.empty());
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values[values.size() * 99 / 100],
          values.back()};
}

// `what`: for the line that is printed. `slack`: of the median, where only some
// of the cases that the yardstick is of were computed; `most_slack`: of the one
// largest error, for another rounding of the same weights.
inline void ExpectWithinYardstick(const std::string& name, const char* what,
                                  GoldenErrors* errors, float slack = 1,
                                  float most_slack = 1) {
  std::sort(errors->values.begin(), errors->values.end());
  const float p50 = errors->values[errors->values.size() / 2];
  const float p99 = errors->values[errors->values.size() * 99 / 100];
  const float max = errors->values.back();
  const Yardstick yardstick = ReadYardstick(name);
  std::printf(
      "%-26s %-10s p50 %.4f p99 %.4f max %.4f, %d flips up to a gap of %.4f "
      "(bf16 yardstick p50 %.4f p99 %.4f max %.4f)\n",
      name.c_str(), what, p50, p99, max, errors->flips, errors->flip_gap,
      yardstick.p50, yardstick.p99, yardstick.max);
  EXPECT_LE(p50, slack * yardstick.p50);
  EXPECT_LE(p99, yardstick.p99);
  EXPECT_LE(max, most_slack * yardstick.max);
  // Both log-probabilities of a near tie may move.
  EXPECT_LE(errors->flip_gap, 2 * max);
  EXPECT_LE(errors->flip_gap, yardstick.max);
}

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_GOLDEN_ERRORS_H_
