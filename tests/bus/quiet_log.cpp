// SPDX-License-Identifier: GPL-2.0-or-later
// The log is kept quiet: refusals are what many tests provoke.
#include <spdlog/spdlog.h>

namespace {

[[maybe_unused]] const bool quiet = [] {
    spdlog::set_level(spdlog::level::off);
    return true;
}();

}  // namespace
