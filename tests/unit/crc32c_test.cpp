// SPDX-License-Identifier: GPL-2.0-or-later
// The CRC32C of user space is the one that the disk format names.
#include <catch2/catch.hpp>

#include <random>
#include <string_view>

#include "core.hpp"

namespace {

u32 bitwise_crc32c(const u8* data, std::size_t bytes) {
    u32 crc = 0xffffffff;
    for (std::size_t i = 0; i < bytes; ++i) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
        }
    }
    return ~crc;
}

}  // namespace

TEST_CASE("CRC32C gives the check values of RFC 3720 B.4", "[crc32c]") {
    const Bytes zeros(32, 0);
    const Bytes ones(32, 0xff);
    Bytes rising(32);
    Bytes falling(32);
    for (u8 i = 0; i < 32; ++i) {
        rising[i] = i;
        falling[i] = static_cast<u8>(31 - i);
    }
    constexpr std::string_view digits = "123456789";

    CHECK(cow_crc32c(0, zeros.data(), zeros.size()) == 0x8a9136aa);
    CHECK(cow_crc32c(0, ones.data(), ones.size()) == 0x62a8ab43);
    CHECK(cow_crc32c(0, rising.data(), rising.size()) == 0x46dd794e);
    CHECK(cow_crc32c(0, falling.data(), falling.size()) == 0x113fdb5c);
    CHECK(cow_crc32c(0, digits.data(), digits.size()) == 0xe3069283);
}

TEST_CASE("CRC32C does not depend on length, alignment or where it is interrupted", "[crc32c]") {
    std::mt19937 random(1);
    Bytes data(300);
    for (u8& byte : data) {
        byte = static_cast<u8>(random());
    }
    for (std::size_t start = 0; start < 9; ++start) {
        for (std::size_t length = 0; length < 80; ++length) {
            const u32 expected = bitwise_crc32c(data.data() + start, length);
            REQUIRE(cow_crc32c(0, data.data() + start, length) == expected);
            const std::size_t half = length / 2;
            const u32 first = cow_crc32c(0, data.data() + start, half);
            REQUIRE(cow_crc32c(first, data.data() + start + half, length - half) == expected);
        }
    }
}

// Long ones are summed in several lanes.
TEST_CASE("CRC32C of whole blocks", "[crc32c]") {
    std::mt19937 random(2);
    Bytes data(5 * 4096);
    for (u8& byte : data) {
        byte = static_cast<u8>(random());
    }
    for (const std::size_t length : {4095u, 4096u, 4097u, 8192u, 3 * 4096u + 13, 4 * 4096u}) {
        for (const std::size_t start : {0u, 3u}) {
            const u32 expected = bitwise_crc32c(data.data() + start, length);
            REQUIRE(cow_crc32c(0, data.data() + start, length) == expected);
            const u32 first = cow_crc32c(0, data.data() + start, 1000);
            REQUIRE(cow_crc32c(first, data.data() + start + 1000, length - 1000) == expected);
        }
    }
}
