// SPDX-License-Identifier: GPL-2.0-or-later
// The operations on stores, origins and snapshots, each validated, made durable in
// the metadata before the kernel is told, and finished or undone at the next start
// if it was interrupted. Blocks. Threads that use one engine take turns (see turns.h), and each
// operation needs a turn at the stores that it is about. Knows nothing of D-Bus.
#ifndef COWSNAP_MODEL_ENGINE_H
#define COWSNAP_MODEL_ENGINE_H

#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "assembly/store_assembly.h"
#include "block/block_devices.h"
#include "block/volume_groups.h"
#include "dm/device_mapper.h"
#include "meta/registry.h"
#include "model/backup_writer.h"
#include "model/claims.h"
#include "model/registered_stores.h"
#include "model/retention.h"
#include "model/stepping_out.h"
#include "model/store_state.h"
#include "model/told_events.h"
#include "model/turns.h"

namespace cowsnap {

/// By what the devices of a store's origins are known again.
enum class Recognize {
    AsBefore,      ///< also by their paths: this machine attached them before
    ByTheirMarks,  ///< only by serial number or link in by-id: the store is from another machine
};

struct SnapshotOptions {
    bool writable = false;
    std::string description;
    std::set<std::string> tags{};
    std::set<std::string> holds{};
    std::uint64_t expires = 0;  ///< seconds since 1970; 0: never
};

struct RollbackOptions {
    std::string undo_name{};  ///< of the snapshot of what is there before; empty: one is chosen
    bool schedule = false;    ///< if it cannot be done now, do it when the origin is attached next
    bool force = false;       ///< although the snapshot is stale
};

/// When stores are extended by themselves, and by how much.
struct AutoextendPolicy {
    bool enabled = true;       ///< false: none is
    unsigned at_percent = 70;  ///< when so much of it is used
    unsigned by_percent = 20;  ///< of what it has
};

/// What is to be different about what a store is extended with.
struct AutoextendChange {
    std::optional<bool> enabled{};          ///< true: also from the volume group that it is in
    std::vector<std::string> add_spares{};  ///< blank devices
    std::vector<std::string> remove_spares{};
    std::optional<std::uint64_t> max_bytes{};  ///< 0: no limit
};

struct PruneOptions {
    RetentionRules rules;
    std::set<std::string> tags{};  ///< only snapshots that have all of them are looked at
    bool dry_run = false;          ///< say what would go, delete nothing
    std::uint64_t now = 0;         ///< seconds since 1970
};

/// Something that a store could be made of.
struct StoreCandidate {
    enum class Kind { Device, VolumeGroup };
    Kind kind = Kind::Device;
    std::string name;              ///< the path of a device, the name of a volume group
    std::uint64_t free_bytes = 0;  ///< that the store could have at most
    std::uint64_t size_bytes = 0;  ///< that it should have
};

/// Something that is not as it should be with a store, or with what is in it.
struct StoreFinding {
    enum class About { Store, Origin, Snapshot };
    About about = About::Store;
    Uuid uuid;
    std::string name;
    bool damage = false;  ///< data, or metadata, cannot be read
    std::string text;
};

/// What pruning did, or would do, with a snapshot, and why; or a store that it could not look at.
struct PruneResult {
    enum class Action { Keep, Delete, Failed };
    std::optional<Uuid> snapshot;  ///< nothing: it is about the store with this name
    std::string name;
    Action action = Action::Keep;
    std::string reason;
};

/// All methods throw Error; then nothing has changed, or the message says what has. Where turns are
/// taken they throw OutOfTurn before anything has changed if they need a store that the turn is not
/// at; which stores they need is theirs to know. createStore() and openStore() also need
/// kUnknownStores.
class Engine {
public:
    Engine(DeviceMapper& mapper, BlockDevices& devices, VolumeGroups& groups,
           StoreRegistry registry, const std::filesystem::path& run_directory);

    /// Finds the stores that run, starts those that are registered, and finishes or
    /// undoes what was interrupted. What fails is logged and shown as a store's problem. The same
    /// in two steps: of the stores that there are, which it returns, each can be started in a turn
    /// of its own. Until that was done using it is Busy.
    void start();
    StoreSet findStores();
    void startStore(const Uuid& store);

