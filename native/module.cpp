// adamantine._native: the kernel for Python. Private; its users are adamantine.torch and adamantine.bench.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "dispatch.hpp"
#include "formats.hpp"
#include "pieces.hpp"
#include "table.hpp"
#include "threads.hpp"

namespace adamantine {
namespace {

const Kernels*& chosen() {
  static const Kernels* kernels = nullptr;
  return kernels;
}

const Kernels& named(const std::string& target) { return target.empty() ? *chosen() : choose(target); }

DType dtype_of(const std::string& name) {
  static constexpr const char* names[kDTypes] = {"float32", "float64", "bfloat16", "float16"};
  for (std::size_t i = 0; i < kDTypes; ++i) {
    if (name == names[i]) return static_cast<DType>(i);
  }
  throw std::invalid_argument("dtype: '" + name + "'; choose float32, float64, bfloat16 or float16");
}

template <class Pointer>
Pointer pointer(nb::handle address) {
  return reinterpret_cast<Pointer>(nb::cast<std::uintptr_t>(address));
}

nb::list rules() {
  nb::list all;
  for (std::size_t r = 0; r < chosen()->n_rules; ++r) {
    const RuleKernels& rule = chosen()->rules[r];
    all.append(nb::make_tuple(rule.name, rule.slots, rule.scalars, rule.unsigneds));
  }
  return all;
}

const RuleKernels* rule_of(const Kernels& kernels, const std::string& name) {
  const auto* end = kernels.rules + kernels.n_rules;
  const auto* rule = std::find_if(kernels.rules, end, [&](const auto& r) { return name == r.name; });
  if (rule == end) throw std::invalid_argument("no kernel for rule '" + name + "'");
  return rule;
}

// θ, g and the slots as (address, dtype name); θ may add (weights, address of the residual), a slot in blocks is
// (address, "8bit" or "4bit", is signed, address of the headers) and, if relative, its partner's place.
Streams streams_of(nb::handle arrays) {
  const nb::list pairs(arrays);
  if (pairs.size() < 2 || pairs.size() > 2 + kMaxSlots) throw std::invalid_argument("a wrong number of arrays");
  Streams streams{};
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto pair = nb::cast<nb::tuple>(pairs[i]);
    auto* data = pointer<std::byte*>(pair[0]);
    if (i >= 2 && pair.size() >= 4) {
      streams.slots[i - 2] = data;
      const bool is_relative = pair.size() == 5;
      streams.codes[i - 2] = code_of(nb::cast<std::string>(pair[1]), nb::cast<bool>(pair[2]), is_relative);
      if (is_relative) streams.partners[i - 2] = nb::cast<std::uint8_t>(pair[4]);
      if (streams.partners[i - 2] + std::size_t{2} >= pairs.size()) throw std::invalid_argument("no such partner");
      streams.headers[i - 2] = pointer<std::int32_t*>(pair[3]);
      continue;
    }
    const DType type = dtype_of(nb::cast<std::string>(pair[1]));
    if (i == 0 && pair.size() == 4) {
      streams.weights = weights_of(nb::cast<std::string>(pair[2]));
      streams.residual = pointer<std::byte*>(pair[3]);
    }
    if (i == 0) streams.theta = data, streams.theta_type = type;
    if (i == 1) streams.g = data, streams.g_type = type;
    if (i >= 2) streams.slots[i - 2] = data, streams.slot_types[i - 2] = type;
  }
  return streams;
}

// One kernel on bare memory: arrays as in `streams_of`, of which θ and the slots are written; `start` as in kernel.hpp.
void step(const std::string& target, const std::string& rule_name, std::size_t form, std::vector<double> numbers,
          nb::list arrays, std::size_t start, std::size_t stop, std::uint64_t key) {
  const Kernels& kernels = named(target);
  const RuleKernels* rule = rule_of(kernels, rule_name);
  if (form >= kForms || numbers.size() < 4 || numbers.size() > 4 + kMaxScalars) {
    throw std::invalid_argument("step: no such form, or a wrong number of scalars");
  }
  Row row{numbers[0], numbers[1], numbers[2], numbers[3], {}};
  std::copy(numbers.begin() + 4, numbers.end(), row.scalars);
  Streams streams = streams_of(arrays);
  set_key(streams, key);
  rule->steps[streams.theta_type == DType::float64][form](row, streams, start, stop);
}

// One step of tensors that hold `members` members one after the other. tensors: (first row, elements per member,
// [(address, dtype name), …]); member n moves by row `first + n` of `numbers`, [rows, width] doubles, in the form
// that `forms` has for the row; a form that is none leaves the member alone.
void step_members(const std::string& rule_name, nb::bytes forms, std::uintptr_t numbers, std::size_t width,
                  nb::list tensors, std::size_t members, std::size_t threads) {
  const RuleKernels* rule = rule_of(*chosen(), rule_name);
  const std::size_t rows = forms.size();
  if (width < 4 || width > 4 + kMaxScalars) throw std::invalid_argument("step_members: a wrong number of scalars");
  std::vector<Order> orders(rows);
  const auto* number = reinterpret_cast<const double*>(numbers);
  for (std::size_t r = 0; r < rows; ++r, number += width) {
    orders[r] = {rule, static_cast<unsigned char>(forms.c_str()[r]), {number[0], number[1], number[2], number[3], {}}};
    std::copy(number + 4, number + width, orders[r].row.scalars);
  }
  Pieces pieces;
  for (nb::handle described : tensors) {
    const auto parts = nb::cast<nb::tuple>(described);
    const auto first = nb::cast<std::size_t>(parts[0]), count = nb::cast<std::size_t>(parts[1]);
    const Streams all = streams_of(parts[2]);
    if (first + members > rows) throw std::invalid_argument("step_members: more members than rows");
    for (std::size_t n = 0; n < members; ++n) {
      if (orders[first + n].form >= kForms) continue;
      Streams streams = all;
      streams.theta += n * count * size_of(all.theta_type);
      streams.g += n * count * size_of(all.g_type);
      for (std::size_t k = 0; k < kMaxSlots; ++k) {
        if (all.slots[k] != nullptr) streams.slots[k] += n * count * size_of(all.slot_types[k]);
      }
      pieces.add(streams, count, static_cast<std::uint32_t>(first + n));
    }
  }
  const nb::gil_scoped_release unlocked;
  pieces.run(orders, threads);
}

// Σx² and the largest |x| of each array, in double; arrays are (address, dtype name, count).
nb::list squares(nb::list arrays, std::size_t threads, const std::string& target) {
  struct Part {
    const std::byte* data;
    DType type;
    std::size_t count, array;
  };
  const Kernels& kernels = named(target);
  std::vector<Part> parts;
  std::size_t elements = 0;
  for (std::size_t a = 0; a < arrays.size(); ++a) {
    const auto triple = nb::cast<nb::tuple>(arrays[a]);
    const auto* data = pointer<const std::byte*>(triple[0]);
    const DType type = dtype_of(nb::cast<std::string>(triple[1]));
    const auto count = nb::cast<std::size_t>(triple[2]);
    for (std::size_t at = 0; at < count; at += kBlock) {
      parts.push_back({data + at * size_of(type), type, std::min(kBlock, count - at), a});
    }
    elements += count;
  }
  std::vector<Squares> found(parts.size());
  {
    const nb::gil_scoped_release unlocked;
    parallel(parts.size(), elements < 4 * kBlock ? 1 : threads, [&](std::size_t i) {
      found[i] = kernels.squares[static_cast<std::size_t>(parts[i].type)](parts[i].data, parts[i].count);
    });
  }
  std::vector<Squares> totals(arrays.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Squares& total = totals[parts[i].array];
    total.sum += found[i].sum;
    total.largest = std::max(total.largest, found[i].largest);
  }
  nb::list result;
  for (const Squares& total : totals) result.append(nb::make_tuple(total.sum, total.largest));
  return result;
}

// The memory limit: `bytes` of every array read, those of `writes` also written, an addition per float between.
void traffic(nb::list reads, nb::list writes, std::size_t bytes, std::size_t threads) {
  std::vector<const std::byte*> read;
  std::vector<std::byte*> write;
  for (nb::handle address : reads) read.push_back(pointer<const std::byte*>(address));
  for (nb::handle address : writes) write.push_back(pointer<std::byte*>(address));
  if (read.size() > 1 || write.empty() || write.size() > 4) {
    throw std::invalid_argument("traffic: at most 1 array to read, and 1 to 4 to write");
  }
  constexpr std::size_t grain = 32768;
  const std::size_t count = bytes / sizeof(float) / 16 * 16;
  const nb::gil_scoped_release unlocked;
  parallel((count + grain - 1) / grain, threads, [&](std::size_t item) {
    chosen()->traffic(read.data(), read.size(), write.data(), write.size(), item * grain,
                      std::min(count, (item + 1) * grain));
  });
}

// Ask for large pages under fresh memory, before it is touched: fewer translations to look up in a long step.
// Without effect where the system has none to give.
void prefer_huge_pages(std::uintptr_t address, std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t page = std::uintptr_t{1} << 21;
  const std::uintptr_t start = (address + page - 1) / page * page;
  const std::uintptr_t stop = (address + bytes) / page * page;
  if (start < stop) madvise(reinterpret_cast<void*>(start), stop - start, MADV_HUGEPAGE);
#else
  (void)address, (void)bytes;
#endif
}

int traverse_table(PyObject* self, visitproc visit, void* arg) {
#if PY_VERSION_HEX >= 0x03090000
  Py_VISIT(Py_TYPE(self));
#endif
  return nb::inst_ready(self) ? nb::inst_ptr<Table>(self)->traverse(visit, arg) : 0;
}

int clear_table(PyObject* self) {
  if (nb::inst_ready(self)) nb::inst_ptr<Table>(self)->clear();
  return 0;
}

PyType_Slot table_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(traverse_table)},
                             {Py_tp_clear, reinterpret_cast<void*>(clear_table)},
                             {0, nullptr}};

}  // namespace
}  // namespace adamantine

