#include "server/cli/run/batch_run.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"
#include "server/cli/error_report.h"
#include "server/cli/json_output.h"
#include "server/cli/run/answer_file.h"
#include "server/cli/run/line_reader.h"
#include "server/cli/run/request_line.h"
#include "server/cli/run/window.h"

namespace descant::cli {
namespace {

constexpr Duration kTick = std::chrono::milliseconds(100);
// A pipe that has no line yet is asked again this soon.
constexpr Duration kPipeTick = std::chrono::milliseconds(10);
// Where the server does not say how much it runs at once.
constexpr int kDefaultRunning = 64;
// Lines skipped or refused between two looks at the answers.
constexpr int kLinesAtOnce = 256;
constexpr char kBadLine[] = "BAD_LINE";

MonotonicTime Now() { return std::chrono::steady_clock::now(); }

Json ErrorJson(const std::string& code, const std::string& reason,
               const std::string& message) {
  return {
      {"error", {{"code", code}, {"reason", reason}, {"message", message}}}};
}

std::chrono::system_clock::time_point In(double seconds) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(
             std::chrono::duration<double>(seconds));
}

// A line on its way. Its address is the tag of its call.
struct Flight {
  int64_t line = 0;
  uint64_t bytes = 0;  // of the input
  uint64_t digest = 0;
  std::string id;
  v1::GenerateRequest request;

  // One attempt.
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::GenerateResponse>> reader;
  v1::GenerateResponse response;
  grpc::Status status;
};

// What an error of a call means for the run.
enum class Verdict { kLineFailed, kServerFull, kServerAway, kRunFailed };

Verdict Judge(const grpc::Status& status, const ErrorFacts& facts) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      return facts.reason.empty() || facts.reason == "DRAINING"
                 ? Verdict::kServerAway
                 : Verdict::kServerFull;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return facts.retry_delay ? Verdict::kServerFull : Verdict::kLineFailed;
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::UNKNOWN:
      // Not by us, and not by the server's own code: the call was cut off.
      return facts.reason.empty() ? Verdict::kServerAway : Verdict::kLineFailed;
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNIMPLEMENTED:
      return Verdict::kRunFailed;
    default:
      return Verdict::kLineFailed;
  }
}

// One run of the command. Used once.
class BatchRun {
 public:
  BatchRun(const Connection& connection, const BatchOptions& options)
      : connection_(connection), options_(options) {}

  BatchResult Run();

 private:
  absl::Status Open();
  // Waits for the server; leaves an error in result_.call.
  bool AskModel();
  // Reads the whole input once: digests of what was answered before and, where
  // strict, every other line.
  absl::Status CheckInput();
  absl::Status CheckDigest(const InputLine& line, uint64_t digest);

  void Loop();
  // Starts what the window allows. Sets waiting_ where a pipe has no line yet.
  absl::Status StartMore();
  absl::Status TakeLine(const InputLine& line);
  void Start(std::unique_ptr<Flight> flight);
  absl::Status Land(std::unique_ptr<Flight> flight);
  absl::Status Record(int64_t line, const std::string& id, uint64_t digest,
                      uint64_t bytes, const Json& body, bool failed);
  void Fail(const absl::Status& status);
  void GiveUp();  // of everything in flight

  int stops() const { return options_.stops ? options_.stops() : 0; }
  uint64_t Digest(const InputLine& line) const {
    return InputDigest(line.text, options_.defaults, model_.base_fingerprint());
  }

  const Connection& connection_;
  const BatchOptions& options_;
  BatchResult result_;
  v1::GetModelResponse model_;
  std::optional<AnswerFile> answers_;
  std::optional<LineReader> input_;
  std::optional<Window> window_;
  std::optional<RunProgress> progress_;
  grpc::CompletionQueue queue_;
  std::set<Flight*> in_flight_;  // owned through the queue's tags
  std::deque<std::unique_ptr<Flight>> again_;
  uint64_t last_end_ = 0;  // of the line last read
  bool input_ended_ = false;
  bool waiting_ = false;
  bool giving_up_ = false;
};

void BatchRun::Fail(const absl::Status& status) {
  if (status.ok()) return;
  if (result_.status.ok() && result_.call.ok()) result_.status = status;
  GiveUp();
}

void BatchRun::GiveUp() {
  giving_up_ = true;
  for (Flight* flight : in_flight_) flight->context->TryCancel();
}

absl::Status BatchRun::Open() {
  std::error_code error;
  if (options_.input != "-" && options_.output != "-" &&
      std::filesystem::equivalent(options_.input, options_.output, error)) {
    return absl::InvalidArgumentError("input and --out are the same file");
  }
  DESCANT_ASSIGN_OR_RETURN(LineReader input, LineReader::Open(options_.input));
  input_.emplace(std::move(input));
  if (options_.strict && !input_->is_file()) {
    return absl::InvalidArgumentError(
        "--strict reads the input twice: it needs a file");
  }
  DESCANT_ASSIGN_OR_RETURN(
      AnswerFile answers,
      AnswerFile::Open(options_.output, options_.retry_failed));
  answers_.emplace(std::move(answers));
  return absl::OkStatus();
}

