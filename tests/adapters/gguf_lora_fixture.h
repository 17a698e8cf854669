// GGUF LoRA files for the tiny base model of adapter_fixture.h, right or
// damaged, and what a GgufLoraReader makes of a file.
#ifndef DESCANT_TESTS_ADAPTERS_GGUF_LORA_FIXTURE_H_
#define DESCANT_TESTS_ADAPTERS_GGUF_LORA_FIXTURE_H_

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "adapters/gguf_lora.h"
#include "tests/adapters/adapter_fixture.h"
#include "tests/adapters/gguf_writer.h"

namespace descant {

// The tiny base as a llama: 2 heads of 4, one key-value head.
inline BaseShape TinyLlamaBase() {
  BaseShape base = TinyBase();
  base.gguf_architecture = "llama";
  for (BaseModule& module : base.modules) {
    if (module.kind == LinearKind::kQ) module.gguf_interleaved_heads = 2;
    if (module.kind == LinearKind::kK) module.gguf_interleaved_heads = 1;
  }
  return base;
}

// A file in parts, which tests change before it is put together.
struct GgufLoraDraft {
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dims;
    uint32_t type = 0;  // F32
    std::string bytes;
    int64_t shift = 0;  // of the offset that the entry says
  };
  std::string magic = "GGUF";
  uint32_t version = 3;
  int64_t extra_tensors = 0;  // in the counts, beyond what is there
  int64_t extra_values = 0;
  std::vector<std::function<void(GgufWriter*)>> values;
  std::vector<Tensor> tensors;
  uint64_t alignment = 32;
  char padding = '\0';
  std::string tail;

  // Rank 2 on the first layer's q: every value 0.5.
  GgufLoraDraft() {
    Text("general.architecture", "llama");
    Text("general.type", "adapter");
    Text("adapter.type", "lora");
    Alpha(4);
    Module("blk.0.attn_q.weight", 8, 8, 2);
  }

  void Text(const std::string& key, const std::string& text) {
    values.push_back([key, text](GgufWriter* file) {
      file->Key(key, GgufValueType::kString).Text(text);
    });
  }
  void Alpha(float alpha) {
    values.push_back([alpha](GgufWriter* file) {
      file->Key("adapter.lora.alpha", GgufValueType::kFloat32).Number(alpha);
    });
  }
  void Module(const std::string& name, uint64_t in, uint64_t out,
              uint64_t rank) {
    Add(absl::StrCat(name, ".lora_a"), {in, rank});
    Add(absl::StrCat(name, ".lora_b"), {rank, out});
  }
  void Add(const std::string& name, std::vector<uint64_t> dims) {
    Tensor tensor{name, dims, 0, "", 0};
    uint64_t count = 1;
    for (const uint64_t dim : dims) count *= dim;
    for (uint64_t i = 0; i < count; ++i) {
      AppendLittleEndian(0.5f, &tensor.bytes);
    }
    tensors.push_back(std::move(tensor));
  }

  std::string Write() const {
    const auto padded = [this](uint64_t bytes) {
      return (bytes + alignment - 1) / alignment * alignment;
    };
    GgufWriter file;
    file.Raw(magic)
        .Number(version)
        .Number(static_cast<uint64_t>(static_cast<int64_t>(tensors.size()) +
                                      extra_tensors))
        .Number(static_cast<uint64_t>(static_cast<int64_t>(values.size()) +
                                      extra_values));
    for (const auto& value : values) value(&file);
    uint64_t offset = 0;
    for (const Tensor& tensor : tensors) {
      file.Tensor(tensor.name, tensor.dims, tensor.type,
                  offset + static_cast<uint64_t>(tensor.shift));
      offset += padded(tensor.bytes.size());
    }
    file.bytes_.resize(padded(file.bytes_.size()), padding);
    for (const Tensor& tensor : tensors) {
      file.bytes_ += tensor.bytes;
      file.bytes_.resize(padded(file.bytes_.size()), padding);
    }
    return file.bytes_ + tail;
  }
};

// What a whole file gives.
struct GgufLoraPair {
  std::string config_json;
  std::string safetensors;
  ValidatedAdapter validated;
};

// The file through the reader and the validator, in pieces.
inline absl::StatusOr<GgufLoraPair> ReadGgufLora(
    const std::string& file, const BaseShape& base, size_t chunk = 1 << 20,
    const AdapterLimits& limits = {}, uint64_t declared = 0) {
  if (declared == 0) declared = file.size();
  auto reader = GgufLoraReader::Create(declared, &base, limits);
  if (!reader.ok()) return reader.status();
  GgufLoraPair pair;
  std::unique_ptr<AdapterValidator> validator;
  for (size_t at = 0; at < file.size(); at += chunk) {
    std::string out;
    absl::Status status =
        (*reader)->Append(BytesOf(file).subspan(at, chunk), &out);
    if (!status.ok()) return status;
    if ((*reader)->header_done() && validator == nullptr) {
      pair.config_json = (*reader)->config_json();
      auto created = AdapterValidator::Create(
          pair.config_json, (*reader)->safetensors_bytes(), &base, limits,
          /*hash_file=*/false);
      if (!created.ok()) return created.status();
      validator = *std::move(created);
    }
    if (validator == nullptr) continue;
    status = validator->Append(BytesOf(out));
    if (!status.ok()) return status;
    pair.safetensors += out;
  }
  const absl::Status finished = (*reader)->Finish();
  if (!finished.ok()) return finished;
  auto validated = validator->Finish();
  if (!validated.ok()) return validated.status();
  pair.validated = *std::move(validated);
  return pair;
}

}  // namespace descant

#endif  // DESCANT_TESTS_ADAPTERS_GGUF_LORA_FIXTURE_H_
