#include "runtime/model/gguf_parts.h"

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr int64_t kMaxParts = 1024;

int64_t PartCount(const GgufIndex& index) {
  return index.GetInt("split.count").value_or(1);
}

absl::Status Fail(const std::string& path, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", rule));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const GgufParts>> GgufParts::Open(
    const std::string& path) {
  std::shared_ptr<GgufParts> parts(new GgufParts(path));
  DESCANT_ASSIGN_OR_RETURN(auto first, GgufFile::Open(path));
  const int64_t count = PartCount(first->index());
  if (first->index().GetInt("split.no").value_or(0) != 0) {
    return Fail(path, "is a later part of a split model; give the first one");
  }
  parts->files_.push_back(std::move(first));
  if (count <= 1) return parts;
  if (count > kMaxParts) return Fail(path, "split.count is too large");
  const std::string ending = absl::StrFormat("-00001-of-%05d.gguf", count);
  if (!absl::EndsWith(path, ending)) {
    return Fail(path, absl::StrCat("is the first of ", count,
                                   " parts, so its name must end in ", ending));
  }
  const std::string stem = path.substr(0, path.size() - ending.size());
  for (int64_t i = 1; i < count; ++i) {
    const std::string part =
        absl::StrFormat("%s-%05d-of-%05d.gguf", stem, i + 1, count);
    DESCANT_ASSIGN_OR_RETURN(auto file, GgufFile::Open(part));
    const GgufIndex& index = file->index();
    if (PartCount(index) != count ||
        index.GetInt("split.no").value_or(-1) != i) {
      return Fail(part, absl::StrCat("split.no and split.count must be ", i,
                                     " and ", count));
    }
    for (const GgufTensor& tensor : index.tensors()) {
      if (parts->Has(tensor.name)) {
        return Fail(part, absl::StrCat("tensor ", tensor.name,
                                       ": is in an earlier part as well"));
      }
    }
    parts->files_.push_back(std::move(file));
  }
  return parts;
}

GgufParts::Found GgufParts::Find(absl::string_view name) const {
  for (const auto& file : files_) {
    if (const GgufTensor* tensor = file->index().FindTensor(name)) {
      return {tensor, file.get()};
    }
  }
  return {};
}

}  // namespace descant
