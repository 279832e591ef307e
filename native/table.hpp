// One optimizer's parameters as the kernel needs them: read again before every step, in one pass, natively.
//
// A step is three calls: `gather` looks at everything that can have moved underneath and says which rows of host
// numbers are needed; `squares` reads the gradients once, for those who clip or guard; `run` executes. Between
// gather and run the table holds the gradients.
#pragma once

#include <vector>

#include "kernel.hpp"
#include "tensors.hpp"

namespace adamantine {

class Table {
 public:
  // groups: [(group dict, its rule's name, [slot key, …], [counter key, …], [(format, is signed, place of the
  // slot that it is relative to or None) of each slot], weights), …], named as in formats.hpp; state: the optimizer's.
  // fresh: the parameters whose slots were made for the step to come.
  Table(nb::list groups, nb::dict state, nb::set fresh, const Reader& reader, const Kernels& kernels);
  ~Table();
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  // None where the table no longer describes `groups` and `state` (make another). Else
  // rows: one (group index, is fresh, (counter, …)) per set of tensors that share these;
  // refused: indices of the parameters with a gradient that the kernel cannot take;
  // incomplete: whether a parameter with a gradient has no state, so that `squares` may follow but not `run`;
  // overlapping: whether some were refused because they share memory.
  nb::object gather(nb::list groups, nb::dict state);

  // Σg² of the gathered gradients in double, the same bits for any number of threads.
  double squares(std::size_t threads);

  // rows[i]: (form, [grad_scale, couple, shrink, eta, scalar, …], (new counter, …)) for gather's row i.
  void run(nb::list rows, double grad_scale, std::size_t threads);

  void release();  // the gradients, after a gather that is not followed by run

  // Why the last gather refused this parameter.
  Reason refusal(std::size_t index) const;

  // Per parameter in the order of the groups: null where the kernel takes it, else the reason.
  std::vector<Reason> reasons();

  // Of the last `squares`: (parameter, Σg², largest |g|).
  nb::list statistics() const;

  std::vector<PyObject*> gathered() const;  // the parameters that `run` moves

  int traverse(visitproc visit, void* arg) const;
  void clear();

 private:
  struct Part {  // what a format keeps beside θ or a slot
    PyObject* tensor = nullptr;
    std::byte* data = nullptr;
    std::uint64_t layout = 0;
    std::size_t bytes = 0;
  };
  struct Entry {
    PyObject* parameter;
    PyObject* state = nullptr;  // its dictionary, null before the first step
    PyObject* slots[kMaxSlots] = {};
    PyObject* counters[2] = {};
    Part headers[kMaxSlots], residual, key;  // in use where `data` is not null
    std::uint32_t group;
    bool fresh = false;
    bool lacks = false;  // a part that its format needs

    PyObject* grad = nullptr;
    bool active = false;
    bool had_grad = false;
    Reason reason = nullptr;  // why the last gather refused it
    bool overlaps = false;    // memory that another parameter writes too
    bool clashes = false;     // a gradient lies in memory that is written
    bool verified = false;    // the kernel can take θ, slots and counters as they were read last:
    std::uint64_t layout = 0, slot_layouts[kMaxSlots] = {}, counter_layouts[2] = {};
    std::size_t slot_bytes[kMaxSlots] = {};
    std::size_t g_extent = 0;
    std::size_t extent = 0;  // bytes of θ, holes included; 0: not known
    std::uint32_t row = 0;
    std::size_t count = 0;
    Streams streams{};
    std::byte* counter_data[2] = {};
    DType counter_types[2] = {};
    std::size_t gap = 0;  // where the gradient lies among `writes_`: a guess, from the last step
  };
  struct Group {
    PyObject* dict;
    PyObject* params;
    const RuleKernels* rule;  // null: the kernel does not have it
    std::size_t n_slots, n_counters;
    std::size_t size;
    Code codes[kMaxSlots];
    std::uint8_t partners[kMaxSlots];
    Weights weights;
  };
  struct Link {  // what iterating over the optimizer's state must meet
    PyObject* key;
    PyObject* value;
    std::size_t first, count;  // in `values_`: what iterating over the parameter's state must meet
  };
  struct Measured {
    PyObject* parameter;
    Squares squares;
  };
  struct Range {
    const std::byte* start;
    const std::byte* stop;
    std::uint32_t entry;
  };
  struct RowKey {
    std::uint32_t group;
    bool fresh;
    double counters[2];
  };

  bool is_current(PyObject* groups, PyObject* state) const;
  Reason examine(Entry& entry, bool& moved);
  bool is_unmoved(const Entry& entry) const;
  bool is_unmoved(const Part& part) const;
  Reason examine_memory(Entry& entry, bool& moved);
  Reason examine_formats(Entry& entry, const View& theta);
  Reason examine_part(Part& part, DType type, std::size_t count, const View* like) const;
  Reason examine_gradient(Entry& entry);
  void prefetch(std::size_t e) const;
  void find_overlaps();
  void find_clashes();
  bool is_written(Entry& entry);
  std::uint32_t row_of(const Entry& entry);
  void own(PyObject* object);

  Reader reader_;
  const Kernels& kernels_;
  std::vector<Group> groups_;
  std::vector<Entry> entries_;
  std::vector<Link> links_;
  std::vector<PyObject*> values_;
  std::vector<PyObject*> owned_;
  std::vector<RowKey> rows_;
  std::vector<Range> writes_;
  std::vector<Measured> measured_;
  std::size_t last_gap_ = 0;
  bool incomplete_ = false, any_overlap_ = false, any_clash_ = false;
};

}  // namespace adamantine
