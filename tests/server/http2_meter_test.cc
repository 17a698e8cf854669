// What a client may send, cut at any byte, and where it floods.
#include "server/http2_meter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <random>
#include <string>
#include <utility>

namespace descant {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum : unsigned char {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kResetStream = 3,
  kSettings = 4,
  kPing = 6,
  kWindowUpdate = 8,
  kContinuation = 9,
};
constexpr unsigned char kAck = 1;
constexpr unsigned char kEndHeaders = 4;

std::string Frame(unsigned char type, unsigned char flags, uint32_t stream,
                  size_t length) {
  std::string frame;
  for (const int shift : {16, 8, 0}) {
    frame += static_cast<char>(length >> shift);
  }
  frame += static_cast<char>(type);
  frame += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) {
    frame += static_cast<char>(stream >> shift);
  }
  return frame + std::string(length, 'x');
}

std::string Repeated(const std::string& frame, int count) {
  std::string frames;
  for (int i = 0; i < count; ++i) frames += frame;
  return frames;
}

class Http2MeterTest : public ::testing::Test {
 protected:
  // As a client does at first: greets, and acknowledges.
  void Greet() {
    EXPECT_EQ(Take(kPreface + Frame(kSettings, 0, 0, 6) +
                   Frame(kSettings, kAck, 0, 0)),
              "");
  }
  std::string Take(const std::string& bytes) {
    return std::string(meter_.Take(bytes, now_));
  }
  // How many of these frames, one after the other, are taken.
  int Taken(const std::string& frame, int most = 100'000) {
    int count = 0;
    while (count < most && Take(frame).empty()) ++count;
    return count;
  }

  MonotonicTime now_{seconds(1000)};
  Http2Meter meter_;
};

TEST_F(Http2MeterTest, ABurstAndThenARate) {
  for (const auto& [type, rate] : {std::pair{kResetStream, limits::kResets},
                                   std::pair{kPing, limits::kPings},
                                   std::pair{kSettings, limits::kSettings}}) {
    meter_ = Http2Meter();
    EXPECT_EQ(Take(kPreface), "");
    const std::string frame = Frame(type, 0, 1, 4);
    for (int i = 0; i < rate.burst; ++i) ASSERT_EQ(Take(frame), "") << i;
    // As many as the rate gives, and one more.
    for (int second = 0; second < 5; ++second) {
      now_ += seconds(1);
      for (int i = 0; i < rate.per_second; ++i) ASSERT_EQ(Take(frame), "");
    }
    EXPECT_NE(Take(frame), "");
    // For good.
    now_ += seconds(100);
    EXPECT_NE(Take(Frame(kData, 0, 1, 1)), "");
  }
}

TEST_F(Http2MeterTest, NamesWhatThereWasTooMuchOf) {
  const auto flood = [this](const std::string& frames) {
    meter_ = Http2Meter();
    Greet();
    return Take(frames);
  };
  EXPECT_EQ(flood(Repeated(Frame(kPing, 0, 0, 8), 3000)), "PING");
  EXPECT_EQ(flood(Repeated(Frame(kSettings, 0, 0, 0), 200)), "SETTINGS");
  EXPECT_EQ(flood(Repeated(Frame(kSettings, kAck, 0, 0), 200)), "SETTINGS");
  EXPECT_EQ(flood(Repeated(Frame(kHeaders, kEndHeaders, 1, 20) +
                               Frame(kResetStream, 0, 1, 4),
                           3000)),
            "RST_STREAM");
  EXPECT_EQ(flood(Frame(kHeaders, 0, 1, 100) +
                  Repeated(Frame(kContinuation, 0, 1, 1000), 300)),
            "CONTINUATION");
  EXPECT_EQ(flood(Frame(kHeaders, 0, 1, 100) +
                  Repeated(Frame(kContinuation, 0, 1, 0), 300)),
            "CONTINUATION");
}

// gRPC bounds, or shrugs off, all else.
TEST_F(Http2MeterTest, OtherFramesAreFree) {
  Greet();
  constexpr unsigned char kUnknown = 77;
  for (const unsigned char type : std::initializer_list<unsigned char>{
           kData, kPriority, kWindowUpdate, kUnknown}) {
    EXPECT_EQ(Taken(Frame(type, 0, 1, 5)), 100'000) << int{type};
  }
  // The largest that gRPC takes; and what only says that it is larger.
  EXPECT_EQ(Taken(Frame(kData, 0, 1, 16 << 10), 100), 100);
  EXPECT_EQ(Taken(Frame(kData, 0, 1, (1 << 24) - 1), 2), 2);
}

TEST_F(Http2MeterTest, HeadersOfCallsAreFree) {
  Greet();
  uint32_t stream = 1;
  for (int i = 0; i < 500; ++i, stream += 2) {
    ASSERT_EQ(Take(Frame(kHeaders, 0, stream, 3000) +
                   Repeated(Frame(kContinuation, 0, stream, 50),
                            limits::kMaxHeaderBlockFrames - 2) +
                   Frame(kContinuation, kEndHeaders, stream, 3000) +
                   Frame(kData, 1, stream, 50)),
              "");
  }
}

TEST_F(Http2MeterTest, StreamsBeforeAnAcknowledgement) {
  EXPECT_EQ(Take(kPreface + Frame(kSettings, 0, 0, 6)), "");
  uint32_t stream = 1;
  for (int i = 0; i < limits::kMaxConcurrentStreams; ++i, stream += 2) {
    ASSERT_EQ(Take(Frame(kHeaders, kEndHeaders, stream, 10)), "") << i;
    // Trailers, on the same stream.
    ASSERT_EQ(Take(Frame(kHeaders, kEndHeaders, stream, 10)), "") << i;
  }
  Http2Meter acknowledged = meter_;
  EXPECT_EQ(Take(Frame(kHeaders, kEndHeaders, stream, 10)),
            "streams before an acknowledgement of SETTINGS");
  EXPECT_EQ(acknowledged.Take(Frame(kSettings, kAck, 0, 0) +
                                  Frame(kHeaders, kEndHeaders, stream, 10),
                              now_),
            "");
}

// Frames do not end where reads do.
TEST_F(Http2MeterTest, CutAnywhere) {
  constexpr uint32_t kSeed = 20261127;
  std::mt19937 random(kSeed);
  std::string bytes = kPreface;
  for (int i = 0; i < limits::kPings.burst; ++i) {
    bytes += Frame(kPing, 0, 0, 8);
    bytes += Frame(kData, 0, 1, random() % 40);
  }
  for (int round = 0; round < 200; ++round) {
    Http2Meter meter;
    size_t at = 0;
    while (at < bytes.size()) {
      const size_t count = std::min<size_t>(random() % 50, bytes.size() - at);
      ASSERT_EQ(meter.Take({bytes.data() + at, count}, now_), "");
      at += count;
    }
    const std::string last = Frame(kPing, 0, 0, 8);
    ASSERT_EQ(meter.Take({last.data(), 8}, now_), "");
    ASSERT_EQ(meter.Take({last.data() + 8, 1}, now_), "PING");
  }
}

TEST_F(Http2MeterTest, WhatIsNoHttp2IsLeftToOthers) {
  const std::string pings = Repeated(Frame(kPing, 0, 0, 8), 5000);
  EXPECT_EQ(Take("GET / HTTP/1.1\r\n\r\n" + pings), "");
  meter_ = Http2Meter();
  EXPECT_EQ(Take("PRI * HTTP/2.0\r"), "");
  EXPECT_EQ(Take("x" + pings), "");
  EXPECT_EQ(Take(pings), "");
}

}  // namespace
}  // namespace descant
