// A safetensors file that is written tensor by tensor, so that the writer need
// not hold it.
#ifndef DESCANT_ADAPTERS_FORMATS_SAFETENSORS_FILE_WRITER_H_
#define DESCANT_ADAPTERS_FORMATS_SAFETENSORS_FILE_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "adapters/formats/safetensors_writer.h"
#include "runtime/base/fs.h"

namespace descant {

// The header first, then the data in its order. One thread.
class SafetensorsFileWriter {
 public:
  // A new file; `fs`'s errors. REQUIRES: see SafetensorsHeader.
  static absl::StatusOr<std::unique_ptr<SafetensorsFileWriter>> Create(
      Fs* fs, const std::string& path, absl::Span<const SafetensorsSpec> specs,
      const SafetensorsMetadata& metadata);

  // The next bytes of the tensors' data. REQUIRES: no more than were announced.
  absl::Status Append(absl::Span<const char> bytes);

  // The content is on the disk (the folder's entry is the caller's to sync).
  // REQUIRES: all that was announced was appended.
  absl::Status Finish();

 private:
  SafetensorsFileWriter(std::unique_ptr<WritableFile> file, uint64_t missing)
      : file_(std::move(file)), missing_(missing) {}

  const std::unique_ptr<WritableFile> file_;
  uint64_t missing_;  // bytes
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_FORMATS_SAFETENSORS_FILE_WRITER_H_
