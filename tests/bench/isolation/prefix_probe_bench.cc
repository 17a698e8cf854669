// Whether one tenant can tell from the time to its first token what another one
// has sent (the prefix cache's side channel). A real server, two tenants. For
// each probe the victim sends the prompt that the attacker will time, or
// another one of the same length: the toss of a coin. From all probes of a
// kind, the area under the ROC curve of "it was faster, so it was sent": 0.5 is
// no knowledge, 1 certainty. Beside it the attacker is the victim's own tenant,
// so that the probe is seen to see. For a quiet machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "runtime/base/check.h"
#include "server/cli/adapter_upload.h"
#include "server/cli/bench/statistics.h"
#include "server/cli/connection.h"
#include "tests/bench/machine/machine.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"
#include "tests/e2e/tenants_file.h"

namespace descant::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;
using Prompt = std::vector<int64_t>;

// Across tenants at most this far from a guess, to either side; within a tenant
// at least this sure.
constexpr double kMostAcross = 0.6;
constexpr double kLeastWithin = 0.95;

struct Probe {
  bool sent = false;  // the victim had sent the same prompt
  double ms = 0;
};

// Mann and Whitney's statistic over its largest value: the share of pairs of a
// prompt that was sent and one that wasn't of which the first was faster; ties
// count half.
double AreaUnderRoc(const std::vector<Probe>& probes) {
  double faster = 0;
  double pairs = 0;
  for (const Probe& sent : probes) {
    for (const Probe& other : probes) {
      if (!sent.sent || other.sent) continue;
      pairs += 1;
      faster += sent.ms < other.ms ? 1 : sent.ms == other.ms ? 0.5 : 0;
    }
  }
  DESCANT_CHECK(pairs > 0);
  return faster / pairs;
}

struct Kind {
  const char* name;
  const cli::Connection* victim;
  const cli::Connection* attacker;
  std::string adapter_of_victim;
  std::string adapter_of_attacker;
  bool across = true;
  std::vector<Probe> probes;
  uint64_t cached = 0;  // tokens that the attacker's answers count
};

class Prober {
 public:
  Prober(uint32_t seed, int prompt_tokens, int64_t vocabulary)
      : random_(seed), prompt_tokens_(prompt_tokens), tokens_(0, vocabulary) {}

  void ProbeOnce(Kind* kind) {
    const Prompt timed = NewPrompt();
    const Prompt other = NewPrompt();
    Probe probe;
    probe.sent = random_() % 2 == 0;
    uint32_t cached = 0;
    Time(*kind->victim, kind->adapter_of_victim, probe.sent ? timed : other,
         &cached);
    probe.ms = Time(*kind->attacker, kind->adapter_of_attacker, timed, &cached);
    kind->cached += cached;
    kind->probes.push_back(probe);
  }

 private:
  Prompt NewPrompt() {
    Prompt prompt(static_cast<size_t>(prompt_tokens_));
    for (int64_t& token : prompt) token = tokens_(random_);
    return prompt;
  }

  // Milliseconds to an answer of one token.
  static double Time(const cli::Connection& as, const std::string& adapter,
                     const Prompt& prompt, uint32_t* cached) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(60));
    const v1::GenerateRequest request = e2e::GreedyRequest(prompt, adapter, 1);
    v1::GenerateResponse response;
    const auto start = Clock::now();
    const grpc::Status status =
        as.generation->Generate(&context, request, &response);
    const auto took = Clock::now() - start;
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.error_message().c_str());
    }
    DESCANT_CHECK(status.ok());
    *cached = response.usage().cached_tokens();
    return std::chrono::duration<double, std::milli>(took).count();
  }

  std::mt19937 random_;
  const int prompt_tokens_;
  std::uniform_int_distribution<int64_t> tokens_;
};

// Of `owner`, for all tenants.
void UploadShared(e2e::ServerProcess& server, const cli::Connection& owner) {
  grpc::ClientContext model_context;
  v1::GetModelResponse model;
  DESCANT_CHECK(owner.generation->GetModel(&model_context, {}, &model).ok());
  const AdapterFiles files =
      e2e::RandomAdapterFor(model, {".q_proj", ".v_proj"}, {.rank = 8});
  v1::UploadAdapterHeader header;
  header.set_name("shared");
  header.set_config_json(files.config_json);
  v1::UploadAdapterResponse uploaded;
  DESCANT_CHECK(cli::UploadAdapter(owner.adapters.get(), std::move(header),
                                   files.safetensors_bytes, nullptr, &uploaded)
                    .ok());
  grpc::ClientContext context;
  v1::ShareAdapterRequest request;
  request.set_adapter_id("shared");
  request.mutable_sharing()->set_all_tenants(true);
  v1::ShareAdapterResponse response;
  DESCANT_CHECK(
      owner.adapters->ShareAdapter(&context, request, &response).ok());
  DESCANT_CHECK(server.Healthy());
}

