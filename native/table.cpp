#include "table.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>

#include "formats.hpp"
#include "pieces.hpp"
#include "threads.hpp"

namespace adamantine {
namespace {

constexpr std::size_t kBlocksPerItem = 4;

// How many parameters ahead their objects are asked for.
constexpr std::size_t kLookahead = 6;

constexpr Reason kLayout = "its elements have holes, or lie in another order than those of its gradient or state";
constexpr Reason kOverlap = "it shares memory with another parameter, state or gradient";
constexpr Reason kMixed = "float64 is mixed with another dtype";
constexpr Reason kRule = "its rule has no native kernel";
constexpr Reason kOrder =
    "its elements do not lie in row-major order, by which blocks of codes and random numbers are counted";
constexpr Reason kFormat = "its state does not lie as its format has it";
constexpr Reason kSplit = "weights are split only into bfloat16 and a residual";
constexpr Reason kCounter = "its step counter is not a float32 or float64 number in host memory";

double load(const std::byte* data, DType type) {
  return type == DType::float64 ? *reinterpret_cast<const double*>(data) : *reinterpret_cast<const float*>(data);
}

void store(std::byte* data, DType type, double value) {
  if (type == DType::float64) {
    *reinterpret_cast<double*>(data) = value;
  } else {
    *reinterpret_cast<float*>(data) = static_cast<float>(value);
  }
}

}  // namespace

Table::Table(nb::list groups, nb::dict state, nb::set fresh, const Reader& reader, const Kernels& kernels)
    : reader_(reader), kernels_(kernels) {
  std::unordered_map<PyObject*, std::size_t> index_of;
  for (nb::handle described : groups) {
    const nb::tuple parts = nb::cast<nb::tuple>(described);
    const std::string name = nb::cast<std::string>(parts[1]);
    const nb::list slot_keys(parts[2]), counter_keys(parts[3]);
    Group group{};
    group.dict = parts[0].ptr();
    group.params = PyDict_GetItemString(group.dict, "params");
    if (group.params == nullptr || !PyList_Check(group.params)) {
      throw std::invalid_argument("a group's 'params' must be a list");
    }
    own(group.dict);
    own(group.params);
    for (std::size_t r = 0; r < kernels.n_rules; ++r) {
      if (name == kernels.rules[r].name) group.rule = &kernels.rules[r];
    }
    group.n_slots = slot_keys.size();
    group.n_counters = counter_keys.size();
    if (group.n_slots > kMaxSlots || group.n_counters > 2) group.rule = nullptr;
    const nb::list formats(parts[4]);
    if (formats.size() != group.n_slots) throw std::invalid_argument("a group's formats must be one for each slot");
    for (std::size_t k = 0; k < std::min(group.n_slots, kMaxSlots); ++k) {
      const auto format = nb::cast<nb::tuple>(formats[k]);
      const bool is_relative = !format[2].is_none();
      group.codes[k] = code_of(nb::cast<std::string>(format[0]), nb::cast<bool>(format[1]), is_relative);
      group.partners[k] = is_relative ? nb::cast<std::uint8_t>(format[2]) : std::uint8_t{0};
      if (group.partners[k] >= group.n_slots) throw std::invalid_argument("a partner must be one of the slots");
    }
    group.weights = weights_of(nb::cast<std::string>(parts[5]));
    group.size = static_cast<std::size_t>(NB_LIST_GET_SIZE(group.params));
    for (std::size_t i = 0; i < group.size; ++i) {
      Entry entry{};
      entry.parameter = NB_LIST_GET_ITEM(group.params, static_cast<Py_ssize_t>(i));
      entry.group = static_cast<std::uint32_t>(groups_.size());
      entry.fresh = PySet_Contains(fresh.ptr(), entry.parameter) == 1;
      own(entry.parameter);
      PyObject* kept = PyDict_GetItem(state.ptr(), entry.parameter);
      if (kept != nullptr && PyDict_Check(kept) && group.rule != nullptr) {
        entry.state = kept;
        for (std::size_t k = 0; k < group.n_slots; ++k) {
          entry.slots[k] = PyDict_GetItem(kept, slot_keys[k].ptr());
          if (entry.slots[k] == nullptr || entry.slots[k] == Py_None) entry.state = nullptr;
          if (group.codes[k] == Code::none) continue;
          entry.headers[k].tensor = PyDict_GetItem(kept, (nb::str(slot_keys[k]) + nb::str("_scale")).ptr());
          if (entry.headers[k].tensor == nullptr) entry.state = nullptr;
        }
        entry.residual.tensor = PyDict_GetItemString(kept, "residual");
        entry.key.tensor = PyDict_GetItemString(kept, "rounding");
        for (std::size_t k = 0; k < group.n_counters; ++k) {
          entry.counters[k] = PyDict_GetItem(kept, counter_keys[k].ptr());
          if (entry.counters[k] == nullptr || entry.counters[k] == Py_None) entry.state = nullptr;
        }
      }
      entries_.push_back(entry);
    }
    groups_.push_back(group);
  }
  Py_ssize_t at = 0;
  PyObject *key, *value;
  while (PyDict_Next(state.ptr(), &at, &key, &value)) {
    Link link{key, value, values_.size(), 0};
    own(key);
    own(value);
    if (PyDict_Check(value)) {
      Py_ssize_t inner = 0;
      PyObject *name, *item;
      while (PyDict_Next(value, &inner, &name, &item)) {
        own(item);
        values_.push_back(item);
        ++link.count;
      }
    }
    links_.push_back(link);
  }
}

Table::~Table() { clear(); }

void Table::own(PyObject* object) {
  Py_INCREF(object);
  owned_.push_back(object);
}

void Table::clear() {
  release();
  entries_.clear();
  groups_.clear();
  links_.clear();
  values_.clear();
  measured_.clear();
  std::vector<PyObject*> owned;
  owned.swap(owned_);
  for (PyObject* object : owned) Py_DECREF(object);
}

int Table::traverse(visitproc visit, void* arg) const {
  for (PyObject* object : owned_) Py_VISIT(object);
  for (const Entry& entry : entries_) Py_VISIT(entry.grad);
  return 0;
}

void Table::release() {
  for (Entry& entry : entries_) {
    entry.active = false;
    Py_CLEAR(entry.grad);
  }
}

// Identity of every object between the optimizer and its tensors. All are owned, so an address is an identity.
bool Table::is_current(PyObject* groups, PyObject* state) const {
  if (static_cast<std::size_t>(NB_LIST_GET_SIZE(groups)) != groups_.size()) return false;
  std::size_t e = 0;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const Group& group = groups_[i];
    if (NB_LIST_GET_ITEM(groups, static_cast<Py_ssize_t>(i)) != group.dict) return false;
    if (PyDict_GetItemString(group.dict, "params") != group.params) return false;
    if (static_cast<std::size_t>(NB_LIST_GET_SIZE(group.params)) != group.size) return false;
    for (std::size_t j = 0; j < group.size; ++j, ++e) {
      if (NB_LIST_GET_ITEM(group.params, static_cast<Py_ssize_t>(j)) != entries_[e].parameter) return false;
    }
  }
  Py_ssize_t at = 0;
  PyObject *key, *value;
  std::size_t n = 0;
  while (PyDict_Next(state, &at, &key, &value)) {
    if (n == links_.size()) return false;
    if (n + kLookahead < links_.size()) __builtin_prefetch(links_[n + kLookahead].value);
    const Link& link = links_[n++];
    if (key != link.key || value != link.value) return false;
    if (!PyDict_Check(value)) continue;
    Py_ssize_t inner = 0;
    PyObject *name, *item;
    std::size_t k = 0;
    while (PyDict_Next(value, &inner, &name, &item)) {
      if (k == link.count || values_[link.first + k] != item) return false;
      ++k;
    }
    if (k != link.count) return false;
  }
  return n == links_.size();
}

