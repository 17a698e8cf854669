// What validating a hostile file may cost: at most 64 MiB beside the caller's
// chunk, whatever the file says, and little time where a cap is passed. Counts
// every allocation of this binary.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <new>
#include <string>

#include "tests/adapters/gguf_lora_fixture.h"

namespace {

std::atomic<size_t> live_bytes{0};
std::atomic<size_t> peak_bytes{0};

void* Count(void* pointer) {
  if (pointer == nullptr) std::abort();
  const size_t live = live_bytes += ::malloc_usable_size(pointer);
  size_t peak = peak_bytes;
  while (peak < live && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return pointer;
}

void Release(void* pointer) {
  live_bytes -= ::malloc_usable_size(pointer);
  std::free(pointer);
}

}  // namespace

void* operator new(size_t bytes) { return Count(std::malloc(bytes)); }
void* operator new[](size_t bytes) { return Count(std::malloc(bytes)); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return Count(std::malloc(bytes));
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  return Count(std::aligned_alloc(static_cast<size_t>(alignment), bytes));
}
void operator delete(void* pointer) noexcept { Release(pointer); }
void operator delete[](void* pointer) noexcept { Release(pointer); }
void operator delete(void* pointer, size_t) noexcept { Release(pointer); }
void operator delete[](void* pointer, size_t) noexcept { Release(pointer); }
void operator delete(void* pointer, std::align_val_t) noexcept {
  Release(pointer);
}
void operator delete(void* pointer, size_t, std::align_val_t) noexcept {
  Release(pointer);
}

namespace descant {
namespace {

constexpr size_t kChunk = 1 << 20;
constexpr size_t kMaxPeak = (size_t{64} << 20) + kChunk;

struct Cost {
  size_t peak = 0;
  double milliseconds = 0;
  std::string outcome;
};

// Runs `work`, whose own inputs exist already.
Cost Measure(const std::function<std::string()>& work) {
  const size_t before = live_bytes;
  peak_bytes = before;
  const std::clock_t start = std::clock();  // of the processor: a busy machine
  Cost cost;                                // makes no difference
  cost.outcome = work();
  cost.milliseconds =
      1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  cost.peak = peak_bytes - before;
  return cost;
}

// A base deep enough that a file of the largest size fits its shapes.
BaseShape LargeBase() {
  BaseShape base;
  base.fingerprint = "sha256:large";
  base.gguf_architecture = "qwen3";
  for (int32_t layer = 0; layer < 128; ++layer) {
    base.modules.push_back(
        {absl::StrCat("model.layers.", layer, ".self_attn.q_proj"), 4096, 4096,
         layer, LinearKind::kQ});
    base.modules.push_back(
        {absl::StrCat("model.layers.", layer, ".self_attn.k_proj"), 4096, 4096,
         layer, LinearKind::kK});
    base.modules.push_back(
        {absl::StrCat("model.layers.", layer, ".self_attn.v_proj"), 4096, 4096,
         layer, LinearKind::kV});
  }
  return base;
}

const BaseShape& Base() {
  static const auto* base = new BaseShape(LargeBase());
  return *base;
}

constexpr char kConfig[] = R"({"r":512,"target_modules":"all-linear"})";

// `header`, then zeros up to `size`.
std::string StreamSafetensors(const std::string& header, uint64_t size) {
  auto validator = AdapterValidator::Create(kConfig, size, &Base(), {});
  if (!validator.ok()) return Outcome(validator.status());
  uint64_t sent = 0;
  const std::string zeros(kChunk, '\0');
  while (sent < size) {
    const absl::Span<const char> chunk =
        sent < header.size() ? BytesOf(header).subspan(sent, kChunk)
                             : BytesOf(zeros).subspan(0, size - sent);
    const absl::Status status = (*validator)->Append(chunk);
    if (!status.ok()) return Outcome(status);
    sent += chunk.size();
  }
  return Outcome((*validator)->Finish().status());
}

std::string StreamGguf(const std::string& file, uint64_t size) {
  auto reader = GgufLoraReader::Create(size, &Base(), {});
  if (!reader.ok()) return Outcome(reader.status());
  std::string out;
  for (size_t at = 0; at < file.size(); at += kChunk) {
    const absl::Status status =
        (*reader)->Append(BytesOf(file).subspan(at, kChunk), &out);
    if (!status.ok()) return Outcome(status);
  }
  return "taken";
}

void Expect(const char* what, const Cost& cost, const std::string& outcome) {
  std::printf("%s: peak %.1f MiB, %.1f ms\n", what,
              static_cast<double>(cost.peak) / (1 << 20), cost.milliseconds);
  EXPECT_EQ(cost.outcome, outcome) << what;
  EXPECT_LE(cost.peak, kMaxPeak) << what;
}

std::string Entry(const std::string& name, const std::string& shape,
                  uint64_t begin, uint64_t end) {
  return absl::StrCat("\"", name, R"(":{"dtype":"F32","shape":)", shape,
                      R"(,"data_offsets":[)", begin, ",", end, "]}");
}

std::string Padded(std::string header) {
  header.resize(1 << 20, ' ');
  return RawSafetensors(header, "");
}

TEST(ValidateMemoryTest, HeadersOfOneMebibyte) {
  std::string tensors = "{";
  for (int i = 0; tensors.size() < (1 << 20) - 100; ++i) {
    absl::StrAppend(&tensors, i == 0 ? "" : ",",
                    Entry(absl::StrCat(i), "[1,1]", 0, 4));
  }
  std::string metadata = "{\"__metadata__\":{\"\":\"\"";
  for (int i = 0; metadata.size() < (1 << 20) - 100; ++i) {
    absl::StrAppend(&metadata, ",\"", i, "\":\"\"");
  }
  std::string numbers = "{\"a\":{\"shape\":[1";
  while (numbers.size() < (1 << 20) - 100) numbers += ",1";
  std::string empties = "{\"a\":[[]";
  while (empties.size() < (1 << 20) - 100) empties += ",[]";
  const std::pair<const char*, std::string> headers[] = {
      {"tensors", tensors + "}"},
      {"metadata", metadata + "}}"},
      {"numbers", numbers + "]}}"},
      {"lists", empties + "]}"},
      {"one name", "{\"" + std::string((1 << 20) - 50, 'n') + "\":{}}"},
      {"open brackets", "{\"a\":" + std::string((1 << 20) - 50, '[') + "}"}};
  for (const auto& [what, text] : headers) {
    const std::string file = Padded(text);
    const Cost cost = Measure(
        [&file = file] { return StreamSafetensors(file, file.size() + 4); });
    Expect(what, cost, cost.outcome);
    EXPECT_EQ(cost.outcome.substr(0, 28), "INVALID_ARGUMENT SAFETENSORS");
  }
}

// 10 MB of header: refused from its length, before any of it is kept.
TEST(ValidateMemoryTest, AMillionTensors) {
  std::string header = "{";
  for (int i = 0; i < 1'000'000; ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",",
                    Entry(absl::StrCat(i), "[1,1]", 0, 4));
  }
  const std::string file = RawSafetensors(header + "}", "0123");
  const Cost cost =
      Measure([&file] { return StreamSafetensors(file, file.size()); });
  Expect("1,000,000 tensors", cost,
         "INVALID_ARGUMENT SAFETENSORS_HEADER_LENGTH");
  EXPECT_LT(cost.peak, size_t{4} << 20);
  EXPECT_LT(cost.milliseconds, 100);

