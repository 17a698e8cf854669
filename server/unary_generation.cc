#include "server/unary_generation.h"

#include "server/generation_output.h"

namespace descant {

void UnaryGeneration::Append(absl::Span<const TokenEvent> tokens,
                             const std::string& text) {
  if (response_->choices().empty()) response_->add_choices();
  AppendTokens(tokens, text, plan().output, response_->mutable_choices(0));
}

void UnaryGeneration::Complete(const RequestResult& result) {
  result_ = result;
  edge()->egress->Wake(shared_from_this());
}

void UnaryGeneration::Flush() {
  const absl::Status status = ResultStatus(result_);
  if (!status.ok()) return Finish(ToGrpcStatus(status, facts()));
  if (response_->choices().empty()) response_->add_choices();
  SetFinish(result_, response_->mutable_choices(0));
  SetIdentity(response_);
  SetUsage(result_, response_->mutable_usage());
  SetTimings(result_.timings, response_->mutable_timings());
  Finish(grpc::Status::OK);
}

}  // namespace descant
