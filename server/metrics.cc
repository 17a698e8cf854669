#include "server/metrics.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_join.h"
#include "prometheus/text_serializer.h"
#include "runtime/core/batch.h"

namespace descant {
namespace {

// The buckets of the vLLM histograms, so that its dashboards fit.
const std::vector<double> kFirstTokenBuckets = {
    .001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
    1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const std::vector<double> kTokenBuckets = {.01, .025, .05, .075, .1, .15, .2,
                                           .3,  .4,   .5,  .75,  1,  2.5, 5,
                                           7.5, 10,   20,  40,   80};
const std::vector<double> kRequestBuckets = {
    .3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
    30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
// Ours start lower: a small model's token takes milliseconds.
const std::vector<double> kFineBuckets = {
    .0005, .001, .002, .003, .004, .006, .008, .01, .015, .02, .03, .04,
    .06,   .08,  .1,   .15,  .2,   .3,   .5,   1,   2,    5,   10,  30};
const std::vector<double> kUploadBuckets = {.01, .05, .1, .5, 1,  2,
                                            5,   10,  30, 60, 300};

// 1, 2, 5, 10, ... up to `limit`.
std::vector<double> SizeBuckets(int32_t limit) {
  std::vector<double> buckets;
  for (double decade = 1; decade <= limit; decade *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) {
      if (decade * step <= limit) buckets.push_back(decade * step);
    }
  }
  return buckets;
}

const char* FinishLabel(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kEndOfSequence:
    case FinishReason::kStopToken:
    case FinishReason::kStopString:
      return "stop";
    case FinishReason::kCancelled:
    case FinishReason::kDeadline:
      return "abort";
    case FinishReason::kNone:
    case FinishReason::kError:
      return "error";
  }
  return "error";
}

using prometheus::MetricFamily;
using prometheus::MetricType;
}  // namespace

Metrics::Metrics(const MetricsOptions& options, LifecycleSources sources,
                 const Clock* clock)
    : options_(options),
      stats_(sources.engine),
      clock_(clock),
      gateway_labels_{{"model_name", options.model_name}, {"engine", "0"}},
      adapters_(options.max_adapter_series),
      lifecycle_(std::move(sources), gateway_labels_,
                 options.max_adapter_series) {
  MakeHistograms();
  MakeCounters();
}

Metrics::Histogram* Metrics::MakeHistogram(const std::string& name,
                                           const std::string& help,
                                           const std::vector<double>& buckets) {
  const bool own = name.rfind("descant_", 0) == 0;
  return &prometheus::BuildHistogram()
              .Name(name)
              .Help(help)
              .Labels(own ? MetricLabels{} : gateway_labels_)
              .Register(registry_)
              .Add({}, buckets);
}

void Metrics::MakeHistograms() {
  ttft_ = MakeHistogram("vllm:time_to_first_token_seconds",
                        "From arrival to the first token.", kFirstTokenBuckets);
  inter_token_ = MakeHistogram("vllm:inter_token_latency_seconds",
                               "From a token to the next.", kTokenBuckets);
  end_to_end_ = MakeHistogram("vllm:e2e_request_latency_seconds",
                              "From arrival to the end.", kRequestBuckets);
  queue_ = MakeHistogram("vllm:request_queue_time_seconds",
                         "From arrival to the first step.", kRequestBuckets);
  inference_ =
      MakeHistogram("vllm:request_inference_time_seconds",
                    "From the first step to the end.", kRequestBuckets);
  prefill_ =
      MakeHistogram("vllm:request_prefill_time_seconds",
                    "From the first step to the first token.", kRequestBuckets);
  decode_ = MakeHistogram("vllm:request_decode_time_seconds",
                          "From the first token to the last.", kRequestBuckets);
  const std::vector<double> sizes = SizeBuckets(options_.max_model_len);
  prompt_tokens_ = MakeHistogram("vllm:request_prompt_tokens",
                                 "Prompt tokens of a request.", sizes);
  generation_tokens_ = MakeHistogram("vllm:request_generation_tokens",
                                     "Generated tokens of a request.", sizes);
  max_tokens_ = MakeHistogram("vllm:request_params_max_tokens",
                              "max_tokens of a request.", sizes);
  own_ttft_ = MakeHistogram("descant_time_to_first_token_seconds",
                            "From arrival to the first token.", kFineBuckets);
  own_inter_token_ = MakeHistogram("descant_inter_token_latency_seconds",
                                   "From a token to the next.", kFineBuckets);
  upload_seconds_ =
      MakeHistogram("descant_upload_seconds", "Uploads from header to answer.",
                    kUploadBuckets);
}

void Metrics::MakeCounters() {
  auto& finished = prometheus::BuildCounter()
                       .Name("vllm:request_success_total")
                       .Help("Generations that ended, by why.")
                       .Labels(gateway_labels_)
                       .Register(registry_);
  for (const FinishReason reason :
       {FinishReason::kNone, FinishReason::kLength,
        FinishReason::kEndOfSequence, FinishReason::kStopToken,
        FinishReason::kStopString, FinishReason::kCancelled,
        FinishReason::kDeadline, FinishReason::kError}) {
    finished_[reason] =
        &finished.Add({{"finished_reason", FinishLabel(reason)}});
  }
  cached_tokens_ = &prometheus::BuildCounter()
                        .Name("vllm:prompt_tokens_cached_total")
                        .Help("Prompt tokens found in a cache.")
                        .Labels(gateway_labels_)
                        .Register(registry_)
                        .Add({});
  prefix_queries_ = &prometheus::BuildCounter()
                         .Name("vllm:prefix_cache_queries_total")
                         .Help("Prompt tokens looked for in the prefix cache.")
                         .Labels(gateway_labels_)
                         .Register(registry_)
                         .Add({});
  prefix_hits_ = &prometheus::BuildCounter()
                      .Name("vllm:prefix_cache_hits_total")
                      .Help("Of these, those found.")
                      .Labels(gateway_labels_)
                      .Register(registry_)
                      .Add({});
  upload_bytes_ = &prometheus::BuildCounter()
                       .Name("descant_upload_bytes_total")
                       .Help("Bytes of adapters stored.")
                       .Register(registry_)
                       .Add({});
  scrapes_ = &prometheus::BuildCounter()
                  .Name("descant_scrapes_total")
                  .Help("Scrapes of this page.")
                  .Register(registry_)
                  .Add({});
  refusals_ = &prometheus::BuildCounter()
                   .Name("descant_refused_calls_total")
                   .Help("Calls answered with an error before any work.")
                   .Register(registry_);
  uploads_ = &prometheus::BuildCounter()
                  .Name("descant_uploads_total")
                  .Help("Uploads, by the code of their answer.")
                  .Register(registry_);
}

void Metrics::ObserveFirstToken(Duration since_arrival) {
  ttft_->Observe(ToSeconds(since_arrival));
  own_ttft_->Observe(ToSeconds(since_arrival));
}

void Metrics::ObserveInterToken(Duration since_last) {
  inter_token_->Observe(ToSeconds(since_last));
  own_inter_token_->Observe(ToSeconds(since_last));
}

void Metrics::RecordGeneration(const GenerationRecord& record) {
  finished_.at(record.reason)->Increment();
  end_to_end_->Observe(ToSeconds(record.end_to_end));
  const RequestTimings& timings = record.timings;
  queue_->Observe(ToSeconds(timings.queue));
  if (record.generated_tokens > 0) {
    inference_->Observe(ToSeconds(timings.prefill + timings.decode));
    prefill_->Observe(ToSeconds(timings.prefill));
    decode_->Observe(ToSeconds(timings.decode));
  }
  prompt_tokens_->Observe(record.prompt_tokens);
  generation_tokens_->Observe(record.generated_tokens);
  max_tokens_->Observe(record.max_tokens);
  cached_tokens_->Increment(record.cached_tokens);
  prefix_hits_->Increment(record.cached_tokens);
  if (record.uses_prefix_cache) {
    prefix_queries_->Increment(record.prompt_tokens);
  }
  const bool failed = record.reason == FinishReason::kError ||
                      record.reason == FinishReason::kNone;
  adapters_.Record(record.adapter.empty() ? "base" : record.adapter,
                   record.digest, failed,
                   static_cast<uint64_t>(record.prompt_tokens),
                   static_cast<uint64_t>(record.generated_tokens));
}

void Metrics::RecordRefusal(absl::string_view rpc, absl::string_view code) {
  refusals_->Add({{"rpc", std::string(rpc)}, {"code", std::string(code)}})
      .Increment();
}

void Metrics::RecordUpload(absl::string_view code, uint64_t bytes,
                           Duration took) {
  uploads_->Add({{"code", std::string(code)}}).Increment();
  upload_bytes_->Increment(static_cast<double>(bytes));
  upload_seconds_->Observe(ToSeconds(took));
}

void Metrics::ObserveAdapterLoad(AdapterLevel level, Duration took) {
  lifecycle_.ObserveLoad(level, took);
}

void Metrics::RecordScrape() { scrapes_->Increment(); }

void Metrics::ForgetAdapter(absl::string_view adapter) {
  adapters_.Forget(adapter);
}

void Metrics::CollectResidency(const EngineStats& stats,
                               std::vector<MetricFamily>* families) const {
  AddSingle(
      "vllm:lora_requests_info",
      "Adapters on the device and adapters that wait; the value is the "
      "time of the scrape.",
      MetricType::Gauge, std::floor(clock_->UnixSeconds()),
      {{"max_lora", std::to_string(stats.slots_total)},
       {"running_lora_adapters", absl::StrJoin(stats.running_adapters, ",")},
       {"waiting_lora_adapters", absl::StrJoin(stats.waiting_adapters, ",")}},
      families);
  const MetricLabels info = {
      {"block_size", std::to_string(kBlockSize)},
      {"num_gpu_blocks", std::to_string(stats.blocks_total)},
      {"model_name", options_.model_name},
      {"engine", "0"}};
  AddSingle("vllm:cache_config_info", "Shape of the KV cache.",
            MetricType::Gauge, 1, info, families);
  AddSingle("descant_build_info", "What runs here.", MetricType::Gauge, 1,
            {{"version", options_.version},
             {"device", options_.device},
             {"model_name", options_.model_name},
             {"base_fingerprint", options_.base_fingerprint}},
            families);
  AddSingle("descant_adapter_slots", "Adapter slots on the device.",
            MetricType::Gauge, stats.slots_total, {}, families);
  AddSingle("descant_adapter_slots_used", "Adapter slots in use.",
            MetricType::Gauge, stats.slots_used, {}, families);
}

void Metrics::CollectEngine(std::vector<MetricFamily>* families) const {
  const EngineStats stats = stats_();
  const auto gauge = [&](const char* name, const char* help, double value) {
    AddSingle(name, help, MetricType::Gauge, value, gateway_labels_, families);
  };
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    const bool own = std::string(name).rfind("descant_", 0) == 0;
    AddSingle(name, help, MetricType::Counter, static_cast<double>(value),
              own ? MetricLabels{} : gateway_labels_, families);
  };
  gauge("vllm:num_requests_running", "Sequences that run.", stats.running);
  gauge("vllm:num_requests_waiting", "Requests that wait.", stats.waiting);
  gauge("vllm:kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.",
        stats.blocks_total > 0
            ? static_cast<double>(stats.blocks_used) / stats.blocks_total
            : 0);
  counter("vllm:prompt_tokens_total", "Prompt tokens computed.",
          stats.prompt_tokens);
  counter("vllm:generation_tokens_total", "Tokens generated.",
          stats.generated_tokens);
  counter("vllm:spec_decode_num_drafts_total", "Drafts tried.", stats.drafts);
  counter("vllm:spec_decode_num_draft_tokens_total", "Tokens of drafts.",
          stats.draft_tokens);
  counter("vllm:spec_decode_num_accepted_tokens_total",
          "Of these, those that were right.", stats.accepted_draft_tokens);
  counter("vllm:num_preemptions_total", "Sequences preempted.",
          stats.preemptions);
  counter("descant_steps_total", "Forward passes.", stats.steps);
  counter("descant_steps_ahead_total",
          "Forward passes scheduled while the one before was computed.",
          stats.steps_ahead);
  MetricFamily kinds =
      MakeFamily("descant_gpu_steps_total",
                 "Forward passes on a GPU, by how they were launched.",
                 MetricType::Counter);
  const auto add_kind = [&](const char* kind, uint64_t steps) {
    AddSeries(static_cast<double>(steps), {{"kind", kind}}, &kinds);
  };
  add_kind("graph", stats.step_kinds.graph);
  add_kind("piecewise", stats.step_kinds.piecewise);
  add_kind("eager", stats.step_kinds.eager);
  families->push_back(std::move(kinds));
  counter("descant_rows_total", "Rows of all forward passes.", stats.rows);
  counter("descant_adapter_loads_total", "Adapters copied into a slot.",
          stats.adapter_loads);
  counter("descant_adapter_evictions_total", "Adapters dropped from a slot.",
          stats.adapter_evictions);
  counter("descant_numeric_faults_total",
          "Sequences failed for a value that was not finite.",
          stats.numeric_faults);
  counter("descant_step_failures_total",
          "Sequences failed for a step that could not be computed with them.",
          stats.failed_sequences);
  const auto seconds = [&](const char* name, const char* help, double value) {
    AddSingle(name, help, MetricType::Counter, value, {}, families);
  };
  seconds("descant_step_seconds_total", "Time spent in forward passes.",
          stats.step_seconds);
  seconds("descant_step_predicted_seconds_total",
          "Time that forward passes were predicted to take.",
          stats.predicted_step_seconds);
  seconds("descant_step_prediction_error_seconds_total",
          "How far those predictions were off, whichever way.",
          stats.step_error_seconds);
  CollectResidency(stats, families);
}

std::vector<MetricFamily> Metrics::Collect() const {
  std::vector<MetricFamily> families = registry_.Collect();
  CollectEngine(&families);
  adapters_.Collect(&families);
  lifecycle_.Collect(&families);
  return families;
}

std::string RenderMetrics(const Metrics& metrics) {
  return prometheus::TextSerializer().Serialize(metrics.Collect());
}

}  // namespace descant
