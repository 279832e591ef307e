// Which instruction set this process uses: the best that the CPU has, or the one that is asked for by name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernel.hpp"

namespace adamantine {

// Every target in this build that this CPU can run, the best last.
std::vector<const Kernels*> available();

// The named target, or the best for "".
// Throws std::invalid_argument, naming the choices, for one that is not available.
const Kernels& choose(std::string_view target);

}  // namespace adamantine
