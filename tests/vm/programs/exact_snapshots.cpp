// SPDX-License-Identifier: GPL-2.0-or-later
// Snapshots are exact, whatever goes on meanwhile: writers write to one or more origins all the
// time, and each snapshot must show all writes that had ended when its creation began, none that
// was issued after it, and of those between some instant's: no write without all those that had
// ended before it was issued, on all origins together. From then on it never changes but by what is
// written to it.
//
//   exact-snapshots --store NAME --origin NAME:ID[:DEVICE]... [OPTION...] ACTION...
//
// DEVICE is what is written to: that of the cow-origin NAME, if not said.
//
// Options:
//   --journal FILE    knowledge is kept there: a later run, after a reload, reboot or power cut,
//   goes on with it
//   --crash           prepare for a power cut: no discards, flush now and then, note what is
//   durable
//   --writers N       threads (2)
//   --writes N        writes to the origins during each create, deletion ... (40)
//   --most N          of snapshots, for steps (16)
//   --alignment N     all writes are multiples of so many sectors (1)
//   --no-overlay      steps do not write to snapshots
//   --no-discards     only writes of data
//   --nowait          writers try each write of data without waiting, before they do wait
//   --seed N
// Actions, done in this order:
//   create:N          so many snapshots, with writes between
//   steps:N           of create, delete, check and write to a snapshot, at random
//   forever           the same until the power goes
//   verify            all of all snapshots
//   delete:N, delete:all   in random order, looking at others in between
//   attach:N          so many times, at random moments while they write without a pause: the
//   origins are interposed on their devices, a set is created, and they are detached; none is
//   attached before and afterwards

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "cowsnap_dm.h"
#include "device.h"
#include "dm/lib_device_mapper.h"
#include "exact_options.h"
#include "journal.h"
#include "stamps.h"
#include "writers.h"

namespace vmtest {
namespace {

constexpr std::uint32_t kVerifySectors = 2048;

[[noreturn]] void wrong(const std::string& what) {
    throw std::runtime_error(what);
}

std::vector<std::string> paths(const std::vector<std::string>& names) {
    std::vector<std::string> all;
    std::transform(names.begin(), names.end(), std::back_inserter(all),
                   [](const std::string& name) { return "/dev/mapper/" + name; });
    return all;
}

std::vector<std::string> devices(const std::vector<Origin>& origins) {
    std::vector<std::string> all;
    for (const Origin& origin : origins)
        all.push_back(origin.device);
    return all;
}

/// Devices for the snapshots of a set, as long as this lives.
class SnapshotDevices {
public:
    SnapshotDevices(cowsnap::DeviceMapper& mapper, const Options& options,
                    const std::vector<std::uint32_t>& ids, Devices::Mode mode)
        : mapper_(mapper) {
        for (std::size_t i = 0; i < ids.size(); ++i) {
            const std::string name = fmt::format("exact-{}", ids[i]);
            const auto origin = mapper.table(options.origins[i].name).at(0);
            std::string arguments = fmt::format("/dev/mapper/{} {}", options.store, ids[i]);
            if (mode == Devices::Mode::Read)
                arguments += fmt::format(" 1 {}", COWSNAP_FEATURE_READ_ONLY);
            mapper.create(name, "", {{0, origin.length_sectors, COWSNAP_TARGET_SNAP, arguments}},
                          cowsnap::Visibility::Hidden, mode == Devices::Mode::Read);
            names_.push_back(name);
        }
        devices_.emplace(paths(names_), mode);
    }
    ~SnapshotDevices() {
        devices_.reset();
        for (const std::string& name : names_) {
            try {
                mapper_.remove(name, cowsnap::Visibility::Hidden);
            } catch (const std::exception& error) {
                std::fprintf(stderr, "%s is not removed: %s\n", name.c_str(), error.what());
                std::terminate();
            }
        }
    }
    SnapshotDevices(const SnapshotDevices&) = delete;
    SnapshotDevices& operator=(const SnapshotDevices&) = delete;

