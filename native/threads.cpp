#include "threads.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace adamantine {
namespace {

// How often the caller looks for its helpers' end before it sleeps: longer than one item takes.
constexpr int kLooks = 2000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whether subnormal numbers are flushed is a flag of each thread: helpers take the caller's, so that results do
// not depend on who computed them.
#if defined(__x86_64__)
using FloatMode = unsigned;
FloatMode float_mode() { return _mm_getcsr(); }
void set_float_mode(FloatMode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
using FloatMode = std::uint64_t;
FloatMode float_mode() {
  FloatMode mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
void set_float_mode(FloatMode mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
struct FloatMode {};
FloatMode float_mode() { return {}; }
void set_float_mode(FloatMode) {}
#endif

// Every thread has a part of the items that lies together, which memory likes best, and takes from the others'
// when its own is done.
struct alignas(64) Part {
  std::atomic<std::size_t> next{0};
  std::size_t stop = 0;
};

struct Job {
  Task task;
  void* context;
  FloatMode mode;
  std::vector<Part> parts;
  std::atomic<std::size_t> arrivals{0};

  Job(Task the_task, void* the_context, std::size_t items, std::size_t threads)
      : task(the_task), context(the_context), mode(float_mode()), parts(threads) {
    for (std::size_t p = 0; p < threads; ++p) {
      parts[p].next = items * p / threads;
      parts[p].stop = items * (p + 1) / threads;
    }
  }

  void work() {
    const std::size_t own = arrivals.fetch_add(1, std::memory_order_relaxed);
    for (std::size_t p = 0; p < parts.size(); ++p) {
      Part& part = parts[(own + p) % parts.size()];
      for (std::size_t item; (item = part.next.fetch_add(1, std::memory_order_relaxed)) < part.stop;) {
        task(context, item);
      }
    }
  }

  // On a thread that is not ours: it gets its own mode back.
  void help() {
    const FloatMode own = float_mode();
    set_float_mode(mode);
    work();
    set_float_mode(own);
  }
};

// torch's own OpenMP threads, where torch uses GNU's library: they are awake already, from the backward pass, and
// a second pool would only stand in their way (docs/speed.md has the measurement). Null elsewhere.
using OpenMP = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);

OpenMP find_openmp() {
#if defined(__linux__)
  if (void* library = dlopen("libgomp.so.1", RTLD_NOLOAD | RTLD_LAZY)) {
    return reinterpret_cast<OpenMP>(dlsym(library, "GOMP_parallel"));
  }
#endif
  return nullptr;
}

// Our own, for everybody else.
class Pool {
 public:
  void run(Job& job, std::size_t helpers) {
    {
      const std::lock_guard lock(mutex_);
      try {
        while (threads_.size() < helpers) threads_.emplace_back([this, id = threads_.size()] { serve(id); });
      } catch (const std::system_error&) {  // none to be had: the caller works with those there are, or alone
      }
      job_ = &job;
      wanted_ = helpers;
      ++generation_;
    }
    wake_.notify_all();
    job.work();
    {
      const std::lock_guard lock(mutex_);
      job_ = nullptr;  // a helper that has not woken by now is not waited for
    }
    for (int look = 0; look < kLooks && running_.load(std::memory_order_acquire) > 0; ++look) pause();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return running_.load(std::memory_order_acquire) == 0; });
  }

 private:
  void serve(std::size_t id) {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return generation_ != seen && id < wanted_ && job_ != nullptr; });
      seen = generation_;
      Job& job = *job_;
      running_.fetch_add(1, std::memory_order_relaxed);
      lock.unlock();
      job.help();
      lock.lock();
      if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  Job* job_ = nullptr;
  std::size_t wanted_ = 0;
  std::uint64_t generation_ = 0;
  std::atomic<std::size_t> running_{0};
};

long process() {
#if defined(__unix__) || defined(__APPLE__)
  return static_cast<long>(getpid());
#else
  return 0;
#endif
}

// In this process OpenMP may be used, or, with GNU's library, nowhere: a child that was forked after a parallel
// region would wait for threads that only its parent has.
const long first_process = process();

// The pool is never destroyed: at exit its threads sleep, and joining them from a static's destructor may hang.
// A forked child has none of its parent's threads, so it makes a pool of its own.
std::mutex owner;
Pool* pool = nullptr;
long pool_process = -1;

}  // namespace

void parallel(std::size_t items, std::size_t threads, Task task, void* context) {
  if (threads <= 1 || items <= 1) {
    for (std::size_t item = 0; item < items; ++item) task(context, item);
    return;
  }
  Job job(task, context, items, std::min(threads, items));
  static const OpenMP openmp = find_openmp();
  if (openmp != nullptr && process() == first_process) {
    openmp([](void* shared) { static_cast<Job*>(shared)->help(); }, &job, static_cast<unsigned>(threads), 0);
    return;
  }
  std::unique_lock lock(owner, std::try_to_lock);
  if (!lock.owns_lock()) return job.work();  // another thread steps right now: do not queue behind it
  if (pool == nullptr || pool_process != process()) {
    pool = new Pool;
    pool_process = process();
  }
  pool->run(job, job.parts.size() - 1);
}

}  // namespace adamantine
