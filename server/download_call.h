// One DownloadAdapter stream.
#ifndef DESCANT_SERVER_DOWNLOAD_CALL_H_
#define DESCANT_SERVER_DOWNLOAD_CALL_H_

#include <cstdint>
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

namespace descant {

// The files are opened, read and checked on the download pool, a chunk at a
// time: read, written, and only then the next. A reader that stops is ended
// after the stall timeout. Keeps itself alive until OnDone.
class DownloadCall final
    : public grpc::ServerWriteReactor<v1::DownloadAdapterResponse>,
      public Egress::Call,
      public std::enable_shared_from_this<DownloadCall> {
 public:
  // `request` lives as long as the call.
  DownloadCall(EdgeContext* edge, grpc::CallbackServerContext* context,
               const v1::DownloadAdapterRequest* request);
  ~DownloadCall() override;

  void Begin();

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Flush() override {}
  void Sweep(MonotonicTime now) override;

 private:
  // On the download pool. OK: message_ is to be written, or is_last_.
  absl::Status Open();
  absl::Status ReadNext();

  template <typename Work>
  void PostLocked(Work work) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AfterWorkLocked(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EdgeContext* const edge_;
  grpc::CallbackServerContext* const context_;
  const v1::DownloadAdapterRequest* const request_;
  std::shared_ptr<DownloadCall> self_;
  std::string tenant_;    // constant after Begin
  bool counted_ = false;  // in EdgeContext::downloads

  Mutex mutex_;
  bool working_ ABSL_GUARDED_BY(mutex_) = false;  // the pool is at it
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  // a status was given to gRPC
  bool done_ ABSL_GUARDED_BY(mutex_) = false;   // the context may be gone
  MonotonicTime write_started_ ABSL_GUARDED_BY(mutex_){};
  MonotonicTime ended_at_ ABSL_GUARDED_BY(mutex_){};

  // The pool's while working_, else guarded by mutex_; gRPC reads message_
  // while writing_.
  std::string adapter_id_;  // once it is valid
  std::unique_ptr<StoredFiles> files_;
  uint64_t read_ = 0;
  bool is_last_ = false;  // all is read, and is what the digest says
  v1::DownloadAdapterResponse message_;
};

}  // namespace descant

#endif  // DESCANT_SERVER_DOWNLOAD_CALL_H_
