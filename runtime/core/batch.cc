#include "runtime/core/batch.h"

namespace descant {

void Batch::Clear() {
  tokens.clear();
  positions.clear();
  sequences.clear();
  block_tables.clear();
  output_rows.clear();
  segments.clear();
  output_segments.clear();
  merged = nullptr;
}

void StepOutput::Clear() {
  sequences.clear();
  sampled.clear();
  top.clear();
}

}  // namespace descant
