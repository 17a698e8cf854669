// Rows 43 to 50 and 53: tensors against the config and the base model.
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "adapters/validate.h"
#include "runtime/base/float16.h"
#include "tests/adapters/bad_adapters.h"

namespace descant {
namespace {

using Change = std::function<void(PeftDraft*)>;

class Table {
 public:
  void Add(int row, const std::string& what, const Change& change,
           const std::string& reason) {
    PeftDraft draft;
    change(&draft);
    cases_.push_back({row, what, [draft] { return PairOutcome(draft); },
                      reason == "OK" ? reason : "INVALID_ARGUMENT " + reason});
  }
  void Add(BadAdapterCase other) { cases_.push_back(std::move(other)); }
  std::vector<BadAdapterCase> Take() { return std::move(cases_); }

 private:
  std::vector<BadAdapterCase> cases_;
};

std::string Query(const char* part) {
  return absl::StrCat(kQueryPath, ".lora_", part, ".weight");
}

Change Shapes(uint64_t a_rows, uint64_t a_columns, uint64_t b_rows,
              uint64_t b_columns) {
  return [=](PeftDraft* draft) {
    draft->tensors = {PeftDraft::Tensor(Query("A"), a_rows, a_columns),
                      PeftDraft::Tensor(Query("B"), b_rows, b_columns)};
  };
}

Change Renamed(const std::string& module) {
  return [=](PeftDraft* draft) {
    draft->tensors[0].name = module + ".lora_A.weight";
    draft->tensors[1].name = module + ".lora_B.weight";
  };
}

Change Extra(const std::string& name, uint64_t rows, uint64_t columns) {
  return [=](PeftDraft* draft) {
    draft->tensors.push_back(PeftDraft::Tensor(name, rows, columns));
  };
}

Change Config(const std::string& json) {
  return [=](PeftDraft* draft) { draft->config = json; };
}

void AddPairs(Table* table) {
  table->Add(43, "3 in the file, 2 in the config", Shapes(3, 8, 8, 3),
             "ADAPTER_RANK");
  table->Add(43, "1 in the file, 2 in the config", Shapes(1, 8, 8, 1),
             "ADAPTER_RANK");
  table->Add(43, "rank_pattern says 3",
             Config(R"({"r":2,"rank_pattern":{"q_proj":3},)"
                    R"("target_modules":["layers.0.self_attn.q_proj"]})"),
             "ADAPTER_RANK");
  table->Add(
      44, "no B", [](PeftDraft* d) { d->tensors.pop_back(); },
      "ADAPTER_TENSOR_UNPAIRED");
  table->Add(
      44, "no A", [](PeftDraft* d) { d->tensors.erase(d->tensors.begin()); },
      "ADAPTER_TENSOR_UNPAIRED");
  table->Add(44, "ranks of A and B differ", Shapes(2, 8, 8, 3), "ADAPTER_RANK");
  table->Add(44, "rank of A is wrong", Shapes(4, 8, 8, 2), "ADAPTER_RANK");
  table->Add(
      44, "A twice, as A and B",
      [](PeftDraft* d) {
        d->tensors[1] = d->tensors[0];
        d->tensors[1].name = "base_model.model." + Query("B");
      },
      "ADAPTER_SHAPE");
  table->Add(
      44, "none", [](PeftDraft* d) { d->tensors.clear(); },
      "ADAPTER_NO_MODULES");
  table->Add(44, "A of another targeted layer",
             Extra("model.layers.1.self_attn.q_proj.lora_A.weight", 2, 8),
             "ADAPTER_TENSOR_UNPAIRED");
  table->Add(45, "in of down_proj", Shapes(2, 12, 8, 2), "ADAPTER_SHAPE");
  table->Add(45, "out of up_proj", Shapes(2, 8, 12, 2), "ADAPTER_SHAPE");
  table->Add(45, "out of k_proj", Shapes(2, 8, 4, 2), "ADAPTER_SHAPE");
  table->Add(45, "another model's hidden size", Shapes(2, 4096, 4096, 2),
             "ADAPTER_SHAPE");
  table->Add(45, "A transposed", Shapes(8, 2, 8, 2), "ADAPTER_SHAPE");
  table->Add(45, "B transposed", Shapes(2, 8, 2, 8), "ADAPTER_SHAPE");
  table->Add(45, "both transposed", Shapes(8, 2, 2, 8), "ADAPTER_SHAPE");
  table->Add(45, "A and B in each other's place", Shapes(8, 2, 2, 8),
             "ADAPTER_SHAPE");
}

void AddNames(Table* table) {
  const std::string unknown = "ADAPTER_MODULE_UNKNOWN";
  for (const char* layer : {"2", "999", "-1", "00", "1e1", "0x0", "",
                            "4294967296", " 0", "0 ", "\xd9\xa0"}) {
    table->Add(46, absl::StrCat("layer \"", layer, "\""),
               Renamed(absl::StrCat("base_model.model.model.layers.", layer,
                                    ".self_attn.q_proj")),
               unknown);
  }
  for (const char* module :
       {"lm_head", "model.embed_tokens", "model.norm",
        "model.layers.0.input_layernorm", "model.layers.0.self_attn.Q_PROJ",
        "model.layers.0.mlp.q_proj", "model.layers.0.self_attn.qkv_proj",
        "model.layers.0.self_attn.q_proj.base_layer", "q_proj",
        "model.model.layers.0.self_attn.q_proj", "../q_proj"}) {
    table->Add(46, module, Renamed(absl::StrCat("base_model.model.", module)),
               unknown);
  }
  const std::string name = "ADAPTER_TENSOR_NAME";
  table->Add(46, "without PEFT's prefix",
             Renamed("model.layers.0.self_attn.q_proj"), name);
  for (const char* adapter : {"default", "other"}) {
    table->Add(
        47, absl::StrCat("a second adapter, ", adapter),
        Extra(absl::StrCat(kQueryPath, ".lora_A.", adapter, ".weight"), 2, 8),
        name);
  }
  table->Add(
      47, "only under an adapter's name",
      [](PeftDraft* d) {
        d->tensors[0].name = absl::StrCat("base_model.model.", kQueryPath,
                                          ".lora_A.default.weight");
      },
      name);
  table->Add(47, "the base's own weight",
             Extra(absl::StrCat(kQueryPath, ".weight"), 8, 8), name);
  table->Add(
      47, "tensors of a module that is not targeted",
      [](PeftDraft* d) {
        Extra("model.layers.0.self_attn.k_proj.lora_A.weight", 2, 8)(d);
        Extra("model.layers.0.self_attn.k_proj.lora_B.weight", 4, 2)(d);
      },
      "ADAPTER_MODULE_UNTARGETED");
  table->Add(47, "no tensors of a module that is targeted",
             Config(R"({"r":2,"target_modules":["q_proj"]})"),
             "ADAPTER_MODULE_MISSING");
  const std::string feature = "PEFT_FEATURE_UNSUPPORTED";
  table->Add(
      51, "DoRA's tensor, use_dora false",
      Extra(absl::StrCat(kQueryPath, ".lora_magnitude_vector.weight"), 8, 1),
      feature);
  table->Add(51, "lora_bias' tensor",
             Extra(absl::StrCat(kQueryPath, ".lora_B.bias"), 8, 1), feature);
  table->Add(51, "an embedding's tensor",
             Extra("model.embed_tokens.lora_embedding_A", 2, 8), feature);
  table->Add(51, "modules_to_save' tensor",
             Extra("lm_head.modules_to_save.weight", 8, 8), feature);
}

void AddScales(Table* table) {
  for (const char* alpha :
       {"1e308", "-1e308", "1e-300", "7e38", "-7e38", "1e-38", "5e-324"}) {
    table->Add(48, absl::StrCat("alpha ", alpha, ", the scale is no float"),
               Config(absl::StrCat(
                   R"({"r":2,"lora_alpha":)", alpha,
                   R"(,"target_modules":["layers.0.self_attn.q_proj"]})")),
               "ADAPTER_SCALE");
  }
  table->Add(48, "rsLoRA beyond floats",
             Config(R"({"r":2,"lora_alpha":4.9e38,"use_rslora":true,)"
                    R"("target_modules":["layers.0.self_attn.q_proj"]})"),
             "ADAPTER_SCALE");
  table->Add(48, "alpha_pattern beyond floats",
             Config(R"({"r":2,"alpha_pattern":{"q_proj":1e39},)"
                    R"("target_modules":["layers.0.self_attn.q_proj"]})"),
             "ADAPTER_SCALE");
  table->Add(48, "a negative scale is one",
             Config(R"({"r":2,"lora_alpha":-4,)"
                    R"("target_modules":["layers.0.self_attn.q_proj"]})"),
             "OK");
}

// `bits` at one element of B.
Change Value(Dtype dtype, uint32_t bits, size_t element) {
  return [=](PeftDraft* draft) {
    const auto bytes = static_cast<size_t>(DtypeBytes(dtype));
    for (SafetensorsEntry& entry : draft->tensors) {
      entry.dtype = dtype;
      entry.bytes.resize(16 * bytes);
    }
    std::memcpy(draft->tensors[1].bytes.data() + element * bytes, &bits, bytes);
  };
}

void AddValues(Table* table) {
  struct Bits {
    const char* what;
    uint32_t f32;
    uint32_t f16;
    uint32_t bf16;
    bool good;
  };
  const Bits values[] = {
      {"quiet NaN", 0x7fc00000, 0x7e00, 0x7fc0, false},
      {"negative NaN", 0xffc00001, 0xfe01, 0xffc1, false},
      {"signalling NaN", 0x7f800001, 0x7c01, 0x7f81, false},
      {"+Inf", 0x7f800000, 0x7c00, 0x7f80, false},
      {"-Inf", 0xff800000, 0xfc00, 0xff80, false},
      {"largest finite", 0x7f7fffff, 0x7bff, 0x7f7f, false},  // F16: 65504
      {"lowest finite", 0xff7fffff, 0xfbff, 0xff7f, false},
      {"just over 10,000", 0x461c4001, 0x70e3, 0x461d, false},
      {"just below 10,000", 0x461c4000, 0x70e2, 0x461c, true},
      {"just above -10,000", 0xc61c4000, 0xf0e2, 0xc61c, true},
      {"smallest denormal", 1, 1, 1, true},
      {"largest denormal", 0x007fffff, 0x03ff, 0x007f, true},
      {"minus zero", 0x80000000, 0x8000, 0x8000, true}};
  for (const Bits& value : values) {
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBF16}) {
      const uint32_t bits = dtype == Dtype::kF32   ? value.f32
                            : dtype == Dtype::kF16 ? value.f16
                                                   : value.bf16;
      for (const size_t element : {0, 15}) {
        table->Add(
            49,
            absl::StrCat(value.what, " in ", DtypeName(dtype), " at ", element),
            Value(dtype, bits, element), value.good ? "OK" : "ADAPTER_VALUE");
      }
    }
  }
  table->Add(
      49, "denormals only",
      [](PeftDraft* d) {
        for (SafetensorsEntry& entry : d->tensors) {
          for (size_t i = 0; i < entry.bytes.size(); i += 4) {
            entry.bytes[i] = 1;
          }
        }
      },
      "OK");
  // Found by the request it happens to.
  table->Add(50, "large enough to overflow in a product",
             Value(Dtype::kF16, ToFloat16(9984.0f).bits, 3), "OK");
}

}  // namespace

std::vector<BadAdapterCase> BadTensors() {
  Table table;
  AddPairs(&table);
  AddNames(&table);
  AddScales(&table);
  AddValues(&table);
  const auto fingerprint = [&table](const std::string& what,
                                    const std::string& declared,
                                    const std::string& expected) {
    table.Add({53, what,
               [declared] {
                 return Outcome(CheckBaseFingerprint(declared, TinyBase()));
               },
               expected});
  };
  const std::string mismatch = "FAILED_PRECONDITION BASE_MISMATCH";
  fingerprint("another base's fingerprint", "sha256:other", mismatch);
  fingerprint("no fingerprint at all", "tiny", mismatch);
  fingerprint("upper case", "SHA256:TINY", mismatch);
  fingerprint("ours", "sha256:tiny", "OK");
  fingerprint("none declared", "", "OK");
  // By name it is only recorded: shapes decide, and the fingerprint.
  table.Add(53, "another base_model_name_or_path",
            Config(R"({"r":2,"base_model_name_or_path":"other/model",)"
                   R"("target_modules":["layers.0.self_attn.q_proj"]})"),
            "OK");
  return table.Take();
}

}  // namespace descant
