// SPDX-License-Identifier: GPL-2.0-or-later
// Catch2's main(), with the log kept quiet: refusals are what many tests provoke.
#define CATCH_CONFIG_RUNNER
#include <spdlog/spdlog.h>
#include <catch2/catch.hpp>

int main(int argc, char** argv) {
    spdlog::set_level(spdlog::level::off);
    return Catch::Session().run(argc, argv);
}
