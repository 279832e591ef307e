// src/adamantine/formats/split.py in C++: a float32 master weight as bfloat16 and a small residual.

// The residual; none below 0, where a NaN's bits are: this 0 was put there since (a clamp, a mask).
ADAMANTINE_INLINE std::uint32_t beside(BFloat16 hi, std::int32_t residual) {
  const bool stale = ((hi.bits & 0x7FFF) == 0) & (residual < 0);
  return static_cast<std::uint32_t>(where(stale, 0, residual));
}

ADAMANTINE_INLINE float join16(BFloat16 hi, std::int16_t residual) {
  return float_of((std::uint32_t{hi.bits} << 16) + beside(hi, residual));
}

ADAMANTINE_INLINE float join8(BFloat16 hi, std::int8_t residual) {
  return float_of((std::uint32_t{hi.bits} << 16) + (beside(hi, residual) << 8));
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
