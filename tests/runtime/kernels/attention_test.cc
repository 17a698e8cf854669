// Attention of every table of kernels against the scalar oracle, and against
// itself bit for bit over chunks and parts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/kernels/kernels.h"
#include "runtime/kernels/packing.h"
#include "tests/runtime/kernels/kernels_fixture.h"

namespace descant::kernels {
namespace {

// A cache of scattered blocks with one KV head, and the queries upon it.
struct AttentionCase {
  int group, head_dim, length;
  int window = 0;
  float score_cap = 0;
  int padded_dim = 0;
  std::vector<int32_t> blocks;
  std::vector<bf16_t> kv;
  std::vector<bf16_t> q;  // [length][group * head_dim]

  AttentionItem Item(int first, int tokens, bf16_t* out) const {
    AttentionItem item;
    const int width = group * head_dim;
    item.q = q.data() + first * width;
    item.q_stride = width;
    item.tokens = tokens;
    item.group = group;
    item.head_dim = head_dim;
    item.first_position = first;
    item.window = window;
    item.kv = kv.data();
    item.block_stride = kKvBlock * (head_dim + padded_dim);
    item.v_offset = kKvBlock * head_dim;
    item.padded_dim = padded_dim;
    item.blocks = blocks.data();
    item.next = nullptr;
    item.next_position = 0;
    item.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    item.score_cap = score_cap;
    item.out = out + first * width;
    item.out_stride = width;
    return item;
  }

