// What the parts of tenants_bench share: servers with tenants, requests, bars.
#ifndef DESCANT_TESTS_BENCH_TENANTS_SETUP_H_
#define DESCANT_TESTS_BENCH_TENANTS_SETUP_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/bench/tenants/traffic.h"
#include "tests/e2e/server_process.h"

namespace descant::bench {

struct BenchOptions {
  bool smoke = false;   // short, twice the slack
  double seconds = 60;  // of a window that is measured
  uint64_t seed = 1;
  int prompt = 64;  // tokens of an ordinary request
  int output = 32;
  double light_load = 0.2;  // what a light tenant sends, of its share
  std::vector<std::string> server_flags;
};

// `flags` of a part, then those that were asked for, which win.
std::vector<std::string> FlagsAfter(std::vector<std::string> flags,
                                    const BenchOptions& options);

// Prints what is held against a bar, and keeps it for the report.
class Bars {
 public:
  explicit Bars(bool smoke) : smoke_(smoke) {}

  void AtMost(const std::string& what, double value, double limit,
              const std::string& unit);
  // `limit` is a fraction: twice the slack is twice what it may miss 1 by.
  void AtLeast(const std::string& what, double value, double limit);
  // Figures that no bar is for.
  void Note(const std::string& part, const nlohmann::json& figures) {
    results_[part].push_back(figures);
  }

  bool failed() const { return failed_; }
  const nlohmann::json& results() const { return results_; }

 private:
  void Show(const std::string& what, double value, double limit,
            const std::string& unit, bool met);

  const bool smoke_;
  bool failed_ = false;
  nlohmann::json results_;
};

struct BenchTenant {
  std::string id;
  int weight = 1;
};

// The real server with these tenants; none: with tenants off. An error ends
// the process.
class TenantServer {
 public:
  TenantServer(const std::vector<BenchTenant>& tenants,
               const std::vector<std::string>& flags);

  e2e::ServerProcess& process() { return *process_; }
  // Of each tenant, in order; where there are none one that is "".
  const std::vector<std::string>& keys() const { return keys_; }
  // A random adapter, rank 8 on q and v, for the tenant.
  void Upload(int tenant, const std::string& name, uint64_t seed);

 private:
  e2e::TemporaryFolder folder_;
  std::vector<std::string> keys_;
  std::unique_ptr<e2e::ServerProcess> process_;
};

// Greedy requests on random tokens, never the same ones again.
class RequestMaker {
 public:
  RequestMaker(uint64_t seed, int32_t vocab_size)
      : generator_(seed), vocab_size_(vocab_size) {}
  std::vector<int64_t> Tokens(int count);
  v1::GenerateRequest Make(const std::string& adapter, int prompt, int output);

 private:
  std::mt19937_64 generator_;
  const int32_t vocab_size_;
};

int32_t VocabSize(TenantServer& server);

// Of the process, now.
int64_t ResidentBytes(pid_t pid);

// Tokens that came in [begin, end), of one tenant; -1: of all.
int64_t TokensWithin(const std::vector<CallOutcome>& outcomes, int tenant,
                     double begin, double end);

// Milliseconds to the first token, and between tokens, of calls that were due
// in [begin, end) and pass `filter`.
struct Latencies {
  std::vector<double> first;
  std::vector<double> gaps;
  int failed = 0;  // ended otherwise, or not at all
};
Latencies LatenciesOf(const std::vector<CallOutcome>& outcomes,
                      const std::function<bool(const CallOutcome&)>& filter);

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_TENANTS_SETUP_H_
