#include "server/cli/top/live_terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/string_view.h"
#include "runtime/base/check.h"

namespace descant::cli {
namespace {

// The alternate screen, no cursor; and back.
constexpr absl::string_view kEnter = "\x1b[?1049h\x1b[?25l";
constexpr absl::string_view kLeave = "\x1b[?25h\x1b[?1049l";

bool WriteAll(absl::string_view text) {
  while (!text.empty()) {
    const ssize_t done = write(STDOUT_FILENO, text.data(), text.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return false;
    text.remove_prefix(static_cast<size_t>(done));
  }
  return true;
}

}  // namespace

LiveTerminal::LiveTerminal() {
  sigset_t taken;
  sigemptyset(&taken);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH}) {
    sigaddset(&taken, signal);
  }
  pthread_sigmask(SIG_BLOCK, &taken, &old_mask_);
  signals_ = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
  DESCANT_CHECK(signals_ >= 0);
  Enter();
}

LiveTerminal::~LiveTerminal() {
  Leave();
  close(signals_);
  pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
}

void LiveTerminal::Enter() {
  termios input = {};
  if (tcgetattr(STDIN_FILENO, &input) == 0) {
    old_input_ = input;
    // Keys as they come, and unseen; Ctrl-C and Ctrl-Z stay signals.
    input.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    keys_ = tcsetattr(STDIN_FILENO, TCSANOW, &input) == 0;
  }
  WriteAll(kEnter);
}

void LiveTerminal::Leave() {
  if (old_input_.has_value()) {
    tcsetattr(STDIN_FILENO, TCSANOW, &*old_input_);
  }
  WriteAll(kLeave);
}

TerminalSize LiveTerminal::size() const {
  winsize window = {};
  TerminalSize size;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 &&
      window.ws_row > 0) {
    size.width = window.ws_col;
    size.height = window.ws_row;
  }
  return size;
}

bool LiveTerminal::Draw(const std::string& frame) {
  std::string text = "\x1b[H";
  absl::string_view rest = frame;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    // Each line over the old one, cleared to its end; no newline after the last
    // one, which would scroll.
    text.append(rest.data(), end);
    text += "\x1b[K";
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (!rest.empty()) text += "\r\n";
  }
  text += "\x1b[J";
  return WriteAll(text);
}

LiveTerminal::Event LiveTerminal::Wait(MonotonicTime until) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return Event::kTimeout;
    pollfd ready[] = {{signals_, POLLIN, 0},
                      {keys_ ? STDIN_FILENO : -1, POLLIN, 0}};
    const int count = poll(
        ready, 2, static_cast<int>(std::min<int64_t>(left.count(), 1 << 30)));
    if (count < 0 && errno != EINTR) return Event::kQuit;
    if (count <= 0) continue;
    if (ready[0].revents != 0) return TakeSignal();
    return TakeKey();
  }
}

LiveTerminal::Event LiveTerminal::TakeSignal() {
  signalfd_siginfo info = {};
  if (read(signals_, &info, sizeof(info)) != sizeof(info)) {
    return Event::kRefresh;
  }
  const int signal = static_cast<int>(info.ssi_signo);
  if (signal == SIGWINCH) return Event::kResize;
  if (signal != SIGTSTP) {
    signal_ = signal;
    return Event::kQuit;
  }
  Leave();
  raise(SIGSTOP);
  Enter();
  return Event::kResize;
}

LiveTerminal::Event LiveTerminal::TakeKey() {
  char key = 0;
  const ssize_t got = read(STDIN_FILENO, &key, 1);
  if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) {
    keys_ = false;  // the terminal hung up
  }
  return key == 'q' || key == 'Q' ? Event::kQuit : Event::kRefresh;
}

}  // namespace descant::cli
