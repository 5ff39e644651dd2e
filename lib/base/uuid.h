// SPDX-License-Identifier: GPL-2.0-or-later
// A UUID of 128 bits and its three spellings. Knows nothing of what it names.
#ifndef COWSNAP_BASE_UUID_H
#define COWSNAP_BASE_UUID_H

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cowsnap {

class Uuid {
public:
    using Bytes = std::array<std::uint8_t, 16>;

    Uuid() = default;
    explicit Uuid(const Bytes& bytes) : bytes_(bytes) {}

    /// A new random UUID (version 4). Throws Error if the kernel gives no random bytes.
    static Uuid random();

    /// Reads any of the spellings below; nothing if text is none of them.
    static std::optional<Uuid> parse(std::string_view text);

    /// 36 characters with '-'.
    std::string dashed() const { return spelled('-'); }
    /// 36 characters with '_', as in D-Bus object paths.
    std::string underscored() const { return spelled('_'); }
    /// 32 characters, as in device-mapper UUIDs.
    std::string hex() const { return spelled('\0'); }
    /// The first 8 digits: enough to tell devices apart by eye.
    std::string brief() const { return hex().substr(0, 8); }

    const Bytes& bytes() const { return bytes_; }
    auto operator<=>(const Uuid&) const = default;

private:
    std::string spelled(char separator) const;

    Bytes bytes_{};
};

}  // namespace cowsnap

#endif
