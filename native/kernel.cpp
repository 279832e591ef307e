// The kernel, compiled once per instruction set (CMakeLists.txt) into a namespace of its own.
// Nothing inline from the standard library is called here: the linker could keep the copy that was compiled for
// another instruction set.

#include "kernel.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(_MSC_VER) && !defined(__clang__)
#error "the kernel needs GCC or Clang (on Windows: clang-cl): MSVC has no vector pragmas that keep the bits"
#endif

#define ADAMANTINE_INLINE inline __attribute__((always_inline))
#define ADAMANTINE_ONCE __attribute__((noinline))  // one copy of each loop, whoever calls it
#if defined(__clang__)
#define ADAMANTINE_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
// Without `unroll 1` GCC 12 unrolls the loop over a line before it looks for vectors, and forgets ivdep.
#define ADAMANTINE_INDEPENDENT _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#endif

namespace adamantine::ADAMANTINE_NAMESPACE {
namespace {

template <class... Items>
struct List {};

constexpr std::size_t kLine = 64;  // bytes that memory comes in

#include "arithmetic.hpp"
#include "lanes.hpp"
#include "codecs.hpp"
#include "words.hpp"
#include "split.hpp"
#include "block.hpp"
#include "apply.hpp"
#include "rules.hpp"

constexpr std::size_t words(const char* text) {
  std::size_t count = *text ? 1 : 0;
  for (; *text; ++text) count += *text == ' ';
  return count;
}

// How far ahead of the arithmetic memory is asked for: measured, on one core and on two (docs/speed.md).
constexpr std::size_t kAhead = 256;

ADAMANTINE_INLINE void ask(const void* address) {
  __builtin_prefetch(static_cast<const std::byte*>(address) + kAhead, 0, 3);
}

template <Form form, class Rule, class T, class... Slot>
ADAMANTINE_INLINE void advance(const Rule& rule, const Numbers<T>& numbers, T& theta_at, T g, Slot&... slot_at) {
  const T theta = theta_at;
  g = scale(g, numbers.grad_scale);
  if constexpr (form == Form::coupled) g = penalize(g, theta, numbers.couple);
  [&](auto... slot) {
    const T u = rule.direction(g, slot...);
    if constexpr (form == Form::cautious) {
      theta_at = cautious_step(theta, u, numbers.shrink, numbers.eta);
    } else {
      theta_at = step(theta, u, numbers.shrink, numbers.eta);
    }
    ((slot_at = slot), ...);
  }(slot_at...);
}

// n elements that lie in T's own format.
template <Form form, class Rule, class T, class... Slot>
ADAMANTINE_ONCE void run(const Rule& rule, const Numbers<T>& numbers, T* theta, const T* g, std::size_t n,
                         Slot*... slots) {
  constexpr std::size_t line = kLine / sizeof(T);
  std::size_t i = 0;
  for (; i + line <= n; i += line) {
    ask(theta + i);
    ask(g + i);
    (ask(slots + i), ...);
    ADAMANTINE_INDEPENDENT
    for (std::size_t j = 0; j < line; ++j) advance<form>(rule, numbers, theta[i + j], g[i + j], slots[i + j]...);
  }
  ADAMANTINE_INDEPENDENT
  for (std::size_t j = i; j < n; ++j) advance<form>(rule, numbers, theta[j], g[j], slots[j]...);
}

#include "tiles.hpp"

#include "slots.hpp"

template <class Rule, class T>
Rule rule_of(const Row& row) {
  Rule rule;
  constexpr std::size_t count = words(Rule::text.scalars);
  if constexpr (count > 0) {
    static_assert(sizeof(Rule) == count * sizeof(T), "text.scalars names each member once");
    static_assert(count <= kMaxScalars);
    T scalars[count];
    for (std::size_t i = 0; i < count; ++i) scalars[i] = static_cast<T>(row.scalars[i]);
    std::memcpy(&rule, scalars, sizeof(Rule));
  }
  return rule;
}

template <class T>
Numbers<T> numbers_of(const Row& row) {
  return {static_cast<T>(row.grad_scale), static_cast<T>(row.couple), static_cast<T>(row.shrink),
          static_cast<T>(row.eta)};
}

template <class Rule, class T, Form form, std::size_t... k>
ADAMANTINE_INLINE void step_over(const Row& row, const Streams& streams, std::size_t start, std::size_t stop,
                                 std::index_sequence<k...>) {
  const auto rule = rule_of<Rule, T>(row);
  const auto numbers = numbers_of<T>(row);
  const bool direct = streams.theta_type == streams.g_type && ((streams.theta_type == streams.slot_types[k]) && ...) &&
                      size_of(streams.theta_type) == sizeof(T) && ((streams.codes[k] == Code::none) && ...);
  if (direct) {
    run<form>(rule, numbers, reinterpret_cast<T*>(streams.theta) + start, reinterpret_cast<const T*>(streams.g) + start,
              stop - start, (reinterpret_cast<T*>(streams.slots[k]) + start)...);
  } else {
    alignas(64) T tiles[2 + kMaxSlots][kTile];
    Blocks blocks[1 + sizeof...(k)];
    // Where little is read in place, the next tile's memory is asked for bit by bit while the divider is waited for.
    const bool asks = size_of(streams.theta_type) == 2 && ((size_of(streams.slot_types[k]) == 2) || ...);
    for (std::size_t i = start; i < stop; i += kTile) {
      const std::size_t n = stop - i < kTile ? stop - i : kTile;
      T* theta = open_theta(streams, i, n, tiles[0]);
      const T* g = open_dense(const_cast<std::byte*>(streams.g), streams.g_type, i, n, tiles[1]);  // read only
      T* slots[1 + sizeof...(k)] = {open_slot(streams, k, i, n, tiles[2 + k])...};
      relate(streams, sizeof...(k), slots, n);
      for (std::size_t j = 0, size = n; j < n; j += size) {
        if (asks) {
          if (i + j + kTile < stop) ask_ahead(streams, i + j + kTile, sizeof...(k));
          size = n - j < kCodeBlock ? n - j : kCodeBlock;
        }
        run<form>(rule, numbers, theta + j, g + j, size, (slots[k] + j)...);
      }
      close_theta(streams, i, n, theta);
      close_slots(streams, sizeof...(k), i, n, slots, blocks, tiles[1]);
    }
  }
}

#include "coded.hpp"

template <class Rule, class Wide, class T, Form form>
void step_entry(const Row& row, const Streams& streams, std::size_t start, std::size_t stop) {
  constexpr std::size_t slots = words(Rule::text.slots);
  static_assert(slots <= kMaxSlots);
  constexpr auto places = std::make_index_sequence<slots>{};
  if constexpr (std::is_same_v<T, float> && slots > 0) {
    bool is_coded = false;
    for (std::size_t k = 0; k < slots; ++k) is_coded |= streams.codes[k] != Code::none;
    if (is_coded) return step_coded<Wide, form>(row, streams, start, stop, places);
  }
  step_over<Rule, T, form>(row, streams, start, stop, places);
}

template <class... Single, class... Double, class... Wide>
const RuleKernels* rule_table(List<Single...>, List<Double...>, List<Wide...>) {
  static const RuleKernels table[] = {
      {Single::text.name,
       Single::text.slots,
       Single::text.scalars,
       Single::text.unsigneds,
       {{step_entry<Single, Wide, float, Form::plain>, step_entry<Single, Wide, float, Form::coupled>,
         step_entry<Single, Wide, float, Form::cautious>},
        {step_entry<Double, Wide, double, Form::plain>, step_entry<Double, Wide, double, Form::coupled>,
         step_entry<Double, Wide, double, Form::cautious>}}}...,
  };
  return table;
}

template <class... Items>
constexpr std::size_t length(List<Items...>) {
  return sizeof...(Items);
}

// Σx² over a block: 32 lanes, lane j takes elements j, j+32, …; then lane j gains lane j+16, j+8, … j+1.
// `adamantine.torch.norm` states the same order in NumPy.
template <class Stored>
Squares squares(const std::byte* memory, std::size_t n) {
  constexpr std::size_t lanes = 32;
  const auto* g = reinterpret_cast<const Stored*>(memory);
  double sums[lanes] = {};
  double largest[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::size_t b = 0; b < lanes * sizeof(Stored); b += kLine) ask(reinterpret_cast<const std::byte*>(g + i) + b);
    ADAMANTINE_INDEPENDENT
    for (std::size_t j = 0; j < lanes; ++j) {
      const double x = static_cast<double>(decode(g[i + j]));
      sums[j] = sums[j] + x * x;
      const double magnitude = absolute(x);
      largest[j] = where(magnitude > largest[j], magnitude, largest[j]);
    }
  }
  for (std::size_t j = 0; i + j < n; ++j) {
    const double x = static_cast<double>(decode(g[i + j]));
    sums[j] = sums[j] + x * x;
    const double magnitude = absolute(x);
    largest[j] = where(magnitude > largest[j], magnitude, largest[j]);
  }
  for (std::size_t half = lanes / 2; half > 0; half /= 2) {
    for (std::size_t j = 0; j < half; ++j) {
      sums[j] = sums[j] + sums[j + half];
      largest[j] = where(largest[j + half] > largest[j], largest[j + half], largest[j]);
    }
  }
  return {sums[0], largest[0]};
}

// The least that a step of this traffic can cost: every array read, `writes` also written, an addition each.
// As in `advance`, all loads come before the first store: arrays that lie alike in their pages would otherwise
// wait for each other's stores.
template <class... Float>
ADAMANTINE_ONCE void stream(const float* read, std::size_t n, Float*... writes) {
  constexpr std::size_t line = kLine / sizeof(float);
  for (std::size_t i = 0; i + line <= n; i += line) {
    if (read != nullptr) ask(read + i);
    (ask(writes + i), ...);
    const auto add = [](float sum, Float&... at) { [&](auto... x) { ((at = x + sum), ...); }(at...); };
    if (read != nullptr) {
      ADAMANTINE_INDEPENDENT
      for (std::size_t j = 0; j < line; ++j) add(read[i + j], writes[i + j]...);
    } else {
      ADAMANTINE_INDEPENDENT
      for (std::size_t j = 0; j < line; ++j) add(1.0f, writes[i + j]...);
    }
  }
}

void traffic(const std::byte* const* reads, std::size_t n_reads, std::byte* const* writes, std::size_t n_writes,
             std::size_t start, std::size_t stop) {
  const float* read = n_reads > 0 ? reinterpret_cast<const float*>(reads[0]) + start : nullptr;
  const auto at = [&](std::size_t k) { return reinterpret_cast<float*>(writes[k]) + start; };
  const std::size_t n = stop - start;
  if (n_writes == 1) stream(read, n, at(0));
  if (n_writes == 2) stream(read, n, at(0), at(1));
  if (n_writes == 3) stream(read, n, at(0), at(1), at(2));
  if (n_writes == 4) stream(read, n, at(0), at(1), at(2), at(3));
}

}  // namespace

const Kernels& kernels() {
  static const Kernels all = {
      ADAMANTINE_TARGET_NAME,
      rule_table(Rules<float>{}, Rules<double>{}, Rules<Lanes>{}),
      length(Rules<float>{}),
      {squares<float>, squares<double>, squares<BFloat16>, squares<Float16>},
      traffic,
  };
  return all;
}

}  // namespace adamantine::ADAMANTINE_NAMESPACE