  GgufWriter gguf;
  gguf.Head(1'000'000, 0);
  for (int i = 0; i < 1'000'000; ++i) gguf.Tensor(absl::StrCat(i), {1}, 0, 0);
  gguf.Data(4);
  const Cost gguf_cost =
      Measure([&gguf] { return StreamGguf(gguf.bytes_, gguf.bytes_.size()); });
  Expect("1,000,000 tensors, GGUF", gguf_cost, "INVALID_ARGUMENT GGUF_COUNT");
  EXPECT_LT(gguf_cost.milliseconds, 100);
}

TEST(ValidateMemoryTest, GgufHeadersOfOneMebibyte) {
  GgufWriter strings;
  strings.Head(1, 1).Key("general.x", GgufValueType::kArray);
  strings.Number(static_cast<uint32_t>(GgufValueType::kString));
  strings.Number<uint64_t>(1 << 17).Raw(std::string(1 << 20, '\0'));
  GgufWriter declared;  // more than there is
  declared.Head(1, 1).Key("general.x", GgufValueType::kArray);
  declared.Number(static_cast<uint32_t>(GgufValueType::kString));
  declared.Number<uint64_t>((uint64_t{2} << 30) / 8 - 10);
  declared.Raw(std::string(2 << 20, '\0'));
  GgufWriter values;
  values.Head(1, 1024);
  for (int i = 0; i < 1024; ++i) {
    values.Key(absl::StrCat("general.", i), GgufValueType::kString)
        .Text(std::string(990, 'x'));
  }
  values.Raw(std::string(1 << 16, '\0'));
  for (const GgufWriter* file : {&strings, &declared, &values}) {
    const Cost cost =
        Measure([file] { return StreamGguf(file->bytes_, uint64_t{2} << 30); });
    Expect("GGUF values", cost, cost.outcome);
    EXPECT_EQ(cost.outcome.substr(0, 22), "INVALID_ARGUMENT GGUF_");
  }
}

// As many bytes as may be declared, all of them needed by the shapes.
TEST(ValidateMemoryTest, TheLargestFile) {
  std::string header = "{";
  uint64_t offset = 0;
  for (const BaseModule& module : Base().modules) {
    for (const bool a : {true, false}) {
      const uint64_t bytes = uint64_t{512} * 4096 * 4;
      if (offset > 0) header += ",";
      header += Entry(absl::StrCat("base_model.model.", module.path,
                                   a ? ".lora_A.weight" : ".lora_B.weight"),
                      a ? "[512,4096]" : "[4096,512]", offset, offset + bytes);
      offset += bytes;
    }
  }
  const std::string file = RawSafetensors(header + "}", "");
  // Over the limit it is not even looked at.
  EXPECT_EQ(StreamSafetensors(file, file.size() + offset),
            "RESOURCE_EXHAUSTED UPLOAD_TOO_LARGE");
  // Bytes for the whole, of which the limit lets 2 GiB be declared.
  const Cost cost =
      Measure([&file] { return StreamSafetensors(file, uint64_t{2} << 30); });
  Expect("a header for more than 2 GiB", cost,
         "INVALID_ARGUMENT SAFETENSORS_OFFSETS");
}

// 2 GiB that are good, but for the last byte. 128 modules of 8 MiB + 8 MiB.
TEST(ValidateMemoryTest, TwoGibibytesOfValues) {
  std::string header = "{";
  uint64_t offset = 0;
  for (int32_t layer = 0; layer < 127; ++layer) {
    for (const bool a : {true, false}) {
      const uint64_t bytes = uint64_t{512} * 4096 * 4;
      if (offset > 0) header += ",";
      header += Entry(
          absl::StrCat("base_model.model.model.layers.", layer,
                       ".self_attn.q_proj.lora_", a ? "A" : "B", ".weight"),
          a ? "[512,4096]" : "[4096,512]", offset, offset + bytes);
      offset += bytes;
    }
  }
  const std::string file = RawSafetensors(header + "}", "");
  const std::string config =
      R"({"r":512,"target_modules":["q_proj"],"layers_to_transform":[0)" +
      [] {
        std::string layers;
        for (int i = 1; i < 127; ++i) absl::StrAppend(&layers, ",", i);
        return layers;
      }() +
      "]}";
  const Cost cost = Measure([&] {
    auto validator = AdapterValidator::Create(config, file.size() + offset,
                                              &Base(), {}, false);
    if (!validator.ok()) return Outcome(validator.status());
    absl::Status status = (*validator)->Append(BytesOf(file));
    const std::string zeros(kChunk, '\0');
    for (uint64_t sent = 0; sent < offset && status.ok(); sent += kChunk) {
      status = (*validator)->Append(BytesOf(zeros));
    }
    if (!status.ok()) return Outcome(status);
    return Outcome((*validator)->Finish().status());
  });
  Expect("2 GB of values", cost, "OK");
  EXPECT_LT(cost.peak, size_t{8} << 20);
}

}  // namespace
}  // namespace descant
