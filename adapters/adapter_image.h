// An adapter made ready for a device: converted, packed, in host memory.
#ifndef DESCANT_ADAPTERS_ADAPTER_IMAGE_H_
#define DESCANT_ADAPTERS_ADAPTER_IMAGE_H_

#include <cstdint>

namespace descant {

// Immutable; shared as std::shared_ptr<const AdapterImage>. Each runner has its
// own kind, and takes no other's.
class AdapterImage {
 public:
  virtual ~AdapterImage() = default;

  // Of host memory it takes. A runner's device takes as many for it.
  virtual uint64_t bytes() const = 0;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_ADAPTER_IMAGE_H_
