// Reading torch tensors without torch's headers: by torch's own C interface, by DLPack's C functions, or, with
// a torch that has neither, by the tensor's Python attributes. Needs the GIL.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <optional>
#include <string_view>
#include <vector>

#include "kernel.hpp"
#include "shim.hpp"

namespace adamantine {

namespace nb = nanobind;

// Why a tensor cannot be taken, in words that end "runs on the generic engine: …"; null where it can.
using Reason = const char*;

constexpr Reason kDType = "its dtype is not float32, float64, bfloat16 or float16";

struct View {
  std::byte* data;
  DType type;
  std::size_t count;
  int dimensions;
  const std::int64_t* shape;
  const std::int64_t* strides;  // in elements; null means row-major
};

// Where shape and strides lie that the protocol does not keep itself.
struct Scratch {
  std::vector<std::int64_t> shape, strides;
};

class Reader {
 public:
  // tensor_type: torch.Tensor; parameter_type: torch.nn.Parameter. Nothing derived from them is taken, since a
  // subclass need not lie in memory as it looks. protocol: "shim", "dlpack", "attributes" or "" for the fastest.
  Reader(nb::handle tensor_type, nb::handle parameter_type, std::string_view protocol);

  // Fills `view`, of any DType, whose shape and strides live as long as the tensor's and `scratch`; or returns the
  // reason.
  Reason read(PyObject* tensor, View& view, Scratch& scratch) const;

  // Whether a tensor that was read before still has its memory, dtype, shape and strides: the fast answer, of
  // which only a yes is sure.
  bool is_unmoved(PyObject* tensor, const std::byte* data, std::uint64_t layout) const;

  void prefetch(PyObject* tensor) const {
#if defined(__GNUC__)
    if (!shim_) return;
    const char* implementation = *static_cast<char**>(shim_->handle(tensor));
    for (int line = 0; line < 4; ++line) __builtin_prefetch(implementation + 64 * line);
#endif
  }

  bool is_plain(PyObject* tensor) const {
    PyTypeObject* type = Py_TYPE(tensor);
    return type == tensor_type_ || type == parameter_type_;
  }

  // Whether a tensor of one element is to be negated when it is read, which only torch knows.
  static bool is_negated(PyObject* tensor);

  const char* protocol() const { return shim_ ? "shim" : from_object_ ? "dlpack" : "attributes"; }

 private:
  Reason dtype_of(std::int32_t dtype, DType& type) const;
  Reason read_shim(PyObject* tensor, View& view) const;
  static Reason read_attributes(PyObject* tensor, View& view, Scratch& scratch);

  PyTypeObject* tensor_type_;
  PyTypeObject* parameter_type_;
  std::optional<Shim> shim_;
  int (*from_object_)(void*, nb::dlpack::dltensor*) = nullptr;
};

// A number that two tensors share if their dtype, shape and strides are the same.
std::uint64_t layout_of(const View& view);

// Bytes from the first element to the end of the last one.
std::size_t extent_of(const View& view);

// Whether elements lie without holes or overlaps, in whatever order of dimensions.
bool is_dense(const View& view);

// Whether elements lie in the order of their indices, without holes.
bool is_row_major(const View& view);

// Whether two tensors of one shape have their elements in the same order.
bool same_layout(const View& x, const View& y);

}  // namespace adamantine
