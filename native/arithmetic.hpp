// What rule texts may call beside + - * /, with NumPy's results. All of it vectorizes; none of it is contracted.

ADAMANTINE_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
ADAMANTINE_INLINE double sqrt(double x) { return __builtin_sqrt(x); }
ADAMANTINE_INLINE float absolute(float x) { return __builtin_fabsf(x); }
ADAMANTINE_INLINE double absolute(double x) { return __builtin_fabs(x); }

template <class T>
ADAMANTINE_INLINE T where(bool condition, T x, T y) {
  return condition ? x : y;
}

// A NaN on either side wins.
template <class T>
ADAMANTINE_INLINE T maximum(T x, T y) {
  return where(x >= y || x != x, x, y);
}

// -1, 0 or 1; NaN stays NaN.
template <class T>
ADAMANTINE_INLINE T sign(T x) {
  return where(x > T(0), T(1), where(x < T(0), T(-1), where(x == T(0), T(0), x)));
}

// A scalar that Python gives as None arrives as NaN.
template <class T>
ADAMANTINE_INLINE bool is_none(T x) {
  return x != x;
}
