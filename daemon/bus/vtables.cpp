// SPDX-License-Identifier: GPL-2.0-or-later
// Methods, properties and signals of the interfaces.
#include "bus/vtables.h"

#include <cstddef>

#include "base/error.h"
#include "model/published.h"

namespace cowsnap {

namespace {

using Entries = std::vector<sd_bus_vtable>;

// Whoever calls is checked by the service, which has an error of its own for it.
constexpr auto kMethodFlags = SD_BUS_VTABLE_UNPRIVILEGED;
constexpr auto kConstant = SD_BUS_VTABLE_PROPERTY_CONST;
constexpr auto kChanging = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;

void addManager(Entries& entries, sd_bus_message_handler_t on_call, sd_bus_property_get_t on_get) {
    const Entries own{
        SD_BUS_METHOD_WITH_NAMES("CreateStore", "assa{sv}",
                                 SD_BUS_PARAM(devices) SD_BUS_PARAM(name) SD_BUS_PARAM(options),
                                 "o", SD_BUS_PARAM(store), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("ListStoreCandidates", "sa{sv}",
                                 SD_BUS_PARAM(device) SD_BUS_PARAM(options), "aa{sv}",
                                 SD_BUS_PARAM(candidates), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("OpenStore", "asa{sv}",
                                 SD_BUS_PARAM(devices) SD_BUS_PARAM(options), "o",
                                 SD_BUS_PARAM(store), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Attach", "soa{sv}",
                                 SD_BUS_PARAM(device) SD_BUS_PARAM(store) SD_BUS_PARAM(options),
                                 "o", SD_BUS_PARAM(origin), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("CreateSnapshots", "a(os)a{sv}",
                                 SD_BUS_PARAM(members) SD_BUS_PARAM(options), "ao",
                                 SD_BUS_PARAM(snapshots), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("DeleteSnapshots", "aoa{sv}",
                                 SD_BUS_PARAM(snapshots) SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("HoldSnapshots", "aosa{sv}",
                                 SD_BUS_PARAM(snapshots) SD_BUS_PARAM(hold) SD_BUS_PARAM(options),
                                 "", "", on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("ReleaseSnapshots", "aosa{sv}",
                                 SD_BUS_PARAM(snapshots) SD_BUS_PARAM(hold) SD_BUS_PARAM(options),
                                 "", "", on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Prune", "aoa{sv}", SD_BUS_PARAM(origins) SD_BUS_PARAM(options),
                                 "aa{sv}", SD_BUS_PARAM(results), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("GetMetrics", "a{sv}", SD_BUS_PARAM(options), "s",
                                 SD_BUS_PARAM(text), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Refresh", "a{sv}", SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("ListJobs", "a{sv}", SD_BUS_PARAM(options), "ao",
                                 SD_BUS_PARAM(jobs), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("ListSnapshots", "a{sv}", SD_BUS_PARAM(options), "h",
                                 SD_BUS_PARAM(listing), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Reload", "a{sv}", SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("SetLogLevel", "sa{sv}", SD_BUS_PARAM(level) SD_BUS_PARAM(options),
                                 "", "", on_call, kMethodFlags),
        SD_BUS_PROPERTY("Version", "s", on_get, 0, kConstant),
        SD_BUS_PROPERTY("ModuleVersion", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("LogLevel", "s", on_get, 0, kChanging),
    };
    entries.insert(entries.end(), own.begin(), own.end());
}

void addStore(Entries& entries, sd_bus_message_handler_t on_call, sd_bus_property_get_t on_get) {
    const Entries own{
        SD_BUS_METHOD_WITH_NAMES("Extend", "asa{sv}", SD_BUS_PARAM(devices) SD_BUS_PARAM(options),
                                 "", "", on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("SetAutoextend", "a{sv}", SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Check", "a{sv}", SD_BUS_PARAM(options), "aa{sv}",
                                 SD_BUS_PARAM(findings), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Close", "a{sv}", SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_SIGNAL_WITH_NAMES(
            "Event", "tsts",
            SD_BUS_PARAM(number) SD_BUS_PARAM(event) SD_BUS_PARAM(id) SD_BUS_PARAM(text), 0),
        SD_BUS_SIGNAL_WITH_NAMES("SpaceWarning", "ut",
                                 SD_BUS_PARAM(percent) SD_BUS_PARAM(free_bytes), 0),
        SD_BUS_SIGNAL_WITH_NAMES("Autoextended", "st",
                                 SD_BUS_PARAM(device) SD_BUS_PARAM(size_bytes), 0),
        SD_BUS_SIGNAL_WITH_NAMES("AutoextendFailed", "s", SD_BUS_PARAM(reason), 0),
        SD_BUS_SIGNAL_WITH_NAMES("SnapshotDropped", "oss",
                                 SD_BUS_PARAM(snapshot) SD_BUS_PARAM(name) SD_BUS_PARAM(reason), 0),
        SD_BUS_PROPERTY("Uuid", "s", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Name", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Devices", "as", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Device", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("State", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Problem", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("MetadataDamaged", "b", on_get, 0, kChanging),
        SD_BUS_PROPERTY("SizeBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("SegmentBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("FreeBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("UsedBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("ExpectedFull", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("LowWaterBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("DamagedBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Autoextend", "b", on_get, 0, kChanging),
        SD_BUS_PROPERTY("AutoextendGroup", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("AutoextendMaxBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("AutoextendProblem", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Spares", "as", on_get, 0, kChanging),
        SD_BUS_PROPERTY("OriginCount", "u", on_get, 0, kChanging),
        SD_BUS_PROPERTY("SnapshotCount", "u", on_get, 0, kChanging),
    };
    entries.insert(entries.end(), own.begin(), own.end());
}

void addOrigin(Entries& entries, sd_bus_message_handler_t on_call, sd_bus_property_get_t on_get) {
    const Entries own{
        SD_BUS_METHOD_WITH_NAMES("Detach", "a{sv}", SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("CancelRollback", "a{sv}", SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("SetBootPolicy", "sa{sv}",
                                 SD_BUS_PARAM(policy) SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_PROPERTY("Uuid", "s", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Name", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Id", "u", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Store", "o", on_get, 0, kConstant),
        SD_BUS_PROPERTY("BackingDevice", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Device", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Method", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("State", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Problem", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("BootPolicy", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("SizeBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("SnapshotCount", "u", on_get, 0, kChanging),
        SD_BUS_PROPERTY("PreservedBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("ReadBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("WaitingBios", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Rollback", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("RollbackTarget", "o", on_get, 0, kChanging),
        SD_BUS_PROPERTY("RollbackUndo", "o", on_get, 0, kChanging),
        SD_BUS_PROPERTY("RollbackDoneBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("RolledBackTo", "o", on_get, 0, kChanging),
        SD_BUS_PROPERTY("RolledBackUndo", "o", on_get, 0, kChanging),
    };
    entries.insert(entries.end(), own.begin(), own.end());
}

void addSnapshot(Entries& entries, sd_bus_message_handler_t on_call, sd_bus_property_get_t on_get) {
    const Entries own{
        SD_BUS_METHOD_WITH_NAMES("Delete", "a{sv}", SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Rename", "sa{sv}", SD_BUS_PARAM(name) SD_BUS_PARAM(options), "",
                                 "", on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("SetDescription", "sa{sv}",
                                 SD_BUS_PARAM(description) SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("SetTags", "asa{sv}", SD_BUS_PARAM(tags) SD_BUS_PARAM(options), "",
                                 "", on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("ChangeTags", "asasa{sv}",
                                 SD_BUS_PARAM(added) SD_BUS_PARAM(removed) SD_BUS_PARAM(options),
                                 "", "", on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("SetExpiry", "ta{sv}", SD_BUS_PARAM(expires) SD_BUS_PARAM(options),
                                 "", "", on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Hold", "sa{sv}", SD_BUS_PARAM(hold) SD_BUS_PARAM(options), "", "",
                                 on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Release", "sa{sv}", SD_BUS_PARAM(hold) SD_BUS_PARAM(options), "",
                                 "", on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Rollback", "a{sv}", SD_BUS_PARAM(options), "o",
                                 SD_BUS_PARAM(undo), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Activate", "a{sv}", SD_BUS_PARAM(options), "s",
                                 SD_BUS_PARAM(device), on_call, kMethodFlags),
        SD_BUS_METHOD_WITH_NAMES("Deactivate", "a{sv}", SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_PROPERTY("Uuid", "s", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Name", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Id", "u", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Store", "o", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Origin", "o", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Created", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Set", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Writable", "b", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Description", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Tags", "as", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Holds", "as", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Expires", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Consistency", "s", on_get, 0, kConstant),
        SD_BUS_PROPERTY("State", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Problem", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Device", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("DeviceReadOnly", "b", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Open", "b", on_get, 0, kChanging),
        SD_BUS_PROPERTY("SizeBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("UsedBytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("OverlayBytes", "t", on_get, 0, kChanging),
    };
    entries.insert(entries.end(), own.begin(), own.end());
}

void addJob(Entries& entries, sd_bus_message_handler_t on_call, sd_bus_property_get_t on_get) {
    const Entries own{
        SD_BUS_METHOD_WITH_NAMES("Cancel", "a{sv}", SD_BUS_PARAM(options), "", "", on_call,
                                 kMethodFlags),
        SD_BUS_SIGNAL_WITH_NAMES(
            "Completed", "sss",
            SD_BUS_PARAM(state) SD_BUS_PARAM(error_name) SD_BUS_PARAM(error_message), 0),
        SD_BUS_PROPERTY("Operation", "s", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Subject", "s", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Objects", "ao", on_get, 0, kConstant),
        SD_BUS_PROPERTY("State", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("CanCancel", "b", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Progress", "d", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Bytes", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Rate", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Requested", "t", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Began", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("ExpectedEndTime", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("Ended", "t", on_get, 0, kChanging),
        SD_BUS_PROPERTY("UserId", "u", on_get, 0, kConstant),
        SD_BUS_PROPERTY("ProcessId", "u", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Sender", "s", on_get, 0, kConstant),
        SD_BUS_PROPERTY("RequestId", "s", on_get, 0, kConstant),
        SD_BUS_PROPERTY("Results", "ao", on_get, 0, kChanging),
        SD_BUS_PROPERTY("ErrorName", "s", on_get, 0, kChanging),
        SD_BUS_PROPERTY("ErrorMessage", "s", on_get, 0, kChanging),
    };
    entries.insert(entries.end(), own.begin(), own.end());
}

}  // namespace

VTable::VTable(const std::string& interface, sd_bus_message_handler_t on_call,
               sd_bus_property_get_t on_get) {
    entries_.push_back(SD_BUS_VTABLE_START(0));
    if (interface == kManagerInterface)
        addManager(entries_, on_call, on_get);
    else if (interface == kStoreInterface)
        addStore(entries_, on_call, on_get);
    else if (interface == kOriginInterface)
        addOrigin(entries_, on_call, on_get);
    else if (interface == kSnapshotInterface)
        addSnapshot(entries_, on_call, on_get);
    else if (interface == kJobInterface)
        addJob(entries_, on_call, on_get);
    else
        fail(ErrorKind::Failed, "there is no interface {}", interface);
    entries_.push_back(SD_BUS_VTABLE_END);
}

}  // namespace cowsnap
