#include "server/request_validation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/chat_validation.h"
#include "server/errors.h"
#include "server/limits.h"

namespace descant {
namespace {

// A float of the request in [min, max]; NaN and infinities are in no range.
absl::Status CheckRange(absl::string_view field, float value, float min,
                        float max) {
  if (std::isfinite(value) && value >= min && value <= max) {
    return absl::OkStatus();
  }
  return FieldError(field,
                    absl::StrCat("must be a number from ", min, " to ", max));
}

void ValidateLogitBias(const v1::SamplingOptions& options,
                       const ModelLimits& limits, SamplingParams* sampling,
                       Violations* violations) {
  if (options.logit_bias_size() > limits::kMaxLogitBias) {
    violations->Add(
        FieldError("sampling.logit_bias",
                   absl::StrCat("at most ", limits::kMaxLogitBias)));
    return;
  }
  absl::flat_hash_set<int64_t> seen;
  for (int i = 0; i < options.logit_bias_size(); ++i) {
    const v1::LogitBias& entry = options.logit_bias(i);
    const std::string field = absl::StrCat("sampling.logit_bias[", i, "]");
    if (entry.token_id() < 0 || entry.token_id() >= limits.vocab_size) {
      violations->Add(
          FieldError(absl::StrCat(field, ".token_id"),
                     absl::StrCat("must be from 0 to ", limits.vocab_size - 1),
                     reason::kTokenOutOfRange));
    } else if (!seen.insert(entry.token_id()).second) {
      violations->Add(FieldError(absl::StrCat(field, ".token_id"),
                                 "is the token of an entry before"));
    }
    if (!(entry.bias() <= limits::kMaxBias)) {  // NaN is not, either
      violations->Add(
          FieldError(absl::StrCat(field, ".bias"),
                     absl::StrCat("must be at most ", limits::kMaxBias)));
    }
    sampling->logit_bias.push_back(
        {static_cast<int32_t>(entry.token_id()),
         entry.bias() <= limits::kBanBias
             ? -std::numeric_limits<float>::infinity()
             : entry.bias()});
  }
}

void ValidatePenalties(const v1::SamplingOptions& options,
                       SamplingParams* sampling, Violations* violations) {
  if (options.has_repetition_penalty()) {
    sampling->repetition_penalty = options.repetition_penalty();
    violations->Add(CheckRange(
        "sampling.repetition_penalty", options.repetition_penalty(),
        limits::kMinRepetitionPenalty, limits::kMaxRepetitionPenalty));
  }
  sampling->presence_penalty = options.presence_penalty();
  violations->Add(CheckRange("sampling.presence_penalty",
                             options.presence_penalty(), -limits::kMaxPenalty,
                             limits::kMaxPenalty));
  sampling->frequency_penalty = options.frequency_penalty();
  violations->Add(CheckRange("sampling.frequency_penalty",
                             options.frequency_penalty(), -limits::kMaxPenalty,
                             limits::kMaxPenalty));
}

// In (0, 1].
absl::Status CheckShare(absl::string_view field, float value) {
  if (value == 0) return FieldError(field, "must be more than 0");
  return CheckRange(field, value, 0, 1);
}

void ValidateSampling(const v1::SamplingOptions& options,
                      const ModelLimits& limits, GenerationPlan* plan,
                      Violations* violations) {
  SamplingParams& sampling = plan->sampling;
  if (options.has_temperature()) {
    const float temperature = options.temperature();
    if (!std::isfinite(temperature) || temperature < 0) {
      violations->Add(FieldError("sampling.temperature",
                                 "must be finite and not negative"));
    }
    sampling.temperature =
        temperature < limits::kMinTemperature ? 0 : temperature;
  }
  if (options.top_k() < 0) {
    violations->Add(FieldError("sampling.top_k", "must not be negative"));
  }
  sampling.top_k = options.top_k();
  if (options.has_top_p()) {
    violations->Add(CheckShare("sampling.top_p", options.top_p()));
    sampling.top_p = options.top_p();
  }
  violations->Add(CheckRange("sampling.min_p", options.min_p(), 0, 1));
  sampling.min_p = options.min_p();
  if (options.has_typical_p()) {
    violations->Add(CheckShare("sampling.typical_p", options.typical_p()));
    sampling.typical_p = options.typical_p();
  }
  ValidatePenalties(options, &sampling, violations);
  ValidateLogitBias(options, limits, &sampling, violations);
  plan->has_seed = options.has_seed();
  sampling.seed = options.seed();
}

void ValidateStopStrings(const v1::StoppingOptions& options,
                         SamplingParams* sampling, Violations* violations) {
  if (options.stop_strings_size() > limits::kMaxStopEntries) {
    violations->Add(
        FieldError("stopping.stop_strings",
                   absl::StrCat("at most ", limits::kMaxStopEntries)));
    return;
  }
  for (int i = 0; i < options.stop_strings_size(); ++i) {
    const std::string& stop = options.stop_strings(i);
    if (stop.empty() ||
        stop.size() > static_cast<size_t>(limits::kMaxStopStringBytes)) {
      violations->Add(
          FieldError(absl::StrCat("stopping.stop_strings[", i, "]"),
                     absl::StrCat("must have 1 to ",
                                  limits::kMaxStopStringBytes, " bytes")));
      continue;
    }
    sampling->stop_strings.push_back(stop);
  }
}

void ValidateStopTokens(const v1::StoppingOptions& options,
                        const ModelLimits& limits, SamplingParams* sampling,
                        Violations* violations) {
  if (options.stop_token_ids_size() > limits::kMaxStopEntries) {
    violations->Add(
        FieldError("stopping.stop_token_ids",
                   absl::StrCat("at most ", limits::kMaxStopEntries)));
    return;
  }
  absl::StatusOr<std::vector<int32_t>> ids = ValidateTokenIds(
      options.stop_token_ids(), "stopping.stop_token_ids", limits);
  violations->Add(ids.status());
  if (ids.ok()) sampling->stop_token_ids = *std::move(ids);
}

void ValidateStopping(const v1::StoppingOptions& options,
                      const ModelLimits& limits, GenerationPlan* plan,
                      Violations* violations) {
  SamplingParams& sampling = plan->sampling;
  if (options.has_max_tokens()) {
    if (options.max_tokens() < 1 ||
        options.max_tokens() > limits.max_model_len) {
      violations->Add(
          FieldError("stopping.max_tokens",
                     absl::StrCat("must be from 1 to ", limits.max_model_len)));
    }
    plan->has_max_tokens = true;
    sampling.max_tokens = options.max_tokens();
  }
  const int32_t most =
      plan->has_max_tokens ? sampling.max_tokens : limits.max_model_len;
  // (A max_tokens below 1 has been named already.)
  if (options.min_tokens() < 0 || options.min_tokens() > std::max(most, 0)) {
    violations->Add(FieldError(
        "stopping.min_tokens",
        absl::StrCat("must be from 0 to ", plan->has_max_tokens
                                               ? "max_tokens"
                                               : "the context's length")));
  }
  sampling.min_tokens = options.min_tokens();
  ValidateStopStrings(options, &sampling, violations);
  ValidateStopTokens(options, limits, &sampling, violations);
  sampling.ignore_eos = options.ignore_eos();
  sampling.include_stop_string = options.include_stop_string();
}

// Something must be left to choose from.
void ValidateBans(const ModelLimits& limits, const SamplingParams& sampling,
                  Violations* violations) {
  int64_t banned = 0;
  for (const LogitBias& entry : sampling.logit_bias) {
    banned += std::isfinite(entry.bias) ? 0 : 1;
  }
  if (banned > 0 && sampling.min_tokens > 0) {
    banned += limits.eos_tokens +
              static_cast<int64_t>(sampling.stop_token_ids.size());
  }
  if (banned >= limits.vocab_size) {
    violations->Add(
        FieldError("sampling.logit_bias", "leaves no token of the vocabulary"));
  }
}

void ValidateTopLogprobs(absl::string_view field, int32_t count,
                         Violations* violations) {
  if (count < 0 || count > limits::kMaxTopLogprobs) {
    violations->Add(FieldError(
        field, absl::StrCat("must be from 0 to ", limits::kMaxTopLogprobs)));
  }
}

void ValidateOutput(const v1::OutputOptions& options, GenerationPlan* plan,
                    Violations* violations) {
  OutputPlan& output = plan->output;
  output.logprobs = options.logprobs() || options.has_top_logprobs();
  output.token_ids = options.token_ids();
  output.echo = options.echo();
  output.prompt_logprobs = options.has_prompt_logprobs();
  ValidateTopLogprobs("output.top_logprobs", options.top_logprobs(),
                      violations);
  ValidateTopLogprobs("output.prompt_logprobs", options.prompt_logprobs(),
                      violations);
  plan->sampling.top_logprobs = output.logprobs ? options.top_logprobs() : -1;
  plan->sampling.prompt_logprobs =
      output.prompt_logprobs ? options.prompt_logprobs() : -1;
}

void ValidateChoices(const v1::GenerateRequest& request, GenerationPlan* plan,
                     Violations* violations) {
  plan->n = request.has_n() ? request.n() : 1;
  plan->sampling.n = request.has_best_of() ? request.best_of() : plan->n;
  const std::string range =
      absl::StrCat("must be from 1 to ", limits::kMaxChoices);
  if (plan->n < 1 || plan->n > limits::kMaxChoices) {
    violations->Add(FieldError("n", range));
  }
  if (!request.has_best_of()) return;
  if (request.best_of() < 1 || request.best_of() > limits::kMaxChoices) {
    violations->Add(FieldError("best_of", range));
  } else if (request.best_of() < plan->n) {
    violations->Add(FieldError("best_of", "must not be less than n"));
  }
  // They are ranked by it.
  if (request.best_of() > plan->n) {
    plan->sampling.top_logprobs = std::max(0, plan->sampling.top_logprobs);
  }
}

absl::StatusOr<std::vector<int32_t>> EncodeText(const std::string& text,
                                                absl::string_view field,
                                                const Tokenizer& tokenizer,
                                                const ModelLimits& limits) {
  DESCANT_RETURN_IF_ERROR(ValidateText(text, field, limits.max_prompt_bytes));
  return tokenizer.Encode(text);
}

absl::StatusOr<std::vector<int32_t>> EncodeMessages(
    const v1::ChatMessages& chat, const Tokenizer& tokenizer,
    const ChatTemplate* chat_template, const ModelLimits& limits) {
  DESCANT_ASSIGN_OR_RETURN(const std::string prompt,
                           RenderMessages(chat, chat_template, limits));
  // As Transformers does: the template spells out all special tokens.
  return tokenizer.Encode(prompt, {.add_special_tokens = false});
}

}  // namespace

absl::StatusOr<GenerationPlan> ValidateGenerate(
    const v1::GenerateRequest& request, const ModelLimits& limits,
    bool owners) {
  GenerationPlan plan;
  Violations violations;
  plan.sampling.max_tokens = limits::kDefaultMaxTokens;
  if (request.has_adapter_id()) {
    if (request.adapter_id().size() > limits::kMaxAdapterIdBytes) {
      violations.Add(FieldError(
          "adapter_id",
          absl::StrCat("longer than ", limits::kMaxAdapterIdBytes, " bytes")));
    } else {
      absl::StatusOr<AdapterId> id =
          owners ? ParseQualifiedAdapterId(request.adapter_id())
                 : ParseAdapterId(request.adapter_id());
      violations.Add(id.status());
      if (id.ok()) plan.adapter = *std::move(id);
    }
  }
  if (request.prompt_case() == v1::GenerateRequest::PROMPT_NOT_SET) {
    violations.Add(FieldError("prompt",
                              "one of text, text_bytes, token_ids or messages "
                              "must be set",
                              reason::kPromptMissing));
  }
  ValidateSampling(request.sampling(), limits, &plan, &violations);
  ValidateStopping(request.stopping(), limits, &plan, &violations);
  ValidateBans(limits, plan.sampling, &violations);
  ValidateOutput(request.output(), &plan, &violations);
  ValidateChoices(request, &plan, &violations);
  if (request.client_request_id().size() >
      static_cast<size_t>(limits::kMaxClientRequestIdBytes)) {
    violations.Add(
        FieldError("client_request_id",
                   absl::StrCat("longer than ",
                                limits::kMaxClientRequestIdBytes, " bytes")));
  }
  plan.client_request_id = request.client_request_id();
  if (std::abs(static_cast<int64_t>(request.priority())) >
      limits::kMaxPriority) {
    violations.Add(FieldError(
        "priority", absl::StrCat("must be from -", limits::kMaxPriority, " to ",
                                 limits::kMaxPriority)));
  }
  plan.priority = request.priority();
  plan.bypass_prefix_cache = request.bypass_prefix_cache();
  if (request.has_max_draft_tokens()) {
    if (request.max_draft_tokens() < 0) {
      violations.Add(FieldError("max_draft_tokens", "must not be negative"));
    }
    plan.max_draft_tokens = request.max_draft_tokens();
  }
  DESCANT_RETURN_IF_ERROR(violations.Result());
  return plan;
}

absl::StatusOr<std::vector<int32_t>> ValidateTokenIds(
    const google::protobuf::RepeatedField<int64_t>& ids,
    absl::string_view field, const ModelLimits& limits) {
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(ids.size()));
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= limits.vocab_size) {
      return FieldError(
          absl::StrCat(field, "[", i, "]"),
          absl::StrCat("must be from 0 to ", limits.vocab_size - 1),
          reason::kTokenOutOfRange);
    }
    out.push_back(static_cast<int32_t>(ids[i]));
  }
  return out;
}

