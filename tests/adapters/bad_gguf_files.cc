// Rows 41 and 42 and what belongs to them: files that were declared as GGUF.
#include "absl/strings/str_cat.h"
#include "tests/adapters/bad_adapters.h"
#include "tests/adapters/gguf_lora_fixture.h"

namespace descant {
namespace {

using Change = std::function<void(GgufLoraDraft*)>;

std::string FileOutcome(const std::string& file) {
  const BaseShape base = TinyLlamaBase();
  const std::string whole = Outcome(ReadGgufLora(file, base).status());
  for (const size_t chunk : {size_t{1}, size_t{7}, size_t{4096}}) {
    if (file.size() / chunk > 65536) continue;
    const std::string pieces =
        Outcome(ReadGgufLora(file, base, chunk).status());
    if (pieces != whole) {
      return absl::StrCat(whole, ", in pieces of ", chunk, ": ", pieces);
    }
  }
  return whole;
}

class Table {
 public:
  void AddFile(int row, const std::string& what, std::string file,
               const std::string& reason) {
    cases_.push_back({row, absl::StrCat("GGUF: ", what),
                      [file = std::move(file)] { return FileOutcome(file); },
                      reason == "OK" ? reason : "INVALID_ARGUMENT " + reason});
  }
  void Add(int row, const std::string& what, const Change& change,
           const std::string& reason) {
    GgufLoraDraft draft;
    change(&draft);
    AddFile(row, what, draft.Write(), reason);
  }
  std::vector<BadAdapterCase> Take() { return std::move(cases_); }

