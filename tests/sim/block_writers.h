// Whose keys and values are in which block.
#ifndef DESCANT_TESTS_SIM_BLOCK_WRITERS_H_
#define DESCANT_TESTS_SIM_BLOCK_WRITERS_H_

#include <cstdint>
#include <map>
#include <string>

#include "gtest/gtest.h"
#include "runtime/core/batch.h"

namespace descant {

// What a tenant reads, that tenant has written: on the base and under adapters.
class BlockWriters {
 public:
  // `tenant_of`: the tenant of a request's id.
  template <typename TenantOf>
  void Check(const Batch& batch, TenantOf tenant_of) {
    for (const BatchSequence& s : batch.sequences) {
      const std::string tenant = tenant_of(s.id);
      for (int32_t i = 0; i < s.block_count; ++i) {
        std::string& writer = writers_[batch.block_tables[s.block_begin + i]];
        if (i < s.computed_length / kBlockSize) {
          EXPECT_EQ(writer, tenant) << "of request " << s.id;
        } else {
          writer = tenant;
        }
      }
    }
  }

  // Whose the block is.
  const std::string& writer(int32_t id) { return writers_[id]; }

 private:
  std::map<int32_t, std::string> writers_;  // tenant, by block
};

}  // namespace descant

#endif  // DESCANT_TESTS_SIM_BLOCK_WRITERS_H_
