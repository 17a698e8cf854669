// The real server in this process, over real gRPC, with the fake runner: the
// tiny model's files give vocabulary, shapes and tokenizer, the fake gives
// tokens that any disturbance would change.
#ifndef DESCANT_TESTS_SERVER_TEST_SERVER_H_
#define DESCANT_TESTS_SERVER_TEST_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/formats/random_adapter.h"
#include "descant/v1/adapter.grpc.pb.h"
#include "descant/v1/admin.grpc.pb.h"
#include "descant/v1/generation.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/security/credentials.h"
#include "server/app.h"
#include "server/config.h"
#include "server/tenants.h"
#include "tests/testing/fake_runner.h"

namespace descant {

struct TestServerOptions {
  int32_t max_model_len = 512;
  int32_t max_stored_adapters = 100;
  int32_t max_waiting = 64;
  int32_t max_waiting_tokens = 1 << 20;
  uint64_t request_memory = uint64_t{512} << 20;
  Duration request_timeout = std::chrono::minutes(10);
  int32_t repeats = 0;  // of the fake runner
  Duration stream_stall_timeout = std::chrono::seconds(30);
  Duration upload_idle_timeout = std::chrono::seconds(30);
  Duration engine_stall_limit = std::chrono::seconds(30);
  // Called before every step, on the engine thread.
  std::function<void(const Batch&)> on_step;
  // Called while an adapter loads, on a thread of its own.
  std::function<void(const Adapter&)> on_pack;
  std::shared_ptr<const TenantDirectory> tenants;  // null: off
  std::string tenants_file;                        // what Reload() reads
  std::string adapter_dir;  // empty: in a folder of its own
  // Last changes to the configuration; what files hold must be loaded here.
  std::function<void(ServerConfig*)> configure;
  // Of this class's own channels; null: no TLS.
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  std::string usage_log;  // empty: none
};

// One upload as a client would send it; parts may be changed before Send.
struct UploadPlan {
  std::vector<v1::UploadAdapterRequest> messages;
  v1::UploadAdapterHeader* header() {
    return messages.front().mutable_header();
  }
  // What its chunks hold, one after the other.
  std::string Bytes() const;
  // The same bytes in chunks of this size.
  void Rechunk(size_t chunk_bytes);
};

class TestServer {
 public:
  explicit TestServer(const TestServerOptions& options = {});
  ~TestServer();

  v1::GenerationService::Stub& generation() { return *generation_; }
  v1::AdapterService::Stub& adapters() { return *adapters_; }
  v1::AdminService::Stub& admin() { return *admin_; }
  const std::shared_ptr<grpc::Channel>& channel() { return channel_; }
  App& app() { return *app_; }
  std::shared_ptr<grpc::Channel> NewChannel(int window_bytes) const;

  // The API key that Send, Upload and Tokens call with; "" is none.
  void UseKey(const std::string& key) { key_ = key; }
  void AddKey(grpc::ClientContext* context) const;

  // What the server listens on, and where it keeps adapters.
  const std::string& address() const { return config_.listen; }
  const std::string& admin_address() const { return config_.admin_listen; }
  const std::string& metrics_address() const { return config_.metrics_listen; }
  const std::string& adapter_dir() const { return config_.adapter_dir; }
  // Files of uploads that are not finished.
  size_t StagedFiles() const;

  // Stops the server; the destructor does it otherwise.
  void Drain(Duration grace);

  // A good adapter; other seeds, other digests. `rank` 0: a small one, on
  // q_proj alone; else on all modules.
  UploadPlan PlanUpload(const std::string& name, uint64_t seed,
                        int32_t rank = 0) const;
  grpc::Status Send(const UploadPlan& plan,
                    v1::UploadAdapterResponse* response = nullptr);
  grpc::Status Upload(const std::string& name, uint64_t seed) {
    return Send(PlanUpload(name, seed));
  }
  // Greedy tokens for a fixed prompt.
  std::vector<int32_t> Tokens(const std::string& adapter, int count);

 private:
  std::string folder_;
  ServerConfig config_;
  std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<App> app_;
  std::string key_;
  bool drained_ = false;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::AdapterService::Stub> adapters_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
};

// A port of the loopback address that nobody listens on.
int FreePort();
// ErrorInfo.reason of a status; "" where it has none.
std::string ReasonIn(const grpc::Status& status);
// Whether a status says when to come back.
bool HasRetryInfo(const grpc::Status& status);

}  // namespace descant

#endif  // DESCANT_TESTS_SERVER_TEST_SERVER_H_
