// One WatchAdapters stream.
#ifndef DESCANT_SERVER_WATCH_CALL_H_
#define DESCANT_SERVER_WATCH_CALL_H_

#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "adapters/registry.h"
#include "descant/v1/adapter.pb.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "runtime/base/mutex.h"
#include "server/adapter_feed.h"
#include "server/edge_context.h"
#include "server/egress.h"

namespace descant {

// First what there is, page by page as the reader takes it, then what changes.
// One write in flight; changes wait in a bounded queue, and a reader that falls
// behind it is ended. A change tells what it concerns, and its message says
// how that is when it is sent. Keeps itself alive until OnDone.
class WatchCall final
    : public grpc::ServerWriteReactor<v1::WatchAdaptersResponse>,
      public Egress::Call,
      public AdapterFeed::Watcher,
      public std::enable_shared_from_this<WatchCall> {
 public:
  WatchCall(EdgeContext* edge, grpc::CallbackServerContext* context,
            const v1::WatchAdaptersRequest* request);
  ~WatchCall() override;

  void Begin();

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Changed(const AdapterChange& change) override;
  void Flush() override;
  void Sweep(MonotonicTime now) override;

 private:
  absl::Status Admit();
  // The next message; empty where there is none now. On the egress thread, with
  // no lock held: it asks the registry, which publishes under its own.
  std::optional<v1::WatchAdaptersResponse> ComposeNext();
  std::optional<v1::WatchAdaptersResponse> ComposeExisting();
  std::optional<v1::WatchAdaptersResponse> Compose(const AdapterChange& change);
  v1::WatchAdaptersResponse Message(v1::AdapterEvent event,
                                    const RegistryEntry& entry) const;
  void WakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EdgeContext* const edge_;
  grpc::CallbackServerContext* const context_;
  const std::string name_;  // "": all
  std::string tenant_;      // constant after Begin
  bool counted_ = false;
  std::shared_ptr<WatchCall> self_;

  // The egress thread's: how far what there is was sent.
  AdapterPage page_;
  size_t next_in_page_ = 0;
  bool began_ = false;
  bool synced_ = false;

  Mutex mutex_;
  std::deque<AdapterChange> changes_ ABSL_GUARDED_BY(mutex_);
  // Name and digest of the kChanged that wait: one each is enough.
  std::set<std::pair<std::string, std::string>> changed_
      ABSL_GUARDED_BY(mutex_);
  v1::WatchAdaptersResponse in_flight_ ABSL_GUARDED_BY(mutex_);
  MonotonicTime write_started_ ABSL_GUARDED_BY(mutex_){};
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool waking_ ABSL_GUARDED_BY(mutex_) = false;
  bool fell_behind_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime ended_at_ ABSL_GUARDED_BY(mutex_){};
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  // a status was given to gRPC
  bool done_ ABSL_GUARDED_BY(mutex_) = false;   // the context may be gone
};

}  // namespace descant

#endif  // DESCANT_SERVER_WATCH_CALL_H_
