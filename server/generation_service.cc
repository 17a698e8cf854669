#include "server/generation_service.h"

#include <memory>

#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/detokenizer.h"
#include "server/authorization.h"
#include "server/limits.h"
#include "server/pooled_call.h"
#include "server/stream_generation.h"
#include "server/unary_generation.h"

namespace descant {
namespace {

// What PEFT's LoRA can save and this version serves exactly.
constexpr const char* kPeftFeatures[] = {"target_modules",      "rank_pattern",
                                         "alpha_pattern",       "rslora",
                                         "layers_to_transform", "all-linear"};

// An answer has an id and a piece, which is a string, for every few bytes of
// text; or the text of every id.
constexpr uint64_t kPieceOfByte = 16;
constexpr uint64_t kTextOfId = 2;

uint64_t TokenizeBytes(const v1::TokenizeRequest& request) {
  return request.SpaceUsedLong() + kPieceOfByte * request.ByteSizeLong();
}

absl::Status TokenizeOne(EdgeContext* edge, const v1::TokenizeRequest& request,
                         v1::TokenizeResponse* response) {
  DESCANT_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                           EncodeInput(request, *edge->tokenizer, edge->chat(),
                                       edge->options.model));
  for (const int32_t token : tokens) {
    response->add_token_ids(token);
    Utf8Stream stream;
    std::string* piece = response->add_pieces();
    stream.Append(edge->tokenizer->TokenBytes(token), piece);
    stream.Flush(piece);
  }
  return absl::OkStatus();
}

absl::Status DetokenizeOne(EdgeContext* edge,
                           const v1::DetokenizeRequest& request,
                           v1::DetokenizeResponse* response) {
  DESCANT_ASSIGN_OR_RETURN(
      const std::vector<int32_t> tokens,
      ValidateTokenIds(request.token_ids(), "token_ids", edge->options.model));
  const bool skip =
      !request.has_skip_special_tokens() || request.skip_special_tokens();
  response->set_text(edge->tokenizer->Decode(tokens, skip));
  return absl::OkStatus();
}

void FillLimits(const EdgeContext& edge, v1::GetModelResponse* response) {
  v1::GenerationLimits* generation = response->mutable_generation_limits();
  generation->set_max_model_len(edge.options.model.max_model_len);
  generation->set_max_prompt_bytes(edge.options.model.max_prompt_bytes);
  generation->set_max_top_logprobs(limits::kMaxTopLogprobs);
  generation->set_max_stop_entries(limits::kMaxStopEntries);
  generation->set_max_stop_string_bytes(limits::kMaxStopStringBytes);
  generation->set_max_running(edge.options.max_running);
  generation->set_max_choices(limits::kMaxChoices);
  generation->set_max_logit_bias_entries(limits::kMaxLogitBias);
  v1::AdapterLimits* adapter = response->mutable_adapter_limits();
  adapter->set_max_rank(edge.options.max_adapter_rank);
  adapter->set_max_size_bytes(edge.options.max_upload_bytes);
  adapter->set_max_config_bytes(limits::kMaxConfigBytes);
  adapter->set_max_adapters(
      static_cast<uint32_t>(edge.options.max_stored_adapters));
  adapter->set_max_chunk_bytes(limits::kMaxChunkBytes);
  adapter->set_device_slots(edge.options.adapter_slots);
}

}  // namespace

grpc::ServerUnaryReactor* GenerationService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request,
    v1::GenerateResponse* response) {
  const auto call =
      std::make_shared<UnaryGeneration>(edge_, context, request, response);
  call->Begin();
  return call.get();
}

grpc::ServerWriteReactor<v1::GenerateStreamResponse>*
GenerationService::GenerateStream(grpc::CallbackServerContext* context,
                                  const v1::GenerateStreamRequest* request) {
  const auto call = std::make_shared<StreamGeneration>(edge_, context, request);
  edge_->egress->Watch(std::weak_ptr<Egress::Call>(call));
  call->Begin();
  return call.get();
}

grpc::ServerUnaryReactor* GenerationService::Tokenize(
    grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
    v1::TokenizeResponse* response) {
  return RunPooled(
      edge_, "Tokenize", context, TokenizeBytes(*request),
      [edge = edge_, request, response](const std::string&, CallFacts*) {
        return TokenizeOne(edge, *request, response);
      });
}

grpc::ServerUnaryReactor* GenerationService::Detokenize(
    grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
    v1::DetokenizeResponse* response) {
  return RunPooled(
      edge_, "Detokenize", context, request->SpaceUsedLong() * kTextOfId,
      [edge = edge_, request, response](const std::string&, CallFacts*) {
        return DetokenizeOne(edge, *request, response);
      });
}

grpc::ServerUnaryReactor* GenerationService::GetModel(
    grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
    v1::GetModelResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status caller =
      AuthorizeCall(*edge_, *context, "GetModel").status();
  if (!caller.ok()) {
    FinishUnary(edge_, "GetModel", reactor, caller, {});
    return reactor;
  }
  const ModelFacts& facts = edge_->facts;
  response->set_name(facts.name);
  response->set_architecture(facts.architecture);
  response->set_base_fingerprint(facts.fingerprint);
  response->set_server_version(facts.version);
  response->set_device(facts.device);
  response->set_vocab_size(edge_->options.model.vocab_size);
  for (const int32_t id : facts.eos_token_ids) response->add_eos_token_ids(id);
  response->set_chat_template_supported(edge_->chat() != nullptr);
  for (const char* feature : kPeftFeatures)
    response->add_peft_features(feature);
  for (const std::string& module : facts.target_modules) {
    response->add_target_modules(module);
  }
  for (const BaseModule& module : facts.linear_modules) {
    v1::LinearModule* linear = response->add_linear_modules();
    linear->set_path(module.path);
    linear->set_in_features(module.in);
    linear->set_out_features(module.out);
  }
  FillLimits(*edge_, response);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace descant
