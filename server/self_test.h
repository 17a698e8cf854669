// The self-test of the device, by itself (--self-test) and before serving
// (--startup-self-test).
#ifndef DESCANT_SERVER_SELF_TEST_H_
#define DESCANT_SERVER_SELF_TEST_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "runtime/base/fs.h"
#include "runtime/model/model.h"
#include "runtime/model/self_test.h"
#include "server/config.h"

namespace descant {

struct DeviceUnderTest {
  // Hardware and software that a result holds for: "cuda, NVIDIA H100 80GB
  // HBM3, sm_90, driver of CUDA 13.1".
  std::string name;
  bool tested_by_default = false;  // with StartupSelfTest::kAuto
  std::function<void(SelfTestReport)> test_kernels;
  RunnerFactory make_runner;
};

// Every kernel, then every layer of `model`. One log line for each failure, and
// one that sums up. INTERNAL, with the first failure: the device computes
// something else than the reference. Needs the memory of a layer, of embeddings
// and head; nothing else should use the device.
absl::Status RunSelfTest(const std::shared_ptr<const Model>& model,
                         const RunnerOptions& options,
                         const DeviceUnderTest& device, SelfTestReport report);

// RunSelfTest where `mode` asks for it: kAuto for devices that are tested by
// default. A test that went well leaves a file in options.weights_cache, after
// which kAuto does not repeat it for the same model, type of weights, device
// and version of the server; without such a folder it does.
absl::Status SelfTestBeforeServing(StartupSelfTest mode,
                                   const std::shared_ptr<const Model>& model,
                                   const RunnerOptions& options,
                                   const DeviceUnderTest& device, Fs* fs);

}  // namespace descant

#endif  // DESCANT_SERVER_SELF_TEST_H_
