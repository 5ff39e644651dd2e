// SPDX-License-Identifier: GPL-2.0-or-later
// What snapd-cli tells of the file system on a device, on images that mke2fs makes.
#include <catch2/catch.hpp>

#include "bus_bed.h"
#include "cli/exit.h"
#include "cli/file_systems.h"
#include "temporary_directory.h"

using namespace cowsnap::cli;
using cowsnap::test::runProgram;
using cowsnap::test::TemporaryDirectory;

TEST_CASE("an ext4 whose journal has more than the rest of it is told from one that is clean") {
    const TemporaryDirectory directory;
    const std::string image = (directory.path() / "image").string();
    if (runProgram({"mke2fs", "-q", "-t", "ext4", image, "16M"}).code != 0) {
        WARN("no mke2fs: cannot make a file system");
        return;
    }
    CHECK(fileSystemOn(image) == "ext4");
    CHECK_FALSE(needsReplay("ext4", image, false));
    REQUIRE(runProgram({"debugfs", "-w", "-R", "feature needs_recovery", image}).code == 0);
    CHECK(needsReplay("ext4", image, false));
    CHECK(needsReplay("ext4", image, true));
    CHECK_FALSE(isMounted(image));
    directory.write("rubbish", std::string(4096, 'x'));
    CHECK_THROWS_AS(needsReplay("ext4", (directory.path() / "rubbish").string(), false), Failure);
    CHECK_THROWS_AS(needsReplay("ext4", (directory.path() / "none").string(), false), Failure);
    CHECK_THROWS_AS(fileSystemOn((directory.path() / "rubbish").string()), Failure);
}

TEST_CASE("a snapshot is mounted beside its origin, and its journal replayed only if it may be") {
    CHECK(needsReplay("xfs", "/nonexistent", false));
    CHECK_FALSE(needsReplay("xfs", "/nonexistent", true));
    CHECK(needsReplay("btrfs", "/nonexistent", false));
    CHECK_FALSE(needsReplay("vfat", "/nonexistent", false));
    CHECK(mountOptions("ext4", MountAs::Writable) == "rw");
    CHECK(mountOptions("ext4", MountAs::ReadOnly) == "ro,noload");
    CHECK(mountOptions("ext3", MountAs::ReadOnlyAfterReplay) == "ro");
    CHECK(mountOptions("xfs", MountAs::Writable) == "rw,nouuid");
    CHECK(mountOptions("xfs", MountAs::ReadOnly) == "ro,nouuid,norecovery");
    CHECK(mountOptions("xfs", MountAs::ReadOnlyAfterReplay) == "ro,nouuid");
    CHECK(mountOptions("btrfs", MountAs::Writable) == "rw");
    CHECK(mountOptions("btrfs", MountAs::ReadOnly) == "ro,rescue=nologreplay");
    CHECK(mountOptions("btrfs", MountAs::ReadOnlyAfterReplay) == "ro");
    CHECK(mountOptions("vfat", MountAs::ReadOnly) == "ro");
}
