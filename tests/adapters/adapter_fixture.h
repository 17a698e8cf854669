// A tiny base model and good adapter files for it, for tests to damage.
#ifndef DESCANT_TESTS_ADAPTERS_ADAPTER_FIXTURE_H_
#define DESCANT_TESTS_ADAPTERS_ADAPTER_FIXTURE_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "adapters/base_shape.h"
#include "adapters/formats/random_adapter.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/reason.h"

namespace descant {

// 2 layers, hidden 8, k and v 4 wide, intermediate 12.
inline BaseShape TinyBase() {
  struct Linear {
    const char* name;
    int32_t in;
    int32_t out;
  };
  constexpr Linear kLinears[] = {
      {"self_attn.q_proj", 8, 8}, {"self_attn.k_proj", 8, 4},
      {"self_attn.v_proj", 8, 4}, {"self_attn.o_proj", 8, 8},
      {"mlp.gate_proj", 8, 12},   {"mlp.up_proj", 8, 12},
      {"mlp.down_proj", 12, 8}};
  BaseShape base;
  base.fingerprint = "sha256:tiny";
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (size_t kind = 0; kind < std::size(kLinears); ++kind) {
      base.modules.push_back(
          {absl::StrCat("model.layers.", layer, ".", kLinears[kind].name),
           kLinears[kind].in, kLinears[kind].out, layer,
           static_cast<LinearKind>(kind)});
    }
  }
  return base;
}

// Rank 2 on every q_proj and v_proj.
inline AdapterFiles TinyAdapter(uint64_t seed, Dtype dtype = Dtype::kBF16) {
  std::vector<RandomAdapterModule> modules;
  for (const BaseModule& module : TinyBase().modules) {
    if (module.kind == LinearKind::kQ || module.kind == LinearKind::kV) {
      modules.push_back({module.path, module.in, module.out});
    }
  }
  RandomAdapterOptions options;
  options.rank = 2;
  options.alpha = 4;
  options.seed = seed;
  options.dtype = dtype;
  return MakeRandomAdapter(modules, options);
}

// Rank 1 on one q_proj: as small as they come.
inline AdapterFiles SmallAdapter(uint64_t seed) {
  RandomAdapterOptions options;
  options.rank = 1;
  options.alpha = 2;
  options.seed = seed;
  return MakeRandomAdapter({{"model.layers.0.self_attn.q_proj", 8, 8}},
                           options);
}

// A safetensors file with this header, whatever it says.
inline std::string RawSafetensors(const std::string& header,
                                  const std::string& data) {
  std::string file;
  AppendLittleEndian<uint64_t>(header.size(), &file);
  return file + header + data;
}

inline absl::Span<const char> BytesOf(const std::string& text) {
  return absl::MakeConstSpan(text.data(), text.size());
}

// "INVALID_ARGUMENT ADAPTER_RANK", "OK".
inline std::string Outcome(const absl::Status& status) {
  if (status.ok()) return "OK";
  return absl::StrCat(absl::StatusCodeToString(status.code()), " ",
                      ReasonOf(status));
}

}  // namespace descant

#endif  // DESCANT_TESTS_ADAPTERS_ADAPTER_FIXTURE_H_
