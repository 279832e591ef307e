// Slots in tiles: dense, in blocks, and in units of another's root.

// Slots in blocks: of all tiles only a tensor's last one holds a block that is not full. Its numbers are zeros beyond
// the tensor.

template <class Code>
constexpr std::size_t bytes_of(std::size_t n) {
  return Code::bits == 8 ? n : (n + 1) / 2;
}

constexpr std::size_t blocks_of(std::size_t n) { return (n + kCodeBlock - 1) / kCodeBlock; }
constexpr std::size_t left_of(std::size_t n, std::size_t b) {
  return n - b * kCodeBlock < kCodeBlock ? n - b * kCodeBlock : kCodeBlock;
}

template <class Code>
ADAMANTINE_ONCE void decode_blocks(const std::uint8_t* codes, const std::int32_t* headers, std::size_t n, float* tile) {
  for (std::size_t b = 0; b < blocks_of(n); ++b, codes += bytes_of<Code>(kCodeBlock)) {
    decode_block<Code>(codes, left_of(n, b), headers[b], tile + b * kCodeBlock);
  }
}

template <class Code>
ADAMANTINE_ONCE void encode_blocks(const float* tile, std::size_t start, std::size_t n, std::uint32_t high,
                                   std::uint32_t slot, Blocks& blocks, std::uint8_t* codes, std::int32_t* headers) {
  choose<Code>(blocks);
  for (std::size_t b = 0; b < blocks_of(n); ++b) {
    const float* x = tile + b * kCodeBlock;
    const std::size_t count = left_of(n, b);
    const std::uint32_t first = phase(0, static_cast<std::uint32_t>(start / kCodeBlock + b), high, slot);
    std::uint8_t* at = codes + b * bytes_of<Code>(kCodeBlock);
    headers[b] = blocks.header[b];
    if (!is_stored(headers[b])) {
      std::memset(at, 0, bytes_of<Code>(count));
    } else if (blocks.count[b] == kCodeBlock) {
      encode_block<Code, false>(x, count, first, blocks.inverse[b], blocks.distance[b], at);
    } else {
      encode_block<Code, true>(x, count, first, blocks.inverse[b], blocks.distance[b], at);
    }
  }
}

// What a tile's blocks hold, where it was not seen on the way.
ADAMANTINE_ONCE void find_blocks(float* tile, std::size_t n, Blocks& blocks) {
  for (std::size_t i = n; i < blocks_of(n) * kCodeBlock; ++i) tile[i] = 0.0f;
  for (std::size_t b = 0; b < blocks_of(n); ++b) blocks.put(b, find(tile + b * kCodeBlock));
}

template <class Visitor>
ADAMANTINE_INLINE void with_code(Code code, Visitor&& visit) {
  if (code == Code::signed8) visit(BlockCode<8, true>{});
  if (code == Code::unsigned8) visit(BlockCode<8, false>{});
  if (code == Code::signed4) visit(BlockCode<4, true>{});
  if (code == Code::unsigned4) visit(BlockCode<4, false>{});
  if (code == Code::relative4) visit(BlockCode<4, true, true>{});
}

ADAMANTINE_INLINE void open_blocks(const Streams& streams, std::size_t k, std::size_t start, std::size_t n,
                                   float* tile) {
  with_code(streams.codes[k], [&](auto code) {
    const auto* codes = reinterpret_cast<const std::uint8_t*>(streams.slots[k]) + bytes_of<decltype(code)>(start);
    decode_blocks<decltype(code)>(codes, streams.headers[k] + start / kCodeBlock, n, tile);
  });
}

ADAMANTINE_INLINE void close_blocks(const Streams& streams, std::size_t k, std::size_t start, std::size_t n,
                                    const float* tile, Blocks& blocks) {
  with_code(streams.codes[k], [&](auto code) {
    auto* codes = reinterpret_cast<std::uint8_t*>(streams.slots[k]) + bytes_of<decltype(code)>(start);
    encode_blocks<decltype(code)>(tile, start, n, streams.high, static_cast<std::uint32_t>(k), blocks, codes,
                                  streams.headers[k] + start / kCodeBlock);
  });
}

ADAMANTINE_INLINE float* open_slot(const Streams& streams, std::size_t k, std::size_t start, std::size_t n,
                                   float* tile) {
  if (streams.codes[k] == Code::none) return open_dense(streams.slots[k], streams.slot_types[k], start, n, tile);
  open_blocks(streams, k, start, n, tile);
  return tile;
}

