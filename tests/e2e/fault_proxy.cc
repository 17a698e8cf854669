#include "tests/e2e/fault_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/check.h"

namespace descant::e2e {
namespace {

constexpr int kPollMilliseconds = 20;

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

FaultProxy::FaultProxy(const std::string& target) {
  const std::vector<std::string> parts = absl::StrSplit(target, ':');
  DESCANT_CHECK(parts.size() == 2 && absl::SimpleAtoi(parts[1], &port_));
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in any = Loopback(0);
  socklen_t size = sizeof(any);
  auto* address = reinterpret_cast<sockaddr*>(&any);
  DESCANT_CHECK(bind(listener_, address, size) == 0);
  DESCANT_CHECK(listen(listener_, 256) == 0);
  DESCANT_CHECK(getsockname(listener_, address, &size) == 0);
  address_ = absl::StrCat("127.0.0.1:", ntohs(any.sin_port));
  acceptor_ = std::thread([this] { Accept(); });
}

FaultProxy::~FaultProxy() {
  stopping_ = true;
  acceptor_.join();
  std::vector<std::thread> pumps;
  {
    MutexLock lock(&mutex_);
    pumps.swap(pumps_);
  }
  for (std::thread& pump : pumps) pump.join();
  MutexLock lock(&mutex_);
  for (const auto& link : links_) {
    close(link->client);
    close(link->server);
  }
  close(listener_);
}

void FaultProxy::Accept() {
  while (!stopping_) {
    pollfd waiting = {listener_, POLLIN, 0};
    if (poll(&waiting, 1, kPollMilliseconds) != 1) continue;
    auto link = std::make_unique<Link>();
    link->client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (link->client < 0) continue;
    link->server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in target = Loopback(port_);
    if (connect(link->server, reinterpret_cast<const sockaddr*>(&target),
                sizeof(target)) != 0) {
      close(link->client);
      close(link->server);
      continue;
    }
    const int one = 1;
    for (const int fd : {link->client, link->server}) {
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    Link* const added = link.get();
    MutexLock lock(&mutex_);
    links_.push_back(std::move(link));
    pumps_.emplace_back(
        [this, added] { Pump(added, added->client, added->server); });
    pumps_.emplace_back(
        [this, added] { Pump(added, added->server, added->client); });
  }
}

void FaultProxy::Pump(Link* link, int from, int to) {
  std::vector<char> buffer(64 << 10);
  while (!stopping_ && !link->vanished) {
    pollfd waiting = {from, POLLIN, 0};
    if (poll(&waiting, 1, kPollMilliseconds) != 1) continue;
    if (link->vanished) return;
    const ssize_t got = recv(from, buffer.data(), buffer.size(), 0);
    if (got <= 0) break;
    // After a half-close nothing goes to the server.
    if (to == link->server && link->half_closed) continue;
    ssize_t sent = 0;
    while (sent < got) {
      const ssize_t part = send(to, buffer.data() + sent,
                                static_cast<size_t>(got - sent), MSG_NOSIGNAL);
      if (part <= 0) break;
      sent += part;
    }
    if (sent < got) break;
  }
  if (!link->vanished) shutdown(to, SHUT_WR);
}

void FaultProxy::Break(Fault fault) {
  MutexLock lock(&mutex_);
  for (const auto& link : links_) {
    if (link->vanished || link->half_closed) continue;
    switch (fault) {
      case Fault::kVanish:
        link->vanished = true;
        break;
      case Fault::kHalfClose:
        link->half_closed = true;
        shutdown(link->server, SHUT_WR);
        break;
      case Fault::kReset: {
        link->vanished = true;  // the pumps leave it alone
        const linger now = {1, 0};
        setsockopt(link->server, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        // Replaces the socket under the same number: the old one is reset, and
        // the number stays ours.
        const int placeholder = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        dup2(placeholder, link->server);
        close(placeholder);
        shutdown(link->client, SHUT_RDWR);
        break;
      }
    }
  }
}

}  // namespace descant::e2e
