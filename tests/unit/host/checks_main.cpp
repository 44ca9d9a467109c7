// The tests of host/ that need an interpreter, as a library that is loaded into one.
#include <gtest/gtest.h>

#include <cstdio>

#include "host/python.hpp"

/// Runs them on the calling thread. REQUIRES: an initialised interpreter; the caller does not hold the GIL.
extern "C" __attribute__((visibility("default"))) int weft_host_checks(int argc, char** argv) {
  const auto* python = weft::engine::host::Python::find();
  if (!python) {
    fprintf(stderr, "no interpreter found in this process\n");
    return 1;
  }
  printf("testing CPython %s, in %s\n", python->version_text(), python->object_path());
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
