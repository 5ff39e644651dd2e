// SPDX-License-Identifier: GPL-2.0-or-later
// Spelling, reading and making of UUIDs.
#include "base/uuid.h"

#include <sys/random.h>

#include <cerrno>

#include "base/error.h"

namespace cowsnap {

namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

std::optional<unsigned> digitValue(char character) {
    if (character >= 'A' && character <= 'F')
        character = static_cast<char>(character - 'A' + 'a');
    const auto position = kDigits.find(character);
    if (position == std::string_view::npos)
        return std::nullopt;
    return static_cast<unsigned>(position);
}

bool hasSeparatorBefore(std::size_t byte) {
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

}  // namespace

Uuid Uuid::random() {
    Bytes bytes{};
    if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        failErrno(errno, "cannot get random bytes for a UUID");
    bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x40);
    bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);
    return Uuid(bytes);
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
    if (text.size() != 32 && text.size() != 36)
        return std::nullopt;
    const bool separated = text.size() == 36;
    const char separator = separated ? text[8] : '\0';
    if (separated && separator != '-' && separator != '_')
        return std::nullopt;
    Bytes bytes{};
    std::size_t position = 0;
    for (std::size_t byte = 0; byte < bytes.size(); ++byte) {
        if (separated && hasSeparatorBefore(byte) && text[position++] != separator)
            return std::nullopt;
        const auto high = digitValue(text[position++]);
        const auto low = digitValue(text[position++]);
        if (!high || !low)
            return std::nullopt;
        bytes[byte] = static_cast<std::uint8_t>(*high << 4 | *low);
    }
    return Uuid(bytes);
}

std::string Uuid::spelled(char separator) const {
    std::string text;
    for (std::size_t byte = 0; byte < bytes_.size(); ++byte) {
        if (separator != '\0' && hasSeparatorBefore(byte))
            text += separator;
        text += kDigits[bytes_[byte] >> 4];
        text += kDigits[bytes_[byte] & 0x0f];
    }
    return text;
}

}  // namespace cowsnap
