// SPDX-License-Identifier: GPL-2.0-or-later
// Whether an origin was written while nobody was in front of it: fingerprints and verdict.
#include <catch2/catch.hpp>

#include <array>
#include <cstring>
#include <string_view>

#include "core.hpp"

namespace {

using Sector = std::array<u8, 512>;

Sector ext_superblock() {
    Sector sector{};
    for (std::size_t i = 0; i < sector.size(); ++i) {
        sector[i] = static_cast<u8>(i * 7);
    }
    sector[56] = 0x53;
    sector[57] = 0xef;
    return sector;
}

Sector xfs_superblock() {
    Sector sector = ext_superblock();
    std::memcpy(sector.data(), "XFSB", 4);
    return sector;
}

constexpr u64 kPrint = 0x1111111122222222;

cow_front in_front(u64 first, u64 second) {
    cow_front front{};
    front.state = COW_FRONT_IN;
    front.print[0] = first;
    front.print[1] = second;
    return front;
}

constexpr u64 kWide = 77;
constexpr u64 kInstance = 5;

cow_front left(u64 written) {
    cow_front front{};
    front.state = COW_FRONT_LEFT;
    front.wide = kWide;
    front.instance = kInstance;
    front.written = written;
    return front;
}

bool exact(const cow_front& front, const cow_sight& sight) {
    return cow_front_verdict(&front, &sight) == nullptr;
}

}  // namespace

TEST_CASE("An ext superblock has another fingerprint when it is mounted, checked or recovered",
          "[front]") {
    const Sector before = ext_superblock();
    const u64 print = cow_front_print_ext(before.data());
    REQUIRE(print != 0);
    REQUIRE((print & ~COW_PRINT_EXT) == 0);
    struct Field {
        std::string_view name;
        std::size_t offset, bytes;
        u8 bit;
    };
    // Offsets of struct ext2_super_block of e2fsprogs.
    for (const Field& field : {Field{"s_blocks_count", 4, 4, 0x80}, Field{"s_mtime", 44, 4, 0x80},
                               Field{"s_mnt_count", 52, 2, 0x80}, Field{"s_lastcheck", 64, 4, 1},
                               Field{"needs_recovery", 96, 1, 4}, Field{"s_uuid", 104, 16, 1}}) {
        INFO(field.name);
        for (std::size_t i = field.offset; i < field.offset + field.bytes; ++i) {
            Sector after = before;
            after[i] ^= field.bit;
            CHECK(cow_front_print_ext(after.data()) != print);
        }
    }
}

TEST_CASE("An ext superblock keeps its fingerprint while the file system is used", "[front]") {
    const Sector before = ext_superblock();
    struct Field {
        std::string_view name;
        std::size_t offset, bytes;
    };
    for (const Field& field :
         {Field{"s_free_blocks_count, s_free_inodes_count", 12, 8}, Field{"s_wtime", 48, 4},
          Field{"s_state, s_errors", 58, 4}, Field{"s_last_mounted and what follows", 136, 376}}) {
        INFO(field.name);
        for (std::size_t i = field.offset; i < field.offset + field.bytes; ++i) {
            Sector after = before;
            after[i] ^= 0xff;
            CHECK(cow_front_print_ext(after.data()) == cow_front_print_ext(before.data()));
        }
    }
}

TEST_CASE("An XFS superblock has another fingerprint when any byte of it changes", "[front]") {
    const Sector before = xfs_superblock();
    const u64 print = cow_front_print_xfs(before.data());
    REQUIRE(print != 0);
    REQUIRE((print & ~COW_PRINT_XFS) == 0);
    for (std::size_t i = 0; i < before.size(); ++i) {
        Sector after = before;
        after[i] ^= 1;
        CHECK(cow_front_print_xfs(after.data()) != print);
    }
}

TEST_CASE("What is no file system has the fingerprint 0", "[front]") {
    const Sector zeros{};
    CHECK(cow_front_print_ext(zeros.data()) == 0);
    CHECK(cow_front_print_xfs(zeros.data()) == 0);
    CHECK(cow_front_print_ext(xfs_superblock().data()) != 0);  // of another sector: both may be
    CHECK(cow_front_print_xfs(ext_superblock().data()) == 0);
}

