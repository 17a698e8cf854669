// A folder that an adapter is downloaded into.
#ifndef DESCANT_SERVER_CLI_ADAPTER_FOLDER_H_
#define DESCANT_SERVER_CLI_ADAPTER_FOLDER_H_

#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant::cli {

// PEFT's names of the two files.
inline constexpr char kAdapterConfigFile[] = "adapter_config.json";
inline constexpr char kAdapterTensorsFile[] = "adapter_model.safetensors";

// Files that get their names only when all of their bytes are there: until
// Commit the folder holds temporary files, which the destructor removes. Errors
// name the path. Thread-compatible.
class AdapterFolder {
 public:
  // Makes the folder where there is none. ALREADY_EXISTS where one of the
  // files is there and `overwrite` is not set.
  static absl::StatusOr<std::unique_ptr<AdapterFolder>> Open(
      const std::string& path, bool overwrite);
  ~AdapterFolder();
  AdapterFolder(const AdapterFolder&) = delete;
  AdapterFolder& operator=(const AdapterFolder&) = delete;

  absl::Status WriteConfig(absl::string_view json);
  absl::Status AppendTensors(absl::string_view bytes);
  // Both files reach the disk and get their names. ALREADY_EXISTS where one
  // came to be meanwhile.
  absl::Status Commit();

 private:
  struct File {
    std::string path;       // in the end
    std::string temporary;  // "" once it has its name
    std::FILE* stream = nullptr;
  };

  AdapterFolder(const std::string& path, bool overwrite);
  absl::Status Create(File* file);
  absl::Status Sync(File* file);
  absl::Status Publish(File* file);

  const bool overwrite_;
  File config_;
  File tensors_;
};

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_ADAPTER_FOLDER_H_
