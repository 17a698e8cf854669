// Counts what a client sends on an HTTP/2 connection of that which costs it
// next to nothing and the server work or memory: what gRPC 1.51 has no limit
// for (server/TRANSPORT.md). The limits are in server/limits.h; no client that
// plays by the rules comes near them.
//
// Only the nine bytes in front of each frame are looked at (RFC 9113, 4.1).
#ifndef DESCANT_SERVER_HTTP2_METER_H_
#define DESCANT_SERVER_HTTP2_METER_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "runtime/base/clock.h"
#include "server/limits.h"

namespace descant {

// Not thread-safe: the bytes of a connection have an order.
class Http2Meter {
 public:
  // The next bytes that the client sent. Empty: go on. Else what there was too
  // much of, from then on always: the connection is to be closed, and these
  // bytes are not to be read. What does not begin as HTTP/2 does isn't metered.
  absl::string_view Take(absl::string_view bytes, MonotonicTime now);

 private:
  // So many at once, and so many a second on average.
  class Allowance {
   public:
    explicit Allowance(const limits::FrameRate& rate)
        : rate_(rate), left_(rate.burst) {}
    bool Take(MonotonicTime now);

   private:
    limits::FrameRate rate_;
    double left_;
    MonotonicTime at_{};
  };

  static constexpr size_t kFrameHeader = 9;

  // Of the preface; false when it is another.
  bool SkipPreface(absl::string_view* bytes);
  absl::string_view OnFrame(MonotonicTime now);
  absl::string_view OnHeaderBlock(bool ends);

  size_t preface_read_ = 0;
  bool opaque_ = false;  // no HTTP/2
  absl::string_view exceeded_;
  unsigned char header_[kFrameHeader] = {};
  size_t header_read_ = 0;
  uint32_t payload_left_ = 0;
  uint32_t last_stream_ = 0;
  int32_t streams_unacknowledged_ = 0;
  bool acknowledged_ = false;  // the server's SETTINGS
  int32_t block_frames_ = 0;   // of the header block under way
  Allowance resets_{limits::kResets};
  Allowance pings_{limits::kPings};
  Allowance settings_{limits::kSettings};
};

}  // namespace descant

#endif  // DESCANT_SERVER_HTTP2_METER_H_
