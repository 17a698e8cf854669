// The rotary position embedding of a config.json, in the spellings of
// Transformers up to 4 (`rope_theta`, `rope_scaling`) and 5
// (`rope_parameters`).
#ifndef DESCANT_RUNTIME_MODEL_HF_ROPE_H_
#define DESCANT_RUNTIME_MODEL_HF_ROPE_H_

#include "runtime/model/hf_object_reader.h"
#include "runtime/model/model_config.h"

namespace descant {

// What differs between architectures.
struct RopeRules {
  float theta = 10000.0f;         // where none is given
  bool partial = false;           // partial_rotary_factor is computed
  bool yarn_is_longrope = false;  // Phi-3's "su" and "yarn"
};

// Fills model->rope, and with longrope lowers model->max_position to the
// original one: beyond it Hugging Face changes to the long factors, for keys
// already cached as well. REQUIRES: head_dim and max_position are set.
void ReadRope(const RopeRules& rules, ObjectReader* root, ModelConfig* model);

// Gemma 3: model->rope of the full layers, model->window_rope of the others.
void ReadGlobalAndWindowRope(ObjectReader* root, ModelConfig* model);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_HF_ROPE_H_
