// SPDX-License-Identifier: GPL-2.0-or-later
// An engine on a fake machine with one store, two origins' disks and spare ones.
#ifndef COWSNAP_TESTS_ENGINE_BED_H
#define COWSNAP_TESTS_ENGINE_BED_H

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "fake_machine.h"
#include "model/engine.h"
#include "temporary_directory.h"

namespace cowsnap::test {

inline constexpr std::uint64_t kStoreSectors = 262144;  // 128 MiB
inline constexpr std::uint64_t kOriginSectors = 204800;

struct EngineBed {
    FakeMachine machine;
    TemporaryDirectory directory;
    std::unique_ptr<Engine> engine;

    EngineBed() {
        machine.addDisk("/dev/store", kStoreSectors, "store-serial");
        machine.addDisk("/dev/spare", kStoreSectors, "spare-serial");
        machine.addDisk("/dev/one", kOriginSectors, "one-serial");
        machine.addDisk("/dev/two", kOriginSectors, "two-serial");
        restart();
    }

    /// Ends the daemon and starts it again.
    void restart() {
        engine.reset();
        engine = std::make_unique<Engine>(machine, machine, machine,
                                          StoreRegistry(directory.path()), runDirectory());
        engine->start();
    }

    void reboot() {
        engine.reset();
        machine.reboot();
        std::filesystem::remove_all(runDirectory());
        restart();
    }

    std::filesystem::path runDirectory() const { return directory.path() / "run"; }

    Uuid makeStore() { return engine->createStore({"/dev/store"}, "main", {}); }
    /// All stores.
    void refresh() {
        for (const Uuid& uuid : storeUuids())
            engine->refresh(uuid);
    }

    std::vector<EventNotice> takeEvents() { return take(&Notices::events); }
    std::vector<SpaceNotice> takeSpaceWarnings() { return take(&Notices::space); }
    std::vector<DroppedNotice> takeDropped() { return take(&Notices::dropped); }

    const StoreState& store() const { return engine->stores().begin()->second; }

    std::optional<Uuid> snapshotNamed(const std::string& name) const {
        for (const auto& snapshot : store().metadata.snapshots)
            if (snapshot.name == name)
                return snapshot.uuid;
        return std::nullopt;
    }

private:
    StoreSet storeUuids() const {
        StoreSet uuids;
        for (const auto& [uuid, store] : engine->stores())
            uuids.insert(uuid);
        return uuids;
    }

    template <typename Notice>
    std::vector<Notice> take(std::vector<Notice> Notices::*kind) {
        Notices now = engine->takeNotices(storeUuids());
        const auto keep = [](auto& kept, const auto& more) {
            kept.insert(kept.end(), more.begin(), more.end());
        };
        keep(notices_.events, now.events);
        keep(notices_.space, now.space);
        keep(notices_.dropped, now.dropped);
        return std::exchange(notices_.*kind, {});
    }

    Notices notices_;  ///< that nobody took yet
};

/// What an action failed with: the kind and the message.
struct Refusal {
    std::optional<ErrorKind> kind;
    std::string message;
};

inline Refusal refusalOf(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        return {error.kind(), error.what()};
    }
    return {std::nullopt, "it was not refused"};
}

inline bool contains(const std::vector<std::string>& texts, const std::string& text) {
    return std::find(texts.begin(), texts.end(), text) != texts.end();
}

/// Refused with this kind and a message that names the cause; and nothing has changed.
inline void checkRefused(EngineBed& bed, ErrorKind kind, const std::string& cause,
                         const std::function<void()>& action) {
    const auto names = bed.machine.mappedNames();
    const auto snapshots = bed.machine.snapshotIds();
    const auto origins = bed.machine.originIds();
    const Refusal refusal = refusalOf(action);
    INFO(refusal.message);
    CHECK(refusal.kind == kind);
    CHECK_THAT(refusal.message, Catch::Contains(cause));
    CHECK(bed.machine.mappedNames() == names);
    CHECK(bed.machine.snapshotIds() == snapshots);
    CHECK(bed.machine.originIds() == origins);
}

}  // namespace cowsnap::test

#endif