 private:
  std::vector<BadAdapterCase> cases_;
};

Change Value(GgufValueType type, const std::string& key,
             const std::string& raw) {
  return [=](GgufLoraDraft* draft) {
    draft->values.push_back(
        [=](GgufWriter* file) { file->Key(key, type).Raw(raw); });
  };
}

void AddContainers(Table* table) {
  const std::string invalid = "GGUF_INVALID";
  const std::string good = GgufLoraDraft().Write();
  table->AddFile(41, "safetensors", WriteSafetensors(PeftDraft().tensors),
                 invalid);
  table->AddFile(41, "ZIP", "PK\x03\x04" + good, invalid);
  table->AddFile(41, "pickle", "\x80\x02}q" + good, invalid);
  for (const size_t bytes : {1, 3, 4, 8, 23, 24, 100}) {
    table->AddFile(42, absl::StrCat(bytes, " bytes"), good.substr(0, bytes),
                   invalid);
  }
  table->Add(
      41, "big-endian magic", [](GgufLoraDraft* d) { d->magic = "FUGG"; },
      invalid);
  for (const uint32_t version : {0u, 1u, 4u, 0x03000000u, UINT32_MAX}) {
    table->Add(
        41, absl::StrCat("version ", version),
        [=](GgufLoraDraft* d) { d->version = version; }, invalid);
  }
  for (const int64_t extra : {int64_t{-5}, int64_t{1} << 62, INT64_MIN}) {
    table->Add(
        35, absl::StrCat("tensor count + ", extra),
        [=](GgufLoraDraft* d) { d->extra_tensors = extra; }, invalid);
    table->Add(
        35, absl::StrCat("value count + ", extra),
        [=](GgufLoraDraft* d) { d->extra_values = extra; }, invalid);
  }
  table->Add(
      31, "more tensors than modules have",
      [](GgufLoraDraft* d) {
        for (int i = 0; i < 27; ++i) d->Add(absl::StrCat("t", i), {1});
      },
      "GGUF_COUNT");
  table->Add(
      31, "1,100 metadata entries",
      [](GgufLoraDraft* d) {
        for (int i = 0; i < 1100; ++i) {
          d->Text(absl::StrCat("general.x", i), "");
        }
      },
      "GGUF_COUNT");
  table->Add(
      28, "a header over 1 MiB",
      [](GgufLoraDraft* d) {
        d->Text("general.description", std::string(2 << 20, 'x'));
      },
      "GGUF_HEADER_LENGTH");
  table->Add(
      32, "a key twice",
      [](GgufLoraDraft* d) { d->Text("adapter.type", "lora"); }, invalid);
  table->Add(
      32, "a tensor twice",
      [](GgufLoraDraft* d) { d->Module("blk.0.attn_q.weight", 8, 8, 2); },
      invalid);
  table->Add(
      35, "dimensions overflow",
      [](GgufLoraDraft* d) {
        d->tensors[0].dims = {uint64_t{1} << 32, uint64_t{1} << 32};
      },
      invalid);
  table->Add(
      35, "bytes overflow",
      [](GgufLoraDraft* d) { d->tensors[0].dims = {(uint64_t{1} << 62) + 16}; },
      invalid);
  table->Add(
      34, "a dimension of 0",
      [](GgufLoraDraft* d) {
        d->tensors[0].dims = {8, 0};
      },
      invalid);
  table->Add(
      34, "5 dimensions",
      [](GgufLoraDraft* d) {
        d->tensors[0].dims = {8, 2, 1, 1, 1};
      },
      invalid);
  table->Add(
      34, "no dimension", [](GgufLoraDraft* d) { d->tensors[0].dims = {}; },
      invalid);
  table->Add(40, "a string longer than the file",
             Value(GgufValueType::kString, "general.x",
                   std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8)),
             invalid);
  table->Add(
      40, "an array longer than the file",
      Value(GgufValueType::kArray, "general.x",
            std::string("\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\x1f", 12)),
      invalid);
  table->Add(40, "an array of arrays",
             Value(GgufValueType::kArray, "general.x",
                   std::string("\x09\0\0\0\x01\0\0\0\0\0\0\0", 12)),
             invalid);
  table->Add(40, "a value of no type",
             Value(static_cast<GgufValueType>(13), "general.x", "x"), invalid);
  for (const uint32_t alignment : {0u, 3u, 48u, 0x80000000u}) {
    std::string raw;
    AppendLittleEndian(alignment, &raw);
    table->Add(36, absl::StrCat("alignment ", alignment),
               Value(GgufValueType::kUint32, "general.alignment", raw),
               invalid);
  }
}

void AddLayouts(Table* table) {
  const std::string invalid = "GGUF_INVALID";
  const std::string layout = "GGUF_LAYOUT";
  const auto shift = [](int64_t first, int64_t second) {
    return [=](GgufLoraDraft* d) {
      d->tensors[0].shift = first;
      d->tensors[1].shift = second;
    };
  };
  table->Add(36, "offset not aligned", shift(0, 4), invalid);
  table->Add(36, "offset behind the file", shift(0, 1 << 20), invalid);
  table->Add(36, "offset wraps", shift(0, -128), invalid);
  table->Add(37, "overlap", shift(0, -32), layout);
  table->Add(37, "one range for both", shift(0, -64), layout);
  table->Add(37, "each in the other's place", shift(64, -64), "OK");
  table->Add(
      37, "a hole",
      [](GgufLoraDraft* d) {
        d->tensors[1].shift = 32;
        d->tail = std::string(32, '\0');
      },
      layout);
  table->Add(
      37, "first begins late",
      [](GgufLoraDraft* d) {
        for (auto& tensor : d->tensors) tensor.shift = 32;
        d->tail = std::string(32, '\0');
      },
      layout);
  table->Add(
      38, "padding that is not zero",
      [](GgufLoraDraft* d) { d->padding = 'x'; }, layout);
  for (const char* tail : {"PK\x05\x06",
                           "\x7f"
                           "ELF",
                           "x"}) {
    table->Add(
        38, absl::StrCat(tail, " behind it"),
        [=](GgufLoraDraft* d) { d->tail = tail; }, layout);
  }
  table->Add(
      38, "a NUL behind it",
      [](GgufLoraDraft* d) { d->tail = std::string(1, '\0'); }, layout);
}

void AddContents(Table* table) {
  const auto other = [](size_t value, const std::string& key,
                        const std::string& text) {
    return [=](GgufLoraDraft* d) {
      d->values[value] = [=](GgufWriter* file) {
        file->Key(key, GgufValueType::kString).Text(text);
      };
    };
  };
  table->Add(41, "a model", other(1, "general.type", "model"), "GGUF_NOT_LORA");
  table->Add(41, "no general.type", other(1, "general.x", "adapter"),
             "GGUF_NOT_LORA");
  table->Add(41, "a control vector", other(2, "adapter.type", "control"),
             "GGUF_NOT_LORA");
  table->Add(53, "another architecture",
             other(0, "general.architecture", "qwen2"), "GGUF_ARCHITECTURE");
  table->Add(53, "no architecture", other(0, "general.x", "llama"),
             "GGUF_ARCHITECTURE");
  for (const uint32_t type : {2u, 8u, 12u}) {
    table->Add(
        33, absl::StrCat("quantised, type ", type),
        [=](GgufLoraDraft* d) {
          d->tensors[0].dims = {256, 2};
          d->tensors[0].type = type;
          d->tensors[0].bytes.resize(1024);
        },
        type == 12 || type == 8 || type == 2 ? "GGUF_DTYPE" : "");
  }
  for (const uint32_t type : {4u, 28u, 34u, UINT32_MAX}) {
    table->Add(
        33, absl::StrCat("type ", type),
        [=](GgufLoraDraft* d) { d->tensors[0].type = type; }, "GGUF_INVALID");
  }
  const std::string tokens("\x04\0\0\0\x01\0\0\0\0\0\0\0\x07\0\0\0", 16);
  table->Add(
      51, "activated LoRA",
      Value(GgufValueType::kArray, "adapter.alora.invocation_tokens", tokens),
      "PEFT_FEATURE_UNSUPPORTED");
  for (const char* key : {"adapter.new", "llama.rope.freq_base", "split.count",
                          "adapter.lora.rank"}) {
    table->Add(54, absl::StrCat("key ", key),
               Value(GgufValueType::kFloat32, key, "1234"),
               "ADAPTER_CONFIG_UNKNOWN_KEY");
  }
  table->Add(
      54, "a hint to clients",
      [](GgufLoraDraft* d) {
        d->Text("adapter.lora.prompt_prefix", "query: ");
      },
      "OK");
  for (const char* name :
       {"token_embd.weight", "output.weight", "blk.2.attn_q.weight",
        "blk.-1.attn_q.weight", "blk.00.attn_q.weight", "blk.0.attn_q.bias",
        "blk.0.attn_qkv.weight", "blk.0.ffn_gate_exps.weight", ""}) {
    table->Add(
        46, absl::StrCat("module ", name),
        [=](GgufLoraDraft* d) { d->Module(name, 8, 8, 2); },
        "ADAPTER_MODULE_UNKNOWN");
  }
  for (const char* name :
       {"blk.0.attn_norm.weight", "blk.0.attn_k.weight",
        "blk.0.attn_k.weight.lora_A", "blk.0.attn_k.weight.lora_a.x", "x"}) {
    table->Add(
        46, absl::StrCat("tensor ", name),
        [=](GgufLoraDraft* d) {
          d->Add(name, {8, 2});
        },
        "ADAPTER_TENSOR_NAME");
  }
  table->Add(
      44, "no B", [](GgufLoraDraft* d) { d->tensors.pop_back(); },
      "ADAPTER_TENSOR_UNPAIRED");
  table->Add(
      44, "no A",
      [](GgufLoraDraft* d) { d->tensors.erase(d->tensors.begin()); },
      "ADAPTER_TENSOR_UNPAIRED");
  table->Add(
      44, "no tensors", [](GgufLoraDraft* d) { d->tensors.clear(); },
      "ADAPTER_NO_MODULES");
  const auto shapes = [](std::vector<uint64_t> a, std::vector<uint64_t> b) {
    return [=](GgufLoraDraft* d) {
      d->tensors.clear();
      d->Add("blk.0.attn_q.weight.lora_a", a);
      d->Add("blk.0.attn_q.weight.lora_b", b);
    };
  };
  table->Add(43, "rank 513", shapes({8, 513}, {513, 8}), "ADAPTER_RANK");
  table->Add(44, "ranks of A and B differ", shapes({8, 2}, {3, 8}),
             "ADAPTER_RANK");
  table->Add(45, "in of another module", shapes({12, 2}, {2, 8}),
             "ADAPTER_SHAPE");
  table->Add(45, "out of another module", shapes({8, 2}, {2, 12}),
             "ADAPTER_SHAPE");
  table->Add(45, "transposed", shapes({2, 8}, {8, 2}), "ADAPTER_SHAPE");
  table->Add(45, "3 dimensions", shapes({8, 2, 2}, {2, 8}), "ADAPTER_SHAPE");
  const auto alpha = [](const std::string& raw, GgufValueType type) {
    return [=](GgufLoraDraft* d) {
      d->values.pop_back();
      Value(type, "adapter.lora.alpha", raw)(d);
    };
  };
  const auto bits = [](uint32_t value) {
    std::string raw;
    AppendLittleEndian(value, &raw);
    return raw;
  };
  for (const uint32_t bad : {0x7fc00000u, 0x7f800000u, 0xff800000u, 1u}) {
    table->Add(48, absl::StrCat("alpha with the bits ", bad),
               alpha(bits(bad), GgufValueType::kFloat32), "ADAPTER_SCALE");
  }
  table->Add(48, "alpha as an integer", alpha(bits(4), GgufValueType::kUint32),
             "ADAPTER_CONFIG_INVALID");
  for (const uint32_t bad : {0x7fc00000u, 0xff800000u, 0x461c4001u}) {
    table->Add(
        49, absl::StrCat("a value with the bits ", bad),
        [=](GgufLoraDraft* d) {
          d->tensors[1].bytes.replace(60, 4, bits(bad));
        },
        "ADAPTER_VALUE");
  }
}

}  // namespace

std::vector<BadAdapterCase> BadGgufFiles() {
  Table table;
  AddContainers(&table);
  AddLayouts(&table);
  AddContents(&table);
  return table.Take();
}

}  // namespace descant