absl::StatusOr<std::vector<int32_t>> EncodePrompt(
    const v1::GenerateRequest& request, const Tokenizer& tokenizer,
    const ChatTemplate* chat, const ModelLimits& limits) {
  absl::StatusOr<std::vector<int32_t>> tokens;
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      tokens = EncodeText(request.text(), "text", tokenizer, limits);
      break;
    case v1::GenerateRequest::kTextBytes:
      tokens =
          EncodeText(request.text_bytes(), "text_bytes", tokenizer, limits);
      break;
    case v1::GenerateRequest::kMessages:
      tokens = EncodeMessages(request.messages(), tokenizer, chat, limits);
      break;
    case v1::GenerateRequest::kTokenIds:
      if (request.token_ids().ids_size() > limits.max_model_len) {
        return FieldError("token_ids.ids",
                          absl::StrCat("more than the ", limits.max_model_len,
                                       " tokens of the context"),
                          reason::kContextExceeded);
      }
      tokens =
          ValidateTokenIds(request.token_ids().ids(), "token_ids.ids", limits);
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return FieldError("prompt", "must be set", reason::kPromptMissing);
  }
  if (!tokens.ok()) return tokens.status();
  const bool is_empty_text =
      (request.prompt_case() == v1::GenerateRequest::kText &&
       request.text().empty()) ||
      (request.prompt_case() == v1::GenerateRequest::kTextBytes &&
       request.text_bytes().empty());
  if (tokens->empty() || is_empty_text) {
    return FieldError("prompt", "must have at least one token",
                      reason::kPromptEmpty);
  }
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> EncodeInput(
    const v1::TokenizeRequest& request, const Tokenizer& tokenizer,
    const ChatTemplate* chat, const ModelLimits& limits) {
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText:
      return EncodeText(request.text(), "text", tokenizer, limits);
    case v1::TokenizeRequest::kTextBytes:
      return EncodeText(request.text_bytes(), "text_bytes", tokenizer, limits);
    case v1::TokenizeRequest::kMessages:
      return EncodeMessages(request.messages(), tokenizer, chat, limits);
    case v1::TokenizeRequest::INPUT_NOT_SET:
      break;
  }
  return FieldError("input", "one of text, text_bytes or messages must be set",
                    reason::kPromptMissing);
}

