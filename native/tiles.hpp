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