    Devices& operator*() { return *devices_; }
    Devices* operator->() { return &*devices_; }

private:
    cowsnap::DeviceMapper& mapper_;
    std::vector<std::string> names_;
    std::optional<Devices> devices_;
};

void applyWrite(const Write& write, Image& image) {
    std::copy(write.contents.begin(), write.contents.end(),
              image.begin() + static_cast<std::ptrdiff_t>(write.first));
}

/// How many of a writer's uncertain writes an image shows: any number from `least` to `most`
/// explains it.
struct Prefix {
    std::size_t least = 0;
    std::size_t most = 0;
};

Prefix findPrefix(const std::vector<Write>& writes, const Image& before, const Image& found) {
    std::map<std::uint64_t, Stamp> state;
    for (const Write& write : writes)
        for (std::size_t i = 0; i < write.contents.size(); ++i)
            state[write.first + i] = before[write.first + i];
    auto differing =
        static_cast<std::size_t>(std::count_if(state.begin(), state.end(), [&](const auto& sector) {
            return found[sector.first] != sector.second;
        }));
    Prefix prefix;
    bool any = false;
    for (std::size_t n = 0;; ++n) {
        if (differing == 0) {
            if (!any)
                prefix.least = n;
            prefix.most = n;
            any = true;
        }
        if (n == writes.size())
            break;
        for (std::size_t i = 0; i < writes[n].contents.size(); ++i) {
            Stamp& stamp = state[writes[n].first + i];
            const Stamp actual = found[writes[n].first + i];
            differing -= stamp != actual ? 1 : 0;
            stamp = writes[n].contents[i];
            differing += stamp != actual ? 1 : 0;
        }
    }
    if (!any)
        wrong(fmt::format("no instant of a writer, of {} around the creation, is what it shows",
                          writes.size() + 1));
    return prefix;
}

class Exerciser {
public:
    explicit Exerciser(const Options& options)
        : options_(options),
          random_(options.writers.seed),
          devices_(devices(options.origins), Devices::Mode::Write),
          journal_(options.journal) {}

    void run() {
        resume();
        if (options_.no_wait)
            devices_.tryWithoutWaiting();
        Clock clock(newestStamp());
        Writers writers(devices_, clock, options_.writers);
        clock_ = &clock;
        writers_ = &writers;
        for (const std::string& action : options_.actions)
            perform(action);
        finish();
        if (creates_ > 4 && meanwhile_ < creates_)
            wrong("hardly anything was written while snapshots were created: this shows nothing");
        std::printf(
            "ok: %zu creates during %zu writes, %zu deletions, %zu checks, %zu writes to "
            "snapshots: "
            "all exact\n",
            creates_, meanwhile_, deletes_, checks_, overlay_writes_);
    }

private:
    // ids

    std::vector<std::uint32_t> members(std::uint64_t id) const {
        std::vector<std::uint32_t> ids;
        for (std::size_t i = 0; i < options_.origins.size(); ++i)
            ids.push_back(static_cast<std::uint32_t>(id * options_.origins.size() + i));
        return ids;
    }

    /// The sets that the store has; a set that is there in part is an error.
    std::set<std::uint64_t> setsOfStore() {
        std::map<std::uint64_t, std::size_t> sets;
        std::uint32_t after = 0;
        for (bool more = true; more;) {
            std::istringstream lines(
                mapper_.message(options_.store, fmt::format("snapshots {}", after)));
            more = false;
            std::string line;
            while (std::getline(lines, line)) {
                std::istringstream words(line);
                std::string origin;
                std::string created;
                std::string set;
                std::string state;
                words >> after >> origin >> created >> set >> state;
                if (state != COWSNAP_STATE_ACTIVE)
                    wrong(fmt::format("snapshot {} is {}", after, state));
                ++sets[after / options_.origins.size()];
                more = true;
            }
        }
        std::set<std::uint64_t> whole;
        for (const auto& [id, count] : sets) {
            if (count != options_.origins.size())
                wrong(fmt::format("of set {} there are {} snapshots", id, count));
            whole.insert(id);
        }
        return whole;
    }

    void sendDelete(std::uint64_t id) {
        std::string message = COWSNAP_MESSAGE_DELETE;
        for (const std::uint32_t member : members(id))
            message += fmt::format(" {}", member);
        mapper_.message(options_.store, message);
    }

    // going on after an earlier run

    void resume() {
        Knowledge known = journal_.replay();
        snapshots_ = std::move(known.snapshots);
        last_id_ = known.last_id;
        checkOrigins(known);
        std::set<std::uint64_t> there = setsOfStore();
        for (const auto& [id, image] : snapshots_)
            if (there.erase(id) == 0)
                wrong(fmt::format("set {} is gone", id));
        if (known.deleting && there.erase(*known.deleting) != 0)
            sendDelete(*known.deleting);
        if (known.creating && there.erase(*known.creating) != 0)
            learn(*known.creating, known.origin);
        if (!there.empty())
            wrong(
                fmt::format("set {} is there, but was never made, or was deleted", *there.begin()));
        if (known.writing)
            settle(*known.writing);
        verifyAll();
        journal_.restart({.snapshots = snapshots_,
                          .creating = {},
                          .deleting = {},
                          .writing = {},
                          .origin = current_,
                          .origin_exact = false,
                          .last_id = last_id_});
    }

