// SPDX-License-Identifier: GPL-2.0-or-later
// Checks the log of all that a machine wrote to an origin and its store:
//
//   check-write-log LOG [--seed N] [--most N] ORIGIN STORE NOTES
//
// 1. Order: no origin write of a block that a snapshot needs was sent before its old contents had
//    been made durable in the store, and these are what the origin held.
// 2. The power may fail at every flush (at most N of them, at random): the disks as they were left,
//    with all, none or any part of what was not flushed, are activated by the engine's own code;
//    all snapshots that the guest knew of are there, none that it knew to be gone is, each shows
//    exactly what the origin held when it was made, and all of the store's space is accounted for;
//    when all are deleted, all of it is free.
//
// ORIGIN, STORE and NOTES are the numbers of the disks. Exits with 1 when a promise is broken.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "history.h"
#include "sim/checks.hpp"
#include "sim/machine.hpp"
#include "write_log.h"

namespace vmtest {
namespace {

struct Options {
    std::string log;
    std::uint64_t seed = 1;
    std::size_t most = ~std::size_t{0};
    LogRoles roles;
};

/// What a power cut leaves of what was sent but not made durable.
enum class Left { All, Nothing, Some };

const char* nameOf(Left left) {
    return left == Left::All ? "all" : left == Left::Nothing ? "nothing" : "some";
}

/// Both disks, as they may be after a power cut.
struct Disks {
    sim::StoreImage origin;
    sim::StoreImage store;

    sim::StoreImage& of(const LoggedWrite& write, const LogRoles& roles) {
        return write.disk == roles.origin ? origin : store;
    }
};

class Replay {
public:
    Replay(const Options& options, const WriteLog& log, const History& history)
        : options_(options), log_(log), history_(history), random_(options.seed) {}

    void run() {
        const std::vector<Instant> chosen = choose();
        auto next = chosen.begin();
        for (const LogStep& step : log_.steps()) {
            take(step);
            if (next == chosen.end() || step.instant != *next)
                continue;
            ++next;
            for (const Left left : {Left::All, Left::Nothing, Left::Some})
                cutAt(step.instant, left);
        }
        fmt::print("{} activations at {} of {} flushes; {} snapshots looked at, {} blocks\n",
                   activations_, chosen.size(), flushes_, snapshots_checked_, blocks_checked_);
    }

    std::size_t failures() const { return failures_; }

private:
    /// Ends of flushes: half of them while snapshots were made and deleted.
    std::vector<Instant> choose() {
        std::vector<Instant> near;
        std::vector<Instant> others;
        for (const LogStep& step : log_.steps()) {
            if (!step.flush_ended || step.instant < history_.ready())
                continue;
            const bool is_near = std::any_of(history_.snapshots().begin(),
                                             history_.snapshots().end(), [&](const auto& item) {
                                                 const LoggedSnapshot& snapshot = item.second;
                                                 return (step.instant >= snapshot.created_sent &&
                                                         step.instant <= snapshot.created) ||
                                                        (step.instant >= snapshot.deleted_sent &&
                                                         step.instant <= snapshot.deleted);
                                             });
            (is_near ? near : others).push_back(step.instant);
        }
        flushes_ = near.size() + others.size();
        keepSome(near, std::max(options_.most / 2,
                                options_.most - std::min(options_.most, others.size())));
        keepSome(others, options_.most - std::min(options_.most, near.size()));
        near.insert(near.end(), others.begin(), others.end());
        std::sort(near.begin(), near.end());
        return near;
    }

    void keepSome(std::vector<Instant>& instants, std::size_t most) {
        while (instants.size() > most) {
            instants[random_.below(instants.size())] = instants.back();
            instants.pop_back();
        }
    }

    void take(const LogStep& step) {
        for (const std::size_t number : step.writes) {
            const LoggedWrite& write = log_.writes()[number];
            if (write.disk != options_.roles.origin && write.disk != options_.roles.store)
                continue;
            if (step.flush_ended) {
                applyTo(durable_.of(write, options_.roles), write);
                std::erase(loose_, number);
            } else {
                applyTo(sent_.of(write, options_.roles), write);
                loose_.push_back(number);
            }
        }
    }

    Disks disksAfterCut(Left left) {
        if (left == Left::All)
            return sent_;
        Disks disks = durable_;
        if (left == Left::Nothing)
            return disks;
        for (const std::size_t number : loose_) {
            const LoggedWrite& write = log_.writes()[number];
            const std::uint64_t fate = random_.below(4);
            for (std::size_t at = 0; at < write.data.size(); at += sim::kSector) {
                if (fate == 0 || (fate == 1 && random_.one_in(2)))
                    continue;
                LoggedWrite sector = write;
                sector.first += at / sim::kSector;
                sector.data = write.data.subspan(at, sim::kSector);
                applyTo(disks.of(write, options_.roles), sector);
            }
        }
        return disks;
    }

    void cutAt(Instant instant, Left left) {
        Disks disks = disksAfterCut(left);
        sim::World world(disks.store.size());
        world.store = std::move(disks.store);
        try {
            sim::Machine machine(world, random_.next());
            if (machine.open())
                throw std::runtime_error("the store is refused: " + machine.why());
            machine.drain();
            checkSnapshots(machine, disks.origin, instant);
            sim::check_space(machine, true);
            deleteAll(machine);
        } catch (const std::exception& error) {
            ++failures_;
            fmt::print("FAIL: at {} with {} of what was not flushed: {}\n", instant, nameOf(left),
                       error.what());
        }
        ++activations_;
    }