absl::Status FitMaxTokens(int32_t prompt_tokens, const ModelLimits& limits,
                          GenerationPlan* plan) {
  const int32_t room = limits.max_model_len - prompt_tokens;
  if (room < 1) {
    return FieldError("prompt",
                      absl::StrCat(prompt_tokens,
                                   " tokens leave no room for an answer in "
                                   "the context of ",
                                   limits.max_model_len),
                      reason::kContextExceeded);
  }
  if (plan->sampling.min_tokens > room) {
    return FieldError("stopping.min_tokens",
                      absl::StrCat(prompt_tokens, " prompt tokens and ",
                                   plan->sampling.min_tokens,
                                   " more do not fit into the context of ",
                                   limits.max_model_len),
                      reason::kContextExceeded);
  }
  if (!plan->has_max_tokens) {
    plan->sampling.max_tokens = std::min(
        std::max(plan->sampling.max_tokens, plan->sampling.min_tokens), room);
  } else if (plan->sampling.max_tokens > room) {
    return FieldError("stopping.max_tokens",
                      absl::StrCat(prompt_tokens, " prompt tokens and ",
                                   plan->sampling.max_tokens,
                                   " more do not fit into the context of ",
                                   limits.max_model_len),
                      reason::kContextExceeded);
  }
  return absl::OkStatus();
}

uint64_t MaxPromptBytes(const Tokenizer& tokenizer, int32_t max_model_len) {
  const auto longest = tokenizer.max_bytes_per_token();
  if (!longest.has_value()) return limits::kMaxPromptBytes;
  return std::min<uint64_t>(
      limits::kMaxPromptBytes,
      static_cast<uint64_t>(*longest) * static_cast<uint64_t>(max_model_len));
}

}  // namespace descant
