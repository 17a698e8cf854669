#include "adapters/formats/gguf.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/formats/format_reason.h"
#include "runtime/base/checked_size.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr uint64_t kMaxKeyBytes = 65535;  // the specification's
constexpr uint64_t kMaxDims = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 30;
// The fewest bytes of an entry, which bound the counts before anything is
// allocated: key length, type, value; name length, rank, one dim, type, offset.
constexpr uint64_t kMinValueEntry = 8 + 4 + 1;
constexpr uint64_t kMinTensorEntry = 8 + 4 + 8 + 4 + 8;

absl::Status Refuse(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason::kGgufInvalid,
                       absl::StrCat("GGUF: ", message));
}

// 0 for strings, arrays and unknown types.
uint64_t ScalarBytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kUint8:
    case GgufValueType::kInt8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kUint16:
    case GgufValueType::kInt16:
      return 2;
    case GgufValueType::kUint32:
    case GgufValueType::kInt32:
    case GgufValueType::kFloat32:
      return 4;
    case GgufValueType::kUint64:
    case GgufValueType::kInt64:
    case GgufValueType::kFloat64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      break;
  }
  return 0;
}

std::optional<int64_t> IntegerAt(GgufValueType type, const char* bytes) {
  switch (type) {
    case GgufValueType::kUint8:
      return LoadLittleEndian<uint8_t>(bytes);
    case GgufValueType::kInt8:
      return LoadLittleEndian<int8_t>(bytes);
    case GgufValueType::kUint16:
      return LoadLittleEndian<uint16_t>(bytes);
    case GgufValueType::kInt16:
      return LoadLittleEndian<int16_t>(bytes);
    case GgufValueType::kUint32:
      return LoadLittleEndian<uint32_t>(bytes);
    case GgufValueType::kInt32:
      return LoadLittleEndian<int32_t>(bytes);
    case GgufValueType::kInt64:
      return LoadLittleEndian<int64_t>(bytes);
    case GgufValueType::kUint64: {
      const auto value = LoadLittleEndian<uint64_t>(bytes);
      if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

uint64_t GgufTensor::rows() const {
  uint64_t rows = 1;
  for (size_t i = 1; i < dims.size(); ++i) rows *= dims[i];
  return rows;
}

// Walks the file's first bytes once, front to back.
class GgufParser {
 public:
  GgufParser(absl::Span<const char> prefix, uint64_t file_size,
             const GgufLimits& limits)
      : prefix_(prefix), file_size_(file_size), limits_(limits) {}

  absl::StatusOr<GgufIndex> Parse() {
    uint64_t num_tensors = 0;
    uint64_t num_values = 0;
    DESCANT_RETURN_IF_ERROR(ReadHeader(&num_tensors, &num_values));
    for (uint64_t i = 0; i < num_values; ++i) {
      DESCANT_RETURN_IF_ERROR(ReadValueEntry());
    }
    DESCANT_RETURN_IF_ERROR(ReadAlignment());
    for (uint64_t i = 0; i < num_tensors; ++i) {
      DESCANT_RETURN_IF_ERROR(ReadTensorEntry());
    }
    DESCANT_RETURN_IF_ERROR(PlaceTensors());
    return std::move(index_);
  }

  // Whether Parse() failed only because the prefix ended.
  bool needs_more() const { return needs_more_; }

 private:
  uint64_t remaining() const { return file_size_ - position_; }

  absl::StatusOr<absl::Span<const char>> Take(uint64_t bytes) {
    if (bytes > remaining()) return Refuse("the file ends too early");
    if (bytes > prefix_.size() - position_) {
      needs_more_ = true;
      return absl::OutOfRangeError("the prefix ends");
    }
    const absl::Span<const char> taken = prefix_.subspan(position_, bytes);
    position_ += bytes;
    return taken;
  }

  template <typename T>
  absl::StatusOr<T> Read() {
    DESCANT_ASSIGN_OR_RETURN(const auto bytes, Take(sizeof(T)));
    return LoadLittleEndian<T>(bytes.data());
  }

  absl::StatusOr<absl::string_view> ReadString() {
    DESCANT_ASSIGN_OR_RETURN(const uint64_t length, Read<uint64_t>());
    DESCANT_ASSIGN_OR_RETURN(const auto bytes, Take(length));
    return absl::string_view(bytes.data(), bytes.size());
  }

  absl::Status ReadHeader(uint64_t* num_tensors, uint64_t* num_values) {
    DESCANT_ASSIGN_OR_RETURN(const auto magic, Take(4));
    if (absl::string_view(magic.data(), magic.size()) != "GGUF") {
      return Refuse("not a GGUF file");
    }
    DESCANT_ASSIGN_OR_RETURN(index_.version_, Read<uint32_t>());
    if (index_.version_ != 2 && index_.version_ != 3) {
      return Refuse("version must be 2 or 3, little-endian");
    }
    DESCANT_ASSIGN_OR_RETURN(*num_tensors, Read<uint64_t>());
    DESCANT_ASSIGN_OR_RETURN(*num_values, Read<uint64_t>());
    if (*num_tensors > remaining() / kMinTensorEntry ||
        *num_values > remaining() / kMinValueEntry) {
      return Refuse("more entries than the file can hold");
    }
    if (*num_tensors > limits_.max_tensors ||
        *num_values > limits_.max_values) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, reason::kGgufCount,
          absl::StrCat("GGUF: more than ", limits_.max_tensors, " tensors or ",
                       limits_.max_values, " metadata entries"));
    }
    return absl::OkStatus();
  }

  absl::Status ReadArray(GgufValue* value) {
    DESCANT_ASSIGN_OR_RETURN(const uint32_t type, Read<uint32_t>());
    DESCANT_ASSIGN_OR_RETURN(value->count, Read<uint64_t>());
    value->element_type = static_cast<GgufValueType>(type);
    if (value->element_type == GgufValueType::kString) {
      if (value->count > remaining() / sizeof(uint64_t)) {
        return Refuse("an array is longer than the file");
      }
      // (Not more than are there: the rest of the array may still arrive.)
      value->strings.reserve(std::min(
          value->count, (prefix_.size() - position_) / sizeof(uint64_t)));
      for (uint64_t i = 0; i < value->count; ++i) {
        DESCANT_ASSIGN_OR_RETURN(const auto text, ReadString());
        value->strings.push_back(text);
      }
      return absl::OkStatus();
    }
    const uint64_t element = ScalarBytes(value->element_type);
    if (element == 0) return Refuse("unknown element type of an array");
    if (value->count > remaining() / element) {
      return Refuse("an array is longer than the file");
    }
    DESCANT_ASSIGN_OR_RETURN(value->raw, Take(value->count * element));
    return absl::OkStatus();
  }

  absl::Status ReadValueEntry() {
    DESCANT_ASSIGN_OR_RETURN(const absl::string_view key, ReadString());
    if (key.empty() || key.size() > kMaxKeyBytes) {
      return Refuse("a metadata key must have 1 to 65535 bytes");
    }
    DESCANT_ASSIGN_OR_RETURN(const uint32_t type, Read<uint32_t>());
    GgufValue value;
    value.type = static_cast<GgufValueType>(type);
    if (value.type == GgufValueType::kString) {
      DESCANT_ASSIGN_OR_RETURN(value.string, ReadString());
    } else if (value.type == GgufValueType::kArray) {
      DESCANT_RETURN_IF_ERROR(ReadArray(&value));
    } else {
      const uint64_t bytes = ScalarBytes(value.type);
      if (bytes == 0) return Refuse("unknown type of a metadata value");
      DESCANT_ASSIGN_OR_RETURN(value.raw, Take(bytes));
    }
    if (!index_.values_.emplace(key, std::move(value)).second) {
      return Refuse("duplicate metadata key");
    }
    return absl::OkStatus();
  }

  absl::Status ReadAlignment() {
    constexpr absl::string_view kKey = "general.alignment";
    index_.alignment_ = kDefaultAlignment;
    if (index_.FindValue(kKey) == nullptr) return absl::OkStatus();
    const std::optional<int64_t> alignment = index_.GetInt(kKey);
    if (!alignment.has_value() || *alignment <= 0 ||
        static_cast<uint64_t>(*alignment) > kMaxAlignment ||
        (*alignment & (*alignment - 1)) != 0) {
      return Refuse("general.alignment must be a power of two");
    }
    index_.alignment_ = static_cast<uint64_t>(*alignment);
    return absl::OkStatus();
  }

  absl::Status ReadTensorEntry() {
    GgufTensor tensor;
    DESCANT_ASSIGN_OR_RETURN(tensor.name, ReadString());
    DESCANT_ASSIGN_OR_RETURN(const uint32_t rank, Read<uint32_t>());
    if (rank < 1 || rank > kMaxDims) {
      return Refuse("a tensor must have 1 to 4 dimensions");
    }
    CheckedSize elements(1);
    for (uint32_t i = 0; i < rank; ++i) {
      DESCANT_ASSIGN_OR_RETURN(const uint64_t dim, Read<uint64_t>());
      if (dim == 0) return Refuse("a tensor has a dimension of 0");
      tensor.dims.push_back(dim);
      elements = elements * CheckedSize(dim);
    }
    DESCANT_ASSIGN_OR_RETURN(const uint32_t type, Read<uint32_t>());
    const GgufTypeTraits* traits = FindGgufTypeTraits(type);
    if (traits == nullptr) {
      return Refuse(DescribeUnreadGgufType(type));
    }
    tensor.type = static_cast<GgufType>(type);
    if (!elements.value().has_value() ||
        tensor.dims[0] % traits->block_elements != 0) {
      return Refuse("a tensor's dimensions do not fit its type");
    }
    const CheckedSize bytes =
        CheckedSize(*elements.value() / traits->block_elements) *
        CheckedSize(traits->block_bytes);
    if (!bytes.value().has_value()) return Refuse("a tensor's size overflows");
    tensor.bytes = *bytes.value();
    DESCANT_ASSIGN_OR_RETURN(tensor.begin, Read<uint64_t>());
    index_.tensors_.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  // Offsets count from the aligned end of the entries.
  absl::Status PlaceTensors() {
    index_.header_bytes_ = position_;
    const uint64_t mask = index_.alignment_ - 1;
    const uint64_t data_begin = (position_ + mask) & ~mask;
    for (size_t i = 0; i < index_.tensors_.size(); ++i) {
      GgufTensor& tensor = index_.tensors_[i];
      if ((tensor.begin & mask) != 0) {
        return Refuse("a tensor's offset is not aligned");
      }
      const CheckedSize begin =
          CheckedSize(data_begin) + CheckedSize(tensor.begin);
      const CheckedSize end = begin + CheckedSize(tensor.bytes);
      if (!end.value().has_value() || *end.value() > file_size_) {
        return Refuse("a tensor's data lies beyond the end of the file");
      }
      tensor.begin = *begin.value();
      if (!index_.tensor_index_.emplace(tensor.name, i).second) {
        return Refuse("duplicate tensor name");
      }
    }
    return absl::OkStatus();
  }

  const absl::Span<const char> prefix_;
  const uint64_t file_size_;
  const GgufLimits limits_;
  uint64_t position_ = 0;  // at most prefix_.size()
  bool needs_more_ = false;
  GgufIndex index_;
};

absl::StatusOr<GgufIndex> GgufIndex::Parse(absl::Span<const char> file) {
  return GgufParser(file, file.size(), GgufLimits()).Parse();
}

absl::StatusOr<std::optional<GgufIndex>> GgufIndex::ParsePrefix(
    absl::Span<const char> prefix, uint64_t file_size,
    const GgufLimits& limits) {
  prefix = prefix.subspan(0, file_size);
  GgufParser parser(prefix, file_size, limits);
  absl::StatusOr<GgufIndex> index = parser.Parse();
  if (index.ok()) return std::optional<GgufIndex>(*std::move(index));
  if (parser.needs_more()) return std::optional<GgufIndex>();
  return index.status();
}

std::vector<absl::string_view> GgufIndex::Keys() const {
  std::vector<absl::string_view> keys;
  keys.reserve(values_.size());
  for (const auto& [key, value] : values_) keys.push_back(key);
  return keys;
}

const GgufTensor* GgufIndex::FindTensor(absl::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

const GgufValue* GgufIndex::FindValue(absl::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

std::optional<absl::string_view> GgufIndex::GetString(
    absl::string_view key) const {
  const GgufValue* value = FindValue(key);
  if (value == nullptr || value->type != GgufValueType::kString) {
    return std::nullopt;
  }
  return value->string;
}

std::optional<int64_t> GgufIndex::GetInt(absl::string_view key) const {
  const GgufValue* value = FindValue(key);
  if (value == nullptr) return std::nullopt;
  return IntegerAt(value->type, value->raw.data());
}

std::optional<double> GgufIndex::GetFloat(absl::string_view key) const {
  const GgufValue* value = FindValue(key);
  if (value == nullptr) return std::nullopt;
  if (value->type == GgufValueType::kFloat32) {
    return LoadLittleEndian<float>(value->raw.data());
  }
  if (value->type == GgufValueType::kFloat64) {
    return LoadLittleEndian<double>(value->raw.data());
  }
  return std::nullopt;
}

std::optional<bool> GgufIndex::GetBool(absl::string_view key) const {
  const GgufValue* value = FindValue(key);
  if (value == nullptr || value->type != GgufValueType::kBool) {
    return std::nullopt;
  }
  return value->raw[0] != 0;
}

std::optional<absl::Span<const absl::string_view>> GgufIndex::GetStringArray(
    absl::string_view key) const {
  const GgufValue* value = FindValue(key);
  if (value == nullptr || value->type != GgufValueType::kArray ||
      value->element_type != GgufValueType::kString) {
    return std::nullopt;
  }
  return absl::MakeConstSpan(value->strings);
}

std::optional<std::vector<int64_t>> GgufIndex::GetIntArray(
    absl::string_view key) const {
  const GgufValue* value = FindValue(key);
  if (value == nullptr || value->type != GgufValueType::kArray) {
    return std::nullopt;
  }
  const uint64_t element = ScalarBytes(value->element_type);
  if (element == 0) return std::nullopt;
  std::vector<int64_t> numbers;
  numbers.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const std::optional<int64_t> number =
        IntegerAt(value->element_type, value->raw.data() + i * element);
    if (!number.has_value()) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<std::vector<bool>> GgufIndex::GetBoolArray(
    absl::string_view key) const {
  const GgufValue* value = FindValue(key);
  if (value == nullptr || value->type != GgufValueType::kArray ||
      value->element_type != GgufValueType::kBool) {
    return std::nullopt;
  }
  std::vector<bool> flags(value->count);
  for (uint64_t i = 0; i < value->count; ++i) flags[i] = value->raw[i] != 0;
  return flags;
}

std::optional<std::vector<float>> GgufIndex::GetFloatArray(
    absl::string_view key) const {
  const GgufValue* value = FindValue(key);
  if (value == nullptr || value->type != GgufValueType::kArray ||
      value->element_type != GgufValueType::kFloat32) {
    return std::nullopt;
  }
  std::vector<float> numbers;
  numbers.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    numbers.push_back(
        LoadLittleEndian<float>(value->raw.data() + i * sizeof(float)));
  }
  return numbers;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(
    const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  absl::StatusOr<GgufIndex> index = GgufIndex::Parse(file.bytes());
  if (!index.ok()) {
    return ReasonedError(
        index.status().code(), ReasonOf(index.status()),
        absl::StrCat(path, ": ", std::string(index.status().message())));
  }
  return std::unique_ptr<GgufFile>(
      new GgufFile(std::move(file), *std::move(index)));
}

}  // namespace descant
