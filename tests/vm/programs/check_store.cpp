// SPDX-License-Identifier: GPL-2.0-or-later
// Activates the store in a file, or on a device, with the engine's own code, without changing it,
// and accounts for all its space: each segment is free, or owned by what can be seen of a snapshot,
// and counts its live blocks right.
//
//   check-store FILE
//
// Prints a line with what it found; exits with 1 when the store is refused or a block has leaked.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <system_error>
#include <vector>

#include "base/file_descriptor.h"
#include "sim/checks.hpp"
#include "sim/machine.hpp"

namespace vmtest {
namespace {

constexpr std::size_t kChunk = 256 * sim::kBlock;

[[noreturn]] void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

/// What the file has; its holes are not read.
sim::StoreImage load(const std::string& path) {
    const cowsnap::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0)
        fail("opening the store");
    const off_t size = ::lseek(file.get(), 0, SEEK_END);
    sim::StoreImage image(static_cast<std::uint64_t>(size) / sim::kBlock);
    std::vector<std::uint8_t> chunk(kChunk);
    for (off_t at = 0; (at = ::lseek(file.get(), at, SEEK_DATA)) >= 0;) {
        at -= at % static_cast<off_t>(sim::kBlock);
        const ssize_t got = ::pread(file.get(), chunk.data(), chunk.size(), at);
        if (got < 0)
            fail("reading the store");
        for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sim::kBlock; ++i) {
            const auto* block = chunk.data() + i * sim::kBlock;
            if (std::any_of(block, block + sim::kBlock, [](std::uint8_t byte) { return byte; }))
                image.write(static_cast<std::uint64_t>(at) / sim::kBlock + i, block, 1);
        }
        at += std::max<off_t>(got, static_cast<off_t>(sim::kBlock));
    }
    if (errno != ENXIO)
        fail("looking for the store's contents");
    return image;
}

void check(const std::string& path) {
    sim::StoreImage image = load(path);
    sim::World world(image.size());
    world.store = std::move(image);
    sim::Machine machine(world, 1);
    if (machine.open())
        throw std::runtime_error("the store is refused: " + machine.why());
    machine.drain();
    sim::check_space(machine, true);
    const cow_store& store = machine.store();
    fmt::print("check-store: {} snapshots, {} of {} segments free, 0 leaked\n", store.nr_snapshots,
               store.nr_free, store.nr_segments);
}

}  // namespace
}  // namespace vmtest

int main(int argc, char** argv) {
    try {
        if (argc != 2)
            throw std::runtime_error("needed: FILE");
        vmtest::check(argv[1]);
        return 0;
    } catch (const std::exception& error) {
        fmt::print("check-store: FAIL: {}\n", error.what());
        return 1;
    }
}
