// Hostile adapter_config.json.
#include <cstddef>
#include <cstdint>

#include "adapters/peft_config.h"
#include "runtime/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = descant::ParsePeftConfig(text, 64);
  if (!config.ok()) {
    DESCANT_CHECK(config.status().code() == absl::StatusCode::kInvalidArgument);
    return 0;
  }
  for (const char* path :
       {"model.layers.0.self_attn.q_proj", "model.layers.31.mlp.down_proj"}) {
    config->Targets({path, 8, 8, 0, descant::LinearKind::kQ});
    const int32_t rank = config->RankOf(path);
    DESCANT_CHECK(rank >= 1 && rank <= 64);
    DESCANT_CHECK(config->AlphaOf(path) != 0);
  }
  const auto again = descant::ParsePeftConfig(text, 64);
  DESCANT_CHECK(again.ok() && descant::CanonicalConfig(*again) ==
                                  descant::CanonicalConfig(*config));
  return 0;
}
