#include "server/metrics.h"

#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class FixedClock final : public Clock {
 public:
  MonotonicTime Now() const override { return {}; }
  double UnixSeconds() const override { return 1700000000.75; }
};

class MetricsTest : public ::testing::Test {
 protected:
  MetricsTest() {
    stats_.running = 3;
    stats_.waiting = 2;
    stats_.blocks_total = 200;
    stats_.blocks_used = 50;
    stats_.slots_total = 8;
    stats_.slots_used = 2;
    stats_.prompt_tokens = 1000;
    stats_.generated_tokens = 500;
    stats_.preemptions = 4;
    stats_.running_adapters = {"alpha", "beta"};
    stats_.waiting_adapters = {"gamma"};
  }

  MetricsOptions Options() {
    MetricsOptions options;
    options.model_name = "tiny";
    options.version = "1.2.3";
    options.device = "fake";
    options.base_fingerprint = "sha256:00";
    options.max_model_len = 2048;
    options.max_adapter_series = 3;
    return options;
  }

  GenerationRecord Record(const std::string& adapter) {
    GenerationRecord record;
    record.adapter = adapter;
    record.digest = adapter.empty() ? "" : "sha256:" + adapter;
    record.reason = FinishReason::kLength;
    record.prompt_tokens = 10;
    record.generated_tokens = 5;
    record.max_tokens = 16;
    record.end_to_end = std::chrono::milliseconds(80);
    record.timings.prefill = std::chrono::milliseconds(30);
    record.timings.decode = std::chrono::milliseconds(40);
    return record;
  }

  LifecycleSources Sources() {
    LifecycleSources sources;
    sources.request_memory = [] { return uint64_t{4096}; };
    sources.refused_connections = [] { return uint64_t{0}; };
    sources.flooding_connections = [] { return uint64_t{3}; };
    sources.engine = [this] { return stats_; };
    sources.store = [this] { return store_; };
    sources.residents = [this] { return residents_; };
    sources.usage.tenants = [] {
      return std::vector<std::pair<std::string, TenantCounts>>{
          {"acme", {.requests = 5, .generated_tokens = 40}}, {"", {}}};
    };
    sources.usage.log = [] {
      return JsonLinesLog::Counts{.written = 5, .dropped = 2, .failures = 1};
    };
    sources.manifest = [] {
      return ManifestReport{.in_place = 2, .failed = 1};
    };
    return sources;
  }

  static ResidentAdapter Resident(const std::string& name, AdapterLevel level) {
    ResidentAdapter resident;
    resident.tenant = "acme";
    resident.name = name;
    resident.digest = "sha256:" + name;
    resident.level = level;
    resident.rank = 8;
    return resident;
  }

  static MergeStats::Adapter Merged(const std::string& name, uint64_t steps) {
    return {name, "sha256:" + name, 0.125, steps};
  }

  EngineStats stats_;
  StoreStats store_;
  std::vector<ResidentAdapter> residents_;
  FixedClock clock_;
  Metrics metrics_{Options(), Sources(), &clock_};
};

TEST_F(MetricsTest, TheGatewaysSignals) {
  const std::string page = RenderMetrics(metrics_);
  const std::string labels = "{engine=\"0\",model_name=\"tiny\"}";
  EXPECT_THAT(page, HasSubstr("vllm:num_requests_running" + labels + " 3\n"));
  EXPECT_THAT(page, HasSubstr("vllm:num_requests_waiting" + labels + " 2\n"));
  EXPECT_THAT(page, HasSubstr("vllm:kv_cache_usage_perc" + labels + " 0.25"));
  EXPECT_THAT(page, HasSubstr("vllm:prompt_tokens_total" + labels + " 1000\n"));
  EXPECT_THAT(page,
              HasSubstr("vllm:generation_tokens_total" + labels + " 500\n"));
  EXPECT_THAT(page, HasSubstr("vllm:num_preemptions_total" + labels + " 4\n"));
  EXPECT_THAT(page,
              HasSubstr("vllm:cache_config_info{block_size=\"32\",engine=\"0\","
                        "model_name=\"tiny\",num_gpu_blocks=\"200\"} 1\n"));
}

