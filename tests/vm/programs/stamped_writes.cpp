// SPDX-License-Identifier: GPL-2.0-or-later
// Writes to a file or a device at random, without an end, and never forgets what it has written
// where: each sector carries the number of its write, and is the last one that was written there,
// whenever it is read back.
//
//   stamped-writes FILE FIRST COUNT SEED
//
// COUNT sectors from sector FIRST on are its own, which nobody else writes. SIGINT ends it: when
// the writes under way have ended, it reads all of them back. Exit status 1 if one is not found.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"
#include "stamps.h"

namespace {

using vmtest::Image;
using vmtest::kSectorBytes;

constexpr std::uint32_t kBlockSectors = 8;
constexpr std::uint32_t kMostBlocks = 8;
constexpr std::uint64_t kWriters = 2;
/// One of so many accesses reads.
constexpr std::uint64_t kReads = 4;
constexpr std::align_val_t kAlignment{4096};

volatile std::sig_atomic_t stopped = 0;

struct AlignedDelete {
    void operator()(std::byte* bytes) const { ::operator delete[](bytes, kAlignment); }
};

/// The sectors of one thread, which nobody else writes.
class Area {
public:
    Area(const std::string& path, std::uint64_t first, std::uint64_t count, std::uint64_t seed)
        : path_(path),
          file_(::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)),
          first_(first),
          expected_(count, vmtest::kZeros),
          random_(seed),
          buffer_(new (kAlignment) std::byte[kMostBlocks * kBlockSectors * kSectorBytes]) {
        if (!file_)
            throw std::system_error(errno, std::generic_category(), "open " + path);
    }

    /// All of it, once, so that there is something to be found everywhere.
    void begin() {
        for (std::uint64_t at = 0; at < expected_.size(); at += span(at))
            write(at, span(at));
    }

    void goOn() {
        while (stopped == 0) {
            const std::uint64_t at = random_() % (expected_.size() / kBlockSectors) * kBlockSectors;
            if (random_() % kReads == 0)
                verify(at, span(at));
            else
                write(at, std::min<std::uint64_t>(span(at), (1 + random_() % 4) * kBlockSectors));
        }
    }

    void verifyAll() {
        for (std::uint64_t at = 0; at < expected_.size(); at += span(at))
            verify(at, span(at));
    }

    std::uint64_t writes() const { return stamp_; }

private:
    /// The longest access at @at.
    std::uint64_t span(std::uint64_t at) const {
        return std::min<std::uint64_t>(kMostBlocks * kBlockSectors, expected_.size() - at);
    }

    std::span<std::byte> sector(std::uint64_t index) {
        return {buffer_.get() + index * kSectorBytes, kSectorBytes};
    }

    void check(ssize_t result, std::uint64_t count, std::uint64_t at, const char* what) {
        if (result < 0)
            throw std::system_error(errno, std::generic_category(), what);
        if (static_cast<std::uint64_t>(result) != count * kSectorBytes)
            throw std::runtime_error(
                fmt::format("{} of {} at sector {}: in part", what, path_, at));
    }

    off_t offset(std::uint64_t at) const {
        return static_cast<off_t>((first_ + at) * kSectorBytes);
    }

    void write(std::uint64_t at, std::uint64_t count) {
        ++stamp_;
        for (std::uint64_t i = 0; i < count; ++i) {
            vmtest::putSector(sector(i), first_ + at + i, stamp_);
            expected_[at + i] = stamp_;
        }
        check(::pwrite(file_.get(), buffer_.get(), count * kSectorBytes, offset(at)), count, at,
              "write");
    }

    void verify(std::uint64_t at, std::uint64_t count) {
        check(::pread(file_.get(), buffer_.get(), count * kSectorBytes, offset(at)), count, at,
              "read");
        Image found(count);
        for (std::uint64_t i = 0; i < count; ++i)
            found[i] = vmtest::getSector(sector(i), first_ + at + i);
        const auto begin = expected_.begin() + static_cast<std::ptrdiff_t>(at);
        if (const auto text =
                vmtest::difference(Image(begin, begin + static_cast<std::ptrdiff_t>(count)), found))
            throw std::runtime_error(
                fmt::format("{} behind sector {}: {}", path_, first_ + at, *text));
    }

    std::string path_;
    cowsnap::FileDescriptor file_;
    std::uint64_t first_;
    Image expected_;
    std::mt19937_64 random_;
    std::unique_ptr<std::byte[], AlignedDelete> buffer_;
    vmtest::Stamp stamp_ = 0;
};

/// One thread's work; what is wrong ends the process.
void work(Area& area) {
    try {
        area.goOn();
        area.verifyAll();
    } catch (const std::exception& error) {
        std::printf("FAIL: %s\n", error.what());
        std::fflush(stdout);
        ::_exit(1);
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 5)
            throw std::runtime_error("stamped-writes FILE FIRST COUNT SEED");
        std::signal(SIGINT, [](int) { stopped = 1; });
        const std::uint64_t first = std::stoull(argv[2]);
        const std::uint64_t count = std::stoull(argv[3]) / kWriters / kBlockSectors * kBlockSectors;
        const std::uint64_t seed = std::stoull(argv[4]);
        if (count == 0)
            throw std::runtime_error("too few sectors");
        std::vector<std::unique_ptr<Area>> areas;
        for (std::uint64_t i = 0; i < kWriters; ++i) {
            areas.push_back(std::make_unique<Area>(argv[1], first + i * count, count, seed + i));
            areas.back()->begin();
        }
        std::vector<std::thread> threads;
        for (auto& area : areas)
            threads.emplace_back([&area] { work(*area); });
        std::uint64_t writes = 0;
        for (std::uint64_t i = 0; i < kWriters; ++i) {
            threads[i].join();
            writes += areas[i]->writes();
        }
        std::printf("%llu writes, each is found\n", static_cast<unsigned long long>(writes));
        return 0;
    } catch (const std::exception& error) {
        std::printf("FAIL: %s\n", error.what());
        return 1;
    }
}
