// `descant top`: who uses the server, as it happens.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "descant/v1/admin.grpc.pb.h"
#include "server/cli/command.h"
#include "server/cli/connection.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/top/live_terminal.h"
#include "server/cli/top/top_frame.h"
#include "server/cli/top/top_stats.h"

namespace descant::cli {
namespace {

struct TopOptions {
  std::string admin_target = "127.0.0.1:50052";
  double interval = 1;  // s
  bool once = false;
};

// How long a picture may wait for the server before it says so.
constexpr auto kPatience = std::chrono::seconds(4);

class Top {
 public:
  Top(const TopOptions& options, const GlobalOptions& global)
      : options_(options),
        global_(global),
        admin_(v1::AdminService::NewStub(
            Connect(options.admin_target, global.credentials).channel)),
        interval_(std::chrono::duration_cast<Duration>(
            std::chrono::duration<double>(options.interval))) {}

  // One picture over one interval.
  ExitCode Once() {
    if (const ExitCode code = Begin(); code != kExitOk) return code;
    std::this_thread::sleep_for(interval_);
    if (const grpc::Status status = Ask(); !status.ok()) {
      return ReportError(status, options_.admin_target);
    }
    Print();
    return kExitOk;
  }

  // One after the other, as text or as lines of JSON.
  ExitCode Stream() {
    if (const ExitCode code = Begin(); code != kExitOk) return code;
    while (std::ferror(stdout) == 0) {
      std::this_thread::sleep_for(interval_);
      if (const grpc::Status status = Ask(); !status.ok()) {
        return ReportError(status, options_.admin_target);
      }
      Print();
    }
    return kExitOk;
  }

  // On a terminal, until q or a signal. Not OK: there was no answer at all; a
  // server that stops answering later is waited for.
  grpc::Status Live(LiveTerminal* terminal) {
    if (const grpc::Status status = Ask(); !status.ok()) return status;
    AskIdentity();
    const char* no_color = std::getenv("NO_COLOR");
    const bool bold = no_color == nullptr || no_color[0] == '\0';
    MonotonicTime next = std::chrono::steady_clock::now() + interval_;
    while (true) {
      const TerminalSize size = terminal->size();
      const TopView view = View(size.width, size.height, bold);
      if (!terminal->Draw(RenderTop(stats_, view))) return grpc::Status::OK;
      const LiveTerminal::Event event = terminal->Wait(next);
      if (event == LiveTerminal::Event::kQuit) return grpc::Status::OK;
      if (event != LiveTerminal::Event::kTimeout) continue;
      failure_ = Ask();
      next = std::chrono::steady_clock::now() + interval_;
    }
  }

 private:
  ExitCode Begin() {
    if (const grpc::Status status = Ask(); !status.ok()) {
      return ReportError(status, options_.admin_target);
    }
    AskIdentity();
    return kExitOk;
  }

  grpc::Status Ask() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    v1::GetStatsResponse answer;
    const grpc::Status status = admin_->GetStats(&context, {}, &answer);
    if (!status.ok()) return status;
    stats_ = TopStatsOf(has_answer_ ? &last_ : nullptr, answer);
    last_ = std::move(answer);
    has_answer_ = true;
    return status;
  }

  // What the server is, from its main listener; the picture does without it
  // where that one has no answer for this caller.
  void AskIdentity() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    v1::GetModelResponse model;
    const Connection connection = Connect(global_.target, global_.credentials);
    if (connection.generation->GetModel(&context, {}, &model).ok()) {
      title_ = absl::StrCat(model.server_version(), "  ", model.name(), "  ",
                            model.device());
    }
  }

  TopView View(int width, int height, bool bold) const {
    TopView view;
    view.title = title_;
    view.width = width;
    view.height = height;
    view.bold = bold;
    if (!failure_.ok()) {
      view.notice = absl::StrCat("no answer: ", DescribeError(failure_));
    }
    return view;
  }

  void Print() const {
    if (global_.json) {
      PrintJson(TopJson(stats_));
    } else {
      std::printf("%s%s",
                  RenderTop(stats_, View(kPlainWidth, 0, false)).c_str(),
                  options_.once ? "" : "\n");
    }
    // Whoever reads a pipe wants each picture as it comes.
    std::fflush(stdout);
  }

  // All columns and long names.
  static constexpr int kPlainWidth = 120;

  const TopOptions options_;
  const GlobalOptions& global_;
  const std::unique_ptr<v1::AdminService::Stub> admin_;
  const Duration interval_;
  std::string title_;
  v1::GetStatsResponse last_;
  bool has_answer_ = false;
  TopStats stats_;
  grpc::Status failure_;
};

ExitCode RunLive(const TopOptions& options, const GlobalOptions& global) {
  grpc::Status status;
  int signal = 0;
  {
    // First: gRPC's threads are to be made with the signals blocked.
    LiveTerminal terminal;
    Top top(options, global);
    status = top.Live(&terminal);
    signal = terminal.signal();
  }
  if (!status.ok()) return ReportError(status, options.admin_target);
  if (signal != 0) {
    // Ends as whoever sent it expects, now that the terminal is as it was.
    ::signal(signal, SIG_DFL);
    raise(signal);
  }
  return kExitOk;
}

ExitCode RunTop(const TopOptions& options, const GlobalOptions& global) {
  if (!options.once && !global.json && isatty(STDOUT_FILENO) == 1) {
    return RunLive(options, global);
  }
  Top top(options, global);
  return options.once ? top.Once() : top.Stream();
}

}  // namespace

void AddTopCommand(CLI::App* app, Command* chosen) {
  const auto options = std::make_shared<TopOptions>();
  CLI::App* top = app->add_subcommand(
      "top", "Operators: tenants, adapters and load, as they change; q quits");
  top->add_option("--admin-target", options->admin_target,
                  "The server's admin listener, HOST:PORT")
      ->envname("DESCANT_ADMIN_TARGET")
      ->capture_default_str();
  top->add_option("--interval", options->interval, "Seconds between pictures")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  top->add_flag("--once", options->once, "One picture over one interval");
  top->callback([options, chosen] {
    *chosen = [options](const GlobalOptions& global) {
      return RunTop(*options, global);
    };
  });
}

}  // namespace descant::cli
