// src/adamantine/formats/block.py in C++: moments in 8 or 4 bits, blocks with a scale and a curve of their own.
// A last block that is shorter is filled with zeros.

constexpr std::int32_t ONE = 0x3F800000;
constexpr std::int32_t SMALLEST = 0x00800000;
constexpr std::int32_t NOT_A_NUMBER = 0x7FC00000;
constexpr std::uint32_t NEAREST = 0x80000000;

template <int bits_, bool is_signed_, bool is_relative = false>
struct BlockCode {
  static constexpr int bits = bits_;
  static constexpr bool is_signed = is_signed_;
  static constexpr bool is_dithered = !is_signed || is_relative;
  static constexpr int magnitude_bits = bits - is_signed;
  static constexpr std::int32_t most = (1 << magnitude_bits) - 1;
  static constexpr float slope = is_relative ? 0.0f : bits == 4 ? 1.8f : is_signed ? 2.0f : 2.1f;
  static constexpr float offset = is_relative ? 1.0f : is_signed ? -3.0f : -1.5f;
  static constexpr std::int32_t most_k = is_relative ? 0 : bits == 4 && is_signed ? 3 : 6;
};

ADAMANTINE_INLINE std::int32_t bits(float x) { return std::bit_cast<std::int32_t>(x); }
ADAMANTINE_INLINE float floats(std::int32_t i) { return std::bit_cast<float>(i); }
ADAMANTINE_INLINE float to_float(std::int32_t i) { return static_cast<float>(i); }
ADAMANTINE_INLINE std::int32_t smaller(std::int32_t x, std::int32_t y) { return x < y ? x : y; }
ADAMANTINE_INLINE std::int32_t larger(std::int32_t x, std::int32_t y) { return x > y ? x : y; }