  // Outputs of all tokens, `chunk` at a time.
  std::vector<bf16_t> Attend(const CpuKernels& kernels, int chunk) const {
    std::vector<bf16_t> out(q.size());
    std::vector<float> workspace(
        AttentionWorkspaceBytes(group, head_dim, padded_dim) / 4);
    chunk = std::min(chunk, AttentionRows(group) / group);
    for (int first = 0; first < length; first += chunk) {
      AttentionItem item =
          Item(first, std::min(chunk, length - first), out.data());
      AttentionItem next;
      if (const int begin = first + chunk; begin < length) {
        next = Item(begin, std::min(chunk, length - begin), out.data());
        item.next = &next;
        item.next_position = window > 0 ? std::max(begin - window + 1, 0) : 0;
      }
      kernels.attention(item, workspace.data());
    }
    return out;
  }
};

// Scattered blocks; block 1 belongs to nobody.
AttentionCase MakeAttention(int group, int head_dim, int length) {
  AttentionCase test;
  test.group = group;
  test.head_dim = head_dim;
  test.length = length;
  test.padded_dim = static_cast<int>(RoundUp(head_dim, 32));
  const int count = (length + kKvBlock - 1) / kKvBlock;
  for (int i = 0; i < count; ++i) test.blocks.push_back(2 * count - 2 * i);
  return test;
}

TEST_P(KernelsTest, AttentionMatchesTheOracleAndIgnoresChunks) {
  for (const int group : {1, 2, 3, 4, 5, 6, 7, 8, 16, 60}) {
    for (const int head_dim : {2, 64, 80, 96}) {
      for (const int length : {1, 31, 130, 300}) {
        if (group * head_dim * length > 64 * 2 * 300) continue;
        AttentionCase test = MakeAttention(group, head_dim, length);
        test.kv = Bf16s((2 * test.blocks.size() + 1) * kKvBlock *
                        (head_dim + test.padded_dim));
        test.q = Bf16s(length * group * head_dim, 2.0f);
        const auto whole = test.Attend(*kernels_, 1 << 20);
        ExpectClose(test.Attend(kScalarKernels, 1 << 20), whole, 0.02f,
                    "attention");
        for (const int chunk : {1, 2, 3, 5, 11}) {
          EXPECT_EQ(whole, test.Attend(*kernels_, chunk)) << chunk;
        }
      }
    }
  }
}

// Windows that end within a block, at its border, and within a step of the
// softmax; scores far above the cap.
TEST_P(KernelsTest, AttentionWithWindowAndCap) {
  for (const int window : {0, 1, 2, 31, 32, 33, 64, 100, 128, 129, 400}) {
    for (const float cap : {0.0f, 5.0f}) {
      const int group = window % 2 == 0 ? 2 : 3;
      const int head_dim = window == 128 ? 256 : 32;
      AttentionCase test = MakeAttention(group, head_dim, 330);
      test.window = window;
      test.score_cap = cap;
      test.kv = Bf16s((2 * test.blocks.size() + 1) * kKvBlock *
                      (head_dim + test.padded_dim));
      test.q = Bf16s(test.length * group * head_dim, 3.0f);
      const auto whole = test.Attend(*kernels_, 1 << 20);
      ExpectClose(test.Attend(kScalarKernels, 1 << 20), whole, 0.02f,
                  "window " + std::to_string(window));
      for (const int chunk : {1, 5, 7}) {
        ASSERT_EQ(whole, test.Attend(*kernels_, chunk))
            << "window " << window << " cap " << cap << " chunk " << chunk;
      }
    }
  }
}

// Sequences of several parts: against the oracle, in any chunks, and each part
// by itself.
TEST_P(KernelsTest, AttentionInPartsHasTheSameBits) {
  if (kernels_->attention_part == nullptr) GTEST_SKIP() << "has no parts";
  for (const int window : {0, 900, 1500}) {
    const int length = 2 * kAttentionPart + 150, group = 3, head_dim = 16;
    AttentionCase test = MakeAttention(group, head_dim, length);
    test.window = window;
    test.kv = Bf16s((2 * test.blocks.size() + 1) * kKvBlock *
                    (head_dim + test.padded_dim));
    test.q = Bf16s(length * group * head_dim, 2.0f);
    const auto whole = test.Attend(*kernels_, 1 << 20);
    ASSERT_EQ(whole, test.Attend(*kernels_, 7)) << "window " << window;
    std::vector<bf16_t> expected(whole.size()), actual(whole.size());
    std::vector<float> workspace(
        AttentionWorkspaceBytes(group, head_dim, test.padded_dim) / 4);
    for (int first = 3; first + 5 <= length; first += 97) {
      const AttentionItem item = test.Item(first, 5, actual.data());
      const size_t begin = first * group * head_dim;
      const size_t end = begin + 5 * group * head_dim;
      kScalarKernels.attention(test.Item(first, 5, expected.data()),
                               workspace.data());
      ExpectClose({expected.begin() + begin, expected.begin() + end},
                  {whole.begin() + begin, whole.begin() + end}, 0.02f,
                  "parts at " + std::to_string(first));
      const int seen = window > 0 ? std::max(first - window + 1, 0) : 0;
      const int first_part = seen / kAttentionPart;
      const int parts = (first + 4) / kAttentionPart + 1 - first_part;
      const int64_t size = AttentionPartialFloats(5 * group, test.padded_dim);
      std::vector<float> partials(parts * size, std::nanf(""));
      for (int part = parts - 1; part >= 0; --part) {
        kernels_->attention_part(item, first_part + part, workspace.data(),
                                 partials.data() + part * size);
      }
      kernels_->attention_merge(item, parts, partials.data());
      ASSERT_TRUE(std::equal(whole.begin() + begin, whole.begin() + end,
                             actual.begin() + begin))
          << "window " << window << " at " << first;
    }
  }
}

// Blocks that lie before every window aren't touched, whatever they hold.
TEST_P(KernelsTest, AttentionSkipsBlocksThatNobodySees) {
  AttentionCase test = MakeAttention(2, 64, 300);
  test.window = 40;
  const int block = kKvBlock * (64 + test.padded_dim);
  test.kv = Bf16s((2 * test.blocks.size() + 1) * block);
  test.q = Bf16s(test.length * 2 * 64);
  const auto expected = test.Attend(*kernels_, 1 << 20);
  const int first = 280, seen = (first - 39) / kKvBlock;
  std::fill_n(test.kv.begin() + block, block, bf16_t{0x7fc0});
  std::fill_n(test.blocks.begin(), seen, 1);
  std::vector<bf16_t> out(test.q.size());
  std::vector<float> workspace(AttentionWorkspaceBytes(2, 64, test.padded_dim) /
                               4);
  kernels_->attention(test.Item(first, 20, out.data()), workspace.data());
  EXPECT_TRUE(std::equal(expected.begin() + first * 128, expected.end(),
                         out.begin() + first * 128));
}

INSTANTIATE_TEST_SUITE_P(Isas, KernelsTest,
                         testing::Values(CpuIsa::kScalar, CpuIsa::kAvx2,
                                         CpuIsa::kAvx512, CpuIsa::kAmx),
                         [](const auto& info) {
                           return std::string(CpuIsaName(info.param));
                         });

}  // namespace
}  // namespace descant::kernels
