// From memory to the tiles of numbers that a rule sees, and back. One copy of each loop, whatever the rule.

template <class Stored>
ADAMANTINE_ONCE void decode_tile(const std::byte* memory, std::size_t n, float* tile) {
  const auto* stored = reinterpret_cast<const Stored*>(memory);
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) tile[i] = decode(stored[i]);
}

template <class Stored>
ADAMANTINE_ONCE void encode_tile(const float* tile, std::size_t n, std::byte* memory) {
  auto* stored = reinterpret_cast<Stored*>(memory);
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) encode(tile[i], stored[i]);
}

// A stream's next n elements as numbers: where they lie, or decoded into `tile`.
ADAMANTINE_INLINE float* open_dense(std::byte* stream, DType type, std::size_t start, std::size_t n, float* tile) {
  std::byte* memory = stream + start * size_of(type);
  if (type == DType::float32) return reinterpret_cast<float*>(memory);
  if (type == DType::bfloat16) {
    decode_tile<BFloat16>(memory, n, tile);
  } else {
    decode_tile<Float16>(memory, n, tile);
  }
  return tile;
}

ADAMANTINE_INLINE void close_dense(std::byte* stream, DType type, std::size_t start, std::size_t n, const float* tile) {
  std::byte* memory = stream + start * size_of(type);
  if (type == DType::bfloat16) encode_tile<BFloat16>(tile, n, memory);
  if (type == DType::float16) encode_tile<Float16>(tile, n, memory);
}

// In double nothing dense is of another type.
ADAMANTINE_INLINE double* open_dense(std::byte* stream, DType, std::size_t start, std::size_t, double*) {
  return reinterpret_cast<double*>(stream) + start;
}
ADAMANTINE_INLINE void close_dense(std::byte*, DType, std::size_t, std::size_t, const double*) {}

// Weights of 16 bits that are not simply rounded to nearest. `start` counts from the tensor's first element.

// By which random words are drawn: modulo 2^32, as in the texts.
ADAMANTINE_INLINE std::int32_t index_of(std::size_t element) { return static_cast<std::int32_t>(element); }

// Of 2·kLanes elements from a multiple of that on, as they follow each other.
struct HalfWords {
  std::uint16_t of[2 * kLanes];
};
ADAMANTINE_INLINE HalfWords half_words(std::size_t first, std::uint32_t low, std::uint32_t high) {
  const auto pair = static_cast<std::uint32_t>(index_of(first) >> 1);
  Words both = word(pair + lane_numbers(), low, high);
  if constexpr (std::endian::native == std::endian::big) both = both << 16 | both >> 16;  // the low half comes first
  return std::bit_cast<HalfWords>(both);
}

ADAMANTINE_ONCE void encode_stochastic(const float* tile, std::size_t start, std::size_t n, std::uint32_t low,
                                       std::uint32_t high, BFloat16* theta) {
  std::size_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const HalfWords halves = half_words(start + i, low, high);
    stochastic(load(tile + i), widen(halves.of), theta + i);
    stochastic(load(tile + i + kLanes), widen(halves.of + kLanes), theta + i + kLanes);
  }
  for (; i < n; ++i) encode(tile[i], half_word(index_of(start + i), low, high), theta[i]);
}

// In three loops, since GCC vectorizes each and not all in one.
ADAMANTINE_ONCE void encode_stochastic(const float* tile, std::size_t start, std::size_t n, std::uint32_t low,
                                       std::uint32_t high, Float16* theta) {
  std::uint16_t halves[kTile];
  for (std::size_t i = 0; i < n; i += 2 * kLanes) {
    const HalfWords some = half_words(start + i, low, high);
    std::memcpy(halves + i, some.of, sizeof some);
  }
  alignas(64) float rounded[kTile];
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) rounded[i] = stochastic_float16(tile[i], halves[i]);
  encode_tile<Float16>(rounded, n, reinterpret_cast<std::byte*>(theta));
}

template <class Half>
ADAMANTINE_ONCE void decode_kahan(const Half* theta, const Half* residual, std::size_t n, float* tile) {
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) tile[i] = decode(theta[i]) + decode(residual[i]);
}

template <class Half>
ADAMANTINE_ONCE void encode_kahan(const float* tile, std::size_t n, Half* theta, Half* residual) {
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) {
    const float master = tile[i];
    Half nearest;
    encode(master, nearest);
    theta[i] = nearest;
    encode(master - decode(nearest), residual[i]);
  }
}

