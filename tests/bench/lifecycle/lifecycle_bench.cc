// What the life of adapters costs those who wait for one and those who don't:
// cold starts, the latency of others while adapters load, lists and memory of
// many registered adapters. Starts real servers with the demo model.
//
//   lifecycle_bench [--smoke] [--only cold,paging,registered] [--json FILE]
//
// Bars (a smoke run has twice the slack and fewer repetitions, and measures a
// part whose bar it missed again, up to three times: it looks for what got
// slower, not for a busy neighbour): exit code 1 where one is not met.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "runtime/base/check.h"
#include "server/cli/bench/statistics.h"
#include "tests/bench/machine/machine.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::bench {
namespace {

using cli::Quantile;
using e2e::ServerProcess;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

const std::vector<int64_t> kPrompt = {504, 3575, 282, 4649, 314};
constexpr int kStreams = 4;
constexpr int kColdAdapters = 200;

double Milliseconds(Clock::duration took) {
  return std::chrono::duration<double, std::milli>(took).count();
}

class Bench {
 public:
  explicit Bench(bool smoke) : smoke_(smoke) {}

  void Cold();
  void Paging();
  void Registered();
  // One of those.
  void Measure(void (Bench::*part)()) {
    for (int attempts = smoke_ ? 3 : 1; attempts > 0; --attempts) {
      part_failed_ = false;
      (this->*part)();
      if (!part_failed_) return;
    }
    failed_ = true;
  }

  bool failed() const { return failed_; }
  const Json& results() const { return results_; }

 private:
  // A bar: `value` is to be at most `limit`.
  void Hold(const std::string& what, double value, double limit,
            const std::string& unit) {
    const double allowed = smoke_ ? 2 * limit : limit;
    const bool met = value <= allowed;
    part_failed_ = part_failed_ || !met;
    std::printf("%-58s %10.3f %-4s bar %g%s: %s\n", what.c_str(), value,
                unit.c_str(), limit, smoke_ ? " x 2" : "",
                met ? "met" : "NOT MET");
    results_["bars"].push_back({{"what", what},
                                {"value", value},
                                {"unit", unit},
                                {"limit", limit},
                                {"met", met}});
  }

  const bool smoke_;
  bool failed_ = false;
  bool part_failed_ = false;
  Json results_;
};

std::unique_ptr<ServerProcess> StartServer(std::vector<std::string> flags) {
  e2e::ServerOptions options;
  options.flags = std::move(flags);
  auto server = ServerProcess::Start(options);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
  }
  DESCANT_CHECK(server.ok());
  return *std::move(server);
}

std::string NameOf(int i) { return absl::StrCat("adapter-", i); }

