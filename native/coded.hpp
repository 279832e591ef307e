// A step whose slots lie in blocks: a tile at a time, in lanes. Codes of 8 bits are read where a rule needs them, and
// what a block holds is seen on the way.

struct Slot {
  const std::uint8_t* codes;  // of 8 bits, read on the way; else null, and the numbers are there
  const std::int32_t* headers;
  bool is_signed;
  float* numbers;
};

struct Opened {
  std::int32_t h;
  float scale;
};

ADAMANTINE_INLINE Opened open(const Slot& slot, std::size_t b) {
  if (slot.codes == nullptr) return {0, 0.0f};
  const std::int32_t header = slot.headers[b], k = header & 7;
  return {slot.is_signed ? distance<BlockCode<8, true>>(k) : distance<BlockCode<8, false>>(k), floats(header & -128)};
}

ADAMANTINE_INLINE Lanes read(const Slot& slot, const Opened& opened, std::size_t i) {
  if (slot.codes == nullptr) return load(slot.numbers + i);
  const Ints c = widen(slot.codes + i);
  return slot.is_signed ? decode<BlockCode<8, true>>(c, opened.h, opened.scale)
                        : decode<BlockCode<8, false>>(c, opened.h, opened.scale);
}

// Full blocks. Slots are left as numbers.
template <Form form, class Rule, std::size_t... k>
ADAMANTINE_ONCE void run_blocks(const Rule& rule, const Numbers<Lanes>& numbers, const Streams& streams,
                                std::size_t start, std::size_t stop, float* theta, const float* g, std::size_t count,
                                const Slot* slots, Blocks* blocks, std::index_sequence<k...>) {
  const bool asks = size_of(streams.theta_type) == 2;
  const Slot here[] = {slots[k]...};
  for (std::size_t b = 0; b < count; ++b) {
    if (asks && start + b * kCodeBlock + kTile < stop) ask_ahead(streams, start + b * kCodeBlock + kTile, sizeof...(k));
    const Opened opened[] = {open(here[k], b)...};
    Tally tallies[sizeof...(k)];
    for (std::size_t i = b * kCodeBlock; i < (b + 1) * kCodeBlock; i += kLanes) {
      ask(theta + i);
      ask(g + i);
      Lanes theta_at = load(theta + i);
      Lanes at[] = {read(here[k], opened[k], i)...};
      advance<form>(rule, numbers, theta_at, load(g + i), at[k]...);
      store(theta + i, theta_at);
      (store(here[k].numbers + i, at[k]), ...);
      (tallies[k].add(at[k]), ...);
    }
    (blocks[k].put(b, tallies[k].found(here[k].numbers + b * kCodeBlock)), ...);
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
  for (std::size_t i = start; i < stop; i += kTile) {
    const std::size_t n = stop - i < kTile ? stop - i : kTile;
    const bool is_full = n % kCodeBlock == 0;
    float* const theta = open_theta(streams, i, n, tiles[0]);
    const float* g = open_dense(const_cast<std::byte*>(streams.g), streams.g_type, i, n, tiles[1]);  // read only
    const auto is_read_later = [&](std::size_t slot) {
      const Code code = streams.codes[slot];
      return is_full && (code == Code::signed8 || code == Code::unsigned8);
    };
    float* opened[] = {is_read_later(k) ? tiles[2 + k] : open_slot(streams, k, i, n, tiles[2 + k])...};
    for (std::size_t slot = 0; slot < sizeof...(k); ++slot) {
      if (streams.codes[slot] != Code::relative4) continue;
      const std::size_t partner = streams.partners[slot];
      if (is_read_later(partner)) open_blocks(streams, partner, i, n, opened[partner]);
    }
    relate(streams, sizeof...(k), opened, n);
    const auto slot_of = [&](std::size_t slot) -> Slot {
      float* const there = is_full ? opened[slot] : filled(opened[slot], n, tiles[2 + slot]);
      if (!is_read_later(slot)) return {nullptr, nullptr, false, there};
      return {reinterpret_cast<const std::uint8_t*>(streams.slots[slot]) + i, streams.headers[slot] + i / kCodeBlock,
              streams.codes[slot] == Code::signed8, there};
    };
    const Slot slots[] = {slot_of(k)...};
    float* const there = is_full ? theta : filled(theta, n, tiles[0]);
    run_blocks<form>(rule, numbers, streams, i, stop, there, is_full ? g : filled(g, n, tiles[1]), blocks_of(n), slots,
                     blocks, places);
    if (!is_full) {
      if (theta != there) std::memcpy(theta, there, n * sizeof(float));
      for (std::size_t slot = 0; slot < sizeof...(k); ++slot) {
        if (streams.codes[slot] != Code::none) find_blocks(slots[slot].numbers, n, blocks[slot]);
        if (opened[slot] != slots[slot].numbers) std::memcpy(opened[slot], slots[slot].numbers, n * sizeof(float));
      }
    }
    close_theta(streams, i, n, theta);
    close_slots(streams, sizeof...(k), i, n, opened, blocks, tiles[1]);
  }
}