    void checkOrigins(const Knowledge& known) {
        current_ = devices_.readAll();
        if (std::find(current_.begin(), current_.end(), kForeign) != current_.end())
            wrong("an origin has sectors that nobody wrote");
        if (known.origin.empty())
            return;
        if (known.origin_exact) {
            if (const auto text = difference(known.origin, current_))
                wrong("the origins have changed: " + *text);
            return;
        }
        for (std::size_t i = 0; i < current_.size(); ++i)
            if (current_[i] < known.origin[i])
                wrong(fmt::format("sector {} of the origins is back at write {}; {} was flushed", i,
                                  current_[i], known.origin[i]));
    }

    /// A set whose creation was under way.
    void learn(std::uint64_t id, const Image& flushed) {
        SnapshotDevices snapshot(mapper_, options_, members(id), Devices::Mode::Read);
        Image image = snapshot->readAll();
        for (std::size_t i = 0; i < image.size(); ++i)
            if (image[i] == kForeign || image[i] < flushed[i])
                wrong(fmt::format("set {}: sector {} is not what the origin had", id, i));
        snapshots_[id] = std::move(image);
    }

    /// A write to a snapshot that was under way: each sector is as before, or as after.
    void settle(const PendingWrite& write) {
        const auto found = snapshots_.find(write.snapshot);
        if (found == snapshots_.end())
            return;
        SnapshotDevices snapshot(mapper_, options_, members(write.snapshot), Devices::Mode::Read);
        const Image now = snapshot->read(write.first, static_cast<std::uint32_t>(write.count));
        for (std::size_t i = 0; i < now.size(); ++i)
            if (now[i] == write.stamp)
                found->second[write.first + i] = write.stamp;
    }

    Stamp newestStamp() const {
        Stamp newest = *std::max_element(current_.begin(), current_.end());
        for (const auto& [id, image] : snapshots_)
            newest = std::max(newest, *std::max_element(image.begin(), image.end()));
        return newest;
    }

    // what is done

    void create() {
        writers_->setFree(true);
        createNow();
    }

    /// Of the writers, who may write without a limit: for a moment, until they may not any more.
    void goOnFor(unsigned most_ms) {
        std::this_thread::sleep_for(std::chrono::milliseconds(random_() % most_ms));
    }

    /// While the writers are free; afterwards they are not.
    void createNow() {
        const std::uint64_t id = ++last_id_;
        journal_.creating(id);
        std::string message = COWSNAP_MESSAGE_CREATE;
        const std::vector<std::uint32_t> ids = members(id);
        for (std::size_t i = 0; i < ids.size(); ++i)
            message += fmt::format(" {} {}", ids[i], options_.origins[i].id);
        const std::uint64_t began = clock_->tick();
        mapper_.message(options_.store, message);
        const std::uint64_t ended = clock_->tick();
        writers_->setFree(false);
        Image found;
        {
            SnapshotDevices snapshot(mapper_, options_, ids, Devices::Mode::Read);
            found = snapshot->readAll();
        }
        try {
            snapshots_[id] = explain(writers_->take(ended), began, found);
        } catch (const std::exception& error) {
            wrong(fmt::format("set {} is not exact: {}", id, error.what()));
        }
        journal_.created(id, snapshots_[id]);
        ++creates_;
    }

