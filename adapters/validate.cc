#include "adapters/validate.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/value_check.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

constexpr size_t kAlignment = 64;

uint64_t RoundUp(uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Null when there is no memory.
std::shared_ptr<char> AllocateAligned(uint64_t bytes) {
  void* data =
      ::operator new(bytes, std::align_val_t(kAlignment), std::nothrow);
  if (data == nullptr) return nullptr;
  return std::shared_ptr<char>(static_cast<char*>(data), [](char* pointer) {
    ::operator delete(pointer, std::align_val_t(kAlignment));
  });
}

}  // namespace

absl::Status CheckDeclaredSize(uint64_t size, const AdapterLimits& limits) {
  if (size == 0) {
    return ReasonedError(StatusCode::kInvalidArgument,
                         reason::kUploadSizeMissing,
                         "the file's size must be declared and not 0", "size");
  }
  if (size > limits.max_file_bytes) {
    return ReasonedError(StatusCode::kResourceExhausted,
                         reason::kUploadTooLarge,
                         absl::StrCat("the file is larger than ",
                                      limits.max_file_bytes, " bytes"),
                         "size");
  }
  return absl::OkStatus();
}

// Three stages: the prefix, the header, the tensors in the file's order.
class AdapterValidator::State {
 public:
  State(PeftConfig config, uint64_t size, const BaseShape* base,
        const AdapterLimits& limits, bool hash_file)
      : base_(base), limits_(limits), size_(size) {
    if (hash_file) file_hash_.emplace();
    validated_.config = std::move(config);
    header_limits_.max_header_bytes = limits.max_header_bytes;
    header_limits_.max_tensors = static_cast<int32_t>(2 * base->modules.size());
  }

  absl::Status Append(absl::Span<const char> chunk) {
    if (status_.ok()) status_ = Consume(chunk);
    return status_;
  }

  absl::StatusOr<ValidatedAdapter> Finish() {
    DESCANT_RETURN_IF_ERROR(status_);
    if (received_ < size_) {
      return ReasonedError(StatusCode::kInvalidArgument,
                           reason::kUploadTruncated,
                           "fewer bytes than declared", "data");
    }
    if (file_hash_) validated_.file_sha256 = HexOf(file_hash_->Finish());
    validated_.digest =
        AdapterDigest(CanonicalConfig(validated_.config), validated_.index,
                      tensor_hashes_, base_->fingerprint);
    return std::move(validated_);
  }

  const ValidatedAdapter* header() const {
    return header_done_ ? &validated_ : nullptr;
  }

 private:
  absl::Status Consume(absl::Span<const char> chunk) {
    if (chunk.size() > size_ - received_) {
      return ReasonedError(StatusCode::kInvalidArgument, reason::kUploadOverrun,
                           "more bytes than declared", "data");
    }
    received_ += chunk.size();
    if (file_hash_) file_hash_->Update(chunk);
    if (!header_done_) DESCANT_RETURN_IF_ERROR(ConsumeHeader(&chunk));
    while (!chunk.empty()) DESCANT_RETURN_IF_ERROR(ConsumeTensor(&chunk));
    // A file that ends within its header is told so, not "truncated".
    if (received_ == size_ && !header_done_) {
      return ParseSafetensorsPrefix(absl::MakeConstSpan(header_), size_,
                                    header_limits_)
          .status();
    }
    return absl::OkStatus();
  }

  // Takes what is missing of the prefix and the header off `chunk`.
  absl::Status ConsumeHeader(absl::Span<const char>* chunk) {
    TakeUpTo(kSafetensorsPrefixBytes, chunk);
    if (header_.size() < kSafetensorsPrefixBytes) return absl::OkStatus();
    DESCANT_ASSIGN_OR_RETURN(
        const uint64_t length,
        ParseSafetensorsPrefix(
            absl::MakeConstSpan(header_).subspan(0, kSafetensorsPrefixBytes),
            size_, header_limits_));
    TakeUpTo(kSafetensorsPrefixBytes + length, chunk);
    if (header_.size() < kSafetensorsPrefixBytes + length) {
      return absl::OkStatus();
    }
    DESCANT_ASSIGN_OR_RETURN(
        validated_.index,
        ParseSafetensorsHeader(
            absl::MakeConstSpan(header_).subspan(kSafetensorsPrefixBytes),
            size_, header_limits_));
    DESCANT_ASSIGN_OR_RETURN(
        validated_.modules,
        MatchTensors(validated_.index, validated_.config, *base_));
    for (const ValidatedModule& module : validated_.modules) {
      validated_.max_rank = std::max(validated_.max_rank, module.rank);
    }
    StartTensors();
    return absl::OkStatus();
  }

