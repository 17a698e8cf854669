// Packed weights on disk: round trips, damage, several processes at once, and
// that a runner's weights are the same from there.
#include "runtime/model/weights_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "runtime/model/block_format.h"
#include "runtime/model/cpu_runner_weights.h"
#include "runtime/model/model.h"
#include "runtime/model/weight_source.h"
#include "tests/runtime/model/synthetic_model.h"

namespace descant {
namespace {

namespace stdfs = std::filesystem;

class WeightsCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "descant_cache_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    directory_ = root_ + "/made/for/it";
  }
  void TearDown() override { stdfs::remove_all(root_); }

  static std::vector<std::byte> Bytes(size_t size, uint32_t seed) {
    std::vector<std::byte> bytes(size);
    for (std::byte& byte : bytes) {
      seed = seed * 1664525 + 1013904223;
      byte = static_cast<std::byte>(seed >> 24);
    }
    return bytes;
  }
  WeightsCache Cache() { return WeightsCache(&fs_, directory_); }
  absl::Status Write(const std::string& key,
                     const std::vector<std::byte>& bytes) {
    return Cache().Write(key, bytes, &stop_);
  }
  absl::Status Read(const std::string& key, std::vector<std::byte>* bytes) {
    return Cache().Read(key, &pool_, absl::MakeSpan(*bytes));
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : stdfs::directory_iterator(directory_)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  PosixFs fs_;
  kernels::WorkerPool pool_{2};
  std::atomic<bool> stop_{false};
  std::string root_;
  std::string directory_;
};

TEST_F(WeightsCacheTest, WhatIsWrittenIsRead) {
  const size_t chunk = 8 << 20;
  for (const size_t size : {size_t{1}, size_t{4096}, chunk, 2 * chunk + 5}) {
    const std::string key = "key " + std::to_string(size);
    const auto bytes = Bytes(size, 7);
    std::vector<std::byte> out(size);
    EXPECT_TRUE(absl::IsNotFound(Read(key, &out)));
    ASSERT_TRUE(Write(key, bytes).ok());
    ASSERT_TRUE(Read(key, &out).ok());
    EXPECT_EQ(out, bytes);
  }
  struct stat info = {};
  ASSERT_EQ(::stat(directory_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(WeightsCacheTest, DamageIsFoundWhereverItIs) {
  const auto bytes = Bytes(10000, 7);
  ASSERT_TRUE(Write("key", bytes).ok());
  const std::string path = Cache().PathOf("key");
  std::ifstream file(path, std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::string> damaged = {
      "", content.substr(0, 50), content.substr(0, content.size() - 1),
      content + "x", std::string(content.size(), '\0')};
  for (size_t byte = 0; byte < content.size(); byte += byte < 64 ? 1 : 509) {
    // Padding up to the data carries no meaning.
    if (byte >= 64 && byte < 4096) continue;
    damaged.push_back(content);
    damaged.back()[byte] ^= 0x20;
  }
  std::vector<std::byte> out(bytes.size());
  for (const std::string& other : damaged) {
    if (other.size() == content.size() && other == content) continue;
    std::ofstream(path, std::ios::binary | std::ios::trunc) << other;
    const absl::Status status = Read("key", &out);
    const size_t at = std::mismatch(other.begin(), other.end(), content.begin(),
                                    content.end())
                          .first -
                      other.begin();
    // The header of this key and size ends at byte 35.
    if (other.size() == content.size() && at >= 35 && at < 4096) continue;
    EXPECT_TRUE(absl::IsDataLoss(status)) << at << " " << status;
  }
  // Another size, another key: not this file's.
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  std::vector<std::byte> longer(bytes.size() + 1);
  EXPECT_TRUE(absl::IsDataLoss(Read("key", &longer)));
  stdfs::copy_file(path, Cache().PathOf("other"));
  EXPECT_TRUE(absl::IsDataLoss(Read("other", &out)));
  EXPECT_TRUE(Read("key", &out).ok());
}

TEST_F(WeightsCacheTest, AStoppedOrFailedWriteLeavesNothing) {
  stop_ = true;
  EXPECT_TRUE(absl::IsCancelled(Write("key", Bytes(100, 1))));
  EXPECT_TRUE(Files().empty());
  stop_ = false;
  const WeightsCache bad(&fs_, "/proc/nowhere/descant");
  EXPECT_FALSE(bad.Write("key", Bytes(100, 1), &stop_).ok());
}

TEST_F(WeightsCacheTest, TheOldestAreDropped) {
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(Write(std::to_string(i), Bytes(100, i)).ok());
    stdfs::last_write_time(
        Cache().PathOf(std::to_string(i)),
        stdfs::file_time_type::clock::now() - std::chrono::hours(100 - i));
    std::vector<std::byte> out(100);
    // Used: the youngest.
    ASSERT_TRUE(Read("0", &out).ok());
  }
  std::ofstream(directory_ + "/README") << "not ours";
  std::ofstream(directory_ + "/x.packed.tmp") << "of a writer that was killed";
  std::ofstream(directory_ + "/y.packed.tmp") << "of one that writes";
  stdfs::last_write_time(
      directory_ + "/x.packed.tmp",
      stdfs::file_time_type::clock::now() - std::chrono::hours(2));
  ASSERT_TRUE(Write("6", Bytes(100, 6)).ok());
  EXPECT_EQ(Files().size(), 4u + 2u);
  std::vector<std::byte> out(100);
  for (const char* key : {"0", "4", "5", "6"}) {
    EXPECT_TRUE(Read(key, &out).ok()) << key;
  }
}

TEST_F(WeightsCacheTest, SeveralMayWriteAndReadAtOnce) {
  const auto bytes = Bytes(300000, 3);
  std::vector<std::thread> threads;
  std::atomic<int> read{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      kernels::WorkerPool pool(1);
      for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(Write("key", bytes).ok());
        std::vector<std::byte> out(bytes.size());
        const absl::Status status =
            Cache().Read("key", &pool, absl::MakeSpan(out));
        EXPECT_TRUE(status.ok()) << status;
        if (out == bytes) ++read;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(read, 40);
  EXPECT_EQ(Files().size(), 1u);
}

// Counts what is read of the matrices.
class CountingSource final : public WeightSource {
 public:
  explicit CountingSource(const WeightSource* source) : source_(source) {}
  absl::Status ReadBf16(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<BFloat16> out) const override {
    ++reads;
    return source_->ReadBf16(kind, layer, row_begin, out);
  }
  absl::Status ReadFp32(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<float> out) const override {
    return source_->ReadFp32(kind, layer, row_begin, out);
  }
  mutable std::atomic<int> reads{0};

 private:
  const WeightSource* const source_;
};

bool Same(const CpuLinear& a, const CpuLinear& b, int64_t width) {
  return std::memcmp(a.blocks, b.blocks,
                     width / kernels::kColumnBlock * a.block_bytes) == 0;
}

TEST_F(WeightsCacheTest, WeightsFromTheCacheAreThePackedOnes) {
  auto config = SyntheticConfig("gpt2", 2);
  ASSERT_TRUE(config.has_value());
  config->vocab_size = 999;
  const auto model = MakeSyntheticModel(*config, 5);
  const CountingSource source(model->weights.get());
  const PackedWeightsPlace place = {directory_, "key"};
  const auto load = [&] {
    auto weights =
        CpuWeights::Load(*config, source, kBf16Blocks, &pool_, place);
    EXPECT_TRUE(weights.ok()) << weights.status();
    return *std::move(weights);
  };
  const auto first = load();
  const int all = source.reads.exchange(0);
  const std::string path = Cache().PathOf("key");
  for (int i = 0; i < 2000 && !stdfs::exists(path); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(stdfs::exists(path));
  const auto expect_same = [&](const CpuWeights& other) {
    const CpuShape& shape = first->shape();
    EXPECT_TRUE(Same(first->head(), other.head(), shape.vocab_width));
    for (int32_t layer = 0; layer < config->num_layers; ++layer) {
      const CpuLayerWeights& a = first->layer(layer);
      const CpuLayerWeights& b = other.layer(layer);
      EXPECT_TRUE(Same(a.qkv, b.qkv, shape.qkv_width));
      EXPECT_TRUE(Same(a.down, b.down, shape.hidden_width));
      EXPECT_EQ(std::memcmp(a.mlp_norm.weight, b.mlp_norm.weight,
                            shape.hidden_width * sizeof(float)),
                0);
    }
  };
  expect_same(*load());
  EXPECT_LT(source.reads.exchange(0), all / 20);
  // Written by other software under the same key: sound, but packed otherwise.
  std::vector<std::byte> bytes(first->bytes());
  ASSERT_TRUE(Read("key", &bytes).ok());
  const auto other = Bytes(bytes.size(), 9);
  ASSERT_TRUE(Write("key", other).ok());
  expect_same(*load());
  EXPECT_GE(source.reads.exchange(0), all);
}

}  // namespace
}  // namespace descant
