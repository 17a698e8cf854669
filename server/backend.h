// From configuration to a loaded model and the runner that computes it.
#ifndef DESCANT_SERVER_BACKEND_H_
#define DESCANT_SERVER_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"
#include "runtime/model/model.h"
#include "runtime/model/runner.h"
#include "runtime/model/self_test.h"
#include "server/config.h"

namespace descant {

struct Backend {
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<Runner> runner;
  int32_t max_model_len = 0;
};

// Tests the device first where the configuration asks for it. Logs one line
// that says which device was chosen. Errors are one line about
// the model's files or the flag that does not fit them.
absl::StatusOr<Backend> LoadBackend(const ServerConfig& config);

// --self-test: of the device that would be chosen, with the model; see
// RunSelfTest. Errors of LoadBackend too.
absl::Status SelfTestBackend(const ServerConfig& config, SelfTestReport report);

// The context that is served: the flag's, or the model's where it is 0.
// INVALID_ARGUMENT when it is more than the model's.
absl::StatusOr<int32_t> ServedModelLen(int32_t flag, int32_t of_model);

}  // namespace descant

#endif  // DESCANT_SERVER_BACKEND_H_
