#include "server/cli/bench/adapter_set.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/formats/random_adapter.h"
#include "runtime/base/clock.h"
#include "server/cli/adapter_upload.h"
#include "server/cli/bench/load.h"
#include "server/cli/progress_bar.h"

namespace descant::cli {
namespace {

// alpha / rank. At the usual 2 a random adapter with deviations this small
// changes few greedy tokens, and the check before timing could not tell it from
// none. Costs nothing: the scale is folded into the weights.
constexpr double kScale = 16;

struct AdapterNeed {
  AdapterShape shape;
  int count = 0;
};

// One entry a shape: W-one's adapter is the first of W-mixed's.
std::vector<AdapterNeed> NeedsOf(const std::vector<Leg>& legs) {
  std::vector<AdapterNeed> needs;
  const auto add = [&](const AdapterShape& shape, int count) {
    if (count <= 0) return;
    const auto same = std::find_if(
        needs.begin(), needs.end(),
        [&](const AdapterNeed& need) { return need.shape == shape; });
    if (same == needs.end()) {
      needs.push_back({shape, count});
    } else {
      same->count = std::max(same->count, count);
    }
  };
  for (const Leg& leg : legs) {
    add(leg.shape, std::max(leg.adapters, leg.idle_adapters));
    add(kSmallAdapter, leg.registered - kFullAdapters);
  }
  return needs;
}

std::vector<RandomAdapterModule> ModulesOf(const v1::GetModelResponse& model,
                                           const AdapterShape& shape) {
  std::vector<RandomAdapterModule> modules;
  for (const v1::LinearModule& module : model.linear_modules()) {
    if (shape.all_linear || absl::EndsWith(module.path(), ".q_proj") ||
        absl::EndsWith(module.path(), ".v_proj")) {
      modules.push_back({.module_path = module.path(),
                         .in = module.in_features(),
                         .out = module.out_features()});
    }
    if (shape.single_module && !modules.empty()) break;
  }
  return modules;
}

}  // namespace

grpc::Status UploadBenchAdapters(const Connection& connection,
                                 const v1::GetModelResponse& model,
                                 const std::vector<Leg>& legs, uint64_t seed,
                                 AdapterDigests* digests,
                                 Registration* registration) {
  for (const AdapterNeed& need : NeedsOf(legs)) {
    const std::vector<RandomAdapterModule> modules =
        ModulesOf(model, need.shape);
    ProgressBar bar(absl::StrCat("rank ", need.shape.rank, " adapters"),
                    need.count);
    for (int i = 0; i < need.count; ++i) {
      const AdapterFiles files =
          MakeRandomAdapter(modules, {.rank = need.shape.rank,
                                      .alpha = kScale * need.shape.rank,
                                      .seed = seed + static_cast<uint64_t>(i)});
      v1::UploadAdapterHeader header;
      header.set_name(BenchAdapterName(need.shape, i));
      header.set_config_json(files.config_json);
      header.set_format(v1::ADAPTER_FORMAT_SAFETENSORS);
      header.set_replace(true);
      v1::UploadAdapterResponse response;
      const MonotonicTime start = std::chrono::steady_clock::now();
      const grpc::Status status =
          UploadAdapter(connection.adapters.get(), std::move(header),
                        files.safetensors_bytes, nullptr, &response);
      if (!status.ok()) return status;
      registration->seconds +=
          ToSeconds(std::chrono::steady_clock::now() - start);
      ++registration->adapters;
      (*digests)[response.adapter().name()] = response.adapter().digest();
      bar.Update(i + 1);
    }
  }
  return grpc::Status::OK;
}

grpc::Status LoadIdleAdapters(const Connection& connection,
                              const std::vector<Leg>& legs,
                              int32_t vocab_size) {
  for (const Leg& leg : legs) {
    if (leg.idle_adapters == 0) continue;
    Leg warm = leg;
    warm.requests = warm.adapters = leg.idle_adapters;
    LoadResult ignored;
    const grpc::Status status =
        RunLoad(connection.generation.get(),
                LegRequests(warm, /*seed=*/0, /*stream=*/0, vocab_size),
                leg.in_flight, &ignored);
    if (!status.ok()) return status;
  }
  return grpc::Status::OK;
}

void DeleteBenchAdapters(const Connection& connection,
                         const AdapterDigests& digests) {
  for (const auto& [name, digest] : digests) {
    grpc::ClientContext context;
    SetShortDeadline(&context);
    v1::DeleteAdapterRequest request;
    request.set_adapter_id(absl::StrCat(name, "@", digest));
    v1::DeleteAdapterResponse response;
    connection.adapters->DeleteAdapter(&context, request, &response);
  }
}

}  // namespace descant::cli
