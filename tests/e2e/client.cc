#include "tests/e2e/client.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/cli/adapter_upload.h"

namespace descant::e2e {
namespace {

// A hang is a failure, not a stuck test.
constexpr auto kDeadline = std::chrono::seconds(300);

void SetDeadline(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() + kDeadline);
}

void Append(const v1::Choice& choice, Answer* answer) {
  if (choice.index() > 0) {
    if (answer->others.size() < choice.index()) {
      answer->others.resize(choice.index());
    }
    v1::Choice& other = answer->others[choice.index() - 1];
    const std::string text = other.text() + choice.text();
    other.MergeFrom(choice);
    other.set_text(text);
    return;
  }
  answer->text += choice.text();
  answer->tokens.insert(answer->tokens.end(), choice.token_ids().begin(),
                        choice.token_ids().end());
  answer->logprobs.insert(answer->logprobs.end(), choice.logprobs().begin(),
                          choice.logprobs().end());
  if (choice.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    answer->finish_reason = choice.finish_reason();
  }
}

}  // namespace

v1::GenerateRequest GreedyRequest(const std::vector<int64_t>& prompt,
                                  const std::string& adapter, int max_tokens) {
  v1::GenerateRequest request;
  request.mutable_token_ids()->mutable_ids()->Add(prompt.begin(), prompt.end());
  if (!adapter.empty()) request.set_adapter_id(adapter);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}

Answer Ask(v1::GenerationService::Stub& stub,
           const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::GenerateResponse response;
  Answer answer;
  answer.status = stub.Generate(&context, request, &response);
  for (const v1::Choice& choice : response.choices()) Append(choice, &answer);
  answer.prompt_logprobs.assign(response.prompt_logprobs().begin(),
                                response.prompt_logprobs().end());
  answer.adapter_digest = response.adapter_digest();
  answer.completion_tokens = response.usage().completion_tokens();
  return answer;
}

Answer AskStreamed(v1::GenerationService::Stub& stub,
                   const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::GenerateStreamRequest stream_request;
  *stream_request.mutable_request() = request;
  auto reader = stub.GenerateStream(&context, stream_request);
  Answer answer;
  v1::GenerateStreamResponse response;
  while (reader->Read(&response)) {
    Append(response.delta(), &answer);
    answer.prompt_logprobs.insert(answer.prompt_logprobs.end(),
                                  response.prompt_logprobs().begin(),
                                  response.prompt_logprobs().end());
    if (!response.adapter_digest().empty()) {
      answer.adapter_digest = response.adapter_digest();
    }
    if (response.has_usage()) {
      answer.completion_tokens = response.usage().completion_tokens();
    }
  }
  answer.status = reader->Finish();
  return answer;
}

Answer Ask(ServerProcess& server, const v1::GenerateRequest& request) {
  return Ask(server.generation(), request);
}

Answer AskStreamed(ServerProcess& server, const v1::GenerateRequest& request) {
  return AskStreamed(server.generation(), request);
}

std::vector<Answer> AskTogether(
    ServerProcess& server, const std::vector<v1::GenerateRequest>& requests,
    int in_flight, Streaming streaming) {
  std::vector<Answer> answers(requests.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < requests.size(); i = next++) {
      const bool stream = streaming == Streaming::kYes ||
                          (streaming == Streaming::kEverySecond && i % 2 == 1);
      answers[i] =
          stream ? AskStreamed(server, requests[i]) : Ask(server, requests[i]);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < in_flight; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  return answers;
}

std::string Bits(const Answer& answer) {
  std::string bits = absl::StrCat(
      "code ", answer.status.error_code(), " ", answer.status.error_message(),
      "\nfinish ", v1::FinishReason_Name(answer.finish_reason), "\ndigest ",
      answer.adapter_digest, "\ncompletion_tokens ", answer.completion_tokens,
      "\ntext ", answer.text, "\ntokens");
  for (const int32_t token : answer.tokens) absl::StrAppend(&bits, " ", token);
  for (const v1::TokenLogprobs& token : answer.logprobs) {
    // %a shows every bit of a float.
    absl::StrAppendFormat(&bits, "\n%d %a:", token.token_id(), token.logprob());
    for (const v1::TopLogprob& top : token.top()) {
      absl::StrAppendFormat(&bits, " %d %a", top.token_id(), top.logprob());
    }
  }
  for (const v1::Choice& other : answer.others) {
    absl::StrAppend(&bits, "\n",
                    absl::BytesToHexString(other.SerializeAsString()));
  }
  for (const v1::TokenLogprobs& token : answer.prompt_logprobs) {
    absl::StrAppend(&bits, "\n",
                    absl::BytesToHexString(token.SerializeAsString()));
  }
  return bits;
}

grpc::Status Upload(ServerProcess& server, const std::string& name,
                    const AdapterFiles& files, std::string* digest) {
  v1::UploadAdapterHeader header;
  header.set_name(name);
  header.set_config_json(files.config_json);
  header.set_format(v1::ADAPTER_FORMAT_SAFETENSORS);
  header.set_replace(true);
  v1::UploadAdapterResponse response;
  const grpc::Status status =
      cli::UploadAdapter(&server.adapters(), std::move(header),
                         files.safetensors_bytes, nullptr, &response);
  if (status.ok() && digest != nullptr) *digest = response.adapter().digest();
  return status;
}

AdapterFiles RandomAdapterFor(const v1::GetModelResponse& model,
                              const std::vector<std::string>& suffixes,
                              const RandomAdapterOptions& options) {
  std::vector<RandomAdapterModule> modules;
  for (const v1::LinearModule& module : model.linear_modules()) {
    const bool wanted = std::any_of(
        suffixes.begin(), suffixes.end(), [&](const std::string& suffix) {
          return absl::EndsWith(module.path(), suffix);
        });
    if (wanted) {
      modules.push_back({.module_path = module.path(),
                         .in = module.in_features(),
                         .out = module.out_features()});
    }
  }
  return MakeRandomAdapter(modules, options);
}

v1::GetModelResponse GetModel(ServerProcess& server) {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::GetModelResponse model;
  server.generation().GetModel(&context, {}, &model);
  return model;
}

std::vector<Answer> AskAlone(ServerProcess& server,
                             std::vector<v1::GenerateRequest> requests) {
  for (v1::GenerateRequest& request : requests) {
    request.set_bypass_prefix_cache(true);
  }
  return AskTogether(server, requests, /*in_flight=*/1, Streaming::kNo);
}

}  // namespace descant::e2e
