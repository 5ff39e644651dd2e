// SPDX-License-Identifier: GPL-2.0-or-later
// dm-target/core as the unit tests see it, and help with blocks as they are on disk.
#ifndef COWSNAP_TESTS_UNIT_CORE_HPP
#define COWSNAP_TESTS_UNIT_CORE_HPP

#include <cstddef>
#include <cstring>
#include <vector>

extern "C" {
#include "format.h"
#include "front.h"
#include "index.h"
}

inline constexpr std::size_t kBlockBytes = COWSNAP_DISK_BLOCK_SIZE;
inline constexpr u8 kUuid[COWSNAP_UUID_SIZE] = {0xa0, 1, 2,  3,  4,  5,  6,  7,
                                                8,    9, 10, 11, 12, 13, 14, 0xff};
inline constexpr u8 kOtherUuid[COWSNAP_UUID_SIZE] = {0xa0, 1, 2,  3,  4,  5,  6,  7,
                                                     8,    9, 10, 11, 12, 13, 14, 0xfe};

using Bytes = std::vector<u8>;

inline Bytes blocks(std::size_t count) {
    return Bytes(count * kBlockBytes);
}

// Gives a structure that was changed the CRC that it then must have.
inline void reseal(Bytes& structure) {
    constexpr std::size_t crc_offset = 8;
    std::memset(structure.data() + crc_offset, 0, sizeof(u32));
    const u32 crc = htole32(cow_crc32c(0, structure.data(), structure.size()));
    std::memcpy(structure.data() + crc_offset, &crc, sizeof(crc));
}

// A copy in which the field at "offset" has another value, with the right CRC.
template <typename T>
Bytes with(const Bytes& structure, std::size_t offset, T value) {
    Bytes changed = structure;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        changed[offset + i] = static_cast<u8>(value >> (8 * i) & 0xff);
    }
    reseal(changed);
    return changed;
}

// Number of bits that can be flipped one at a time without "valid" noticing.
template <typename Valid>
std::size_t unnoticed_flips(Bytes structure, Valid valid) {
    std::size_t unnoticed = 0;
    for (std::size_t bit = 0; bit < structure.size() * 8; ++bit) {
        const u8 mask = static_cast<u8>(1u << bit % 8);
        structure[bit / 8] ^= mask;
        unnoticed += valid(structure) ? 1 : 0;
        structure[bit / 8] ^= mask;
    }
    return unnoticed;
}

#endif
