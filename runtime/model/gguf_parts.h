// The files of one model: a single GGUF, or the parts that llama.cpp's
// gguf-split makes of one.
#ifndef DESCANT_RUNTIME_MODEL_GGUF_PARTS_H_
#define DESCANT_RUNTIME_MODEL_GGUF_PARTS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/formats/gguf.h"

namespace descant {

// Immutable; thread-safe. Views into the files live as long as this object.
class GgufParts {
 public:
  // `path` is the only file or the first part, "<name>-00001-of-0000N.gguf";
  // the others lie beside it. INVALID_ARGUMENT, NOT_FOUND: another part's
  // path, a missing part, parts that disagree on their number, a tensor twice.
  static absl::StatusOr<std::shared_ptr<const GgufParts>> Open(
      const std::string& path);

  const std::string& path() const { return path_; }
  // The first part has all metadata.
  const GgufIndex& keys() const { return files_.front()->index(); }

  struct Found {
    const GgufTensor* tensor = nullptr;  // null: no part has it
    const GgufFile* file = nullptr;
  };
  Found Find(absl::string_view name) const;
  bool Has(absl::string_view name) const {
    return Find(name).tensor != nullptr;
  }
  const std::vector<std::unique_ptr<const GgufFile>>& files() const {
    return files_;
  }

 private:
  explicit GgufParts(std::string path) : path_(std::move(path)) {}

  std::string path_;
  std::vector<std::unique_ptr<const GgufFile>> files_;  // never empty
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_GGUF_PARTS_H_
