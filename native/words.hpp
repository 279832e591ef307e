// src/adamantine/formats/words.py in C++: random words and dither by counter. Arithmetic is modulo 2^32.

constexpr std::uint32_t GOLDEN = 0x9E3779B9u;
constexpr std::uint32_t MIX_1 = 0x7FEB352Du;
constexpr std::uint32_t MIX_2 = 0x846CA68Bu;
constexpr std::uint32_t WITHIN = 0xC13FA9A9u;
constexpr std::uint32_t BETWEEN = 0x91E10DA5u;

// Of one index, or of a register of them.
template <class Index>
ADAMANTINE_INLINE Index word(Index index, std::uint32_t low, std::uint32_t high) {
  Index x = (index * GOLDEN + low) ^ high;
  x = x ^ (x >> 16);
  x = x * MIX_1;
  x = x ^ (x >> 15);
  x = x * MIX_2;
  return x ^ (x >> 16);
}

ADAMANTINE_INLINE std::uint32_t half_word(std::int32_t index, std::uint32_t low, std::uint32_t high) {
  return (word(static_cast<std::uint32_t>(index >> 1), low, high) >> ((index & 1) << 4)) & 0xFFFF;
}

ADAMANTINE_INLINE std::uint32_t phase(std::uint32_t within, std::uint32_t block, std::uint32_t high,
                                      std::uint32_t slot) {
  return high + within * WITHIN + block * BETWEEN + slot * GOLDEN;
}
