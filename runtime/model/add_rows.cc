#include "runtime/model/add_rows.h"

namespace descant {

void AddRows(const float* factors, const float* rows, int64_t count,
             int64_t columns, float* out) {
  static const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2) return AddRowsAvx2(factors, rows, count, columns, out);
  for (int64_t r = 0; r < count; ++r) {
    const float* row = rows + r * columns;
    for (int64_t i = 0; i < columns; ++i) out[i] += factors[r] * row[i];
  }
}

}  // namespace descant
