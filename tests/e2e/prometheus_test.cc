// A real Prometheus scrapes the real server: every metric of the table in
// server/METRICS.md arrives with its type, its labels and fresh values.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/cli/child_process.h"
#include "tests/e2e/client.h"
#include "tests/e2e/metrics_page.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

using Json = nlohmann::json;

constexpr auto kTimeout = std::chrono::seconds(60);
constexpr int kRequests = 9;
constexpr int kTokens = 12;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Documented {
  std::string type;
  std::string labels;  // sorted, with commas
};

std::map<std::string, Documented> DocumentedMetrics() {
  std::map<std::string, Documented> metrics;
  for (absl::string_view line :
       absl::StrSplit(ReadAll(SourcePath("server/METRICS.md")), '\n')) {
    if (!absl::StartsWith(line, "| `")) continue;
    const std::vector<std::string> cells = absl::StrSplit(line, '|');
    const std::string name =
        cells.at(1).substr(2, cells.at(1).find('`', 2) - 2);
    metrics[name] = {
        std::string(absl::StripAsciiWhitespace(cells.at(2))),
        absl::StrReplaceAll(absl::StripAsciiWhitespace(cells.at(3)),
                            {{", ", ","}})};
  }
  return metrics;
}

// Debian's prometheus, scraping one target twice a second.
class Prometheus {
 public:
  explicit Prometheus(int target_port) {
    const auto ports = cli::FreeLoopbackPorts(1);
    EXPECT_TRUE(ports.ok());
    port_ = ports->front();
    std::ofstream(folder_.path() + "/prometheus.yml")
        << "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
           "scrape_configs:\n"
           "  - job_name: descant\n"
           "    static_configs: [{targets: ['127.0.0.1:"
        << target_port << "']}]\n";
    auto child = cli::ChildProcess::Start(
        {"/usr/bin/prometheus",
         "--config.file=" + folder_.path() + "/prometheus.yml",
         "--storage.tsdb.path=" + folder_.path() + "/data",
         absl::StrCat("--web.listen-address=127.0.0.1:", port_)},
        {}, folder_.path() + "/prometheus.log");
    EXPECT_TRUE(child.ok())
        << child.status() << " (the Debian package prometheus)";
    if (child.ok()) {
      child_ = std::make_unique<cli::ChildProcess>(*std::move(child));
    }
  }

  // `data` of the API's answer; null while there is none.
  Json Get(const std::string& path) const {
    const auto body = HttpGet(port_, "/api/v1/" + path);
    if (!body.ok()) return nullptr;
    const Json json = Json::parse(*body, nullptr, /*allow_exceptions=*/false);
    return json.is_object() && json.value("status", "") == "success"
               ? json["data"]
               : Json();
  }

  // Value of a query that has one series as its result; NaN where it has not.
  double Query(const std::string& expression) const {
    std::string escaped;
    for (const char c : expression) {
      absl::StrAppend(&escaped,
                      absl::ascii_isalnum(c)
                          ? std::string(1, c)
                          : absl::StrCat("%", absl::Hex(c, absl::kZeroPad2)));
    }
    const Json data = Get("query?query=" + escaped);
    double value = std::nan("");
    if (data.is_object() && data["result"].size() == 1) {
      EXPECT_TRUE(absl::SimpleAtod(
          data["result"][0]["value"][1].get<std::string>(), &value));
    }
    return value;
  }

  std::string Log() const {
    return ReadAll(folder_.path() + "/prometheus.log");
  }

 private:
  const TemporaryFolder folder_;
  int port_ = 0;
  std::unique_ptr<cli::ChildProcess> child_;
};

// Uploads, answers, and a call that is refused: so that every series exists.
void MakeTraffic(ServerProcess& server) {
  const v1::GetModelResponse model = GetModel(server);
  for (const char* name : {"one", "two"}) {
    ASSERT_TRUE(
        Upload(server, name, RandomAdapterFor(model, {".q_proj"}, {})).ok());
  }
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < kRequests; ++i) {
    requests.push_back(GreedyRequest({504, 3575, 282, 4649, 314 + i},
                                     i % 3 == 0   ? "one"
                                     : i % 3 == 1 ? "two"
                                                  : "",
                                     kTokens));
  }
  for (const Answer& answer :
       AskTogether(server, requests, 4, Streaming::kEverySecond)) {
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  }
  ASSERT_FALSE(Ask(server, GreedyRequest({1}, "unknown", 1)).status.ok());
}

v1::MergeStatus MergeOf(ServerProcess& server, const std::string& name) {
  grpc::ClientContext context;
  v1::ListMergesResponse merges;
  EXPECT_TRUE(server.admin().ListMerges(&context, {}, &merges).ok());
  for (const v1::MergeStatus& status : merges.adapters()) {
    if (status.name() == name) return status;
  }
  return {};
}

// An adapter with merged weights, whose gain was measured before: one that
// slows steps enough for that to take seconds. Returns how many answers of
// kTokens it took.
int MakeMerge(ServerProcess& server) {
  EXPECT_TRUE(Upload(server, "merged",
                     RandomAdapterFor(GetModel(server), {"_proj"},
                                      {.rank = 64, .seed = 7}))
                  .ok());
  const auto end = std::chrono::steady_clock::now() + 3 * kTimeout;
  int answers = 0;
  const auto ask_until = [&](const auto& done) {
    while (!done(MergeOf(server, "merged"))) {
      ASSERT_LT(std::chrono::steady_clock::now(), end);
      ASSERT_TRUE(Ask(server, GreedyRequest({504, 3575}, "merged", kTokens))
                      .status.ok());
      ++answers;
    }
  };
  ask_until([](const v1::MergeStatus& status) { return status.has_gain(); });
  grpc::ClientContext context;
  v1::SetMergeModeRequest request;
  request.mutable_adapter()->set_adapter_id("merged");
  request.set_mode(v1::MERGE_MODE_PINNED);
  v1::SetMergeModeResponse response;
  EXPECT_TRUE(server.admin().SetMergeMode(&context, request, &response).ok());
  ask_until([](const v1::MergeStatus& status) {
    return status.state() == v1::MERGE_STATE_MERGED;
  });
  return answers;
}

