// Rows 26 to 42: safetensors files, through the validator.
#include "absl/strings/str_cat.h"
#include "tests/adapters/bad_adapters.h"

namespace descant {
namespace {

constexpr char kA[] =
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
constexpr char kB[] =
    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

std::string Tensor(const std::string& name, const std::string& dtype,
                   const std::string& shape, const std::string& offsets) {
  return absl::StrCat("\"", name, "\":{\"dtype\":", dtype, ",\"shape\":", shape,
                      ",\"data_offsets\":", offsets, "}");
}

// The pair's header with another A.
std::string WithA(const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return RawSafetensors(
      absl::StrCat("{", Tensor(kA, dtype, shape, offsets), ",",
                   Tensor(kB, "\"F32\"", "[8,2]", "[64,128]"), "}"),
      std::string(128, '\0'));
}

std::string WithOffsets(const std::string& a, const std::string& b,
                        size_t bytes) {
  return RawSafetensors(
      absl::StrCat("{", Tensor(kA, "\"F32\"", "[2,8]", a), ",",
                   Tensor(kB, "\"F32\"", "[8,2]", b), "}"),
      std::string(bytes, '\0'));
}

std::string Good() { return WriteSafetensors(PeftDraft().tensors); }

std::string WithLength(uint64_t length) {
  std::string file = Good();
  std::string bytes;
  AppendLittleEndian(length, &bytes);
  return bytes + file.substr(8);
}

std::string Headed(const std::string& header) {
  return RawSafetensors(header, std::string(128, '\0'));
}

std::string WithMetadata(const std::string& metadata) {
  return Headed(absl::StrCat("{\"__metadata__\":", metadata, ",",
                             Tensor(kA, "\"F32\"", "[2,8]", "[0,64]"), ",",
                             Tensor(kB, "\"F32\"", "[8,2]", "[64,128]"), "}"));
}

class Table {
 public:
  void Add(int row, const std::string& what, std::string file,
           const std::string& reason) {
    cases_.push_back({row, what,
                      [file = std::move(file)] {
                        return PairOutcome(PeftDraft().config, file);
                      },
                      reason == "OK" ? reason : "INVALID_ARGUMENT " + reason});
  }
  std::vector<BadAdapterCase> Take() { return std::move(cases_); }

