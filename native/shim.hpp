// torch's stable C interface to a tensor (AOTInductor's shim), found by name in the torch that is loaded.
//
// A Python tensor holds its at::Tensor, which is one pointer, at an offset that no interface states. It is
// measured when this is made, on tensors whose handles torch itself gives out, and checked on others; where
// anything does not fit there is no shim, and tensors are read by DLPack. Six times as fast as that.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>

#include "kernel.hpp"

namespace adamantine {

namespace nb = nanobind;

class Shim {
 public:
  // Empty if this torch has no such interface or its objects are not as expected.
  static std::optional<Shim> find(nb::handle tensor_type, nb::handle parameter_type);

  using Handle = void*;
  Handle handle(PyObject* tensor) const { return reinterpret_cast<char*>(tensor) + offset_; }

  // Whether elements lie in strides at all. Asked first, since the functions below complain of other layouts.
  bool is_strided(PyObject* tensor) const;

  // All return 0 for success.
  std::int32_t (*get_device_type)(Handle, std::int32_t*);
  std::int32_t (*get_dtype)(Handle, std::int32_t*);
  std::int32_t (*get_dim)(Handle, std::int64_t*);
  std::int32_t (*get_numel)(Handle, std::int64_t*);
  std::int32_t (*get_sizes)(Handle, std::int64_t**);
  std::int32_t (*get_strides)(Handle, std::int64_t**);
  std::int32_t (*get_data_ptr)(Handle, void**);
  std::int32_t cpu;
  std::int32_t dtypes[kAllDTypes];  // torch's numbers for ours

 private:
  bool load();
  bool measure(nb::handle tensor_type, nb::handle parameter_type);
  bool reads(nb::handle tensor) const;

  std::int32_t (*get_layout_)(Handle, std::int32_t*) = nullptr;  // null in older torch
  std::int32_t strided_ = 0;
  PyObject* strided_object_ = nullptr;  // torch.strided, which lives as long as torch
  std::size_t offset_ = 0;
};

}  // namespace adamantine
