// AMX in software: the tile layer of runtime/kernels/cpu/tiles_amx.inc, so
// that the same kernels run and are checked on machines without AMX. Plain
// scalar C++. Included inside the unnamed namespace of a translation unit,
// after <cmath>, <cstdint>, <cstdio>, <cstdlib> and <cstring>.
//
// What the processor refuses (#GP, #UD) ends the process with a line that says
// what was wrong. Stricter than the processor: reading a tile that nothing was
// written to since it was configured is refused too.
//
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume
// 2: LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBF16PS, TDPBUSD.

struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

constexpr int kTiles = 8;
constexpr int kMostRows = 16;
constexpr int kMostBytes = 64;

struct EmulatedTile {
  int rows = 0;
  int bytes = 0;
  bool written = false;
  unsigned char data[kMostRows][kMostBytes] = {};
};

struct EmulatedTiles {
  bool configured = false;
  EmulatedTile tiles[kTiles];
};

thread_local EmulatedTiles emulated;
// Of this thread: how often tiles were configured.
thread_local int64_t emulated_configurations = 0;

[[noreturn]] inline void TileFault(const char* what) {
  std::fprintf(stderr, "AMX fault: %s\n", what);
  std::abort();
}

inline void TileRequire(bool condition, const char* what) {
  if (!condition) TileFault(what);
}

inline void TileConfigure(const TileConfig& config) {
  TileRequire(config.palette == 1, "#GP: palette");
  TileRequire(config.start_row == 0, "start row other than 0");
  for (const uint8_t byte : config.reserved) {
    TileRequire(byte == 0, "#GP: reserved byte");
  }
  EmulatedTiles next;
  next.configured = true;
  for (int i = 0; i < 16; ++i) {
    const int rows = config.rows[i];
    const int bytes = config.bytes[i];
    if (i >= kTiles) {
      TileRequire(rows == 0 && bytes == 0, "#GP: no such tile");
      continue;
    }
    TileRequire(rows <= kMostRows, "#GP: rows of a tile");
    TileRequire(bytes <= kMostBytes, "#GP: bytes of a row");
    TileRequire((rows == 0) == (bytes == 0), "#GP: half an empty tile");
    // LDTILECFG takes other sizes, but every use of such a tile is #UD.
    TileRequire(bytes % 4 == 0, "bytes of a row not a multiple of 4");
    next.tiles[i].rows = rows;
    next.tiles[i].bytes = bytes;
  }
  emulated = next;
  ++emulated_configurations;
}

inline void TileRelease() { emulated = EmulatedTiles(); }

inline EmulatedTile& ValidTile(int tile) {
  TileRequire(emulated.configured, "#UD: tiles are not configured");
  TileRequire(tile >= 0 && tile < kTiles, "#UD: no such tile");
  TileRequire(emulated.tiles[tile].rows != 0, "#UD: tile is not configured");
  return emulated.tiles[tile];
}

inline const EmulatedTile& WrittenTile(int tile) {
  TileRequire(ValidTile(tile).written, "tile is read before it is written");
  return emulated.tiles[tile];
}

template <int kTile>
inline void TileZero() {
  EmulatedTile& tile = ValidTile(kTile);
  std::memset(tile.data, 0, sizeof(tile.data));
  tile.written = true;
}

template <int kTile>
inline void TileLoad(const void* from, int64_t stride) {
  EmulatedTile& tile = ValidTile(kTile);
  std::memset(tile.data, 0, sizeof(tile.data));
  for (int row = 0; row < tile.rows; ++row) {
    std::memcpy(tile.data[row], static_cast<const char*>(from) + row * stride,
                static_cast<size_t>(tile.bytes));
  }
  tile.written = true;
}

template <int kTile>
inline void TileStore(void* to, int64_t stride) {
  const EmulatedTile& tile = WrittenTile(kTile);
  for (int row = 0; row < tile.rows; ++row) {
    std::memcpy(static_cast<char*>(to) + row * stride, tile.data[row],
                static_cast<size_t>(tile.bytes));
  }
}

// The sizes that a product requires: C [m, n], A [m, k], B [k, n], in 4-byte
// elements.
inline void RequireProduct(int c, int a, int b) {
  TileRequire(c != a && c != b && a != b, "#UD: operands are not distinct");
  const EmulatedTile& tc = WrittenTile(c);
  const EmulatedTile& ta = WrittenTile(a);
  const EmulatedTile& tb = WrittenTile(b);
  TileRequire(tc.bytes == tb.bytes, "#UD: columns of C and B");
  TileRequire(tc.rows == ta.rows, "#UD: rows of C and A");
  TileRequire(ta.bytes / 4 == tb.rows, "#UD: columns of A and rows of B");
}

inline float AsFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Subnormals, read or written, are zeros of their sign.
inline float Flush(float x) {
  return std::fabs(x) < 1.17549435e-38f ? std::copysign(0.0f, x) : x;
}

inline float WidenBf16(const unsigned char* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return Flush(AsFloat(static_cast<uint32_t>(bits) << 16));
}

template <int kC, int kA, int kB>
inline void TileDotBf16() {
  RequireProduct(kC, kA, kB);
  EmulatedTile& c = emulated.tiles[kC];
  const EmulatedTile& a = emulated.tiles[kA];
  const EmulatedTile& b = emulated.tiles[kB];
  constexpr int kColumns = kMostBytes / 4;
  float wide[kMostRows][2][kColumns];
  for (int k = 0; k < b.rows; ++k) {
    for (int i = 0; i < 2 * kColumns; ++i) {
      wide[k][i % 2][i / 2] = WidenBf16(b.data[k] + 2 * i);
    }
  }
  for (int m = 0; m < c.rows; ++m) {
    float sums[2][kColumns] = {};
    for (int k = 0; k < b.rows; ++k) {
      for (int half = 0; half < 2; ++half) {
        const float x = WidenBf16(a.data[m] + 4 * k + 2 * half);
        for (int n = 0; n < kColumns; ++n) {
          sums[half][n] = Flush(std::fma(x, wide[k][half][n], sums[half][n]));
        }
      }
    }
    for (int n = 0; n < c.bytes / 4; ++n) {
      float sum;
      std::memcpy(&sum, c.data[m] + 4 * n, sizeof(sum));
      const float both = Flush(sums[0][n] + sums[1][n]);
      sum = Flush(Flush(sum) + both);
      std::memcpy(c.data[m] + 4 * n, &sum, sizeof(sum));
    }
  }
}

template <int kC, int kA, int kB>
inline void TileDotU8S8() {
  RequireProduct(kC, kA, kB);
  EmulatedTile& c = emulated.tiles[kC];
  const EmulatedTile& a = emulated.tiles[kA];
  const EmulatedTile& b = emulated.tiles[kB];
  for (int m = 0; m < c.rows; ++m) {
    for (int n = 0; n < c.bytes / 4; ++n) {
      uint32_t sum;
      std::memcpy(&sum, c.data[m] + 4 * n, sizeof(sum));
      for (int k = 0; k < b.rows; ++k) {
        for (int i = 0; i < 4; ++i) {
          const int x = a.data[m][4 * k + i];
          const int y = static_cast<signed char>(b.data[k][4 * n + i]);
          sum += static_cast<uint32_t>(x * y);
        }
      }
      std::memcpy(c.data[m] + 4 * n, &sum, sizeof(sum));
    }
  }
}
