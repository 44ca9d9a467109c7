#pragma once
// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_LOADING_CALLS(X) \
  X(dlopen)                   \
  X(dlmopen)                  \
  X(dlclose)                  \
  X(dlsym)                    \
  X(dlvsym)
#define WEFT_LOADING_ALIASES(Y)
