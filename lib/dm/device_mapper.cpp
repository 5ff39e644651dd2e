// SPDX-License-Identifier: GPL-2.0-or-later
// Spelling of device numbers and of device-mapper UUIDs, and what is made of several calls.
#include "dm/device_mapper.h"

#include <charconv>

#include "base/error.h"
#include "cowsnap_dm.h"

namespace cowsnap {

std::string DeviceNumber::text() const {
    return fmt::format("{}:{}", major, minor);
}

std::optional<DeviceNumber> DeviceNumber::parse(std::string_view text) {
    DeviceNumber number;
    const char* const end = text.data() + text.size();
    const auto [colon, major_code] = std::from_chars(text.data(), end, number.major);
    if (major_code != std::errc() || colon == end || *colon != ':')
        return std::nullopt;
    const auto [stop, minor_code] = std::from_chars(colon + 1, end, number.minor);
    if (minor_code != std::errc() || stop != end)
        return std::nullopt;
    return number;
}

namespace {

/// A device whose new table could not be made live gets on with the one before. That may be what is
/// live still, or one that a resume could not finish is.
void putBack(DeviceMapper& mapper, const std::string& name, const std::vector<MappedTarget>& before,
             Visibility visibility) {
    try {
        mapper.clear(name);
        mapper.resume(name, visibility);
    } catch (const Error&) {
        mapper.load(name, before, false);
        mapper.resume(name, visibility);
    }
}

}  // namespace

void DeviceMapper::create(const std::string& name, const std::string& uuid,
                          const std::vector<MappedTarget>& new_table, Visibility visibility,
                          bool read_only) {
    make(name, uuid);
    try {
        load(name, new_table, read_only);
        resume(name, visibility);
    } catch (const Error& error) {
        try {
            remove(name, visibility);
        } catch (const Error& second) {
            fail(error.kind(), "{}; and what is left of it cannot be removed: {}", error.what(),
                 second.what());
        }
        throw;
    }
}

void DeviceMapper::reload(const std::string& name, const std::vector<MappedTarget>& new_table,
                          Visibility visibility) {
    const std::vector<MappedTarget> before = table(name);
    load(name, new_table, false);
    try {
        suspend(name);
        resume(name, visibility);
    } catch (const Error& error) {
        try {
            putBack(*this, name, before, visibility);
        } catch (const Error& second) {
            fail(error.kind(),
                 "{}. It may be suspended now, and what uses it waits ({}): \"dmsetup resume {}\"",
                 error.what(), second.what(), name);
        }
        throw;
    }
}

std::string deviceMapperUuid(const Uuid& uuid, std::string_view role) {
    return fmt::format("{}{}-{}", COWSNAP_DM_UUID_PREFIX, uuid.hex(), role);
}

std::optional<DeviceRole> parseDeviceMapperUuid(std::string_view text) {
    const std::string_view prefix = COWSNAP_DM_UUID_PREFIX;
    constexpr std::size_t hex_digits = 32;
    if (!text.starts_with(prefix))
        return std::nullopt;
    text.remove_prefix(prefix.size());
    if (text.size() < hex_digits + 2 || text[hex_digits] != '-')
        return std::nullopt;
    const auto uuid = Uuid::parse(text.substr(0, hex_digits));
    if (!uuid)
        return std::nullopt;
    return DeviceRole{*uuid, std::string(text.substr(hex_digits + 1))};
}

}  // namespace cowsnap
