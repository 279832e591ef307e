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

template <class Code>
ADAMANTINE_INLINE std::int32_t curve(std::int32_t rho) {
  return (rho + 2) << (22 - Code::magnitude_bits);
}

// What of a block decides how it is stored.
struct Found {
  std::int32_t largest, count, total;  // of b, of elements that are not 0, of b >> 8
};

ADAMANTINE_INLINE Found find(const float* x) {
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
template <class Code>
ADAMANTINE_INLINE std::int32_t encode(float x, float u, float inverse, float inverse_h) {
  const std::int32_t b = bits(x) & 0x7FFFFFFF;
  const float y = floats(b) * inverse + 1.0f;
  std::int32_t c = to_int(to_float(bits(y) - ONE) * inverse_h + u);
  c = smaller(c, Code::most);
  if constexpr (Code::is_signed) {
    c = c | ((bits(x) >> (31 - Code::magnitude_bits)) & (1 << Code::magnitude_bits));
  } else {
    c = larger(c, smaller(b, 1));
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

// n codes, at most a block, where they lie: a byte each, or two a byte of which the first half is low.
template <class Code>
ADAMANTINE_INLINE void decode_block(const std::uint8_t* codes, std::size_t n, std::int32_t header, float* x) {
  const std::int32_t h = curve<Code>(header & 127);
  const float scale = floats(header & -128);
  if constexpr (Code::bits == 8) {
    ADAMANTINE_INDEPENDENT
    for (std::size_t i = 0; i < n; ++i) x[i] = decode<Code>(codes[i], h, scale);
  } else {
    const std::size_t half = (n + 1) / 2;
    ADAMANTINE_INDEPENDENT
    for (std::size_t i = 0; i < half; ++i) x[i] = decode<Code>(codes[i] & 15, h, scale);
    ADAMANTINE_INDEPENDENT
    for (std::size_t i = 0; i < n - half; ++i) x[half + i] = decode<Code>(codes[i] >> 4, h, scale);
  }
}

template <class Code>
ADAMANTINE_INLINE void encode_block(const float* x, std::size_t n, std::uint32_t phase, std::int32_t header,
                                    std::uint8_t* codes) {
  const float inverse = 1.0f / floats(header & -128);
  const float inverse_h = 1.0f / to_float(curve<Code>(header & 127));
  const auto code = [&](std::size_t i) {
    const float u = !Code::is_dithered ? 0.5f : dither(phase + static_cast<std::uint32_t>(i) * WITHIN);
    return static_cast<std::uint8_t>(encode<Code>(x[i], u, inverse, inverse_h));
  };
  if constexpr (Code::bits == 8) {
    ADAMANTINE_INDEPENDENT
    for (std::size_t i = 0; i < n; ++i) codes[i] = code(i);
  } else {
    const std::size_t half = (n + 1) / 2;
    ADAMANTINE_INDEPENDENT
    for (std::size_t i = 0; i < half; ++i) codes[i] = static_cast<std::uint8_t>(code(i) | code(half + i) << 4);
  }
}

// √v within 6 %, and for every v a positive number.
ADAMANTINE_INLINE float root(float v) { return floats((bits(v) >> 1) + 0x1FC00000); }
