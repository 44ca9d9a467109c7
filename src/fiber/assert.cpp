#include "fiber/assert.hpp"

#include <cstdlib>
#include <cstring>

#include "fiber/sys.hpp"

namespace weft::engine::detail {

void assertion_failed(const char* condition, const char* file, int line) noexcept {
  char digits[12];
  char* digit = digits + sizeof digits;
  do *--digit = static_cast<char>('0' + line % 10);
  while ((line /= 10) != 0);
  const auto put = [](const char* text, size_t size) { sys::call(SYS_write, 2, text, size); };
  put("weft: broken invariant: ", 24);
  put(condition, strlen(condition));
  put(" at ", 4);
  put(file, strlen(file));
  put(":", 1);
  put(digit, static_cast<size_t>(digits + sizeof digits - digit));
  put("\n", 1);
  abort();
}

}  // namespace weft::engine::detail
