#include "runtime/kernels/cpu/amx.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/float16.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/packing.h"

namespace descant::kernels {
namespace {

constexpr int32_t kRows = 35;
constexpr int32_t kRowCounts[] = {1, 7, 16, 19, 32, kRows};

// The same values every time, between -1 and 1.
class Values {
 public:
  float Next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) * 0x1p-31f;
  }
  std::vector<float> Floats(size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = Next();
    return values;
  }
  std::vector<bf16_t> Bf16s(size_t count) {
    std::vector<bf16_t> values(count);
    for (bf16_t& value : values) value = ToBFloat16(Next()).bits;
    return values;
  }

 private:
  uint64_t state_ = 20261124;
};

bool Near(float expected, float actual, float error) {
  return std::abs(expected - actual) <= error;
}

bool Near(const std::vector<bf16_t>& expected,
          const std::vector<bf16_t>& actual) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!Near(ToFloat(BFloat16{expected[i]}), ToFloat(BFloat16{actual[i]}),
              0.02f)) {
      return false;
    }
  }
  return true;
}

template <typename T>
bool Same(const T* left, const T* right, size_t count) {
  return std::memcmp(left, right, count * sizeof(T)) == 0;
}

absl::Status Wrong(const char* what, int32_t m, int32_t k_pairs) {
  return absl::InternalError(absl::StrCat("AMX ", what, " of ", m, " rows and ",
                                          k_pairs,
                                          " pairs gives wrong results"));
}

// Both ways to add a product, and each row by itself.
absl::Status CheckProduct(const AmxKernels& amx, int32_t m, int32_t k_pairs) {
  Values values;
  const int64_t lda = 2 * k_pairs + 2, ldc = kColumnBlock + 16;
  const auto a = values.Bf16s(m * lda);
  const auto b = values.Bf16s(2 * k_pairs * kColumnBlock);
  const auto before = values.Floats(m * ldc);
  auto expected = before, tiles = before, few = before, single = before;
  kScalarKernels.gemm(m, k_pairs, a.data(), lda, b.data(), 2 * kColumnBlock,
                      nullptr, expected.data(), ldc, true);
  amx.gemm(m, k_pairs, a.data(), lda, b.data(), 2 * kColumnBlock, b.data(),
           tiles.data(), ldc, true);
  amx.tile(m, k_pairs, a.data(), lda, b.data(), 2 * kColumnBlock, nullptr,
           few.data(), ldc, true);
  for (int32_t row = 0; row < m; ++row) {
    amx.tile(1, k_pairs, a.data() + row * lda, lda, b.data(), 2 * kColumnBlock,
             nullptr, single.data() + row * ldc, ldc, true);
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!Near(expected[i], tiles[i], 1e-4f)) {
      return Wrong("product", m, k_pairs);
    }
  }
  if (!Same(tiles.data(), few.data(), tiles.size()) ||
      !Same(tiles.data(), single.data(), tiles.size())) {
    return Wrong("product by rows", m, k_pairs);
  }
  return absl::OkStatus();
}

absl::Status CheckShrink(const AmxKernels& amx, int32_t m, int32_t k_pairs) {
  Values values;
  const int64_t lda = 2 * k_pairs + 2;
  const auto a = values.Bf16s(m * lda);
  const auto b = values.Bf16s(2 * k_pairs * kRankBlock);
  const auto scale = values.Floats(kRankBlock);
  std::vector<bf16_t> expected(m * kRankBlock);
  auto tiles = expected, single = expected;
  kScalarKernels.lora->shrink(m, k_pairs, a.data(), lda, b.data(), scale.data(),
                              expected.data(), kRankBlock);
  amx.lora.shrink(m, k_pairs, a.data(), lda, b.data(), scale.data(),
                  tiles.data(), kRankBlock);
  for (int32_t row = 0; row < m; ++row) {
    amx.lora.shrink(1, k_pairs, a.data() + row * lda, lda, b.data(),
                    scale.data(), single.data() + row * kRankBlock, kRankBlock);
  }
  if (!Near(expected, tiles)) return Wrong("shrink", m, k_pairs);
  if (!Same(tiles.data(), single.data(), tiles.size())) {
    return Wrong("shrink by rows", m, k_pairs);
  }
  return absl::OkStatus();
}

// Against plain loops; integers, so exactly.
absl::Status CheckInt8(const AmxKernels& amx, int32_t m, int32_t k) {
  Values values;
  std::vector<uint8_t> a(m * k);
  for (uint8_t& x : a) x = static_cast<uint8_t>(128 + 127 * values.Next());
  std::vector<std::byte> block(Int8BlockBytes(k));
  std::vector<float> scale = values.Floats(kColumnBlock);
  std::vector<int32_t> offset(kColumnBlock);
  int8_t* b = reinterpret_cast<int8_t*>(block.data() + kInt8HeaderBytes);
  for (int32_t i = 0; i < k * kColumnBlock; ++i) {
    b[i] = static_cast<int8_t>(127 * values.Next());
    offset[i / 4 % kColumnBlock] += 128 * b[i];
  }
  std::memcpy(block.data(), scale.data(), 4 * kColumnBlock);
  std::memcpy(block.data() + 4 * kColumnBlock, offset.data(), 4 * kColumnBlock);
  const auto a_scale = values.Floats(m);
  std::vector<float> c(m * kColumnBlock);
  amx.gemm_int8(m, k, a.data(), k, a_scale.data(), block.data(), block.data(),
                c.data(), kColumnBlock);
  for (int32_t row = 0; row < m; ++row) {
    for (int32_t n = 0; n < kColumnBlock; ++n) {
      int32_t sum = -offset[n];
      for (int32_t i = 0; i < k; ++i) {
        sum += a[row * k + i] * b[i / 4 * 4 * kColumnBlock + 4 * n + i % 4];
      }
      const float scaled = static_cast<float>(sum) * (a_scale[row] * scale[n]);
      if (c[row * kColumnBlock + n] != scaled) {
        return Wrong("int8 product", m, k / 2);
      }
    }
  }
  return absl::OkStatus();
}

