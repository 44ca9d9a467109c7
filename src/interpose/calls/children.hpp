#pragma once
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>

// wait itself under its other name: `wait` would hide the functions of that name in every routed call.
extern "C" pid_t __wait(int* status);

// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_CHILDREN_CALLS(X) \
  X(__wait)                    \
  X(waitpid)                   \
  X(wait3)                     \
  X(wait4)                     \
  X(waitid)                    \
  X(system)                    \
  X(pclose)
#define WEFT_CHILDREN_ALIASES(Y) \
  Y(wait, __wait)                \
  Y(__waitpid, waitpid)
