// A register of float32 numbers as the T of a rule. Where codes are read and written beside the arithmetic,
// compilers do not find the vectors by themselves.

#if defined(__AVX512F__)
constexpr std::size_t kLanes = 16;
#elif defined(__AVX2__)
constexpr std::size_t kLanes = 8;
#else
constexpr std::size_t kLanes = 4;
#endif
using Floats = float __attribute__((vector_size(4 * kLanes)));
using Ints = std::int32_t __attribute__((vector_size(4 * kLanes)));
using Words = std::uint32_t __attribute__((vector_size(4 * kLanes)));
using Halves = std::uint16_t __attribute__((vector_size(2 * kLanes)));
using Bytes = std::uint8_t __attribute__((vector_size(kLanes)));
static_assert(kCodeBlock % (2 * kLanes) == 0);

struct Mask {
  Ints x;
};

struct Lanes {
  Floats x;
  Lanes() = default;
  ADAMANTINE_INLINE Lanes(Floats each) : x(each) {}
  template <class Number>
    requires std::is_arithmetic_v<Number>
  ADAMANTINE_INLINE explicit Lanes(Number all) : x(static_cast<float>(all) - Floats{}) {}
};

ADAMANTINE_INLINE Lanes operator+(Lanes a, Lanes b) { return a.x + b.x; }
ADAMANTINE_INLINE Lanes operator-(Lanes a, Lanes b) { return a.x - b.x; }
ADAMANTINE_INLINE Lanes operator*(Lanes a, Lanes b) { return a.x * b.x; }
ADAMANTINE_INLINE Lanes operator/(Lanes a, Lanes b) { return a.x / b.x; }
ADAMANTINE_INLINE Lanes operator-(Lanes a) { return -a.x; }
ADAMANTINE_INLINE Mask operator<(Lanes a, Lanes b) { return {a.x < b.x}; }
ADAMANTINE_INLINE Mask operator>(Lanes a, Lanes b) { return {a.x > b.x}; }
ADAMANTINE_INLINE Mask operator<=(Lanes a, Lanes b) { return {a.x <= b.x}; }
ADAMANTINE_INLINE Mask operator>=(Lanes a, Lanes b) { return {a.x >= b.x}; }
ADAMANTINE_INLINE Mask operator==(Lanes a, Lanes b) { return {a.x == b.x}; }
ADAMANTINE_INLINE Mask operator!=(Lanes a, Lanes b) { return {a.x != b.x}; }
ADAMANTINE_INLINE Mask operator||(Mask a, Mask b) { return {a.x | b.x}; }

ADAMANTINE_INLINE Lanes where(Mask condition, Lanes x, Lanes y) { return condition.x ? x.x : y.x; }
ADAMANTINE_INLINE Lanes absolute(Lanes a) { return (Floats)((Ints)a.x & 0x7FFFFFFF); }
ADAMANTINE_INLINE bool is_none(Lanes a) { return a.x[0] != a.x[0]; }

ADAMANTINE_INLINE Lanes sqrt(Lanes a) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_sqrt_ps(0xFFFF, (__m512)a.x);  // masked by all: GCC 12 warns of the plain one's header
#elif defined(__AVX2__)
  return (Floats)_mm256_sqrt_ps((__m256)a.x);
#elif defined(__SSE2__)
  return (Floats)_mm_sqrt_ps((__m128)a.x);
#else
  for (std::size_t i = 0; i < kLanes; ++i) a.x[i] = __builtin_sqrtf(a.x[i]);
  return a;
#endif
}

ADAMANTINE_INLINE Lanes load(const float* at) {
  Floats x;
  std::memcpy(&x, at, sizeof x);
  return x;
}

ADAMANTINE_INLINE void store(float* at, Lanes a) { std::memcpy(at, &a.x, sizeof a.x); }

ADAMANTINE_INLINE Ints larger(Ints a, Ints b) { return a > b ? a : b; }
ADAMANTINE_INLINE Words larger(Words a, Words b) { return a > b ? a : b; }
ADAMANTINE_INLINE Ints smaller(Ints a, Ints b) { return a < b ? a : b; }

// By fours: a loop over all lanes takes them out one at a time.
using Four = std::uint32_t __attribute__((vector_size(16)));
struct Fours {
  Four part[kLanes / 4];
};

ADAMANTINE_INLINE std::uint32_t largest(Words a) {
  const auto fours = std::bit_cast<Fours>(a);
  Four most = fours.part[0];
  for (std::size_t i = 1; i < kLanes / 4; ++i) most = most > fours.part[i] ? most : fours.part[i];
  const std::uint32_t even = most[0] > most[2] ? most[0] : most[2], odd = most[1] > most[3] ? most[1] : most[3];
  return even > odd ? even : odd;
}

ADAMANTINE_INLINE std::int32_t total(Ints a) {
  const auto fours = std::bit_cast<Fours>(a);
  Four sum = fours.part[0];
  for (std::size_t i = 1; i < kLanes / 4; ++i) sum += fours.part[i];
  return static_cast<std::int32_t>(sum[0] + sum[1] + sum[2] + sum[3]);
}

// 0, 1, 2, …
ADAMANTINE_INLINE Words lane_numbers() {
  Words numbers;
  for (std::size_t i = 0; i < kLanes; ++i) numbers[i] = static_cast<std::uint32_t>(i);
  return numbers;
}

// By hand: compilers widen a byte twice, and narrow it twice.
ADAMANTINE_INLINE Ints widen(const std::uint8_t* bytes) {
#if defined(__AVX512F__)
  return (Ints)_mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
#elif defined(__SSE4_1__)
  int four;
  std::memcpy(&four, bytes, sizeof four);
  return (Ints)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
#else
  Bytes narrow;
  std::memcpy(&narrow, bytes, sizeof narrow);
  return __builtin_convertvector(narrow, Ints);
#endif
}

ADAMANTINE_INLINE Words widen(const std::uint16_t* halves) {
#if defined(__AVX512F__)
  return (Words)_mm512_maskz_cvtepu16_epi32(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
#elif defined(__SSE4_1__)
  return (Words)_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(halves)));
#else
  Halves narrow;
  std::memcpy(&narrow, halves, sizeof narrow);
  return __builtin_convertvector(narrow, Words);
#endif
}

// The lowest byte of each.
ADAMANTINE_INLINE void narrow(Ints wide, std::uint8_t* bytes) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), _mm512_maskz_cvtepi32_epi8(0xFFFF, (__m512i)wide));
#elif defined(__AVX2__)
  const __m256i four = _mm256_shuffle_epi8((__m256i)wide, _mm256_set1_epi32(0x0C080400));
  const std::int32_t low = _mm256_extract_epi32(four, 0), high = _mm256_extract_epi32(four, 4);
  std::memcpy(bytes, &low, sizeof low);
  std::memcpy(bytes + 4, &high, sizeof high);
#elif defined(__SSE4_1__)
  const int four = _mm_cvtsi128_si32(_mm_shuffle_epi8((__m128i)wide, _mm_set1_epi32(0x0C080400)));
  std::memcpy(bytes, &four, sizeof four);
#else
  const Bytes low = __builtin_convertvector(wide, Bytes);
  std::memcpy(bytes, &low, sizeof low);
#endif
}
