// SPDX-License-Identifier: GPL-2.0-or-later
// The rules for names, each with a message of its own.
#include "base/names.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/error.h"

namespace cowsnap {

namespace {

constexpr std::size_t kDescriptionMaxBytes = 1024;
constexpr std::size_t kDeviceMapperPartMaxBytes = 64;
constexpr std::uint64_t kExpiryMax = 253402300799;

/// U+0080 to U+009F, which UTF-8 writes as C2 80 to C2 9F.
bool hasC1Control(std::string_view text) {
    for (std::size_t i = 0; i + 1 < text.size(); ++i)
        if (static_cast<unsigned char>(text[i]) == 0xc2 &&
            static_cast<unsigned char>(text[i + 1]) < 0xa0)
            return true;
    return false;
}

bool hasControl(std::string_view text) {
    return std::any_of(text.begin(), text.end(), isControl) || hasC1Control(text);
}

/// Bytes of the UTF-8 character that starts text; 0 if none does.
std::size_t utf8Length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const auto continues = [&](std::size_t i) {
        return i < text.size() && (byte(i) & 0xc0) == 0x80;
    };
    if (byte(0) < 0x80)
        return 1;
    if (byte(0) >= 0xc2 && byte(0) <= 0xdf)
        return continues(1) ? 2 : 0;
    if (byte(0) >= 0xe0 && byte(0) <= 0xef) {
        if (!continues(1) || !continues(2))
            return 0;
        if (byte(0) == 0xe0 && byte(1) < 0xa0)
            return 0;
        if (byte(0) == 0xed && byte(1) > 0x9f)
            return 0;
        return 3;
    }
    if (byte(0) >= 0xf0 && byte(0) <= 0xf4) {
        if (!continues(1) || !continues(2) || !continues(3))
            return 0;
        if (byte(0) == 0xf0 && byte(1) < 0x90)
            return 0;
        if (byte(0) == 0xf4 && byte(1) > 0x8f)
            return 0;
        return 4;
    }
    return 0;
}

/// U+FDD0 to U+FDEF and the last two of each plane, which stand for nothing.
bool isNoncharacter(std::string_view character) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
    if (character.size() == 4)
        return (byte(1) & 0xf) == 0xf && byte(2) == 0xbf && byte(3) >= 0xbe;
    if (character.size() < 3 || byte(0) != 0xef)
        return false;
    return (byte(1) == 0xbf && byte(2) >= 0xbe) ||
           (byte(1) == 0xb7 && byte(2) >= 0x90 && byte(2) <= 0xaf);
}

}  // namespace

bool isUtf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = utf8Length(text);
        if (length == 0)
            return false;
        text.remove_prefix(length);
    }
    return true;
}

std::string legible(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const std::size_t length = utf8Length(text);
        const std::string_view character = text.substr(0, std::max<std::size_t>(length, 1));
        const bool is_one = length > 0 && !isNoncharacter(character);
        result += is_one ? character : std::string_view("\xef\xbf\xbd");
        text.remove_prefix(character.size());
    }
    return result;
}

std::string shortened(std::string_view text, std::size_t max_bytes) {
    constexpr std::string_view more = "...";
    if (text.size() <= max_bytes)
        return std::string(text);
    std::size_t length = max_bytes - std::min(max_bytes, more.size());
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80)
        --length;
    return std::string(text.substr(0, length)).append(more);
}

bool isControl(char character) {
    const auto code = static_cast<unsigned char>(character);
    return code < 0x20 || code == 0x7f;
}

void checkName(std::string_view what, std::string_view name) {
    const std::string_view article = what.find_first_of("aeiou") == 0 ? "an" : "a";
    if (name.empty())
        fail(ErrorKind::InvalidArgument, "the name of {} {} must not be empty", article, what);
    if (name.size() > kNameMaxBytes)
        fail(ErrorKind::InvalidArgument,
             "the name of {} {} is at most {} bytes long, this one has {}", article, what,
             kNameMaxBytes, name.size());
    if (!isUtf8(name))
        fail(ErrorKind::InvalidArgument, "the name of {} {} must be UTF-8", article, what);
    if (hasControl(name))
        fail(ErrorKind::InvalidArgument, "the name of {} {} must not hold control characters",
             article, what);
    if (name.find('/') != std::string_view::npos)
        fail(ErrorKind::InvalidArgument, "the name of {} {} must not hold '/': \"{}\"", article,
             what, name);
    if (name == "." || name == "..")
        fail(ErrorKind::InvalidArgument, "\"{}\" cannot be the name of {} {}", name, article, what);
}

void checkDescription(std::string_view text) {
    if (text.size() > kDescriptionMaxBytes)
        fail(ErrorKind::InvalidArgument, "a description is at most {} bytes long, this one has {}",
             kDescriptionMaxBytes, text.size());
    if (!isUtf8(text))
        fail(ErrorKind::InvalidArgument, "a description must be UTF-8");
    if (hasControl(text))
        fail(ErrorKind::InvalidArgument, "a description must not hold control characters");
}

void checkExpiry(std::uint64_t expires) {
    if (expires > kExpiryMax)
        fail(ErrorKind::InvalidArgument,
             "a time of expiry is in seconds since 1970, at most {} (the year 9999), not {}",
             kExpiryMax, expires);
}

std::string shellWord(std::string_view name) {
    constexpr std::string_view plain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.,:@%/";
    if (!name.empty() && name.find_first_not_of(plain) == std::string_view::npos)
        return std::string(name);
    std::string word = "'";
    for (const char character : name)
        word += character == '\'' ? std::string("'\\''") : std::string(1, character);
    return word + "'";
}

std::string shellWords(std::span<const std::string> names) {
    std::string words;
    for (const auto& name : names)
        words += (words.empty() ? "" : " ") + shellWord(name);
    return words;
}

std::string asDeviceMapperName(std::string_view name) {
    std::string result(name.substr(0, kDeviceMapperPartMaxBytes));
    for (char& character : result) {
        const bool harmless = (character >= 'a' && character <= 'z') ||
                              (character >= 'A' && character <= 'Z') ||
                              (character >= '0' && character <= '9') || character == '.' ||
                              character == '-' || character == '_' || character == '+';
        if (!harmless)
            character = '_';
    }
    return result;
}

namespace {

/// Of volumes that LVM keeps inside of others; lvcreate refuses names that include them.
constexpr std::array<std::string_view, 17> kReservedInVolumeNames{
    "_cdata",   "_cmeta",  "_corig", "_cpool", "_cvol",  "_imeta", "_iorig",   "_mimage", "_mlog",
    "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig"};

}  // namespace

std::string asVolumeName(std::string_view name) {
    std::string result = asDeviceMapperName(name);
    for (const std::string_view reserved : kReservedInVolumeNames)
        for (auto at = result.find(reserved); at != std::string::npos; at = result.find(reserved))
            result[at] = '.';
    const bool is_refused =
        result.starts_with('-') || result.starts_with("snapshot") || result.starts_with("pvmove");
    return is_refused ? "_" + result : result;
}

}  // namespace cowsnap
