#include "server/cli/child_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace descant::cli {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(10);

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) {
    pointers.push_back(const_cast<char*>(text.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

absl::Status Errno(const char* what) {
  return absl::InternalError(absl::StrCat(what, ": ", std::strerror(errno)));
}

// Between fork and exec: async-signal-safe calls only.
[[noreturn]] void RunChild(char* const* argv, char* const* environment,
                           int log_fd, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  // Away from the terminal's Ctrl-C, which is the parent's to handle.
  setpgid(0, 0);
  dup2(log_fd, STDOUT_FILENO);
  dup2(log_fd, STDERR_FILENO);
  execve(argv[0], argv, environment);
  _exit(127);
}

}  // namespace

absl::StatusOr<ChildProcess> ChildProcess::Start(
    const std::vector<std::string>& argv,
    const std::vector<std::string>& environment, const std::string& log_path) {
  if (access(argv[0].c_str(), X_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("no program ", argv[0]));
  }
  const int log_fd =
      open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log_fd < 0) return Errno("open log");
  std::vector<std::string> all_environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    all_environment.emplace_back(*entry);
  }
  // getenv() takes the first of two entries with the same name.
  all_environment.insert(all_environment.begin(), environment.begin(),
                         environment.end());
  const std::vector<char*> argv_pointers = Pointers(argv);
  const std::vector<char*> environment_pointers = Pointers(all_environment);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    RunChild(argv_pointers.data(), environment_pointers.data(), log_fd, parent);
  }
  close(log_fd);
  if (pid < 0) return Errno("fork");
  return ChildProcess(pid);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), exit_code_(other.exit_code_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(exit_code_, other.exit_code_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0 || Poll().has_value()) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void ChildProcess::Signal(int signal) {
  if (pid_ > 0 && !Poll().has_value()) kill(pid_, signal);
}

std::optional<int> ChildProcess::Poll() {
  if (exit_code_.has_value() || pid_ < 0) return exit_code_;
  int state = 0;
  if (waitpid(pid_, &state, WNOHANG) != pid_) return std::nullopt;
  exit_code_ = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  return exit_code_;
}

std::optional<int> ChildProcess::Wait(Duration timeout) {
  const MonotonicTime end = std::chrono::steady_clock::now() + timeout;
  while (!Poll().has_value() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(kPollInterval);
  }
  return exit_code_;
}

absl::StatusOr<std::vector<int>> FreeLoopbackPorts(int count) {
  // All sockets stay open until the end, so that the ports differ.
  std::vector<int> sockets;
  std::vector<int> ports;
  absl::Status status;
  while (status.ok() && static_cast<int>(ports.size()) < count) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
      status = Errno("socket");
      break;
    }
    sockets.push_back(fd);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      status = Errno("bind");
    } else {
      ports.push_back(ntohs(address.sin_port));
    }
  }
  for (const int fd : sockets) close(fd);
  if (!status.ok()) return status;
  return ports;
}

}  // namespace descant::cli
