// SPDX-License-Identifier: GPL-2.0-or-later
// Putting the mapped devices of a store together: its devices concatenated by a
// hidden linear device, the cow-store on that, the cow-origins on their devices.
// Each step makes only what is missing, so it can be done again after a crash.
// Knows nothing of D-Bus or of what snapshots are called.
#ifndef COWSNAP_ASSEMBLY_STORE_ASSEMBLY_H
#define COWSNAP_ASSEMBLY_STORE_ASSEMBLY_H

#include <optional>
#include <string>
#include <vector>

#include "block/block_devices.h"
#include "dm/device_mapper.h"
#include "dm/lines.h"
#include "meta/losses.h"
#include "meta/metadata.h"
#include "meta/registry.h"
#include "meta/slots.h"

namespace cowsnap {

struct StoreOptions {
    std::optional<std::uint64_t> full_wait_ms;
    std::optional<std::uint64_t> segment_sectors;  ///< only for formatting
};

class StoreAssembly {
public:
    StoreAssembly(DeviceMapper& mapper, BlockDevices& devices)
        : mapper_(mapper), devices_(devices) {}

    /// Has the kernel format blank devices as a new store; leaves no mapped device
    /// behind. Returns the store's UUID.
    Uuid format(const std::vector<BlockDevice>& devices, const StoreOptions& options);

    /// Makes what is missing of a store's mapped devices, and extends them to all of
    /// devices. Returns the cow-store's device.
    MappedDevice assemble(const Uuid& store, const std::vector<BlockDevice>& devices);

    /// Sets full_wait_ms of a running store.
    void setFullWait(const MappedDevice& store, std::uint64_t full_wait_ms);

    /// Removes the cow-store and what is below it.
    void takeApart(const Uuid& store);

    /// Stacks a cow-origin over device, or interposes it, as the record says, but stacks one that
    /// the kernel does not interpose for its rollback; returns its mapped device.
    MappedDevice attach(const MappedDevice& store, const OriginRecord& origin,
                        const BlockDevice& device);

    /// The mapped device of this role; nothing if there is none.
    std::optional<MappedDevice> find(const Uuid& uuid, std::string_view role);

    /// The devices that a store's data device is made of, in their order.
    std::vector<DeviceIdentity> devicesOf(const Uuid& store);

    /// What the cow-store of a store stands on.
    std::vector<MappedTarget> dataTable(const Uuid& store);

    /// Removes what an interrupted format() left, and devices whose making was interrupted before
    /// they had a table. Not while someone else makes any.
    void removeLeftovers();

    /// Undoes an interrupted change of the tables of a store, whose devices may be suspended since.
    /// Before anything is read from them, and not while someone else changes them.
    void resumeInterrupted(const Uuid& store);

private:
    void putInFront(const MappedDevice& store, const OriginRecord& origin,
                    const BlockDevice& device, AttachMethod method);
    std::vector<MappedTarget> concatenation(const std::vector<BlockDevice>& devices) const;

    DeviceMapper& mapper_;
    BlockDevices& devices_;
};

/// The mapped device of a stacked origin is for all to use, that of an interposed one for nobody.
Visibility visibilityOf(AttachMethod method);

/// An origin that could not be attached again, and why.
struct OriginProblem {
    Uuid origin;
    std::string reason;
};

/// A store that runs.
struct ActiveStore {
    MappedDevice device;
    std::vector<MappedTarget> data_table;  ///< of what it stands on
    StoreStatus status;
    MetadataSlots slots;
    SlotContents contents;
    std::optional<Metadata> metadata;  ///< nothing if the slots are fresh
};

/// Finds the devices of a store, assembles it, tells it what it missed when it failed, and reads
/// its metadata.
ActiveStore activateStore(DeviceMapper& mapper, BlockDevices& devices, const LossRecords& losses,
                          const RegisteredStore& store);

/// Attaches all origins of a store that are not, each as it was before, but stacked where a
/// rollback is scheduled or goes on. Origins in the middle of a detach are left alone.
std::vector<OriginProblem> attachOrigins(DeviceMapper& mapper, BlockDevices& devices,
                                         const MappedDevice& store, const Metadata& metadata);

/// The device of an origin, as findDevice(): a logical volume that is interposed, and whose
/// snapshots are of its size of then, may have been extended.
BlockDevice findOriginDevice(BlockDevices& devices, const OriginRecord& origin);

/// Whether two tables are the same in their first sectors.
bool sameUpTo(std::uint64_t sectors, const std::vector<MappedTarget>& one,
              const std::vector<MappedTarget>& other);

/// The status of a cow-store.
StoreStatus storeStatus(DeviceMapper& mapper, const MappedDevice& store);

/// The only line of a table or status. Failed if there is not exactly one of this type.
MappedTarget onlyTarget(const std::vector<MappedTarget>& targets, std::string_view type,
                        const std::string& name);

}  // namespace cowsnap

#endif
