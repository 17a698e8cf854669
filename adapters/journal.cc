#include "adapters/journal.h"

#include <algorithm>
#include <iterator>
#include <map>
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
constexpr absl::string_view kPayloadBegin = "{\"op\":\"";
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

constexpr struct {
  JournalRecord::Op op;
  absl::string_view name;
} kOps[] = {{JournalRecord::Op::kPut, "put"},
            {JournalRecord::Op::kDelete, "delete"},
            {JournalRecord::Op::kMark, "mark"},
            {JournalRecord::Op::kShare, "share"}};

void DecodeLabels(const JsonValue& record, AdapterLabels* labels) {
  const JsonValue* value = record.Find("labels");
  if (value == nullptr) return;
  for (const auto& [key, text] : value->object())
    (*labels)[key] = text.string();
}

std::string EncodeLabels(const AdapterLabels& labels) {
  std::string text = ",\"labels\":{";
  const char* separator = "";
  for (const auto& [key, value] : labels) {
    absl::StrAppend(&text, separator, JsonQuote(key), ":", JsonQuote(value));
    separator = ",";
  }
  return text + "}";
}

void DecodeSharing(const JsonValue& record, AdapterSharing* sharing) {
  const JsonValue* all = record.Find("all");
  sharing->all_tenants = all != nullptr && all->boolean();
  const JsonValue* tenants = record.Find("tenants");
  if (tenants == nullptr) return;
  for (const JsonValue& id : tenants->array()) {
    sharing->tenants.push_back(id.string());
  }
}

std::string EncodeSharing(const AdapterSharing& sharing) {
  if (sharing.all_tenants) return ",\"all\":true";
  std::string text = ",\"tenants\":[";
  const char* separator = "";
  for (const std::string& id : sharing.tenants) {
    absl::StrAppend(&text, separator, JsonQuote(id));
    separator = ",";
  }
  return text + "]";
}

