#include "shim.hpp"

#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#endif

namespace adamantine {
namespace {

void* symbol(const char* name) {
#if defined(__unix__) || defined(__APPLE__)
#if defined(__APPLE__)
  static void* const library = dlopen("@rpath/libtorch_cpu.dylib", RTLD_NOLOAD | RTLD_LAZY);
#else
  static void* const library = dlopen("libtorch_cpu.so", RTLD_NOLOAD | RTLD_LAZY);
#endif
  return dlsym(library != nullptr ? library : RTLD_DEFAULT, name);
#else
  (void)name;
  return nullptr;
#endif
}

template <class Function>
bool find_function(Function& function, const char* name) {
  function = reinterpret_cast<Function>(symbol(name));
  return function != nullptr;
}

bool find_constant(std::int32_t& value, const char* name) {
  std::int32_t (*function)() = nullptr;
  if (!find_function(function, name)) return false;
  value = function();
  return true;
}

// In the order of DType.
constexpr const char* kDTypeFunctions[kAllDTypes] = {
    "aoti_torch_dtype_float32", "aoti_torch_dtype_float64", "aoti_torch_dtype_bfloat16",
    "aoti_torch_dtype_float16", "aoti_torch_dtype_uint8",   "aoti_torch_dtype_int8",
    "aoti_torch_dtype_int16",   "aoti_torch_dtype_int32",   "aoti_torch_dtype_int64"};

}  // namespace

std::optional<Shim> Shim::find(nb::handle tensor_type, nb::handle parameter_type) {
  try {
    Shim shim{};
    if (shim.load() && shim.measure(tensor_type, parameter_type)) return shim;
  } catch (const nb::python_error&) {  // another torch: its names are other ones
  } catch (const nb::cast_error&) {
  }
  return std::nullopt;
}

bool Shim::load() {
  find_function(get_layout_, "aoti_torch_get_layout");
  return find_function(get_device_type, "aoti_torch_get_device_type") &&
         find_function(get_dtype, "aoti_torch_get_dtype") && find_function(get_dim, "aoti_torch_get_dim") &&
         find_function(get_numel, "aoti_torch_get_numel") && find_function(get_sizes, "aoti_torch_get_sizes") &&
         find_function(get_strides, "aoti_torch_get_strides") &&
         find_function(get_data_ptr, "aoti_torch_get_data_ptr") &&
         find_constant(strided_, "aoti_torch_layout_strided") && find_constant(cpu, "aoti_torch_device_type_cpu") &&
         std::equal(std::begin(dtypes), std::end(dtypes), std::begin(kDTypeFunctions), find_constant);
}

bool Shim::measure(nb::handle tensor_type, nb::handle parameter_type) {
  const nb::object torch = nb::module_::import_("torch");
  strided_object_ = nb::object(torch.attr("strided")).ptr();
  const nb::object give = torch.attr("_C").attr("_aoti").attr("unsafe_alloc_void_ptr_from_tensor");
  const nb::object take = torch.attr("_C").attr("_aoti").attr("alloc_tensor_by_stealing_from_void_ptr");
  const auto example = [&](int size) { return nb::object(torch.attr("ones")(nb::make_tuple(2, size)).attr("t")()); };

  const nb::object first = example(3);
  const nb::object capsule = give(first);
  auto* const handle = static_cast<void**>(PyCapsule_GetPointer(capsule.ptr(), PyCapsule_GetName(capsule.ptr())));
  void* const implementation = handle == nullptr ? nullptr : *handle;
  take(capsule);
  if (implementation == nullptr) {
    PyErr_Clear();
    return false;
  }
  const auto size = nb::cast<std::size_t>(tensor_type.attr("__basicsize__"));
  std::vector<void*> words(size / sizeof(void*));
  std::memcpy(words.data(), first.ptr(), words.size() * sizeof(void*));
  std::size_t found = 0;
  for (std::size_t word = 0; word < words.size(); ++word) {
    if (words[word] == implementation) {
      offset_ = word * sizeof(void*);
      ++found;
    }
  }
  if (found != 1) return false;
  const nb::object parameter = parameter_type(example(5));
  const nb::object grad = example(7);
  return reads(first) && reads(parameter) && reads(grad) && reads(parameter.attr("detach")());
}

bool Shim::is_strided(PyObject* tensor) const {
  if (get_layout_ != nullptr) {
    std::int32_t layout = -1;
    return get_layout_(handle(tensor), &layout) == 0 && layout == strided_;
  }
  static PyObject* const name = PyUnicode_InternFromString("layout");
  PyObject* layout = PyObject_GetAttr(tensor, name);
  if (layout == nullptr) PyErr_Clear();
  Py_XDECREF(layout);
  return layout == strided_object_;
}

// Whether torch's Python attributes say the same of this tensor.
bool Shim::reads(nb::handle tensor) const {
  void* data = nullptr;
  std::int64_t count = 0, dimensions = 0;
  std::int64_t *shape = nullptr, *strides = nullptr;
  std::int32_t device = -1, dtype = -1;
  const Handle h = handle(tensor.ptr());
  if (!is_strided(tensor.ptr()) || get_device_type(h, &device) != 0 || get_dtype(h, &dtype) != 0 ||
      get_dim(h, &dimensions) != 0 || get_numel(h, &count) != 0 || get_sizes(h, &shape) != 0 ||
      get_strides(h, &strides) != 0 || get_data_ptr(h, &data) != 0) {
    return false;
  }
  const auto same = [&](const std::int64_t* values, nb::handle expected) {
    return std::vector<std::int64_t>(values, values + dimensions) ==
           nb::cast<std::vector<std::int64_t>>(nb::tuple(expected));
  };
  return device == cpu && dtype == dtypes[0] && count == nb::cast<std::int64_t>(tensor.attr("numel")()) &&
         dimensions == 2 && same(shape, tensor.attr("shape")) && same(strides, tensor.attr("stride")()) &&
         reinterpret_cast<std::uintptr_t>(data) == nb::cast<std::uintptr_t>(tensor.attr("data_ptr")());
}

}  // namespace adamantine
