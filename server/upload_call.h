// One UploadAdapter stream.
#ifndef DESCANT_SERVER_UPLOAD_CALL_H_
#define DESCANT_SERVER_UPLOAD_CALL_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "adapters/store.h"
#include "descant/v1/adapter.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "runtime/base/mutex.h"
#include "server/edge_context.h"
#include "server/egress.h"
#include "server/errors.h"

namespace descant {

// RPC threads read messages and count bytes; hashing, validation and disk run
// on the upload pool, and nothing is read meanwhile: a client is as fast as
// the store. Small chunks are gathered first. Keeps itself alive until OnDone.
class UploadCall final
    : public grpc::ServerReadReactor<v1::UploadAdapterRequest>,
      public Egress::Call,
      public std::enable_shared_from_this<UploadCall> {
 public:
  UploadCall(EdgeContext* edge, grpc::CallbackServerContext* context,
             v1::UploadAdapterResponse* response);
  ~UploadCall() override;

  void Begin();

  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Flush() override {}
  // Ends an upload whose client sends nothing.
  void Sweep(MonotonicTime now) override;

 private:
  // Each runs on the upload pool.
  absl::Status Open(const UploadSpec& spec);
  absl::Status Store(const std::string& bytes);
  absl::Status Commit(const std::string& bytes);

  absl::Status TakeHeaderLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeChunkLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeMessageLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeEndLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Runs `work` on the pool, then reads on, or ends after the last.
  template <typename Work>
  absl::Status PostLocked(bool last, Work work)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EdgeContext* const edge_;
  grpc::CallbackServerContext* const context_;
  v1::UploadAdapterResponse* const response_;
  const MonotonicTime start_;
  std::shared_ptr<UploadCall> self_;
  bool counted_ = false;  // in EdgeContext::uploads

  Mutex mutex_;
  v1::UploadAdapterRequest message_;  // gRPC's while reading_
  std::string tenant_ ABSL_GUARDED_BY(mutex_);
  std::string name_ ABSL_GUARDED_BY(mutex_);
  std::string gathered_ ABSL_GUARDED_BY(mutex_);
  uint64_t declared_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t received_ ABSL_GUARDED_BY(mutex_) = 0;
  int empty_chunks_ ABSL_GUARDED_BY(mutex_) = 0;
  bool has_header_ ABSL_GUARDED_BY(mutex_) = false;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool working_ ABSL_GUARDED_BY(mutex_) = false;  // the pool has upload_
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime last_message_ ABSL_GUARDED_BY(mutex_);

  // The pool's while working_, else guarded by mutex_.
  std::unique_ptr<AdapterUpload> upload_;
};

}  // namespace descant

#endif  // DESCANT_SERVER_UPLOAD_CALL_H_
