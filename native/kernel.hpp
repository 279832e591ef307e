// What the kernel offers to the rest: plain data and function pointers, one set per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace adamantine {

enum class DType : std::uint8_t { float32, float64, bfloat16, float16 };
constexpr std::size_t kDTypes = 4;
constexpr std::size_t size_of(DType type) { return type == DType::float64 ? 8 : type == DType::float32 ? 4 : 2; }

constexpr std::size_t kMaxSlots = 3;
constexpr std::size_t kMaxScalars = 12;

// Elements that a tile holds: all its streams fit in the first-level cache together.
constexpr std::size_t kTile = 1024;

// Elements of which the squares are summed in one fixed order: the unit of the norm.
constexpr std::size_t kBlock = 16384;

// The host's numbers for all tensors that share them.
struct Row {
  double grad_scale, couple, shrink, eta;
  double scalars[kMaxScalars];
};

// One tensor as the kernel sees it: dense memory, the same element order in every stream.
struct Streams {
  std::byte* theta;
  const std::byte* g;
  std::byte* slots[kMaxSlots];
  DType theta_type, g_type, slot_types[kMaxSlots];
};

// Sum of squares in double, and the largest magnitude (0 where every element is NaN).
struct Squares {
  double sum;
  double largest;
};

using Step = void (*)(const Row&, const Streams&, std::size_t start, std::size_t stop);
using SumSquares = Squares (*)(const std::byte* g, std::size_t count);
using Traffic = void (*)(const std::byte* const* reads, std::size_t n_reads, std::byte* const* writes,
                         std::size_t n_writes, std::size_t start, std::size_t stop);

constexpr std::size_t kForms = 3;

struct RuleKernels {
  const char* name;
  const char* slots;
  const char* scalars;
  Step steps[2][kForms];  // [θ in double][form]
};

struct Kernels {
  const char* target;
  const RuleKernels* rules;
  std::size_t n_rules;
  SumSquares squares[kDTypes];
  Traffic traffic;
};

}  // namespace adamantine
