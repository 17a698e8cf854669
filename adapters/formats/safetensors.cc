#include "adapters/formats/safetensors.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/formats/format_reason.h"
#include "adapters/formats/json.h"
#include "runtime/base/checked_size.h"
#include "runtime/base/little_endian.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr absl::string_view kMetadataKey = "__metadata__";
constexpr int32_t kHeaderDepth = 3;
// __metadata__ and its entries, beside the tensors.
constexpr int32_t kMaxMetadataEntries = 1024;
// A tensor's object, dtype, shape and offsets with their entries.
constexpr int32_t kValuesPerTensor = 6;

absl::Status Refuse(absl::string_view reason, absl::string_view message,
                    absl::string_view field = "") {
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason,
                       absl::StrCat("safetensors: ", message), field);
}

// Element sizes of the format's other whole-byte types.
struct OtherDtype {
  absl::string_view name;
  uint64_t bytes;
};
constexpr OtherDtype kOtherDtypes[] = {
    {"BOOL", 1},    {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
    {"F8_E8M0", 1}, {"U16", 2}, {"I16", 2}, {"U32", 4},     {"I32", 4},
    {"U64", 8},     {"I64", 8}, {"F64", 8}, {"C64", 8}};

struct ElementType {
  Dtype dtype;
  absl::string_view name;  // lives as long as the program
  uint64_t bytes;
};

std::optional<ElementType> FindDtype(absl::string_view name, bool any) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBF16}) {
    if (name == DtypeName(dtype)) {
      return ElementType{dtype, DtypeName(dtype),
                         static_cast<uint64_t>(DtypeBytes(dtype))};
    }
  }
  if (!any) return std::nullopt;
  for (const OtherDtype& other : kOtherDtypes) {
    if (name == other.name) {
      return ElementType{Dtype::kOther, other.name, other.bytes};
    }
  }
  return std::nullopt;
}