// `blocks` is what was seen of the numbers.
ADAMANTINE_INLINE void close_slot(const Streams& streams, std::size_t k, std::size_t start, std::size_t n,
                                  const float* tile, Blocks& blocks) {
  if (streams.codes[k] == Code::none) return close_dense(streams.slots[k], streams.slot_types[k], start, n, tile);
  close_blocks(streams, k, start, n, tile, blocks);
}

ADAMANTINE_INLINE double* open_slot(const Streams& streams, std::size_t k, std::size_t start, std::size_t n,
                                    double* tile) {
  if (streams.codes[k] == Code::none) return open_dense(streams.slots[k], DType::float64, start, n, tile);
  alignas(64) float numbers[kTile];
  open_blocks(streams, k, start, n, numbers);
  for (std::size_t i = 0; i < n; ++i) tile[i] = numbers[i];
  return tile;
}

ADAMANTINE_INLINE void close_slot(const Streams& streams, std::size_t k, std::size_t start, std::size_t n,
                                  const double* tile, Blocks& blocks) {
  if (streams.codes[k] == Code::none) return;
  alignas(64) float numbers[kTile];
  for (std::size_t i = 0; i < n; ++i) numbers[i] = static_cast<float>(tile[i]);
  find_blocks(numbers, n, blocks);
  close_blocks(streams, k, start, n, numbers, blocks);
}

// Relative slots are opened after their partners, and closed after these, in units of what is kept of them.

template <class T>
ADAMANTINE_ONCE void times_root(T* tile, const T* v, std::size_t n) {
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) tile[i] = static_cast<float>(tile[i]) * root(static_cast<float>(v[i]));
}

template <class T>
ADAMANTINE_ONCE void over_root(T* tile, const T* v, std::size_t n) {
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) tile[i] = static_cast<float>(tile[i]) / root(static_cast<float>(v[i]));
}

template <class T>
ADAMANTINE_INLINE void relate(const Streams& streams, std::size_t count, T** slots, std::size_t n) {
  for (std::size_t k = 0; k < count; ++k) {
    if (streams.codes[k] == Code::relative4) times_root(slots[k], slots[streams.partners[k]], n);
  }
}

// A slot's numbers over the root of its partner's, and what the blocks hold then.
ADAMANTINE_ONCE void over_partner(float* m, const float* v, std::size_t n, Blocks& blocks) {
  if (n % kCodeBlock != 0) {
    over_root(m, v, n);
    return find_blocks(m, n, blocks);
  }
  for (std::size_t b = 0; b < blocks_of(n); ++b) {
    Tally tally;
    for (std::size_t i = b * kCodeBlock; i < (b + 1) * kCodeBlock; i += kLanes) {
      const Lanes ratio = load(m + i) / root(load(v + i));
      store(m + i, ratio);
      tally.add(ratio);
    }
    blocks.put(b, tally.found(m + b * kCodeBlock));
  }
}
ADAMANTINE_INLINE void over_partner(double* m, const double* v, std::size_t n, Blocks&) { over_root(m, v, n); }

template <class T>
ADAMANTINE_INLINE void close_slots(const Streams& streams, std::size_t count, std::size_t start, std::size_t n,
                                   T** slots, Blocks* blocks, T* spare) {
  for (std::size_t k = 0; k < count; ++k) {
    if (streams.codes[k] != Code::relative4) close_slot(streams, k, start, n, slots[k], blocks[k]);
  }
  for (std::size_t k = 0; k < count; ++k) {
    if (streams.codes[k] != Code::relative4) continue;
    over_partner(slots[k], open_slot(streams, streams.partners[k], start, n, spare), n, blocks[k]);
    close_slot(streams, k, start, n, slots[k], blocks[k]);
  }
}

// Ask for a block's worth of what is decoded, from element `start`. Beyond an array's end there is no harm; what a
// rule reads where it lies is asked for by `run`, not so far ahead.
ADAMANTINE_INLINE void ask_ahead(const Streams& streams, std::size_t start, std::size_t slots) {
  const auto each = [&](const std::byte* memory, std::size_t bits) {
    const std::byte* at = memory + start * bits / 8;
    for (std::size_t b = 0; b < kCodeBlock * bits / 8; b += kLine) __builtin_prefetch(at + b, 0, 3);
  };
  if (size_of(streams.theta_type) == 2) each(streams.theta, 16);
  if (size_of(streams.g_type) == 2) each(streams.g, 16);
  for (std::size_t k = 0; k < slots; ++k) {
    const Code code = streams.codes[k];
    if (code == Code::none) {
      if (size_of(streams.slot_types[k]) == 2) each(streams.slots[k], 16);
    } else {
      each(streams.slots[k], code == Code::signed8 || code == Code::unsigned8 ? 8 : 4);
    }
  }
}