// A thousand small tensors are five thousand objects, hardly ever in the cache when a step comes. Ahead of their
// turn, first the Python objects are asked for, then what these point at.
void Table::prefetch(std::size_t e) const {
  const auto each = [&](std::size_t at, auto&& ask) {
    if (at >= entries_.size()) return;
    const Entry& entry = entries_[at];
    ask(entry.parameter);
    for (PyObject* slot : entry.slots) {
      if (slot != nullptr) ask(slot);
    }
    for (PyObject* counter : entry.counters) {
      if (counter != nullptr) ask(counter);
    }
    if (entry.residual.data != nullptr) ask(entry.residual.tensor);
    if (entry.key.data != nullptr) ask(entry.key.tensor);
    for (const Part& headers : entry.headers) {
      if (headers.data != nullptr) ask(headers.tensor);
    }
  };
  each(e + 2 * kLookahead, [](PyObject* tensor) { __builtin_prefetch(tensor); });
  each(e + kLookahead, [&](PyObject* tensor) { reader_.prefetch(tensor); });
  if (e + kLookahead < entries_.size()) __builtin_prefetch(entries_[e + kLookahead].counter_data[0]);
}

bool Table::is_unmoved(const Part& part) const {
  return part.data == nullptr || reader_.is_unmoved(part.tensor, part.data, part.layout);
}