absl::Status CheckMetadata(const JsonValue& value) {
  if (value.kind() != JsonValue::kObject) {
    return Refuse(reason::kSafetensorsMetadata,
                  "__metadata__ must be an object");
  }
  if (value.object().size() > kMaxMetadataEntries) {
    return Refuse(reason::kSafetensorsMetadata,
                  "__metadata__ has too many entries");
  }
  for (const auto& [key, entry] : value.object()) {
    if (entry.kind() != JsonValue::kString) {
      return Refuse(reason::kSafetensorsMetadata,
                    "__metadata__ must map strings to strings");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ParseShape(const JsonValue* shape,
                                    const SafetensorsLimits& limits,
                                    uint64_t element_bytes,
                                    SafetensorsTensor* tensor) {
  if (shape == nullptr || shape->kind() != JsonValue::kArray) {
    return Refuse(reason::kSafetensorsShape, "shape must be an array");
  }
  const size_t dims = shape->array().size();
  if (dims < static_cast<size_t>(limits.min_dims) ||
      dims > static_cast<size_t>(limits.max_dims)) {
    return Refuse(reason::kSafetensorsShape,
                  absl::StrCat("shape must have ", limits.min_dims, " to ",
                               limits.max_dims, " dimensions, not ", dims));
  }
  CheckedSize bytes(element_bytes);
  for (const JsonValue& dim : shape->array()) {
    if (dim.kind() != JsonValue::kUnsigned ||
        dim.unsigned_integer() < limits.min_dim) {
      return Refuse(reason::kSafetensorsShape,
                    absl::StrCat("a dimension must be an integer of at least ",
                                 limits.min_dim));
    }
    tensor->shape.push_back(dim.unsigned_integer());
    bytes = bytes * CheckedSize(dim.unsigned_integer());
  }
  if (!bytes.value().has_value()) {
    return Refuse(reason::kSafetensorsShape, "the shape's size overflows");
  }
  return *bytes.value();
}

absl::Status ParseOffsets(const JsonValue* offsets, uint64_t data_begin,
                          uint64_t file_size, SafetensorsTensor* tensor) {
  if (offsets == nullptr || offsets->kind() != JsonValue::kArray ||
      offsets->array().size() != 2 ||
      offsets->array()[0].kind() != JsonValue::kUnsigned ||
      offsets->array()[1].kind() != JsonValue::kUnsigned) {
    return Refuse(reason::kSafetensorsOffsets,
                  "data_offsets must be two unsigned integers");
  }
  const uint64_t begin = offsets->array()[0].unsigned_integer();
  const uint64_t end = offsets->array()[1].unsigned_integer();
  if (begin > end) {
    return Refuse(reason::kSafetensorsOffsets, "data_offsets are reversed");
  }
  if (end > file_size - data_begin) {
    return Refuse(reason::kSafetensorsOffsets,
                  "data_offsets lie beyond the end of the file");
  }
  tensor->begin = data_begin + begin;
  tensor->end = data_begin + end;
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsTensor> ParseTensor(const std::string& name,
                                              const JsonValue& value,
                                              uint64_t data_begin,
                                              uint64_t file_size,
                                              const SafetensorsLimits& limits) {
  if (name.empty() || name.size() > limits.max_name_bytes) {
    return Refuse(reason::kSafetensorsTensorName,
                  absl::StrCat("a tensor's name must have 1 to ",
                               limits.max_name_bytes, " bytes"));
  }
  if (value.kind() != JsonValue::kObject || value.object().size() > 3) {
    return Refuse(reason::kSafetensorsHeaderInvalid,
                  "a tensor must be an object of dtype, shape, data_offsets");
  }
  SafetensorsTensor tensor;
  tensor.name = name;
  const JsonValue* dtype = value.Find("dtype");
  const std::optional<ElementType> element =
      dtype != nullptr && dtype->kind() == JsonValue::kString
          ? FindDtype(dtype->string(), limits.any_dtype)
          : std::nullopt;
  if (!element.has_value()) {
    return Refuse(
        reason::kSafetensorsDtype,
        limits.any_dtype ? "unknown dtype" : "dtype must be F32, F16 or BF16");
  }
  tensor.dtype = element->dtype;
  tensor.dtype_name = element->name;
  DESCANT_ASSIGN_OR_RETURN(
      const uint64_t bytes,
      ParseShape(value.Find("shape"), limits, element->bytes, &tensor));
  DESCANT_RETURN_IF_ERROR(
      ParseOffsets(value.Find("data_offsets"), data_begin, file_size, &tensor));
  if (tensor.bytes() != bytes) {
    return Refuse(reason::kSafetensorsSizeMismatch,
                  "data_offsets do not match shape and dtype");
  }
  return tensor;
}

// No hole, no overlap, no tail.
absl::Status CheckLayout(const SafetensorsIndex& index) {
  std::vector<const SafetensorsTensor*> order;
  order.reserve(index.tensors.size());
  for (const SafetensorsTensor& tensor : index.tensors) {
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t expected = index.data_begin;
  for (const SafetensorsTensor* tensor : order) {
    if (tensor->begin != expected) {
      return Refuse(reason::kSafetensorsLayout, tensor->begin < expected
                                                    ? "tensors overlap"
                                                    : "hole between tensors");
    }
    expected = tensor->end;
  }
  if (expected != index.file_size) {
    return Refuse(reason::kSafetensorsLayout,
                  "bytes after the last tensor's data");
  }
  return absl::OkStatus();
}

// The format's own caps before the parser's work.
absl::StatusOr<JsonValue> ParseHeaderJson(absl::Span<const char> header,
                                          const SafetensorsLimits& limits) {
  if (header.empty() || header[0] != '{') {
    return Refuse(reason::kSafetensorsHeaderInvalid,
                  "the header must begin with {");
  }
  absl::string_view text(header.data(), header.size());
  // The format pads with spaces; other whitespace after the value is refused.
  const size_t last = text.find_last_not_of(' ');
  if (text[last] != '}') {
    return Refuse(reason::kSafetensorsHeaderInvalid,
                  "the header must end with } and spaces");
  }
  JsonLimits json_limits;
  json_limits.max_bytes = limits.max_header_bytes;
  json_limits.max_depth = kHeaderDepth;
  json_limits.max_values =
      limits.max_tensors * (kValuesPerTensor + limits.max_dims) +
      kMaxMetadataEntries + 2;
  absl::StatusOr<JsonValue> value = ParseJson(text, json_limits);
  if (value.ok()) return value;
  const std::string why = ReasonOf(value.status());
  absl::string_view reason = reason::kSafetensorsHeaderInvalid;
  if (why == reason::kJsonDuplicateKey) {
    reason = reason::kSafetensorsDuplicateKey;
  } else if (why == reason::kJsonTooLarge) {
    reason = reason::kSafetensorsTensorCount;
  }
  return Refuse(
      reason, absl::StrCat("header: ", std::string(value.status().message())));
}

}  // namespace

const SafetensorsTensor* SafetensorsIndex::Find(absl::string_view name) const {
  const auto it = std::lower_bound(
      tensors.begin(), tensors.end(), name,
      [](const SafetensorsTensor& tensor, absl::string_view key) {
        return absl::string_view(tensor.name) < key;
      });
  return it != tensors.end() && it->name == name ? &*it : nullptr;
}

SafetensorsLimits SafetensorsLimits::BaseModel() {
  SafetensorsLimits limits;
  limits.max_header_bytes = 100'000'000;  // the format's own cap
  limits.max_tensors = 1 << 20;
  limits.min_dims = 0;
  limits.max_dims = 8;
  limits.min_dim = 0;
  limits.max_name_bytes = 4096;
  limits.any_dtype = true;
  return limits;
}

absl::StatusOr<uint64_t> ParseSafetensorsPrefix(
    absl::Span<const char> prefix, uint64_t file_size,
    const SafetensorsLimits& limits) {
  if (file_size < kSafetensorsPrefixBytes + 2 ||
      prefix.size() != kSafetensorsPrefixBytes) {
    return Refuse(reason::kSafetensorsTooSmall, "the file is too small");
  }
  const uint64_t length = LoadLittleEndian<uint64_t>(prefix.data());
  if (length < 2) {
    return Refuse(reason::kSafetensorsHeaderLength,
                  "the header's length must be at least 2");
  }
  if (length > limits.max_header_bytes) {
    return Refuse(reason::kSafetensorsHeaderLength,
                  absl::StrCat("the header is larger than ",
                               limits.max_header_bytes, " bytes"));
  }
  if (length > file_size - kSafetensorsPrefixBytes) {
    return Refuse(reason::kSafetensorsHeaderLength,
                  "the header is longer than the file");
  }
  return length;
}

absl::StatusOr<SafetensorsIndex> ParseSafetensorsHeader(
    absl::Span<const char> header, uint64_t file_size,
    const SafetensorsLimits& limits) {
  if (header.size() > limits.max_header_bytes || header.size() < 2 ||
      file_size < kSafetensorsPrefixBytes ||
      header.size() > file_size - kSafetensorsPrefixBytes) {
    return Refuse(reason::kSafetensorsHeaderLength,
                  "the header does not fit the file");
  }
  DESCANT_ASSIGN_OR_RETURN(const JsonValue root,
                           ParseHeaderJson(header, limits));
  SafetensorsIndex index;
  index.data_begin = kSafetensorsPrefixBytes + header.size();
  index.file_size = file_size;
  for (const auto& [name, value] : root.object()) {
    if (name == kMetadataKey) {
      DESCANT_RETURN_IF_ERROR(CheckMetadata(value));
      continue;
    }
    if (index.tensors.size() >= static_cast<size_t>(limits.max_tensors)) {
      return Refuse(reason::kSafetensorsTensorCount,
                    absl::StrCat("more than ", limits.max_tensors, " tensors"));
    }
    DESCANT_ASSIGN_OR_RETURN(
        SafetensorsTensor tensor,
        ParseTensor(name, value, index.data_begin, file_size, limits));
    index.tensors.push_back(std::move(tensor));
  }
  DESCANT_RETURN_IF_ERROR(CheckLayout(index));
  std::sort(index.tensors.begin(), index.tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return index;
}

absl::StatusOr<SafetensorsIndex> ParseSafetensors(
    absl::Span<const char> file, const SafetensorsLimits& limits) {
  DESCANT_ASSIGN_OR_RETURN(
      const uint64_t length,
      ParseSafetensorsPrefix(file.subspan(0, kSafetensorsPrefixBytes),
                             file.size(), limits));
  return ParseSafetensorsHeader(file.subspan(kSafetensorsPrefixBytes, length),
                                file.size(), limits);
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path, const SafetensorsLimits& limits) {
  DESCANT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  absl::StatusOr<SafetensorsIndex> index =
      ParseSafetensors(file.bytes(), limits);
  if (!index.ok()) {
    return ReasonedError(
        index.status().code(), ReasonOf(index.status()),
        absl::StrCat(path, ": ", std::string(index.status().message())));
  }
  return std::unique_ptr<SafetensorsFile>(
      new SafetensorsFile(std::move(file), *std::move(index)));
}

}  // namespace descant
