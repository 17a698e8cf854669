#include "runtime/model/cpu_self_test.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/cpu/brgemm.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/groups.h"
#include "runtime/kernels/packing.h"
#include "runtime/model/cpu_self_test_checks.h"

namespace descant {
namespace {

using kernels::AttentionItem;
using kernels::bf16_t;
using kernels::CpuKernels;
using kernels::GroupFormat;
using kernels::kColumnBlock;
using kernels::kKvBlock;
using kernels::kRankBlock;
using kernels::kScalarKernels;

constexpr int32_t kRows = 7;  // more than one register of rows
constexpr int32_t kPairs = 37;
constexpr int64_t kLda = 2 * kPairs;
constexpr int64_t kLdb = 2 * kColumnBlock;

void AddAll(const CacheLines<float>& wanted, const CacheLines<float>& got,
            size_t count, LargestDifference* difference) {
  for (size_t i = 0; i < count; ++i) {
    difference->Add(wanted.data()[i], got.data()[i]);
  }
}

void AddAll(const CacheLines<bf16_t>& wanted, const CacheLines<bf16_t>& got,
            size_t count, LargestDifference* difference) {
  for (size_t i = 0; i < count; ++i) {
    difference->Add(FromBf16(wanted.data()[i]), FromBf16(got.data()[i]));
  }
}

void CheckGemm(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(1);
  const auto a = Bf16s(kRows * kLda, &values);
  const auto b = Bf16s(kPairs * kLdb, &values);
  constexpr size_t kSize = kRows * kColumnBlock;
  const CacheLines<float> before(values.Floats(kSize));
  if (kernels.gemm_is_brgemm &&
      !kernels::BrgemmPrepare(kPairs, kLda, kColumnBlock).ok()) {
    return difference->Add(0, NAN);
  }
  for (const bool accumulate : {false, true}) {
    if (accumulate && kernels.gemm_is_brgemm) continue;
    CacheLines<float> wanted = before, got = before;
    kScalarKernels.gemm(kRows, kPairs, a.data(), kLda, b.data(), kLdb, nullptr,
                        wanted.data(), kColumnBlock, accumulate);
    kernels.gemm(kRows, kPairs, a.data(), kLda, b.data(), kLdb, nullptr,
                 got.data(), kColumnBlock, accumulate);
    AddAll(wanted, got, kSize, difference);
  }
}

void CheckGemmBeside(const CpuKernels& kernels, LargestDifference* difference) {
  if (kernels.gemm_beside == nullptr) return;
  const int32_t rows = kernels.gemm_beside_from + kRows;
  SelfTestValues values(2);
  const auto a = Bf16s(rows * kLda, &values);
  const auto b = Bf16s(kPairs * kLdb, &values);
  const kernels::FetchRange range = {
      reinterpret_cast<const std::byte*>(b.data()), 512};
  kernels::FetchStream beside;
  beside.soon = beside.later = {&range, &range + 1};
  CacheLines<float> wanted(rows * kColumnBlock), got(rows * kColumnBlock);
  kScalarKernels.gemm(rows, kPairs, a.data(), kLda, b.data(), kLdb, nullptr,
                      wanted.data(), kColumnBlock, false);
  kernels.gemm_beside(rows, kPairs, a.data(), kLda, b.data(), kLdb, nullptr,
                      got.data(), kColumnBlock, &beside);
  AddAll(wanted, got, rows * kColumnBlock, difference);
}

CacheLines<bf16_t> LoraValues(size_t count, SelfTestValues* values, bf16_t) {
  return Bf16s(count, values);
}
CacheLines<int8_t> LoraValues(size_t count, SelfTestValues* values, int8_t) {
  CacheLines<int8_t> result(count);
  for (size_t i = 0; i < count; ++i) {
    result.data()[i] = static_cast<int8_t>(127 * values->Next());
  }
  return result;
}

// `Value`: of the adapter's matrices.
template <typename Value>
const kernels::LoraKernels& LoraOf(const CpuKernels& kernels) {
  return std::is_same_v<Value, int8_t> ? *kernels.lora_int8 : *kernels.lora;
}

template <typename Value>
void CheckShrink(const CpuKernels& kernels, LargestDifference* difference) {
  SelfTestValues values(3);
  const auto a = Bf16s(kRows * kLda, &values);
  const auto b = LoraValues(2 * kPairs * kRankBlock, &values, Value());
  const CacheLines<float> scale(values.Floats(kRankBlock));
  CacheLines<bf16_t> wanted(kRows * kRankBlock), got(kRows * kRankBlock);
  LoraOf<Value>(kScalarKernels)
      .shrink(kRows, kPairs, a.data(), kLda, b.data(), scale.data(),
              wanted.data(), kRankBlock);
  LoraOf<Value>(kernels).shrink(kRows, kPairs, a.data(), kLda, b.data(),
                                scale.data(), got.data(), kRankBlock);
  AddAll(wanted, got, kRows * kRankBlock, difference);
}

// Two adapters, with a row of none between them; the second block of columns.
template <typename Value>
void CheckExpand(const CpuKernels& kernels, LargestDifference* difference) {
  constexpr int32_t kRank = 20, kBlock = 1;
  SelfTestValues values(4);
  // Sums of some units, whatever the values.
  const float range = std::is_same_v<Value, int8_t> ? 1.0f / 128 : 1;
  const auto h = Bf16s(kRows * kRank, &values, range);
  const auto b = LoraValues(2 * kRank * kColumnBlock, &values, Value());
  const kernels::ExpandSegment segments[] = {
      {h.data(), b.data(), kRank, kRank / 2, 0, 2},
      {h.data() + 3 * kRank, b.data(), kRank, 3, 3, kRows}};
  constexpr size_t kSize = kRows * kColumnBlock;
  CacheLines<float> wanted(values.Floats(kSize));
  CacheLines<float> got = wanted;
  LoraOf<Value>(kScalarKernels)
      .expand(segments, 2, kBlock, 0, kRows, wanted.data(), kColumnBlock);
  LoraOf<Value>(kernels).expand(segments, 2, kBlock, 0, kRows, got.data(),
                                kColumnBlock);
  AddAll(wanted, got, kSize, difference);
}

// 32 columns of `k` weights.
CacheLines<uint8_t> GroupBlock(GroupFormat format, int32_t k,
                               SelfTestValues* values) {
  const int32_t groups = (k + kernels::kGroup - 1) / kernels::kGroup;
  CacheLines<uint8_t> block(kernels::GroupBlockBytes(format, k / 2));
  for (int32_t column = 0; column < kColumnBlock; ++column) {
    std::vector<uint8_t> codes(k);
    for (uint8_t& code : codes) {
      const auto byte = static_cast<uint8_t>(128 + 127 * values->Next());
      code = format == GroupFormat::k8 ? byte : byte % 16;
    }
    std::vector<uint16_t> d, m;
    for (int32_t i = 0; i < groups; ++i) {
      d.push_back(ToFloat16(0.01f * values->Next()).bits);
      m.push_back(ToFloat16(0.1f * values->Next()).bits);
    }
    kernels::PackGroupRow(format, {codes.data(), d.data(), m.data()}, k, column,
                          block.data());
  }
  return block;
}

// Expanded weights have the scalar ones' bits.
template <GroupFormat kFormat>
void CheckGroupExpand(const CpuKernels& kernels,
                      LargestDifference* difference) {
  SelfTestValues values(5);
  const auto block = GroupBlock(kFormat, 2 * kPairs, &values);
  CacheLines<bf16_t> wanted(kPairs * kLdb), got(kPairs * kLdb);
  const auto format = static_cast<size_t>(kFormat);
  kernels::kScalarGroups.expand[format](kPairs, block.data(), nullptr,
                                        wanted.data());
  kernels.groups->expand[format](kPairs, block.data(), nullptr, got.data());
  AddAll(wanted, got, kPairs * kLdb, difference);
}

template <GroupFormat kFormat>
void CheckGroupGemm(const CpuKernels& kernels, LargestDifference* difference) {
  const int32_t rows = std::min(kernels.groups->fused_rows, kRows);
  if (rows == 0) return;
  SelfTestValues values(6);
  const auto block = GroupBlock(kFormat, 2 * kPairs, &values);
  const auto a = Bf16s(kRows * kLda, &values);
  CacheLines<bf16_t> expanded(kPairs * kLdb);
  CacheLines<float> wanted(kRows * kColumnBlock), got(kRows * kColumnBlock);
  const auto format = static_cast<size_t>(kFormat);
  kernels::kScalarGroups.expand[format](kPairs, block.data(), nullptr,
                                        expanded.data());
  kScalarKernels.gemm(rows, kPairs, a.data(), kLda, expanded.data(), kLdb,
                      nullptr, wanted.data(), kColumnBlock, false);
  kernels.groups->gemm[format](rows, kPairs, a.data(), kLda, block.data(),
                               got.data(), kColumnBlock);
  AddAll(wanted, got, rows * kColumnBlock, difference);
}

void CheckInt8Gemm(const CpuKernels& kernels, LargestDifference* difference) {
  constexpr int32_t kDepth = 3 * kernels::kInt8Depth;
  SelfTestValues values(7);
  CacheLines<uint8_t> a(kRows * kDepth);
  for (int32_t i = 0; i < kRows * kDepth; ++i) {
    a[i] = static_cast<uint8_t>(128 + 127 * values.Next());
  }
  const auto a_scale = values.Floats(kRows);
  CacheLines<std::byte> block(kernels::Int8BlockBytes(kDepth));
  const auto scale = values.Floats(kColumnBlock);
  std::vector<int32_t> offset(kColumnBlock);
  for (int32_t i = 0; i < kDepth * kColumnBlock; ++i) {
    const auto value = static_cast<int8_t>(127 * values.Next());
    block[kernels::kInt8HeaderBytes + i] = static_cast<std::byte>(value);
    offset[i / 4 % kColumnBlock] += 128 * value;
  }
  std::memcpy(block.data(), scale.data(), 4 * kColumnBlock);
  std::memcpy(block.data() + 4 * kColumnBlock, offset.data(), 4 * kColumnBlock);
  CacheLines<float> wanted(kRows * kColumnBlock), got(kRows * kColumnBlock);
  kScalarKernels.int8.gemm(kRows, kDepth, a.data(), kDepth, a_scale.data(),
                           block.data(), nullptr, wanted.data(), kColumnBlock);
  kernels.int8.gemm(kRows, kDepth, a.data(), kDepth, a_scale.data(),
                    block.data(), nullptr, got.data(), kColumnBlock);
  AddAll(wanted, got, kRows * kColumnBlock, difference);
}

// Three tokens of a sequence from position `first` on, in scattered pages.
class AttentionCase {
 public:
  explicit AttentionCase(int32_t first) : first_(first) {
    const int32_t pages = (first + kTokens + kKvBlock - 1) / kKvBlock;
    for (int32_t i = 0; i < pages; ++i) blocks_.push_back(pages - 1 - i);
    SelfTestValues values(8);
    kv_ = Bf16s(int64_t{pages} * kBlockSize, &values);
    q_ = Bf16s(kTokens * kWidth, &values, 2);
  }

