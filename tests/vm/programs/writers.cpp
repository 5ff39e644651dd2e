// SPDX-License-Identifier: GPL-2.0-or-later
#include "writers.h"

#include <algorithm>

namespace vmtest {

namespace {

/// Sectors of one writer in a row; no multiple of a block, so that blocks are shared by two
/// writers.
constexpr std::uint64_t kStripeSectors = 1004;
constexpr std::uint32_t kAlignedStripeSectors = 1024;

std::uint64_t below(std::mt19937_64& random, std::uint64_t limit) {
    return random() % limit;
}

}  // namespace

Writers::Writers(Devices& devices, Clock& clock, const WriterOptions& options)
    : devices_(devices), clock_(clock), options_(options) {
    for (std::size_t i = 0; i < options.writers; ++i) {
        writers_.push_back(std::make_unique<Writer>());
        writers_.back()->random.seed(options.seed * 1000 + i);
    }
    for (std::size_t i = 0; i < options.writers; ++i)
        writers_[i]->thread = std::thread([this, i] { run(i); });
}

Writers::~Writers() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    for (auto& writer : writers_)
        writer->thread.join();
}

void Writers::setFree(bool free) {
    const std::lock_guard lock(mutex_);
    free_ = free;
    changed_.notify_all();
}

void Writers::allow(std::uint64_t writes) {
    const std::lock_guard lock(mutex_);
    allowed_ += writes;
    changed_.notify_all();
}

void Writers::throwFailure() {
    if (failure_)
        std::rethrow_exception(failure_);
}

void Writers::waitUntilSpent() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] {
        return failure_ || (allowed_ == 0 && std::all_of(writers_.begin(), writers_.end(),
                                                         [](auto& w) { return !w->busy_since; }));
    });
    throwFailure();
}

std::vector<std::vector<Write>> Writers::take(std::uint64_t instant) {
    std::unique_lock lock(mutex_);
    std::vector<std::vector<Write>> taken;
    for (auto& writer : writers_) {
        changed_.wait(lock, [&] {
            return failure_ || writer->busy_since == 0 || writer->busy_since > instant;
        });
        throwFailure();
        auto& writes = taken.emplace_back();
        while (!writer->done.empty() && writer->done.front().issued < instant) {
            writes.push_back(std::move(writer->done.front()));
            writer->done.pop_front();
        }
    }
    return taken;
}

/// Where the next write goes and how long it is: of all lengths, at any sector, often a single
/// block.
Write Writers::choose(Writer& writer, std::size_t index) {
    const std::uint64_t stripe_sectors =
        options_.alignment > 1 ? kAlignedStripeSectors : kStripeSectors;
    const std::uint64_t stripes = (devices_.sectors() + stripe_sectors - 1) / stripe_sectors;
    const std::uint64_t own = (stripes - index + options_.writers - 1) / options_.writers;
    // alternately in the first and the second half: of two origins of one size, in both
    const std::uint64_t half = std::max<std::uint64_t>(own / 2, 1);
    writer.second_half = !writer.second_half && own > half;
    const std::uint64_t stripe =
        writer.second_half ? half + below(writer.random, own - half) : below(writer.random, half);
    const std::uint64_t start = (stripe * options_.writers + index) * stripe_sectors;
    const std::uint64_t end = std::min(start + stripe_sectors, devices_.sectors());
    std::uint64_t first = start + below(writer.random, end - start);
    std::uint64_t count = 8;
    switch (below(writer.random, 8)) {
        case 0:
            count = 1 + below(writer.random, 600);
            break;
        case 1:
        case 2:
            count = 1 + below(writer.random, 40);
            break;
        default:
            first = std::max(start, first / 8 * 8);
            break;
    }
    first = first / options_.alignment * options_.alignment;
    count = std::max<std::uint64_t>(count / options_.alignment, 1) * options_.alignment;
    Write write;
    write.first = first;
    write.contents.resize(
        devices_.withinOne(first, static_cast<std::uint32_t>(std::min(count, end - first))));
    return write;
}

void Writers::perform(Writer& writer, Write& write) {
    const auto count = static_cast<std::uint32_t>(write.contents.size());
    const std::uint64_t kind = options_.discards ? below(writer.random, 16) : 15;
    if (kind == 0) {
        devices_.discard(write.first, count);
        // a discard is a hint: see what has become of it
        write.contents = devices_.read(write.first, count);
    } else if (kind == 1) {
        devices_.zero(write.first, count);
        std::fill(write.contents.begin(), write.contents.end(), kZeros);
    } else {
        devices_.write(write.first, count, write.issued);
        std::fill(write.contents.begin(), write.contents.end(), write.issued);
    }
}

bool Writers::waitForPermission(Writer& writer, Write& write) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || free_ || allowed_ > 0; });
    if (stopping_)
        return false;
    if (!free_)
        --allowed_;
    write.issued = clock_.tick();
    writer.busy_since = write.issued;
    return true;
}

void Writers::run(std::size_t index) {
    Writer& writer = *writers_[index];
    std::exception_ptr failure;
    while (!failure) {
        Write write = choose(writer, index);
        if (!waitForPermission(writer, write))
            return;
        try {
            perform(writer, write);
        } catch (...) {
            failure = std::current_exception();
        }
        const std::lock_guard lock(mutex_);
        write.ended = clock_.tick();
        writer.busy_since = 0;
        if (failure)
            failure_ = failure;
        else
            writer.done.push_back(std::move(write));
        changed_.notify_all();
    }
}

}  // namespace vmtest
