// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/backup_writer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace cowsnap {

namespace {

constexpr std::chrono::seconds kAtTheEnd{2};

struct Copy {
    Uuid store;
    std::uint64_t generation;
    std::string body;
    std::size_t kept;
};

}  // namespace

struct BackupWriter::Shared {
    explicit Shared(const MetadataBackups& where) : backups(where) {}

    void run();
    void write(const Copy& copy) const;

    const MetadataBackups backups;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Copy> waiting;  ///< guarded by mutex, like those below
    bool writing = false;
    bool ended = false;
};

void BackupWriter::Shared::write(const Copy& copy) const {
    try {
        backups.put(copy.store, copy.generation, copy.body, copy.kept);
    } catch (const std::exception& error) {
        // The store has it: that there is no copy is not worth an error.
        spdlog::warn("no backup of the metadata of the store {} is written: {}",
                     copy.store.dashed(), error.what());
    }
}

void BackupWriter::Shared::run() {
    std::unique_lock lock(mutex);
    for (;;) {
        changed.wait(lock, [&] { return ended || !waiting.empty(); });
        if (waiting.empty())
            return;
        const Copy copy = std::move(waiting.front());
        waiting.pop_front();
        writing = true;
        lock.unlock();
        write(copy);
        lock.lock();
        writing = false;
        changed.notify_all();
    }
}

BackupWriter::BackupWriter(const MetadataBackups& backups)
    : shared_(std::make_shared<Shared>(backups)) {
    std::thread([shared = shared_] { shared->run(); }).detach();
}

BackupWriter::~BackupWriter() {
    {
        const std::lock_guard lock(shared_->mutex);
        shared_->ended = true;
    }
    shared_->changed.notify_all();
    if (!wait(kAtTheEnd))
        spdlog::warn("the last backups of metadata cannot be written: is the file system frozen?");
}

void BackupWriter::put(const Uuid& store, std::uint64_t generation, const std::string& body,
                       std::size_t kept) {
    if (kept == 0)
        return;
    {
        const std::lock_guard lock(shared_->mutex);
        auto& waiting = shared_->waiting;
        const auto of_store = [&](const Copy& copy) { return copy.store == store; };
        if (std::size_t(std::count_if(waiting.begin(), waiting.end(), of_store)) >= kept)
            waiting.erase(std::find_if(waiting.begin(), waiting.end(), of_store));
        waiting.push_back({store, generation, body, kept});
    }
    shared_->changed.notify_all();
}

bool BackupWriter::wait(std::chrono::milliseconds longest) {
    std::unique_lock lock(shared_->mutex);
    return shared_->changed.wait_for(lock, longest,
                                     [&] { return shared_->waiting.empty() && !shared_->writing; });
}

}  // namespace cowsnap