// Whether θ, slots and counters are what they were when they were found good.
bool Table::is_unmoved(const Entry& entry) const {
  if (!reader_.is_unmoved(entry.parameter, entry.streams.theta, entry.layout)) return false;
  if (entry.state == nullptr) return true;
  if (!is_unmoved(entry.residual) || !is_unmoved(entry.key)) return false;
  const Group& group = groups_[entry.group];
  for (std::size_t k = 0; k < group.n_slots; ++k) {
    if (!reader_.is_unmoved(entry.slots[k], entry.streams.slots[k], entry.slot_layouts[k])) return false;
    if (!is_unmoved(entry.headers[k])) return false;
  }
  for (std::size_t k = 0; k < group.n_counters; ++k) {
    if (!reader_.is_unmoved(entry.counters[k], entry.counter_data[k], entry.counter_layouts[k])) return false;
  }
  return true;
}

// Reads what a format keeps beside θ or a slot: so many elements in a row or, with `like`, in its order.
Reason Table::examine_part(Part& part, DType type, std::size_t count, const View* like) const {
  View view;
  Scratch scratch;
  if (Reason reason = reader_.read(part.tensor, view, scratch)) return reason == kDType ? kFormat : reason;
  if (view.type != type || view.count != count) return kFormat;
  if (like != nullptr ? !same_layout(*like, view) : !is_row_major(view)) return kFormat;
  if (view.count == 1 && Reader::is_negated(part.tensor)) return kFormat;
  part.data = view.data;
  part.layout = layout_of(view);
  part.bytes = count * size_of(type);
  return nullptr;
}

// Headers, residual and key, as far as the group's formats and θ's dtype need them.
Reason Table::examine_formats(Entry& entry, const View& theta) {
  const Group& group = groups_[entry.group];
  Streams& streams = entry.streams;
  const bool half = theta.type == DType::bfloat16 || theta.type == DType::float16;
  const Weights weights = half ? group.weights : Weights::nearest;
  const bool is_split = weights == Weights::split8 || weights == Weights::split16;
  bool counts = weights == Weights::stochastic || weights == Weights::split8;
  bool rounds = counts;
  for (std::size_t k = 0; k < group.n_slots; ++k) {
    streams.codes[k] = group.codes[k];
    streams.partners[k] = group.partners[k];
    counts |= group.codes[k] != Code::none;
    rounds |= is_dithered(group.codes[k]);
  }
  streams.weights = weights;
  if (counts && !is_row_major(theta)) return kOrder;
  if (is_split && theta.type == DType::float16) return kSplit;
  const bool leaves = is_split || weights == Weights::kahan;
  entry.lacks = (leaves && entry.residual.tensor == nullptr) || (rounds && entry.key.tensor == nullptr);
  if (entry.state == nullptr || entry.lacks) return nullptr;
  for (std::size_t k = 0; k < group.n_slots; ++k) {
    if (group.codes[k] == Code::none) continue;
    if (Reason reason = examine_part(entry.headers[k], DType::int32, code_blocks(theta.count), nullptr)) return reason;
    streams.headers[k] = reinterpret_cast<std::int32_t*>(entry.headers[k].data);
  }
  if (leaves) {
    const DType type = weights == Weights::kahan ? theta.type : weights == Weights::split8 ? DType::int8 : DType::int16;
    if (Reason reason = examine_part(entry.residual, type, theta.count, &theta)) return reason;
    streams.residual = entry.residual.data;
  }
  return rounds ? examine_part(entry.key, DType::int64, 1, nullptr) : nullptr;
}