TEST_CASE("While a write is under way each half may be the old one or the new one", "[front]") {
    const cow_front front = in_front(0xa0000000b, 0xc0000000d);
    for (const u64 print : {0xa0000000bull, 0xc0000000dull, 0xa0000000dull, 0xc0000000bull}) {
        CHECK(cow_front_allows(&front, print, ~0ull));
    }
    CHECK_FALSE(cow_front_allows(&front, 0xa0000000e, ~0ull));
    CHECK_FALSE(cow_front_allows(&front, 0xe0000000b, ~0ull));
    CHECK(cow_front_allows(&front, 0xa0000000e, COW_PRINT_XFS));
    CHECK(cow_front_allows(&front, 0xe0000000b, COW_PRINT_EXT));
    CHECK_FALSE(cow_front_allows(&front, 0xa0000000e, COW_PRINT_EXT));
    CHECK(cow_front_allows(&front, 0xe0000000e, 0));
}

TEST_CASE("Of what was never recorded nothing is stale", "[front]") {
    const cow_front front{};
    CHECK(exact(front, {1, 2, 3, 4}));
}

TEST_CASE("After a crash in front the origin is exact if nothing has written it since", "[front]") {
    const cow_front front = in_front(kPrint, kPrint);
    CHECK(exact(front, {kPrint, 0, 9, 0}));
    CHECK_FALSE(exact(front, {kPrint, 0, 9, 8}));
    CHECK_FALSE(exact(front, {kPrint + 1, 0, 9, 0}));
    CHECK_FALSE(exact(front, {kPrint + (1ull << 32), 0, 9, 0}));
}

TEST_CASE("After a crash the fingerprint decides where writes are not counted", "[front]") {
    const cow_front front = in_front(kPrint, kPrint);
    CHECK(exact(front, {kPrint, 0, 9, COWSNAP_NONE}));
    CHECK_FALSE(exact(front, {kPrint + 1, 0, 9, COWSNAP_NONE}));
}

TEST_CASE("An origin that was left is exact if its device counts no more writes", "[front]") {
    CHECK(exact(left(1000), {0, kWide, kInstance, 1000}));
    CHECK_FALSE(exact(left(1000), {0, kWide, kInstance, 1001}));
    CHECK_FALSE(exact(left(1000), {0, kWide, kInstance, 999}));
    CHECK_FALSE(exact(left(0), {0, kWide, kInstance, 8}));
}

TEST_CASE("An origin that was left is exact if its device came anew and was not written",
          "[front]") {
    CHECK(exact(left(1000), {0, kWide, kInstance + 1, 0}));
    CHECK(exact(left(1000), {0, kWide, kInstance, 0}));  // after a boot numbers begin again
    CHECK_FALSE(exact(left(1000), {0, kWide, kInstance + 1, 8}));
    CHECK_FALSE(exact(left(1000), {0, kWide, kInstance + 1, 1000}));
}

TEST_CASE("An origin that was left is not exact if it looks otherwise", "[front]") {
    CHECK_FALSE(exact(left(1000), {0, kWide + 1, kInstance, 1000}));
    CHECK_FALSE(exact(left(1000), {0, kWide + 1, kInstance + 1, 0}));
    CHECK_FALSE(exact(left(COWSNAP_NONE), {0, kWide + 1, kInstance, COWSNAP_NONE}));
}

TEST_CASE("Where writes are not counted, how an origin that was left looks decides", "[front]") {
    CHECK(exact(left(COWSNAP_NONE), {0, kWide, kInstance, COWSNAP_NONE}));
    CHECK(exact(left(1000), {0, kWide, kInstance, COWSNAP_NONE}));
    CHECK(exact(left(COWSNAP_NONE), {0, kWide, kInstance, 8}));
    CHECK_FALSE(exact(left(COWSNAP_NONE), {0, kWide, kInstance + 1, 8}));
}
