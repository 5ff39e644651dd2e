// SPDX-License-Identifier: GPL-2.0-or-later
// A machine in memory: its disks, and device-mapper with the targets linear,
// cow-store, cow-origin and cow-snap, as strict as the kernel (proto/cowsnap_dm.h).
// Can be told to die, or to fail, at any step that changes something.
#ifndef COWSNAP_TESTS_FAKE_MACHINE_H
#define COWSNAP_TESTS_FAKE_MACHINE_H

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/uuid.h"
#include "block/block_devices.h"
#include "block/volume_groups.h"
#include "dm/device_mapper.h"

namespace cowsnap::test {

inline constexpr std::uint64_t kSlotSectors = 128;  // 64 KiB
inline constexpr std::uint64_t kSlotBlock = 1024;   // on a store's first disk

/// See FakeMachine::hold(): no message.
inline constexpr const char* kHeldTables = "a new table";
inline constexpr const char* kHeldStatus = "the status";

/// The program was killed: nothing of it may catch this.
class Killed : public std::exception {
public:
    const char* what() const noexcept override { return "killed"; }
};

enum class Accident {
    KillBefore,  ///< the program dies before the step
    KillAfter,   ///< the program dies after the step was done
    Tear,        ///< the program dies in the step: a write leaves rubbish; else as KillBefore
    Fail,        ///< the step gives an error and does nothing
};

class FakeMachine final : public DeviceMapper, public BlockDevices, public VolumeGroups {
public:
    FakeMachine();

    // What tests do to the machine.

    void addDisk(const std::string& path, std::uint64_t sectors, const std::string& serial = {});
    void setUser(const std::string& path, const std::string& user,
                 DeviceUser::Kind kind = DeviceUser::Kind::FileSystem);
    void setContents(const std::string& path, const std::string& contents);
    void setReadOnly(const std::string& path);
    void resizeDisk(const std::string& path, std::uint64_t sectors);
    void renameDisk(const std::string& path, const std::string& new_path);
    void setSerial(const std::string& path, const std::string& serial);
    void removeDisk(const std::string& path);
    /// Makes one device stand on another, as a volume on a disk.
    void putOn(const std::string& upper, const std::string& lower);
    /// Each begins kPartitionSectors behind the one before.
    void addPartition(const std::string& path, const std::string& disk);
    static constexpr std::uint64_t kPartitionSectors = 2048;
    /// A mapped device whose table is not looked at.
    void putTable(const std::string& name, const std::vector<MappedTarget>& table);
    /// A volume group with so many free extents of 4 MiB.
    void addVolumeGroup(const std::string& name, std::uint64_t free_extents,
                        const std::vector<std::string>& devices = {});
    /// A volume at /dev/GROUP/NAME.
    void addVolume(const std::string& group, const std::string& name, std::uint64_t extents,
                   const std::set<std::string>& tags = {});
    void renameVolumeGroup(const std::string& name, const std::string& new_name);
    std::vector<std::string> volumeNames(const std::string& group) const;
    /// Calls of LVM's program until now.
    unsigned groupCalls() const;
    /// The next so many tables that are to become live fail at it, as in preresume: they are live
    /// then, and the device is suspended.
    void failResumes(unsigned count);
    /// Opens or closes a mapped device.
    void setOpen(const std::string& mapped_path, bool open);
    /// As "dmsetup rename".
    void renameMapped(const std::string& name, const std::string& new_name);
    /// All mapped devices vanish; what is on the disks stays.
    void reboot();
    void removeModule();
    void loadModule();
    /// A module whose targets have another minor version.
    void setModuleMinor(unsigned minor);
    /// Interposing fails, as where another user has the hook; an empty cause: no more.
    void refuseInterposing(const std::string& cause);
    /// The kernel drops a snapshot for room and raises the event.
    void drop(std::uint32_t snapshot_id);
    /// A snapshot missed writes.
    void lose(std::uint32_t snapshot_id);
    /// Some of the blocks of a snapshot cannot be read.
    void damage(std::uint32_t snapshot_id);
    /// In the only store, or in one.
    void raise(const std::string& event, std::uint64_t id, std::optional<Uuid> of = std::nullopt);
    /// The store's disks take no writes any more, until the next reboot.
    void failStore();
    /// The kernel finds that the origin was written while nothing was in front of it.
    void writtenUnseen(std::uint32_t origin_id);
    std::string stateOf(std::uint32_t snapshot_id) const;
    /// What the cow-origins tell of their blocks from now on.
    void countBlocks(std::uint64_t preserved, std::uint64_t waiting_bios, std::uint64_t read);
    /// The store is full, or not any more.
    void setFull(bool full);
    /// So many blocks are copied back.
    void copyBack(std::uint32_t origin_id, std::uint64_t blocks);
    /// A rollback that is scheduled begins, as when its origin is attached.
    void beginScheduled(std::uint32_t origin_id);
    /// All is copied back.
    void endRollback(std::uint32_t origin_id);
    /// The kernel's state of the rollback of an origin, attached or not: COWSNAP_ROLLBACK_*.
    std::string rollbackOf(std::uint32_t origin_id) const;
    void forgetSnapshot(std::uint32_t snapshot_id);
    /// Makes a snapshot that no daemon asked for.
    void createBehindTheBack(std::uint32_t snapshot_id, std::uint32_t origin_id);
    void damageSlot(unsigned slot);
    void blankSlot(unsigned slot);
    /// In the only store, or in one.
    void useSegments(std::uint64_t segments, std::optional<Uuid> of = std::nullopt);
    /// Slots that have room for the metadata of thousands of snapshots, as large stores have them.
    /// Before any store is made.
    void makeSlotsLarge() { slot_sectors_ = 8192; }

