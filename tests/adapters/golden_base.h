// What the small models of tests/golden/models have to adapt, for tests that
// are built without the runtime: from config.json and the sizes in their
// safetensors files.
#ifndef DESCANT_TESTS_ADAPTERS_GOLDEN_BASE_H_
#define DESCANT_TESTS_ADAPTERS_GOLDEN_BASE_H_

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/base_shape.h"
#include "adapters/formats/json.h"
#include "adapters/formats/safetensors.h"
#include "runtime/base/check.h"

namespace descant {

inline std::string GoldenPath(const std::string& name) {
  const char* root = std::getenv("DESCANT_SOURCE_DIR");
  return absl::StrCat(root == nullptr ? "." : root, "/tests/golden/", name);
}

inline std::string ReadGoldenText(const std::string& name) {
  std::ifstream file(GoldenPath(name), std::ios::binary);
  DESCANT_CHECK(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

inline BaseShape GoldenBase(const std::string& model,
                            const std::string& architecture) {
  const std::pair<const char*, LinearKind> kinds[] = {
      {"self_attn.q_proj", LinearKind::kQ},
      {"self_attn.k_proj", LinearKind::kK},
      {"self_attn.v_proj", LinearKind::kV},
      {"self_attn.o_proj", LinearKind::kO},
      {"mlp.gate_proj", LinearKind::kGate},
      {"mlp.up_proj", LinearKind::kUp},
      {"mlp.down_proj", LinearKind::kDown},
      {"self_attn.qkv_proj", LinearKind::kQkv},
      {"mlp.gate_up_proj", LinearKind::kGateUp}};
  const std::string folder = absl::StrCat("models/", model);
  const auto config = ParseJson(
      ReadGoldenText(absl::StrCat(folder, "/config.json")), JsonLimits());
  DESCANT_CHECK(config.ok());
  BaseShape base;
  base.fingerprint = absl::StrCat("sha256:", model);
  base.gguf_architecture = architecture;
  for (const auto& file :
       std::filesystem::directory_iterator(GoldenPath(folder))) {
    if (file.path().extension() != ".safetensors") continue;
    const auto opened = SafetensorsFile::Open(file.path());
    DESCANT_CHECK(opened.ok());
    for (const SafetensorsTensor& tensor : (*opened)->index().tensors) {
      for (const auto& [suffix, kind] : kinds) {
        const std::string end = absl::StrCat(".", suffix, ".weight");
        if (!absl::EndsWith(tensor.name, end)) continue;
        BaseModule module;
        module.path = tensor.name.substr(0, tensor.name.rfind(".weight"));
        module.out = static_cast<int32_t>(tensor.shape[0]);
        module.in = static_cast<int32_t>(tensor.shape[1]);
        module.layer = std::atoi(module.path.c_str() + sizeof("model.layers"));
        module.kind = kind;
        const bool llama = architecture == "llama";
        if (llama && kind == LinearKind::kQ) {
          module.gguf_interleaved_heads = static_cast<int32_t>(
              config->Find("num_attention_heads")->unsigned_integer());
        } else if (llama && kind == LinearKind::kK) {
          module.gguf_interleaved_heads = static_cast<int32_t>(
              config->Find("num_key_value_heads")->unsigned_integer());
        }
        base.modules.push_back(std::move(module));
      }
    }
  }
  std::sort(base.modules.begin(), base.modules.end(),
            [](const BaseModule& a, const BaseModule& b) {
              return std::pair(a.layer, a.kind) < std::pair(b.layer, b.kind);
            });
  return base;
}

}  // namespace descant

#endif  // DESCANT_TESTS_ADAPTERS_GOLDEN_BASE_H_
