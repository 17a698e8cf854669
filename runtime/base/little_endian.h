// Unaligned little-endian loads and stores, for file formats.
#ifndef DESCANT_RUNTIME_BASE_LITTLE_ENDIAN_H_
#define DESCANT_RUNTIME_BASE_LITTLE_ENDIAN_H_

#include <bit>
#include <cstring>
#include <string>
#include <type_traits>

namespace descant {

static_assert(std::endian::native == std::endian::little,
              "every supported machine is little-endian");

template <typename T>
T LoadLittleEndian(const char* bytes) {
  static_assert(std::is_arithmetic_v<T>);
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <typename T>
void AppendLittleEndian(T value, std::string* bytes) {
  static_assert(std::is_arithmetic_v<T>);
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes->append(raw, sizeof(T));
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_BASE_LITTLE_ENDIAN_H_
