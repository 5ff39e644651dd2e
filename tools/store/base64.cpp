// SPDX-License-Identifier: GPL-2.0-or-later
// Base64, three bytes to four letters.
#include "store/base64.h"

#include <array>
#include <cstdint>

namespace cowsnap::store {

namespace {

constexpr std::string_view kLetters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kNoLetter = 0xff;

constexpr std::array<std::uint8_t, 256> kValues = [] {
    std::array<std::uint8_t, 256> values{};
    values.fill(kNoLetter);
    for (std::size_t i = 0; i < kLetters.size(); ++i)
        values[static_cast<unsigned char>(kLetters[i])] = static_cast<std::uint8_t>(i);
    return values;
}();

}  // namespace

std::string encodeBase64(std::span<const std::byte> bytes) {
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        const auto byte = [&](std::size_t i) {
            return at + i < bytes.size() ? std::to_integer<std::uint32_t>(bytes[at + i]) : 0U;
        };
        const std::uint32_t group = byte(0) << 16 | byte(1) << 8 | byte(2);
        text += kLetters[group >> 18];
        text += kLetters[group >> 12 & 63];
        text += at + 1 < bytes.size() ? kLetters[group >> 6 & 63] : '=';
        text += at + 2 < bytes.size() ? kLetters[group & 63] : '=';
    }
    return text;
}

std::optional<std::vector<std::byte>> decodeBase64(std::string_view text) {
    if (text.size() % 4 != 0)
        return std::nullopt;
    std::size_t padding = 0;
    while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=')
        ++padding;
    std::vector<std::byte> bytes;
    bytes.reserve(text.size() / 4 * 3);
    for (std::size_t at = 0; at < text.size(); at += 4) {
        std::uint32_t group = 0;
        for (std::size_t i = 0; i < 4; ++i) {
            const bool is_padding = at + i >= text.size() - padding;
            const std::uint8_t value =
                is_padding ? std::uint8_t{0} : kValues[static_cast<unsigned char>(text[at + i])];
            if (value == kNoLetter)
                return std::nullopt;
            group = group << 6 | value;
        }
        const std::size_t count = at + 4 == text.size() ? 3 - padding : 3;
        if (count < 3 && (group & (count == 2 ? 0xffU : 0xffffU)) != 0)
            return std::nullopt;
        for (std::size_t i = 0; i < count; ++i)
            bytes.push_back(static_cast<std::byte>(group >> (16 - 8 * i) & 0xff));
    }
    return bytes;
}

}  // namespace cowsnap::store
