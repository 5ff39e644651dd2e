// SPDX-License-Identifier: GPL-2.0-or-later
// Which names stores, origins and snapshots may have, what may be said of them, and how a
// device-mapper name is made from one. Knows nothing of where names are kept.
#ifndef COWSNAP_BASE_NAMES_H
#define COWSNAP_BASE_NAMES_H

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace cowsnap {

/// A name is at most this long.
inline constexpr std::size_t kNameMaxBytes = 127;

/// Throws InvalidArgument, naming the rule, unless name is UTF-8 of 1 to 127 bytes
/// without '/' and control characters, and neither "." nor "..". what is what it
/// would name, such as "snapshot".
void checkName(std::string_view what, std::string_view name);

/// Throws InvalidArgument unless text is UTF-8 without control characters, at most 1024 bytes.
void checkDescription(std::string_view text);

/// Throws InvalidArgument if a time of expiry, in seconds since 1970, is after the year 9999: all
/// that shows times can show it.
void checkExpiry(std::uint64_t expires);

/// Whether it is one of the control characters of ASCII.
bool isControl(char character);

/// Whether text is well-formed UTF-8 (no overlong forms, no surrogates).
bool isUtf8(std::string_view text);

/// text as a bus takes it: what is no UTF-8 in it, or stands for no character, becomes U+FFFD.
std::string legible(std::string_view text);

/// text, cut between two characters if it is longer; then it ends with "...".
std::string shortened(std::string_view text, std::size_t max_bytes);

/// name as a word of a shell, for commands in messages: in quotes if it needs them.
std::string shellWord(std::string_view name);
/// Several of them, with blanks between.
std::string shellWords(std::span<const std::string> names);

/// name as a part of a device-mapper name: characters that udev would not leave
/// alone become '_', and it is cut to 64 bytes.
std::string asDeviceMapperName(std::string_view name);

/// The same as the beginning of the name of a logical volume: LVM allows fewer characters, and
/// keeps some names for itself (lvm(8), "Valid names").
std::string asVolumeName(std::string_view name);

}  // namespace cowsnap

#endif
