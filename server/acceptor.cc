#include "server/acceptor.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "server/connection_watch.h"

namespace descant {
namespace {

constexpr int kBacklog = 1024;
// After an accept() that failed for want of something.
constexpr auto kRetry = std::chrono::milliseconds(50);

int SpareDescriptor() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

bool LacksSomething(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS ||
         error == ENOMEM;
}

// A socket that listens there, or -1.
int ListenOn(const addrinfo& address) {
  const int fd =
      socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int one = 1;
  const int zero = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (address.ai_family == AF_INET6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
  }
  if (bind(fd, address.ai_addr, address.ai_addrlen) == 0 &&
      listen(fd, kBacklog) == 0) {
    return fd;
  }
  close(fd);
  return -1;
}

}  // namespace

absl::Status Acceptor::Listen(absl::string_view address) {
  const size_t colon = address.rfind(':');
  DESCANT_CHECK(colon != absl::string_view::npos);  // ValidateAddress
  absl::string_view host = address.substr(0, colon);
  absl::ConsumePrefix(&host, "[");
  absl::ConsumeSuffix(&host, "]");
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(std::string(host).c_str(),
                  std::string(address.substr(colon + 1)).c_str(), &hints,
                  &found) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("cannot resolve ", host));
  }
  bool all = true;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    const int fd = ListenOn(*each);
    all &= fd >= 0;
    if (fd >= 0) listeners_.push_back(fd);
  }
  freeaddrinfo(found);
  if (all && !listeners_.empty()) return absl::OkStatus();
  for (const int fd : listeners_) close(fd);
  listeners_.clear();
  return absl::FailedPreconditionError(
      absl::StrCat("cannot listen on ", address, "; is the port taken?"));
}

void Acceptor::Start(std::unique_ptr<Sink> sink, size_t max_connections) {
  DESCANT_CHECK(!listeners_.empty() && !thread_.joinable());
  sink_ = std::move(sink);
  max_connections_ = max_connections;
  spare_ = SpareDescriptor();
  stop_event_ = eventfd(0, EFD_CLOEXEC);
  DESCANT_CHECK(stop_event_ >= 0);
  thread_ = std::thread([this] { Run(); });
}

void Acceptor::Stop() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    DESCANT_CHECK(write(stop_event_, &one, sizeof(one)) == sizeof(one));
    thread_.join();
    close(stop_event_);
    if (spare_ >= 0) close(spare_);
  }
  for (const int fd : listeners_) close(fd);
  listeners_.clear();
}

void Acceptor::Run() {
  std::vector<pollfd> waiting;
  for (const int fd : listeners_) waiting.push_back({fd, POLLIN, 0});
  waiting.push_back({stop_event_, POLLIN, 0});
  while (true) {
    if (poll(waiting.data(), waiting.size(), -1) < 0) continue;  // EINTR
    if (waiting.back().revents != 0) return;
    for (const pollfd& listener : waiting) {
      if (listener.revents != 0) AcceptOne(listener.fd);
    }
  }
}

void Acceptor::AcceptOne(int listener) {
  sockaddr_storage peer{};
  socklen_t peer_size = sizeof(peer);
  const int fd = accept4(listener, reinterpret_cast<sockaddr*>(&peer),
                         &peer_size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    if (LacksSomething(errno)) RefuseOne(listener);
    return;  // else the client has gone already
  }
  const std::string address = AddressBytes(peer);
  struct stat file {};
  if (floods_->Refuses(address, std::chrono::steady_clock::now()) ||
      !HasRoom() || fstat(fd, &file) != 0) {
    ++refused_;
    close(fd);
    return;
  }
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  connections_[fd] = file.st_ino;
  WatchConnection(fd, file.st_ino, [floods = floods_, address] {
    floods->Add(address, std::chrono::steady_clock::now());
  });
  Sink::NewConnectionParameters connection;
  connection.listener_fd = listener;
  connection.fd = fd;
  sink_->HandleNewConnection(&connection);
}

// With the spare descriptor: told at once is better than left to wait.
void Acceptor::RefuseOne(int listener) {
  if (spare_ >= 0) close(spare_);
  const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) {
    if (++refused_ % 1000 == 1) {
      LogWarning("connections are refused: no file descriptors are left");
    }
    close(fd);
  }
  spare_ = SpareDescriptor();
  if (fd < 0 || spare_ < 0) std::this_thread::sleep_for(kRetry);
}

bool Acceptor::HasRoom() {
  if (connections_.size() < max_connections_) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_sweep_) return false;
  next_sweep_ = now + kRetry;
  ForgetClosed();
  return connections_.size() < max_connections_;
}

// Those that gRPC has closed are found when their places are needed.
void Acceptor::ForgetClosed() {
  absl::erase_if(connections_, [](const auto& connection) {
    struct stat file {};
    return fstat(connection.first, &file) != 0 ||
           file.st_ino != connection.second;
  });
}

size_t ConnectionsThatFit(size_t wanted, size_t reserved) {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return wanted;
  const rlim_t needed = wanted + reserved;
  if (files.rlim_cur < needed) {
    files.rlim_cur = std::min(files.rlim_max, needed);
    setrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_NOFILE, &files);
  }
  if (files.rlim_cur >= needed) return wanted;
  return files.rlim_cur > 2 * reserved ? files.rlim_cur - reserved : reserved;
}

}  // namespace descant
