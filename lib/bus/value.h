// SPDX-License-Identifier: GPL-2.0-or-later
// The types of D-Bus values that properties and options have. Knows no bus.
#ifndef COWSNAP_BUS_VALUE_H
#define COWSNAP_BUS_VALUE_H

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace cowsnap {

struct ObjectPath {
    std::string path;
    auto operator<=>(const ObjectPath&) const = default;
};

/// b, u, t, d, s, o, as, ao
using Value = std::variant<bool, std::uint32_t, std::uint64_t, double, std::string, ObjectPath,
                           std::vector<std::string>, std::vector<ObjectPath>>;

/// The D-Bus signature of the value.
const char* signatureOf(const Value& value);

/// A dictionary a{sv}.
using Dictionary = std::map<std::string, Value>;

}  // namespace cowsnap

#endif
