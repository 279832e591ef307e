// The directions of src/adamantine/rules, in C++: the same letters, the same order of operations, so that a diff
// can be read by eye. Bit-equal to the float32 Python text (tests/native). Included once per instruction set,
// inside that set's namespace; T is float or double.
//
// A rule is its scalars, in the order of `text.scalars`, and `direction`, which returns u and writes the slots. T may
// also be a register of numbers (lanes.hpp).

struct Text {
  const char* name;
  const char* slots;           // letters, in the order of direction's arguments
  const char* scalars;         // names, in the order of the struct's members
  const char* unsigneds = "";  // letters of the slots that are never negative
};

template <class T>
struct Sgd {
  static constexpr Text text{"sgd", "", ""};
  T direction(T g) const { return g; }
};

template <class T>
struct HeavyBall {
  static constexpr Text text{"heavy_ball", "m", "mu one_minus_tau"};
  T mu, one_minus_tau;
  T direction(T g, T& m) const {
    m = mu * m + one_minus_tau * g;
    return m;
  }
};

template <class T>
struct Nesterov {
  static constexpr Text text{"nesterov", "m", "mu"};
  T mu;
  T direction(T g, T& m) const {
    m = mu * m + g;
    return g + mu * m;
  }
};

template <class T>
struct Adagrad {
  static constexpr Text text{"adagrad", "s", "kappa eps", "s"};
  T kappa, eps;
  T direction(T g, T& s) const {
    s = s + g * g;
    return kappa * (g / (sqrt(s) + eps));
  }
};

template <class T>
struct RMSprop {
  static constexpr Text text{"rmsprop", "v", "alpha one_minus_alpha eps", "v"};
  T alpha, one_minus_alpha, eps;
  T direction(T g, T& v) const {
    v = alpha * v + one_minus_alpha * (g * g);
    return g / (sqrt(v) + eps);
  }
};

template <class T>
struct RMSpropMomentum {
  static constexpr Text text{"rmsprop_momentum", "v b", "alpha one_minus_alpha eps mu", "v"};
  T alpha, one_minus_alpha, eps, mu;
  T direction(T g, T& v, T& b) const {
    v = alpha * v + one_minus_alpha * (g * g);
    b = mu * b + g / (sqrt(v) + eps);
    return b;
  }
};

template <class T>
struct RMSpropCentered {
  static constexpr Text text{"rmsprop_centered", "v a", "alpha one_minus_alpha eps", "v"};
  T alpha, one_minus_alpha, eps;
  T direction(T g, T& v, T& a) const {
    v = alpha * v + one_minus_alpha * (g * g);
    a = alpha * a + one_minus_alpha * g;
    return g / (sqrt(maximum(v - a * a, T(0))) + eps);
  }
};

template <class T>
struct RMSpropCenteredMomentum {
  static constexpr Text text{"rmsprop_centered_momentum", "v a b", "alpha one_minus_alpha eps mu", "v"};
  T alpha, one_minus_alpha, eps, mu;
  T direction(T g, T& v, T& a, T& b) const {
    v = alpha * v + one_minus_alpha * (g * g);
    a = alpha * a + one_minus_alpha * g;
    b = mu * b + g / (sqrt(maximum(v - a * a, T(0))) + eps);
    return b;
  }
};

template <class T>
struct Adam {
  static constexpr Text text{"adam", "m v", "beta1 one_minus_beta1 beta2 one_minus_beta2 inv_bias1 inv_bias2 eps", "v"};
  T beta1, one_minus_beta1, beta2, one_minus_beta2, inv_bias1, inv_bias2, eps;
  T direction(T g, T& m, T& v) const {
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * (g * g);
    const T m_hat = m * inv_bias1;
    const T v_hat = v * inv_bias2;
    return m_hat / (sqrt(v_hat) + eps);
  }
};

template <class T>
struct AMSGrad {
  static constexpr Text text{"amsgrad", "m v w", "beta1 one_minus_beta1 beta2 one_minus_beta2 inv_bias1 inv_bias2 eps",
                             "v w"};
  T beta1, one_minus_beta1, beta2, one_minus_beta2, inv_bias1, inv_bias2, eps;
  T direction(T g, T& m, T& v, T& w) const {
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * (g * g);
    w = maximum(w, v);
    const T m_hat = m * inv_bias1;
    const T w_hat = w * inv_bias2;
    return m_hat / (sqrt(w_hat) + eps);
  }
};

