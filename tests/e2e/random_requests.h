// Random generations that use every option, for tests that compare answers.
#ifndef DESCANT_TESTS_E2E_RANDOM_REQUESTS_H_
#define DESCANT_TESTS_E2E_RANDOM_REQUESTS_H_

#include <cstdint>
#include <random>
#include <string>

#include "descant/v1/generation.pb.h"

namespace descant::e2e {

struct RandomRequestOptions {
  int32_t vocab_size = 0;
  // Prompts have up to 2 ^ prompt_bits tokens, short ones as often as long
  // ones.
  int prompt_bits = 10;
  int max_tokens = 40;
};

// The same ones for the same seed. Thread-compatible.
class RandomRequests {
 public:
  RandomRequests(uint64_t seed, const RandomRequestOptions& options)
      : generator_(seed), options_(options) {}

  v1::GenerateRequest Next(const std::string& adapter);
  // In [0, bound).
  int Below(int bound) {
    return static_cast<int>(generator_() % static_cast<uint64_t>(bound));
  }

 private:
  void SetSampling(v1::SamplingOptions* sampling);
  void SetMore(v1::GenerateRequest* request);

  std::mt19937_64 generator_;
  const RandomRequestOptions options_;
};

}  // namespace descant::e2e

#endif  // DESCANT_TESTS_E2E_RANDOM_REQUESTS_H_
