// src/adamantine/rules/apply.py in C++: the only place where decay meets θ.

// How a step treats the decay's two numbers: `coupled` adds couple·θ to the gradient, `cautious` looks at elements.
enum class Form { plain, coupled, cautious };

template <class T>
struct Numbers {
  T grad_scale, couple, shrink, eta;
};

template <class T>
ADAMANTINE_INLINE T scale(T g, T grad_scale) {
  return grad_scale * g;
}

template <class T>
ADAMANTINE_INLINE T penalize(T g, T theta, T couple) {
  return g + couple * theta;
}

template <class T>
ADAMANTINE_INLINE T step(T theta, T u, T shrink, T eta) {
  return shrink * theta - eta * u;
}

template <class T>
ADAMANTINE_INLINE T cautious_step(T theta, T u, T shrink, T eta) {
  return where(u * theta >= T(0), shrink * theta, theta) - eta * u;
}
