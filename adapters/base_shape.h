// What adapters need to know of the base model: its adaptable linear modules
// and its identity.
#ifndef DESCANT_ADAPTERS_BASE_SHAPE_H_
#define DESCANT_ADAPTERS_BASE_SHAPE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace descant {

// The linear modules of a decoder layer that an adapter may change. Where the
// architecture fuses some, they are one module: one A [r, in], and a B whose
// rows are those of its parts one below the other.
//   kQkv: q, k, v (Phi-3's qkv_proj, GPT-2's attn.c_attn)
//   kGateUp: gate, up (Phi-3's gate_up_proj)
enum class LinearKind : uint8_t {
  kQ,
  kK,
  kV,
  kO,
  kGate,
  kUp,
  kDown,
  kQkv,
  kGateUp,
};
inline constexpr int32_t kLinearKinds = 9;

// y = x W^T with W [out, in].
struct BaseModule {
  // As PEFT names it: "model.layers.3.self_attn.q_proj",
  // "transformer.h.3.attn.c_attn".
  std::string path;
  int32_t in = 0;
  int32_t out = 0;
  int32_t layer = 0;
  LinearKind kind = LinearKind::kQ;
  // How GGUF files of this architecture order the rows of W, and so those of a
  // LoRA's B: 0 as above; else in so many heads, of which each has the first
  // and the second half of its rows interleaved (llama's q and k, stored for
  // interleaved rope). `out` is a multiple of twice that.
  int32_t gguf_interleaved_heads = 0;
};

struct BaseShape {
  std::vector<BaseModule> modules;  // by layer, then kind; paths are unique
  std::string fingerprint;          // "sha256:<hex>" of config and weights
  // "general.architecture" of GGUF files of this model and of its adapters:
  // "llama", "qwen3", ... Empty: GGUF adapters are refused.
  std::string gguf_architecture;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_BASE_SHAPE_H_
