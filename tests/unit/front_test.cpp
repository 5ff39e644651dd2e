// SPDX-License-Identifier: GPL-2.0-or-later
// Whether an origin was written while nobody was in front of it: fingerprints and verdict.
#include <catch2/catch.hpp>

#include <array>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

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
        CHECK(cow_front_allows(front.print, print, ~0ull));
    }
    CHECK_FALSE(cow_front_allows(front.print, 0xa0000000e, ~0ull));
    CHECK_FALSE(cow_front_allows(front.print, 0xe0000000b, ~0ull));
    CHECK(cow_front_allows(front.print, 0xa0000000e, COW_PRINT_XFS));
    CHECK(cow_front_allows(front.print, 0xe0000000b, COW_PRINT_EXT));
    CHECK_FALSE(cow_front_allows(front.print, 0xa0000000e, COW_PRINT_EXT));
    CHECK(cow_front_allows(front.print, 0xe0000000e, 0));
}

TEST_CASE("Of what was never recorded nothing is stale", "[front]") {
    const cow_front front{};
    CHECK(exact(front, {1, 2, 0, 3, 4}));
}

TEST_CASE("After a crash in front the origin is exact if nothing has written it since", "[front]") {
    const cow_front front = in_front(kPrint, kPrint);
    CHECK(exact(front, {kPrint, 0, 0, 9, 0}));
    CHECK_FALSE(exact(front, {kPrint, 0, 0, 9, 8}));
    CHECK_FALSE(exact(front, {kPrint + 1, 0, 0, 9, 0}));
    CHECK_FALSE(exact(front, {kPrint + (1ull << 32), 0, 0, 9, 0}));
}

TEST_CASE("After a crash the fingerprint decides where writes are not counted", "[front]") {
    const cow_front front = in_front(kPrint, kPrint);
    CHECK(exact(front, {kPrint, 0, 0, 9, COWSNAP_NONE}));
    CHECK_FALSE(exact(front, {kPrint + 1, 0, 0, 9, COWSNAP_NONE}));
}

TEST_CASE("An origin that was left is exact if its device counts no more writes", "[front]") {
    CHECK(exact(left(1000), {0, kWide, 0, kInstance, 1000}));
    CHECK_FALSE(exact(left(1000), {0, kWide, 0, kInstance, 1001}));
    CHECK_FALSE(exact(left(1000), {0, kWide, 0, kInstance, 999}));
    CHECK_FALSE(exact(left(0), {0, kWide, 0, kInstance, 8}));
}

TEST_CASE("An origin that was left is exact if its device came anew and was not written",
          "[front]") {
    CHECK(exact(left(1000), {0, kWide, 0, kInstance + 1, 0}));
    CHECK(exact(left(1000), {0, kWide, 0, kInstance, 0}));  // after a boot numbers begin again
    CHECK_FALSE(exact(left(1000), {0, kWide, 0, kInstance + 1, 8}));
    CHECK_FALSE(exact(left(1000), {0, kWide, 0, kInstance + 1, 1000}));
}

TEST_CASE("An origin that was left is not exact if it looks otherwise", "[front]") {
    CHECK_FALSE(exact(left(1000), {0, kWide + 1, 0, kInstance, 1000}));
    CHECK_FALSE(exact(left(1000), {0, kWide + 1, 0, kInstance + 1, 0}));
    CHECK_FALSE(exact(left(COWSNAP_NONE), {0, kWide + 1, 0, kInstance, COWSNAP_NONE}));
}

TEST_CASE("Where writes are not counted, how an origin that was left looks decides", "[front]") {
    CHECK(exact(left(COWSNAP_NONE), {0, kWide, 0, kInstance, COWSNAP_NONE}));
    CHECK(exact(left(1000), {0, kWide, 0, kInstance, COWSNAP_NONE}));
    CHECK(exact(left(COWSNAP_NONE), {0, kWide, 0, kInstance, 8}));
    CHECK_FALSE(exact(left(COWSNAP_NONE), {0, kWide, 0, kInstance + 1, 8}));
}