// Between neighbouring codes, as the exponent of a power of two.
template <class Code>
ADAMANTINE_INLINE std::int32_t distance(std::int32_t k) {
  return k + (23 - Code::magnitude_bits);
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
struct Tally {
  Words last{};  // the largest b - 1, which of a zero is the largest of all
  Ints sum{};

  ADAMANTINE_INLINE void add(Lanes x) {
    const Ints b = (Ints)x.x & 0x7FFFFFFF;
    last = larger(last, (Words)b - 1);
    sum += b >> 8;
  }
  ADAMANTINE_INLINE Found found(const float* x) const {
    const std::uint32_t top = largest(last);
    if (top == 0xFFFFFFFFu) return find_among_zeros(x);
    return {static_cast<std::int32_t>(top + 1), kCodeBlock, total(sum)};
  }
};

ADAMANTINE_INLINE Found find(const float* x) {
  Tally tally;
  for (std::size_t i = 0; i < kCodeBlock; i += kLanes) tally.add(load(x + i));
  return tally.found(x);
}

// A tile's blocks side by side, so that what is computed once a block is computed of many at once.
// Those that a tile does not have are computed too: zeros, until there has been one in their place.
struct Blocks {
  static constexpr std::size_t most = kTile / kCodeBlock;
  std::int32_t largest[most] = {}, count[most] = {}, total[most] = {};
  std::int32_t header[most], distance[most];
  float inverse[most];  // of the scale

  ADAMANTINE_INLINE void put(std::size_t b, const Found& found) {
    largest[b] = found.largest;
    count[b] = found.count;
    total[b] = found.total;
  }
};

ADAMANTINE_INLINE bool is_stored(std::int32_t header) { return header != 0 && header != NOT_A_NUMBER; }

template <class Code>
ADAMANTINE_ONCE void choose(Blocks& blocks) {
  for (std::size_t i = 0; i < Blocks::most; ++i) {
    const std::int32_t found = blocks.largest[i];
    const bool stored = (found >= SMALLEST) & (found < 0x7F800000);
    const std::int32_t top = stored ? found : ONE;
    const std::int32_t count = larger(blocks.count[i], 1);
    const float gap = to_float((top >> 8) * count - blocks.total[i]) / to_float(count) * (1.0f / 32768.0f);
    const float asked = gap * Code::slope + Code::offset, allowed = to_float(top >> 23) * 0.5f;
    const float octaves = asked < allowed ? asked : allowed;
    const std::int32_t k = larger(smaller(((bits(octaves) + 0x7FFFFF) >> 23) - 127, Code::most_k), 0);
    const std::int32_t h = distance<Code>(k);
    const float inverse_top = 1.0f / (floats(ONE + (Code::most << h)) - 1.0f);
    const std::int32_t scale = (bits(floats(top) * inverse_top) + 64) & -128;
    blocks.header[i] = stored ? scale | k : found < SMALLEST ? 0 : NOT_A_NUMBER;
    blocks.distance[i] = h;
    blocks.inverse[i] = 1.0f / floats(scale);
  }
}

template <class Code>
ADAMANTINE_INLINE Lanes decode(Ints c, std::int32_t header) {
  const std::int32_t h = distance<Code>(header & 7);
  const float scale = floats(header & -128);
  const Ints magnitude = Code::bits == 8 && !Code::is_signed ? c : c & Code::most;
  Floats x = ((Floats)(ONE + (magnitude << h)) - 1.0f) * scale;
  if constexpr (Code::is_signed) {
    const Ints sign = (c << (31 - Code::magnitude_bits)) & static_cast<std::int32_t>(0x80000000);
    x = (Floats)((Ints)x | sign);
  }
  return x;
}

// Of a block that is stored.
template <class Code, bool has_zeros>
ADAMANTINE_INLINE Ints encode(Lanes x, Words phases, float inverse, std::int32_t h) {
  // Of the distance between two codes, what makes the rest round up.
  const Words below = Code::is_dithered ? phases >> (32 - h) : Words{} + (NEAREST >> (32 - h));
  const Ints b = (Ints)x.x & 0x7FFFFFFF;
  const Floats y = (Floats)b * inverse + 1.0f;
  Ints c = (Ints)(((Words)y + (below - static_cast<std::uint32_t>(ONE))) >> h);
  if constexpr (Code::is_dithered) c = smaller(c, Ints{} + Code::most);  // to the nearest none is beyond
  if constexpr (Code::is_signed) {
    c = c | (((Ints)x.x >> (31 - Code::magnitude_bits)) & (1 << Code::magnitude_bits));
  } else {
    const Ints one = Ints{} + 1;
    c = larger(c, has_zeros ? smaller(b, one) : one);
  }
  return c;
}

// A full block's codes, a byte each.
template <class Code>
ADAMANTINE_INLINE void decode_bytes(const std::uint8_t* codes, std::int32_t header, float* x) {
  for (std::size_t i = 0; i < kCodeBlock; i += kLanes) store(x + i, decode<Code>(widen(codes + i), header));
}

template <class Code, bool has_zeros>
ADAMANTINE_INLINE void encode_bytes(const float* x, std::uint32_t phase, float inverse, std::int32_t h,
                                    std::uint8_t* codes) {
  Words at = phase + lane_numbers() * WITHIN;
  for (std::size_t i = 0; i < kCodeBlock; i += kLanes) {
    narrow(encode<Code, has_zeros>(load(x + i), at, inverse, h), codes + i);
    at += static_cast<std::uint32_t>(kLanes) * WITHIN;
  }
}

// A full block's codes of 4 bits: a byte holds those of two halves.
constexpr std::size_t kHalf = kCodeBlock / 2;

ADAMANTINE_INLINE Ints nibbles(const std::uint8_t* codes, std::size_t i) {
  return i < kHalf ? widen(codes + i) & 15 : widen(codes + i - kHalf) >> 4;
}

template <class Code>
ADAMANTINE_INLINE void decode_nibbles(const std::uint8_t* codes, std::int32_t header, float* x) {
  for (std::size_t i = 0; i < kCodeBlock; i += kLanes) store(x + i, decode<Code>(nibbles(codes, i), header));
}

template <class Code, bool has_zeros>
ADAMANTINE_INLINE void encode_nibbles(const float* x, std::uint32_t phase, float inverse, std::int32_t h,
                                      std::uint8_t* codes) {
  Words at = phase + lane_numbers() * WITHIN;
  for (std::size_t i = 0; i < kHalf; i += kLanes) {
    const Words later = at + static_cast<std::uint32_t>(kHalf) * WITHIN;
    const Ints low = encode<Code, has_zeros>(load(x + i), at, inverse, h);
    const Ints high = encode<Code, has_zeros>(load(x + i + kHalf), later, inverse, h);
    narrow(low | high << 4, codes + i);
    at += static_cast<std::uint32_t>(kLanes) * WITHIN;
  }
}

// n codes, at most a block, as they lie: a byte each, or two a byte of which the first half is low. The numbers
// are a full block.
template <class Code>
ADAMANTINE_INLINE void decode_block(const std::uint8_t* codes, std::size_t n, std::int32_t header, float* x) {
  if (n == kCodeBlock) {
    return Code::bits == 8 ? decode_bytes<Code>(codes, header, x) : decode_nibbles<Code>(codes, header, x);
  }
  std::uint8_t bytes[kCodeBlock + kLanes] = {};  // more than a block, or GCC 12 warns that n could be more
  if constexpr (Code::bits == 8) {
    std::memcpy(bytes, codes, n);
  } else {
    const std::size_t half = (n + 1) / 2;
    for (std::size_t i = 0; i < half; ++i) bytes[i] = codes[i] & 15;
    for (std::size_t i = half; i < n; ++i) bytes[i] = codes[i - half] >> 4;
  }
  decode_bytes<Code>(bytes, header, x);
}

template <class Code, bool has_zeros>
ADAMANTINE_INLINE void encode_block(const float* x, std::size_t n, std::uint32_t phase, float inverse, std::int32_t h,
                                    std::uint8_t* codes) {
  if (n == kCodeBlock) {
    return Code::bits == 8 ? encode_bytes<Code, has_zeros>(x, phase, inverse, h, codes)
                           : encode_nibbles<Code, has_zeros>(x, phase, inverse, h, codes);
  }
  std::uint8_t bytes[kCodeBlock];
  encode_bytes<Code, has_zeros>(x, phase, inverse, h, bytes);
  if constexpr (Code::bits == 8) {
    std::memcpy(codes, bytes, n);
  } else {
    const std::size_t half = (n + 1) / 2;  // what fills the block up is 0
    for (std::size_t i = 0; i < half; ++i) codes[i] = static_cast<std::uint8_t>(bytes[i] | bytes[half + i] << 4);
  }
}

// √v within 6 %, and for every v a positive number; the same one for every NaN, of which engines have different ones.
ADAMANTINE_INLINE float root(float v) { return floats((smaller(bits(v) & 0x7FFFFFFF, 0x7F800000) >> 1) + 0x1FC00000); }
ADAMANTINE_INLINE Lanes root(Lanes v) {
  return (Floats)((smaller((Ints)v.x & 0x7FFFFFFF, Ints{} + 0x7F800000) >> 1) + 0x1FC00000);
}