  AttentionItem Item(int32_t window, float cap, bf16_t* out) const {
    AttentionItem item = {};
    item.q = q_.data();
    item.q_stride = item.out_stride = kWidth;
    item.tokens = kTokens;
    item.group = kGroup;
    item.head_dim = kHeadDim;
    item.first_position = first_;
    item.window = window;
    item.kv = kv_.data();
    item.block_stride = kBlockSize;
    item.v_offset = int64_t{kKvBlock} * kHeadDim;
    item.padded_dim = kPaddedDim;
    item.blocks = blocks_.data();
    item.scale = 0.3f;
    item.score_cap = cap;
    item.out = out;
    return item;
  }
  static int64_t WorkspaceBytes() {
    return kernels::AttentionWorkspaceBytes(kGroup, kHeadDim, kPaddedDim);
  }
  static int64_t PartialFloats() {
    return kernels::AttentionPartialFloats(kTokens * kGroup, kPaddedDim);
  }

  static constexpr int32_t kTokens = 3, kGroup = 5, kHeadDim = 80;
  static constexpr int32_t kPaddedDim = 96;
  static constexpr int32_t kWidth = kGroup * kHeadDim;
  static constexpr int32_t kBlockSize = kKvBlock * (kHeadDim + kPaddedDim);

 private:
  const int32_t first_;
  std::vector<int32_t> blocks_;
  CacheLines<bf16_t> kv_{0};
  CacheLines<bf16_t> q_{0};
};

constexpr size_t kAttended = AttentionCase::kTokens * AttentionCase::kWidth;

void CheckAttention(const CpuKernels& kernels, LargestDifference* difference) {
  const AttentionCase test(150);
  CacheLines<std::byte> workspace(AttentionCase::WorkspaceBytes());
  for (const int32_t window : {0, 70}) {
    const float cap = window > 0 ? 2.0f : 0.0f;
    CacheLines<bf16_t> wanted(kAttended), got(kAttended);
    kScalarKernels.attention(test.Item(window, cap, wanted.data()),
                             workspace.data());
    kernels.attention(test.Item(window, cap, got.data()), workspace.data());
    AddAll(wanted, got, kAttended, difference);
  }
}

void CheckAttentionParts(const CpuKernels& kernels,
                         LargestDifference* difference) {
  if (kernels.attention_part == nullptr) return;
  const AttentionCase test(kernels::kAttentionPart + 40);
  CacheLines<std::byte> workspace(AttentionCase::WorkspaceBytes());
  const int64_t size = AttentionCase::PartialFloats();
  CacheLines<float> partials(2 * size);
  CacheLines<bf16_t> wanted(kAttended), got(kAttended);
  kScalarKernels.attention(test.Item(0, 0, wanted.data()), workspace.data());
  const AttentionItem item = test.Item(0, 0, got.data());
  for (int32_t part = 0; part < 2; ++part) {
    kernels.attention_part(item, part, workspace.data(),
                           partials.data() + part * size);
  }
  kernels.attention_merge(item, 2, partials.data());
  AddAll(wanted, got, kAttended, difference);
}

constexpr CpuKernelCheck kProductChecks[] = {
    {"gemm", &CheckGemm, CpuRounding::kFloat},
    {"gemm_beside", &CheckGemmBeside, CpuRounding::kFloat},
    {"shrink", &CheckShrink<bf16_t>, CpuRounding::kBf16},
    {"expand", &CheckExpand<bf16_t>, CpuRounding::kFloat},
    {"shrink of int8", &CheckShrink<int8_t>, CpuRounding::kBf16},
    {"expand of int8", &CheckExpand<int8_t>, CpuRounding::kFloat},
    {"expand of k4 groups", &CheckGroupExpand<GroupFormat::k4>,
     CpuRounding::kNone},
    {"expand of k4Min groups", &CheckGroupExpand<GroupFormat::k4Min>,
     CpuRounding::kNone},
    {"expand of k8 groups", &CheckGroupExpand<GroupFormat::k8>,
     CpuRounding::kNone},
    {"gemm of k4 groups", &CheckGroupGemm<GroupFormat::k4>,
     CpuRounding::kFloat},
    {"gemm of k4Min groups", &CheckGroupGemm<GroupFormat::k4Min>,
     CpuRounding::kFloat},
    {"gemm of k8 groups", &CheckGroupGemm<GroupFormat::k8>,
     CpuRounding::kFloat},
    {"int8 gemm", &CheckInt8Gemm, CpuRounding::kNone},
    {"attention", &CheckAttention, CpuRounding::kAttention},
    {"attention in parts", &CheckAttentionParts, CpuRounding::kAttention},
};

double BoundOf(CpuRounding rounding) {
  switch (rounding) {
    case CpuRounding::kNone:
      return 0;
    case CpuRounding::kFloat:
      return 2e-5;
    case CpuRounding::kBf16:
      return 0x1p-7;  // a step of bf16, which another order may lead to
    case CpuRounding::kAttention:
      break;
  }
  return 0.02;  // weights of positions are rounded, too
}

}  // namespace

void TestCpuKernels(const CpuKernels& kernels, SelfTestReport report) {
  std::vector<CpuKernelCheck> checks(std::begin(kProductChecks),
                                     std::end(kProductChecks));
  const auto of_rows = CpuRowChecks();
  checks.insert(checks.end(), of_rows.begin(), of_rows.end());
  for (const CpuKernelCheck& entry : checks) {
    LargestDifference difference;
    entry.check(kernels, &difference);
    if (kernels.end_region != nullptr) kernels.end_region();
    SelfTestCheck check;
    check.name = absl::StrCat("kernel ", entry.name);
    check.error = difference.error();
    check.bound = BoundOf(entry.rounding);
    report(check);
  }
}

void TestCpuKernelsInUse(SelfTestReport report) {
  SelfTestCheck check;
  check.name = "instruction set";
  const auto isa = kernels::ChooseCpuIsa();
  if (isa.ok()) {
    const auto table = kernels::KernelsFor(*isa);
    if (table.ok()) return TestCpuKernels(**table, report);
    check.status = table.status();
  } else {
    check.status = isa.status();
  }
  report(check);
}

}  // namespace descant
