// src/adamantine/formats/block.py in C++: moments in 8 or 4 bits, blocks with a scale and a curve of their own.
// A last block that is shorter is filled with zeros.

constexpr std::int32_t ONE = 0x3F800000;
constexpr std::int32_t SMALLEST = 0x00800000;
constexpr std::int32_t NOT_A_NUMBER = 0x7FC00000;

template <int bits_, bool is_signed_, bool is_relative = false>
struct BlockCode {
  static constexpr int bits = bits_;
  static constexpr bool is_signed = is_signed_;
  static constexpr bool is_dithered = !is_signed || is_relative;
  static constexpr int magnitude_bits = bits - is_signed;
  static constexpr std::int32_t most = (1 << magnitude_bits) - 1;
  static constexpr float slope = is_relative ? 0.0f : 2.25f;
  static constexpr float offset = is_relative ? 1.0f : is_signed ? -3.0f : bits == 8 ? -0.5f : -1.5f;
  static constexpr std::int32_t most_rho = is_relative ? 0 : bits == 4 && is_signed ? 14 : 126;
};

ADAMANTINE_INLINE std::int32_t bits(float x) { return std::bit_cast<std::int32_t>(x); }
ADAMANTINE_INLINE float floats(std::int32_t i) { return std::bit_cast<float>(i); }
ADAMANTINE_INLINE float to_float(std::int32_t i) { return static_cast<float>(i); }
ADAMANTINE_INLINE std::int32_t to_int(float x) { return static_cast<std::int32_t>(x); }
ADAMANTINE_INLINE std::int32_t smaller(std::int32_t x, std::int32_t y) { return x < y ? x : y; }
ADAMANTINE_INLINE std::int32_t larger(std::int32_t x, std::int32_t y) { return x > y ? x : y; }
ADAMANTINE_INLINE std::uint32_t larger(std::uint32_t x, std::uint32_t y) { return x > y ? x : y; }

template <class Code>
ADAMANTINE_INLINE std::int32_t curve(std::int32_t rho) {
  return (rho + 2) << (22 - Code::magnitude_bits);
}

// A register of codes, by hand: compilers widen a byte twice, and to four registers at a time.
#if defined(__AVX512F__)
constexpr std::size_t kLanes = 16;
#elif defined(__AVX2__)
constexpr std::size_t kLanes = 8;
#else
constexpr std::size_t kLanes = 4;
#endif
using Ints = std::int32_t __attribute__((vector_size(4 * kLanes)));
using Floats = float __attribute__((vector_size(4 * kLanes)));

ADAMANTINE_INLINE Ints widen(const std::uint8_t* bytes) {
#if defined(__AVX512F__)
  // Masked by all: GCC 12 warns of the plain one's own header.
  return (Ints)_mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
#elif defined(__SSE4_1__)
  int four;
  std::memcpy(&four, bytes, sizeof four);
  return (Ints)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
#else
  Ints wide;
  for (std::size_t i = 0; i < kLanes; ++i) wide[i] = bytes[i];
  return wide;
#endif
}

// What of a block decides how it is stored.
struct Found {
  std::int32_t largest, count, total;  // of b, of elements that are not 0, of b >> 8
};

ADAMANTINE_ONCE Found find_among_zeros(const float* x) {
  Found found{0, 0, 0};
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < kCodeBlock; ++i) {
    const std::int32_t b = bits(x[i]) & 0x7FFFFFFF;
    found.largest = larger(found.largest, b);
    found.count += smaller(b, 1);
    found.total += b >> 8;
  }
  return found;
}

// Few blocks hold a zero: these are looked at once more, and in the others there is nothing to count.
ADAMANTINE_INLINE Found find(const float* x) {
  std::uint32_t last = 0;  // the largest b - 1, which of a zero is the largest of all
  std::int32_t total = 0;
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < kCodeBlock; ++i) {
    const std::int32_t b = bits(x[i]) & 0x7FFFFFFF;
    last = larger(last, static_cast<std::uint32_t>(b) - 1);
    total += b >> 8;
  }
  if (last == 0xFFFFFFFFu) return find_among_zeros(x);
  return {static_cast<std::int32_t>(last + 1), kCodeBlock, total};
}

// A tile's blocks side by side, so that what is computed once a block is computed of many at once.
struct Blocks {
  static constexpr std::size_t most = kTile / kCodeBlock;
  std::int32_t largest[most], count[most], total[most], header[most];
  float inverse[most], inverse_h[most];  // of the scale, of the curve
};

ADAMANTINE_INLINE bool is_stored(std::int32_t header) { return header != 0 && header != NOT_A_NUMBER; }

