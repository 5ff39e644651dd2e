// SPDX-License-Identifier: GPL-2.0-or-later
// Small files that are wholly there after a power cut, or as they were before.
#ifndef COWSNAP_BASE_DURABLE_FILE_H
#define COWSNAP_BASE_DURABLE_FILE_H

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace cowsnap {

/// Replaces the contents of a file; its directory is made when it is missing. Readable for its
/// owner only. Durable when this returns; throws Error (Failed) that names the file.
void writeDurably(const std::filesystem::path& path, std::string_view text);

/// Removes a file, durably; nothing happens if there is none. Throws Error (Failed).
void removeDurably(const std::filesystem::path& path);

/// The contents of a file, nothing if there is none. Throws Error (Failed) if it cannot be read.
std::optional<std::string> readIfThere(const std::filesystem::path& path);

}  // namespace cowsnap

#endif