ADAMANTINE_ONCE void decode_split16(const BFloat16* theta, const std::int16_t* residual, std::size_t n, float* tile) {
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) tile[i] = join16(theta[i], residual[i]);
}

ADAMANTINE_ONCE void encode_split16(const float* tile, std::size_t n, BFloat16* theta, std::int16_t* residual) {
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) split16(tile[i], theta[i], residual[i]);
}

ADAMANTINE_ONCE void decode_split8(const BFloat16* theta, const std::int8_t* residual, std::size_t n, float* tile) {
  ADAMANTINE_INDEPENDENT
  for (std::size_t i = 0; i < n; ++i) tile[i] = join8(theta[i], residual[i]);
}

ADAMANTINE_ONCE void encode_split8(const float* tile, std::size_t start, std::size_t n, std::uint32_t high,
                                   BFloat16* theta, std::int8_t* residual) {
  for (std::size_t i = 0; i < n; i += kCodeBlock) {
    const std::uint32_t first = phase(0, static_cast<std::uint32_t>((start + i) / kCodeBlock), high, kMaxSlots);
    const std::size_t count = n - i < kCodeBlock ? n - i : kCodeBlock;
    ADAMANTINE_INDEPENDENT
    for (std::size_t j = 0; j < count; ++j) {
      split8(tile[i + j], first + static_cast<std::uint32_t>(j) * WITHIN, theta[i + j], residual[i + j]);
    }
  }
}

ADAMANTINE_INLINE float* open_theta(const Streams& streams, std::size_t start, std::size_t n, float* tile) {
  const Weights weights = streams.weights;
  if (streams.theta_type == DType::bfloat16) {
    const auto* theta = reinterpret_cast<BFloat16*>(streams.theta) + start;
    if (weights == Weights::kahan) {
      decode_kahan(theta, reinterpret_cast<BFloat16*>(streams.residual) + start, n, tile);
      return tile;
    }
    if (weights == Weights::split8) {
      decode_split8(theta, reinterpret_cast<std::int8_t*>(streams.residual) + start, n, tile);
      return tile;
    }
    if (weights == Weights::split16) {
      decode_split16(theta, reinterpret_cast<std::int16_t*>(streams.residual) + start, n, tile);
      return tile;
    }
  } else if (streams.theta_type == DType::float16 && weights == Weights::kahan) {
    const auto* theta = reinterpret_cast<Float16*>(streams.theta) + start;
    decode_kahan(theta, reinterpret_cast<Float16*>(streams.residual) + start, n, tile);
    return tile;
  }
  return open_dense(streams.theta, streams.theta_type, start, n, tile);
}

ADAMANTINE_INLINE void close_theta(const Streams& streams, std::size_t start, std::size_t n, const float* tile) {
  const Weights weights = streams.weights;
  if (streams.theta_type == DType::bfloat16 && weights != Weights::nearest) {
    auto* theta = reinterpret_cast<BFloat16*>(streams.theta) + start;
    if (weights == Weights::stochastic) encode_stochastic(tile, start, n, streams.low, streams.high, theta);
    if (weights == Weights::kahan) encode_kahan(tile, n, theta, reinterpret_cast<BFloat16*>(streams.residual) + start);
    if (weights == Weights::split8) {
      encode_split8(tile, start, n, streams.high, theta, reinterpret_cast<std::int8_t*>(streams.residual) + start);
    }
    if (weights == Weights::split16) {
      encode_split16(tile, n, theta, reinterpret_cast<std::int16_t*>(streams.residual) + start);
    }
  } else if (streams.theta_type == DType::float16 && weights != Weights::nearest) {
    auto* theta = reinterpret_cast<Float16*>(streams.theta) + start;
    if (weights == Weights::stochastic) encode_stochastic(tile, start, n, streams.low, streams.high, theta);
    if (weights == Weights::kahan) encode_kahan(tile, n, theta, reinterpret_cast<Float16*>(streams.residual) + start);
  } else {
    close_dense(streams.theta, streams.theta_type, start, n, tile);
  }
}

ADAMANTINE_INLINE double* open_theta(const Streams& streams, std::size_t start, std::size_t, double*) {
  return reinterpret_cast<double*>(streams.theta) + start;
}
ADAMANTINE_INLINE void close_theta(const Streams&, std::size_t, std::size_t, const double*) {}

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
