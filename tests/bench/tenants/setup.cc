#include "tests/bench/tenants/setup.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "server/cli/adapter_upload.h"
#include "server/cli/connection.h"
#include "tests/e2e/client.h"

namespace descant::bench {
namespace {

std::string KeyOf(const BenchTenant& tenant) {
  return absl::StrCat("bench-key-of-", tenant.id);
}

// Only its owner may have access to it.
void WriteTenants(const std::vector<BenchTenant>& tenants,
                  const std::string& path) {
  std::ofstream file(path);
  file << "tenants:\n";
  for (const BenchTenant& tenant : tenants) {
    file << "  - id: " << tenant.id << "\n    weight: " << tenant.weight
         << "\n    keys: [{id: k1, sha256: " << cli::Sha256Hex(KeyOf(tenant))
         << "}]\n";
  }
  file.close();
  DESCANT_CHECK(file.good());
  std::filesystem::permissions(path, std::filesystem::perms::owner_read |
                                         std::filesystem::perms::owner_write);
}

}  // namespace

std::vector<std::string> FlagsAfter(std::vector<std::string> flags,
                                    const BenchOptions& options) {
  flags.insert(flags.end(), options.server_flags.begin(),
               options.server_flags.end());
  return flags;
}

void Bars::Show(const std::string& what, double value, double limit,
                const std::string& unit, bool met) {
  failed_ = failed_ || !met;
  std::printf("%-58s %10.3f %-4s bar %g%s: %s\n", what.c_str(), value,
              unit.c_str(), limit, smoke_ ? " with twice the slack" : "",
              met ? "met" : "NOT MET");
  std::fflush(stdout);
  results_["bars"].push_back({{"what", what},
                              {"value", value},
                              {"unit", unit},
                              {"limit", limit},
                              {"met", met}});
}

void Bars::AtMost(const std::string& what, double value, double limit,
                  const std::string& unit) {
  Show(what, value, limit, unit, value <= (smoke_ ? 2 * limit : limit));
}

void Bars::AtLeast(const std::string& what, double value, double limit) {
  Show(what, value, limit, "x", value >= (smoke_ ? 2 * limit - 1 : limit));
}

TenantServer::TenantServer(const std::vector<BenchTenant>& tenants,
                           const std::vector<std::string>& flags) {
  e2e::ServerOptions options;
  options.flags = flags;
  for (const BenchTenant& tenant : tenants) keys_.push_back(KeyOf(tenant));
  if (tenants.empty()) {
    keys_.push_back("");
  } else {
    const std::string path = folder_.path() + "/tenants.yaml";
    WriteTenants(tenants, path);
    options.flags.push_back("--tenants=" + path);
  }
  auto process = e2e::ServerProcess::Start(options);
  if (!process.ok()) {
    std::fprintf(stderr, "%s\n", process.status().ToString().c_str());
  }
  DESCANT_CHECK(process.ok());
  process_ = *std::move(process);
}

void TenantServer::Upload(int tenant, const std::string& name, uint64_t seed) {
  const cli::Connection connection =
      cli::Connect(process_->target(), {.api_key = keys_[tenant]});
  grpc::ClientContext context;
  v1::GetModelResponse model;
  DESCANT_CHECK(connection.generation->GetModel(&context, {}, &model).ok());
  const auto files = e2e::RandomAdapterFor(model, {".q_proj", ".v_proj"},
                                           {.rank = 8, .seed = seed});
  v1::UploadAdapterHeader header;
  header.set_name(name);
  header.set_config_json(files.config_json);
  header.set_format(v1::ADAPTER_FORMAT_SAFETENSORS);
  v1::UploadAdapterResponse response;
  DESCANT_CHECK(cli::UploadAdapter(connection.adapters.get(), std::move(header),
                                   files.safetensors_bytes, nullptr, &response)
                    .ok());
}

std::vector<int64_t> RequestMaker::Tokens(int count) {
  std::vector<int64_t> tokens(count);
  for (int64_t& token : tokens) {
    token = static_cast<int64_t>(generator_() % vocab_size_);
  }
  return tokens;
}

v1::GenerateRequest RequestMaker::Make(const std::string& adapter, int prompt,
                                       int output) {
  return e2e::GreedyRequest(Tokens(prompt), adapter, output);
}

int32_t VocabSize(TenantServer& server) {
  const cli::Connection connection = cli::Connect(
      server.process().target(), {.api_key = server.keys().front()});
  grpc::ClientContext context;
  v1::GetModelResponse model;
  DESCANT_CHECK(connection.generation->GetModel(&context, {}, &model).ok());
  return model.vocab_size();
}

int64_t ResidentBytes(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  int64_t kib = 0;
  for (std::string word; file >> word;) {
    if (word == "VmRSS:") file >> kib;
  }
  DESCANT_CHECK(kib > 0);
  return kib << 10;
}

int64_t TokensWithin(const std::vector<CallOutcome>& outcomes, int tenant,
                     double begin, double end) {
  int64_t tokens = 0;
  for (const CallOutcome& outcome : outcomes) {
    if (tenant >= 0 && outcome.tenant != tenant) continue;
    for (const TokensAt& message : outcome.messages) {
      if (message.at >= begin && message.at < end) tokens += message.tokens;
    }
  }
  return tokens;
}

Latencies LatenciesOf(const std::vector<CallOutcome>& outcomes,
                      const std::function<bool(const CallOutcome&)>& filter) {
  Latencies result;
  for (const CallOutcome& outcome : outcomes) {
    if (!filter(outcome)) continue;
    if (!outcome.ok()) ++result.failed;
    const auto& messages = outcome.messages;
    if (messages.empty()) continue;
    result.first.push_back(1e3 * (messages[0].at - outcome.due));
    for (size_t i = 1; i < messages.size(); ++i) {
      result.gaps.push_back(1e3 * (messages[i].at - messages[i - 1].at) /
                            messages[i].tokens);
    }
  }
  return result;
}

}  // namespace descant::bench
