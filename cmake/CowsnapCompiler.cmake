# SPDX-License-Identifier: GPL-2.0-or-later
# Languages, warnings and sanitizers, the same for every target of the tree.
#
# COWSNAP_WERROR     warnings are errors
# COWSNAP_SANITIZE   sanitizers, in C and C++: "address,undefined" or "thread"

option(COWSNAP_WERROR "Treat compiler warnings as errors" OFF)
set(COWSNAP_SANITIZE "" CACHE STRING "Build with these sanitizers: address,undefined or thread")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# dm-target/core is kernel code, which is written in GNU C.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

add_compile_options(
  -Wall
  -Wextra
  $<$<COMPILE_LANGUAGE:CXX>:-Wpedantic>
  $<$<COMPILE_LANGUAGE:CXX>:-Wconversion>)

if(COWSNAP_WERROR)
  add_compile_options(-Werror)
endif()

if(COWSNAP_SANITIZE)
  add_compile_options(-fsanitize=${COWSNAP_SANITIZE} -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${COWSNAP_SANITIZE})
  # Boost.Asio has fences, which the thread sanitizer does not know.
  if(COWSNAP_SANITIZE STREQUAL "thread")
    add_compile_options(-Wno-tsan)
  endif()
  # GCC sees uninitialized values where there are none once the sanitizers' checks are in the code.
  add_compile_options(-Wno-maybe-uninitialized)
endif()
