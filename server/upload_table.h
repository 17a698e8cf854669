// Uploads that outlive their streams: those that carry an upload_id.
#ifndef DESCANT_SERVER_UPLOAD_TABLE_H_
#define DESCANT_SERVER_UPLOAD_TABLE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/store.h"
#include "descant/v1/adapter.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/mutex.h"
#include "server/egress.h"
#include "server/front_pool.h"
#include "server/limits.h"

namespace descant {

// The stream that an upload arrives on.
class UploadHolder {
 public:
  virtual ~UploadHolder() = default;
  // Another stream wants the upload: end, and park it. Any thread, repeatedly.
  virtual void GiveWay() = 0;
};

struct UploadTableOptions {
  // Held and parked; beyond them UPLOAD_LIMIT.
  size_t max_uploads = limits::kMaxOpenUploads;
  size_t max_uploads_per_tenant = limits::kMaxOpenUploadsPerTenant;
  // Results of finished ones; beyond them the oldest goes.
  size_t max_results = limits::kMaxUploadResults;
  size_t max_results_per_tenant = limits::kMaxUploadResultsPerTenant;
  // How long a parked upload and a result stay.
  Duration idle_timeout = limits::kUploadKeepTimeout;
};

// What a stream that may go on gets.
struct ClaimedUpload {
  std::unique_ptr<AdapterUpload> upload;  // null: begin it
  uint64_t committed = 0;                 // bytes it has taken
  MonotonicTime begun;                    // when its first stream came
  // Set: it is finished, with this answer, and the stream holds nothing.
  std::optional<v1::UploadAdapterResponse> result;
};

// Keyed by (tenant, upload_id): another tenant's id answers exactly as an
// unknown one. An upload is held by one stream, or parked, or finished.
// Thread-safe. Owned by a std::shared_ptr. REQUIRES: outlived by store, pool
// and clock; closed before the store goes.
class UploadTable final : public Egress::Call,
                          public std::enable_shared_from_this<UploadTable> {
 public:
  // An upload that no stream will finish any more: the code it is counted
  // with, and how long it was there.
  using OnGivenUp = std::function<void(absl::StatusCode, Duration)>;

  // Uploads that are given up are dropped on `pool`.
  UploadTable(const UploadTableOptions& options, const Clock* clock,
              FrontPool* pool, OnGivenUp on_given_up);

  // The upload of `header`, which is valid and has an upload_id, for `holder`.
  // Unless it is finished the holder ends the claim with Park, Forget or
  // Complete, once. NOT_FOUND UPLOAD_UNKNOWN, INVALID_ARGUMENT
  // UPLOAD_MISMATCH, FAILED_PRECONDITION UPLOAD_OFFSET, RESOURCE_EXHAUSTED
  // UPLOAD_LIMIT, UNAVAILABLE DRAINING; UNAVAILABLE UPLOAD_BUSY while another
  // stream holds it, which is told to give way.
  absl::StatusOr<ClaimedUpload> Claim(const std::string& tenant,
                                      const v1::UploadAdapterHeader& header,
                                      std::weak_ptr<UploadHolder> holder);

  // While it is held: what Query shows.
  void SetCommitted(const std::string& tenant, const std::string& upload_id,
                    uint64_t committed);
  // Another stream may go on with it. After Close: drops it.
  void Park(const std::string& tenant, const std::string& upload_id,
            std::unique_ptr<AdapterUpload> upload, uint64_t committed);
  // It was refused.
  void Forget(const std::string& tenant, const std::string& upload_id);
  // It was published, or would have been.
  void Complete(const std::string& tenant, const std::string& upload_id,
                const v1::UploadAdapterResponse& response);

  // NOT_FOUND UPLOAD_UNKNOWN.
  absl::StatusOr<v1::QueryUploadResponse> Query(
      const std::string& tenant, const std::string& upload_id) const;

  // The server drains: drops what is parked, and parks nothing any more.
  void Close();

  void Flush() override {}
  // Gives up what no stream came for.
  void Sweep(MonotonicTime now) override;

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, upload_id
  enum class State { kHeld, kParked, kFinished };
  struct Entry {
    State state = State::kHeld;
    v1::UploadAdapterHeader header;  // as Comparable() makes it
    uint64_t committed = 0;
    MonotonicTime begun;
    MonotonicTime touched;                  // since when no stream has it
    std::weak_ptr<UploadHolder> holder;     // kHeld
    std::unique_ptr<AdapterUpload> upload;  // kParked
    v1::UploadAdapterResponse response;     // kFinished
  };
  using Entries = std::map<Key, Entry>;

  absl::Status CheckRoomLocked(const std::string& tenant) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TrimResultsLocked(const std::string& tenant)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsExpired(const Entry& entry, MonotonicTime now) const;
  void DropExpired(MonotonicTime now);
  // Takes every parked or finished entry that `wanted` picks out of the table.
  std::vector<Entry> TakeLocked(const std::function<bool(const Entry&)>& wanted)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const UploadTableOptions options_;
  const Clock* const clock_;
  FrontPool* const pool_;
  const OnGivenUp on_given_up_;
  mutable Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool dropping_ ABSL_GUARDED_BY(mutex_) = false;  // DropExpired is posted
};

}  // namespace descant

#endif  // DESCANT_SERVER_UPLOAD_TABLE_H_
