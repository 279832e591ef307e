// Storage formats by the names that Python gives them.
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kernel.hpp"

namespace adamantine {

// is_relative: in units of another slot's root, which is for 4 bits.
inline Code code_of(std::string_view name, bool is_signed, bool is_relative) {
  if (name == "dense") return Code::none;
  if (name == "8bit") return is_signed ? Code::signed8 : Code::unsigned8;
  if (name == "4bit") return is_relative ? Code::relative4 : is_signed ? Code::signed4 : Code::unsigned4;
  throw std::invalid_argument("state: '" + std::string(name) + "'; choose dense, 8bit or 4bit");
}

inline Weights weights_of(std::string_view name) {
  constexpr std::array<std::string_view, 5> names{"nearest", "stochastic", "kahan", "split8", "split16"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (name == names[i]) return static_cast<Weights>(i);
  }
  throw std::invalid_argument("weights: '" + std::string(name) +
                              "'; choose nearest, stochastic, kahan, split8 or split16");
}

// Bytes that the codes of so many elements take: 4 bits are packed block by block, and only the last may be odd.
constexpr std::size_t code_bytes(Code code, std::size_t count) {
  const bool packed = code == Code::signed4 || code == Code::unsigned4 || code == Code::relative4;
  return packed ? (count + 1) / 2 : count;
}

constexpr std::size_t code_blocks(std::size_t count) { return (count + kCodeBlock - 1) / kCodeBlock; }

constexpr bool is_dithered(Code code) {
  return code == Code::unsigned8 || code == Code::unsigned4 || code == Code::relative4;
}

// A step's key is the one before plus 2^64/φ.
constexpr std::uint64_t kGolden64 = 0x9E3779B97F4A7C15u;

inline void set_key(Streams& streams, std::uint64_t key) {
  streams.low = static_cast<std::uint32_t>(key);
  streams.high = static_cast<std::uint32_t>(key >> 32);
}

}  // namespace adamantine