bool BatchRun::AskModel() {
  const MonotonicTime began = Now();
  Window pace(1, std::random_device()());
  while (stops() == 0) {
    grpc::ClientContext context;
    SetShortDeadline(&context);
    result_.call = connection_.generation->GetModel(&context, {}, &model_);
    if (result_.call.ok()) return true;
    const ErrorFacts facts = FactsOf(result_.call);
    const Verdict verdict = Judge(result_.call, facts);
    const bool away =
        verdict == Verdict::kServerAway || verdict == Verdict::kServerFull;
    if (!away || ToSeconds(Now() - began) > options_.patience_seconds) {
      return false;
    }
    pace.OnUnreachable(facts.retry_delay.value_or(Duration{}), Now());
    while (stops() == 0 && Now() < pace.resume_at()) {
      std::this_thread::sleep_for(std::min(kTick, pace.resume_at() - Now()));
    }
  }
  return false;
}

absl::Status BatchRun::CheckDigest(const InputLine& line, uint64_t digest) {
  const std::optional<uint64_t> recorded = answers_->Find(line.number);
  if (!recorded || *recorded == digest) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      options_.output, ": line ", line.number,
      " was answered for another input, other options or another base model; "
      "choose another --out"));
}

absl::Status BatchRun::CheckInput() {
  if (!input_->is_file() || (!options_.strict && answers_->last_line() == 0)) {
    return absl::OkStatus();
  }
  DESCANT_ASSIGN_OR_RETURN(LineReader reader, LineReader::Open(options_.input));
  InputLine line;
  int64_t last = 0;
  while (stops() == 0) {
    DESCANT_ASSIGN_OR_RETURN(const LineReader::Result result,
                             reader.Next(&line));
    if (result != LineReader::Result::kLine) break;
    last = line.number;
    if (!options_.strict && last > answers_->last_line()) break;
    DESCANT_RETURN_IF_ERROR(CheckDigest(line, Digest(line)));
    if (!options_.strict) continue;
    const absl::Status parsed =
        line.too_long ? absl::InvalidArgumentError("too long")
                      : ParseRequestLine(line.text, options_.defaults).status();
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          options_.input, ":", line.number, ": ", parsed.message()));
    }
  }
  if (stops() == 0 && last < answers_->last_line()) {
    return absl::FailedPreconditionError(
        absl::StrCat(options_.output, ": line ", answers_->last_line(),
                     " was answered, and the input has only ", last));
  }
  return absl::OkStatus();
}

absl::Status BatchRun::Record(int64_t line, const std::string& id,
                              uint64_t digest, uint64_t bytes, const Json& body,
                              bool failed) {
  DESCANT_RETURN_IF_ERROR(
      answers_->Append(AnswerRecord(line, id, digest, body)));
  ++(failed ? result_.counts.failed : result_.counts.answered);
  result_.counts.done_bytes += bytes;
  return absl::OkStatus();
}

absl::Status BatchRun::TakeLine(const InputLine& line) {
  const uint64_t digest = Digest(line);
  const uint64_t bytes = line.end - std::exchange(last_end_, line.end);
  if (answers_->Find(line.number)) {
    DESCANT_RETURN_IF_ERROR(CheckDigest(line, digest));
    ++result_.counts.skipped;
    result_.counts.skipped_bytes += bytes;
    return absl::OkStatus();
  }
  absl::StatusOr<RequestLine> parsed =
      line.too_long
          ? absl::InvalidArgumentError(absl::StrCat(
                "the line is longer than ", kMaxLineBytes >> 20, " MiB"))
          : ParseRequestLine(line.text, options_.defaults);
  if (!parsed.ok()) {
    return Record(line.number, "", digest, bytes,
                  ErrorJson("INVALID_ARGUMENT", kBadLine,
                            std::string(parsed.status().message())),
                  /*failed=*/true);
  }
  auto flight = std::make_unique<Flight>();
  flight->line = line.number;
  flight->bytes = bytes;
  flight->digest = digest;
  flight->id = std::move(parsed->id);
  flight->request = std::move(parsed->request);
  Start(std::move(flight));
  return absl::OkStatus();
}

void BatchRun::Start(std::unique_ptr<Flight> flight) {
  flight->context = std::make_unique<grpc::ClientContext>();
  flight->context->set_deadline(In(options_.timeout_seconds));
  flight->response.Clear();
  flight->reader = connection_.generation->PrepareAsyncGenerate(
      flight->context.get(), flight->request, &queue_);
  flight->reader->StartCall();
  Flight* const tag = flight.release();
  in_flight_.insert(tag);
  tag->reader->Finish(&tag->response, &tag->status, tag);
}