    /// The instant that a new set shows, as an image; brings current_ up to date.
    Image explain(std::vector<std::vector<Write>> writes, std::uint64_t began, const Image& found) {
        for (auto& of_writer : writes) {
            const auto uncertain =
                std::find_if(of_writer.begin(), of_writer.end(),
                             [began](const Write& write) { return write.ended > began; });
            std::for_each(of_writer.begin(), uncertain,
                          [this](const Write& write) { applyWrite(write, current_); });
            of_writer.erase(of_writer.begin(), uncertain);
        }
        for (const auto& of_writer : writes)
            meanwhile_ += of_writer.size();
        Image expected = current_;
        std::uint64_t last_shown = 0;
        std::uint64_t first_hidden = ~std::uint64_t{0};
        for (const auto& of_writer : writes) {
            const Prefix prefix = findPrefix(of_writer, current_, found);
            for (std::size_t i = 0; i < prefix.least; ++i) {
                applyWrite(of_writer[i], expected);
                last_shown = std::max(last_shown, of_writer[i].issued);
            }
            if (prefix.most < of_writer.size())
                first_hidden = std::min(first_hidden, of_writer[prefix.most].ended);
        }
        if (const auto text = difference(expected, found))
            wrong(*text);
        if (first_hidden < last_shown)
            wrong(fmt::format("it shows a write issued at {}, but not one that had ended at {}",
                              last_shown, first_hidden));
        for (const auto& of_writer : writes)
            for (const Write& write : of_writer)
                applyWrite(write, current_);
        return expected;
    }

    std::uint64_t anySnapshot() {
        auto chosen = snapshots_.begin();
        std::advance(chosen, random_() % snapshots_.size());
        return chosen->first;
    }

    void remove(std::uint64_t id) {
        journal_.deleting(id);
        sendDelete(id);
        journal_.deleted(id);
        snapshots_.erase(id);
        ++deletes_;
    }

    /// @part: a part of the sectors, 1 of so many, at random.
    void verify(std::uint64_t id, std::uint64_t part) {
        SnapshotDevices snapshot(mapper_, options_, members(id), Devices::Mode::Read);
        const Image& expected = snapshots_.at(id);
        for (std::uint64_t first = 0; first < expected.size();) {
            const std::uint32_t count =
                snapshot->withinOne(first, static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                               kVerifySectors, expected.size() - first)));
            if (random_() % part == 0) {
                const auto at = expected.begin() + static_cast<std::ptrdiff_t>(first);
                if (const auto text =
                        difference(Image(at, at + count), snapshot->read(first, count)))
                    wrong(fmt::format("set {} has changed behind sector {}: {}", id, first, *text));
            }
            first += count;
        }
        ++checks_;
    }

    void verifyAll() {
        for (const auto& [id, image] : snapshots_)
            verify(id, 1);
    }

