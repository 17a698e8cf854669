#include "adapters/formats/gguf_types.h"

#include "absl/strings/str_cat.h"

namespace descant {
namespace {

struct ReadType {
  GgufType type;
  GgufTypeTraits traits;
};

// Bytes of a block, in the file's order: half-precision scales, packed small
// scales, high bits, codes (runtime/model/dequantize.h has the layouts).
constexpr ReadType kReadTypes[] = {
    {GgufType::kF32, {"F32", 1, 4}},
    {GgufType::kF16, {"F16", 1, 2}},
    {GgufType::kBF16, {"BF16", 1, 2}},
    {GgufType::kQ4_0, {"Q4_0", 32, 2 + 16}},
    {GgufType::kQ4_1, {"Q4_1", 32, 4 + 16}},
    {GgufType::kQ5_0, {"Q5_0", 32, 2 + 4 + 16}},
    {GgufType::kQ5_1, {"Q5_1", 32, 4 + 4 + 16}},
    {GgufType::kQ8_0, {"Q8_0", 32, 2 + 32}},
    {GgufType::kQ2_K, {"Q2_K", 256, 16 + 64 + 4}},
    {GgufType::kQ3_K, {"Q3_K", 256, 32 + 64 + 12 + 2}},
    {GgufType::kQ4_K, {"Q4_K", 256, 4 + 12 + 128}},
    {GgufType::kQ5_K, {"Q5_K", 256, 4 + 12 + 32 + 128}},
    {GgufType::kQ6_K, {"Q6_K", 256, 128 + 64 + 16 + 2}},
    {GgufType::kIQ4_NL, {"IQ4_NL", 32, 2 + 16}},
    {GgufType::kIQ4_XS, {"IQ4_XS", 256, 2 + 2 + 4 + 128}},
};

struct UnreadType {
  uint32_t type;
  absl::string_view name;
};
constexpr UnreadType kUnreadTypes[] = {
    {9, "Q8_1"},   {15, "Q8_K"},    {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {19, "IQ1_S"}, {18, "IQ3_XXS"}, {21, "IQ3_S"},   {22, "IQ2_S"},
    {24, "I8"},    {25, "I16"},     {26, "I32"},     {27, "I64"},
    {28, "F64"},   {29, "IQ1_M"},   {34, "TQ1_0"},   {35, "TQ2_0"},
    {39, "MXFP4"}, {40, "NVFP4"},   {41, "Q1_0"},
};

}  // namespace

const GgufTypeTraits* FindGgufTypeTraits(uint32_t type) {
  for (const ReadType& entry : kReadTypes) {
    if (static_cast<uint32_t>(entry.type) == type) return &entry.traits;
  }
  return nullptr;
}

std::string DescribeUnreadGgufType(uint32_t type) {
  std::string text = absl::StrCat("tensor type ", type);
  for (const UnreadType& entry : kUnreadTypes) {
    if (entry.type == type) absl::StrAppend(&text, " (", entry.name, ")");
  }
  absl::StrAppend(&text, " is not supported; supported are");
  absl::string_view separator = " ";
  for (const ReadType& entry : kReadTypes) {
    absl::StrAppend(&text, separator, entry.traits.name);
    separator = ", ";
  }
  return text;
}

}  // namespace descant