// Reads θ, slots and counters anew. What was read of a parameter that is refused still tells where it lies.
Reason Table::examine_memory(Entry& entry, bool& moved) {
  const Group& group = groups_[entry.group];
  Streams& streams = entry.streams;
  const Streams before = streams;
  const std::size_t extent_before = entry.extent;
  const std::byte* const parts_before[] = {entry.residual.data, entry.key.data};
  streams = Streams{};
  entry.extent = 0;
  entry.lacks = false;
  entry.residual.data = entry.key.data = nullptr;
  for (Part& headers : entry.headers) headers.data = nullptr;
  Scratch scratch, other;
  View theta, view;
  const Reason found = [&]() -> Reason {
    if (Reason reason = reader_.read(entry.parameter, theta, scratch)) return reason;
    streams.theta = theta.data;
    streams.theta_type = theta.type;
    entry.layout = layout_of(theta);
    entry.extent = extent_of(theta);
    entry.count = theta.count;
    if (!is_number(theta.type)) return kDType;
    if (!is_dense(theta)) return kLayout;
    if (theta.count == 1 && Reader::is_negated(entry.parameter)) return kLayout;
    if (Reason reason = examine_formats(entry, theta)) return reason;
    if (entry.state == nullptr || entry.lacks) return nullptr;
    for (std::size_t k = 0; k < group.n_slots; ++k) {
      if (Reason reason = reader_.read(entry.slots[k], view, other)) return reason;
      if (group.codes[k] == Code::none) {
        if (!is_number(view.type)) return kDType;
        if (!same_layout(theta, view)) return kLayout;
        if ((view.type == DType::float64) != (theta.type == DType::float64)) return kMixed;
      } else if (view.type != DType::uint8 || !is_row_major(view) ||
                 view.count != code_bytes(group.codes[k], theta.count)) {
        return kFormat;
      }
      if (view.count == 1 && Reader::is_negated(entry.slots[k])) return kLayout;
      streams.slots[k] = view.data;
      entry.slot_bytes[k] = view.count * size_of(view.type);
      streams.slot_types[k] = view.type;
      entry.slot_layouts[k] = layout_of(view);
    }
    for (std::size_t k = 0; k < group.n_counters; ++k) {
      if (reader_.read(entry.counters[k], view, other) != nullptr || view.count != 1) return kCounter;
      if (view.type != DType::float32 && view.type != DType::float64) return kCounter;
      entry.counter_data[k] = view.data;
      entry.counter_types[k] = view.type;
      entry.counter_layouts[k] = layout_of(view);
    }
    return nullptr;
  }();
  moved |= before.theta != streams.theta || extent_before != entry.extent;
  for (std::size_t k = 0; k < kMaxSlots; ++k) {
    moved |= before.slots[k] != streams.slots[k] || before.slot_types[k] != streams.slot_types[k] ||
             before.headers[k] != streams.headers[k];
  }
  moved |= parts_before[0] != entry.residual.data || parts_before[1] != entry.key.data;
  return found;
}

Reason Table::examine_gradient(Entry& entry) {
  View g;
  Scratch scratch;
  entry.g_extent = 0;
  if (Reason reason = reader_.read(entry.grad, g, scratch)) return reason;
  entry.streams.g = g.data;
  entry.streams.g_type = g.type;
  entry.g_extent = extent_of(g);
  if (!is_number(g.type)) return kDType;
  if (layout_of(g) != entry.layout) {  // another dtype, or strides that differ, perhaps where they do not matter
    View theta;
    Scratch other;
    if (Reason reason = reader_.read(entry.parameter, theta, other)) return reason;
    if (!same_layout(theta, g)) return kLayout;
    if ((g.type == DType::float64) != (theta.type == DType::float64)) return kMixed;
  }
  // `.imag` of a conjugate is negated; with more than one element its strides tell as well.
  if (g.count == 1 && Reader::is_negated(entry.grad)) return kLayout;
  return nullptr;
}

Reason Table::examine(Entry& entry, bool& moved) {
  if (groups_[entry.group].rule == nullptr) return kRule;
  if (!entry.verified || !is_unmoved(entry)) {
    entry.verified = false;
    if (Reason reason = examine_memory(entry, moved)) return reason;
    entry.verified = true;
  }
  return entry.grad == nullptr ? nullptr : examine_gradient(entry);
}