absl::Status BatchRun::StartMore() {
  waiting_ = false;
  InputLine line;
  for (int taken = 0; taken < kLinesAtOnce; ++taken) {
    if (!window_->MayStart(static_cast<int>(in_flight_.size()), Now())) {
      return absl::OkStatus();
    }
    if (!again_.empty()) {
      Start(std::move(again_.front()));
      again_.pop_front();
      continue;
    }
    if (input_ended_) return absl::OkStatus();
    DESCANT_ASSIGN_OR_RETURN(const LineReader::Result result,
                             input_->Next(&line));
    if (result == LineReader::Result::kNotYet) waiting_ = true;
    if (result == LineReader::Result::kEnd) input_ended_ = true;
    if (result != LineReader::Result::kLine) return absl::OkStatus();
    DESCANT_RETURN_IF_ERROR(TakeLine(line));
  }
  return absl::OkStatus();
}

absl::Status BatchRun::Land(std::unique_ptr<Flight> flight) {
  if (flight->status.ok()) {
    window_->OnAnswer();
    result_.counts.output_tokens +=
        flight->response.usage().completion_tokens();
    return Record(flight->line, flight->id, flight->digest, flight->bytes,
                  AnswerJson(flight->response), /*failed=*/false);
  }
  if (giving_up_) return absl::OkStatus();
  const ErrorFacts facts = FactsOf(flight->status);
  const Duration delay = facts.retry_delay.value_or(Duration{});
  switch (Judge(flight->status, facts)) {
    case Verdict::kLineFailed:
      window_->OnAnswer();
      return Record(flight->line, flight->id, flight->digest, flight->bytes,
                    ErrorJson(facts.code, facts.reason, facts.message),
                    /*failed=*/true);
    case Verdict::kServerFull:
      window_->OnOverload(static_cast<int>(in_flight_.size()), delay, Now());
      break;
    case Verdict::kServerAway:
      window_->OnUnreachable(delay, Now());
      if (ToSeconds(Now() - *window_->unreachable_since()) >
          options_.patience_seconds) {
        result_.call = flight->status;
        GiveUp();
        return absl::OkStatus();
      }
      break;
    case Verdict::kRunFailed:
      result_.call = flight->status;
      GiveUp();
      return absl::OkStatus();
  }
  again_.push_back(std::move(flight));
  return absl::OkStatus();
}

void BatchRun::Loop() {
  const MonotonicTime began = Now();
  while (true) {
    const int stops = this->stops();
    if (stops > 1 && !giving_up_) GiveUp();
    if (stops == 0 && !giving_up_) Fail(StartMore());
    const bool no_more =
        giving_up_ || stops > 0 || (input_ended_ && again_.empty());
    if (in_flight_.empty() && no_more) break;
    const Duration wait = waiting_ && in_flight_.empty() ? kPipeTick : kTick;
    void* tag = nullptr;
    bool ok = false;
    if (queue_.AsyncNext(&tag, &ok, In(ToSeconds(wait))) ==
        grpc::CompletionQueue::GOT_EVENT) {
      std::unique_ptr<Flight> flight(static_cast<Flight*>(tag));
      in_flight_.erase(flight.get());
      Fail(Land(std::move(flight)));
    }
    result_.counts.seconds = ToSeconds(Now() - began);
    progress_->Update(result_.counts);
  }
  result_.complete = input_ended_ && again_.empty() && !giving_up_;
}

BatchResult BatchRun::Run() {
  result_.status = Open();
  if (!result_.status.ok() || !AskModel()) return std::move(result_);
  result_.status = CheckInput();
  if (!result_.status.ok() || stops() > 0) return std::move(result_);
  // Some more than run at once, so that whoever ends has a successor there.
  const int running = model_.generation_limits().max_running() > 0
                          ? model_.generation_limits().max_running()
                          : kDefaultRunning;
  window_.emplace(options_.concurrency > 0 ? options_.concurrency
                                           : running + (running + 3) / 4,
                  std::random_device()());
  result_.failed_before = answers_->failed();
  result_.counts.total_bytes = input_->total_bytes();
  progress_.emplace(options_.show_progress, input_->total_bytes());
  Loop();
  progress_.reset();
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
  const absl::Status finished =
      answers_->Finish(options_.in_order && result_.complete);
  if (!finished.ok() && result_.status.ok()) {
    result_.status = finished;
    result_.complete = false;
  }
  return std::move(result_);
}

}  // namespace

BatchResult RunBatch(const Connection& connection,
                     const BatchOptions& options) {
  return BatchRun(connection, options).Run();
}

}  // namespace descant::cli
