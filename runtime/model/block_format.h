// How 32 output channels of a matrix lie in memory, for each type of weights:
// what the loading code, and whoever looks a row up, know of a type. The
// kernels that multiply by such blocks are in runtime/kernels.
#ifndef DESCANT_RUNTIME_MODEL_BLOCK_FORMAT_H_
#define DESCANT_RUNTIME_MODEL_BLOCK_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/base/float16.h"
#include "runtime/kernels/groups.h"
#include "runtime/model/weight_source.h"
#include "runtime/model/weight_type.h"

namespace descant {

// Rows [row, row + rows) of one tensor, at most 32.
struct WeightRows {
  WeightKind kind;
  int32_t layer;
  int64_t row;
  int32_t rows;
  int64_t columns;
};

// What one thread reads rows into.
struct PackScratch {
  std::vector<BFloat16> bf16;
  std::vector<float> fp32;
  std::vector<char> stored;
};

// A table of plain functions; thread-safe.
struct BlockFormat {
  WeightType type;
  // Bytes of a block of 32 rows of the tensor; a multiple of 64.
  int64_t (*bytes)(int64_t columns);
  // Reads the rows and writes the whole block, its padding too. Errors of
  // `source`.
  absl::Status (*pack)(const WeightSource& source, const WeightRows& rows,
                       PackScratch* scratch, std::byte* block);
  // out[0, columns) = row `row` of the block, in [0, 32).
  void (*unpack)(const std::byte* block, int32_t row, int64_t columns,
                 float* out);
  kernels::GroupFormat group = kernels::GroupFormat::k4;  // of kInt4
};

extern const BlockFormat kBf16Blocks;
extern const BlockFormat kInt8Blocks;

// The format of a linear module that is made of these tensors (one, or those
// it is fused of). int4 has several: what a file stores in groups of 4 or 8
// bits keeps them, a head stored otherwise gets 8 bits, other modules 4.
const BlockFormat* LinearFormat(const BlockFormat& format,
                                const WeightSource& source,
                                absl::Span<const WeightKind> kinds,
                                int32_t layer);

// Where the choice is made for int4.
const BlockFormat* GroupBlocksFor(const WeightSource& source,
                                  absl::Span<const WeightKind> kinds,
                                  int32_t layer);
extern const BlockFormat kInt4Blocks;  // one of them

const BlockFormat& BlockFormatOf(WeightType type);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_BLOCK_FORMAT_H_