// Which parameters write where another writes too. Their order of execution would show.
void Table::find_overlaps() {
  writes_.clear();
  for (std::uint32_t e = 0; e < entries_.size(); ++e) {
    Entry& entry = entries_[e];
    entry.overlaps = false;
    if (entry.grad == nullptr || entry.extent == 0) continue;  // nothing is written without a gradient
    const auto add = [&](const std::byte* data, std::size_t bytes) { writes_.push_back({data, data + bytes, e}); };
    add(entry.streams.theta, entry.extent);
    for (std::size_t k = 0; k < groups_[entry.group].n_slots; ++k) {
      if (entry.streams.slots[k] != nullptr) add(entry.streams.slots[k], entry.slot_bytes[k]);
      if (entry.headers[k].data != nullptr) add(entry.headers[k].data, entry.headers[k].bytes);
    }
    if (entry.residual.data != nullptr) add(entry.residual.data, entry.residual.bytes);
    if (entry.key.data != nullptr) add(entry.key.data, entry.key.bytes);
  }
  std::sort(writes_.begin(), writes_.end(), [](const Range& x, const Range& y) { return x.start < y.start; });
  any_overlap_ = false;
  std::size_t widest = 0;
  for (std::size_t i = 1; i < writes_.size(); ++i) {
    if (writes_[i].start < writes_[widest].stop) {
      any_overlap_ = true;
      entries_[writes_[i].entry].overlaps = true;
      entries_[writes_[widest].entry].overlaps = true;
    }
    if (writes_[i].stop > writes_[widest].stop) widest = i;
  }
  for (Entry& entry : entries_) entry.gap = 0;
}

// Which gradients lie where a step writes, and who writes there: their order of execution would show too.
void Table::find_clashes() {
  if (any_clash_) {
    for (Entry& entry : entries_) entry.clashes = false;
  }
  any_clash_ = false;
  for (Entry& entry : entries_) {
    if (entry.grad != nullptr && entry.g_extent > 0) any_clash_ |= is_written(entry);
  }
}

// Whether the gradient lies where a step writes; if so, it and those who write there are marked.
bool Table::is_written(Entry& entry) {
  const std::byte* start = entry.streams.g;
  const std::byte* stop = start + entry.g_extent;
  const auto fits = [&](std::size_t gap) {
    return !any_overlap_ && (gap == 0 || writes_[gap - 1].stop <= start) &&
           (gap == writes_.size() || stop <= writes_[gap].start);
  };
  if (last_gap_ <= writes_.size() && fits(last_gap_)) return false;  // as the gradient before, or as in the last step
  if (entry.gap <= writes_.size() && fits(entry.gap)) {
    last_gap_ = entry.gap;
    return false;
  }
  const auto next = std::lower_bound(writes_.begin(), writes_.end(), start,
                                     [](const Range& range, const std::byte* at) { return range.start < at; });
  last_gap_ = entry.gap = static_cast<std::size_t>(next - writes_.begin());
  if (fits(entry.gap)) return false;
  for (const Range& range : writes_) {
    if (range.start < stop && start < range.stop) entries_[range.entry].clashes = entry.clashes = true;
  }
  return entry.clashes;
}

std::uint32_t Table::row_of(const Entry& entry) {
  RowKey key{entry.group, entry.fresh, {}};
  for (std::size_t k = 0; k < groups_[entry.group].n_counters; ++k) {
    key.counters[k] = load(entry.counter_data[k], entry.counter_types[k]);
  }
  // Nearly always the row of the parameter before.
  for (std::size_t r = rows_.size(); r-- > 0;) {
    const RowKey& row = rows_[r];
    if (row.group == key.group && row.fresh == key.fresh && row.counters[0] == key.counters[0] &&
        row.counters[1] == key.counters[1]) {
      return static_cast<std::uint32_t>(r);
    }
  }
  rows_.push_back(key);
  return static_cast<std::uint32_t>(rows_.size() - 1);
}