    /// Formats devices as a store and opens it. Unless autoextend says otherwise it is extended
    /// when it gets full, with its spares, or from its volume group if it stands on a logical
    /// volume.
    Uuid createStore(const std::vector<std::string>& paths, const std::string& name,
                     const StoreOptions& options, const AutoextendChange& autoextend = {});
    /// The same on a new volume of a volume group, of this size.
    Uuid createStoreIn(const std::string& group_name, std::uint64_t size_bytes,
                       const std::string& name, const StoreOptions& options,
                       const AutoextendChange& autoextend = {});
    /// What a store for the snapshots of a device could be made of: blank devices of this machine,
    /// and volume groups with free space. Needs a turn at kUnknownStores.
    std::vector<StoreCandidate> storeCandidates(const std::string& origin_path);
    /// Opens a store that stands on these devices, in their order. It gets the name; if that is
    /// empty it keeps its own. Exists if another store has the name.
    Uuid openStore(const std::vector<std::string>& paths, const std::string& name,
                   Recognize origins = Recognize::AsBefore);
    /// Appends devices to a store.
    void extendStore(const Uuid& store, const std::vector<std::string>& paths);
    void changeAutoextend(const Uuid& store, const AutoextendChange& change);
    /// Whether autoextend() has something to do, or to try again.
    bool wantsExtension(const Uuid& store) const;
    /// Extends a store that gets full with what it was given for that. NoSpace if nothing can be
    /// taken; then it is left alone for a while.
    void autoextend(const Uuid& store);
    /// What the kernel knows of damage and the like in a store, and whether its metadata can be
    /// read now; also of a store that cannot be used. Reads no data: that is for cowsnap-store.
    std::vector<StoreFinding> checkStore(const Uuid& store);
    /// Stops a store without origins and forgets where it is. Of one that cannot be used nobody
    /// knows which it has: force closes it if none of them is attached. The boot does not hold
    /// back its fail-closed origins any more.
    void closeStore(const Uuid& store, bool force = false);

    /// Attaches an origin to a device. Without a method: interposed if the device is in use, else
    /// stacked; one that has snapshots as it was before. An empty name: that of the device.
    /// known_as names an origin that the store has: this is its device, whatever serial number it
    /// has now. Without a policy that of a known origin stays, and a new one is fail-open.
    Uuid attach(const std::string& path, const Uuid& store, const std::string& name,
                std::optional<AttachMethod> method = std::nullopt, const std::string& known_as = {},
                std::optional<BootPolicy> policy = std::nullopt);
    /// What the boot does if it cannot attach the origin.
    void setBootPolicy(const Uuid& origin, BootPolicy policy);
    /// Takes the cow-origin away from an origin that has no snapshots.
    void detach(const Uuid& origin);

    /// Makes a snapshot of each origin (first) with its name (second), all at one instant.
    std::vector<Uuid> createSnapshots(const std::vector<std::pair<Uuid, std::string>>& members,
                                      const SnapshotOptions& options);
    /// Deletes snapshots. Those of a store go in parts of COWSNAP_DELETE_MAX, each of them wholly
    /// or not at all, also over a crash. Held if one of them is; then all stay. PartlyDone, with
    /// what is gone, if it fails, or is cancelled, after a part; cancelled can it be between
    /// parts.
    void deleteSnapshots(const std::vector<Uuid>& snapshots);
    void renameSnapshot(const Uuid& snapshot, const std::string& name);
    void setDescription(const Uuid& snapshot, const std::string& description);
    /// Replaces all tags.
    void setTags(const Uuid& snapshot, const std::vector<std::string>& tags);
    /// Adds some, and takes others away; the rest stay. NotFound if it has one not that is to go.
    void changeTags(const Uuid& snapshot, const std::vector<std::string>& added,
                    const std::vector<std::string>& removed);
    /// When prune() deletes it, in seconds since 1970; 0: never.
    void setExpiry(const Uuid& snapshot, std::uint64_t expires);
    /// Adds a hold with this name to all of the snapshots, or to none. A snapshot may have several
    /// holds; while it has one it is not deleted. Exists if one has this hold. PartlyDone if it
    /// was done in one store and another one cannot be written.
    void holdSnapshots(const std::vector<Uuid>& snapshots, const std::string& hold);
    /// Takes the hold with this name from all of the snapshots, or from none. NotFound if one does
    /// not have it. PartlyDone as of holdSnapshots().
    void releaseSnapshots(const std::vector<Uuid>& snapshots, const std::string& hold);

    /// Deletes the snapshots of these origins, or of all, that retention lets go. What of a store
    /// fails, and which stores cannot be used, the results say; the others are pruned all the same.
    std::vector<PruneResult> prune(const std::vector<Uuid>& origins, const PruneOptions& options);

