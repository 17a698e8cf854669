// One generation from its arrival to its status: what Generate and
// GenerateStream have in common.
#ifndef DESCANT_SERVER_GENERATION_CALL_H_
#define DESCANT_SERVER_GENERATION_CALL_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "descant/v1/generation.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "runtime/engine.h"
#include "server/edge_context.h"
#include "server/egress.h"
#include "server/errors.h"
#include "server/request_validation.h"

namespace descant {

// Threads: Begin and OnCancel on RPC threads, Prepare on the front pool,
// OnTokens and OnFinish on the engine thread, Flush and Sweep on the egress
// thread. The call keeps itself alive from Begin until OnDone of its reactor.
class GenerationCall : public TokenSink,
                       public Egress::Call,
                       public std::enable_shared_from_this<GenerationCall> {
 public:
  // `request` may be null: the client sent none.
  GenerationCall(EdgeContext* edge, grpc::CallbackServerContext* context,
                 const v1::GenerateRequest* request, const char* rpc);
  ~GenerationCall() override;

  // Admits the call or ends it.
  void Begin();

  void OnStart(int32_t prompt_tokens, int32_t cached_tokens) final;
  void OnTokens(int32_t choice, absl::Span<const TokenEvent> tokens,
                const std::string& text) final;
  void OnPrompt(absl::Span<const TokenEvent> tokens) final;
  void OnChoiceFinish(int32_t choice, const ChoiceResult& result) final;
  void OnFinish(const RequestResult& result) final;
  void Flush() override = 0;
  void Sweep(MonotonicTime now) override {}

 protected:
  // The status of a call that the engine never saw. Once, and nothing after.
  virtual void Reject(const grpc::Status& status) = 0;
  // Whether answers go out before they are complete.
  virtual bool streams() const { return false; }
  // These on the engine thread; Complete once, last. An echo is part of `text`.
  virtual void Append(int32_t choice, absl::Span<const TokenEvent> tokens,
                      const std::string& text) = 0;
  // `first`, the first time only: the prompt's first token.
  virtual void AppendPrompt(std::optional<int32_t> first,
                            absl::Span<const TokenEvent> tokens) = 0;
  virtual void FinishChoice(int32_t choice, const ChoiceResult& result) = 0;
  virtual void Complete(const RequestResult& result) = 0;

  // The client is gone: its sequence ends within a step.
  void CancelGeneration();
  // From OnDone: nothing of gRPC is touched after it.
  void ReleaseSelf() { self_.reset(); }

  EdgeContext* edge() const { return edge_; }
  grpc::CallbackServerContext* context() const { return context_; }
  const GenerationPlan& plan() const { return plan_; }
  const CallFacts& facts() const { return facts_; }
  const std::string& adapter_digest() const { return adapter_digest_; }

  // Fields that GenerateResponse and GenerateStreamResponse share.
  template <typename Response>
  void SetIdentity(Response* response) const {
    response->set_adapter_digest(adapter_digest_);
    response->set_seed(plan_.sampling.seed);
    response->set_request_id(std::to_string(facts_.request_id));
    response->set_client_request_id(plan_.client_request_id);
  }

 private:
  void Prepare();
  absl::StatusOr<Request> MakeRequest();
  absl::Status Queue(const Request& request);
  void RejectWith(const absl::Status& status);
  // Memory that the request takes once it is submitted.
  uint64_t BytesToCome(size_t prompt_tokens) const;
  std::string EchoOf(const std::vector<int32_t>& prompt) const;
  void FlushFirstPromptToken();
  void LogUsage(const GenerationRecord& record, const RequestResult& result);

  EdgeContext* const edge_;
  grpc::CallbackServerContext* const context_;
  const v1::GenerateRequest* const request_;
  const char* const rpc_;
  const MonotonicTime arrival_;
  std::shared_ptr<GenerationCall> self_;

  // Written by Begin and Prepare before Submit, constant after.
  std::string tenant_;
  std::shared_ptr<const Tenant> caller_;  // of that id
  TenantUsage::Account* account_ = nullptr;
  GenerationPlan plan_;
  CallFacts facts_;
  std::string adapter_digest_;
  std::string adapter_label_;  // "": the base model

  // Each side sets its own flag and then reads the other's, so that a
  // cancellation beside Submit is seen by at least one.
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> submitted_{false};

  // Set before Submit: what an answer begins with, and the prompt's first
  // token while it is to be given out.
  std::string echo_;
  std::optional<int32_t> first_prompt_token_;

  // Until the call is done. Until Submit the thread's that prepares.
  MemoryBudget::Hold memory_;

  // Until Submit the thread's that prepares; then the engine thread's.
  TenantAdmission::Ticket ticket_;
  WaitEstimate::Ticket wait_;

  // The engine thread's.
  std::vector<MonotonicTime> last_token_;  // by choice; zero: none yet
  bool any_token_ = false;
};

}  // namespace descant

#endif  // DESCANT_SERVER_GENERATION_CALL_H_
