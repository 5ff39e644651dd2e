// SPDX-License-Identifier: GPL-2.0-or-later
// Bytes as text (RFC 4648, section 4). Pure functions.
#ifndef COWSNAP_STORE_BASE64_H
#define COWSNAP_STORE_BASE64_H

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cowsnap::store {

std::string encodeBase64(std::span<const std::byte> bytes);
/// Nothing if text is not what encodeBase64() gives for any bytes.
std::optional<std::vector<std::byte>> decodeBase64(std::string_view text);

}  // namespace cowsnap::store

#endif