    /// Has the origin of a snapshot go back to it. When this returns the origin's device shows
    /// that, and what was there before is the snapshot that is answered; copying back goes on. Busy
    /// if the origin is in use, unless it may be scheduled; then that snapshot comes when it
    /// begins.
    Uuid rollback(const Uuid& snapshot, const RollbackOptions& options);
    /// One that is scheduled is not any more; one that runs goes back to what was before. NotFound
    /// if there is none.
    void cancelRollback(const Uuid& origin);

    /// Makes the device of a snapshot and returns its path.
    std::string activate(const Uuid& snapshot, bool read_only);
    void deactivate(const Uuid& snapshot);

    /// Reads the state of a store again from the kernel and takes in what happened meanwhile.
    /// Nothing happens if it is not there any more.
    void refresh(const Uuid& store);
    /// Writes down what a failing store cannot be told itself. Needs no turn at it: who has that
    /// may be waiting for this.
    void recordLosses(const Uuid& store);

    /// The used parts of a store, in percent, of which people are warned; ascending.
    void setSpaceWarnings(std::vector<unsigned> percents) { space_warnings_ = std::move(percents); }
    void setAutoextend(const AutoextendPolicy& policy) { autoextend_ = policy; }
    /// How many states of a store's metadata are kept beside it; 0: none are written.
    void setMetadataBackups(std::size_t kept) { metadata_backups_ = kept; }
    /// Waits until those that there are to be are written. False if that takes longer.
    bool waitForBackups(std::chrono::milliseconds longest) { return backups_.wait(longest); }

    Turns& turns() { return turns_; }
    /// May be looked at by who is in, whatever the turn is at.
    const std::map<Uuid, StoreState>& stores() const { return stores_; }
    /// What happened to these stores and was not taken yet.
    Notices takeNotices(const StoreSet& stores);

private:
    // engine_stores.cpp
    std::vector<BlockDevice> describeAll(const std::vector<std::string>& paths);
    void checkNewStoreDevices(const std::vector<BlockDevice>& described, const Uuid& store);
    void checkNewStoreDevice(const BlockDevice& device, const Uuid& store);
    void checkNewStoreName(const std::string& name);
    static void checkFormatOptions(const StoreOptions& options);
    void checkBlank(const std::string& path);
    void checkOpenedDevice(const BlockDevice& device, const Uuid& opened);
    void takeActive(StoreState& store, ActiveStore&& active, Metadata initial);
    void bringUp(StoreState& store, const std::function<void()>& known = {});
    void takeOver(StoreState& store, const std::string& wanted_name, Recognize origins);
    void registerStore(StoreState& store);
    void registerClosed(StoreState& store);
    void addDevices(StoreState& store, const std::vector<BlockDevice>& described);
    void finishRegistering(const StoreState& store, std::future<void> registered);
    void requireTurn(const StoreState& store) const;
    StoreState& usableStore(const Uuid& uuid);
    StoreState& storeOfOrigin(const Uuid& origin);
    StoreState& storeOfSnapshot(const Uuid& snapshot);

    // engine_unusable.cpp
    std::vector<std::string> standingOn(const Uuid& store);
    void letGo(StoreState& store);
    std::string repairAdvice(const StoreState& store);
    std::vector<std::string> failClosedNames(const StoreState& store);
    void checkForget(const StoreState& store, bool force);

    // engine_autoextend.cpp
    AutoextendRecord changedAutoextend(const Uuid& store, AutoextendRecord record,
                                       const std::vector<DeviceIdentity>& devices,
                                       const AutoextendChange& change);
    void retryAutoextend(StoreState& store);
    std::optional<VolumeGroup> findGroup(const std::string& uuid);
    [[noreturn]] void autoextendFailed(StoreState& store, const std::string& reasons);
    std::uint64_t roomToGrow(const StoreState& store) const;
    bool extendWithSpare(StoreState& store, std::vector<std::string>& reasons);
    bool extendFromGroup(StoreState& store, std::vector<std::string>& reasons);
    std::string volumeFor(const StoreState& store);
    std::vector<LogicalVolume> volumesOf(const VolumeGroup& group);
    std::string makeVolume(const VolumeGroup& group, const std::vector<LogicalVolume>& volumes,
                           const std::string& store_name, std::size_t first_number,
                           std::uint64_t extents, const std::string& tag);
    bool isLeftover(const StoreState& store, const std::string& path);
    void makeBlank(const std::string& path);

    // engine_check.cpp
    void checkItself(StoreState& store, std::vector<StoreFinding>& findings);

    // engine_new_stores.cpp
    std::optional<std::uint64_t> usableForStore(const std::string& path, const BlockDevice& origin);
    bool standsOnOrigin(const VolumeGroup& group, const BlockDevice& origin);
    std::vector<VolumeGroup> allGroups();
    bool isUnfinished(const std::string& path);
    void undoUnfinishedStore(const std::vector<DeviceIdentity>& devices);
    std::string volumeForNewStore(const VolumeGroup& group, const std::string& store_name,
                                  std::uint64_t extents);

