#include "adapters/journal.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "adapters/error_reason.h"
#include "adapters/formats/json.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr absl::string_view kMagic = "DSCJRNL1";
constexpr size_t kRecordHeader = 8;
constexpr uint32_t kMaxRecordBytes = 64 << 10;
constexpr uint64_t kMaxJournalBytes = uint64_t{1} << 30;

std::string TextOf(const JsonValue& record, absl::string_view key) {
  const JsonValue* value = record.Find(key);
  return value == nullptr ? std::string() : value->string();
}

uint64_t NumberOf(const JsonValue& record, absl::string_view key) {
  const JsonValue* value = record.Find(key);
  return value == nullptr ? 0 : value->unsigned_integer();
}

// False where the payload is not a record of this format.
bool DecodePayload(absl::string_view payload, JournalRecord* record) {
  JsonLimits limits;
  limits.max_bytes = kMaxRecordBytes;
  const absl::StatusOr<JsonValue> root = ParseJson(payload, limits);
  if (!root.ok() || root->kind() != JsonValue::kObject) return false;
  const std::string op = TextOf(*root, "op");
  if (op != "put" && op != "delete") return false;
  record->op =
      op == "put" ? JournalRecord::Op::kPut : JournalRecord::Op::kDelete;
  AdapterInfo& info = record->info;
  info.tenant = TextOf(*root, "tenant");
  info.name = TextOf(*root, "name");
  info.version = NumberOf(*root, "version");
  info.digest = TextOf(*root, "digest");
  info.file_bytes = NumberOf(*root, "file_bytes");
  info.max_rank = static_cast<int32_t>(NumberOf(*root, "max_rank"));
  info.num_modules = static_cast<int32_t>(NumberOf(*root, "num_modules"));
  info.module_kinds = static_cast<uint32_t>(NumberOf(*root, "module_kinds"));
  info.parameters = NumberOf(*root, "parameters");
  info.base_fingerprint = TextOf(*root, "base_fingerprint");
  info.base_model_name = TextOf(*root, "base_model_name");
  const JsonValue* created = root->Find("created_unix");
  info.created_unix =
      created != nullptr && created->is_number() ? created->number() : 0;
  return true;
}

// Written aside and renamed, so that a journal without its magic is damage,
// never an interrupted start.
absl::Status CreateJournal(Fs* fs, const std::string& directory) {
  const std::string temporary = directory + "/journal.new";
  if (const absl::Status removed = fs->Remove(temporary);
      !removed.ok() && !absl::IsNotFound(removed)) {
    return removed;
  }
  DESCANT_ASSIGN_OR_RETURN(const auto file, fs->Create(temporary));
  DESCANT_RETURN_IF_ERROR(
      file->Append(absl::MakeConstSpan(kMagic.data(), kMagic.size())));
  DESCANT_RETURN_IF_ERROR(file->Sync());
  DESCANT_RETURN_IF_ERROR(fs->Rename(temporary, directory + "/journal"));
  return fs->SyncDirectory(directory);
}

}  // namespace

std::string EncodeRecord(const JournalRecord& record) {
  const AdapterInfo& info = record.info;
  const bool put = record.op == JournalRecord::Op::kPut;
  std::string payload = absl::StrCat("{\"op\":\"", put ? "put" : "delete",
                                     "\",\"version\":", info.version,
                                     ",\"tenant\":", JsonQuote(info.tenant),
                                     ",\"name\":", JsonQuote(info.name));
  if (put) {
    absl::StrAppend(
        &payload, ",\"digest\":", JsonQuote(info.digest),
        ",\"file_bytes\":", info.file_bytes, ",\"max_rank\":", info.max_rank,
        ",\"num_modules\":", info.num_modules,
        ",\"module_kinds\":", info.module_kinds,
        ",\"parameters\":", info.parameters,
        ",\"base_fingerprint\":", JsonQuote(info.base_fingerprint),
        ",\"base_model_name\":", JsonQuote(info.base_model_name),
        ",\"created_unix\":", absl::StrFormat("%.3f", info.created_unix));
  }
  payload += "}";
  std::string bytes;
  AppendLittleEndian(static_cast<uint32_t>(payload.size()), &bytes);
  AppendLittleEndian(Crc32c(payload), &bytes);
  return bytes + payload;
}

JournalContent DecodeJournal(absl::string_view bytes) {
  JournalContent content;
  if (bytes.substr(0, kMagic.size()) != kMagic) return content;
  uint64_t position = kMagic.size();
  while (bytes.size() - position >= kRecordHeader) {
    const char* header = bytes.data() + position;
    const auto length = LoadLittleEndian<uint32_t>(header);
    const auto crc = LoadLittleEndian<uint32_t>(header + sizeof(uint32_t));
    if (length == 0 || length > kMaxRecordBytes ||
        length > bytes.size() - position - kRecordHeader) {
      break;
    }
    const absl::string_view payload =
        bytes.substr(position + kRecordHeader, length);
    JournalRecord record;
    if (Crc32c(payload) != crc || !DecodePayload(payload, &record)) break;
    content.records.push_back(std::move(record));
    position += kRecordHeader + length;
  }
  content.valid_bytes = position;
  return content;
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(
    Fs* fs, const std::string& directory, std::vector<JournalRecord>* records) {
  const std::string path = directory + "/journal";
  absl::StatusOr<std::string> bytes = ReadFile(fs, path, kMaxJournalBytes);
  if (absl::IsNotFound(bytes.status())) {
    DESCANT_RETURN_IF_ERROR(CreateJournal(fs, directory));
    bytes = std::string(kMagic);
  }
  DESCANT_RETURN_IF_ERROR(bytes.status());
  JournalContent content = DecodeJournal(*bytes);
  if (content.valid_bytes == 0) {
    return ReasonedError(absl::StatusCode::kDataLoss, reason::kStoreCorrupt,
                         "the store's journal is damaged at its beginning");
  }
  DESCANT_ASSIGN_OR_RETURN(auto file,
                           fs->OpenAppend(path, content.valid_bytes));
  // What a crash left written but not synced is made durable before it is
  // served.
  DESCANT_RETURN_IF_ERROR(file->Sync());
  *records = std::move(content.records);
  return std::unique_ptr<Journal>(
      new Journal(std::move(file), content.valid_bytes));
}

absl::Status Journal::Append(const JournalRecord& record) {
  if (failed_) {
    return ReasonedError(absl::StatusCode::kFailedPrecondition,
                         reason::kStoreReadOnly,
                         "the store is read-only after a failed write");
  }
  const std::string bytes = EncodeRecord(record);
  failed_ = true;  // unless all of it succeeds
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_journal"));
  DESCANT_RETURN_IF_ERROR(
      file_->Append(absl::MakeConstSpan(bytes.data(), bytes.size())));
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_journal_sync"));
  DESCANT_RETURN_IF_ERROR(file_->Sync());
  failed_ = false;
  bytes_ += bytes.size();
  return absl::OkStatus();
}

}  // namespace descant