TEST_CASE("A place that is encrypted has another fingerprint when any byte of it changes",
          "[front]") {
    Sector sector{};
    for (const u32 index : {COW_PRINT_XFS_SECTOR, COW_PRINT_EXT_SECTOR}) {
        const u64 half = index == COW_PRINT_XFS_SECTOR ? COW_PRINT_XFS : COW_PRINT_EXT;
        sector.fill(0);
        CHECK(cow_front_print_place(sector.data(), index, true) == 0);
        sector.fill(0xa5);
        const u64 print = cow_front_print_place(sector.data(), index, true);
        CHECK(print != 0);
        CHECK((print & ~half) == 0);
        for (std::size_t i = 0; i < sector.size(); ++i) {
            Sector after = sector;
            after[i] ^= 1;
            CHECK(cow_front_print_place(after.data(), index, true) != print);
        }
        sector.fill(0);
        sector.back() = 1;
        CHECK(cow_front_print_place(sector.data(), index, true) != 0);
    }
}

TEST_CASE("A place that is not encrypted has the fingerprint of its file system", "[front]") {
    const Sector ext = ext_superblock();
    const Sector xfs = xfs_superblock();
    CHECK(cow_front_print_place(ext.data(), COW_PRINT_EXT_SECTOR, false) ==
          cow_front_print_ext(ext.data()));
    CHECK(cow_front_print_place(xfs.data(), COW_PRINT_XFS_SECTOR, false) ==
          cow_front_print_xfs(xfs.data()));
    CHECK(cow_front_print_place(ext.data(), COW_PRINT_XFS_SECTOR, false) == 0);
}

TEST_CASE("The fingerprint of places changes with each half of each and with where they are",
          "[front]") {
    const auto fold = [](const std::vector<std::pair<u64, u64>>& places) {
        u64 result = 0;
        for (const auto& [sector, print] : places) {
            result = cow_front_fold(result, sector, print);
        }
        return result;
    };
    const u64 one = 0x0000000100000002;
    const u64 two = 0x0000000300000004;
    std::set<u64> different;
    for (const auto& places : std::vector<std::vector<std::pair<u64, u64>>>{
             {},
             {{8, one}},
             {{16, one}},
             {{8, one + 1}},
             {{8, one + (1ull << 32)}},
             {{8, one}, {16, two}},
             {{8, two}, {16, one}},
             {{16, two}, {8, one}},
         }) {
        different.insert(fold(places));
    }
    CHECK(different.size() == 8);
    CHECK(different.count(COWSNAP_NONE) == 0);
    // each half is of the halves alone
    CHECK((fold({{8, one}}) & COW_PRINT_EXT) == (fold({{8, one + (1ull << 32)}}) & COW_PRINT_EXT));
}

TEST_CASE("After a crash what begins in the origin is as one of two fingerprints, or as any",
          "[front]") {
    cow_front front = in_front(kPrint, kPrint);
    front.watched[0] = 10;
    front.watched[1] = 11;
    CHECK(exact(front, {kPrint, 0, 10, 9, 0}));
    CHECK(exact(front, {kPrint, 0, 11, 9, 0}));
    CHECK_FALSE(exact(front, {kPrint, 0, 12, 9, 0}));
    CHECK_FALSE(exact(front, {kPrint + 1, 0, 10, 9, 0}));
    front.watched[1] = COWSNAP_NONE;
    CHECK(exact(front, {kPrint, 0, 12, 9, 0}));
    CHECK_FALSE(exact(front, {kPrint, 0, 12, 9, 8}));
}

TEST_CASE("An origin that was left is not exact if something in it begins otherwise", "[front]") {
    cow_front front = left(1000);
    front.watched[0] = 10;
    CHECK(exact(front, {0, kWide, 10, kInstance, 1000}));
    CHECK_FALSE(exact(front, {0, kWide, 11, kInstance, 1000}));
    CHECK_FALSE(exact(front, {0, kWide, 0, kInstance + 1, 0}));
}
