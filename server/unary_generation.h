// Generate: the answer in one message.
#ifndef DESCANT_SERVER_UNARY_GENERATION_H_
#define DESCANT_SERVER_UNARY_GENERATION_H_

#include <vector>

#include "server/generation_call.h"

namespace descant {

class UnaryGeneration final : public grpc::ServerUnaryReactor,
                              public GenerationCall {
 public:
  UnaryGeneration(EdgeContext* edge, grpc::CallbackServerContext* context,
                  const v1::GenerateRequest* request,
                  v1::GenerateResponse* response)
      : GenerationCall(edge, context, request, "Generate"),
        response_(response) {}

  void OnCancel() override { CancelGeneration(); }
  void OnDone() override { ReleaseSelf(); }
  void Flush() override;

 private:
  void Reject(const grpc::Status& status) override { Finish(status); }
  void Append(int32_t choice, absl::Span<const TokenEvent> tokens,
              const std::string& text) override;
  void AppendPrompt(std::optional<int32_t> first,
                    absl::Span<const TokenEvent> tokens) override;
  void FinishChoice(int32_t choice, const ChoiceResult& result) override;
  void Complete(const RequestResult& result) override;

  v1::Choice* ChoiceAt(int32_t choice);
  // Leaves the plan's n best of best_of choices, best first.
  void KeepBest();

  // The engine thread's until Complete, then the egress thread's.
  v1::GenerateResponse* const response_;
  std::vector<double> logprobs_;  // summed, by choice
  std::vector<int64_t> tokens_;   // by choice
  RequestResult result_;
};

}  // namespace descant

#endif  // DESCANT_SERVER_UNARY_GENERATION_H_
