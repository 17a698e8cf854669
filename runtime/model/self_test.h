// Whether a device computes what the reference does: each layer of the model
// that is to be served. Kernels one by one: cpu_self_test.h, cuda_self_test.h.
// No Torch in this header.
#ifndef DESCANT_RUNTIME_MODEL_SELF_TEST_H_
#define DESCANT_RUNTIME_MODEL_SELF_TEST_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/model.h"
#include "runtime/model/runner.h"

namespace descant {

// One thing that was compared.
struct SelfTestCheck {
  std::string name;  // "kernel attention", "layer 3"
  double error = 0;  // the largest
  double bound = 0;
  absl::Status status;  // not OK: it could not be computed at all

  // False for an error that is no number.
  bool ok() const { return status.ok() && error <= bound; }
};

// Called for each of them in turn.
using SelfTestReport = absl::FunctionRef<void(const SelfTestCheck&)>;

// Makes the runner under test for a model of one layer.
using RunnerFactory = std::function<absl::StatusOr<std::unique_ptr<Runner>>(
    std::shared_ptr<const Model>, const RunnerOptions&)>;

// Each layer by itself, as a model of one layer under random embeddings and a
// random head, then embeddings and head around the first layer: "layer N" from
// 0 on, and "embedding and head". Base rows and rows of two adapters on every
// module, prefills in chunks beside decodes.
//
// The error is that of the log-probabilities of a row, root mean square; under
// a random head it is that of the hidden state relative to its size. The bound
// comes from what the reference itself makes of weights that are off by as much
// as the runner rounds, so it is wider where a layer amplifies roundings.
// Faults below it are not seen, nor are those of what the prompts (at most 64
// tokens) do not reach: long contexts, and the ends of windows.
//
// Of `options` it takes threads and weights. The reference holds one layer in
// fp32 at a time; at the end the embeddings and the head, too.
void TestLayers(const std::shared_ptr<const Model>& model,
                const RunnerOptions& options, const RunnerFactory& make_runner,
                SelfTestReport report);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_SELF_TEST_H_