    /// Messages that begin with this word wait in the kernel until letGo(), those to the device
    /// with this name or all; for kHeldTables the making of devices, for kHeldStatus
    /// the reading of their states.
    void hold(const std::string& word, const std::string& mapped_name = {});
    void letGo();
    /// Waits until so many calls wait; false if it takes too long.
    bool waitUntilHeld(unsigned calls);

    /// The accident happens at the step with this number, counted from now, from 0.
    void plan(Accident accident, unsigned step);
    void planNothing();
    bool accidentHappened() const { return accident_happened_; }

    /// Of all stores, or of one.
    std::vector<std::uint32_t> snapshotIds(std::optional<Uuid> of = std::nullopt) const;
    std::vector<std::uint32_t> originIds(std::optional<Uuid> of = std::nullopt) const;
    std::vector<std::string> mappedNames() const;
    /// The live table of a mapped device.
    std::vector<MappedTarget> tableOf(const std::string& mapped_name) const;
    std::vector<std::string> messages() const;
    /// The devices that udev was told to look at again.
    std::vector<std::string> announced() const;
    void forgetMessages();

    // DeviceMapper
    std::vector<MappedDevice> devices() override;
    bool nameTaken(const std::string& name) override;
    void make(const std::string& name, const std::string& uuid) override;
    void load(const std::string& name, const std::vector<MappedTarget>& table,
              bool read_only) override;
    void clear(const std::string& name) override;
    void suspend(const std::string& name) override;
    void resume(const std::string& name, Visibility visibility) override;
    void remove(const std::string& name, Visibility visibility) override;
    std::vector<MappedTarget> table(const std::string& name) override;
    std::vector<MappedTarget> tableOf(DeviceNumber number) override;
    std::vector<MappedTarget> status(const std::string& name) override;
    std::string message(const std::string& name, const std::string& text) override;
    std::optional<TargetVersion> targetVersion(const std::string& type) override;
    int eventDescriptor() override;
    void armEvents() override;

    // VolumeGroups
    std::vector<VolumeGroup> groups() override;
    std::vector<std::string> devicesOf(const VolumeGroup& group) override;
    std::optional<VolumeGroup> findGroup(const std::string& uuid) override;
    std::vector<LogicalVolume> volumesOf(const VolumeGroup& group) override;
    std::string createVolume(const VolumeGroup& group, const std::string& name,
                             std::uint64_t extents, const std::string& tag) override;

    // BlockDevices
    BlockDevice describe(const std::string& path) override;
    std::vector<std::string> lasting() override;
    std::string pathOf(DeviceNumber number) override;
    std::uint64_t sizeOf(DeviceNumber number) override;
    std::vector<std::string> withSerial(const std::string& serial, unsigned partition) override;
    std::vector<DeviceNumber> below(DeviceNumber number) override;
    std::vector<DeviceNumber> above(DeviceNumber number) override;
    std::optional<std::uint64_t> startOf(DeviceNumber number) override;
    std::vector<DeviceNumber> partitions(DeviceNumber number) override;
    std::optional<DeviceUser> user(const std::string& path) override;
    void exclusively(const std::string& path, const std::function<void()>& work) override;
    void announce(DeviceNumber number) override;
    std::string contents(const std::string& path) override;
    std::vector<std::byte> read(const std::string& path, std::uint64_t offset_bytes,
                                std::size_t length_bytes) override;
    void write(const std::string& path, std::uint64_t offset_bytes,
               std::span<const std::byte> data) override;

private:
    using Blocks = std::map<std::uint64_t, std::vector<std::byte>>;

    struct Disk {
        DeviceNumber number;
        std::uint64_t sectors = 0;
        std::string serial;
        std::optional<DeviceUser> user;
        std::string contents;
        bool read_only = false;
        std::vector<std::string> below;
        std::vector<std::string> partitions;
        std::optional<Uuid> store;  ///< that starts on it
        Blocks blocks;
    };

    struct Group {
        VolumeGroup group;
        std::vector<std::string> devices;
        std::vector<LogicalVolume> volumes;
    };

