// SPDX-License-Identifier: GPL-2.0-or-later
// Numbers in JSON that comes from outside.
#ifndef COWSNAP_BASE_JSON_NUMBER_H
#define COWSNAP_BASE_JSON_NUMBER_H

#include <concepts>
#include <cstdint>
#include <limits>
#include <string>

#include <nlohmann/json.hpp>

namespace cowsnap {

/// The number of value, which must be a whole one from 0 to the maximum of Number.
/// nlohmann's own get() would cut a longer one off, take true for 1, and cast a
/// floating point one whatever its size, which is undefined.
/// Throws nlohmann::json::exception with the value in its text.
template <std::unsigned_integral Number>
Number numberFrom(const nlohmann::json& value) {
    constexpr auto most = std::numeric_limits<Number>::max();
    // what was read is unsigned unless negative; what C++ put there may be signed
    const bool whole =
        value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0);
    if (!whole || value.get<std::uint64_t>() > most)
        throw nlohmann::json::type_error::create(
            302, value.dump() + " is not a whole number from 0 to " + std::to_string(most), &value);
    return value.get<Number>();
}

}  // namespace cowsnap

#endif
