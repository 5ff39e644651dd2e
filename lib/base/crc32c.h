// SPDX-License-Identifier: GPL-2.0-or-later
// CRC32C as proto/cowsnap_disk.h defines it. Knows no structure.
#ifndef COWSNAP_BASE_CRC32C_H
#define COWSNAP_BASE_CRC32C_H

#include <cstddef>
#include <cstdint>
#include <span>

namespace cowsnap {

/// CRC32C (Castagnoli, reflected, initial value and final xor 0xffffffff).
std::uint32_t crc32c(std::span<const std::byte> data);

}  // namespace cowsnap

#endif
