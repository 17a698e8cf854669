// The store's journal: an append-only file of checksummed records. A record
// that is torn or damaged ends the valid prefix; what follows is cut off,
// unless there are sound records in it: then the store does not open.
// journal.new is a journal that is being written to replace it.
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
#include "adapters/sharing.h"
#include "runtime/base/crc32c.h"
#include "runtime/base/fs.h"

namespace descant {

struct JournalRecord {
  // kMark: nothing but that versions up to this one have been given.
  // kShare: who else may use a name from then on, until it is deleted.
  enum class Op { kPut, kDelete, kMark, kShare };
  Op op = Op::kPut;
  // kPut: everything. kDelete: tenant, name and version. kMark: version.
  // kShare: tenant, name and the last version that has been given.
  AdapterInfo info;
  // kPut: how many versions of the name, the newest ones, this one included,
  // remain after it. Records of older servers say nothing: 1.
  uint64_t keep = 1;
  AdapterSharing sharing;  // kShare
};

std::string EncodeRecord(const JournalRecord& record);

struct JournalContent {
  std::vector<JournalRecord> records;
  uint64_t valid_bytes = 0;  // the prefix that holds them; 0: no header
  // A sound record lies behind the valid prefix. A write that was torn leaves
  // none: what is between them is damage.
  bool damaged_within = false;
};
// Never fails: bytes after the valid prefix are left to the caller.
JournalContent DecodeJournal(absl::string_view bytes);

struct JournalFile {
  JournalContent content;
  uint64_t size = 0;
};
// NOT_FOUND, DATA_LOSS STORE_CORRUPT (damaged at its beginning, or before its
// last record: cutting there would undo what was acknowledged).
absl::StatusOr<JournalFile> ReadJournalFile(Fs* fs,
                                            const std::string& directory);

// What remains of one name.
struct JournaledName {
  std::vector<AdapterInfo> versions;  // oldest first, not empty
  AdapterSharing sharing;
};
// As the records say, by tenant and name.
std::vector<JournaledName> ReplayJournal(std::vector<JournalRecord> records);

// One writer.
class Journal {
 public:
  // Creates the file or recovers it: a torn tail is cut off, a rotation that
  // did not end is given up. Appends `records` with what it holds. Durable on
  // return.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(
      Fs* fs, const std::string& directory,
      std::vector<JournalRecord>* records);
  // Of a store that cannot be written: changes nothing and fails every Append.
  // NOT_FOUND where there is no journal.
  static absl::StatusOr<std::unique_ptr<Journal>> OpenReadOnly(
      Fs* fs, const std::string& directory,
      std::vector<JournalRecord>* records);

  // Durable on return. RESOURCE_EXHAUSTED: no room, nothing has changed. Any
  // other failure is final: every later call fails with FAILED_PRECONDITION,
  // STORE_READ_ONLY, until the store is opened again.
  absl::Status Append(const JournalRecord& record);

  // Replaces the file by one that holds just `records`; crash safe at every
  // step. A failure before the rename leaves the old file in use, one at it or
  // after it is final.
  absl::Status Rotate(const std::vector<JournalRecord>& records);

  bool failed() const { return failed_; }
  // A failure elsewhere in the store that must end writing.
  void Fail() { failed_ = true; }
  uint64_t bytes() const { return bytes_; }

 private:
  Journal(Fs* fs, const std::string& directory,
          std::unique_ptr<WritableFile> file, uint64_t bytes)
      : fs_(fs), directory_(directory), file_(std::move(file)), bytes_(bytes) {}

  // Cuts off what a failed write left. False where that failed too.
  bool CutBack();

  Fs* const fs_;
  const std::string directory_;
  std::unique_ptr<WritableFile> file_;
  uint64_t bytes_;
  bool failed_ = false;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_JOURNAL_H_
