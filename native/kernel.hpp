// What the kernel offers to the rest: plain data and function pointers, one set per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace adamantine {

// The first kDTypes are what a rule's arrays can be; the others hold codes, residuals and keys.
enum class DType : std::uint8_t { float32, float64, bfloat16, float16, uint8, int8, int16, int32, int64 };
constexpr std::size_t kDTypes = 4;
constexpr std::size_t kAllDTypes = 9;
constexpr std::size_t size_of(DType type) {
  constexpr std::size_t sizes[kAllDTypes] = {4, 8, 2, 2, 1, 1, 2, 4, 8};
  return sizes[static_cast<std::size_t>(type)];
}
constexpr bool is_number(DType type) { return static_cast<std::size_t>(type) < kDTypes; }

// How a slot lies in memory: each element by itself, or in blocks that share a header (block.hpp).
// relative4: first moments in units of their second moment's root.
enum class Code : std::uint8_t { none, signed8, unsigned8, signed4, unsigned4, relative4 };
constexpr std::size_t kCodeBlock = 128;

// How a weight of 16 bits takes what float32 arithmetic makes of it (half.hpp, split.hpp).
enum class Weights : std::uint8_t { nearest, stochastic, kahan, split8, split16 };

constexpr std::size_t kMaxSlots = 3;
constexpr std::size_t kMaxScalars = 12;

// Elements that a tile holds: all its streams fit in the first-level cache together.
constexpr std::size_t kTile = 1024;
static_assert(kTile % kCodeBlock == 0);

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
  Code codes[kMaxSlots];
  std::int32_t* headers[kMaxSlots];  // of slots in blocks
  std::uint8_t partners[kMaxSlots];  // of relative slots: the second moment's place
  Weights weights;
  std::byte* residual;      // of weights that have one
  std::uint32_t low, high;  // halves of the key by which is rounded
};

// Sum of squares in double, and the largest magnitude (0 where every element is NaN).
struct Squares {
  double sum;
  double largest;
};

// From element `start` to before `stop`. Where elements are counted, by codes or by weights that round by words or a
// dither, `start` is a multiple of kCodeBlock.
using Step = void (*)(const Row&, const Streams&, std::size_t start, std::size_t stop);
using SumSquares = Squares (*)(const std::byte* g, std::size_t count);
using Traffic = void (*)(const std::byte* const* reads, std::size_t n_reads, std::byte* const* writes,
                         std::size_t n_writes, std::size_t start, std::size_t stop);

constexpr std::size_t kForms = 3;

struct RuleKernels {
  const char* name;
  const char* slots;
  const char* scalars;
  const char* unsigneds;
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
