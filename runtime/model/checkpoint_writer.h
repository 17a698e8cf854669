// A Hugging Face checkpoint directory, written tensor by tensor.
#ifndef DESCANT_RUNTIME_MODEL_CHECKPOINT_WRITER_H_
#define DESCANT_RUNTIME_MODEL_CHECKPOINT_WRITER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "adapters/formats/safetensors_writer.h"
#include "runtime/base/fs.h"

namespace descant {

using ByteSink = std::function<absl::Status(absl::Span<const char>)>;

// A tensor, and how its bytes are made when their turn comes.
struct CheckpointTensor {
  SafetensorsSpec spec;
  bool merged = false;  // an adapter changed it
  // Gives all spec.bytes, in order, in pieces of a few megabytes, to the sink;
  // returns its error or its own.
  std::function<absl::Status(const ByteSink&)> write;
};

// A small file beside the tensors. One folder may be in its name.
struct CheckpointFile {
  std::string name;
  std::string content;
};

struct Checkpoint {
  std::vector<CheckpointFile> files;
  std::vector<CheckpointTensor> tensors;  // names are unique
  SafetensorsMetadata metadata;           // of every file of tensors
};

struct CheckpointOptions {
  // Of one file of tensors, where no tensor alone is larger.
  uint64_t max_shard_bytes = 5'000'000'000;
  // Asked before every tensor: an error ends the writing.
  std::function<absl::Status()> may_go_on;
};

struct CheckpointSummary {
  int64_t tensors = 0;
  int64_t merged = 0;
  uint64_t bytes = 0;  // of tensors
  int32_t shards = 0;
};

// What WriteCheckpoint would say of the directory before it writes: OK,
// ALREADY_EXISTS (it is there and not empty, or is no directory), NOT_FOUND
// (what it is to lie in is not there).
absl::Status CheckCheckpointDirectory(const std::string& directory);

// Writes model.safetensors, or shards with their index, and the small files to
// a folder beside `directory`, all on disk, then gives it that name: it is
// there whole, or not at all. After an error nothing is left; after a crash the
// folder "<directory>.<process id>.partial" may be. Errors: those above, of
// `fs` and of the tensors.
absl::StatusOr<CheckpointSummary> WriteCheckpoint(
    Fs* fs, const std::string& directory, const Checkpoint& checkpoint,
    const CheckpointOptions& options);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CHECKPOINT_WRITER_H_
