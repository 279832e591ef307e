#include "tensors.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <vector>

namespace adamantine {
namespace {

constexpr int kMaxDimensions = 64;

// The stable head of DLPack 1.x's function table (dlpack.h, DLPackExchangeAPI), up to the one function used.
struct ExchangeTable {
  std::uint32_t major, minor;
  void* previous;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object_no_sync;
  void* managed_tensor_to_py_object_no_sync;
  int (*dltensor_from_py_object_no_sync)(void*, nb::dlpack::dltensor*);
};

constexpr Reason kUnreadable = "it is not a plain strided tensor";
constexpr Reason kDevice = "it is not in host memory";
constexpr Reason kFreed = "its storage has been freed";

std::string text_of(const nb::object& object) {
  PyObject* text = PyObject_Str(object.ptr());
  if (text == nullptr) throw nb::python_error();
  return nb::cast<std::string>(nb::steal<nb::object>(text));
}

Reason read_dlpack(const nb::dlpack::dltensor& tensor, View& view) {
  if (tensor.device.device_type != nb::device::cpu::value) return kDevice;
  using Kind = nb::dlpack::dtype_code;
  static constexpr std::array<std::pair<Kind, int>, kAllDTypes> types{{{Kind::Float, 32},
                                                                       {Kind::Float, 64},
                                                                       {Kind::Bfloat, 16},
                                                                       {Kind::Float, 16},
                                                                       {Kind::UInt, 8},
                                                                       {Kind::Int, 8},
                                                                       {Kind::Int, 16},
                                                                       {Kind::Int, 32},
                                                                       {Kind::Int, 64}}};
  const std::pair<Kind, int> dtype{static_cast<Kind>(tensor.dtype.code), tensor.dtype.bits};
  const auto* type = std::find(types.begin(), types.end(), dtype);
  if (tensor.dtype.lanes != 1 || type == types.end()) return kDType;
  view.type = static_cast<DType>(type - types.begin());
  view.dimensions = tensor.ndim;
  view.shape = tensor.shape;
  view.strides = tensor.strides;
  view.count = 1;
  for (int d = 0; d < tensor.ndim; ++d) view.count *= static_cast<std::size_t>(tensor.shape[d]);
  view.data = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
  if (tensor.data == nullptr && view.count > 0) return kFreed;
  return nullptr;
}

}  // namespace

Reader::Reader(nb::handle tensor_type, nb::handle parameter_type, std::string_view protocol)
    : tensor_type_(reinterpret_cast<PyTypeObject*>(tensor_type.ptr())),
      parameter_type_(reinterpret_cast<PyTypeObject*>(parameter_type.ptr())) {
  if (protocol == "attributes") return;
  if (!protocol.empty() && protocol != "shim" && protocol != "dlpack") {
    throw std::invalid_argument("protocol: '" + std::string(protocol) + "'; choose shim, dlpack or attributes");
  }
  if (protocol == "shim" || protocol.empty()) shim_ = Shim::find(tensor_type, parameter_type);
  if (shim_) return;
  if (protocol == "shim") {
    throw std::invalid_argument("protocol='shim': this torch's C interface was not found; use 'dlpack'");
  }
  const nb::object capsule = nb::getattr(tensor_type, "__dlpack_c_exchange_api__", nb::none());
  if (PyCapsule_CheckExact(capsule.ptr())) {
    const auto* table = static_cast<const ExchangeTable*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (table == nullptr) PyErr_Clear();
    if (table != nullptr && table->major == 1) from_object_ = table->dltensor_from_py_object_no_sync;
  }
  if (protocol == "dlpack" && from_object_ == nullptr) {
    throw std::invalid_argument("protocol='dlpack': this torch has no __dlpack_c_exchange_api__; use 'attributes'");
  }
}

Reason Reader::read(PyObject* tensor, View& view, Scratch& scratch) const {
  if (!is_plain(tensor)) return "it is of a subclass of torch.Tensor";
  if (shim_) return read_shim(tensor, view);
  if (from_object_ == nullptr) return read_attributes(tensor, view, scratch);
  nb::dlpack::dltensor described;
  if (from_object_(tensor, &described) != 0) {
    PyErr_Clear();  // sparse, quantized, lazily conjugated: torch's words for it do not matter here
    return kUnreadable;
  }
  return read_dlpack(described, view);
}

bool Reader::is_unmoved(PyObject* tensor, const std::byte* data, std::uint64_t layout) const {
  if (!shim_) return false;
  const Shim& torch = *shim_;
  const Shim::Handle h = torch.handle(tensor);
  View view;
  std::int32_t dtype = -1;
  std::int64_t dimensions = 0;
  std::int64_t *shape = nullptr, *strides = nullptr;
  void* now = nullptr;
  if (torch.get_data_ptr(h, &now) != 0 || now != data || torch.get_dtype(h, &dtype) != 0 ||
      torch.get_dim(h, &dimensions) != 0 || torch.get_sizes(h, &shape) != 0 || torch.get_strides(h, &strides) != 0 ||
      dtype_of(dtype, view.type) != nullptr) {
    return false;
  }
  view.dimensions = static_cast<int>(dimensions);
  view.shape = shape;
  view.strides = strides;
  return layout_of(view) == layout;
}

Reason Reader::dtype_of(std::int32_t dtype, DType& type) const {
  for (std::size_t i = 0; i < kAllDTypes; ++i) {
    if (dtype != shim_->dtypes[i]) continue;
    type = static_cast<DType>(i);
    return nullptr;
  }
  return kDType;
}

Reason Reader::read_shim(PyObject* tensor, View& view) const {
  const Shim& torch = *shim_;
  const Shim::Handle h = torch.handle(tensor);
  std::int32_t device = -1, dtype = -1;
  if (!torch.is_strided(tensor)) return kUnreadable;
  if (torch.get_device_type(h, &device) != 0 || device != torch.cpu) return kDevice;
  if (torch.get_dtype(h, &dtype) != 0) return kUnreadable;
  if (Reason reason = dtype_of(dtype, view.type)) return reason;
  std::int64_t dimensions = 0, count = 0;
  std::int64_t *shape = nullptr, *strides = nullptr;
  void* data = nullptr;
  if (torch.get_dim(h, &dimensions) != 0 || torch.get_numel(h, &count) != 0 || torch.get_sizes(h, &shape) != 0 ||
      torch.get_strides(h, &strides) != 0 || torch.get_data_ptr(h, &data) != 0) {
    return kUnreadable;
  }
  view.dimensions = static_cast<int>(dimensions);
  view.count = static_cast<std::size_t>(count);
  view.shape = shape;
  view.strides = strides;
  view.data = static_cast<std::byte*>(data);
  return view.data == nullptr && count > 0 ? kFreed : nullptr;
}

Reason Reader::read_attributes(PyObject* tensor, View& view, Scratch& scratch) {
  const nb::handle t(tensor);
  try {
    if (text_of(t.attr("layout")) != "torch.strided") return kUnreadable;
    if (nb::cast<std::string>(t.attr("device").attr("type")) != "cpu") return kDevice;
    const std::string dtype = text_of(t.attr("dtype"));
    static constexpr std::array<std::string_view, kAllDTypes> types{"torch.float32", "torch.float64", "torch.bfloat16",
                                                                    "torch.float16", "torch.uint8",   "torch.int8",
                                                                    "torch.int16",   "torch.int32",   "torch.int64"};
    const auto* type = std::find(types.begin(), types.end(), dtype);
    if (type == types.end()) return kDType;
    if (nb::cast<bool>(t.attr("is_neg")())) return kUnreadable;
    scratch.shape = nb::cast<std::vector<std::int64_t>>(nb::tuple(t.attr("shape")));
    scratch.strides = nb::cast<std::vector<std::int64_t>>(t.attr("stride")());
    view.type = static_cast<DType>(type - types.begin());
    view.dimensions = static_cast<int>(scratch.shape.size());
    view.shape = scratch.shape.data();
    view.strides = scratch.strides.data();
    view.count = nb::cast<std::size_t>(t.attr("numel")());
    view.data = reinterpret_cast<std::byte*>(nb::cast<std::uintptr_t>(t.attr("data_ptr")()));
    if (view.data == nullptr && view.count > 0) return kFreed;
    return nullptr;
  } catch (const nb::python_error&) {
    return kUnreadable;
  } catch (const nb::cast_error&) {
    return kUnreadable;
  }
}

bool Reader::is_negated(PyObject* tensor) {
  PyObject* answer = PyObject_CallMethod(tensor, "is_neg", nullptr);
  if (answer == nullptr) {
    PyErr_Clear();
    return true;
  }
  const bool negated = answer == Py_True;
  Py_DECREF(answer);
  return negated;
}

std::uint64_t layout_of(const View& view) {
  std::uint64_t mixed = static_cast<std::uint64_t>(view.type) + 1;
  const auto mix = [&](std::int64_t x) {
    mixed = (mixed ^ static_cast<std::uint64_t>(x)) * 0x9e3779b97f4a7c15u;
    mixed ^= mixed >> 29;
  };
  mix(view.dimensions);
  for (int d = 0; d < view.dimensions; ++d) {
    mix(view.shape[d]);
    mix(view.strides != nullptr ? view.strides[d] : -1);
  }
  return mixed;
}

std::size_t extent_of(const View& view) {
  if (view.count == 0) return 0;
  if (view.strides == nullptr) return view.count * size_of(view.type);
  std::int64_t last = 0;  // torch has no negative strides
  for (int d = 0; d < view.dimensions; ++d) last += (view.shape[d] - 1) * view.strides[d];
  return static_cast<std::size_t>(last + 1) * size_of(view.type);
}

bool is_row_major(const View& view) {
  if (view.strides == nullptr || view.count <= 1) return true;
  std::int64_t expected = 1;
  for (int d = view.dimensions - 1; d >= 0; --d) {
    if (view.shape[d] == 1) continue;
    if (view.strides[d] != expected) return false;
    expected *= view.shape[d];
  }
  return true;
}

bool is_dense(const View& view) {
  if (is_row_major(view)) return true;
  if (view.dimensions > kMaxDimensions) return false;
  std::array<int, kMaxDimensions> order;
  int n = 0;
  for (int d = 0; d < view.dimensions; ++d) {
    if (view.shape[d] != 1) order[static_cast<std::size_t>(n++)] = d;
  }
  std::sort(order.begin(), order.begin() + n, [&](int a, int b) { return view.strides[a] < view.strides[b]; });
  std::int64_t expected = 1;
  for (int k = 0; k < n; ++k) {
    const int d = order[static_cast<std::size_t>(k)];
    if (view.strides[d] != expected) return false;
    expected *= view.shape[d];
  }
  return true;
}

bool same_layout(const View& x, const View& y) {
  if (x.dimensions != y.dimensions || x.count != y.count) return false;
  if (x.count <= 1) return true;
  for (int d = 0; d < x.dimensions; ++d) {
    if (x.shape[d] != y.shape[d]) return false;
  }
  std::int64_t row_x = 1, row_y = 1;  // what a null strides pointer stands for
  for (int d = x.dimensions - 1; d >= 0; --d) {
    const std::int64_t stride_x = x.strides ? x.strides[d] : row_x;
    const std::int64_t stride_y = y.strides ? y.strides[d] : row_y;
    if (x.shape[d] != 1 && stride_x != stride_y) return false;
    row_x *= x.shape[d];
    row_y *= y.shape[d];
  }
  return true;
}

}  // namespace adamantine