// Uploads `count` adapters, several at a time.
void UploadMany(ServerProcess& server, int count,
                const std::vector<std::string>& suffixes, int32_t rank) {
  const v1::GetModelResponse model = e2e::GetModel(server);
  std::atomic<int> next = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = next++; i < count; i = next++) {
        const auto files = e2e::RandomAdapterFor(
            model, suffixes, {.rank = rank, .seed = 1u + i});
        DESCANT_CHECK(e2e::Upload(server, NameOf(i), files).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void Load(ServerProcess& server, const std::string& id,
          v1::AdapterLevel level) {
  grpc::ClientContext context;
  v1::LoadAdapterRequest request;
  request.mutable_adapter()->set_adapter_id(id);
  request.set_level(level);
  v1::LoadAdapterResponse response;
  DESCANT_CHECK(server.admin().LoadAdapter(&context, request, &response).ok());
}

void Unload(ServerProcess& server, const std::string& id) {
  grpc::ClientContext context;
  v1::UnloadAdapterRequest request;
  request.mutable_adapter()->set_adapter_id(id);
  v1::UnloadAdapterResponse response;
  DESCANT_CHECK(
      server.admin().UnloadAdapter(&context, request, &response).ok());
}

// Time of a request for one token.
double FirstToken(ServerProcess& server, const std::string& id) {
  const auto start = Clock::now();
  const e2e::Answer answer =
      e2e::Ask(server, e2e::GreedyRequest(kPrompt, id, 1));
  const double took = Milliseconds(Clock::now() - start);
  DESCANT_CHECK(answer.status.ok());
  return took;
}

// The first token of an adapter that is only on disk, beside one that is in the
// host's memory and one that is on the device; in turn, on a quiet server.
void Bench::Cold() {
  const auto server = StartServer({});
  UploadMany(*server, 4, {".q_proj", ".v_proj"}, 8);
  std::vector<double> resident, host, disk, differences;
  const int rounds = smoke_ ? 15 : 61;
  for (int i = 0; i < rounds; ++i) {
    const std::string id = NameOf(i % 4);
    Load(*server, id, v1::ADAPTER_LEVEL_DEVICE);
    resident.push_back(FirstToken(*server, id));
    Unload(*server, id);
    Load(*server, id, v1::ADAPTER_LEVEL_HOST);
    host.push_back(FirstToken(*server, id));
    Unload(*server, id);
    disk.push_back(FirstToken(*server, id));
    differences.push_back(disk.back() - resident.back());
  }
  std::printf(
      "first token, rank 8 on q and v, median of %d: device %.2f ms, host %.2f "
      "ms, disk %.2f ms\n",
      rounds, Quantile(resident, .5), Quantile(host, .5), Quantile(disk, .5));
  results_["cold"] = {
      {"device_ms", resident}, {"host_ms", host}, {"disk_ms", disk}};
  Hold("cold start over a resident one, median", Quantile(differences, .5), 10,
       "ms");
  Hold("cold start over a resident one, p90", Quantile(differences, .9), 10,
       "ms");
}

// Streams that run as long as `window` asks; gaps between their tokens, in ms.
std::vector<double> GapsDuring(ServerProcess& server,
                               const std::function<void()>& window) {
  std::atomic<bool> stop = false;
  std::atomic<int> warm = 0;
  std::atomic<bool> counting = false;
  std::vector<std::vector<double>> gaps(kStreams);
  std::vector<std::thread> threads;
  for (int s = 0; s < kStreams; ++s) {
    threads.emplace_back([&, s] {
      bool first = true;
      while (!stop) {
        grpc::ClientContext context;
        v1::GenerateStreamRequest request;
        *request.mutable_request() =
            e2e::GreedyRequest(kPrompt, NameOf(s), 1500);
        auto reader = server.generation().GenerateStream(&context, request);
        v1::GenerateStreamResponse response;
        Clock::time_point last;
        int tokens = 0;
        while (!stop && reader->Read(&response)) {
          const auto now = Clock::now();
          // The first ones of a stream share steps with prefills.
          if (++tokens > 8 && counting) {
            gaps[s].push_back(Milliseconds(now - last));
          }
          if (tokens == 8 && first) ++warm;
          if (tokens == 8) first = false;
          last = now;
        }
        context.TryCancel();
        while (reader->Read(&response)) {
        }
        reader->Finish();
      }
    });
  }
  while (warm < kStreams)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  counting = true;
  window();
  counting = false;
  stop = true;
  for (std::thread& thread : threads) thread.join();
  std::vector<double> all;
  for (const auto& some : gaps) all.insert(all.end(), some.begin(), some.end());
  return all;
}

// Running streams' latency while cold adapters load, beside quiet windows of
// the same length, in turn.
void Bench::Paging() {
  const int count = kStreams + kColdAdapters;
  // Few slots: most of the loads evict.
  const auto server = StartServer({"--max-adapters=16"});
  UploadMany(*server, count, {".q_proj", ".v_proj"}, 8);
  std::vector<double> ratios, quiet_p99, loading_p99, took;
  const int rounds = smoke_ ? 1 : 5;
  for (int round = 0; round < rounds; ++round) {
    Clock::duration window{};
    const std::vector<double> loading = GapsDuring(*server, [&] {
      const auto start = Clock::now();
      std::atomic<int> next = kStreams;
      std::vector<std::thread> threads;
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
          for (int i = next++; i < count; i = next++) {
            Load(*server, NameOf(i), v1::ADAPTER_LEVEL_DEVICE);
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      window = Clock::now() - start;
    });
    for (int i = kStreams; i < count; ++i) Unload(*server, NameOf(i));
    const std::vector<double> quiet =
        GapsDuring(*server, [&] { std::this_thread::sleep_for(window); });
    took.push_back(Milliseconds(window));
    quiet_p99.push_back(Quantile(quiet, .99));
    loading_p99.push_back(Quantile(loading, .99));
    ratios.push_back(loading_p99.back() / quiet_p99.back());
    std::printf(
        "%d cold adapters in %.0f ms; gaps p50 %.2f / %.2f, p99 %.2f / %.2f ms "
        "(loading / quiet)\n",
        kColdAdapters, took.back(), Quantile(loading, .5), Quantile(quiet, .5),
        loading_p99.back(), quiet_p99.back());
  }
  results_["paging"] = {{"window_ms", took},
                        {"quiet_p99_ms", quiet_p99},
                        {"loading_p99_ms", loading_p99}};
  Hold("others' p99 gap while 200 cold adapters load / quiet",
       Quantile(ratios, .5), 1.5, "x");
}

int64_t ResidentBytes(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  std::string word;
  int64_t kib = 0;
  while (file >> word) {
    if (word == "RssAnon:") file >> kib;
  }
  return kib << 10;
}

// Many registered adapters: a page of the list, memory, and the next start.
void Bench::Registered() {
  const int count = smoke_ ? 1000 : 10000;
  const e2e::TemporaryFolder folder;
  e2e::ServerOptions options;
  options.adapter_dir = folder.path() + "/store";
  options.flags = {"--host-adapter-memory=0"};
  const auto start = [&options] {
    auto server = ServerProcess::Start(options);
    DESCANT_CHECK(server.ok());
    return *std::move(server);
  };
  double without_ms = 0;
  int64_t without_bytes = 0;
  {
    const auto begin = Clock::now();
    const auto server = start();
    without_ms = Milliseconds(Clock::now() - begin);
    without_bytes = ResidentBytes(server->pid());
    UploadMany(*server, count, {"layers.0.self_attn.q_proj"}, 1);
    server->Terminate();
  }
  const auto begin = Clock::now();
  const auto server = start();
  const double ready_ms = Milliseconds(Clock::now() - begin);
  const int64_t bytes = ResidentBytes(server->pid());
  std::vector<double> pages;
  for (int i = 0; i < 51; ++i) {
    grpc::ClientContext context;
    v1::ListAdaptersRequest request;
    request.set_page_size(1000);
    v1::ListAdaptersResponse response;
    const auto asked = Clock::now();
    DESCANT_CHECK(
        server->adapters().ListAdapters(&context, request, &response).ok());
    pages.push_back(Milliseconds(Clock::now() - asked));
    DESCANT_CHECK(response.adapters_size() == std::min(count, 1000));
  }
  const double each = static_cast<double>(bytes - without_bytes) / count;
  std::printf("%d registered: ready after %.0f ms, without them %.0f ms\n",
              count, ready_ms, without_ms);
  results_["registered"] = {{"count", count},
                            {"ready_ms", ready_ms},
                            {"ready_without_ms", without_ms},
                            {"page_ms", pages},
                            {"bytes_each", each}};
  Hold("a page of 1,000 of the list, p99", Quantile(pages, .99), 50, "ms");
  Hold("memory of a registered adapter", each, 1024, "B");
  Hold("start with them over a start without", (ready_ms - without_ms) / 1000,
       3, "s");
}

int Main(int argc, char** argv) {
  CLI::App app("Cold starts, paging, many registered adapters");
  bool smoke = false;
  std::vector<std::string> only = {"cold", "paging", "registered"};
  std::string json;
  app.add_flag("--smoke", smoke, "Few repetitions, twice the slack");
  app.add_option("--only", only, "Parts")->delimiter(',');
  app.add_option("--json", json, "Results as JSON");
  CLI11_PARSE(app, argc, argv);
  const Machine machine = DescribeMachine();
  std::printf("%s, %d cores, commit %s, %s\n", machine.cpu.c_str(),
              machine.cores, machine.commit.c_str(), machine.date.c_str());
  Bench bench(smoke);
  const auto wanted = [&only](const char* part) {
    return std::find(only.begin(), only.end(), part) != only.end();
  };
  if (wanted("cold")) bench.Measure(&Bench::Cold);
  if (wanted("paging")) bench.Measure(&Bench::Paging);
  if (wanted("registered")) bench.Measure(&Bench::Registered);
  if (!json.empty()) {
    Json all = bench.results();
    all["machine"] = {{"cpu", machine.cpu},
                      {"cores", machine.cores},
                      {"commit", machine.commit},
                      {"date", machine.date}};
    std::ofstream(json) << all.dump(1) << "\n";
  }
  return bench.failed() ? 1 : 0;
}

}  // namespace
}  // namespace descant::bench

int main(int argc, char** argv) { return descant::bench::Main(argc, argv); }