  void TakeUpTo(uint64_t total, absl::Span<const char>* chunk) {
    if (header_.size() >= total) return;
    const size_t taken =
        std::min<uint64_t>(total - header_.size(), chunk->size());
    header_.append(chunk->data(), taken);
    chunk->remove_prefix(taken);
  }

  void StartTensors() {
    header_done_ = true;
    position_ = header_.size();
    std::string().swap(header_);
    const auto& tensors = validated_.index.tensors;
    tensor_hashes_.resize(tensors.size());
    file_order_.resize(tensors.size());
    std::iota(file_order_.begin(), file_order_.end(), size_t{0});
    std::sort(file_order_.begin(), file_order_.end(), [&](size_t a, size_t b) {
      return tensors[a].begin < tensors[b].begin;
    });
  }

  // The layout has no holes: the current tensor is where the stream is.
  absl::Status ConsumeTensor(absl::Span<const char>* chunk) {
    const size_t current = file_order_[next_tensor_];
    const SafetensorsTensor& tensor = validated_.index.tensors[current];
    if (position_ == tensor.begin) {
      tensor_hash_.emplace();
      values_.emplace(tensor.dtype, limits_.max_abs_value);
    }
    const size_t taken =
        std::min<uint64_t>(tensor.end - position_, chunk->size());
    const absl::Span<const char> piece = chunk->subspan(0, taken);
    if (!values_->Append(piece)) {
      const std::string name = LogSafe(tensor.name);
      return ReasonedError(
          StatusCode::kInvalidArgument, reason::kAdapterValue,
          absl::StrCat(name, ": every value must be finite and at most ",
                       limits_.max_abs_value, " in magnitude"),
          name);
    }
    tensor_hash_->Update(piece);
    chunk->remove_prefix(taken);
    position_ += taken;
    if (position_ == tensor.end) {
      tensor_hashes_[current] = tensor_hash_->Finish();
      ++next_tensor_;
    }
    return absl::OkStatus();
  }

  const BaseShape* const base_;
  const AdapterLimits limits_;
  const uint64_t size_;
  SafetensorsLimits header_limits_;
  absl::Status status_;
  ValidatedAdapter validated_;
  uint64_t received_ = 0;
  std::optional<Sha256> file_hash_;

  std::string header_;  // prefix and header, until they are complete
  bool header_done_ = false;

  std::vector<size_t> file_order_;  // indices of tensors, by offset
  std::vector<Sha256Digest> tensor_hashes_;
  size_t next_tensor_ = 0;  // into file_order_
  uint64_t position_ = 0;   // in the file
  std::optional<Sha256> tensor_hash_;
  std::optional<ValueCheck> values_;
};

