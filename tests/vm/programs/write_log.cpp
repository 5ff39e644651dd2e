// SPDX-License-Identifier: GPL-2.0-or-later
#include "write_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace vmtest {

namespace {

constexpr std::uint64_t kMagic = 0x6a736677736872U;
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kSector = 512;
constexpr std::uint64_t kFlush = 1;
constexpr std::uint64_t kMark = 8;

/// The numbers at a place of the log; it is little-endian, as are the machines that this runs on.
std::uint64_t wordAt(const std::vector<std::uint8_t>& bytes, std::size_t offset) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + offset, sizeof(word));
    return word;
}

}  // namespace

struct WriteLog::Entry {
    std::uint64_t sector = 0;
    std::uint64_t sectors = 0;
    std::uint64_t flags = 0;
    std::string text;
    std::span<const std::uint8_t> data;
    Instant instant = 0;
};

WriteLog::WriteLog(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    if (!file || bytes_.size() < kSector || wordAt(bytes_, 0) != kMagic ||
        wordAt(bytes_, 8) != kVersion)
        throw std::runtime_error(path + " is no write log");
    const std::uint64_t entries = wordAt(bytes_, 16);
    std::size_t offset = kSector;
    for (Instant instant = 0; instant < entries; ++instant) {
        if (offset + kSector > bytes_.size())
            throw std::runtime_error(path + " ends too early");
        Entry entry{.sector = wordAt(bytes_, offset),
                    .sectors = wordAt(bytes_, offset + 8),
                    .flags = wordAt(bytes_, offset + 16),
                    .text = {},
                    .data = {},
                    .instant = instant};
        if (entry.flags & kMark)
            entry.text.assign(reinterpret_cast<const char*>(bytes_.data()) + offset + 32,
                              std::min<std::uint64_t>(wordAt(bytes_, offset + 24), kSector - 32));
        offset += kSector;
        if (entry.sectors > (bytes_.size() - offset) / kSector)
            throw std::runtime_error(path + " ends in the middle of a write");
        entry.data = std::span(bytes_).subspan(offset, entry.sectors * kSector);
        offset += entry.data.size();
        take(entry);
    }
}

unsigned WriteLog::diskOf(std::uint64_t sector) const {
    for (unsigned disk = 0; disk < disk_first_.size(); ++disk)
        if (sector >= disk_first_[disk] && sector - disk_first_[disk] < disk_sectors_[disk])
            return disk;
    throw std::runtime_error(fmt::format("sector {} of the log is on no disk", sector));
}

void WriteLog::take(const Entry& entry) {
    if (entry.flags & kMark) {
        takeMark(entry.text, entry.instant);
        return;
    }
    const unsigned disk = diskOf(entry.sector);
    if (entry.flags & kFlush) {
        flushes_.push_back({disk, entry.instant});
        return;
    }
    steps_.push_back({entry.instant, false, {writes_.size()}});
    not_durable_.push_back(writes_.size());
    writes_.push_back({.disk = disk,
                       .first = entry.sector - disk_first_[disk],
                       .data = entry.data,
                       .sent = entry.instant});
}

void WriteLog::takeMark(const std::string& text, Instant instant) {
    std::istringstream words(text);
    std::string what;
    std::uint64_t number = 0;
    words >> what >> number;
    if (what == "disk") {
        std::uint64_t first = 0;
        std::uint64_t sectors = 0;
        words >> first >> sectors;
        disk_first_.push_back(first);
        disk_sectors_.push_back(sectors);
    } else if (what == "ended") {
        end(number, instant);
    }
    if (!words)
        throw std::runtime_error("the log has a mark that is none: " + text);
}

void WriteLog::end(Instant which, Instant instant) {
    const auto sentAt = [](const auto& item, Instant sent) { return item.sent < sent; };
    const auto write = std::lower_bound(writes_.begin(), writes_.end(), which, sentAt);
    if (write != writes_.end() && write->sent == which) {
        write->ended = instant;
        return;
    }
    const auto flush = std::lower_bound(flushes_.begin(), flushes_.end(), which, sentAt);
    if (flush == flushes_.end() || flush->sent != which)
        throw std::runtime_error(fmt::format("what ended at {} was never sent", instant));
    LogStep step{instant, true, {}};
    std::erase_if(not_durable_, [&](std::size_t number) {
        LoggedWrite& of_disk = writes_[number];
        if (of_disk.disk != flush->disk || of_disk.ended > flush->sent)
            return false;
        of_disk.durable = instant;
        step.writes.push_back(number);
        return true;
    });
    steps_.push_back(std::move(step));
}

}  // namespace vmtest
