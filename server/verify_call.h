// One VerifyStore stream.
#ifndef DESCANT_SERVER_VERIFY_CALL_H_
#define DESCANT_SERVER_VERIFY_CALL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "adapters/adapter.h"
#include "descant/v1/admin.pb.h"
#include "grpcpp/support/server_callback.h"
#include "runtime/base/mutex.h"
#include "server/edge_context.h"

namespace descant {

// Reads one version after the other on the maintenance pool, each when the
// message of the one before was taken. Keeps itself alive until OnDone.
class VerifyCall final
    : public grpc::ServerWriteReactor<v1::VerifyStoreResponse>,
      public std::enable_shared_from_this<VerifyCall> {
 public:
  VerifyCall(EdgeContext* edge, grpc::CallbackServerContext* context)
      : edge_(edge), context_(context) {}
  ~VerifyCall() override;

  void Begin();
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  void PostNextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void VerifyNext();
  void EndLocked(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EdgeContext* const edge_;
  grpc::CallbackServerContext* const context_;
  std::shared_ptr<VerifyCall> self_;
  bool counted_ = false;

  // The maintenance pool's after Begin.
  std::vector<AdapterInfo> versions_;
  size_t next_ = 0;
  v1::VerifySummary summary_;

  Mutex mutex_;
  v1::VerifyStoreResponse message_ ABSL_GUARDED_BY(mutex_);
  bool last_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace descant

#endif  // DESCANT_SERVER_VERIFY_CALL_H_
