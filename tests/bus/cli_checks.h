// SPDX-License-Identifier: GPL-2.0-or-later
// What tests of snapd-cli expect of how it ended.
#ifndef COWSNAP_TESTS_BUS_CLI_CHECKS_H
#define COWSNAP_TESTS_BUS_CLI_CHECKS_H

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <string>

#include "bus_bed.h"

namespace cowsnap::test {

inline nlohmann::json jsonOf(const CliResult& result) {
    INFO(result.output << result.errors);
    const auto document = nlohmann::json::parse(result.output);
    CHECK(document.at("schema") == 1);
    return document;
}

inline void checkDone(const CliResult& result, const std::string& output) {
    INFO(result.errors);
    CHECK(result.code == 0);
    CHECK_THAT(result.output, Catch::Contains(output));
}

inline void checkFailed(const CliResult& result, int code, const std::string& message) {
    INFO(result.output << result.errors);
    CHECK(result.code == code);
    CHECK_THAT(result.errors, Catch::Contains(message));
}

}  // namespace cowsnap::test

#endif
