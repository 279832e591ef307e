#include "pieces.hpp"

#include <algorithm>
#include <iterator>

#include "threads.hpp"

namespace adamantine {
namespace {

// Elements per item of work: enough to be worth fetching, few enough to balance two threads.
constexpr std::size_t kGrain = 32768;
constexpr std::size_t kAlign = kCodeBlock;  // so that an item begins where a block of codes does
static_assert(kGrain % kAlign == 0);

// A thread is woken for at least this many elements: waking costs as much as some ten thousand updates.
constexpr std::size_t kElementsPerThread = 32768;

std::size_t round_up(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

// Whether each element is stored by itself: no block, and nothing that counts from the tensor's first element.
bool is_uniform(const Streams& streams) {
  return streams.weights == Weights::nearest &&
         std::all_of(std::begin(streams.codes), std::end(streams.codes), [](Code code) { return code == Code::none; });
}

// Follows from `piece` without a gap in every stream.
bool continues(const Streams& piece, std::size_t count, const Streams& next) {
  if (!is_uniform(piece) || !is_uniform(next)) return false;
  if (piece.theta_type != next.theta_type || piece.g_type != next.g_type) return false;
  if (piece.theta + count * size_of(piece.theta_type) != next.theta) return false;
  if (piece.g + count * size_of(piece.g_type) != next.g) return false;
  for (std::size_t k = 0; k < kMaxSlots; ++k) {
    if (piece.slots[k] == nullptr && next.slots[k] == nullptr) continue;
    if (piece.slot_types[k] != next.slot_types[k]) return false;
    if (piece.slots[k] + count * size_of(piece.slot_types[k]) != next.slots[k]) return false;
  }
  return true;
}

}  // namespace

std::size_t threads_for(std::size_t elements, std::size_t threads) {
  // One or all: OpenMP ends the threads that a smaller team leaves over, and torch would have to start them again.
  return elements < 2 * kElementsPerThread ? 1 : threads;
}

void Pieces::add(const Streams& streams, std::size_t count, std::uint32_t order) {
  if (count == 0) return;
  if (!pieces_.empty()) {
    Piece& last = pieces_.back();
    if (last.order == order && continues(last.streams, last.count, streams)) {
      total_ = first_.back() + round_up(last.count += count, kAlign);
      return;
    }
  }
  first_.push_back(total_);
  pieces_.push_back({streams, count, order});
  total_ += round_up(count, kAlign);
}

void Pieces::run(const std::vector<Order>& orders, std::size_t threads) const {
  parallel((total_ + kGrain - 1) / kGrain, threads_for(total_, threads), [&](std::size_t item) {
    const std::size_t begin = item * kGrain;
    const std::size_t end = std::min(total_, begin + kGrain);
    auto at = static_cast<std::size_t>(std::upper_bound(first_.begin(), first_.end(), begin) - first_.begin()) - 1;
    for (; at < pieces_.size() && first_[at] < end; ++at) {
      const Piece& piece = pieces_[at];
      const std::size_t start = begin > first_[at] ? begin - first_[at] : 0;
      const std::size_t stop = std::min(piece.count, end - first_[at]);
      if (start >= stop) continue;
      const Order& order = orders[piece.order];
      const std::size_t wide = piece.streams.theta_type == DType::float64 ? 1 : 0;
      order.rule->steps[wide][order.form](order.row, piece.streams, start, stop);
    }
  });
}

}  // namespace adamantine
