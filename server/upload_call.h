// One UploadAdapter stream.
#ifndef DESCANT_SERVER_UPLOAD_CALL_H_
#define DESCANT_SERVER_UPLOAD_CALL_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "adapters/store.h"
#include "descant/v1/adapter.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "runtime/base/mutex.h"
#include "server/audit_trail.h"
#include "server/edge_context.h"
#include "server/egress.h"
#include "server/errors.h"
#include "server/upload_table.h"

namespace descant {

// RPC threads read messages and count bytes; hashing, validation and disk run
// on the upload pool, and nothing is read meanwhile: a client is as fast as
// the store. Small chunks are gathered first. Where the upload has an id, a
// stream that ends before its time parks it in the upload table. Keeps itself
// alive until OnDone.
class UploadCall final
    : public grpc::ServerReadReactor<v1::UploadAdapterRequest>,
      public Egress::Call,
      public UploadHolder,
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
  void GiveWay() override;

 private:
  // What follows on work of the pool that succeeded.
  enum class Next { kRead, kEnd };
  // What a stream that fails leaves of an upload with an id.
  enum class Leave { kNothing, kParked };

  // Each runs on the upload pool.
  absl::StatusOr<Next> Open(const UploadSpec& spec,
                            const v1::UploadAdapterHeader& header);
  absl::Status Claim(const v1::UploadAdapterHeader& header);
  absl::Status Store(const std::string& bytes);
  absl::StatusOr<Next> Commit(const std::string& bytes);
  absl::StatusOr<Next> StopShort(const std::string& bytes);
  void StoreAndPark(const std::string& bytes);

  absl::Status TakeHeaderLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeChunkLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeMessageLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeEndLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Runs `work` on the pool, then goes on as it says.
  template <typename Work>
  void PostLocked(Work work) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AfterWorkLocked(const absl::StatusOr<Next>& next)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the call for a reason that is not the content's: now, or once the
  // pool is done with the upload.
  void InterruptLocked(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const absl::Status& status, Leave leave)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ParkLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropUploadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Record(const absl::Status& status);
  // On the upload pool, once it is stored. UNAVAILABLE: see AuditAndCommit.
  absl::Status AuditStored(const PublishResult& result);

  EdgeContext* const edge_;
  grpc::CallbackServerContext* const context_;
  v1::UploadAdapterResponse* const response_;
  const MonotonicTime start_;
  std::shared_ptr<UploadCall> self_;
  bool counted_ = false;  // in EdgeContext::uploads

  Mutex mutex_;
  v1::UploadAdapterRequest message_;  // gRPC's while reading_
  std::string tenant_;                // constant after Begin
  TenantLimits limits_;               // the same
  Caller caller_;                     // the same
  // Constant after the header.
  std::string name_;
  std::string upload_id_;  // "": it ends with its stream
  uint64_t declared_ = 0;
  bool validate_only_ = false;

  std::string gathered_ ABSL_GUARDED_BY(mutex_);
  uint64_t received_ ABSL_GUARDED_BY(mutex_) = 0;  // gathered_ included
  int empty_chunks_ ABSL_GUARDED_BY(mutex_) = 0;
  bool has_header_ ABSL_GUARDED_BY(mutex_) = false;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool working_ ABSL_GUARDED_BY(mutex_) = false;  // the pool is at it
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status interruption_ ABSL_GUARDED_BY(mutex_);
  MonotonicTime last_message_ ABSL_GUARDED_BY(mutex_);

  // The pool's while working_, else guarded by mutex_.
  std::unique_ptr<AdapterUpload> upload_;
  uint64_t stored_ = 0;         // bytes that upload_ has taken
  bool claimed_ = false;        // held in the table
  bool stopped_short_ = false;  // the client ended before the last byte
  // Refused by the table, or answered from it: no upload of its own.
  bool is_echo_ = false;
  MonotonicTime begun_;  // of the upload
};

}  // namespace descant

#endif  // DESCANT_SERVER_UPLOAD_CALL_H_
