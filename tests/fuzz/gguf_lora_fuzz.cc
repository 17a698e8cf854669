// Hostile GGUF LoRA files. An input that begins with 'f' is a file as it is.
// Any other is read as choices: a file is made of them whose counts, lengths
// and offsets are right but for what the choices change, so that mutations
// reach the rules behind the parser.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "adapters/error_reason.h"
#include "runtime/base/check.h"
#include "tests/adapters/gguf_lora_fixture.h"

namespace descant {
namespace {

// Bytes of the input one after the other, then zeros.
class Choices {
 public:
  explicit Choices(absl::string_view bytes) : bytes_(bytes) {}
  uint8_t Next() {
    if (bytes_.empty()) return 0;
    const char next = bytes_.front();
    bytes_.remove_prefix(1);
    return static_cast<uint8_t>(next);
  }
  template <size_t n>
  const char* Of(const char* const (&texts)[n]) {
    return texts[Next() % n];
  }
  std::string Text() {
    const size_t wanted = Next() % 32;
    const size_t size = std::min(wanted, bytes_.size());
    const std::string text(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
    return text;
  }
  bool done() const { return bytes_.empty(); }

 private:
  absl::string_view bytes_;
};

void AddValue(Choices* choices, GgufLoraDraft* draft) {
  static const char* const kKeys[] = {
      "general.name",        "general.base_model.0.name",
      "general.alignment",   "adapter.type",
      "adapter.lora.alpha",  "general.x",
      "general.description", "adapter.alora.invocation_tokens"};
  const std::string key =
      choices->Next() % 8 == 0 ? choices->Text() : choices->Of(kKeys);
  const auto type = static_cast<GgufValueType>(choices->Next() % 14);
  const std::string raw = choices->Text();
  draft->values.push_back([key, type, raw](GgufWriter* file) {
    file->Key(key, type);
    if (type == GgufValueType::kString) {
      file->Text(raw);
    } else {
      file->Raw(raw);
    }
  });
}

void AddTensor(Choices* choices, GgufLoraDraft* draft) {
  static const char* const kNames[] = {
      "blk.0.attn_q.weight",   "blk.0.attn_k.weight",
      "blk.0.attn_v.weight",   "blk.0.attn_output.weight",
      "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
      "blk.0.ffn_down.weight", "blk.1.attn_q.weight",
      "blk.1.ffn_up.weight",   "output.weight"};
  constexpr uint64_t kSizes[][2] = {{8, 8},  {8, 4},  {8, 4}, {8, 8},  {8, 12},
                                    {8, 12}, {12, 8}, {8, 8}, {8, 12}, {8, 8}};
  const size_t which = choices->Next() % std::size(kNames);
  draft->Module(kNames[which], kSizes[which][0], kSizes[which][1],
                1 + choices->Next() % 5);
  for (size_t i = draft->tensors.size() - 2; i < draft->tensors.size(); ++i) {
    GgufLoraDraft::Tensor& tensor = draft->tensors[i];
    const uint8_t change = choices->Next();
    if ((change & 1) != 0) {  // two bytes an element
      tensor.type = (change & 2) != 0 ? 1 : 30;
      tensor.bytes.resize(tensor.bytes.size() / 2, '\x3c');
    }
    if ((change & 0x0c) == 0x0c) tensor.type = choices->Next();
    if ((change & 0x30) == 0x30) {
      tensor.dims[choices->Next() % 2] = choices->Next();
    }
    if ((change & 0xc0) == 0xc0) {
      tensor.shift = int64_t{32} * static_cast<int8_t>(choices->Next());
    }
  }
}

std::string Build(absl::string_view bytes) {
  Choices choices(bytes);
  GgufLoraDraft draft;
  const uint8_t first = choices.Next();
  if ((first & 1) != 0) draft.tensors.clear();
  if ((first & 2) != 0) draft.padding = static_cast<char>(choices.Next());
  if ((first & 4) != 0)
    draft.extra_tensors = static_cast<int8_t>(choices.Next());
  if ((first & 8) != 0)
    draft.extra_values = static_cast<int8_t>(choices.Next());
  if ((first & 16) != 0) draft.tail = choices.Text();
  if ((first & 32) != 0) draft.values.pop_back();  // alpha
  for (int i = 0; i < 40 && !choices.done(); ++i) {
    if (choices.Next() % 3 == 0) {
      AddValue(&choices, &draft);
    } else {
      AddTensor(&choices, &draft);
    }
  }
  return draft.Write();
}

// What the reader accepts, the validator takes for a PEFT pair of that very
// base: only values and scales are left to it.
void Fuzz(const std::string& file) {
  static const auto* base = new BaseShape(TinyLlamaBase());
  bool by_validator = false;
  const auto whole =
      ReadGgufLora(file, *base, size_t{1} << 30, {},
                   std::max<size_t>(file.size(), 1), &by_validator);
  const auto pieces =
      ReadGgufLora(file, *base, std::max<size_t>(7, file.size() / 16), {},
                   std::max<size_t>(file.size(), 1));
  DESCANT_CHECK(Outcome(whole.status()) == Outcome(pieces.status()));
  if (whole.ok()) {
    DESCANT_CHECK(whole->safetensors == pieces->safetensors);
    DESCANT_CHECK(whole->config_json == pieces->config_json);
    DESCANT_CHECK(whole->validated.index.file_size ==
                  whole->safetensors.size());
    return;
  }
  const std::string reason = ReasonOf(whole.status());
  DESCANT_CHECK(!reason.empty());
  DESCANT_CHECK(!by_validator || reason == reason::kAdapterValue ||
                reason == reason::kAdapterScale);
}

}  // namespace
}  // namespace descant

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (!bytes.empty() && bytes[0] == 'f') {
    descant::Fuzz(std::string(bytes.substr(1)));
  } else {
    descant::Fuzz(descant::Build(bytes));
  }
  return 0;
}