template <class T>
struct Adamax {
  static constexpr Text text{"adamax", "m n", "beta1 one_minus_beta1 beta2 inv_bias1 eps", "n"};
  T beta1, one_minus_beta1, beta2, inv_bias1, eps;
  T direction(T g, T& m, T& n) const {
    m = beta1 * m + one_minus_beta1 * g;
    n = maximum(beta2 * n, absolute(g) + eps);
    const T m_hat = m * inv_bias1;
    return m_hat / n;
  }
};

template <class T>
struct NAdam {
  static constexpr Text text{"nadam", "m v",
                             "beta1 one_minus_beta1 beta2 one_minus_beta2 inv_bias2 g_weight m_weight eps", "v"};
  T beta1, one_minus_beta1, beta2, one_minus_beta2, inv_bias2, g_weight, m_weight, eps;
  T direction(T g, T& m, T& v) const {
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * (g * g);
    const T v_hat = v * inv_bias2;
    return (g_weight * g + m_weight * m) / (sqrt(v_hat) + eps);
  }
};

template <class T>
struct RAdam {
  static constexpr Text text{"radam", "m v", "beta1 one_minus_beta1 beta2 one_minus_beta2 inv_bias1 rectify eps", "v"};
  T beta1, one_minus_beta1, beta2, one_minus_beta2, inv_bias1, rectify, eps;
  T direction(T g, T& m, T& v) const {
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * (g * g);
    const T m_hat = m * inv_bias1;
    if (is_none(rectify)) return m_hat;  // the same for all elements: the compiler takes it out of the loop
    return rectify * (m_hat / (sqrt(v) + eps));
  }
};

template <class T>
struct Lion {
  static constexpr Text text{"lion", "m", "beta1 one_minus_beta1 beta2 one_minus_beta2"};
  T beta1, one_minus_beta1, beta2, one_minus_beta2;
  T direction(T g, T& m) const {
    const T u = sign(beta1 * m + one_minus_beta1 * g);
    m = beta2 * m + one_minus_beta2 * g;
    return u;
  }
};

// src/adamantine/rules/arctan2.py.
template <class T>
ADAMANTINE_INLINE T arctan2(T y, T x) {
  const auto negative = y < T(0);
  const T a = where(negative, -y, y);
  const auto steep = a > T(1.8) * x;
  const auto flat = T(1.8) * a <= x;
  const T numerator = where(steep, -x, where(flat, a, a - x));
  const T denominator = where(steep, a, where(flat, x, a + x));
  T t = numerator / where(denominator == T(0), T(1), denominator);
  const T z = t * t;
  T p = T(-0.006855709766149441) * z + T(0.021228434518563998);
  p = p * z - T(0.03541510406727869);
  p = p * z + T(0.045209301605771114);
  p = p * z - T(0.05212621515901539);
  p = p * z + T(0.05874915040404563);
  p = p * z - T(0.06665907101863018);
  p = p * z + T(0.07692255240776492);
  p = p * z - T(0.090909067508782);
  p = p * z + T(0.11111111048674874);
  p = p * z - T(0.1428571428484525);
  p = p * z + T(0.1999999999999523);
  p = p * z - T(0.3333333333333333);
  t = t + t * (z * p);
  const T angle = where(steep, T(1.5707963267948966) + t, where(flat, t, T(0.7853981633974483) + t));
  return where(negative, -angle, angle);
}

template <class T>
struct AdamAtan2 {
  static constexpr Text text{"adam_atan2", "m v", "beta1 one_minus_beta1 beta2 one_minus_beta2 inv_bias1 inv_bias2",
                             "v"};
  T beta1, one_minus_beta1, beta2, one_minus_beta2, inv_bias1, inv_bias2;
  T direction(T g, T& m, T& v) const {
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * (g * g);
    const T m_hat = m * inv_bias1;
    const T v_hat = v * inv_bias2;
    return arctan2(m_hat, sqrt(v_hat));
  }
};

// Every rule of the kernel; a rule that is not here runs on the generic engine.
template <class T>
using Rules =
    List<Sgd<T>, HeavyBall<T>, Nesterov<T>, Adagrad<T>, RMSprop<T>, RMSpropMomentum<T>, RMSpropCentered<T>,
         RMSpropCenteredMomentum<T>, Adam<T>, AMSGrad<T>, Adamax<T>, NAdam<T>, RAdam<T>, Lion<T>, AdamAtan2<T>>;
