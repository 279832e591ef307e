// Several threads for one step: torch's own where they can be had, else a small pool that sleeps between steps.
#pragma once

#include <cstddef>
#include <type_traits>

namespace adamantine {

using Task = void (*)(void* context, std::size_t item);

// task(context, i) for every i < items, on at most `threads` threads, the caller among them.
// Which thread takes which item is not defined; the caller's results must not depend on it.
void parallel(std::size_t items, std::size_t threads, Task task, void* context);

template <class Function>
void parallel(std::size_t items, std::size_t threads, Function&& function) {
  parallel(
      items, threads,
      [](void* context, std::size_t item) { (*static_cast<std::remove_reference_t<Function>*>(context))(item); },
      const_cast<void*>(static_cast<const void*>(&function)));
}

}  // namespace adamantine