TEST_F(MetricsTest, AdapterResidencyIsOneSeriesWithTheTimeAsValue) {
  const std::string page = RenderMetrics(metrics_);
  EXPECT_THAT(page, HasSubstr("vllm:lora_requests_info{max_lora=\"8\","
                              "running_lora_adapters=\"alpha,beta\","
                              "waiting_lora_adapters=\"gamma\"} 1700000000\n"));
  stats_.running_adapters = {"beta"};
  const std::string later = RenderMetrics(metrics_);
  EXPECT_THAT(later, Not(HasSubstr("alpha,beta")));
  EXPECT_THAT(later, HasSubstr("running_lora_adapters=\"beta\""));
}

TEST_F(MetricsTest, CountsGenerations) {
  metrics_.RecordGeneration(Record(""));
  metrics_.RecordGeneration(Record("alpha"));
  GenerationRecord failed = Record("alpha");
  failed.reason = FinishReason::kError;
  metrics_.RecordGeneration(failed);
  metrics_.ObserveFirstToken(std::chrono::milliseconds(30));
  const std::string page = RenderMetrics(metrics_);
  EXPECT_THAT(page, HasSubstr("finished_reason=\"length\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("finished_reason=\"error\"} 1\n"));
  EXPECT_THAT(page,
              HasSubstr("descant_adapter_requests_total{adapter=\"base\"} 1"));
  EXPECT_THAT(page,
              HasSubstr("descant_adapter_requests_total{adapter=\"alpha\"} 2"));
  EXPECT_THAT(page,
              HasSubstr("descant_adapter_failures_total{adapter=\"alpha\"} 1"));
  EXPECT_THAT(page, HasSubstr("descant_adapter_generated_tokens_total{adapter="
                              "\"alpha\"} 10"));
  EXPECT_THAT(page, HasSubstr("descant_adapter_info{adapter=\"alpha\",digest="
                              "\"sha256:alpha\"} 1"));
  EXPECT_THAT(page, HasSubstr("vllm:time_to_first_token_seconds_count"));
  EXPECT_THAT(page, HasSubstr("le=\"0.04\"} 1\n"));
}

TEST_F(MetricsTest, AdapterSeriesAreBounded) {
  for (int i = 0; i < 2000; ++i) {
    metrics_.RecordGeneration(Record(absl::StrCat("name-", i)));
  }
  const std::string page = RenderMetrics(metrics_);
  EXPECT_THAT(page, HasSubstr("{adapter=\"other\"} 1997\n"));
  size_t series = 0;
  for (size_t at = 0; (at = page.find("descant_adapter_requests_total{", at)) !=
                      std::string::npos;
       ++at) {
    ++series;
  }
  EXPECT_EQ(series, 4u);
}

TEST_F(MetricsTest, ABusyAdapterTakesAQuietOnesPlace) {
  for (int i = 0; i < 3; ++i) {
    metrics_.RecordGeneration(Record(absl::StrCat("quiet-", i)));
  }
  for (int i = 0; i < 10; ++i) metrics_.RecordGeneration(Record("busy"));
  const std::string page = RenderMetrics(metrics_);
  EXPECT_THAT(page, HasSubstr("requests_total{adapter=\"busy\"} 9\n"));
  EXPECT_THAT(page, HasSubstr("requests_total{adapter=\"other\"} 1\n"));
}

TEST_F(MetricsTest, DeletedAdaptersLeaveThePage) {
  metrics_.RecordGeneration(Record("alpha"));
  metrics_.ForgetAdapter("alpha");
  EXPECT_THAT(RenderMetrics(metrics_), Not(HasSubstr("adapter=\"alpha\"")));
}

