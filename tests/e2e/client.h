// Asking the server under test, and comparing what it says.
#ifndef DESCANT_TESTS_E2E_CLIENT_H_
#define DESCANT_TESTS_E2E_CLIENT_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <string>
#include <vector>

#include "adapters/formats/random_adapter.h"
#include "descant/v1/generation.pb.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {

// A finished generation, whether it was streamed or not.
struct Answer {
  grpc::Status status;
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<v1::TokenLogprobs> logprobs;  // one a token, where asked for
  // What the request asked for beside its first answer.
  std::vector<v1::Choice> others;
  std::vector<v1::TokenLogprobs> prompt_logprobs;
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  std::string adapter_digest;
  uint32_t completion_tokens = 0;
};

// A request for `max_tokens` greedy tokens after `prompt`, end of sequence
// ignored, token ids in the answer. An empty `adapter` is the base model.
v1::GenerateRequest GreedyRequest(const std::vector<int64_t>& prompt,
                                  const std::string& adapter, int max_tokens);

// The unary call.
Answer Ask(ServerProcess& server, const v1::GenerateRequest& request);
// The streaming call, put together again.
Answer AskStreamed(ServerProcess& server, const v1::GenerateRequest& request);
// The same with a connection of one's own: a tenant's, with its key.
Answer Ask(v1::GenerationService::Stub& stub,
           const v1::GenerateRequest& request);
Answer AskStreamed(v1::GenerationService::Stub& stub,
                   const v1::GenerateRequest& request);

enum class Streaming { kNo, kYes, kEverySecond };

// Each by itself, its prompt computed whole: what others are compared with.
std::vector<Answer> AskAlone(ServerProcess& server,
                             std::vector<v1::GenerateRequest> requests);

// All requests, `in_flight` at a time, in order; answers in the same order.
std::vector<Answer> AskTogether(
    ServerProcess& server, const std::vector<v1::GenerateRequest>& requests,
    int in_flight, Streaming streaming);

// Everything that may not depend on a request's neighbours, to the last bit of
// the log-probabilities, as text: equal strings are equal answers.
std::string Bits(const Answer& answer);

// Uploads under `name`, replacing. `digest`, where given, becomes the
// version's.
grpc::Status Upload(ServerProcess& server, const std::string& name,
                    const AdapterFiles& files, std::string* digest = nullptr);

// A random adapter for the model served, on the modules whose path ends with
// one of `suffixes` (".q_proj").
AdapterFiles RandomAdapterFor(const v1::GetModelResponse& model,
                              const std::vector<std::string>& suffixes,
                              const RandomAdapterOptions& options);

v1::GetModelResponse GetModel(ServerProcess& server);

}  // namespace descant::e2e

#endif  // DESCANT_TESTS_E2E_CLIENT_H_
