#include "tests/server/cutting_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace descant {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

CuttingProxy::CuttingProxy(const std::string& target) {
  DESCANT_CHECK(absl::SimpleAtoi(target.substr(target.rfind(':') + 1), &port_));
  listener_ = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  DESCANT_CHECK(bind(listener_, any, size) == 0);
  DESCANT_CHECK(listen(listener_, 16) == 0);
  DESCANT_CHECK(getsockname(listener_, any, &size) == 0);
  address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  acceptor_ = std::thread([this] { Accept(); });
}

CuttingProxy::~CuttingProxy() {
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  close(listener_);
  MutexLock lock(&mutex_);
  for (const auto& link : links_) Break(link.get());
  for (std::thread& pump : pumps_) pump.join();
  for (const auto& link : links_) {
    close(link->client);
    close(link->server);
  }
}

void CuttingProxy::Accept() {
  while (true) {
    const int client = accept(listener_, nullptr, nullptr);
    if (client < 0) return;
    const int server = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = Loopback(port_);
    if (connect(server, reinterpret_cast<const sockaddr*>(&address),
                sizeof(address)) != 0) {
      close(client);
      close(server);
      continue;
    }
    MutexLock lock(&mutex_);
    Link* link = links_.emplace_back(std::make_unique<Link>()).get();
    link->client = client;
    link->server = server;
    for (const bool from_client : {true, false}) {
      pumps_.emplace_back([=, this] { Pump(link, from_client); });
    }
  }
}

void CuttingProxy::Pump(Link* link, bool from_client) {
  const int from = from_client ? link->client : link->server;
  const int to = from_client ? link->server : link->client;
  char buffer[4096];
  while (true) {
    const ssize_t got = recv(from, buffer, sizeof(buffer), 0);
    if (got <= 0) break;
    if (from_client && budget_ != INT64_MAX && (budget_ -= got) <= 0) {
      budget_ = INT64_MAX;
      ++cuts_;
      break;
    }
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t n = send(to, buffer + sent, got - sent, MSG_NOSIGNAL);
      if (n <= 0) return Break(link);
      sent += n;
    }
  }
  Break(link);
}

// Both ends see it end at once; the sockets are closed when no thread uses
// them any more.
void CuttingProxy::Break(Link* link) {
  if (link->broken.exchange(true)) return;
  shutdown(link->client, SHUT_RDWR);
  shutdown(link->server, SHUT_RDWR);
}

}  // namespace descant
