// One step over many arrays: pieces of memory, each with its order, cut into equal items of work.
#pragma once

#include <vector>

#include "kernel.hpp"

namespace adamantine {

// What to do with a piece: the rule's code in one of its forms, and the host's numbers.
struct Order {
  const RuleKernels* rule;
  std::size_t form;
  Row row;
};

class Pieces {
 public:
  // Neighbours in memory with the same order become one piece.
  void add(const Streams& streams, std::size_t count, std::uint32_t order);

  void run(const std::vector<Order>& orders, std::size_t threads) const;

 private:
  struct Piece {
    Streams streams;
    std::size_t count;
    std::uint32_t order;
  };
  std::vector<Piece> pieces_;
  std::vector<std::size_t> first_;  // all elements laid end to end in thought: where each piece begins
  std::size_t total_ = 0;
};

// How many threads a pass over so many elements is worth.
std::size_t threads_for(std::size_t elements, std::size_t threads);

}  // namespace adamantine