class PrometheusTest : public testing::Test {
 protected:
  void SetUp() override {
    // Its metrics are there only with one.
    std::ofstream(folder_.path() + "/manifest.yaml") << "adapters: []\n";
    ServerOptions options;
    options.flags = {
        absl::StrCat("--adapters-manifest=", folder_.path(), "/manifest.yaml"),
        absl::StrCat("--usage-log=", folder_.path(), "/usage.jsonl"),
        "--hot-merge=auto"};
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    MakeTraffic(*server_);
  }

  const TemporaryFolder folder_;
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(PrometheusTest, EveryDocumentedMetricIsScraped) {
  const int of_merge = MakeMerge(*server_);
  const Prometheus prometheus(server_->metrics_port());
  const double expected = (kRequests + of_merge) * kTokens;
  const auto end = std::chrono::steady_clock::now() + kTimeout;
  while (prometheus.Query("sum(vllm:generation_tokens_total)") != expected) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << prometheus.Log();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  // Two more scrapes, so that nothing is what only the first one saw.
  const double first = prometheus.Query("descant_scrapes_total");
  while (!(prometheus.Query("descant_scrapes_total") >= first + 2)) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << prometheus.Log();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  EXPECT_EQ(prometheus.Query("up{job=\"descant\"}"), 1);

  // Names and types, as Prometheus read them.
  const std::map<std::string, Documented> documented = DocumentedMetrics();
  ASSERT_GT(documented.size(), 40u);
  std::map<std::string, std::string> types;
  for (const Json& entry : prometheus.Get("targets/metadata?limit=10000")) {
    types[entry["metric"]] = entry["type"];
    EXPECT_NE(entry["help"], "") << entry.dump();
    EXPECT_TRUE(documented.contains(entry["metric"].get<std::string>()))
        << entry["metric"] << " is not in server/METRICS.md";
  }
  for (const auto& [name, metric] : documented) {
    EXPECT_EQ(types[name], metric.type) << name;
  }

  // Labels, and samples of the last three seconds for every series.
  std::map<std::string, std::set<std::string>> labels;
  std::map<std::string, double> newest;
  const Json data =
      prometheus.Get("query?query=%7Bjob%3D%22descant%22%7D%5B3s%5D");
  ASSERT_TRUE(data.is_object());
  for (const Json& series : data["result"]) {
    std::string name = series["metric"]["__name__"];
    for (const char* suffix : {"_bucket", "_sum", "_count"}) {
      const std::string stem = name.substr(0, name.rfind(suffix));
      if (absl::EndsWith(name, suffix) && documented.contains(stem)) {
        name = stem;
      }
    }
    EXPECT_GE(series["values"].size(), 2u) << series["metric"].dump();
    newest[name] = series["values"].back()[0].get<double>();
    for (const auto& [label, value] : series["metric"].items()) {
      if (label != "__name__" && label != "job" && label != "instance" &&
          label != "le" && label != "quantile") {
        labels[name].insert(label);
      }
    }
  }
  // Prometheus drops labels whose value is empty, as these lists may be.
  labels["vllm:lora_requests_info"].insert(
      {"running_lora_adapters", "waiting_lora_adapters"});
  for (const auto& [name, metric] : documented) {
    EXPECT_TRUE(newest.contains(name)) << name << " has no fresh sample";
    EXPECT_EQ(absl::StrJoin(labels[name], ","), metric.labels) << name;
  }

  // And what a dashboard asks of them.
  EXPECT_EQ(prometheus.Query(
                "sum(vllm:request_success_total{finished_reason=\"length\"})"),
            kRequests + of_merge);
  EXPECT_EQ(prometheus.Query(
                "descant_adapter_generated_tokens_total{adapter=\"one\"}"),
            kRequests * kTokens / 3);
  EXPECT_GT(prometheus.Query("histogram_quantile(0.99, sum by (le) "
                             "(vllm:time_to_first_token_seconds_bucket))"),
            0);
  EXPECT_GT(prometheus.Query("descant_rows_total / descant_steps_total"), 1);
}

// The colon of the gateways' names is the only thing to say of the page.
TEST_F(PrometheusTest, PromtoolFindsOnlyTheColons) {
  const TemporaryFolder folder;
  const auto page = HttpGet(server_->metrics_port(), "/metrics");
  ASSERT_TRUE(page.ok()) << page.status();
  std::ofstream(folder.path() + "/page") << *page;
  auto child = cli::ChildProcess::Start(
      {"/bin/sh", "-c",
       "exec /usr/bin/promtool check metrics <" + folder.path() + "/page"},
      {}, folder.path() + "/log");
  ASSERT_TRUE(child.ok());
  const int exit_code = child->Wait(kTimeout).value_or(-1);
  const std::string log = ReadAll(folder.path() + "/log");
  // 3: lint; 1 would be a page that cannot be parsed.
  EXPECT_EQ(exit_code, 3) << log;
  int findings = 0;
  for (absl::string_view line : absl::StrSplit(log, '\n', absl::SkipEmpty())) {
    ++findings;
    EXPECT_TRUE(absl::StartsWith(line, "vllm:") &&
                absl::EndsWith(line, "metric names should not contain ':'"))
        << line;
  }
  EXPECT_GT(findings, 10);
}

}  // namespace
}  // namespace descant::e2e
