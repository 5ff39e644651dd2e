// SPDX-License-Identifier: GPL-2.0-or-later
// Catch2's main(), which takes long to compile, once for all test programs.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