nb::object Table::gather(nb::list groups, nb::dict state) {
  release();
  if (!is_current(groups.ptr(), state.ptr())) return nb::none();
  static PyObject* const grad_name = PyUnicode_InternFromString("grad");
  rows_.clear();
  nb::list refused;
  bool moved = false, overlapping = false;
  incomplete_ = false;
  for (std::size_t e = 0, fetched = 0; e < entries_.size(); ++e) {
    for (; fetched < std::min(entries_.size(), e + kLookahead); ++fetched) {  // gradients come a few ahead
      prefetch(fetched);
      Entry& entry = entries_[fetched];
      entry.grad = PyObject_GetAttr(entry.parameter, grad_name);
      if (entry.grad == nullptr) throw nb::python_error();
      if (entry.grad == Py_None) {
        Py_CLEAR(entry.grad);
      } else if (reader_.is_plain(entry.grad)) {
        reader_.prefetch(entry.grad);
      }
    }
    Entry& entry = entries_[e];
    moved |= entry.had_grad != (entry.grad != nullptr);
    entry.had_grad = entry.grad != nullptr;
    entry.g_extent = 0;
    if (entry.grad == nullptr) continue;
    entry.reason = examine(entry, moved);
    entry.active = entry.reason == nullptr;
    if (!entry.active) refused.append(e);
  }
  if (moved || writes_.empty()) find_overlaps();
  find_clashes();
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    Entry& entry = entries_[e];
    overlapping |= entry.grad != nullptr && (entry.overlaps || entry.clashes);
    if (!entry.active) continue;
    if (entry.count > 0 && (entry.overlaps || entry.clashes)) {
      entry.active = false;
      entry.reason = kOverlap;
      refused.append(e);
      continue;
    }
    const Group& group = groups_[entry.group];
    if (entry.lacks || (entry.state == nullptr && group.n_slots + group.n_counters > 0)) {
      incomplete_ = true;
    } else {
      entry.row = row_of(entry);
    }
  }
  nb::list rows;
  for (const RowKey& row : rows_) {
    nb::list counters;
    for (std::size_t k = 0; k < groups_[row.group].n_counters; ++k) counters.append(row.counters[k]);
    rows.append(nb::make_tuple(row.group, row.fresh, nb::tuple(counters)));
  }
  return nb::make_tuple(rows, refused, incomplete_, overlapping);
}

double Table::squares(std::size_t threads) {
  struct Span {
    const Entry* entry;
    std::size_t first;
  };
  std::vector<Span> spans;
  std::size_t total = 0, elements = 0;
  for (const Entry& entry : entries_) {
    if (!entry.active) continue;
    spans.push_back({&entry, total});
    total += (entry.count + kBlock - 1) / kBlock;
    elements += entry.count;
  }
  std::vector<Squares> blocks(total);
  {
    const nb::gil_scoped_release unlocked;
    parallel((total + kBlocksPerItem - 1) / kBlocksPerItem, threads_for(elements, threads), [&](std::size_t item) {
      std::size_t block = item * kBlocksPerItem;
      const std::size_t stop = std::min(total, block + kBlocksPerItem);
      auto span = std::upper_bound(spans.begin(), spans.end(), block,
                                   [](std::size_t at, const Span& s) { return at < s.first; }) -
                  1;
      for (; block < stop; ++block) {
        while (span + 1 != spans.end() && (span + 1)->first <= block) ++span;
        const Streams& streams = span->entry->streams;
        const std::size_t at = (block - span->first) * kBlock;
        blocks[block] = kernels_.squares[static_cast<std::size_t>(streams.g_type)](
            streams.g + at * size_of(streams.g_type), std::min(kBlock, span->entry->count - at));
      }
    });
  }
  double total_sum = 0;
  measured_.clear();
  for (std::size_t i = 0; i < spans.size(); ++i) {  // each tensor's blocks, then the tensors: as in norm.py
    const std::size_t end = i + 1 < spans.size() ? spans[i + 1].first : total;
    Measured measured{spans[i].entry->parameter, {}};
    for (std::size_t b = spans[i].first; b < end; ++b) {
      measured.squares.sum += blocks[b].sum;
      measured.squares.largest = std::max(measured.squares.largest, blocks[b].largest);
    }
    total_sum += measured.squares.sum;
    measured_.push_back(measured);
  }
  return total_sum;
}

nb::list Table::statistics() const {
  nb::list found;
  for (const Measured& measured : measured_) {
    found.append(nb::make_tuple(nb::handle(measured.parameter), measured.squares.sum, measured.squares.largest));
  }
  return found;
}