 private:
  std::vector<BadAdapterCase> cases_;
};

void AddLengths(Table* table) {
  const std::string small = "SAFETENSORS_TOO_SMALL";
  table->Add(26, "0 bytes", "", "UPLOAD_SIZE_MISSING");
  for (const size_t bytes : {1, 7, 8, 9}) {
    table->Add(26, absl::StrCat(bytes, " bytes"), Good().substr(0, bytes),
               small);
  }
  const uint64_t size = Good().size();
  const std::string length = "SAFETENSORS_HEADER_LENGTH";
  for (const uint64_t n :
       {uint64_t{0}, uint64_t{1}, size, size - 7, uint64_t{1} << 32,
        uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7, uint64_t{1 << 20} + 1}) {
    table->Add(27, absl::StrCat("N = ", n), WithLength(n), length);
  }
  table->Add(27, "N = 2", WithLength(2), "SAFETENSORS_HEADER_INVALID");
  table->Add(27, "N = file size - 8", WithLength(size - 8),
             "SAFETENSORS_HEADER_INVALID");
  table->Add(28, "N = 100,000,001", WithLength(100'000'001), length);
  table->Add(28, "N = 100,000,000", WithLength(100'000'000), length);
}

void AddHeaders(Table* table) {
  const std::string invalid = "SAFETENSORS_HEADER_INVALID";
  table->Add(29, "not UTF-8", Headed("{\"\xff\":1}"), invalid);
  table->Add(29, "overlong UTF-8", Headed("{\"\xc0\xaf\":1}"), invalid);
  table->Add(29, "lone surrogate", Headed("{\"\\ud800\":1}"), invalid);
  table->Add(29, "not JSON", Headed("{hello}"), invalid);
  for (const char* json :
       {"[]", "null", "17", "\"x\"", "true", "  ", "{ ", " }", "{}{}", " {}",
        "\t{}", "{}\n", "{}\t", "{'a':1}", "{/**/}", "{\"a\":1,}",
        "{\"a\":NaN}", "{\"a\":Infinity}", "{\"a\":01}"}) {
    table->Add(29, absl::StrCat("header ", json), Headed(json), invalid);
  }
  table->Add(29, "NUL behind it", Headed(std::string("{}\0", 3)), invalid);
  table->Add(29, "byte-order mark", Headed("\xef\xbb\xbf{}"), invalid);
  table->Add(29, "UTF-16", Headed(std::string("{\0}\0", 4)), invalid);
  table->Add(30, "100,000 arrays",
             Headed("{\"a\":" + std::string(100'000, '[') +
                    std::string(100'000, ']') + "}"),
             invalid);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  table->Add(30, "100,000 objects",
             Headed(objects + "1" + std::string(100'000, '}')), invalid);
  table->Add(30, "a list in a list", WithA("\"F32\"", "[[2],8]", "[0,64]"),
             invalid);
  table->Add(30, "depth 4", Headed("{\"__metadata__\":{\"a\":{\"b\":{}}}}"),
             invalid);
  // As many as a header of 1 MiB holds, and the million of 10 MB.
  for (const int count : {29, 9000, 1'000'000}) {
    std::string header = "{";
    for (int i = 0; i < count; ++i) {
      absl::StrAppend(&header, i == 0 ? "" : ",",
                      Tensor(absl::StrCat(i), "\"F32\"", "[1,1]", "[0,4]"));
    }
    table->Add(31, absl::StrCat(count, " tensors over one range"),
               RawSafetensors(header + "}", "0123"),
               count > 20'000 ? "SAFETENSORS_HEADER_LENGTH"
                              : "SAFETENSORS_TENSOR_COUNT");
  }
  const std::string a = Tensor(kA, "\"F32\"", "[2,8]", "[0,64]");
  table->Add(32, "tensor twice", Headed(absl::StrCat("{", a, ",", a, "}")),
             "SAFETENSORS_DUPLICATE_KEY");
  table->Add(32, "dtype twice",
             WithA("\"F32\",\"dtype\":\"F16\"", "[2,8]", "[0,64]"),
             "SAFETENSORS_DUPLICATE_KEY");
  table->Add(32, "shape twice",
             WithA("\"F32\"", "[2,8],\"shape\":[1,1]", "[0,64]"),
             "SAFETENSORS_DUPLICATE_KEY");
  table->Add(32, "offsets twice",
             WithA("\"F32\"", "[2,8]", "[0,64],\"data_offsets\":[0,1]"),
             "SAFETENSORS_DUPLICATE_KEY");
  table->Add(32, "metadata twice",
             Headed("{\"__metadata__\":{},\"__metadata__\":{}}"),
             "SAFETENSORS_DUPLICATE_KEY");
  table->Add(32, "through an escape",
             Headed(absl::StrCat("{", a, ",\"b", "\\u0061", a.substr(3), "}")),
             "SAFETENSORS_DUPLICATE_KEY");
}

void AddTensors(Table* table) {
  for (const char* dtype :
       {"\"F64\"", "\"I32\"", "\"F4\"", "\"f16\"", "\"f32\"", "\"BOOL\"",
        "\"U8\"", "\"F8_E4M3\"", "\"C64\"", "\"\"", "null", "7", "[\"F32\"]",
        "{}", "\"F32 \"", "\"F32\\u0000\""}) {
    table->Add(33, absl::StrCat("dtype ", dtype),
               WithA(dtype, "[2,8]", "[0,64]"), "SAFETENSORS_DTYPE");
  }
  table->Add(33, "dtype missing",
             Headed(absl::StrCat(
                 "{\"", kA, R"(":{"shape":[2,8],"data_offsets":[0,64]}})")),
             "SAFETENSORS_DTYPE");
  std::string dims = "[1";
  for (int i = 1; i < 300; ++i) dims += ",1";
  dims += "]";
  for (const std::string& shape :
       {std::string("[]"), std::string("[0,8]"), std::string("[2,0]"),
        std::string("[-1,8]"), std::string("[-2,-8]"), std::string("[1.5,8]"),
        std::string("[2.0,8]"), std::string("[1e3,8]"), std::string("[\"8\"]"),
        std::string("[\"2\",8]"), std::string("[2,2,4]"), dims,
        std::string("[16]"), std::string("16"), std::string("null"),
        std::string("[null,8]"), std::string("[true,8]"),
        std::string("{\"0\":2}")}) {
    table->Add(34, absl::StrCat("shape ", shape.substr(0, 20)),
               WithA("\"F32\"", shape, "[0,64]"), "SAFETENSORS_SHAPE");
  }
  for (const char* shape :
       {"[2,9223372036854775808]", "[4294967296,4294967296]",
        "[18446744073709551614,2]", "[18446744073709551615,1]",
        "[4611686018427387904,1]", "[18446744073709551616,1]",
        "[1,99999999999999999999999]"}) {
    table->Add(35, absl::StrCat("shape ", shape),
               WithA("\"F32\"", shape, "[0,64]"), "SAFETENSORS_SHAPE");
  }
  // 2^62 + 16 elements: a product of 64 bits would be 64 bytes.
  table->Add(35, "wraps to the right size",
             WithA("\"F32\"", "[1,4611686018427387920]", "[0,64]"),
             "SAFETENSORS_SHAPE");
  for (const char* offsets :
       {"[64,0]", "[0]", "[]", "[0,32,64]", "[-64,0]", "[-1,63]", "[0.0,64]",
        "[0,6.4e1]", "[0,129]", "[0,18446744073709551615]",
        "[18446744073709551552,64]", "[0,18446744073709551680]", "null",
        "[\"0\",\"64\"]", "64", "{\"begin\":0}"}) {
    table->Add(36, absl::StrCat("offsets ", offsets),
               WithA("\"F32\"", "[2,8]", offsets), "SAFETENSORS_OFFSETS");
  }
  table->Add(36, "offsets equal", WithA("\"F32\"", "[2,8]", "[0,0]"),
             "SAFETENSORS_SIZE_MISMATCH");
  table->Add(
      36, "offsets missing",
      Headed(absl::StrCat("{\"", kA, R"(":{"dtype":"F32","shape":[2,8]}})")),
      "SAFETENSORS_OFFSETS");
}

void AddLayouts(Table* table) {
  const std::string layout = "SAFETENSORS_LAYOUT";
  table->Add(37, "overlap", WithOffsets("[0,64]", "[32,96]", 96), layout);
  table->Add(37, "overlap of 1 byte", WithOffsets("[0,64]", "[63,127]", 127),
             layout);
  table->Add(37, "one range for both", WithOffsets("[0,64]", "[0,64]", 64),
             layout);
  table->Add(37, "hole of 1 byte", WithOffsets("[0,64]", "[65,129]", 129),
             layout);
  table->Add(37, "first begins at 8", WithOffsets("[8,72]", "[72,136]", 136),
             layout);
  table->Add(37, "gap at the end", WithOffsets("[0,64]", "[64,128]", 129),
             layout);
  table->Add(37, "another order is none",
             WithOffsets("[64,128]", "[0,64]", 128), "OK");
  const std::pair<const char*, std::string> tails[] = {
      {"ZIP", "PK\x05\x06" + std::string(18, '\0')},
      {"ELF", std::string("\x7f") + "ELF\x02\x01\x01"},
      {"pickle", "\x80\x04."},
      {"newline", "\n"},
      {"NUL", std::string(1, '\0')},
      {"another safetensors file", Good()}};
  for (const auto& [what, tail] : tails) {
    table->Add(38, absl::StrCat(what, " behind it"), Good() + tail, layout);
  }
  table->Add(39, "fewer bytes than the shape",
             WithOffsets("[0,60]", "[60,124]", 124),
             "SAFETENSORS_SIZE_MISMATCH");
  table->Add(39, "more bytes than the shape",
             WithOffsets("[0,68]", "[68,132]", 132),
             "SAFETENSORS_SIZE_MISMATCH");
  table->Add(39, "bytes of F32 for F16", WithA("\"F16\"", "[2,8]", "[0,64]"),
             "SAFETENSORS_SIZE_MISMATCH");
  const std::string metadata = "SAFETENSORS_METADATA";
  table->Add(40, "strings", WithMetadata(R"({"format":"pt"})"), "OK");
  for (const char* bad : {R"({"x":{}})", R"({"x":1})", R"({"x":null})",
                          R"({"x":["a"]})", "\"x\"", "[]", "null", "1"}) {
    table->Add(40, bad, WithMetadata(bad), metadata);
  }
  table->Add(40, "10 MB",
             WithMetadata("{\"x\":\"" + std::string(10 << 20, 'x') + "\"}"),
             "SAFETENSORS_HEADER_LENGTH");
  std::string many = "{\"k\":\"\"";
  for (int i = 0; i < 2000; ++i) absl::StrAppend(&many, ",\"", i, "\":\"\"");
  table->Add(40, "2,001 entries", WithMetadata(many + "}"),
             "SAFETENSORS_TENSOR_COUNT");  // of values, before the rules
  const std::pair<const char*, std::string> others[] = {
      {"pickle", std::string("\x80\x02}q\x00X\x04\x00\x00\x00", 10)},
      {"torch.save", std::string("PK\x03\x04\x00\x00\x08\x08\x00\x00", 10)},
      {"GGUF", std::string("GGUF\x03\x00\x00\x00\x02\x00", 10)},
      {"gzip of the file",
       std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", 10)},
      {"ELF", std::string("\x7f"
                          "ELF\x02\x01\x01\x00\x00\x00",
                          10)},
      {"JSON", "{\"r\":8, \"lora\":1}"}};
  for (const auto& [what, start] : others) {
    table->Add(41, what, start + Good(), "SAFETENSORS_HEADER_LENGTH");
  }
  // Every one of both is in mutation_test.
  table->Add(42, "truncated in the header", Good().substr(0, 100),
             "SAFETENSORS_HEADER_LENGTH");
  std::string flipped = Good();
  flipped[8] = static_cast<char>(flipped[8] ^ 1);
  table->Add(42, "a bit of the brace", flipped, "SAFETENSORS_HEADER_INVALID");
  flipped = Good();
  flipped.back() = static_cast<char>(flipped.back() ^ 1);
  table->Add(42, "a bit of a value is another adapter", flipped, "OK");
}

}  // namespace

std::vector<BadAdapterCase> BadContainers() {
  Table table;
  AddLengths(&table);
  AddHeaders(&table);
  AddTensors(&table);
  AddLayouts(&table);
  return table.Take();
}

}  // namespace descant
