// Storage formats: how an element lies in memory, and the tile of numbers that a rule sees.
// Without branches, so that every instruction set vectorizes them.

ADAMANTINE_INLINE float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }
ADAMANTINE_INLINE std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }

struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

ADAMANTINE_INLINE float decode(BFloat16 x) { return float_of(std::uint32_t{x.bits} << 16); }
ADAMANTINE_INLINE Lanes load(const BFloat16* at) {
  return (Floats)(widen(reinterpret_cast<const std::uint16_t*>(at)) << 16);
}

// To the nearest, ties to even; a NaN stays one.
ADAMANTINE_INLINE void encode(float x, BFloat16& out) {
  const std::uint32_t bits = bits_of(x);
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const std::uint32_t nan = (bits >> 16) | 0x40;
  out.bits = static_cast<std::uint16_t>(x != x ? nan : rounded);
}

ADAMANTINE_INLINE float decode(Float16 x) {
  const std::uint32_t sign = std::uint32_t{x.bits & 0x8000u} << 16;
  const std::uint32_t magnitude = std::uint32_t{x.bits & 0x7fffu} << 13;  // exponent and fraction in float's place
  const std::uint32_t exponent = magnitude & 0x0f800000u;
  const std::uint32_t normal = magnitude + ((127u - 15u) << 23);
  const std::uint32_t special = magnitude + ((255u - 31u) << 23);  // infinity and NaN
  // A subnormal is its fraction in units of 2^-24: put it beside 2^-14 and take that away again.
  const std::uint32_t subnormal = bits_of(float_of(magnitude + ((127u - 14u) << 23)) - float_of((127u - 14u) << 23));
  const std::uint32_t bits = exponent == 0 ? subnormal : (exponent == 0x0f800000u ? special : normal);
  return float_of(bits | sign);
}

// To the nearest, ties to even; beyond 65504 infinity; a NaN stays one.
ADAMANTINE_INLINE void encode(float x, Float16& out) {
  const std::uint32_t bits = bits_of(x);
  const std::uint32_t sign = bits & 0x80000000u;
  const std::uint32_t magnitude = bits ^ sign;
  const std::uint32_t odd = (magnitude >> 13) & 1;
  const std::uint32_t normal = (magnitude - ((127u - 15u) << 23) + 0xfffu + odd) >> 13;
  // Below 2^-14 the sum with 1/2 has units of 2^-24, and is rounded by the addition.
  const std::uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  const std::uint32_t finite = magnitude < ((127u - 14u) << 23) ? subnormal : normal;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const std::uint32_t half = magnitude >= ((127u + 16u) << 23) ? special : finite;
  out.bits = static_cast<std::uint16_t>(half | (sign >> 16));
}

// src/adamantine/formats/half.py: away from zero in the share of half words that the dropped bits are of a unit.
// What comes out of a step is no signalling NaN, so none needs to be made quiet.
ADAMANTINE_INLINE void encode(float x, std::uint32_t half_word, BFloat16& out) {
  const std::uint32_t b = bits_of(x), magnitude = b & 0x7FFFFFFFu, up = magnitude + half_word;
  const std::uint32_t finite = where(up < 0x7F7FFFFFu, up, 0x7F7FFFFFu);
  out.bits = static_cast<std::uint16_t>((where(finite > magnitude, finite, magnitude) | (b & 0x80000000u)) >> 16);
}

ADAMANTINE_INLINE void stochastic(Lanes x, Words half_words, BFloat16* out) {
  const Words b = (Words)x.x, magnitude = b & 0x7FFFFFFFu, up = magnitude + half_words;
  const Words finite = up < 0x7F7FFFFFu ? up : Words{} + 0x7F7FFFFFu;
  const Halves upper = __builtin_convertvector((larger(finite, magnitude) | (b & 0x80000000u)) >> 16, Halves);
  std::memcpy(out, &upper, sizeof upper);
}

// To a float that float16 holds exactly.
ADAMANTINE_INLINE float stochastic_float16(float x, std::uint32_t half_word) {
  const std::uint32_t b = bits_of(x);
  const std::uint32_t sign = b & 0x80000000u, magnitude = b & 0x7FFFFFFFu;
  const std::uint32_t above = (magnitude + (half_word & 0x1FFF)) & ~std::uint32_t{0x1FFF};
  const std::uint32_t normal = where(above < 0x477FE000u, above, 0x477FE000u);  // 65504
  // Below 2^-14 the units are 2^-24.
  const float scaled = float_of(where(magnitude < 0x38800000u, magnitude, 0x38800000u)) * 16777216.0f;
  const std::int32_t whole = static_cast<std::int32_t>(scaled);
  const auto left = static_cast<std::int32_t>((scaled - static_cast<float>(whole)) * 8192.0f);
  const std::int32_t up = (left + static_cast<std::int32_t>(half_word & 0x1FFF)) >> 13;
  const std::uint32_t subnormal = bits_of(static_cast<float>(whole + up) * (1.0f / 16777216.0f));
  // By masks: of `where` GCC makes branches around the conversions, and loops with branches are not vectorized.
  const auto mask = [](bool condition) { return 0u - static_cast<std::uint32_t>(condition); };
  const std::uint32_t is_subnormal = mask(magnitude < 0x38800000u), is_small = mask(magnitude < 0x477FF000u);
  const std::uint32_t small = (subnormal & is_subnormal) | (normal & ~is_subnormal);
  const std::uint32_t large = where(magnitude > 0x7F800000u, magnitude, 0x7F800000u);
  return float_of(sign | (small & is_small) | (large & ~is_small));
}

ADAMANTINE_INLINE float decode(float x) { return x; }
ADAMANTINE_INLINE double decode(double x) { return x; }
