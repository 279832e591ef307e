// Reading torch tensors without torch's headers: through DLPack's C functions where this torch has them, else
// through the tensor's Python attributes. Needs the GIL.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string_view>
#include <vector>

#include "kernel.hpp"

namespace adamantine {

namespace nb = nanobind;

// Why a tensor cannot be taken, in words that end "runs on the generic engine: …"; null where it can.
using Reason = const char*;

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
  // subclass need not lie in memory as it looks. protocol: "dlpack", "attributes" or "" for the best there is.
  Reader(nb::handle tensor_type, nb::handle parameter_type, std::string_view protocol);

  // Fills `view`, whose shape and strides live as long as the tensor's and `scratch`; or returns the reason.
  Reason read(PyObject* tensor, View& view, Scratch& scratch) const;

  bool is_plain(PyObject* tensor) const {
    PyTypeObject* type = Py_TYPE(tensor);
    return type == tensor_type_ || type == parameter_type_;
  }

  // Whether a tensor of one element is to be negated when it is read, which only torch knows.
  static bool is_negated(PyObject* tensor);

  const char* protocol() const { return from_object_ ? "dlpack" : "attributes"; }

 private:
  static Reason read_attributes(PyObject* tensor, View& view, Scratch& scratch);

  PyTypeObject* tensor_type_;
  PyTypeObject* parameter_type_;
  int (*from_object_)(void*, nb::dlpack::dltensor*) = nullptr;
};

// Whether elements lie without holes or overlaps, in whatever order of dimensions.
bool is_dense(const View& view);

// Whether two tensors of one shape have their elements in the same order.
bool same_layout(const View& x, const View& y);

}  // namespace adamantine
