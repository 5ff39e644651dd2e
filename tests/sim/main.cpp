// SPDX-License-Identifier: GPL-2.0-or-later
// The test runner of the simulator.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
