#include "server/generation_call.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "server/authorization.h"
#include "server/generation_output.h"
#include "server/limits.h"
#include "server/usage_record.h"

namespace descant {

GenerationCall::GenerationCall(EdgeContext* edge,
                               grpc::CallbackServerContext* context,
                               const v1::GenerateRequest* request,
                               const char* rpc)
    : edge_(edge),
      context_(context),
      request_(request),
      rpc_(rpc),
      arrival_(edge->clock->Now()) {
  edge_->active_calls.fetch_add(1);
}

GenerationCall::~GenerationCall() { edge_->active_calls.fetch_sub(1); }

void GenerationCall::Begin() {
  self_ = shared_from_this();
  facts_.request_id = edge_->next_request_id.fetch_add(1);
  const absl::StatusOr<std::shared_ptr<const Tenant>> tenant =
      AuthorizeCall(*edge_, *context_, rpc_);
  if (!tenant.ok()) return RejectWith(tenant.status());
  tenant_ = (*tenant)->id;
  caller_ = *tenant;
  account_ = edge_->usage->AccountOf(tenant_);
  if (auto status = CheckAdmitting(*edge_); !status.ok()) {
    return RejectWith(status);
  }
  // Before the prompt is looked at: overload is where that must cost least.
  if (auto status = edge_->wait_estimate->Check(
          tenant_, request_ == nullptr ? 0 : request_->priority(),
          edge_->DeadlineOf(*context_));
      !status.ok()) {
    return RejectWith(status);
  }
  absl::StatusOr<TenantAdmission::Ticket> ticket =
      edge_->admission->Admit(*tenant);
  if (!ticket.ok()) {
    account_->Refused();
    return RejectWith(ticket.status());
  }
  ticket_ = *std::move(ticket);
  auto memory = edge_->memory->Take(
      tenant_, limits::kCallBytes +
                   (request_ == nullptr ? 0 : request_->SpaceUsedLong()));
  if (!memory.ok()) return RejectWith(memory.status());
  memory_ = *std::move(memory);
  // A copy of its own: once the call has ended, self_ may be gone.
  auto self = shared_from_this();
  if (!edge_->front_pool->TryPost([self] { self->Prepare(); })) {
    RejectWith(PoolFull());
  }
}

void GenerationCall::RejectWith(const absl::Status& status) {
  edge_->metrics->RecordRefusal(rpc_, absl::StatusCodeToString(status.code()));
  Reject(ToGrpcStatus(status, facts_));
}

absl::StatusOr<Request> GenerationCall::MakeRequest() {
  if (request_ == nullptr) {
    return FieldError("request", "must be set", reason::kPromptMissing);
  }
  const ModelLimits& limits = edge_->options.model;
  DESCANT_ASSIGN_OR_RETURN(
      plan_, ValidateGenerate(*request_, limits, edge_->tenants != nullptr));
  if (streams() && plan_.sampling.n > plan_.n) {
    return FieldError("best_of", "must not be more than n in a stream");
  }
  Request request;
  if (plan_.adapter.has_value()) {
    facts_.adapter_id = request_->adapter_id();
    DESCANT_ASSIGN_OR_RETURN(request.adapter,
                             edge_->registry->Lookup(tenant_, *plan_.adapter));
    adapter_digest_ = request.adapter->digest;
    adapter_label_ =
        AdapterLabel(request.adapter->tenant, request.adapter->name);
  }
  DESCANT_ASSIGN_OR_RETURN(
      request.prompt,
      EncodePrompt(*request_, *edge_->tokenizer, edge_->chat(), limits));
  DESCANT_RETURN_IF_ERROR(FitMaxTokens(
      static_cast<int32_t>(request.prompt.size()), limits, &plan_));
  if (!plan_.has_seed) plan_.sampling.seed = edge_->DrawSeed();
  if (plan_.output.echo) echo_ = EchoOf(request.prompt);
  if (plan_.output.prompt_logprobs) {
    first_prompt_token_ = request.prompt.front();
  }

  request.id = facts_.request_id;
  request.tenant = tenant_;
  request.tenant_weight = caller_->weight;
  request.tenant_slots = caller_->limits.slots;
  request.tenant_cached_blocks = caller_->limits.cached_blocks;
  request.client_request_id = plan_.client_request_id;
  request.priority = plan_.priority;
  request.bypass_prefix_cache = plan_.bypass_prefix_cache;
  if (plan_.max_draft_tokens)
    request.max_draft_tokens = *plan_.max_draft_tokens;
  request.sampling = plan_.sampling;
  request.arrival = arrival_;
  request.deadline = edge_->DeadlineOf(*context_);
  return request;
}

std::string GenerationCall::EchoOf(const std::vector<int32_t>& prompt) const {
  switch (request_->prompt_case()) {
    case v1::GenerateRequest::kText:
      return request_->text();
    case v1::GenerateRequest::kTextBytes:
      return request_->text_bytes();
    default:
      return edge_->tokenizer->Decode(prompt, /*skip_special_tokens=*/true);
  }
}

void GenerationCall::Prepare() {
  if (cancelled_.load()) return RejectWith(absl::CancelledError("cancelled"));
  if (edge_->DeadlineOf(*context_) <= edge_->clock->Now()) {
    return RejectWith(
        absl::DeadlineExceededError("the deadline passed before the start"));
  }
  absl::StatusOr<Request> request = MakeRequest();
  if (!request.ok()) return RejectWith(request.status());
  const RequestId id = request->id;
  absl::Status status = ticket_.Reserve(
      request->sampling.n, static_cast<int64_t>(request->prompt.size()));
  if (!status.ok()) {
    account_->Refused();
    return RejectWith(status);
  }
  status = memory_.Grow(BytesToCome(request->prompt.size()));
  if (status.ok()) status = Queue(*request);
  if (!status.ok()) return RejectWith(status);
  status = edge_->engine->Submit(*std::move(request), shared_from_this());
  if (!status.ok()) return RejectWith(status);
  account_->Admitted();
  submitted_.store(true);
  if (cancelled_.load()) edge_->engine->Cancel(id);
}

uint64_t GenerationCall::BytesToCome(size_t prompt_tokens) const {
  const uint64_t answer =
      AnswerBytes(plan_, static_cast<int32_t>(prompt_tokens));
  const uint64_t waiting =
      streams() ? std::min<uint64_t>(answer, 3 * limits::kMaxStreamPendingBytes)
                : answer;
  return waiting + sizeof(int32_t) * prompt_tokens + echo_.size();
}

absl::Status GenerationCall::Queue(const Request& request) {
  const ExpectedWork work = {
      .prompt_tokens = static_cast<int64_t>(request.prompt.size()),
      .max_tokens = request.sampling.max_tokens,
      .answers = request.sampling.n,
      .priority = request.priority,
      .deadline = request.deadline};
  DESCANT_ASSIGN_OR_RETURN(wait_, edge_->wait_estimate->Enter(tenant_, work));
  return absl::OkStatus();
}

void GenerationCall::CancelGeneration() {
  cancelled_.store(true);
  if (submitted_.load()) edge_->engine->Cancel(facts_.request_id);
}

void GenerationCall::FlushFirstPromptToken() {
  if (!first_prompt_token_.has_value()) return;
  AppendPrompt(first_prompt_token_, {});
  first_prompt_token_.reset();
}

void GenerationCall::OnPrompt(absl::Span<const TokenEvent> tokens) {
  FlushFirstPromptToken();
  AppendPrompt(std::nullopt, tokens);
}

void GenerationCall::OnStart(int32_t prompt_tokens, int32_t cached_tokens) {
  account_->Started(static_cast<uint64_t>(prompt_tokens),
                    static_cast<uint64_t>(cached_tokens));
}

void GenerationCall::OnTokens(int32_t choice,
                              absl::Span<const TokenEvent> tokens,
                              const std::string& text) {
  const MonotonicTime now = edge_->clock->Now();
  FlushFirstPromptToken();
  account_->Generated(tokens.size());
  last_token_.resize(plan_.sampling.n);
  MonotonicTime& last = last_token_[choice];
  const bool first = last == MonotonicTime{};
  if (!tokens.empty()) {
    if (!any_token_) {
      ticket_.Started();
      wait_.Started();
      edge_->metrics->ObserveFirstToken(now - arrival_);
      any_token_ = true;
    }
    if (!first) {
      const Duration each = (now - last) / static_cast<int64_t>(tokens.size());
      for (size_t i = 0; i < tokens.size(); ++i) {
        edge_->metrics->ObserveInterToken(each);
      }
    }
    last = now;
  }
  if (first && !echo_.empty()) {
    Append(choice, tokens, echo_ + text);
  } else {
    Append(choice, tokens, text);
  }
}

void GenerationCall::OnChoiceFinish(int32_t choice,
                                    const ChoiceResult& result) {
  FinishChoice(choice, result);
}

void GenerationCall::OnFinish(const RequestResult& result) {
  GenerationRecord record;
  record.adapter = adapter_label_;
  record.digest = adapter_digest_;
  record.reason = result.reason;
  record.prompt_tokens = result.prompt_tokens;
  record.cached_tokens = result.cached_tokens;
  record.uses_prefix_cache =
      edge_->options.prefix_cache && !plan_.bypass_prefix_cache;
  record.generated_tokens = result.generated_tokens;
  record.max_tokens = plan_.sampling.max_tokens;
  record.end_to_end = edge_->clock->Now() - arrival_;
  record.timings = result.timings;
  edge_->metrics->RecordGeneration(record);
  LogUsage(record, result);
  ticket_.Charge(result.generated_tokens);
  ticket_ = {};
  wait_.Finished(result.generated_tokens, ResultStatus(result).ok());
  wait_ = {};
  Complete(result);
}

void GenerationCall::LogUsage(const GenerationRecord& record,
                              const RequestResult& result) {
  if (edge_->usage_log == nullptr) return;
  UsageRecord usage;
  usage.unix_seconds = edge_->clock->UnixSeconds();
  usage.tenant = tenant_;
  usage.adapter = record.adapter;
  usage.digest = record.digest;
  usage.request_id = facts_.request_id;
  usage.client_request_id = plan_.client_request_id;
  usage.total = record.end_to_end;
  edge_->usage_log->Append(UsageLine(usage, result));
}

}  // namespace descant
