#include "tests/e2e/random_requests.h"

#include <vector>

#include "tests/e2e/client.h"

namespace descant::e2e {

v1::GenerateRequest RandomRequests::Next(const std::string& adapter) {
  const int length = 1 << Below(options_.prompt_bits);
  std::vector<int64_t> prompt(length + Below(length));
  for (int64_t& token : prompt) token = Below(options_.vocab_size);
  v1::GenerateRequest request =
      GreedyRequest(prompt, adapter, 1 + Below(options_.max_tokens));
  request.mutable_stopping()->set_ignore_eos(Below(2) == 0);
  if (Below(3) > 0) SetSampling(request.mutable_sampling());
  if (Below(4) == 0) {
    request.mutable_stopping()->add_stop_strings("e");
    request.mutable_stopping()->add_stop_strings(" the");
  }
  if (Below(8) == 0) {
    for (int i = 0; i < 16; ++i) {
      request.mutable_stopping()->add_stop_token_ids(
          Below(options_.vocab_size));
    }
  }
  if (Below(2) == 0) request.mutable_output()->set_top_logprobs(Below(21));
  request.set_priority(Below(201) - 100);
  if (Below(4) == 0) SetMore(&request);
  return request;
}

void RandomRequests::SetSampling(v1::SamplingOptions* sampling) {
  sampling->set_temperature(0.25f * static_cast<float>(1 + Below(8)));
  sampling->set_seed(generator_());
  if (Below(2) == 0) sampling->set_top_k(1 + Below(100));
  if (Below(2) == 0) {
    sampling->set_top_p(0.05f * static_cast<float>(1 + Below(20)));
  }
  if (Below(3) == 0) {
    sampling->set_min_p(0.01f * static_cast<float>(Below(30)));
  }
}

void RandomRequests::SetMore(v1::GenerateRequest* request) {
  request->set_n(1 + Below(4));
  v1::SamplingOptions* sampling = request->mutable_sampling();
  if (Below(2) == 0) sampling->set_repetition_penalty(1.2f);
  if (Below(2) == 0) sampling->set_frequency_penalty(0.5f);
  if (Below(2) == 0) sampling->set_typical_p(0.9f);
  v1::LogitBias* bias = sampling->add_logit_bias();
  bias->set_token_id(Below(options_.vocab_size));
  bias->set_bias(static_cast<float>(Below(20)) - 10);
  v1::StoppingOptions* stopping = request->mutable_stopping();
  stopping->set_min_tokens(Below(stopping->max_tokens()));
  if (Below(2) == 0) request->mutable_output()->set_prompt_logprobs(2);
  request->mutable_output()->set_echo(Below(2) == 0);
}

}  // namespace descant::e2e
