// Sums of scaled rows in fp32, for weights that an adapter is merged into.
#ifndef DESCANT_RUNTIME_MODEL_ADD_ROWS_H_
#define DESCANT_RUNTIME_MODEL_ADD_ROWS_H_

#include <cstdint>

namespace descant {

// out[0, columns) += sum over r of factors[r] * rows[r * columns ...], r
// ascending in [0, count). Not hot, but long: tens of operations a weight.
void AddRows(const float* factors, const float* rows, int64_t count,
             int64_t columns, float* out);

// The same on a CPU with AVX2 and FMA. Called by the one above.
void AddRowsAvx2(const float* factors, const float* rows, int64_t count,
                 int64_t columns, float* out);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_ADD_ROWS_H_