TEST_F(MetricsTest, LevelsOfAdapters) {
  stats_.device_bytes = 100;
  stats_.device_capacity = 1000;
  stats_.host_bytes = 300;
  stats_.host_hits = 5;
  stats_.device_misses = 6;
  store_.versions = 9;
  store_.read_only = true;
  metrics_.ObserveAdapterLoad(AdapterLevel::kDevice,
                              std::chrono::milliseconds(3));
  metrics_.ObserveAdapterLoad(AdapterLevel::kHost,
                              std::chrono::milliseconds(30));
  const std::string page = RenderMetrics(metrics_);
  for (const char* line :
       {"descant_adapter_level_bytes{level=\"device\"} 100\n",
        "descant_adapter_level_capacity_bytes{level=\"device\"} 1000\n",
        "descant_adapter_level_bytes{level=\"host\"} 300\n",
        "descant_adapter_level_adapters{level=\"device\"} 2\n",
        "descant_adapter_level_hits_total{level=\"host\"} 5\n",
        "descant_adapter_level_misses_total{level=\"device\"} 6\n",
        "descant_adapter_load_seconds_count{level=\"device\"} 1\n",
        "descant_adapter_load_seconds_sum{level=\"host\"} 0.03\n",
        "vllm:lora_adapter_load_seconds_count{engine=\"0\",model_name="
        "\"tiny\"} 1\n",
        "descant_stored_versions 9\n", "descant_store_read_only 1\n",
        "descant_manifest_adapters{state=\"failed\"} 1\n",
        "descant_manifest_stale 0\n"}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
}

TEST_F(MetricsTest, HotMergeIsThereWhetherItIsOnOrOff) {
  const std::string off = RenderMetrics(metrics_);
  EXPECT_THAT(off, HasSubstr("descant_merge_steps_total 0\n"));
  EXPECT_THAT(off,
              HasSubstr("descant_merge_builds_total{outcome=\"refused\"} 0\n"));
  EXPECT_THAT(off, HasSubstr("descant_merge_memory_capacity_bytes 0\n"));
  EXPECT_THAT(off, Not(HasSubstr("descant_merged_adapter_info")));

  MergeStats& merges = stats_.merges;
  merges.merged_steps = 70;
  merges.switches = 4;
  merges.builds = 3;
  merges.failed_builds = 1;
  merges.refused = 2;
  merges.build_seconds = 1.5;
  merges.measure_seconds = 0.25;
  merges.saved_seconds = 12.5;
  merges.memory_used = 100;
  merges.memory_capacity = 400;
  merges.merged = {Merged("old", 1), Merged("hot", 9), Merged("new", 0)};
  merges.merged[2].gain.reset();
  const std::string page = RenderMetrics(metrics_);
  for (
      const char* line :
      {"descant_merge_steps_total 70\n", "descant_merge_switches_total 4\n",
       "descant_merge_builds_total{outcome=\"ok\"} 3\n",
       "descant_merge_builds_total{outcome=\"failed\"} 1\n",
       "descant_merge_builds_total{outcome=\"refused\"} 2\n",
       "descant_merge_build_seconds_total 1.5\n",
       "descant_merge_measure_seconds_total 0.25\n",
       "descant_merge_saved_seconds_total 12.5\n",
       "descant_merge_memory_bytes 100\n",
       "descant_merge_memory_capacity_bytes 400\n",
       "descant_merged_adapter_info{adapter=\"hot\",digest=\"sha256:hot\"} 1\n",
       "descant_merged_adapter_info{adapter=\"new\",digest=\"sha256:new\"} 1\n",
       "descant_merge_gain_ratio{adapter=\"hot\"} 0.125\n"}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
  EXPECT_THAT(page, Not(HasSubstr("descant_merge_gain_ratio{adapter=\"new\"")));
}

TEST_F(MetricsTest, MergedAdaptersAreSeriesUnderACap) {
  for (int i = 0; i < 20; ++i) {
    stats_.merges.merged.push_back(Merged(absl::StrCat("m", i), i));
  }
  // Another version of a name that is there.
  stats_.merges.merged.push_back(Merged("m19", 18));
  stats_.merges.merged.back().digest = "sha256:before";
  const std::string page = RenderMetrics(metrics_);
  EXPECT_THAT(page,
              HasSubstr("info{adapter=\"m19\",digest=\"sha256:m19\"} 1\n"));
  EXPECT_THAT(page,
              HasSubstr("info{adapter=\"m19\",digest=\"sha256:before\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("descant_merge_gain_ratio{adapter=\"m18\"}"));
  EXPECT_THAT(page, Not(HasSubstr("adapter=\"m17\"")));
  const std::string gain = "descant_merge_gain_ratio{adapter=\"m19\"}";
  EXPECT_EQ(page.find(gain), page.rfind(gain)) << "one series a label set";
}

TEST_F(MetricsTest, TenantsAndTheUsageLog) {
  const std::string page = RenderMetrics(metrics_);
  for (const char* line :
       {"descant_tenant_requests_total{tenant=\"acme\"} 5\n",
        "descant_tenant_generated_tokens_total{tenant=\"acme\"} 40\n",
        "descant_tenant_requests_total{tenant=\"none\"} 0\n",
        "descant_usage_log_lines_total 5\n",
        "descant_usage_log_dropped_lines_total 2\n",
        "descant_usage_log_failures_total 1\n"}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
}

TEST_F(MetricsTest, ResidentAdaptersAreSeriesUnderACap) {
  residents_ = {Resident("cold", AdapterLevel::kHost),
                Resident("hot", AdapterLevel::kDevice)};
  residents_[1].pinned = true;
  std::string page = RenderMetrics(metrics_);
  EXPECT_THAT(
      page,
      HasSubstr("vllm:lora_adapter_loaded{adapter_name=\"acme/hot\",engine="
                "\"0\",level=\"gpu\",model_name=\"tiny\",pinned=\"true\",rank="
                "\"8\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("adapter_name=\"acme/cold\",engine=\"0\",level="
                              "\"cpu\""));
  EXPECT_THAT(page, HasSubstr("vllm:num_gpu_loaded_lora_adapters{engine=\"0\","
                              "model_name=\"tiny\"} 1\n"));
  for (int i = 0; i < 50; ++i) {
    residents_.insert(residents_.begin(),
                      Resident(absl::StrCat("c", i), AdapterLevel::kHost));
  }
  page = RenderMetrics(metrics_);
  EXPECT_THAT(page, HasSubstr("adapter_name=\"acme/hot\""));
  EXPECT_THAT(page, Not(HasSubstr("adapter_name=\"acme/c9\"")));
  residents_.clear();
  EXPECT_THAT(RenderMetrics(metrics_),
              Not(HasSubstr("vllm:lora_adapter_loaded")));
}

// "name|type|label,label" of every row of the table in server/METRICS.md.
std::set<std::string> DocumentedMetrics() {
  std::ifstream file(
      absl::StrCat(std::getenv("DESCANT_SOURCE_DIR"), "/server/METRICS.md"));
  std::set<std::string> rows;
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, "| `")) continue;
    std::vector<std::string> cells = absl::StrSplit(line, '|');
    EXPECT_EQ(cells.size(), 6u) << line;
    if (cells.size() != 6) continue;
    for (std::string& cell : cells) {
      cell = std::string(absl::StripAsciiWhitespace(cell));
    }
    EXPECT_FALSE(cells[4].empty()) << line;
    rows.insert(absl::StrCat(cells[1].substr(1, cells[1].find('`', 1) - 1), "|",
                             cells[2], "|",
                             absl::StrReplaceAll(cells[3], {{", ", ","}})));
  }
  return rows;
}

const char* TypeName(prometheus::MetricType type) {
  switch (type) {
    case prometheus::MetricType::Counter:
      return "counter";
    case prometheus::MetricType::Gauge:
      return "gauge";
    case prometheus::MetricType::Histogram:
      return "histogram";
    default:
      return "other";
  }
}

TEST_F(MetricsTest, TheDocumentedTableIsWhatIsExported) {
  residents_ = {Resident("alpha", AdapterLevel::kDevice)};
  stats_.merges.merged = {Merged("alpha", 1)};
  metrics_.RecordGeneration(Record("alpha"));
  metrics_.RecordUpload("OK", 10, std::chrono::seconds(1));
  metrics_.RecordRefusal("Generate", "INVALID_ARGUMENT");
  std::set<std::string> exported;
  for (const auto& family : metrics_.Collect()) {
    std::set<std::string> labels;
    for (const auto& metric : family.metric) {
      for (const auto& label : metric.label) labels.insert(label.name);
    }
    exported.insert(absl::StrCat(family.name, "|", TypeName(family.type), "|",
                                 absl::StrJoin(labels, ",")));
  }
  EXPECT_EQ(DocumentedMetrics(), exported);
}

TEST_F(MetricsTest, EveryFamilyAppearsOnce) {
  metrics_.RecordGeneration(Record("alpha"));
  metrics_.RecordUpload("OK", 10, std::chrono::seconds(1));
  metrics_.RecordRefusal("Generate", "INVALID_ARGUMENT");
  std::map<std::string, int> seen;
  for (const auto& family : metrics_.Collect()) {
    EXPECT_EQ(++seen[family.name], 1) << family.name;
    EXPECT_FALSE(family.help.empty()) << family.name;
  }
  EXPECT_GT(seen.size(), 25u);
}

}  // namespace
}  // namespace descant
