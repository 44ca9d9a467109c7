# WEFT_SANITIZE=address adds AddressSanitizer and UBSan, =thread adds ThreadSanitizer, to the whole build.
if(WEFT_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(WEFT_SANITIZE STREQUAL "thread")
  # -Wno-tsan: GCC warns that it does not model atomic_thread_fence; the code uses none that TSan relies on.
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -Wno-tsan)
  add_link_options(-fsanitize=thread)
elseif(NOT WEFT_SANITIZE STREQUAL "")
  message(FATAL_ERROR "WEFT_SANITIZE must be empty, 'address' or 'thread', not '${WEFT_SANITIZE}'")
endif()
if(WEFT_SANITIZE)
  # Enough for their reports, and compiled in half the time.
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1")
endif()
