// SPDX-License-Identifier: GPL-2.0-or-later
// Contents of which every sector tells where it belongs and which write it is from, and images of
// such contents. Knows no device.
#ifndef COWSNAP_VM_STAMPS_H
#define COWSNAP_VM_STAMPS_H

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace vmtest {

inline constexpr std::size_t kSectorBytes = 512;

/// The number of a write; greater: issued later.
using Stamp = std::uint64_t;

/// A sector of zeros.
inline constexpr Stamp kZeros = 0;
/// A sector that no write has left like this: torn, or from elsewhere.
inline constexpr Stamp kForeign = std::numeric_limits<Stamp>::max();

/// One stamp for each sector.
using Image = std::vector<Stamp>;

/// Fills a sector with what the write @stamp leaves in sector @number.
void putSector(std::span<std::byte> sector, std::uint64_t number, Stamp stamp);
/// The write that a sector's contents are from.
Stamp getSector(std::span<const std::byte> sector, std::uint64_t number);

/// What differs between two images of the same size, for people; nothing if they are equal.
std::optional<std::string> difference(const Image& expected, const Image& found);

}  // namespace vmtest

#endif
