#include "adapters/formats/random_adapter.h"

#include "absl/strings/str_cat.h"
#include "adapters/formats/json.h"
#include "adapters/formats/safetensors_writer.h"
#include "runtime/base/check.h"
#include "runtime/base/float16.h"
#include "runtime/base/little_endian.h"

namespace descant {
namespace {

// Standard deviation of the sum of four uniform 16-bit integers.
constexpr double kSumDeviation = 37837.22723720648;
constexpr int64_t kSumMean = 131070;

uint64_t Fnv1a64(absl::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211u;
  }
  return hash;
}

uint64_t SplitMixFinalise(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

std::string Encode(const std::vector<float>& values, Dtype dtype) {
  std::string bytes;
  bytes.reserve(values.size() * static_cast<size_t>(DtypeBytes(dtype)));
  for (const float value : values) {
    switch (dtype) {
      case Dtype::kF32:
        AppendLittleEndian(value, &bytes);
        break;
      case Dtype::kF16:
        AppendLittleEndian(ToFloat16(value).bits, &bytes);
        break;
      case Dtype::kBF16:
        AppendLittleEndian(ToBFloat16(value).bits, &bytes);
        break;
      case Dtype::kOther:
        DESCANT_CHECK(false);
    }
  }
  return bytes;
}

SafetensorsEntry MakeTensor(const std::string& name, int32_t rows,
                            int32_t columns,
                            const RandomAdapterOptions& options, double std) {
  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = options.dtype;
  entry.shape = {static_cast<uint64_t>(rows), static_cast<uint64_t>(columns)};
  entry.bytes = Encode(
      RandomTensor(name, entry.shape[0] * entry.shape[1], options.seed, std),
      options.dtype);
  return entry;
}

// Keys are regular expressions to PEFT: the dots are escaped.
std::string PatternKey(absl::string_view module_path) {
  std::string key;
  for (const char c : module_path) {
    if (c == '.') key += '\\';
    key += c;
  }
  return JsonQuote(key);
}

void AppendItem(absl::string_view item, std::string* list) {
  absl::StrAppend(list, list->empty() ? "" : ", ", item);
}

std::string MakeConfig(absl::Span<const RandomAdapterModule> modules,
                       const RandomAdapterOptions& options) {
  std::string targets;
  std::string ranks;
  std::string alphas;
  for (const RandomAdapterModule& module : modules) {
    AppendItem(JsonQuote(module.module_path), &targets);
    const std::string key = PatternKey(module.module_path);
    if (module.rank > 0 && module.rank != options.rank) {
      AppendItem(absl::StrCat(key, ": ", module.rank), &ranks);
    }
    if (module.alpha >= 0 && module.alpha != options.alpha) {
      AppendItem(absl::StrCat(key, ": ", module.alpha), &alphas);
    }
  }
  return absl::StrCat(
      "{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"r\": ",
      options.rank, ", \"lora_alpha\": ", options.alpha,
      ", \"use_rslora\": ", options.use_rslora ? "true" : "false",
      ", \"lora_dropout\": 0.0, \"bias\": \"none\", \"inference_mode\": true",
      ", \"base_model_name_or_path\": null", ", \"target_modules\": [", targets,
      "], \"rank_pattern\": {", ranks, "}, \"alpha_pattern\": {", alphas,
      "}}\n");
}

}  // namespace

std::vector<float> RandomTensor(absl::string_view name, uint64_t count,
                                uint64_t seed, double std) {
  const double scale = std / kSumDeviation;
  const uint64_t key = seed ^ Fnv1a64(name);
  std::vector<float> values(count);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t x =
        SplitMixFinalise(key + (i + 1) * uint64_t{0x9E3779B97F4A7C15});
    const auto sum = static_cast<int64_t>((x & 0xFFFF) + ((x >> 16) & 0xFFFF) +
                                          ((x >> 32) & 0xFFFF) + (x >> 48));
    values[i] = static_cast<float>(static_cast<double>(sum - kSumMean) * scale);
  }
  return values;
}

AdapterFiles MakeRandomAdapter(absl::Span<const RandomAdapterModule> modules,
                               const RandomAdapterOptions& options) {
  std::vector<SafetensorsEntry> entries;
  for (const RandomAdapterModule& module : modules) {
    const int32_t rank = module.rank > 0 ? module.rank : options.rank;
    const std::string prefix =
        absl::StrCat("base_model.model.", module.module_path);
    entries.push_back(MakeTensor(absl::StrCat(prefix, ".lora_A.weight"), rank,
                                 module.in, options, options.std_a));
    entries.push_back(MakeTensor(absl::StrCat(prefix, ".lora_B.weight"),
                                 module.out, rank, options, options.std_b));
  }
  return {MakeConfig(modules, options), WriteSafetensors(std::move(entries))};
}

}  // namespace descant
