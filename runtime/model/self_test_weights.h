// What the self-test reads weights through.
#ifndef DESCANT_RUNTIME_MODEL_SELF_TEST_WEIGHTS_H_
#define DESCANT_RUNTIME_MODEL_SELF_TEST_WEIGHTS_H_

#include <cstdint>
#include <memory>

#include "runtime/model/model_config.h"
#include "runtime/model/weight_source.h"
#include "runtime/model/weight_type.h"

namespace descant {

// The root mean square of OneLayerWeights' embeddings: far below what a layer
// adds to them, so that the last hidden state is the layer's.
inline constexpr float kSelfTestEmbedding = 1.0f / 64;

// Layer 0 is layer `layer` of `inner`. Embeddings, positions and head are
// random: a hidden state of norm 1 gives logits of variance 1. The final norm
// is all ones. `config`: the one-layer model's.
std::shared_ptr<const WeightSource> OneLayerWeights(
    std::shared_ptr<const WeightSource> inner, const ModelConfig& config,
    int32_t layer);

// ReadFp32 gives the values that the CPU runner's packed matrices have.
std::shared_ptr<const WeightSource> AsPacked(
    std::shared_ptr<const WeightSource> inner, const ModelConfig& config,
    WeightType type);

// ReadFp32 is off by about what a runner's rounding of weights and activations
// to `type` amounts to, at random.
std::shared_ptr<const WeightSource> WithRoundingNoise(
    std::shared_ptr<const WeightSource> inner, const ModelConfig& config,
    WeightType type);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_SELF_TEST_WEIGHTS_H_
