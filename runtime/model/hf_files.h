// The files of a Hugging Face directory, whatever they say. Read through links,
// as caches of downloads are made of them.
#ifndef DESCANT_RUNTIME_MODEL_HF_FILES_H_
#define DESCANT_RUNTIME_MODEL_HF_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

// The path of what lies in `directory`, which may end in a slash.
std::string PathIn(const std::string& directory, absl::string_view name);

bool PathExists(const std::string& path);

// NOT_FOUND, with the path.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// model.safetensors, or the files that model.safetensors.index.json names,
// sorted. NOT_FOUND; INVALID_ARGUMENT: an index that can't be right.
absl::StatusOr<std::vector<std::string>> HuggingFaceWeightFiles(
    const std::string& directory);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_HF_FILES_H_