// Three tokens of a sequence, together and one by one.
absl::Status CheckAttention(const AmxKernels& amx, int32_t head_dim) {
  constexpr int32_t kGroup = 6, kTokens = 3, kFirst = 67;
  Values values;
  const int32_t padded_dim =
      static_cast<int32_t>(RoundUp(head_dim, kColumnBlock));
  const int64_t block = kKvBlock * (head_dim + padded_dim);
  const int32_t blocks[] = {2, 0, 1};
  const auto kv = values.Bf16s(3 * block);
  const auto q = values.Bf16s(kTokens * kGroup * head_dim);
  std::vector<bf16_t> expected(q.size());
  auto together = expected, single = expected;
  std::vector<float> workspace(
      AttentionWorkspaceBytes(kGroup, head_dim, padded_dim) / 4 + 16);
  void* aligned = workspace.data();
  size_t space = workspace.size() * sizeof(float);
  std::align(64, space - 64, aligned, space);
  AttentionItem item = {};
  item.q_stride = item.out_stride = kGroup * head_dim;
  item.group = kGroup;
  item.head_dim = head_dim;
  item.kv = kv.data();
  item.block_stride = block;
  item.v_offset = int64_t{kKvBlock} * head_dim;
  item.padded_dim = padded_dim;
  item.blocks = blocks;
  item.scale = 0.5f;
  const auto attend = [&](AttentionFn attention, int32_t first, int32_t count,
                          bf16_t* out) {
    item.q = q.data() + first * item.q_stride;
    item.tokens = count;
    item.first_position = kFirst + first;
    item.out = out + first * item.out_stride;
    attention(item, aligned);
  };
  attend(kScalarKernels.attention, 0, kTokens, expected.data());
  attend(amx.attention, 0, kTokens, together.data());
  for (int32_t token = 0; token < kTokens; ++token) {
    attend(amx.attention, token, 1, single.data());
  }
  if (!Near(expected, together)) {
    return Wrong("attention", kTokens * kGroup, head_dim / 2);
  }
  if (!Same(together.data(), single.data(), together.size())) {
    return Wrong("attention by tokens", kTokens * kGroup, head_dim / 2);
  }
  return absl::OkStatus();
}

absl::Status CheckAll(const AmxKernels& amx) {
  // Parts of a tile, tiles alike, and with a shorter last one.
  for (const int32_t k_pairs : {1, 8, 16, 17, 24, 40, 64}) {
    for (const int32_t m : kRowCounts) {
      DESCANT_RETURN_IF_ERROR(CheckProduct(amx, m, k_pairs));
      DESCANT_RETURN_IF_ERROR(CheckShrink(amx, m, k_pairs));
    }
  }
  for (const int32_t k : {64, 192}) {
    for (const int32_t m : kRowCounts) {
      DESCANT_RETURN_IF_ERROR(CheckInt8(amx, m, k));
    }
  }
  for (const int32_t head_dim : {34, 64, 80}) {
    DESCANT_RETURN_IF_ERROR(CheckAttention(amx, head_dim));
  }
  return absl::OkStatus();
}

// Few rows go through expanded weights too: the bits of table.gemm.
const GroupKernels kAmxGroups = [] {
  GroupKernels groups = kAvx512Groups;
  groups.fused_rows = 0;
  for (GroupGemmFn& gemm : groups.gemm) gemm = nullptr;
  return groups;
}();

}  // namespace

CpuKernels AmxTable(const AmxKernels& amx) {
  CpuKernels table = kAvx512Kernels;
  table.name = "amx_bf16";
  table.gemm = amx.gemm;
  table.gemm_beside = nullptr;
  table.lora = &amx.lora;
  table.groups = &kAmxGroups;
  table.int8.gemm = amx.gemm_int8;
  table.attention = amx.attention;
  table.attention_part = amx.attention_part;
  table.attention_merge = amx.attention_merge;
  table.end_region = amx.release_tiles;
  return table;
}

absl::Status CheckAmx(const AmxKernels& amx) {
  const absl::Status status = CheckAll(amx);
  amx.release_tiles();
  return status;
}

absl::Status CheckAmxApart(const AmxKernels& amx) {
  int ends[2];
  if (pipe(ends) != 0) return absl::InternalError("no pipe for AMX's check");
  const pid_t child = fork();
  if (child == 0) {
    const absl::Status status = CheckAmx(amx);
    const absl::string_view message = status.message();
    const bool told = write(ends[1], message.data(), message.size()) ==
                      static_cast<ssize_t>(message.size());
    _exit(status.ok() && told ? 0 : 1);
  }
  close(ends[1]);
  char text[256];
  ssize_t size = 0;
  int state = 0;
  bool ended = false;
  if (child > 0) {
    size = read(ends[0], text, sizeof(text));
    ended = waitpid(child, &state, 0) == child;
  }
  close(ends[0]);
  if (ended && WIFEXITED(state) && WEXITSTATUS(state) == 0) {
    return absl::OkStatus();
  }
  if (ended && WIFSIGNALED(state)) {
    return absl::InternalError(absl::StrCat(
        "the check of AMX kernels ended by signal ", WTERMSIG(state)));
  }
  if (size <= 0) return absl::InternalError("AMX kernels could not be checked");
  return absl::InternalError(absl::string_view(text, size));
}

}  // namespace descant::kernels
