#include "server/unary_generation.h"

#include <algorithm>
#include <numeric>

#include "server/generation_output.h"

namespace descant {

v1::Choice* UnaryGeneration::ChoiceAt(int32_t choice) {
  while (response_->choices_size() <= choice) {
    const uint32_t index = static_cast<uint32_t>(response_->choices_size());
    response_->add_choices()->set_index(index);
    logprobs_.push_back(0);
    tokens_.push_back(0);
  }
  return response_->mutable_choices(choice);
}

void UnaryGeneration::Append(int32_t choice,
                             absl::Span<const TokenEvent> tokens,
                             const std::string& text) {
  AppendTokens(tokens, text, plan().output, ChoiceAt(choice));
  for (const TokenEvent& token : tokens) logprobs_[choice] += token.logprob;
  tokens_[choice] += static_cast<int64_t>(tokens.size());
}

void UnaryGeneration::AppendPrompt(std::optional<int32_t> first,
                                   absl::Span<const TokenEvent> tokens) {
  AppendPromptTokens(first, tokens, response_->mutable_prompt_logprobs());
}

void UnaryGeneration::FinishChoice(int32_t choice, const ChoiceResult& result) {
  SetFinish(result, ChoiceAt(choice));
}

void UnaryGeneration::Complete(const RequestResult& result) {
  result_ = result;
  edge()->egress->Wake(shared_from_this());
}

void UnaryGeneration::KeepBest() {
  std::vector<int32_t> order(response_->choices_size());
  std::iota(order.begin(), order.end(), 0);
  const auto mean = [this](int32_t choice) {
    return logprobs_[choice] /
           static_cast<double>(std::max<int64_t>(1, tokens_[choice]));
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return mean(a) > mean(b); });
  google::protobuf::RepeatedPtrField<v1::Choice> best;
  for (int32_t i = 0; i < plan().n; ++i) {
    response_->mutable_choices(order[i])->Swap(best.Add());
    best[i].set_index(static_cast<uint32_t>(i));
  }
  response_->mutable_choices()->Swap(&best);
}

void UnaryGeneration::Flush() {
  const absl::Status status = ResultStatus(result_);
  if (!status.ok()) return Finish(ToGrpcStatus(status, facts()));
  if (plan().sampling.n > plan().n) KeepBest();
  SetIdentity(response_);
  SetUsage(result_, response_->mutable_usage());
  SetTimings(result_.timings, response_->mutable_timings());
  Finish(grpc::Status::OK);
}

}  // namespace descant