    void writeTo(std::uint64_t id) {
        SnapshotDevices snapshot(mapper_, options_, members(id), Devices::Mode::Write);
        Image& image = snapshots_.at(id);
        const std::uint32_t alignment = options_.writers.alignment;
        for (int i = 0; i < 4; ++i) {
            const std::uint64_t first = random_() % image.size() / alignment * alignment;
            const auto wanted = static_cast<std::uint32_t>(
                std::min<std::uint64_t>((1 + random_() % 100) * alignment, image.size() - first));
            const PendingWrite write{id, first, snapshot->withinOne(first, wanted), clock_->tick()};
            journal_.writing(write);
            const auto count = static_cast<std::uint32_t>(write.count);
            snapshot->write(first, count, write.stamp);
            std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(first), count, write.stamp);
            journal_.written(write);
            if (snapshot->read(first, count) != Image(count, write.stamp))
                wrong(fmt::format("snapshot {} does not show what it was given", id));
            ++overlay_writes_;
        }
    }

    /// Knows all writes, which have ended.
    void catchUp() {
        for (const auto& of_writer : writers_->take(clock_->tick()))
            for (const Write& write : of_writer)
                applyWrite(write, current_);
    }

    void expectAllWritten() {
        if (const auto text = difference(current_, devices_.readAll()))
            wrong("the origins are not what was written: " + *text);
    }

    /// What was on its way when the origins were attached was not preserved, so it must have ended
    /// before the set began: the set would change when it ends. And each write is found.
    void attach() {
        writers_->setFree(true);
        goOnFor(60);
        for (const Origin& origin : options_.origins)
            interposeAtLast(origin);
        createNow();
        const std::uint64_t id = last_id_;
        catchUp();
        verify(id, 1);
        expectAllWritten();
        writers_->setFree(true);
        goOnFor(60);
        remove(id);
        for (const Origin& origin : options_.origins)
            mapper_.remove(origin.name, cowsnap::Visibility::Hidden);
        goOnFor(20);
        writers_->setFree(false);
        catchUp();
        expectAllWritten();
        for (const Origin& origin : options_.origins)
            mapper_.message(options_.store,
                            fmt::format("{} {}", COWSNAP_MESSAGE_FORGET, origin.id));
    }

    /// Where writers are held up for longer than attaching waits, it is refused.
    void interposeAtLast(const Origin& origin) {
        for (int tries = 1; tries < 5; ++tries) {
            try {
                return interpose(origin);
            } catch (const cowsnap::Error& error) {
                std::printf("not attached: %s\n", error.what());
            }
        }
        interpose(origin);
    }

    void interpose(const Origin& origin) {
        const Devices device({origin.device}, Devices::Mode::Read);
        const std::string arguments =
            fmt::format("/dev/mapper/{} {} {} 1 {}", options_.store, origin.id, origin.device,
                        COWSNAP_FEATURE_INTERPOSE);
        mapper_.create(origin.name, "", {{0, device.sectors(), COWSNAP_TARGET_ORIGIN, arguments}},
                       cowsnap::Visibility::Hidden, false);
    }

    /// A state of the origins that no power cut takes away.
    void flush() {
        catchUp();
        devices_.flush();
        journal_.originFlushed(current_);
    }

    void step() {
        writers_->allow(options_.writes);
        const std::uint64_t choice = random_() % 16;
        if (snapshots_.empty() || (choice < 7 && snapshots_.size() < options_.most))
            create();
        else if (choice < 10)
            remove(anySnapshot());
        else if (choice < 13 && options_.overlay)
            writeTo(anySnapshot());
        else
            verify(anySnapshot(), 4);
        if (options_.crash && choice % 4 == 0)
            flush();
        writers_->waitUntilSpent();
    }

    void deleteSome(std::size_t count) {
        const std::size_t half = count / 2 + 1;
        for (std::size_t i = 0; i < count && !snapshots_.empty(); ++i) {
            writers_->allow(options_.writes / 4);
            remove(anySnapshot());
            if (!snapshots_.empty())
                verify(anySnapshot(), 4);
            if (i % half == half - 1)
                verifyAll();
            writers_->waitUntilSpent();
        }
    }

    static std::size_t countOf(const std::string& action) {
        return std::stoul(action.substr(action.find(':') + 1));
    }

    void repeat(std::size_t count, const std::function<void()>& what) {
        for (std::size_t i = 0; i < count; ++i)
            what();
    }

    void perform(const std::string& action) {
        if (action == "verify") {
            verifyAll();
        } else if (action == "delete:all") {
            deleteSome(snapshots_.size());
        } else if (action.starts_with("delete:")) {
            deleteSome(countOf(action));
        } else if (action.starts_with("create:")) {
            repeat(countOf(action), [this] {
                writers_->allow(options_.writes);
                create();
                writers_->waitUntilSpent();
            });
        } else if (action.starts_with("attach:")) {
            repeat(countOf(action), [this] { attach(); });
        } else if (action.starts_with("steps:")) {
            repeat(countOf(action), [this] { step(); });
        } else if (action == "forever") {
            for (;;)
                step();
        } else {
            wrong("unknown action " + action);
        }
        std::printf("%s: done, %zu snapshots\n", action.c_str(), snapshots_.size());
        std::fflush(stdout);
    }

    void finish() {
        writers_->waitUntilSpent();
        flush();
        expectAllWritten();
        if (options_.no_wait)
            std::printf("%llu writes did not have to wait\n",
                        static_cast<unsigned long long>(devices_.withoutWaiting()));
        if (options_.no_wait && devices_.withoutWaiting() == 0)
            wrong("no write was done without waiting");
        journal_.originExact(current_);
    }

    Options options_;
    std::mt19937_64 random_;
    cowsnap::LibDeviceMapper mapper_;
    Devices devices_;
    Journal journal_;
    Clock* clock_ = nullptr;
    Writers* writers_ = nullptr;
    std::map<std::uint64_t, Image> snapshots_;
    Image current_;  ///< the origins, as far as writes were taken from the writers
    std::uint64_t last_id_ = 0;
    std::size_t creates_ = 0;
    std::size_t deletes_ = 0;
    std::size_t checks_ = 0;
    std::size_t overlay_writes_ = 0;
    std::size_t meanwhile_ = 0;  ///< writes to origins while sets were created
};

}  // namespace
}  // namespace vmtest

int main(int argc, char** argv) {
    try {
        vmtest::Exerciser(vmtest::parseOptions({argv + 1, argv + argc})).run();
        return 0;
    } catch (const std::exception& error) {
        std::printf("FAIL: %s\n", error.what());
        return 1;
    }
}
