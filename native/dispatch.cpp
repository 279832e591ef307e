#include "dispatch.hpp"

#if defined(ADAMANTINE_X86)
#include <cpuid.h>
#endif

#include <stdexcept>

namespace adamantine {

// One declaration per object that CMakeLists.txt compiles from kernel.cpp.
#if defined(ADAMANTINE_X86)
namespace x86_64_v2 {
const Kernels& kernels();
}
namespace x86_64_v3 {
const Kernels& kernels();
}
namespace x86_64_v4 {
const Kernels& kernels();
}
#else
namespace baseline {
const Kernels& kernels();
}
#endif

#if defined(ADAMANTINE_X86)
// F16C, MOVBE and LZCNT, which some compilers' builtin does not know.
static bool has_rest_of_v3() {
  unsigned a, b, c, d, extended_c;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) && (c & bit_MOVBE) &&
         __get_cpuid(0x80000001, &a, &b, &extended_c, &d) && (extended_c & bit_LZCNT);
}
#endif

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> targets;
#if defined(ADAMANTINE_X86)
  __builtin_cpu_init();
  // The features by which the x86-64 psABI defines the levels; the builtin also asks the operating system.
  const bool v2 =
      __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("popcnt");
  const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && has_rest_of_v3();
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v2) targets.push_back(&x86_64_v2::kernels());
  if (v3) targets.push_back(&x86_64_v3::kernels());
  if (v4) targets.push_back(&x86_64_v4::kernels());
#else
  targets.push_back(&baseline::kernels());
#endif
  return targets;
}

const Kernels& choose(std::string_view target) {
  const auto targets = available();
  std::string names;
  for (const Kernels* kernels : targets) {
    if (target == kernels->target) return *kernels;
    names += (names.empty() ? "" : ", ") + std::string(kernels->target);
  }
  if (target.empty() && !targets.empty()) return *targets.back();
  throw std::invalid_argument("Invalid ADAMANTINE_TARGET: '" + std::string(target) +
                              "'; this CPU and build have: " + (names.empty() ? "none" : names));
}

}  // namespace adamantine
