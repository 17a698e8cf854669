#include "server/self_test.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "adapters/identity.h"
#include "runtime/base/clock.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/version.h"

namespace descant {
namespace {

std::string Explain(const SelfTestCheck& check) {
  if (!check.status.ok()) {
    return absl::StrCat(check.name, ": ", check.status.message());
  }
  return absl::StrFormat("%s: error %.3g, allowed is %.3g", check.name,
                         check.error, check.bound);
}

// What a passed test holds for.
std::string MarkerText(const Model& model, const RunnerOptions& options,
                       const DeviceUnderTest& device) {
  return absl::StrCat("descant self-test passed\n", kServerVersion, "\n",
                      model.base_shape.fingerprint, "\n",
                      WeightTypeName(options.weights), "\n", device.name, "\n");
}

std::string MarkerPath(const std::string& folder, const std::string& text) {
  return absl::StrCat(folder, "/", HexOf(Sha256Of(text)).substr(0, 32),
                      ".tested");
}

absl::Status LeaveMarker(const std::string& folder, const std::string& text,
                         Fs* fs) {
  std::error_code ignored;
  std::filesystem::create_directories(
      std::filesystem::path(folder).parent_path(), ignored);
  DESCANT_RETURN_IF_ERROR(fs->CreateDirectory(folder));
  const std::string path = MarkerPath(folder, text);
  // Several processes may write it.
  const std::string temporary = absl::StrCat(path, ".", getpid());
  fs->Remove(temporary).IgnoreError();
  DESCANT_ASSIGN_OR_RETURN(const auto file, fs->Create(temporary));
  DESCANT_RETURN_IF_ERROR(file->Append(text));
  DESCANT_RETURN_IF_ERROR(file->Sync());
  DESCANT_RETURN_IF_ERROR(fs->Rename(temporary, path));
  return fs->SyncDirectory(folder);
}

}  // namespace

absl::Status RunSelfTest(const std::shared_ptr<const Model>& model,
                         const RunnerOptions& options,
                         const DeviceUnderTest& device, SelfTestReport report) {
  int checks = 0, failures = 0;
  std::string first;
  const auto count = [&](const SelfTestCheck& given) {
    SelfTestCheck check = given;
    check.status.Update(Failpoint("self_test.check"));
    ++checks;
    if (!check.ok()) {
      LogError("self-test: ", Explain(check));
      if (failures++ == 0) first = Explain(check);
    }
    report(check);
  };
  const MonotonicTime begin = std::chrono::steady_clock::now();
  device.test_kernels(count);
  TestLayers(model, options, device.make_runner, count);
  const double seconds = ToSeconds(std::chrono::steady_clock::now() - begin);
  const std::string summary =
      absl::StrFormat("self-test of %s: %d checks, %d failed, %.1f s",
                      device.name, checks, failures, seconds);
  if (failures == 0) {
    LogInfo(summary);
    return absl::OkStatus();
  }
  LogError(summary);
  return absl::InternalError(absl::StrCat(
      "self-test: ", device.name, " computes something else than the ",
      "reference (", failures, " of ", checks, " checks); ", first));
}

absl::Status SelfTestBeforeServing(StartupSelfTest mode,
                                   const std::shared_ptr<const Model>& model,
                                   const RunnerOptions& options,
                                   const DeviceUnderTest& device, Fs* fs) {
  if (mode == StartupSelfTest::kOff) return absl::OkStatus();
  const std::string& folder = options.weights_cache;
  const std::string text = MarkerText(*model, options, device);
  if (mode == StartupSelfTest::kAuto) {
    if (!device.tested_by_default) return absl::OkStatus();
    if (!folder.empty()) {
      const auto passed = ReadFile(fs, MarkerPath(folder, text), 1 << 12);
      if (passed.ok() && *passed == text) return absl::OkStatus();
    }
  }
  DESCANT_RETURN_IF_ERROR(
      RunSelfTest(model, options, device, [](const SelfTestCheck&) {}));
  if (folder.empty()) return absl::OkStatus();
  if (const absl::Status left = LeaveMarker(folder, text, fs); !left.ok()) {
    LogWarning("the next start repeats the self-test: ", left.ToString());
  }
  return absl::OkStatus();
}

}  // namespace descant
