// SPDX-License-Identifier: GPL-2.0-or-later
// Random writes of 4 KiB to a block device, one at a time, and how long they took. In a machine
// whose clock counts instructions that is what they cost.
//
//   count-writes DEVICE COUNT SEED
//
// Prints the nanoseconds of CLOCK_MONOTONIC.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "base/file_descriptor.h"

namespace vmtest {
namespace {

constexpr std::size_t kBlock = 4096;

[[noreturn]] void fail(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

std::int64_t now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::int64_t write_at_random(const std::string& path, std::size_t count, std::uint64_t seed) {
    const cowsnap::FileDescriptor device(::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
    if (device.get() < 0)
        fail(path);
    const off_t size = ::lseek(device.get(), 0, SEEK_END);
    if (size < static_cast<off_t>(kBlock))
        throw std::runtime_error(path + " is too small");
    // All choices first: only the writes are to be counted.
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<off_t> block(0, size / static_cast<off_t>(kBlock) - 1);
    std::vector<off_t> places(count);
    for (off_t& place : places)
        place = block(random) * static_cast<off_t>(kBlock);
    alignas(kBlock) static unsigned char data[kBlock];
    const std::int64_t began = now();
    for (const off_t place : places)
        if (::pwrite(device.get(), data, kBlock, place) != static_cast<ssize_t>(kBlock))
            fail("writing " + path);
    return now() - began;
}

}  // namespace
}  // namespace vmtest

int main(int argc, char** argv) {
    try {
        if (argc != 4) {
            fmt::print(stderr, "usage: count-writes DEVICE COUNT SEED\n");
            return 2;
        }
        fmt::print("{}\n",
                   vmtest::write_at_random(argv[1], std::stoul(argv[2]), std::stoull(argv[3])));
        return 0;
    } catch (const std::exception& error) {
        fmt::print(stderr, "count-writes: {}\n", error.what());
        return 1;
    }
}
