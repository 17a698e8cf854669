// The store's journal: an append-only file of checksummed records. A record
// that is torn or damaged ends the valid prefix; what follows is cut off.
//
// File: "DSCJRNL1", then records: u32 length, u32 CRC32C of the payload, then
// the payload (one JSON object). Little-endian.
#ifndef DESCANT_ADAPTERS_JOURNAL_H_
#define DESCANT_ADAPTERS_JOURNAL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/adapter.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/fs.h"

namespace descant {

struct JournalRecord {
  enum class Op { kPut, kDelete };
  Op op = Op::kPut;
  // kPut: everything. kDelete: tenant, name and version.
  AdapterInfo info;
};

std::string EncodeRecord(const JournalRecord& record);

struct JournalContent {
  std::vector<JournalRecord> records;
  uint64_t valid_bytes = 0;  // the prefix that holds them; 0: no header
};
// Never fails: bytes after the valid prefix are left to the caller.
JournalContent DecodeJournal(absl::string_view bytes);

// One writer.
class Journal {
 public:
  // Creates the file or recovers it: a torn tail is cut off. Appends `records`
  // with what it holds. Durable on return.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(
      Fs* fs, const std::string& directory,
      std::vector<JournalRecord>* records);

  // Durable on return. Any failure is final: every later call fails with
  // FAILED_PRECONDITION, STORE_READ_ONLY, until the store is opened again.
  absl::Status Append(const JournalRecord& record);

  bool failed() const { return failed_; }
  // A failure elsewhere in the store that must end writing.
  void Fail() { failed_ = true; }
  uint64_t bytes() const { return bytes_; }

 private:
  Journal(std::unique_ptr<WritableFile> file, uint64_t bytes)
      : file_(std::move(file)), bytes_(bytes) {}

  std::unique_ptr<WritableFile> file_;
  uint64_t bytes_;
  bool failed_ = false;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_JOURNAL_H_
