// src/adamantine/formats/split.py in C++: a float32 master weight as bfloat16 and a small residual.

ADAMANTINE_INLINE float join16(BFloat16 hi, std::int16_t residual) {
  return float_of((std::uint32_t{hi.bits} << 16) + static_cast<std::uint32_t>(residual));
}

ADAMANTINE_INLINE float join8(BFloat16 hi, std::int8_t residual) {
  return float_of((std::uint32_t{hi.bits} << 16) + (static_cast<std::uint32_t>(residual) << 8));
}

// Returns the residual; a NaN has none.
ADAMANTINE_INLINE std::int32_t split(std::uint32_t b, float x, BFloat16& hi) {
  const bool number = x == x;
  const std::uint32_t upper = (b + 0x8000u) >> 16;
  const std::uint32_t residual = b - (upper << 16);
  hi.bits = static_cast<std::uint16_t>(where(number, upper, 0x7FC0u));
  return where(number, static_cast<std::int32_t>(residual), 0);
}

ADAMANTINE_INLINE void split16(float x, BFloat16& hi, std::int16_t& residual) {
  residual = static_cast<std::int16_t>(split(bits_of(x), x, hi));
}

// phase: 32 bits, 0x80000000 for nearest.
ADAMANTINE_INLINE void split8(float x, std::uint32_t phase, BFloat16& hi, std::int8_t& residual) {
  const std::uint32_t b = bits_of(x);
  const bool finite = (b & 0x7F800000u) != 0x7F800000u;
  const std::uint32_t kept = where(finite, b + (phase >> 24), b) & ~std::uint32_t{0xFF};
  residual = static_cast<std::int8_t>(split(kept, x, hi) >> 8);
}
