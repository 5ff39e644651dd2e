// SPDX-License-Identifier: GPL-2.0-or-later
// Origins: attaching by stacking or interposing, detaching, and attaching again after a reboot.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>

#include "assembly/boot_policy.h"
#include "base/names.h"
#include "block/btrfs.h"
#include "cowsnap_dm.h"
#include "dm/module.h"
#include "model/engine.h"

namespace cowsnap {

void Engine::checkNewOriginDevice(const BlockDevice& device, AttachMethod method) {
    const std::string& found_path = device.identity.path;
    for (const auto& mapped : mapper_.devices()) {
        const auto parsed = parseDeviceMapperUuid(mapped.uuid);
        if (!parsed || mapped.number != device.number)
            continue;
        if (parsed->role == COWSNAP_DM_ROLE_ORIGIN)
            fail(ErrorKind::Exists, "{} is the device of an origin that is attached already",
                 found_path);
        if (parsed->role == COWSNAP_DM_ROLE_SNAPSHOT)
            fail(ErrorKind::NotSupported,
                 "{} is a snapshot: snapshots of snapshots are not there yet", found_path);
        fail(ErrorKind::InvalidArgument, "{} is the device of a store, it cannot be an origin",
             found_path);
    }
    for (auto& [uuid, store] : stores_) {
        for (const auto& member : store.devices) {
            std::optional<DeviceNumber> number;
            try {
                number = findDevice(devices_, member).number;
            } catch (const Error&) {
                continue;  // a device that is not there is in nobody's way
            }
            if (*number == device.number)
                fail(ErrorKind::InvalidArgument,
                     "{} belongs to the store {}, it cannot be an origin", found_path, store.name);
            if (related(devices_, *number, device.number))
                fail(ErrorKind::InvalidArgument,
                     "{} and the device {} of the store {} stand on each other", found_path,
                     member.path, store.name);
        }
        checkApartFromOrigins(store, device, method);
    }
    if (device.read_only)
        fail(ErrorKind::InvalidArgument, "{} is read-only, it cannot change", found_path);
    if (device.identity.size_sectors < COWSNAP_BLOCK_SECTORS)
        fail(ErrorKind::InvalidArgument, "{} has {} sectors, too few for an origin", found_path,
             device.identity.size_sectors);
}

void Engine::checkApartFromOrigins(const StoreState& store, const BlockDevice& device,
                                   AttachMethod method) {
    for (const auto& origin : store.metadata.origins) {
        const auto found = store.origins.find(origin.id);
        if (found == store.origins.end() || !found->second.mapped || !found->second.lower)
            continue;
        const OriginState& state = found->second;
        if (*state.lower == device.number)
            fail(ErrorKind::Exists, "{} is attached already, as the origin {}: use {}",
                 device.identity.path, origin.name, state.device);
        // What stands on the mapped device of an origin may be an origin itself. So may what is
        // below or above one, if the lower of the two is interposed and so sees the writes of both.
        const DeviceNumber mapped = state.mapped->number;
        const bool above = state.method == AttachMethod::Stacked &&
                           standsOn(devices_, device.number, *state.lower, mapped);
        const bool below = method == AttachMethod::Stacked &&
                           standsOn(devices_, *state.lower, device.number, mapped);
        if (above || below)
            fail(ErrorKind::Exists,
                 "{} and the device of the origin {} stand on each other: what is written to one "
                 "would not be preserved in the other",
                 device.identity.path, origin.name);
    }
}

void Engine::checkUse(const BlockDevice& device, AttachMethod method,
                      const std::optional<DeviceUser>& user, const OriginRecord* known,
                      bool has_snapshots) {
    const std::string& path = device.identity.path;
    if (user && user->kind == DeviceUser::Kind::Multipath)
        fail(ErrorKind::NotSupported,
             "{} is {}: what is written by that does not come by it. Name the multipath device",
             path, user->text);
    if (method == AttachMethod::Interposed) {
        requireInterposing(mapper_);
        if (user && user->kind == DeviceUser::Kind::Swap)
            fail(ErrorKind::Busy,
                 "{0} is {1}, which makes no sense in a snapshot: run \"swapoff {0}\" first", path,
                 user->text);
        if (const auto count = btrfsDevices(devices_, device); count > 1)
            fail(ErrorKind::NotSupported,
                 "{} is one of the {} devices of a btrfs file system: a snapshot of it alone would "
                 "be of no use",
                 path, count);
        return;
    }
    if (!user)
        return;
    if (has_snapshots)
        fail(
            ErrorKind::Busy,
            "{} is {}: the origin {} is stacked and has snapshots, which are exact only if nothing "
            "is written past it. Unmount the device, attach it, and mount the origin's device in "
            "its place",
            path, user->text, known->name);
    fail(ErrorKind::Busy,
         "{} is {}: an origin is stacked only over a device that is not in use. Unmount it, attach "
         "it, and mount the origin's device in its place; or let it be interposed (--method "
         "interpose), then the device goes on as it is",
         path, user->text);
}

std::string Engine::newOriginName(const StoreState& store, const std::string& path,
                                  const std::string& wanted, const Uuid& uuid) const {
    if (!wanted.empty()) {
        checkName("origin", wanted);
        if (store.metadata.originNameTaken(wanted))
            fail(ErrorKind::Exists, "the store {} has an origin named \"{}\" already", store.name,
                 wanted);
        return wanted;
    }
    std::string name = std::filesystem::path(path).filename().string();
    if (store.metadata.originNameTaken(name))
        name += "-" + uuid.brief();
    checkName("origin", name);
    return name;
}

std::string Engine::freeMappedName(std::string_view prefix, const std::string& name,
                                   const Uuid& uuid) {
    std::string mapped_name = fmt::format("{}{}", prefix, asDeviceMapperName(name));
    return mapper_.nameTaken(mapped_name) ? fmt::format("{}-{}", mapped_name, uuid.brief())
                                          : mapped_name;
}

namespace {

/// The record of an origin that this device is, or whose device is not known and whose name is.
const OriginRecord* knownOrigin(const Metadata& metadata, const DeviceIdentity& device,
                                const std::string& name, const std::string& known_as) {
    if (!known_as.empty()) {
        for (const auto& known : metadata.origins)
            if (known.name == known_as)
                return &known;
        fail(ErrorKind::NotFound, "the store {} has no origin \"{}\"", metadata.name, known_as);
    }
    for (const auto& known : metadata.origins)
        if (sameDevice(known.device, device) || (known.device.path.empty() && name == known.name))
            return &known;
    return nullptr;
}

bool hasSnapshots(const Metadata& metadata, const Uuid& origin) {
    return std::any_of(metadata.snapshots.begin(), metadata.snapshots.end(),
                       [&](const auto& snapshot) { return snapshot.origin == origin; });
}

}  // namespace

/// What the kernel refuses is said in its words.
void Engine::putInFront(const StoreState& store, const OriginRecord& origin,
                        const BlockDevice& device) {
    try {
        assembly_.attach(*store.mapped, origin, device);
        releaseOrigin(devices_, origin, device);
    } catch (const Error& error) {
        if (origin.method == AttachMethod::Stacked)
            throw;
        fail(error.kind(),
             "{} cannot be interposed: {}. The kernel's log (\"dmesg\") has the whole cause. "
             "Unless it refuses any origin there, one can still be stacked over the device while "
             "nobody uses it (--method stack)",
             device.identity.path, error.what());
    }
}

Uuid Engine::attach(const std::string& path, const Uuid& store_uuid, const std::string& name,
                    std::optional<AttachMethod> wanted, const std::string& known_as,
                    std::optional<BootPolicy> policy) {
    StoreState& store = usableStore(store_uuid);
    load(store);
    const BlockDevice device = devices_.describe(path);
    const auto claim = claims_.claim(devices_, {device});
    const auto user = devices_.user(device.identity.path);
    const OriginRecord* const known = knownOrigin(store.metadata, device.identity, name, known_as);
    if (known != nullptr && store.origins[known->id].condition == OriginCondition::Changed)
        fail(ErrorKind::Busy, "the origin {}: {}", known->name, store.origins[known->id].problem);
    const bool has_snapshots = known != nullptr && hasSnapshots(store.metadata, known->uuid);
    const AttachMethod by_use = user ? AttachMethod::Interposed : AttachMethod::Stacked;
    const AttachMethod method = wanted.value_or(has_snapshots ? known->method : by_use);
    checkNewOriginDevice(device, method);
    checkUse(device, method, user, known, has_snapshots);
    if (known != nullptr) {
        if (!known_as.empty() && store.origins[known->id].condition == OriginCondition::Attached)
            fail(ErrorKind::Exists, "the origin {} is attached already, to {}", known->name,
                 known->device.path);
        if (!name.empty() && name != known->name)
            fail(ErrorKind::Exists,
                 "{} is known as the origin \"{}\": attach it without a name, or with that one",
                 device.identity.path, known->name);
        const Uuid uuid = known->uuid;
        reattach(store, *known, device, method, policy.value_or(known->boot_policy));
        if (policy)
            requireRegistered(store, uuid);
        return uuid;
    }
    OriginRecord origin;
    origin.uuid = Uuid::random();
    origin.id = store.metadata.next_origin_id;
    origin.name = newOriginName(store, device.identity.path, name, origin.uuid);
    origin.device = device.identity;
    origin.mapped_name = freeMappedName("cowsnap-", origin.name, origin.uuid);
    origin.method = method;
    origin.boot_policy = policy.value_or(BootPolicy::FailOpen);
    if (origin.id > COWSNAP_ID_MAX)
        fail(ErrorKind::Overflowed, "the store {} has used up its ids", store.name);
    Metadata changed = store.metadata;
    ++changed.next_origin_id;
    changed.origins.push_back(origin);
    checkFits(store, changed);
    turns_.checked();
    persist(store, std::move(changed));
    try {
        putInFront(store, origin, device);
    } catch (const Error&) {
        try {
            mapper_.message(store.mapped->name, forgetMessage(origin.id));
        } catch (const Error& error) {
            // Usually it was never registered; if it was, it is found as an unknown origin at the
            // next start.
            if (error.kind() != ErrorKind::NotFound)
                spdlog::warn("{}", error.what());
        }
        changed = store.metadata;
        std::erase_if(changed.origins,
                      [&](const auto& other) { return other.uuid == origin.uuid; });
        persist(store, std::move(changed));
        throw;
    }
    load(store);
    const LogFields about(logFieldsOf(store, {{kLogOrigin, origin.name}}));
    spdlog::info("attached {} as the origin {}, {}", device.identity.path, origin.name,
                 methodName(method));
    if (policy)
        requireRegistered(store, origin.uuid);
    return origin.uuid;
}

void Engine::reattach(StoreState& store, const OriginRecord& origin, const BlockDevice& device,
                      AttachMethod method, BootPolicy policy) {
    const bool may_be_larger = method == AttachMethod::Interposed;
    if (device.identity.size_sectors < origin.device.size_sectors ||
        (device.identity.size_sectors > origin.device.size_sectors && !may_be_larger))
        fail(ErrorKind::InvalidArgument,
             "{0} is {1} than when it was attached: {2} sectors instead of {3}. Give it its size "
             "again; or delete the snapshots of the origin {4}, \"snapd-cli origin detach {4}\", "
             "and attach it anew",
             device.identity.path,
             device.identity.size_sectors < origin.device.size_sectors ? "smaller" : "larger",
             device.identity.size_sectors, origin.device.size_sectors, shellWord(origin.name));
    turns_.checked();
    // Its device was pulled out, and this is the same one again, or a copy.
    const OriginState& state = store.origins.at(origin.id);
    if (state.condition == OriginCondition::Gone)
        mapper_.remove(state.mapped->name, visibilityOf(state.method));
    const Metadata before = store.metadata;
    Metadata changed = before;
    OriginRecord& record = *changed.origin(origin.uuid);
    record.device = device.identity;
    record.device.size_sectors = origin.device.size_sectors;
    record.method = method;
    record.boot_policy = policy;
    const OriginRecord attached = record;
    persist(store, std::move(changed));
    try {
        putInFront(store, attached, device);
    } catch (const Error&) {
        persist(store, before);
        throw;
    }
    load(store);
    const LogFields about(logFieldsOf(store, {{kLogOrigin, attached.name}}));
    spdlog::info("attached {} as the origin {} again, {}", device.identity.path, attached.name,
                 methodName(method));
}

void Engine::setBootPolicy(const Uuid& uuid, BootPolicy policy) {
    StoreState& store = storeOfOrigin(uuid);
    load(store);
    Metadata changed = store.metadata;
    OriginRecord* const record = changed.origin(uuid);
    if (record == nullptr)
        fail(ErrorKind::NotFound, "there is no origin {} any more", uuid.dashed());
    record->boot_policy = policy;
    checkFits(store, changed);
    turns_.checked();
    persist(store, std::move(changed));
    requireRegistered(store, uuid);
    const std::string& name = store.metadata.origin(uuid)->name;
    const LogFields about(logFieldsOf(store, {{kLogOrigin, name}}));
    spdlog::info("the origin {} is {} from the next boot on", name, policyName(policy));
}

/// What the boot cannot know is not promised.
void Engine::requireRegistered(StoreState& store, const Uuid& uuid) {
    const auto closed = failClosedOrigins(store.metadata);
    if (store.registered_closed != closed)
        registerStore(store);
    if (store.registered_closed == closed)
        return;
    const OriginRecord& origin = *store.metadata.origin(uuid);
    fail(ErrorKind::Failed,
         "the store has it that the origin {} is {}, but it could not be written to {}, which the "
         "boot reads; the log says why",
         origin.name, policyName(origin.boot_policy), registry_.directory().string());
}

namespace {

/// Busy if someone gave its mapped device another table: such a device is nobody's to remove here.
void checkNotChanged(const StoreState& store, const OriginRecord& origin) {
    const auto state = store.origins.find(origin.id);
    if (state != store.origins.end() && state->second.condition == OriginCondition::Changed)
        fail(ErrorKind::Busy, "the origin {}: {}", origin.name, state->second.problem);
}

}  // namespace

void Engine::detach(const Uuid& uuid) {
    StoreState& store = storeOfOrigin(uuid);
    load(store);
    const OriginRecord* const origin = store.metadata.origin(uuid);
    if (origin == nullptr)
        fail(ErrorKind::NotFound, "there is no origin {} any more", uuid.dashed());
    const auto snapshots =
        std::count_if(store.metadata.snapshots.begin(), store.metadata.snapshots.end(),
                      [&](const auto& snapshot) { return snapshot.origin == uuid; });
    if (snapshots > 0)
        fail(ErrorKind::Busy, "the origin {} still has snapshots ({}): delete them first",
             origin->name, snapshots);
    const auto state = store.origins.find(origin->id);
    checkNotChanged(store, *origin);
    if (state != store.origins.end() && state->second.mapped &&
        state->second.mapped->open_count > 0)
        fail(ErrorKind::Busy, "{} is open: unmount it, or stop what uses it, first",
             state->second.mapped->path());
    turns_.checked();
    const std::string name = origin->name;
    Metadata changed = store.metadata;
    changed.origin(uuid)->detaching = true;
    persist(store, std::move(changed));
    try {
        finishDetach(store, uuid);
    } catch (const Error&) {
        changed = store.metadata;
        if (auto* record = changed.origin(uuid))
            record->detaching = false;
        persist(store, std::move(changed));
        load(store);
        throw;
    }
    load(store);
    const LogFields about(logFieldsOf(store, {{kLogOrigin, name}}));
    spdlog::info("detached the origin {}", name);
}

void Engine::finishDetach(StoreState& store, const Uuid& uuid) {
    const std::uint32_t id = store.metadata.origin(uuid)->id;
    checkNotChanged(store, *store.metadata.origin(uuid));
    if (const auto mapped = assembly_.find(uuid, COWSNAP_DM_ROLE_ORIGIN))
        mapper_.remove(mapped->name, visibilityOf(store.origins.at(id).method));
    try {
        mapper_.message(store.mapped->name, forgetMessage(id));
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::NotFound)
            throw;
    }
    Metadata changed = store.metadata;
    std::erase_if(changed.origins, [&](const auto& origin) { return origin.uuid == uuid; });
    persist(store, std::move(changed));
}

void Engine::attachAgain(StoreState& store) {
    const auto problems = attachOrigins(mapper_, devices_, *store.mapped, store.metadata);
    load(store);
    for (const auto& problem : problems) {
        const OriginRecord* const origin = store.metadata.origin(problem.origin);
        if (origin == nullptr)
            continue;
        const LogFields about(logFieldsOf(store, {{kLogOrigin, origin->name}}));
        spdlog::error("the origin {} is not attached: {}", origin->name, problem.reason);
        store.origins[origin->id].problem = problem.reason;
    }
}

}  // namespace cowsnap
