#include "server/http2_meter.h"

#include <algorithm>
#include <cstring>

namespace descant {
namespace {

constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// RFC 9113, 6.
enum FrameType : unsigned char {
  kHeaders = 1,
  kResetStream = 3,
  kSettings = 4,
  kPing = 6,
  kContinuation = 9,
};
constexpr unsigned char kAck = 1;         // of SETTINGS and PING
constexpr unsigned char kEndHeaders = 4;  // of HEADERS and CONTINUATION

uint32_t BigEndian(const unsigned char* bytes, int count) {
  uint32_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

}  // namespace

bool Http2Meter::Allowance::Take(MonotonicTime now) {
  left_ = std::min<double>(rate_.burst,
                           left_ + rate_.per_second * ToSeconds(now - at_));
  at_ = now;
  if (left_ < 1) return false;
  --left_;
  return true;
}

absl::string_view Http2Meter::Take(absl::string_view bytes, MonotonicTime now) {
  if (opaque_ || !exceeded_.empty()) return exceeded_;
  if (!SkipPreface(&bytes)) {
    opaque_ = true;
    return {};
  }
  while (!bytes.empty()) {
    if (payload_left_ > 0) {
      const size_t skipped = std::min<size_t>(payload_left_, bytes.size());
      bytes.remove_prefix(skipped);
      payload_left_ -= static_cast<uint32_t>(skipped);
      continue;
    }
    const size_t count = std::min(kFrameHeader - header_read_, bytes.size());
    std::memcpy(header_ + header_read_, bytes.data(), count);
    bytes.remove_prefix(count);
    header_read_ += count;
    if (header_read_ < kFrameHeader) break;
    header_read_ = 0;
    exceeded_ = OnFrame(now);
    if (!exceeded_.empty()) return exceeded_;
  }
  return {};
}

bool Http2Meter::SkipPreface(absl::string_view* bytes) {
  const size_t count = std::min(kPreface.size() - preface_read_, bytes->size());
  if (bytes->substr(0, count) != kPreface.substr(preface_read_, count)) {
    return false;
  }
  preface_read_ += count;
  bytes->remove_prefix(count);
  return true;
}

absl::string_view Http2Meter::OnFrame(MonotonicTime now) {
  const unsigned char flags = header_[4];
  const uint32_t stream = BigEndian(header_ + 5, 4) & 0x7fffffffu;
  payload_left_ = BigEndian(header_, 3);
  switch (header_[3]) {
    case kHeaders:
      block_frames_ = 0;
      if (stream > last_stream_) {
        last_stream_ = stream;
        // Before it has acknowledged, the client is held to no limit of ours.
        if (!acknowledged_ &&
            ++streams_unacknowledged_ > limits::kMaxConcurrentStreams) {
          return "streams before an acknowledgement of SETTINGS";
        }
      }
      return OnHeaderBlock((flags & kEndHeaders) != 0);
    case kContinuation:
      return OnHeaderBlock((flags & kEndHeaders) != 0);
    case kResetStream:
      return resets_.Take(now) ? "" : "RST_STREAM";
    case kSettings:
      if ((flags & kAck) != 0) acknowledged_ = true;
      return settings_.Take(now) ? "" : "SETTINGS";
    case kPing:
      return pings_.Take(now) ? "" : "PING";
    default:
      return {};
  }
}

absl::string_view Http2Meter::OnHeaderBlock(bool ends) {
  if (++block_frames_ > limits::kMaxHeaderBlockFrames) return "CONTINUATION";
  if (ends) block_frames_ = 0;
  return {};
}

}  // namespace descant