    // engine_origins.cpp
    void checkNewOriginDevice(const BlockDevice& device, AttachMethod method);
    void checkApartFromOrigins(const StoreState& store, const BlockDevice& device,
                               AttachMethod method);
    void checkUse(const BlockDevice& device, AttachMethod method,
                  const std::optional<DeviceUser>& user, const OriginRecord* known,
                  bool has_snapshots);
    void putInFront(const StoreState& store, const OriginRecord& origin, const BlockDevice& device);
    void reattach(StoreState& store, const OriginRecord& origin, const BlockDevice& device,
                  AttachMethod method, BootPolicy policy);
    void requireRegistered(StoreState& store, const Uuid& origin);
    std::string newOriginName(const StoreState& store, const std::string& path,
                              const std::string& wanted, const Uuid& uuid) const;
    std::string freeMappedName(std::string_view prefix, const std::string& name, const Uuid& uuid);
    void finishDetach(StoreState& store, const Uuid& origin);
    void attachAgain(StoreState& store);

    // engine_snapshots.cpp
    void watch(const StoreState& store,
               const std::vector<std::pair<std::uint32_t, std::uint32_t>>& ids);
    void upperFirst(const StoreState& store,
                    std::vector<std::pair<std::uint32_t, std::uint32_t>>& ids);
    void deleteInStore(StoreState& store, const std::vector<Uuid>& snapshots,
                       const Amount& parts = {});
    void deletePart(StoreState& store, std::span<const SnapshotRecord> snapshots);
    void writeDeleted(StoreState& store, std::span<const SnapshotRecord> gone);
    void removeSnapshotDevice(const StoreState& store, const SnapshotRecord& snapshot);

    // engine_rollback.cpp
    std::string useOf(const OriginRecord& origin, const OriginState& state);
    void stackForRollback(StoreState& store, const OriginRecord& origin);
    bool kernelHasRollback(StoreState& store, std::uint32_t origin_id, bool otherwise);
    void unschedule(const StoreState& store, std::uint32_t origin_id);
    void finishScheduling(StoreState& store);

    // engine_prune.cpp
    void pruneStore(StoreState& store, const std::vector<RetentionVerdict>& verdicts, bool dry_run,
                    std::vector<PruneResult>& results);

    // engine_records.cpp
    void changeRecords(
        const std::vector<Uuid>& snapshots,
        const std::function<std::string(const StoreState&, Metadata&, SnapshotRecord&)>& change);

    // engine_refresh.cpp
    void persist(StoreState& store, Metadata metadata);
    static void checkFits(const StoreState& store, const Metadata& metadata);
    static SnapshotRecord undoRecord(const Metadata& metadata, const OriginRecord& origin);
    void persistFound(StoreState& store, Metadata found);
    void load(StoreState& store);
    void readKernel(StoreState& store, const std::vector<MappedDevice>& devices);
    void checkSpace(StoreState& store);
    void readEvents(StoreState& store);
    void recordLoss(const Uuid& store, const MappedDevice& mapped);
    void reconcile(StoreState& store);
    void finishInterrupted(StoreState& store);
    std::string dropReason(const StoreState& store, const SnapshotRecord& snapshot) const;

    // engine_tables.cpp
    void readStoreTables(StoreState& store, const std::vector<MappedDevice>& devices);
    void readOrigin(const StoreState& store, const std::optional<MappedDevice>& mapped,
                    OriginState& state);
    void readOriginTable(const StoreState& store, const MappedDevice& mapped, OriginState& state);
    void lookAtOriginDevice(const StoreState& store, const OriginRecord& origin,
                            OriginState& state);
    void readSnapshot(const StoreState& store, const std::optional<MappedDevice>& mapped,
                      SnapshotState& state);

    Turns turns_;
    SteppingOutMapper mapper_;
    SteppingOutDevices devices_;
    VolumeGroups& groups_;  ///< its calls step out
    StoreAssembly assembly_;
    RegisteredStores registry_;
    LossRecords losses_;
    ToldEvents told_events_;
    BackupWriter backups_;
    std::size_t metadata_backups_ = kMetadataBackupsKept;
    AutoextendPolicy autoextend_;
    Claims claims_;
    std::map<Uuid, StoreState> stores_;
    std::vector<unsigned> space_warnings_{80, 90, 95};
    Notices notices_;
};

}  // namespace cowsnap

#endif
