// A terminal that is drawn on again and again, and given back as it was.
#ifndef DESCANT_SERVER_CLI_TOP_LIVE_TERMINAL_H_
#define DESCANT_SERVER_CLI_TOP_LIVE_TERMINAL_H_

#include <signal.h>
#include <termios.h>

#include <optional>
#include <string>

#include "runtime/base/clock.h"

namespace descant::cli {

struct TerminalSize {
  int width = 80;
  int height = 24;
};

// Standard output on the alternate screen, without cursor, and standard input
// by single keys, where they are terminals. SIGINT, SIGTERM, SIGHUP, SIGTSTP
// and SIGWINCH are taken between construction and destruction: make it before
// any other thread. Not thread-safe; one at a time.
class LiveTerminal {
 public:
  enum class Event {
    kTimeout,
    kResize,   // the size changed, or the process went on after a stop
    kRefresh,  // a key that asks for nothing else
    kQuit,     // q, or one of the signals
  };

  LiveTerminal();
  ~LiveTerminal();
  LiveTerminal(const LiveTerminal&) = delete;
  LiveTerminal& operator=(const LiveTerminal&) = delete;

  TerminalSize size() const;
  // Puts `frame` in place of what is there. False: the terminal has gone.
  bool Draw(const std::string& frame);
  Event Wait(MonotonicTime until);
  // The signal that made Wait say kQuit; 0: none.
  int signal() const { return signal_; }

 private:
  void Enter();
  void Leave();
  Event TakeSignal();
  Event TakeKey();

  int signals_ = -1;  // a signalfd
  sigset_t old_mask_{};
  std::optional<termios> old_input_;
  bool keys_ = false;  // standard input is a terminal, and ours
  int signal_ = 0;
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_TOP_LIVE_TERMINAL_H_
