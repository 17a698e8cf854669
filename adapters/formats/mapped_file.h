// A read-only memory mapping of a trusted file. Never used for tenants' bytes:
// a mapped file that is truncated by someone else is a SIGBUS.
#ifndef DESCANT_ADAPTERS_FORMATS_MAPPED_FILE_H_
#define DESCANT_ADAPTERS_FORMATS_MAPPED_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace descant {

// Move-only owner of the mapping. Reading is thread-safe.
class MappedFile {
 public:
  // NOT_FOUND, or INVALID_ARGUMENT for something that is not a regular file;
  // messages name the path.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  absl::Span<const char> bytes() const { return {data_, size_}; }
  // Tells the kernel that [offset, offset + length) is not needed soon, so
  // that a load does not count the file's pages twice.
  void Release(size_t offset, size_t length) const;

 private:
  MappedFile(const char* data, size_t size) : data_(data), size_(size) {}

  const char* data_;
  size_t size_;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_FORMATS_MAPPED_FILE_H_