// The median time of the probes whose prompt was sent, or wasn't.
double MedianOf(const Kind& kind, bool sent) {
  std::vector<double> times;
  for (const Probe& probe : kind.probes) {
    if (probe.sent == sent) times.push_back(probe.ms);
  }
  return times.empty() ? 0 : cli::Quantile(times, 0.5);
}

// Whether its bar is met.
bool Report(const Kind& kind, Json* results) {
  const double area = AreaUnderRoc(kind.probes);
  const bool met =
      kind.across ? std::max(area, 1 - area) <= kMostAcross && kind.cached == 0
                  : area >= kLeastWithin;
  std::printf(
      "%-44s %zu probes, median %.2f ms sent, %.2f ms not, %llu cached "
      "tokens, ROC AUC %.3f (bar %s): %s\n",
      kind.name, kind.probes.size(), MedianOf(kind, true),
      MedianOf(kind, false), static_cast<unsigned long long>(kind.cached), area,
      kind.across ? "0.4 to 0.6" : "0.95", met ? "met" : "NOT MET");
  results->push_back({{"kind", kind.name},
                      {"probes", kind.probes.size()},
                      {"auc", area},
                      {"cached_tokens", kind.cached},
                      {"met", met}});
  return met;
}

int Main(int argc, char** argv) {
  CLI::App app("What a tenant's first tokens tell about another's prompts");
  int probes = 400;
  int prompt_tokens = 128;
  uint32_t seed = 20261126;
  std::string json;
  app.add_option("--probes", probes, "Of each kind")
      ->check(CLI::Range(8, 1 << 20));
  app.add_option("--prompt-tokens", prompt_tokens, "Of each prompt");
  app.add_option("--seed", seed, "Of prompts and coins");
  app.add_option("--json", json, "Results as JSON");
  CLI11_PARSE(app, argc, argv);
  const Machine machine = DescribeMachine();
  std::printf("%s, %d cores, commit %s, %s, seed %u\n", machine.cpu.c_str(),
              machine.cores, machine.commit.c_str(), machine.date.c_str(),
              seed);
  const e2e::TemporaryFolder folder;
  e2e::ServerOptions options;
  options.flags = {"--tenants=" + e2e::WriteTenantsFile(
                                      folder.path(), {"victim", "attacker"})};
  auto server = e2e::ServerProcess::Start(options);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
    return 1;
  }
  const auto connect = [&server](const char* tenant) {
    return cli::Connect((*server)->target(),
                        {.api_key = e2e::KeyOfTenant(tenant)});
  };
  const cli::Connection victim = connect("victim");
  const cli::Connection attacker = connect("attacker");
  const cli::Connection same = connect("victim");
  UploadShared(**server, victim);
  std::vector<Kind> kinds = {
      {"across tenants, base model", &victim, &attacker, "", ""},
      {"across tenants, the victim's shared adapter", &victim, &attacker,
       "shared", "victim/shared"},
      {"across tenants, the attacker is the owner", &attacker, &victim,
       "victim/shared", "shared"},
      {"within a tenant, base model", &victim, &same, "", "", false},
      {"within a tenant, shared adapter", &victim, &same, "shared", "shared",
       false}};
  constexpr int64_t kTokens = 40000;  // of the demo model's 49,152
  Prober prober(seed, prompt_tokens, kTokens);
  // In turn, so that a busy moment of the machine is everybody's.
  for (int i = 0; i < probes; ++i) {
    for (Kind& kind : kinds) prober.ProbeOnce(&kind);
  }
  Json results = Json::array();
  bool all_met = true;
  for (const Kind& kind : kinds) all_met = Report(kind, &results) && all_met;
  if (!json.empty()) std::ofstream(json) << results.dump(1) << "\n";
  return all_met ? 0 : 1;
}

}  // namespace
}  // namespace descant::bench

int main(int argc, char** argv) { return descant::bench::Main(argc, argv); }