// False where the payload is not a record of this format.
bool DecodePayload(absl::string_view payload, JournalRecord* record) {
  JsonLimits limits;
  limits.max_bytes = kMaxRecordBytes;
  const absl::StatusOr<JsonValue> root = ParseJson(payload, limits);
  if (!root.ok() || root->kind() != JsonValue::kObject) return false;
  const std::string op = TextOf(*root, "op");
  const auto* named =
      std::find_if(std::begin(kOps), std::end(kOps),
                   [&op](const auto& known) { return known.name == op; });
  if (named == std::end(kOps)) return false;
  record->op = named->op;
  const uint64_t keep = NumberOf(*root, "keep");
  record->keep = std::max<uint64_t>(keep, 1);
  DecodeLabels(*root, &record->info.labels);
  DecodeSharing(*root, &record->sharing);
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

std::string PathOf(const std::string& directory) {
  return directory + "/journal";
}
std::string TemporaryPath(const std::string& directory) {
  return directory + "/journal.new";
}

absl::Status RemoveIfThere(Fs* fs, const std::string& path) {
  const absl::Status removed = fs->Remove(path);
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

// A file of these bytes, durable but for its name, open at its end.
absl::StatusOr<std::unique_ptr<WritableFile>> WriteAside(
    Fs* fs, const std::string& path, absl::string_view bytes) {
  DESCANT_RETURN_IF_ERROR(RemoveIfThere(fs, path));
  DESCANT_ASSIGN_OR_RETURN(auto file, fs->Create(path));
  DESCANT_RETURN_IF_ERROR(
      file->Append(absl::MakeConstSpan(bytes.data(), bytes.size())));
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_rotate_sync"));
  DESCANT_RETURN_IF_ERROR(file->Sync());
  return file;
}

// Written aside and renamed, so that a journal without its magic is damage,
// never an interrupted start.
absl::Status CreateJournal(Fs* fs, const std::string& directory) {
  DESCANT_RETURN_IF_ERROR(
      WriteAside(fs, TemporaryPath(directory), kMagic).status());
  DESCANT_RETURN_IF_ERROR(
      fs->Rename(TemporaryPath(directory), PathOf(directory)));
  return fs->SyncDirectory(directory);
}

absl::Status ReadOnly() {
  return ReasonedError(absl::StatusCode::kFailedPrecondition,
                       reason::kStoreReadOnly, "the store is read-only");
}

}  // namespace

std::string EncodeRecord(const JournalRecord& record) {
  const AdapterInfo& info = record.info;
  std::string payload =
      absl::StrCat("{\"op\":\"", kOps[static_cast<size_t>(record.op)].name,
                   "\",\"version\":", info.version);
  if (record.op != JournalRecord::Op::kMark) {
    absl::StrAppend(&payload, ",\"tenant\":", JsonQuote(info.tenant),
                    ",\"name\":", JsonQuote(info.name));
  }
  if (record.op == JournalRecord::Op::kPut) {
    absl::StrAppend(
        &payload, ",\"digest\":", JsonQuote(info.digest),
        ",\"file_bytes\":", info.file_bytes, ",\"max_rank\":", info.max_rank,
        ",\"num_modules\":", info.num_modules,
        ",\"module_kinds\":", info.module_kinds,
        ",\"parameters\":", info.parameters,
        ",\"base_fingerprint\":", JsonQuote(info.base_fingerprint),
        ",\"base_model_name\":", JsonQuote(info.base_model_name),
        ",\"created_unix\":", absl::StrFormat("%.3f", info.created_unix),
        ",\"keep\":", record.keep);
    if (!info.labels.empty()) payload += EncodeLabels(info.labels);
  }
  if (record.op == JournalRecord::Op::kShare) {
    payload += EncodeSharing(record.sharing);
  }
  payload += "}";
  std::string bytes;
  AppendLittleEndian(static_cast<uint32_t>(payload.size()), &bytes);
  AppendLittleEndian(Crc32c(payload), &bytes);
  return bytes + payload;
}

namespace {

// The record at `position`: its length with its header, or 0 where there is no
// sound one.
uint64_t DecodeAt(absl::string_view bytes, uint64_t position,
                  JournalRecord* record) {
  if (bytes.size() - position < kRecordHeader) return 0;
  const char* header = bytes.data() + position;
  const auto length = LoadLittleEndian<uint32_t>(header);
  const auto crc = LoadLittleEndian<uint32_t>(header + sizeof(uint32_t));
  if (length == 0 || length > kMaxRecordBytes ||
      length > bytes.size() - position - kRecordHeader) {
    return 0;
  }
  const absl::string_view payload =
      bytes.substr(position + kRecordHeader, length);
  if (Crc32c(payload) != crc || !DecodePayload(payload, record)) return 0;
  return kRecordHeader + length;
}

// Whether a sound record begins behind `position`. The text that is looked for
// begins every payload and is in none of its strings, where quotes are escaped.
bool HasRecordBehind(absl::string_view bytes, uint64_t position) {
  size_t begin = bytes.find(kPayloadBegin, position + kRecordHeader);
  while (begin != absl::string_view::npos) {
    JournalRecord record;
    if (DecodeAt(bytes, begin - kRecordHeader, &record) > 0) return true;
    begin = bytes.find(kPayloadBegin, begin + 1);
  }
  return false;
}

}  // namespace

JournalContent DecodeJournal(absl::string_view bytes) {
  JournalContent content;
  if (bytes.substr(0, kMagic.size()) != kMagic) return content;
  uint64_t position = kMagic.size();
  JournalRecord record;
  while (const uint64_t length = DecodeAt(bytes, position, &record)) {
    content.records.push_back(std::exchange(record, {}));
    position += length;
  }
  content.valid_bytes = position;
  content.damaged_within = HasRecordBehind(bytes, position);
  return content;
}

absl::StatusOr<JournalFile> ReadJournalFile(Fs* fs,
                                            const std::string& directory) {
  DESCANT_ASSIGN_OR_RETURN(const std::string bytes,
                           ReadFile(fs, PathOf(directory), kMaxJournalBytes));
  JournalFile file{DecodeJournal(bytes), bytes.size()};
  if (file.content.valid_bytes == 0) {
    return ReasonedError(absl::StatusCode::kDataLoss, reason::kStoreCorrupt,
                         "the store's journal is damaged at its beginning");
  }
  if (file.content.damaged_within) {
    return ReasonedError(absl::StatusCode::kDataLoss, reason::kStoreCorrupt,
                         "the store's journal is damaged before its last "
                         "record");
  }
  return file;
}

std::vector<JournaledName> ReplayJournal(std::vector<JournalRecord> records) {
  std::map<std::pair<std::string, std::string>, JournaledName> names;
  for (JournalRecord& record : records) {
    const std::pair key(record.info.tenant, record.info.name);
    if (record.op == JournalRecord::Op::kDelete) names.erase(key);
    if (record.op == JournalRecord::Op::kShare) {
      const auto it = names.find(key);
      if (it != names.end()) it->second.sharing = std::move(record.sharing);
    }
    if (record.op != JournalRecord::Op::kPut) continue;
    std::vector<AdapterInfo>& history = names[key].versions;
    history.push_back(std::move(record.info));
    if (history.size() > record.keep) {
      history.erase(history.begin(),
                    history.end() - static_cast<ptrdiff_t>(record.keep));
    }
  }
  std::vector<JournaledName> remaining;
  for (auto& [key, name] : names) remaining.push_back(std::move(name));
  return remaining;
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(
    Fs* fs, const std::string& directory, std::vector<JournalRecord>* records) {
  absl::StatusOr<JournalFile> read = ReadJournalFile(fs, directory);
  if (absl::IsNotFound(read.status())) {
    DESCANT_RETURN_IF_ERROR(CreateJournal(fs, directory));
    read = ReadJournalFile(fs, directory);
  }
  DESCANT_RETURN_IF_ERROR(read.status());
  JournalContent& content = read->content;
  DESCANT_RETURN_IF_ERROR(RemoveIfThere(fs, TemporaryPath(directory)));
  DESCANT_ASSIGN_OR_RETURN(
      auto file, fs->OpenAppend(PathOf(directory), content.valid_bytes));
  // What a crash left written but not synced is made durable before it is
  // served.
  DESCANT_RETURN_IF_ERROR(file->Sync());
  *records = std::move(content.records);
  return std::unique_ptr<Journal>(
      new Journal(fs, directory, std::move(file), content.valid_bytes));
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::OpenReadOnly(
    Fs* fs, const std::string& directory, std::vector<JournalRecord>* records) {
  DESCANT_ASSIGN_OR_RETURN(JournalFile read, ReadJournalFile(fs, directory));
  JournalContent& content = read.content;
  *records = std::move(content.records);
  std::unique_ptr<Journal> journal(
      new Journal(fs, directory, nullptr, content.valid_bytes));
  journal->Fail();
  return journal;
}

absl::Status Journal::Append(const JournalRecord& record) {
  if (failed_) return ReadOnly();
  const std::string bytes = EncodeRecord(record);
  // Would end the valid prefix when it is read.
  if (bytes.size() > kMaxRecordBytes) {
    return absl::InvalidArgumentError("the journal's record is too long");
  }
  failed_ = true;  // unless all of it succeeds
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_journal"));
  const absl::Status written =
      file_->Append(absl::MakeConstSpan(bytes.data(), bytes.size()));
  if (!written.ok()) {
    failed_ = !absl::IsResourceExhausted(written) || !CutBack();
    return written;
  }
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_journal_sync"));
  // A failed sync is final: what it says of a second one can't be trusted. So
  // a full disk that shows here only is no passing trouble.
  if (!file_->Sync().ok()) return ReadOnly();
  DESCANT_RETURN_IF_ERROR(Failpoint("store.after_journal_sync"));
  failed_ = false;
  bytes_ += bytes.size();
  return absl::OkStatus();
}

bool Journal::CutBack() {
  auto file = fs_->OpenAppend(PathOf(directory_), bytes_);
  if (!file.ok() || !(*file)->Sync().ok()) return false;
  file_ = *std::move(file);
  return true;
}

absl::Status Journal::Rotate(const std::vector<JournalRecord>& records) {
  if (failed_) return ReadOnly();
  std::string bytes(kMagic);
  for (const JournalRecord& record : records) bytes += EncodeRecord(record);
  const std::string temporary = TemporaryPath(directory_);
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_rotate"));
  absl::StatusOr<std::unique_ptr<WritableFile>> file =
      WriteAside(fs_, temporary, bytes);
  if (file.ok()) {
    const absl::Status point = Failpoint("store.before_rotate_rename");
    if (!point.ok()) file = point;
  }
  if (!file.ok()) {
    fs_->Remove(temporary).IgnoreError();
    return std::move(file).status();
  }
  failed_ = true;  // unless all of it succeeds
  DESCANT_RETURN_IF_ERROR(fs_->Rename(temporary, PathOf(directory_)));
  DESCANT_RETURN_IF_ERROR(Failpoint("store.before_rotate_directory_sync"));
  DESCANT_RETURN_IF_ERROR(fs_->SyncDirectory(directory_));
  DESCANT_RETURN_IF_ERROR(Failpoint("store.after_rotate"));
  failed_ = false;
  file_ = *std::move(file);
  bytes_ = bytes.size();
  return absl::OkStatus();
}

}  // namespace descant