AdapterValidator::AdapterValidator(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
AdapterValidator::~AdapterValidator() = default;

absl::StatusOr<std::unique_ptr<AdapterValidator>> AdapterValidator::Create(
    absl::string_view config_json, uint64_t declared_size,
    const BaseShape* base, const AdapterLimits& limits, bool hash_file) {
  DESCANT_RETURN_IF_ERROR(CheckDeclaredSize(declared_size, limits));
  DESCANT_ASSIGN_OR_RETURN(PeftConfig config,
                           ParsePeftConfig(config_json, limits.max_rank));
  if (std::none_of(
          base->modules.begin(), base->modules.end(),
          [&config](const BaseModule& m) { return config.Targets(m); })) {
    return ReasonedError(StatusCode::kInvalidArgument,
                         reason::kAdapterNoModules,
                         "the adapter targets no module of the base model",
                         "adapter_config.target_modules");
  }
  return std::unique_ptr<AdapterValidator>(
      new AdapterValidator(std::make_unique<State>(
          std::move(config), declared_size, base, limits, hash_file)));
}

absl::Status AdapterValidator::Append(absl::Span<const char> chunk) {
  return state_->Append(chunk);
}

const ValidatedAdapter* AdapterValidator::header() const {
  return state_->header();
}

absl::StatusOr<ValidatedAdapter> AdapterValidator::Finish() {
  return state_->Finish();
}

absl::Status CheckBaseFingerprint(absl::string_view declared,
                                  const BaseShape& base) {
  if (declared.empty() || declared == base.fingerprint) return absl::OkStatus();
  return ReasonedError(StatusCode::kFailedPrecondition, reason::kBaseMismatch,
                       "base_fingerprint is not this server's base model",
                       "base_fingerprint");
}

absl::StatusOr<std::shared_ptr<const Adapter>> BuildAdapter(
    const AdapterInfo& info, const ValidatedAdapter& validated,
    const TensorReader& read) {
  auto adapter = std::make_shared<Adapter>();
  adapter->tenant = info.tenant;
  adapter->name = info.name;
  adapter->digest = info.digest;
  adapter->max_rank = validated.max_rank;
  adapter->base_model_name = validated.config.base_model_name;
  adapter->created_unix = info.created_unix;
  uint64_t total = 0;
  for (const SafetensorsTensor& tensor : validated.index.tensors) {
    adapter->bytes += tensor.bytes();
    total += RoundUp(tensor.bytes());
  }
  const std::shared_ptr<char> buffer = AllocateAligned(total);
  if (buffer == nullptr) {
    return absl::ResourceExhaustedError("no memory for the adapter");
  }
  char* next = buffer.get();
  const auto copy = [&](size_t i) -> absl::StatusOr<AdapterMatrix> {
    const SafetensorsTensor& tensor = validated.index.tensors[i];
    DESCANT_RETURN_IF_ERROR(
        read(tensor.begin, absl::MakeSpan(next, tensor.bytes())));
    AdapterMatrix matrix{tensor.dtype, static_cast<int32_t>(tensor.shape[0]),
                         static_cast<int32_t>(tensor.shape[1]), next};
    next += RoundUp(tensor.bytes());
    return matrix;
  };
  for (const ValidatedModule& from : validated.modules) {
    AdapterModule module{from.layer, from.kind, from.rank, from.scale, {}, {}};
    DESCANT_ASSIGN_OR_RETURN(module.a, copy(from.tensor_a));
    DESCANT_ASSIGN_OR_RETURN(module.b, copy(from.tensor_b));
    adapter->modules.push_back(module);
    adapter->module_kinds |= 1u << static_cast<uint32_t>(from.kind);
  }
  adapter->buffer = buffer;
  return std::shared_ptr<const Adapter>(std::move(adapter));
}

void DescribeModules(const ValidatedAdapter& validated, AdapterInfo* info) {
  info->max_rank = validated.max_rank;
  info->num_modules = static_cast<int32_t>(validated.modules.size());
  info->module_kinds = 0;
  info->parameters = 0;
  for (const ValidatedModule& module : validated.modules) {
    info->module_kinds |= 1u << static_cast<uint32_t>(module.kind);
    for (const size_t i : {module.tensor_a, module.tensor_b}) {
      const auto& shape = validated.index.tensors[i].shape;
      info->parameters += shape[0] * shape[1];
    }
  }
}

absl::StatusOr<std::shared_ptr<const Adapter>> MakeAdapter(
    absl::string_view tenant, absl::string_view name,
    absl::string_view config_json, absl::Span<const char> safetensors,
    const BaseShape& base, const AdapterLimits& limits) {
  DESCANT_ASSIGN_OR_RETURN(
      const auto validator,
      AdapterValidator::Create(config_json, safetensors.size(), &base, limits));
  DESCANT_RETURN_IF_ERROR(validator->Append(safetensors));
  DESCANT_ASSIGN_OR_RETURN(const ValidatedAdapter validated,
                           validator->Finish());
  AdapterInfo info;
  info.tenant = std::string(tenant);
  info.name = std::string(name);
  info.digest = validated.digest;
  return BuildAdapter(
      info, validated, [safetensors](uint64_t offset, absl::Span<char> out) {
        std::memcpy(out.data(), safetensors.data() + offset, out.size());
        return absl::OkStatus();
      });
}

}  // namespace descant
