#include "server/metrics_listener.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/limits.h"

namespace descant {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A bound port that nobody listens on yet.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(bind(fd, any, size), 0);
  EXPECT_EQ(getsockname(fd, any, &size), 0);
  close(fd);
  return ntohs(address.sin_port);
}

class MetricsListenerTest : public ::testing::Test {
 protected:
  MetricsListenerTest() {
    MetricsPages pages;
    pages.metrics = [this] { return page_; };
    pages.alive = [this] { return alive_.load(); };
    pages.ready = [this] { return ready_.load(); };
    auto listener = MetricsListener::Start(absl::StrCat("127.0.0.1:", port_),
                                           nullptr, std::move(pages));
    EXPECT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
  }

  int Connect() const {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port_));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    const timeval limit = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
  }

  static std::string ReadToEnd(int fd) {
    std::string answer;
    char buffer[4096];
    for (ssize_t n = 0; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      answer.append(buffer, static_cast<size_t>(n));
    }
    close(fd);
    return answer;
  }

  std::string Exchange(const std::string& request) const {
    const int fd = Connect();
    EXPECT_EQ(send(fd, request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    return ReadToEnd(fd);
  }

  const int port_ = FreePort();
  const std::string page_ = std::string(100000, 'm') + "\n";
  std::atomic<bool> alive_{true};
  std::atomic<bool> ready_{true};
  std::unique_ptr<MetricsListener> listener_;
};

TEST_F(MetricsListenerTest, ServesThePage) {
  const std::string answer = Exchange("GET /metrics HTTP/1.0\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.0 200 OK\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n" + page_));
}

TEST_F(MetricsListenerTest, KeepsAConnectionForTheNextRequest) {
  const std::string answer = Exchange(
      "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
      "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
      "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 100001\r\n"));
  EXPECT_THAT(answer, Not(HasSubstr("mmm")));
  size_t answers = 0;
  for (size_t at = 0;
       (at = answer.find("HTTP/1.1 200 OK", at)) != std::string::npos; ++at) {
    ++answers;
  }
  EXPECT_EQ(answers, 3u) << answer;
}

TEST_F(MetricsListenerTest, ProbesSayWhatIsSo) {
  alive_ = false;
  EXPECT_THAT(Exchange("GET /livez HTTP/1.0\r\n\r\n"), HasSubstr(" 503 "));
  EXPECT_THAT(Exchange("GET /readyz HTTP/1.0\r\n\r\n"), HasSubstr(" 200 "));
  alive_ = true;
  ready_ = false;
  EXPECT_THAT(Exchange("GET /livez HTTP/1.0\r\n\r\n"), HasSubstr(" 200 "));
  EXPECT_THAT(Exchange("GET /readyz HTTP/1.0\r\n\r\n"), HasSubstr(" 503 "));
}

TEST_F(MetricsListenerTest, RefusesWhatItDoesNotServe) {
  EXPECT_THAT(Exchange("POST /metrics HTTP/1.0\r\n\r\n"), HasSubstr(" 405 "));
  EXPECT_THAT(Exchange("GET /../metrics HTTP/1.0\r\n\r\n"), HasSubstr(" 404 "));
  // Closed without an answer, or with one that is none of ours.
  for (const std::string& bad :
       {std::string("\r\n\r\ngarbage\r\n\r\n"),
        "GET /metrics HTTP/1.1\r\nA: " + std::string(32 << 10, 'a'),
        std::string("POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\nabc"),
        std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) +
            "\r\n\r\n"}) {
    EXPECT_THAT(Exchange(bad), Not(HasSubstr("mmm"))) << bad.substr(0, 40);
  }
  EXPECT_THAT(Exchange("GET /livez HTTP/1.0\r\n\r\n"), HasSubstr(" 200 "));
}

TEST_F(MetricsListenerTest, ConnectionsBeyondTheLimitAreClosed) {
  std::vector<int> idle;
  for (int i = 0; i < limits::kMaxHttpConnections; ++i) {
    idle.push_back(Connect());
    // Answered, so it has its place.
    const std::string request = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    send(idle.back(), request.data(), request.size(), MSG_NOSIGNAL);
    char c = 0;
    ASSERT_EQ(recv(idle.back(), &c, 1, 0), 1) << i;
  }
  EXPECT_EQ(ReadToEnd(Connect()), "");
  for (const int fd : idle) close(fd);
  std::string answer;
  for (int i = 0; i < 100 && answer.empty(); ++i) {
    answer = Exchange("GET /livez HTTP/1.0\r\n\r\n");
  }
  EXPECT_THAT(answer, HasSubstr(" 200 "));
}

TEST_F(MetricsListenerTest, ATakenPortIsAnError) {
  const auto second =
      MetricsListener::Start(absl::StrCat("127.0.0.1:", port_), nullptr, {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()),
              StartsWith("--metrics-listen: cannot listen on 127.0.0.1:"));
}

}  // namespace
}  // namespace descant