NB_MODULE(_native, m) {
  using namespace adamantine;
  const char* forced = std::getenv("ADAMANTINE_TARGET");
  chosen() = &choose(forced == nullptr ? "" : forced);

  m.attr("target") = chosen()->target;
  nb::list targets;
  for (const Kernels* kernels : available()) targets.append(kernels->target);
  m.attr("targets") = nb::tuple(targets);
  m.attr("rules") = nb::tuple(rules());
  m.attr("BLOCK") = kBlock;
  m.attr("TILE") = kTile;

  m.def("step", &step, nb::arg("target"), nb::arg("rule"), nb::arg("form"), nb::arg("numbers"), nb::arg("arrays"),
        nb::arg("start"), nb::arg("stop"), nb::arg("key") = 0);
  m.def("step_members", &step_members, nb::arg("rule"), nb::arg("forms"), nb::arg("numbers"), nb::arg("width"),
        nb::arg("tensors"), nb::arg("members"), nb::arg("threads"));
  m.def("squares", &squares, nb::arg("arrays"), nb::arg("threads"), nb::arg("target") = "");
  m.def("traffic", &traffic, nb::arg("reads"), nb::arg("writes"), nb::arg("bytes"), nb::arg("threads"));

  m.def("prefer_huge_pages", &prefer_huge_pages, nb::arg("address"), nb::arg("bytes"));

  nb::class_<Reader>(m, "Reader")
      .def(
          "__init__",
          [](Reader* self, nb::handle tensor, nb::handle parameter, const std::string& protocol) {
            new (self) Reader(tensor, parameter, protocol);
          },
          nb::arg("tensor_type"), nb::arg("parameter_type"), nb::arg("protocol") = "")
      .def_prop_ro("protocol", &Reader::protocol);
  nb::class_<Table>(m, "Table", nb::type_slots(table_slots))
      .def(
          "__init__",
          [](Table* self, nb::list groups, nb::dict state, nb::set fresh, const Reader& reader) {
            new (self) Table(groups, state, fresh, reader, *chosen());
          },
          nb::arg("groups"), nb::arg("state"), nb::arg("fresh"), nb::arg("reader"))
      .def("gather", &Table::gather)
      .def("squares", &Table::squares)
      .def("run", &Table::run)
      .def("refusal", &Table::refusal)
      .def("release", &Table::release)
      .def("statistics", &Table::statistics)
      .def("gathered",
           [](const Table& table) {
             nb::list parameters;
             for (PyObject* parameter : table.gathered()) parameters.append(nb::handle(parameter));
             return parameters;
           })
      .def("reasons", [](Table& table) {
        nb::list reasons;
        for (Reason reason : table.reasons()) {
          if (reason == nullptr) {
            reasons.append(nb::none());
          } else {
            reasons.append(nb::str(reason));
          }
        }
        return reasons;
      });
}
