#include "server/cli/bench/validity.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"

namespace descant::cli {
namespace {

constexpr size_t kSampledAnswers = 8;
constexpr uint64_t kMoreAttempts = 4;
// Keeps their prompts apart from those of other checks and of timed runs.
constexpr int kAttemptShift = 32;

// Drops from `idle` the adapters that answer one of `requests`, or already did
// in `adapted`, otherwise than the base model.
grpc::Status DropEffective(v1::GenerationService::Stub* stub, int in_flight,
                           const std::vector<v1::GenerateRequest>& requests,
                           const std::vector<StreamedAnswer>& adapted,
                           std::set<std::string>* idle) {
  std::vector<v1::GenerateRequest> base_requests = requests;
  for (v1::GenerateRequest& request : base_requests) request.clear_adapter_id();
  LoadResult base;
  const grpc::Status status = RunLoad(stub, base_requests, in_flight, &base);
  if (!status.ok()) return status;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (adapted[i].tokens != base.answers[i].tokens) {
      idle->erase(requests[i].adapter_id());
    }
  }
  return grpc::Status::OK;
}

// A greedy answer to random tokens often runs into a loop that a small adapter
// does not leave: those that changed nothing yet get fresh prompts.
grpc::Status CheckAdaptersMatter(
    v1::GenerationService::Stub* stub, const Leg& leg, uint64_t seed,
    uint64_t stream, int32_t vocab_size,
    const std::vector<v1::GenerateRequest>& requests,
    const std::vector<StreamedAnswer>& adapted, std::string* verdict) {
  std::set<std::string> idle;
  for (const v1::GenerateRequest& request : requests) {
    idle.insert(request.adapter_id());
  }
  const size_t adapters = idle.size();
  grpc::Status status =
      DropEffective(stub, leg.in_flight, requests, adapted, &idle);
  for (uint64_t attempt = 1; attempt <= kMoreAttempts; ++attempt) {
    if (!status.ok() || idle.empty()) break;
    std::vector<v1::GenerateRequest> more =
        LegRequests(leg, seed, stream + (attempt << kAttemptShift), vocab_size);
    // Each of them gets a share of the fresh prompts.
    auto next = idle.begin();
    for (v1::GenerateRequest& request : more) {
      request.set_adapter_id(*next);
      if (++next == idle.end()) next = idle.begin();
    }
    LoadResult answers;
    status = RunLoad(stub, more, leg.in_flight, &answers);
    if (!status.ok()) break;
    status = DropEffective(stub, leg.in_flight, more, answers.answers, &idle);
  }
  if (status.ok() && !idle.empty()) {
    *verdict = absl::StrCat(idle.size(), " of ", adapters,
                            " adapters do not change the tokens, ",
                            *idle.begin(), " for one");
  }
  return status;
}

grpc::Status CheckAloneEqual(v1::GenerationService::Stub* stub,
                             const std::vector<v1::GenerateRequest>& requests,
                             const std::vector<StreamedAnswer>& together,
                             std::string* verdict) {
  const size_t count = std::min(kSampledAnswers, requests.size());
  std::vector<v1::GenerateRequest> sampled;
  std::vector<size_t> indices;
  for (size_t k = 0; k < count; ++k) {
    indices.push_back(k * requests.size() / count);
    sampled.push_back(requests[indices.back()]);
    // Not from what the batch has left.
    sampled.back().set_bypass_prefix_cache(true);
  }
  LoadResult alone;
  const grpc::Status status = RunLoad(stub, sampled, /*in_flight=*/1, &alone);
  if (!status.ok()) return status;
  for (size_t k = 0; k < count; ++k) {
    if (alone.answers[k].tokens != together[indices[k]].tokens) {
      *verdict = absl::StrCat("request ", indices[k],
                              " answers otherwise in the batch than alone");
    }
  }
  return grpc::Status::OK;
}

}  // namespace

std::string CheckAnswers(const std::vector<v1::GenerateRequest>& requests,
                         const std::vector<StreamedAnswer>& answers,
                         const AdapterDigests& digests) {
  for (size_t i = 0; i < requests.size(); ++i) {
    const StreamedAnswer& answer = answers[i];
    if (answer.tokens.size() != static_cast<size_t>(kOutputTokens)) {
      return absl::StrCat("request ", i, " has ", answer.tokens.size(),
                          " tokens instead of ", kOutputTokens);
    }
    const auto digest = digests.find(requests[i].adapter_id());
    const std::string expected = digest == digests.end() ? "" : digest->second;
    if (answer.adapter_digest != expected) {
      return absl::StrCat("request ", i, " was answered by adapter \"",
                          answer.adapter_digest, "\" instead of \"", expected,
                          "\"");
    }
  }
  return "";
}

grpc::Status CheckLeg(v1::GenerationService::Stub* stub, const Leg& leg,
                      uint64_t seed, uint64_t stream, int32_t vocab_size,
                      const AdapterDigests& digests, std::string* verdict) {
  verdict->clear();
  const std::vector<v1::GenerateRequest> requests =
      LegRequests(leg, seed, stream, vocab_size);
  LoadResult together;
  grpc::Status status = RunLoad(stub, requests, leg.in_flight, &together);
  if (!status.ok()) return status;
  *verdict = CheckAnswers(requests, together.answers, digests);
  if (verdict->empty() && leg.adapters > 0) {
    status = CheckAdaptersMatter(stub, leg, seed, stream, vocab_size, requests,
                                 together.answers, verdict);
    if (!status.ok()) return status;
  }
  if (verdict->empty()) {
    status = CheckAloneEqual(stub, requests, together.answers, verdict);
  }
  if (!verdict->empty()) *verdict = absl::StrCat(leg.name, ": ", *verdict);
  return status;
}

}  // namespace descant::cli
