#include "adapters/gguf_lora.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "adapters/formats/gguf.h"
#include "adapters/gguf_lora_plan.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

// Metadata entries of a LoRA file; the converter writes about ten.
constexpr uint64_t kMaxValues = 1024;
// Magic, version and counts: wrong ones are refused at once.
constexpr size_t kFirstAttempt = 24;

}  // namespace

// Two stages: the header, then the tensors with the padding around them.
class GgufLoraReader::State {
 public:
  State(uint64_t size, const BaseShape* base, const AdapterLimits& limits)
      : base_(base), limits_(limits), size_(size) {}

  absl::Status Append(absl::Span<const char> chunk, std::string* out) {
    if (status_.ok()) status_ = Consume(chunk, out);
    return status_;
  }

  absl::Status Finish() {
    if (status_.ok() && received_ < size_) {
      status_ = ReasonedError(absl::StatusCode::kInvalidArgument,
                              reason::kUploadTruncated,
                              "fewer bytes than declared", "data");
    }
    return status_;
  }

  const std::optional<GgufLoraPlan>& plan() const { return plan_; }

 private:
  absl::Status Consume(absl::Span<const char> chunk, std::string* out) {
    if (chunk.size() > size_ - received_) {
      return ReasonedError(absl::StatusCode::kInvalidArgument,
                           reason::kUploadOverrun, "more bytes than declared",
                           "data");
    }
    received_ += chunk.size();
    while (!plan_.has_value() && !chunk.empty()) {
      DESCANT_RETURN_IF_ERROR(ConsumeHeader(&chunk, out));
    }
    return ConsumeTensors(chunk, out);
  }

  // Takes bytes off `chunk` and tries to read them. The sizes at which it tries
  // double, so that all attempts together are linear in the header.
  absl::Status ConsumeHeader(absl::Span<const char>* chunk, std::string* out) {
    const uint64_t cap = std::min(size_, limits_.max_header_bytes);
    const size_t taken =
        std::min<uint64_t>(cap - header_.size(), chunk->size());
    header_.append(chunk->data(), taken);
    chunk->remove_prefix(taken);
    if (header_.size() < std::min(next_attempt_, cap)) return absl::OkStatus();
    GgufLimits limits;
    limits.max_tensors = 2 * base_->modules.size();
    limits.max_values = kMaxValues;
    DESCANT_ASSIGN_OR_RETURN(const std::optional<GgufIndex> index,
                             GgufIndex::ParsePrefix(header_, size_, limits));
    if (!index.has_value()) {
      if (header_.size() >= cap) {
        return ReasonedError(absl::StatusCode::kInvalidArgument,
                             reason::kGgufHeaderLength,
                             absl::StrCat("GGUF: the header is larger than ",
                                          limits_.max_header_bytes, " bytes"));
      }
      next_attempt_ = 2 * header_.size();
      return absl::OkStatus();
    }
    DESCANT_ASSIGN_OR_RETURN(
        plan_, PlanGgufLora(*index, size_, *base_, limits_.max_rank));
    return StartTensors(index->header_bytes(), out);
  }

  // What was taken of the tensors with the header's last bytes goes first.
  absl::Status StartTensors(uint64_t header_bytes, std::string* out) {
    out->append(plan_->safetensors_header);
    std::string().swap(plan_->safetensors_header);
    position_ = header_bytes;
    const std::string taken = std::move(header_);
    std::string().swap(header_);
    return ConsumeTensors(
        absl::MakeConstSpan(taken.data(), taken.size()).subspan(header_bytes),
        out);
  }

  absl::Status ConsumeTensors(absl::Span<const char> bytes, std::string* out) {
    while (!bytes.empty()) {
      const GgufLoraTensor* tensor = next_tensor_ < plan_->tensors.size()
                                         ? &plan_->tensors[next_tensor_]
                                         : nullptr;
      const bool inside = tensor != nullptr && position_ >= tensor->begin;
      const uint64_t end = inside              ? tensor->end
                           : tensor != nullptr ? tensor->begin
                                               : size_;
      const auto piece =
          bytes.subspan(0, std::min<uint64_t>(end - position_, bytes.size()));
      if (inside) {
        ConsumeTensor(*tensor, piece, out);
      } else if (std::any_of(piece.begin(), piece.end(),
                             [](char c) { return c != 0; })) {
        return ReasonedError(absl::StatusCode::kInvalidArgument,
                             reason::kGgufLayout,
                             "GGUF: padding must be of zeros", "data");
      }
      bytes.remove_prefix(piece.size());
      position_ += piece.size();
      if (inside && position_ == end) ++next_tensor_;
    }
    return absl::OkStatus();
  }

  void ConsumeTensor(const GgufLoraTensor& tensor, absl::Span<const char> piece,
                     std::string* out) {
    if (tensor.head_bytes == 0) {
      out->append(piece.data(), piece.size());
      return;
    }
    while (!piece.empty()) {
      const size_t taken =
          std::min<uint64_t>(tensor.head_bytes - head_.size(), piece.size());
      head_.append(piece.data(), taken);
      piece.remove_prefix(taken);
      if (head_.size() == tensor.head_bytes) {
        // Even rows are the first half, odd ones the second.
        for (const uint64_t first : {uint64_t{0}, tensor.row_bytes}) {
          for (uint64_t at = first; at < tensor.head_bytes;
               at += 2 * tensor.row_bytes) {
            out->append(head_, at, tensor.row_bytes);
          }
        }
        head_.clear();
      }
    }
  }

  const BaseShape* const base_;
  const AdapterLimits limits_;
  const uint64_t size_;
  absl::Status status_;
  uint64_t received_ = 0;

  std::string header_;  // until it is complete
  uint64_t next_attempt_ = kFirstAttempt;
  std::optional<GgufLoraPlan> plan_;

  uint64_t position_ = 0;   // in the file
  size_t next_tensor_ = 0;  // into plan_->tensors
  std::string head_;        // rows to be put in order
};

GgufLoraReader::GgufLoraReader(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
GgufLoraReader::~GgufLoraReader() = default;

absl::StatusOr<std::unique_ptr<GgufLoraReader>> GgufLoraReader::Create(
    uint64_t declared_size, const BaseShape* base,
    const AdapterLimits& limits) {
  DESCANT_RETURN_IF_ERROR(CheckDeclaredSize(declared_size, limits));
  return std::unique_ptr<GgufLoraReader>(
      new GgufLoraReader(std::make_unique<State>(declared_size, base, limits)));
}

absl::Status GgufLoraReader::Append(absl::Span<const char> chunk,
                                    std::string* out) {
  return state_->Append(chunk, out);
}

bool GgufLoraReader::header_done() const { return state_->plan().has_value(); }

const std::string& GgufLoraReader::config_json() const {
  DESCANT_CHECK(header_done());
  return state_->plan()->config_json;
}

uint64_t GgufLoraReader::safetensors_bytes() const {
  DESCANT_CHECK(header_done());
  return state_->plan()->safetensors_bytes;
}

absl::Status GgufLoraReader::Finish() { return state_->Finish(); }

}  // namespace descant
