#include "server/backend.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/fs.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/cpu_self_test.h"
#include "runtime/model/cuda_device.h"
#include "runtime/model/cuda_self_test.h"
#include "runtime/model/weights_cache.h"
#include "server/limits.h"
#include "server/self_test.h"

namespace descant {
namespace {

// Of a GPU's weights and activations.
constexpr kernels::HalfType kHalf = kernels::HalfType::kBf16;

RunnerOptions MakeRunnerOptions(const ServerConfig& config, const Model& model,
                                int32_t max_model_len) {
  RunnerOptions options;
  options.limits.max_rows = config.token_budget;
  // A decoding sequence takes one row of each step.
  options.limits.max_sequences =
      std::min(config.max_running, config.token_budget);
  options.limits.max_outputs =
      options.limits.max_sequences + limits::kSpareOutputs;
  options.limits.max_blocks_per_sequence =
      (max_model_len + kBlockSize - 1) / kBlockSize;
  options.limits.max_slots = config.max_adapters;
  options.kv_bytes = config.kv_memory;
  options.adapter_bytes = config.adapter_memory;
  if (config.hot_merge) {
    options.merged_bytes = config.merge_memory != 0
                               ? config.merge_memory
                               : kUsualMerges * MostMergedBytes(model);
  }
  options.threads = config.threads;
  options.weights = config.weights;
  options.adapter_weights = config.adapter_weights;
  options.weights_cache = config.weights_cache.empty() ? DefaultWeightsCache()
                                                       : config.weights_cache;
  if (options.weights_cache == "none") options.weights_cache.clear();
  return options;
}

// "cuda", "cpu" or "reference".
std::string ChooseDevice(const ServerConfig& config) {
  if (config.device != "auto") return config.device;
  // (A GPU has no other weights.)
  if (config.weights != WeightType::kBf16 ||
      config.adapter_weights != AdapterWeightType::kBf16) {
    return "cpu";
  }
  const absl::Status gpu = MakeCudaDevice(0, kHalf).status();
  if (gpu.ok()) return "cuda";
  // That there is none needs no word.
  if (!absl::IsUnimplemented(gpu) && !absl::IsUnavailable(gpu)) {
    LogWarning("the GPU is not used: ", gpu.message());
  }
  return "cpu";
}

absl::StatusOr<std::unique_ptr<Runner>> MakeRunner(
    const std::string& device, std::shared_ptr<const Model> model,
    const RunnerOptions& options) {
  if (device == "cuda") {
    auto runner = MakeCudaRunner(std::move(model), options);
    if (runner.ok()) return runner;
    return absl::Status(
        runner.status().code(),
        absl::StrCat("--device=cuda: ", runner.status().message()));
  }
  if (device == "reference") {
    if (options.weights != WeightType::kBf16) {
      return absl::InvalidArgumentError(
          "--weights: the reference runner computes in fp32");
    }
    if (options.adapter_weights != AdapterWeightType::kBf16) {
      return absl::InvalidArgumentError(
          "--adapter-weights: the reference runner computes in fp32");
    }
    return MakeReferenceRunner(std::move(model), options);
  }
  return MakeCpuRunner(std::move(model), options);
}

absl::StatusOr<DeviceUnderTest> DeviceOf(const std::string& device) {
  if (device == "cuda") {
    const auto gpu = MakeCudaDevice(0, kHalf);
    if (!gpu.ok()) {
      return absl::Status(
          gpu.status().code(),
          absl::StrCat("--device=cuda: ", gpu.status().message()));
    }
    return DeviceUnderTest{absl::StrCat("cuda, ", (*gpu)->Describe()),
                           /*tested_by_default=*/true, &TestFirstGpuKernels,
                           &MakeCudaRunner};
  }
  if (device == "reference") {
    return absl::InvalidArgumentError(
        "--device=reference: a self-test compares others with it");
  }
  return DeviceUnderTest{"cpu", /*tested_by_default=*/false,
                         &TestCpuKernelsInUse, &MakeCpuRunner};
}

absl::Status TestIfAsked(const ServerConfig& config, const std::string& name,
                         const std::shared_ptr<const Model>& model,
                         const RunnerOptions& options) {
  // What can't be tested serves, unless a test is asked for.
  const absl::StatusOr<DeviceUnderTest> device = DeviceOf(name);
  if (!device.ok()) {
    return config.startup_self_test == StartupSelfTest::kOn ? device.status()
                                                            : absl::OkStatus();
  }
  PosixFs fs;
  return SelfTestBeforeServing(config.startup_self_test, model, options,
                               *device, &fs);
}

}  // namespace

absl::Status SelfTestBackend(const ServerConfig& config,
                             SelfTestReport report) {
  DESCANT_ASSIGN_OR_RETURN(const DeviceUnderTest device,
                           DeviceOf(ChooseDevice(config)));
  DESCANT_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(config.model));
  return RunSelfTest(loaded.model,
                     MakeRunnerOptions(config, *loaded.model,
                                       loaded.model->config.max_position),
                     device, report);
}

absl::StatusOr<int32_t> ServedModelLen(int32_t flag, int32_t of_model) {
  if (flag == 0) return of_model;
  if (flag > of_model) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-model-len: the model was made for at most ",
                     of_model, " tokens"));
  }
  return flag;
}

absl::StatusOr<Backend> LoadBackend(const ServerConfig& config) {
  DESCANT_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(config.model));
  Backend backend;
  DESCANT_ASSIGN_OR_RETURN(
      backend.max_model_len,
      ServedModelLen(config.max_model_len, loaded.model->config.max_position));
  const RunnerOptions options =
      MakeRunnerOptions(config, *loaded.model, backend.max_model_len);
  const std::string device = ChooseDevice(config);
  DESCANT_RETURN_IF_ERROR(TestIfAsked(config, device, loaded.model, options));
  DESCANT_ASSIGN_OR_RETURN(backend.runner,
                           MakeRunner(device, loaded.model, options));
  const int64_t fits = int64_t{backend.runner->num_blocks()} * kBlockSize;
  if (fits < backend.max_model_len) {
    if (config.max_model_len != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--max-model-len: the KV cache holds only ", fits,
                       " tokens; raise --kv-memory"));
    }
    LogWarning("the KV cache holds only ", fits,
               " tokens: the context is cut to that");
    backend.max_model_len = static_cast<int32_t>(fits);
  }
  LogInfo("device: ", backend.runner->Describe(), " (--device=", config.device,
          "), ", backend.runner->num_blocks(), " KV blocks of ", kBlockSize,
          " tokens");
  backend.model = std::move(loaded.model);
  backend.tokenizer = std::move(loaded.tokenizer);
  return backend;
}

}  // namespace descant