    void checkSnapshots(sim::Machine& machine, const sim::StoreImage& origin, Instant instant) {
        for (const auto& [id, snapshot] : history_.snapshots()) {
            cow_snapshot* found = cow_snapshot_find(&machine.store(), id);
            const bool must_be = snapshot.created <= instant && snapshot.deleted_sent > instant;
            const bool may_be = snapshot.created_sent <= instant && snapshot.deleted > instant;
            if (found ? !may_be : must_be)
                throw std::runtime_error(
                    fmt::format("snapshot {} is {}there", id, found ? "" : "not "));
            if (!found)
                continue;
            if (found->lost || found->damaged)
                throw std::runtime_error(fmt::format("snapshot {} is lost or damaged", id));
            checkContents(machine.store(), found, snapshot.origin, origin);
            ++snapshots_checked_;
        }
    }

    void checkContents(cow_store& store, cow_snapshot* snapshot, const sim::StoreImage& expected,
                       const sim::StoreImage& origin) {
        std::array<std::uint8_t, sim::kBlock> right;
        std::array<std::uint8_t, sim::kBlock> found;
        for (std::uint64_t block = 0; block < expected.size(); ++block) {
            cow_where where = COW_AT_ERROR;
            u64 location = 0;
            cow_snapshot_lookup(snapshot, block, 1, &where, &location);
            bool valid = where != COW_AT_ERROR;
            if (where == COW_AT_STORE) {
                static_cast<sim::Machine*>(store.shell)
                    ->world()
                    .store.read(location, 1, found.data());
                valid =
                    cow_crc32c(0, found.data(), sim::kBlock) == *cow_store_crcs(&store, location);
                cow_store_unpin(&store, location);
            } else if (valid) {
                origin.read(block, 1, found.data());
            }
            expected.read(block, 1, right.data());
            if (!valid || std::memcmp(right.data(), found.data(), sim::kBlock) != 0)
                throw std::runtime_error(fmt::format(
                    "block {} of snapshot {}, from the {}, is {}", block, snapshot->id,
                    where == COW_AT_STORE ? "store" : "origin", valid ? "wrong" : "an error"));
            ++blocks_checked_;
        }
    }

    void deleteAll(sim::Machine& machine) {
        std::vector<std::uint32_t> ids;
        for (const auto& [id, snapshot] : history_.snapshots())
            if (cow_snapshot_find(&machine.store(), id))
                ids.push_back(id);
        if (!ids.empty() && machine.remove(ids))
            throw std::runtime_error("the snapshots cannot be deleted: " + machine.why());
        machine.drain();
        if (machine.store().nr_free != machine.store().nr_segments)
            throw std::runtime_error(fmt::format(
                "{} segments leaked", machine.store().nr_segments - machine.store().nr_free));
    }

    const Options& options_;
    const WriteLog& log_;
    const History& history_;
    sim::Random random_;
    Disks sent_{emptyImage(log_.diskSectors().at(options_.roles.origin)),
                emptyImage(log_.diskSectors().at(options_.roles.store))};
    Disks durable_ = sent_;
    std::vector<std::size_t> loose_;  ///< sent and not durable, as sent
    std::size_t flushes_ = 0;
    std::size_t activations_ = 0;
    std::size_t failures_ = 0;
    std::size_t snapshots_checked_ = 0;
    std::uint64_t blocks_checked_ = 0;
};

int check(const Options& options) {
    const WriteLog log(options.log);
    const History history(log, options.roles);
    const HistoryCounts& counts = history.counts();
    fmt::print(
        "order: {} writes to the origin; {} blocks of them while there was a snapshot, each "
        "preserved, durably, before it was sent; {} blocks preserved; {} snapshots\n",
        counts.origin_writes, counts.guarded_blocks, counts.preserved_blocks,
        history.snapshots().size());
    if (counts.preserved_blocks == 0 || history.snapshots().size() < 2)
        throw std::runtime_error("the log shows too little to prove anything");
    Replay replay(options, log, history);
    replay.run();
    return replay.failures() ? 1 : 0;
}

Options parse(const std::vector<std::string>& words) {
    Options options;
    std::vector<std::string> plain;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] == "--seed" || words[i] == "--most") {
            if (i + 1 == words.size())
                throw std::runtime_error(words[i] + " needs a number");
            const std::uint64_t number = std::stoull(words[i + 1]);
            (words[i] == "--seed" ? options.seed : options.most) = number;
            ++i;
        } else {
            plain.push_back(words[i]);
        }
    }
    if (plain.size() != 4)
        throw std::runtime_error("needed: LOG [--seed N] [--most N] ORIGIN STORE NOTES");
    options.log = plain[0];
    options.roles = {static_cast<unsigned>(std::stoul(plain[1])),
                     static_cast<unsigned>(std::stoul(plain[2])),
                     static_cast<unsigned>(std::stoul(plain[3]))};
    return options;
}

}  // namespace
}  // namespace vmtest

int main(int argc, char** argv) {
    try {
        return vmtest::check(vmtest::parse({argv + 1, argv + argc}));
    } catch (const std::exception& error) {
        fmt::print("FAIL: {}\n", error.what());
        return 1;
    }
}