template <class Code>
ADAMANTINE_INLINE std::int32_t header_of(const Found& block) {
  const std::int32_t found = block.largest;
  const bool stored = (found >= SMALLEST) & (found < 0x7F800000);
  const std::int32_t top = stored ? found : ONE;
  const std::int32_t count = larger(block.count, 1);
  const float gap = to_float((top >> 8) * count - block.total) / to_float(count) * (1.0f / 32768.0f);
  std::int32_t rho = to_int(gap * (2.0f * Code::slope) + (2.0f * Code::offset - 2.0f));
  rho = larger(smaller(rho, smaller(2 * (top >> 23) - 4, Code::most_rho)), 0);
  const std::int32_t h = curve<Code>(rho);
  const std::int32_t scale = (bits(floats(top) / (floats(ONE + Code::most * h) - 1.0f)) + 64) & -128;
  return stored ? scale | rho : found < SMALLEST ? 0 : NOT_A_NUMBER;
}

// Of a block that is stored; `inverse` is of its scale and `inverse_h` of its curve.
template <class Code, bool has_zeros>
ADAMANTINE_INLINE std::int32_t encode(float x, float u, float inverse, float inverse_h) {
  const std::int32_t b = bits(x) & 0x7FFFFFFF;
  const float y = floats(b) * inverse + 1.0f;
  std::int32_t c = to_int(to_float(bits(y) - ONE) * inverse_h + u);
  c = smaller(c, Code::most);
  if constexpr (Code::is_signed) {
    c = c | ((bits(x) >> (31 - Code::magnitude_bits)) & (1 << Code::magnitude_bits));
  } else {
    c = larger(c, has_zeros ? smaller(b, 1) : 1);
  }
  return c;
}

template <class Code>
ADAMANTINE_INLINE float decode(std::int32_t c, std::int32_t h, float scale) {
  const std::int32_t magnitude = c & Code::most;
  float x = (floats(ONE + magnitude * h) - 1.0f) * scale;
  if constexpr (Code::is_signed) {
    const std::uint32_t sign = static_cast<std::uint32_t>(c & (1 << Code::magnitude_bits))
                               << (31 - Code::magnitude_bits);
    x = float_of(bits_of(x) | sign);
  }
  return x;
}

template <class Code>
ADAMANTINE_INLINE void decode_lanes(const std::uint8_t* codes, std::int32_t h, float scale, float* out) {
  const Ints c = widen(codes);
  const Ints magnitude = c & Code::most;
  Floats x = ((Floats)(ONE + magnitude * h) - 1.0f) * scale;
  if constexpr (Code::is_signed) {
    const Ints sign = (c << (31 - Code::magnitude_bits)) & static_cast<std::int32_t>(0x80000000);
    x = (Floats)((Ints)x | sign);
  }
  std::memcpy(out, &x, sizeof x);
}

// n codes of a byte each.
template <class Code>
ADAMANTINE_INLINE void decode_bytes(const std::uint8_t* codes, std::size_t n, std::int32_t header, float* x) {
  const std::int32_t h = curve<Code>(header & 127);
  const float scale = floats(header & -128);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) decode_lanes<Code>(codes + i, h, scale, x + i);
  for (; i < n; ++i) x[i] = decode<Code>(codes[i], h, scale);
}

template <class Code, bool has_zeros>
ADAMANTINE_INLINE void encode_bytes(const float* x, std::size_t n, std::uint32_t phase, float inverse, float inverse_h,
                                    std::uint8_t* codes) {
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) {
    const float u = !Code::is_dithered ? 0.5f : dither(phase + static_cast<std::uint32_t>(i) * WITHIN);
    codes[i] = static_cast<std::uint8_t>(encode<Code, has_zeros>(x[i], u, inverse, inverse_h));
  }
}

// n codes, at most a block, as they lie: a byte each, or two a byte of which the first half is low.
template <class Code>
ADAMANTINE_INLINE void decode_block(const std::uint8_t* codes, std::size_t n, std::int32_t header, float* x) {
  if constexpr (Code::bits == 8) {
    decode_bytes<Code>(codes, n, header, x);
  } else {
    std::uint8_t bytes[kCodeBlock];
    const std::size_t half = (n + 1) / 2;
    for (std::size_t i = 0; i < half; ++i) bytes[i] = codes[i] & 15;
    for (std::size_t i = 0; i < n - half; ++i) bytes[half + i] = codes[i] >> 4;
    decode_bytes<Code>(bytes, n, header, x);
  }
}

template <class Code, bool has_zeros>
ADAMANTINE_INLINE void encode_block(const float* x, std::size_t n, std::uint32_t phase, float inverse, float inverse_h,
                                    std::uint8_t* codes) {
  if constexpr (Code::bits == 8) {
    encode_bytes<Code, has_zeros>(x, n, phase, inverse, inverse_h, codes);
  } else {
    std::uint8_t bytes[kCodeBlock];
    encode_bytes<Code, has_zeros>(x, kCodeBlock, phase, inverse, inverse_h, bytes);  // what fills the block up is 0
    const std::size_t half = (n + 1) / 2;
    for (std::size_t i = 0; i < half; ++i) codes[i] = static_cast<std::uint8_t>(bytes[i] | bytes[half + i] << 4);
  }
}

// √v within 6 %, and for every v a positive number.
ADAMANTINE_INLINE float root(float v) { return floats((bits(v) >> 1) + 0x1FC00000); }
