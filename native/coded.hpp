// A step whose slots lie in blocks: a tile at a time, in lanes. What a block holds is seen on the way, and where every
// slot has codes of 8 bits, they are read where the rule needs them, and so are weights and gradients in bfloat16.

struct Slot {
  const std::uint8_t* codes;
  const std::int32_t* headers;
  float* numbers;
};

// Which of a rule's slots have no sign is known here, so that the loops need not ask.
template <class Rule, std::size_t k>
constexpr bool is_unsigned() {
  for (const char* letter = Rule::text.unsigneds; *letter; ++letter) {
    if (*letter == Rule::text.slots[2 * k]) return true;
  }
  return false;
}
template <class Rule, std::size_t k>
using Code8 = BlockCode<8, !is_unsigned<Rule, k>()>;
template <class Rule, std::size_t k>
constexpr Code kCode8 = is_unsigned<Rule, k>() ? Code::unsigned8 : Code::signed8;

enum class From { codes, numbers };

template <From from, class Code8>
ADAMANTINE_INLINE Lanes read(const Slot& slot, std::size_t i, std::int32_t header) {
  if constexpr (from == From::numbers) return load(slot.numbers + i);
  return decode<Code8>(widen(slot.codes + i), header);
}

// Full blocks. The slots' new numbers are left in `numbers`.
template <From from, Form form, class Rule, class Stored, std::size_t... k>
ADAMANTINE_ONCE void run_blocks(const Rule& given_rule, const Numbers<Lanes>& given_numbers, const Streams& streams,
                                std::size_t start, std::size_t stop, const Stored* theta, const Stored* g,
                                float* new_theta, std::size_t count, const Slot* given_slots, Blocks* blocks,
                                std::index_sequence<k...>) {
  // Copies, which no store can be thought to change: they stay in registers.
  const Rule rule = given_rule;
  const Numbers<Lanes> numbers = given_numbers;
  const Slot slots[] = {given_slots[k]...};
  const bool asks = size_of(streams.theta_type) == 2;
  for (std::size_t b = 0; b < count; ++b) {
    if (asks && start + b * kCodeBlock + kTile < stop) ask_ahead(streams, start + b * kCodeBlock + kTile, sizeof...(k));
    const std::int32_t headers[] = {(from == From::numbers ? 0 : slots[k].headers[b])...};
    Tally tallies[sizeof...(k)];
    for (std::size_t i = b * kCodeBlock; i < (b + 1) * kCodeBlock; i += kLanes) {
      ask(theta + i);
      ask(g + i);
      Lanes theta_at = load(theta + i);
      Lanes at[] = {read<from, Code8<Rule, k>>(slots[k], i, headers[k])...};
      advance<form>(rule, numbers, theta_at, load(g + i), at[k]...);
      store(new_theta + i, theta_at);
      (store(slots[k].numbers + i, at[k]), ...);
      (tallies[k].add(at[k]), ...);
    }
    (blocks[k].put(b, tallies[k].found(slots[k].numbers + b * kCodeBlock)), ...);
  }
}

// Where the last block is not full: the n numbers with zeros behind them, in a tile.
ADAMANTINE_INLINE float* filled(const float* numbers, std::size_t n, float* tile) {
  if (numbers != tile) std::memcpy(tile, numbers, n * sizeof(float));
  std::memset(tile + n, 0, (blocks_of(n) * kCodeBlock - n) * sizeof(float));
  return tile;
}

template <class Rule, Form form, std::size_t... k>
ADAMANTINE_INLINE void step_coded(const Row& row, const Streams& streams, std::size_t start, std::size_t stop,
                                  std::index_sequence<k...> places) {
  const auto rule = rule_of<Rule, Lanes>(row);
  const auto numbers = numbers_of<Lanes>(row);
  alignas(64) float tiles[2 + kMaxSlots][kTile];
  Blocks blocks[sizeof...(k)];
  const bool has_bytes = ((streams.codes[k] == kCode8<Rule, k>) && ...);
  const bool has_bfloat16 = streams.theta_type == DType::bfloat16 && streams.g_type == DType::bfloat16 &&
                            (streams.weights == Weights::nearest || streams.weights == Weights::stochastic);
  for (std::size_t i = start; i < stop; i += kTile) {
    const std::size_t n = stop - i < kTile ? stop - i : kTile;
    const bool is_full = n % kCodeBlock == 0;
    const auto coded_at = [&](std::size_t slot) -> Slot {
      return {reinterpret_cast<const std::uint8_t*>(streams.slots[slot]) + i,
              streams.headers[slot] == nullptr ? nullptr : streams.headers[slot] + i / kCodeBlock, tiles[2 + slot]};
    };
    const Slot coded[] = {coded_at(k)...};
    float* opened[] = {tiles[2 + k]...};
    if (has_bytes && is_full && has_bfloat16) {
      const auto* theta = reinterpret_cast<const BFloat16*>(streams.theta) + i;
      const auto* g = reinterpret_cast<const BFloat16*>(streams.g) + i;
      run_blocks<From::codes, form>(rule, numbers, streams, i, stop, theta, g, tiles[0], n / kCodeBlock, coded, blocks,
                                    places);
      close_theta(streams, i, n, tiles[0]);
      close_slots(streams, sizeof...(k), i, n, opened, blocks, tiles[1]);
      continue;
    }
    float* const theta = open_theta(streams, i, n, tiles[0]);
    const float* const g = open_dense(const_cast<std::byte*>(streams.g), streams.g_type, i, n, tiles[1]);  // read only
    if (has_bytes && is_full) {
      run_blocks<From::codes, form>(rule, numbers, streams, i, stop, static_cast<const float*>(theta), g, theta,
                                    n / kCodeBlock, coded, blocks, places);
    } else {
      ((opened[k] = open_slot(streams, k, i, n, tiles[2 + k])), ...);
      relate(streams, sizeof...(k), opened, n);
      float* const there[] = {is_full ? opened[k] : filled(opened[k], n, tiles[2 + k])...};
      const Slot slots[] = {{nullptr, nullptr, there[k]}...};
      float* const new_theta = is_full ? theta : filled(theta, n, tiles[0]);
      run_blocks<From::numbers, form>(rule, numbers, streams, i, stop, static_cast<const float*>(new_theta),
                                      is_full ? g : filled(g, n, tiles[1]), new_theta, blocks_of(n), slots, blocks,
                                      places);
      if (!is_full) {
        if (theta != new_theta) std::memcpy(theta, new_theta, n * sizeof(float));
        for (std::size_t slot = 0; slot < sizeof...(k); ++slot) {
          if (streams.codes[slot] != Code::none) find_blocks(there[slot], n, blocks[slot]);
          if (opened[slot] != there[slot]) std::memcpy(opened[slot], there[slot], n * sizeof(float));
        }
      }
    }
    close_theta(streams, i, n, theta);
    close_slots(streams, sizeof...(k), i, n, opened, blocks, tiles[1]);
  }
}
