#pragma once

namespace weft::engine::interpose::elf {

// The function `name` of libc itself, in its default version; null if libc has none.
//
// Asks libc's own handle, because dlsym(RTLD_DEFAULT or RTLD_NEXT) may find an interposer, and in a program
// that is not position independent even the program's own PLT stub: calling that "real" function would come
// back to the replacement for ever.
//
// Thread-safe. Takes the loader's lock: do not call it from a dl_iterate_phdr callback. Usable before static
// initialisation.
void* libc_symbol(const char* name) noexcept;

// The same, for a pointer of the function's type: `auto* real = libc_function<decltype(::recv)>("recv")`.
template <class Function>
Function* libc_function(const char* name) noexcept {
  return reinterpret_cast<Function*>(libc_symbol(name));
}

}  // namespace weft::engine::interpose::elf
