// SPDX-License-Identifier: GPL-2.0-or-later
// What outlives the machine: the disks; and what must be on them: the model of origins and
// snapshots that the checks compare with. Copies are independent of each other.
#ifndef COWSNAP_TESTS_SIM_WORLD_HPP
#define COWSNAP_TESTS_SIM_WORLD_HPP

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "disks.hpp"

namespace sim {

// A promise was broken.
class Broken : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// A block that was written in a snapshot: 0 is the snapshot's own contents.
struct OverlayBlock {
    std::uint32_t acknowledged = 0;
    std::set<std::uint32_t> unacknowledged;
};

// Whether the store failed under a snapshot: from then on its reads are errors, for good.
enum class Loss { none, unrecorded, recorded };

struct SnapshotModel {
    std::uint32_t origin = 0;
    std::shared_ptr<const Contents> contents;
    std::map<std::uint64_t, OverlayBlock> overlay;
    std::set<std::uint64_t> unreadable;  // the origin's blocks could not be read: EIO
    std::uint64_t overlay_changes = 0;
    Loss loss = Loss::none;
    bool stale = false;  // its origin was written unseen: what reads return is not said
};

// What the kernel knows of an origin's device, and what must be found out about it.
struct OriginDevice {
    std::uint64_t instance = 0;  // another one in each boot
    std::uint64_t written = 0;   // sectors since it appeared
    bool unseen = false;         // written while nobody was in front of it
    bool unrecorded = false;     // a change in front was not recorded: it may be taken for that
    std::set<std::uint64_t> watched;  // blocks with a place that is, as far as is recorded for sure
    bool vague = false;               // it may be recorded that they may be whatever they are
};

// A rollback of an origin.
struct RollbackModel {
    std::uint32_t target = 0;
    std::uint32_t undo = 0;  // 0: it is being cancelled
    bool scheduled = false;
};

// What an origin's rollback may have become, or may still be, if the power fails now.
struct RollbackChange {
    std::uint32_t origin = 0;
    std::optional<RollbackModel> rollback;
    std::optional<OriginDisk> view;  // another than there is
};

struct World {
    explicit World(std::uint64_t store_blocks) : store(store_blocks) {}

    StoreImage store;
    std::map<std::uint32_t, OriginDisk> origins;
    std::map<std::uint32_t, SnapshotModel> snapshots;
    // Of a create that was not acknowledged yet: all of them exist, or none.
    std::map<std::uint32_t, SnapshotModel> creating;
    // Of a delete that was not acknowledged yet: all of them are gone, or none.
    std::set<std::uint32_t> deleting;
    std::uint32_t next_version = 1;
    std::set<std::pair<std::uint32_t, std::uint64_t>> bad_origin_blocks;
    // Of the store: so many reads of control context more fail.
    std::map<std::uint64_t, std::uint64_t> bad_store_blocks;
    // A failing store could not record that its snapshots are lost: it is known elsewhere, and
    // whoever activates the store must be told.
    bool loss_known_elsewhere = false;
    // The store was damaged: EIO and refusing are right, wrong data are not.
    bool damaged = false;
    // Recorded outside the store: its sets up to this one missed writes.
    std::optional<std::uint64_t> lost_sets;
    // Whether machines come in front of the origins (machine_front.cpp), and the next one does so
    // in the boot that there is.
    bool fronts = false;
    bool same_boot = false;
    std::map<std::uint32_t, OriginDevice> devices;
    std::map<std::uint32_t, RollbackModel> rollbacks;  // by origin
    std::optional<RollbackChange> changing;
    // The device that an origin must look like, since a rollback of it began: a plain one, with
    // a cache, that held the target then.
    std::map<std::uint32_t, OriginDisk> views;
    bool cut = false;  // the power was, and what the views hold is not known since
};

// A boot without a machine.
void boot(World& world);
// A block is written, durably, while nobody is in front of the origin.
void write_unseen(World& world, std::uint32_t origin, std::uint64_t block);

}  // namespace sim

#endif