    struct Mapped {
        std::string uuid;
        DeviceNumber number;
        std::vector<MappedTarget> table;     ///< empty until the first resume
        std::vector<MappedTarget> inactive;  ///< empty if there is none
        bool suspended = false;
        bool read_only = false;
        bool open = false;
        std::optional<DeviceUser> user;
        std::uint32_t event_number = 0;
        std::optional<Uuid> store{};  ///< that a cow-store found, once: it does not look again

        /// Of the live and the inactive table.
        std::vector<MappedTarget> targets() const;
        /// The first target of the live table; one of no type if there is none.
        MappedTarget live() const { return table.empty() ? MappedTarget() : table.front(); }
    };

    struct FakeSnapshot {
        std::uint32_t origin = 0;
        std::uint64_t created = 0;
        std::uint64_t set = 0;
        bool lost = false;
        bool stale = false;
        bool damaged = false;
    };

    struct FakeRollback {
        bool running = false;
        std::uint32_t target = 0;
        std::uint32_t undo = 0;
        std::uint64_t done_blocks = 32;
    };

    struct Event {
        std::uint64_t number;
        std::string name;
        std::uint64_t id;
    };

    /// What is on a store's disks.
    struct Store {
        std::uint64_t sectors = 0;
        std::uint64_t segment_sectors = 2048;
        std::uint64_t used_segments = 0;
        std::map<std::uint32_t, std::uint64_t> origin_sectors;
        std::map<std::uint32_t, FakeSnapshot> snapshots;
        std::map<std::uint32_t, FakeRollback> rollbacks;  ///< by origin
        std::uint64_t next_set = 1;
        std::vector<Event> events;
        Blocks slots;
        bool failed = false;
        bool full = false;
    };

    void waitWhileHeld(std::unique_lock<std::mutex>& lock, const std::string& name,
                       const std::string& word);
    static std::string stateOf(const Store& store, const FakeSnapshot& snapshot);
    void step(bool& tear, bool& kill_after);
    /// A step that changes something at once.
    void step(const std::function<void()>& change);
    void resumeLocked(Mapped& mapped, const std::string& name);
    /// What would wait for a suspended device ends the test.
    void mustNotWait(const Mapped& mapped);
    Disk& disk(const std::string& path);
    Group& group(const std::string& name);
    void addVolumeLocked(Group& group, const std::string& name, std::uint64_t extents,
                         const std::set<std::string>& tags);
    Mapped& mapped(const std::string& name);
    Mapped* mappedWithNumber(DeviceNumber number);
    std::uint64_t sectorsOf(DeviceNumber number);
    std::string pathOfLocked(DeviceNumber number);
    std::vector<DeviceNumber> belowLocked(DeviceNumber number);
    bool heldByMapped(DeviceNumber number);
    std::optional<DeviceUser> userLocked(const std::string& path);
    void checkTable(const std::vector<MappedTarget>& table, const std::string& replacing);
    void checkStoreTable(const MappedTarget& target, const std::string& replacing);
    void checkOriginTable(const MappedTarget& target);
    void checkSnapTable(const MappedTarget& target);
    void rememberStore(Mapped& mapped);
    Store& storeBelow(const std::string& mapped_name);
    Uuid storeUuidOn(DeviceNumber data);
    Store& storeNamedBy(const std::string& word);
    bool hasTarget(const Store& store, const std::string& type, std::uint32_t id);
    bool attached(const Store& store, std::uint32_t origin_id);
    bool active(const Store& store, std::uint32_t snapshot_id);
    Blocks& blocksAt(const std::string& path, std::uint64_t& offset_bytes);
    std::string answer(Store& store, const std::vector<std::string>& words);
    void rollBack(Store& store, const std::vector<std::string>& words);
    void watch(const Store& store, const std::vector<std::string>& words);
    void beginRollback(Store& store, std::uint32_t origin);
    void cancelRollback(Store& store, const std::vector<std::string>& words);
    std::string rollbackWords(const Store& store, std::uint32_t origin) const;
    void raiseLocked(Store& store, const std::string& event, std::uint64_t id);
    Store& onlyStore();

    mutable std::mutex mutex_;
    std::condition_variable held_changed_;
    std::string held_word_;
    std::string held_mapped_name_;
    unsigned held_ = 0;
    std::map<std::string, Disk> disks_;
    std::map<std::string, Group> groups_;
    unsigned group_calls_ = 0;
    std::map<std::string, Mapped> mapped_;
    std::map<Uuid, Store> stores_;
    std::vector<std::string> messages_;
    std::vector<std::string> announced_;
    std::uint64_t slot_sectors_ = kSlotSectors;
    bool module_loaded_ = true;
    unsigned module_minor_;
    std::string interposing_refused_;
    std::uint64_t preserved_blocks_ = 16;  ///< in the current epochs
    std::uint64_t waiting_bios_ = 0;
    std::uint64_t read_blocks_ = 16;
    unsigned next_minor_ = 0;
    unsigned failing_resumes_ = 0;
    std::optional<Accident> planned_;
    unsigned steps_left_ = 0;
    bool accident_happened_ = false;
    FileDescriptor events_;
};

}  // namespace cowsnap::test

#endif
