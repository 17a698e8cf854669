#include "adapters/formats/safetensors_file_writer.h"

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace descant {

absl::StatusOr<std::unique_ptr<SafetensorsFileWriter>>
SafetensorsFileWriter::Create(Fs* fs, const std::string& path,
                              absl::Span<const SafetensorsSpec> specs,
                              const SafetensorsMetadata& metadata) {
  uint64_t bytes = 0;
  for (const SafetensorsSpec& spec : specs) bytes += spec.bytes;
  DESCANT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file,
                           fs->Create(path));
  DESCANT_RETURN_IF_ERROR(file->Append(SafetensorsHeader(specs, metadata)));
  return std::unique_ptr<SafetensorsFileWriter>(
      new SafetensorsFileWriter(std::move(file), bytes));
}

absl::Status SafetensorsFileWriter::Append(absl::Span<const char> bytes) {
  DESCANT_CHECK(bytes.size() <= missing_);
  missing_ -= bytes.size();
  return file_->Append(bytes);
}

absl::Status SafetensorsFileWriter::Finish() {
  DESCANT_CHECK(missing_ == 0);
  return file_->Sync();
}

}  // namespace descant
