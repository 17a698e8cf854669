#include "tests/adapters/bad_adapters.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <set>

#include "adapters/validate.h"

namespace descant {
namespace {

std::string InChunks(const std::string& config, const std::string& file,
                     size_t chunk) {
  static const auto* base = new BaseShape(TinyBase());
  auto validator = AdapterValidator::Create(config, file.size(), base, {});
  if (!validator.ok()) return Outcome(validator.status());
  for (size_t at = 0; at < file.size(); at += chunk) {
    const absl::Status status =
        (*validator)->Append(BytesOf(file).subspan(at, chunk));
    if (!status.ok()) return Outcome(status);
  }
  return Outcome((*validator)->Finish().status());
}

}  // namespace

std::string PairOutcome(const std::string& config, const std::string& file) {
  const std::string whole = InChunks(config, file, size_t{1} << 30);
  for (const size_t chunk : {size_t{1}, size_t{7}, size_t{4096}}) {
    if (file.size() / chunk > 65536) continue;
    const std::string pieces = InChunks(config, file, chunk);
    if (pieces != whole) {
      return absl::StrCat(whole, ", in pieces of ", chunk, ": ", pieces);
    }
  }
  return whole;
}

std::string PairOutcome(const PeftDraft& draft) {
  return PairOutcome(draft.config, WriteSafetensors(draft.tensors));
}

namespace {

TEST(BadAdaptersTest, TheDraftIsGood) {
  EXPECT_EQ(PairOutcome(PeftDraft()), "OK");
}

TEST(BadAdaptersTest, EveryInputHasItsAnswer) {
  std::vector<BadAdapterCase> cases;
  for (const auto& part : {BadNames(), BadContainers(), BadGgufFiles(),
                           BadTensors(), BadConfigFiles()}) {
    cases.insert(cases.end(), part.begin(), part.end());
  }
  std::map<int, int> of_row;
  std::set<std::string> names;
  for (const BadAdapterCase& bad : cases) {
    SCOPED_TRACE(absl::StrCat("row ", bad.row, ": ", bad.name));
    EXPECT_EQ(bad.outcome(), bad.expected);
    EXPECT_TRUE(names.insert(absl::StrCat(bad.row, bad.name)).second)
        << "the same name twice";
    ++of_row[bad.row];
  }
  std::printf("%zu cases:", cases.size());
  for (const auto& [row, count] : of_row) {
    std::printf(" row %d: %d,", row, count);
  }
  std::printf("\n");
  EXPECT_GE(cases.size(), 120u);
  for (int row = 20; row <= 54; ++row) {
    if (row == 23) continue;  // answered by Protobuf: tests/server
    EXPECT_GT(of_row[row], 0) << "row " << row;
  }
}

}  // namespace
}  // namespace descant
