// SPDX-License-Identifier: GPL-2.0-or-later
// The test runner of the unit tests of dm-target/core.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