std::vector<PyObject*> Table::gathered() const {
  std::vector<PyObject*> parameters;
  for (const Entry& entry : entries_) {
    if (entry.active) parameters.push_back(entry.parameter);
  }
  return parameters;
}

void Table::run(nb::list rows, double grad_scale, std::size_t threads) {
  if (incomplete_) throw std::logic_error("run: a parameter that has a gradient has no state");
  if (rows.size() != rows_.size()) {
    throw std::invalid_argument("rows: gather asked for " + std::to_string(rows_.size()) + ", got " +
                                std::to_string(rows.size()));
  }
  std::vector<Order> orders(rows.size());
  std::vector<std::array<double, 2>> counters_after(rows.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto parts = nb::cast<nb::tuple>(rows[r]);
    const nb::list numbers(parts[1]);
    const nb::tuple counters(parts[2]);
    const Group& group = groups_[rows_[r].group];
    Order& order = orders[r];
    order.rule = group.rule;
    order.form = nb::cast<std::size_t>(parts[0]);
    if (order.form >= kForms) throw std::invalid_argument("form: there are 0 (plain), 1 (coupled), 2 (cautious)");
    const std::string_view names = group.rule->scalars;
    const std::size_t n_scalars =
        names.empty() ? 0 : 1 + static_cast<std::size_t>(std::count(names.begin(), names.end(), ' '));
    if (numbers.size() != 4 + n_scalars || counters.size() != group.n_counters) {
      throw std::invalid_argument(std::string("row of rule ") + group.rule->name + ": wrong number of scalars");
    }
    const auto number = [&](std::size_t i) {
      const nb::handle value = numbers[i];
      return value.is_none() ? std::nan("") : nb::cast<double>(value);
    };
    order.row.grad_scale = number(0) * grad_scale;
    order.row.couple = number(1);
    order.row.shrink = number(2);
    order.row.eta = number(3);
    for (std::size_t i = 0; i < n_scalars; ++i) order.row.scalars[i] = number(4 + i);
    for (std::size_t k = 0; k < group.n_counters; ++k) counters_after[r][k] = nb::cast<double>(counters[k]);
  }

  Pieces pieces;
  for (Entry& entry : entries_) {
    if (!entry.active) continue;
    if (entry.key.data != nullptr) {
      std::uint64_t key;
      std::memcpy(&key, entry.key.data, sizeof key);
      set_key(entry.streams, key);
    }
    pieces.add(entry.streams, entry.count, entry.row);
  }
  {
    const nb::gil_scoped_release unlocked;
    pieces.run(orders, threads);
  }
  for (Entry& entry : entries_) {  // last, since nothing can fail from here on
    if (!entry.active) continue;
    for (std::size_t k = 0; k < groups_[entry.group].n_counters; ++k) {
      store(entry.counter_data[k], entry.counter_types[k], counters_after[entry.row][k]);
    }
    if (entry.key.data != nullptr) {
      std::uint64_t key;
      std::memcpy(&key, entry.key.data, sizeof key);
      key += kGolden64;
      std::memcpy(entry.key.data, &key, sizeof key);
    }
  }
  for (Entry& entry : entries_) entry.fresh = false;  // those that ran elsewhere have had their first step too
  release();
}

Reason Table::refusal(std::size_t index) const { return entries_.at(index).reason; }

std::vector<Reason> Table::reasons() {
  release();
  static PyObject* const grad_name = PyUnicode_InternFromString("grad");
  std::vector<Reason> found;
  bool moved = false;
  for (Entry& entry : entries_) {
    entry.grad = PyObject_GetAttr(entry.parameter, grad_name);
    if (entry.grad == nullptr) throw nb::python_error();
    if (entry.grad == Py_None) Py_CLEAR(entry.grad);
    entry.had_grad = false;  // so that the next gather looks for overlaps itself
    entry.g_extent = 0;
    found.push_back(examine(entry, moved));
  }
  find_overlaps();
  for (std::size_t e = 0; e < entries_.size(); ++e)
    entries_[e].active = entries_[e].grad != nullptr && found[e] == nullptr;
  find_clashes();
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    Entry& entry = entries_[e];
    if (found[e] != nullptr || entry.count == 0) continue;
    if (entry.overlaps || entry.clashes) found[e] = kOverlap;
  }
  release();
  return found;
}

}  // namespace adamantine
