#include "heap/profile_stack.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <atomic>

#include "host/python.hpp"
#include "host/python_text.hpp"

// Where Python's frames belong among the native ones. CPython runs Python code in _PyEval_EvalFrameDefault,
// which since 3.11 goes on in the same call when Python calls Python, and is entered anew only where C code
// calls Python. So each native frame of that function stands for a run of Python frames, up to the one that C
// code called; the interpreter marks where a run ends (PythonFrame::outer_loop). The function itself says
// nothing then, and is left out.

namespace weft::heap {

namespace {

using engine::host::Python;

// The code of the interpreter's loop; 0: not known.
constinit std::atomic<uintptr_t> g_loop_begin{0}, g_loop_end{0};

}  // namespace

void prepare_capture() noexcept {
  engine::dump::prepare_stack_walk();
  if (!Python::find() || g_loop_begin.load(std::memory_order_relaxed)) return;
  void* loop = dlsym(RTLD_DEFAULT, "_PyEval_EvalFrameDefault");
  Dl_info info;
  void* entry = nullptr;
  if (!loop || !dladdr1(loop, &info, &entry, RTLD_DL_SYMENT) || !entry) return;
  const auto begin = reinterpret_cast<uintptr_t>(info.dli_saddr);
  g_loop_end.store(begin + static_cast<const ElfW(Sym)*>(entry)->st_size, std::memory_order_relaxed);
  g_loop_begin.store(begin, std::memory_order_relaxed);
}

Capture::Capture(const void* caller) noexcept {
  engine::CallSite here;
  here.capture();
  native_count_ = walk_stack(engine::dump::StackContext::of_call(here), native_, kMost);
  const auto address = reinterpret_cast<uintptr_t>(caller);
  const auto first = std::find_if(native_, native_ + native_count_, [&](const engine::dump::Frame& frame) {
    return frame.address == address - 1;
  });
  if (first != native_ + native_count_) {
    std::copy(first, native_ + native_count_, native_);
    native_count_ -= static_cast<size_t>(first - native_);
  }
  const Python* python = Python::present();
  if (python && python->layout() && !python->free_threaded() && python->usable())
    python_count_ = read_own_python_frames(*python, python_, kMost);
}

PackedFrame Capture::pack(ProfileTable& table, const engine::host::PythonFrame& frame) const noexcept {
  const engine::host::Layout& layout = *Python::present()->layout();
  char buffers[2][512];
  std::string_view texts[2];
  for (const int i : {0, 1}) {
    const uintptr_t object = i == 0 ? frame.filename : frame.name;
    texts[i] = own_ascii_text(layout, object).substr(0, sizeof buffers[i] - 1);
    if (!texts[i].empty()) continue;
    engine::host::BufferSink sink(buffers[i], sizeof buffers[i]);
    write_python_text(layout, object, sink);
    texts[i] = {buffers[i], sink.size()};
  }
  const uint32_t function = table.function(texts[0], texts[1]);
  return function == HashIndex::kNone ? PackedFrame::native(0) : PackedFrame::python(function, frame.line);
}

size_t Capture::merge(ProfileTable& table, PackedFrame* frames) const noexcept {
  const uintptr_t loop_begin = g_loop_begin.load(std::memory_order_relaxed);
  const uintptr_t loop_end = g_loop_end.load(std::memory_order_relaxed);
  size_t count = 0, python = 0;
  for (size_t i = 0; i < native_count_; ++i) {
    const uintptr_t address = native_[i].address;
    if (python_count_ == 0 || address < loop_begin || address >= loop_end) {
      frames[count++] = PackedFrame::native(address);
      continue;
    }
    for (bool first = true; python < python_count_ && (first || !python_[python].outer_loop); first = false)
      frames[count++] = pack(table, python_[python++]);
  }
  // The native stack was cut, or the loop has another name here.
  while (python < python_count_) frames[count++] = pack(table, python_[python++]);
  return count;
}

}  // namespace weft::heap
