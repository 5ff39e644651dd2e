// SPDX-License-Identifier: GPL-2.0-or-later
// Stores: creating, opening, extending, closing, and finding them at the start.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>

#include "assembly/boot_policy.h"
#include "assembly/store_devices.h"
#include "assembly/store_header.h"
#include "base/names.h"
#include "base/size_text.h"
#include "cowsnap_disk.h"
#include "cowsnap_dm.h"
#include "dm/module.h"
#include "model/engine.h"

namespace cowsnap {

Engine::Engine(DeviceMapper& mapper, BlockDevices& devices, VolumeGroups& groups,
               StoreRegistry registry, const std::filesystem::path& run_directory)
    : mapper_(mapper, turns_),
      devices_(devices, turns_),
      groups_(groups),
      assembly_(mapper_, devices_),
      registry_(std::move(registry), turns_),
      losses_(registry_.directory()),
      told_events_(run_directory),
      backups_(MetadataBackups(registry_.directory())) {}

namespace {

/// Less than who writes to a full store waits, see COWSNAP_FULL_WAIT_DEFAULT_MS.
constexpr std::chrono::seconds kRegistryPatience{2};

/// Removes the data devices of stores that do not run and are none of these: an interrupted
/// opening left them, of a store that nobody knew before.
void removeUnfinished(DeviceMapper& mapper, const std::vector<RegisteredStore>& registered) {
    const auto devices = mapper.devices();
    for (const auto& device : devices) {
        const auto parsed = parseDeviceMapperUuid(device.uuid);
        if (!parsed || parsed->role != COWSNAP_DM_ROLE_DATA)
            continue;
        const std::string store = deviceMapperUuid(parsed->uuid, COWSNAP_DM_ROLE_STORE);
        const bool runs = std::any_of(devices.begin(), devices.end(),
                                      [&](const auto& other) { return other.uuid == store; });
        const bool known =
            std::any_of(registered.begin(), registered.end(),
                        [&](const auto& entry) { return entry.uuid == parsed->uuid; });
        if (runs || known)
            continue;
        try {
            mapper.remove(device.name, Visibility::Hidden);
            spdlog::info("removed {}, left by an interrupted opening of a store", device.name);
        } catch (const Error& error) {
            spdlog::warn("cannot remove {}, left by an interrupted opening of a store: {}",
                         device.name, error.what());
        }
    }
}

}  // namespace

void Engine::start() {
    for (const Uuid& store : findStores())
        startStore(store);
}

StoreSet Engine::findStores() {
    assembly_.removeLeftovers();
    std::vector<RegisteredStore> registered;
    try {
        registered = registry_.read();
        removeUnfinished(mapper_, registered);
        for (const auto& devices : registry_.unfinished())
            undoUnfinishedStore(devices);
    } catch (const Error& error) {
        spdlog::error("{}", error.what());
    }
    for (const auto& device : mapper_.devices()) {
        const auto parsed = parseDeviceMapperUuid(device.uuid);
        if (!parsed || parsed->role != COWSNAP_DM_ROLE_STORE)
            continue;
        const bool known =
            std::any_of(registered.begin(), registered.end(),
                        [&](const auto& store) { return store.uuid == parsed->uuid; });
        if (known)
            continue;
        spdlog::info("found the running store {}, which is not registered", parsed->uuid.dashed());
        try {
            registered.push_back({parsed->uuid, {}, assembly_.devicesOf(parsed->uuid)});
        } catch (const Error& error) {
            spdlog::error("cannot use the store {}: {}", parsed->uuid.dashed(), error.what());
        }
    }
    StoreSet found;
    for (const auto& entry : registered) {
        StoreState& store = stores_[entry.uuid];
        turns_.addNew(entry.uuid);
        store.uuid = entry.uuid;
        store.name = entry.name;
        store.devices = entry.devices;
        store.starting = true;
        store.problem =
            "it is being activated; if that takes long, one of its devices does not answer";
        store.problem_kind = ErrorKind::Busy;
        found.insert(entry.uuid);
    }
    return found;
}

void Engine::startStore(const Uuid& uuid) {
    turns_.require(uuid);
    StoreState& store = stores_.at(uuid);
    const LogFields about(logFieldsOf(store));
    store.lacks_module = false;
    store.brought_up = false;
    try {
        store.lacks_module = !mapper_.targetVersion(COWSNAP_TARGET_STORE);
        bringUp(store);
    } catch (const Error& error) {
        // What is known already is not told again with each try.
        if (store.problem != error.what())
            spdlog::error("the store {} cannot be used: {}", store.uuid.dashed(), error.what());
        store.problem = error.what();
        store.problem_kind = error.kind();
    } catch (...) {
        store.starting = false;
        store.problem = "its activation ended in an unexpected way: the log says why";
        store.problem_kind = ErrorKind::Failed;
        throw;
    }
    store.starting = false;
}

namespace {

/// A store that only dmsetup had has blank slots, too; but nobody has a backup of its metadata, and
/// neither slot has anything that is damaged.
void checkNeverWritten(const ActiveStore& active, const MetadataBackups& backups) {
    const StoreStatus& status = active.status;
    if (active.metadata || (status.origins == 0 && status.snapshots == 0))
        return;
    if (active.contents.one_damaged || !backups.list(status.uuid).empty())
        fail(ErrorKind::MetadataCorrupt,
             "the metadata of the store {} is gone, although it has {} origins and {} snapshots: "
             "{}; nothing was changed",
             status.uuid.dashed(), status.origins, status.snapshots,
             active.contents.one_damaged ? "one of its slots is damaged, and the other one is blank"
                                         : "none of its slots has anything any more");
    spdlog::warn(
        "the store {} has {} origins and {} snapshots, and no metadata, nor is there a backup of "
        "it: they get names such as recovered-1",
        status.uuid.dashed(), status.origins, status.snapshots);
}

}  // namespace

/// If it has no metadata yet it gets this, of a store that is made.
void Engine::takeActive(StoreState& store, ActiveStore&& active, Metadata initial) {
    checkNeverWritten(active, MetadataBackups(registry_.directory()));
    store.mapped = active.device;
    store.data_table = std::move(active.data_table);
    store.status = active.status;
    store.slots.emplace(std::move(active.slots));
    store.metadata_damaged = active.contents.one_damaged;
    if (active.metadata) {
        store.metadata = std::move(*active.metadata);
        store.name = store.metadata.name;
        return;
    }
    store.metadata = std::move(initial);
    store.metadata.store = store.uuid;
    if (store.name.empty())
        store.name = "store-" + store.uuid.brief();
    store.metadata.name = store.name;
    store.metadata.devices = store.devices;
    // Both slots, so that a slot that is blank later says that this was interrupted.
    persist(store, store.metadata);
    persist(store, store.metadata);
}

namespace {

/// A spare that became a device of the store is none any more.
void dropTakenSpares(Metadata& metadata) {
    std::erase_if(metadata.autoextend.spares, [&](const DeviceIdentity& spare) {
        return std::any_of(metadata.devices.begin(), metadata.devices.end(),
                           [&](const auto& device) { return sameDevice(spare, device); });
    });
}

}  // namespace

/// What a store that is opened is called, and where it comes from, is known when its metadata is
/// read. Both are written before anything is done with it.
void Engine::takeOver(StoreState& store, const std::string& wanted_name, Recognize origins) {
    const std::string name = wanted_name.empty() ? store.name : wanted_name;
    for (const auto& [uuid, other] : stores_)
        if (uuid != store.uuid && other.name == name)
            fail(
                ErrorKind::Exists,
                "there is a store named \"{}\" already ({}): open this one ({}) under another name "
                "(--name)",
                name, uuid.dashed(), store.uuid.dashed());
    Metadata changed = store.metadata;
    changed.name = name;
    bool different = name != store.metadata.name;
    if (origins == Recognize::ByTheirMarks)
        for (auto& origin : changed.origins)
            different |= !std::exchange(origin.device.elsewhere, true);
    if (!different)
        return;
    persist(store, std::move(changed));
    if (name != store.name)
        spdlog::info("the store {} ({}) is called {} from now on", store.name, store.uuid.dashed(),
                     name);
    store.name = name;
}

/// known is called when its metadata is known, before anything else is done with it.
void Engine::bringUp(StoreState& store, const std::function<void()>& known) {
    requireModule(mapper_);
    assembly_.resumeInterrupted(store.uuid);
    if (const auto running = assembly_.find(store.uuid, COWSNAP_DM_ROLE_STORE))
        recordLoss(store.uuid, *running);
    else
        told_events_.forget(store.uuid);
    try {
        ActiveStore active =
            activateStore(mapper_, devices_, losses_, {store.uuid, store.name, store.devices});
        Metadata initial;
        if (!active.metadata) {
            AutoextendChange as_by_default;
            as_by_default.enabled = true;
            initial.autoextend = changedAutoextend(store.uuid, {}, store.devices, as_by_default);
        }
        takeActive(store, std::move(active), std::move(initial));
    } catch (const Error& error) {
        store.mapped = assembly_.find(store.uuid, COWSNAP_DM_ROLE_STORE);
        if (error.kind() != ErrorKind::MetadataCorrupt)
            throw;
        letGo(store);
        fail(error.kind(), "{}. {}", error.what(), repairAdvice(store));
    }
    const bool damaged = store.metadata_damaged;
    if (known)
        known();
    load(store);
    finishInterrupted(store);
    attachAgain(store);
    store.problem.clear();
    if (store.metadata.devices != store.devices) {
        Metadata changed = store.metadata;
        changed.devices = store.devices;
        dropTakenSpares(changed);
        persist(store, std::move(changed));
    }
    registerStore(store);
    load(store);
    // Told, although it may have been written anew meanwhile; refresh() looks again.
    store.metadata_damaged = damaged;
    store.brought_up = true;
}

void Engine::registerStore(StoreState& store) {
    const LogFields about(logFieldsOf(store));
    try {
        auto closed = failClosedOrigins(store.metadata);
        registry_.put({store.uuid, store.name, store.devices, closed});
        store.registered_closed = std::move(closed);
    } catch (const std::exception& error) {
        spdlog::warn("the store {} will not be activated at boot: {}", store.name, error.what());
    }
}

/// The boot is to know what the metadata says without reading it. That is tried again with the next
/// change.
void Engine::registerClosed(StoreState& store) {
    if (store.registered_closed && *store.registered_closed != failClosedOrigins(store.metadata))
        registerStore(store);
}

/// Nobody waits for a store that may never be started.
void Engine::requireTurn(const StoreState& store) const {
    if (store.starting)
        fail(ErrorKind::Busy, "the store {} cannot be used yet: {}", store.name, store.problem);
    turns_.require(store.uuid);
}

StoreState& Engine::usableStore(const Uuid& uuid) {
    const auto found = stores_.find(uuid);
    if (found == stores_.end())
        fail(ErrorKind::NotFound,
             "there is no store {}: \"snapd-cli store list\" shows those that are open",
             uuid.dashed());
    StoreState& store = found->second;
    requireTurn(store);
    if (!store.problem.empty())
        fail(store.problem_kind, "the store {} cannot be used: {}", store.name, store.problem);
    return store;
}

StoreState& Engine::storeOfOrigin(const Uuid& origin) {
    for (auto& [uuid, store] : stores_)
        if (store.metadata.origin(origin) != nullptr)
            return usableStore(uuid);
    fail(ErrorKind::NotFound,
         "there is no origin {}: \"snapd-cli origin list\" shows those that are known",
         origin.dashed());
}

StoreState& Engine::storeOfSnapshot(const Uuid& snapshot) {
    for (auto& [uuid, store] : stores_)
        if (store.metadata.snapshot(snapshot) != nullptr)
            return usableStore(uuid);
    fail(ErrorKind::NotFound,
         "there is no snapshot {}: \"snapd-cli list\" shows those that are there",
         snapshot.dashed());
}

namespace {

/// The number of a device that is there; nothing if it is not, then it is in nobody's way.
std::optional<DeviceNumber> numberOf(BlockDevices& devices, const DeviceIdentity& identity) {
    try {
        return findDevice(devices, identity).number;
    } catch (const Error&) {
        return std::nullopt;
    }
}

}  // namespace

void Engine::checkNewStoreDevice(const BlockDevice& device, const Uuid& wanted_for) {
    const std::string& path = device.identity.path;
    for (const auto& mapped : mapper_.devices()) {
        const auto parsed = parseDeviceMapperUuid(mapped.uuid);
        if (!parsed || mapped.number != device.number)
            continue;
        if (parsed->role == COWSNAP_DM_ROLE_ORIGIN)
            fail(ErrorKind::InvalidArgument, "{} is an origin: a store cannot stand on an origin",
                 path);
        fail(ErrorKind::InvalidArgument, "{} is a device of cowsnap itself", path);
    }
    for (const auto& [uuid, store] : stores_) {
        for (const auto& member : store.devices)
            if (const auto number = numberOf(devices_, member);
                number && related(devices_, *number, device.number))
                fail(ErrorKind::Exists,
                     "{} belongs to the store {} already: two stores cannot share a device", path,
                     store.name);
        for (const auto& spare : store.metadata.autoextend.spares)
            if (const auto number = numberOf(devices_, spare);
                uuid != wanted_for && number && related(devices_, *number, device.number))
                fail(ErrorKind::Exists, "{} is a spare of the store {}", path, store.name);
        for (const auto& [id, origin] : store.origins) {
            if (!origin.mapped)
                continue;
            auto used = devices_.below(origin.mapped->number);
            used.push_back(origin.mapped->number);
            if (origin.lower)
                used.push_back(*origin.lower);
            for (const DeviceNumber number : used)
                if (related(devices_, device.number, number))
                    fail(ErrorKind::InvalidArgument,
                         "{} stands on, or below, the origin {}: a store cannot stand on an origin",
                         path, origin.device);
        }
    }
    if (device.read_only)
        fail(ErrorKind::InvalidArgument, "{} is read-only", path);
    if (const auto user = devices_.user(path))
        fail(ErrorKind::Busy, "{} is {}: a store needs it for itself", path, user->text);
}

std::vector<BlockDevice> Engine::describeAll(const std::vector<std::string>& paths) {
    if (paths.empty())
        fail(ErrorKind::InvalidArgument, "a store needs at least one device");
    std::vector<BlockDevice> described;
    for (const auto& path : paths) {
        std::error_code code;
        if (std::filesystem::is_regular_file(path, code))
            fail(ErrorKind::NotSupported,
                 "{} is a file: stores in files are not there yet, give a block device", path);
        described.push_back(devices_.describe(path));
    }
    return described;
}

void Engine::checkNewStoreDevices(const std::vector<BlockDevice>& described, const Uuid& store) {
    for (const auto& device : described)
        checkNewStoreDevice(device, store);
    checkApart(devices_, described);
}

void Engine::checkFormatOptions(const StoreOptions& options) {
    if (options.full_wait_ms && *options.full_wait_ms > COWSNAP_FULL_WAIT_MAX_MS)
        fail(ErrorKind::InvalidArgument, "full_wait_ms is at most {}, not {}",
             COWSNAP_FULL_WAIT_MAX_MS, *options.full_wait_ms);
    constexpr std::uint64_t smallest = 128;
    constexpr std::uint64_t largest = 2048;
    if (const auto sectors = options.segment_sectors;
        sectors && (*sectors < smallest || *sectors > largest || (*sectors & (*sectors - 1)) != 0))
        fail(ErrorKind::InvalidArgument, "segment_sectors is a power of two from {} to {}, not {}",
             smallest, largest, *sectors);
}

namespace {

std::vector<DeviceIdentity> identitiesOf(const std::vector<BlockDevice>& devices) {
    std::vector<DeviceIdentity> identities;
    for (const auto& device : devices)
        identities.push_back(device.identity);
    return identities;
}

}  // namespace

/// A store whose making was interrupted before anybody knew of it, by what was written down before:
/// its devices, which were blank, are that again. Not thrown: it is tried again at the next start.
void Engine::undoUnfinishedStore(const std::vector<DeviceIdentity>& devices) {
    try {
        const std::string path = findDevice(devices_, devices.at(0)).identity.path;
        if (isUnfinished(path)) {
            makeBlank(path);
            spdlog::info("no store was made on {} in the end: it is blank again", path);
        }
        registry_.dropUnfinished(devices);
    } catch (const Error& error) {
        spdlog::warn("a store that was not finished cannot be looked at: {}", error.what());
    }
}

void Engine::checkBlank(const std::string& path) {
    if (devices_.describe(path).identity.size_sectors < COWSNAP_STORE_BLANK_SECTORS)
        fail(ErrorKind::InvalidArgument, "{} is too small for a store", path);
    if (const auto header = readStoreHeader(devices_, path))
        fail(ErrorKind::Exists,
             "{} holds the store {} already: open it with \"snapd-cli store open {}\"", path,
             header->uuid.dashed(), shellWord(path));
    const std::string contents = devices_.contents(path);
    const std::string advice = fmt::format(
        "if nobody needs it: \"wipefs --all {0}\", then \"dd if=/dev/zero of={0} bs=128K count=1 "
        "conv=fsync\"",
        shellWord(path));
    if (!contents.empty())
        fail(ErrorKind::Exists, "{} holds {}: {}", path, contents, advice);
    if (!isBlank(devices_, path))
        fail(ErrorKind::Exists, "{} is not blank: {}", path, advice);
}

void Engine::checkNewStoreName(const std::string& name) {
    checkName("store", name);
    for (const auto& [uuid, store] : stores_)
        if (store.name == name)
            fail(ErrorKind::Exists,
                 "there is a store named \"{}\" already: choose another name with --name, or "
                 "extend that one: \"snapd-cli store extend {} DEVICE\"",
                 name, shellWord(name));
}

Uuid Engine::createStore(const std::vector<std::string>& paths, const std::string& name,
                         const StoreOptions& options, const AutoextendChange& autoextend) {
    checkNewStoreName(name);
    checkFormatOptions(options);
    const auto described = describeAll(paths);
    auto all = described;
    for (const auto& path : autoextend.add_spares)
        all.push_back(devices_.describe(path));
    const auto claim = claims_.claim(devices_, all);
    checkNewStoreDevices(all, {});
    AutoextendChange recorded = autoextend;
    recorded.enabled = autoextend.enabled.value_or(true);
    const AutoextendRecord record = changedAutoextend({}, {}, identitiesOf(described), recorded);
    std::uint64_t sectors = 0;
    for (const auto& device : described) {
        checkBlank(device.identity.path);
        sectors += usableSectors(device.identity);
    }
    if (sectors < COWSNAP_STORE_MIN_SECTORS)
        fail(ErrorKind::InvalidArgument, "a store needs at least {}, these devices have {}",
             sizeText(COWSNAP_STORE_MIN_SECTORS * kSectorBytes), sizeText(sectors * kSectorBytes));
    requireModule(mapper_);
    turns_.checked();
    StoreState store;
    store.devices = identitiesOf(described);
    registry_.putUnfinished(store.devices);
    const Uuid uuid = [&] {
        try {
            return assembly_.format(described, options);
        } catch (const Error&) {
            undoUnfinishedStore(store.devices);
            throw;
        }
    }();
    store.uuid = uuid;
    store.name = name;
    registerStore(store);
    try {
        Metadata initial;
        initial.autoextend = record;
        initial.full_wait_ms = options.full_wait_ms;
        takeActive(store, activateStore(mapper_, devices_, losses_, {uuid, name, store.devices}),
                   std::move(initial));
        if (options.full_wait_ms)
            assembly_.setFullWait(*store.mapped, *options.full_wait_ms);
        load(store);
        store.brought_up = true;
    } catch (const Error& error) {
        fail(error.kind(),
             "the store {} was made on {}, but cannot be used: {}; \"snapd-cli store open {}\" "
             "tries again",
             name, described.front().identity.path, error.what(), shellWords(paths));
    }
    stores_.insert_or_assign(uuid, std::move(store));
    turns_.addNew(uuid);
    const LogFields about(logFieldsOf(stores_.at(uuid)));
    spdlog::info("created the store {} ({})", name, uuid.dashed());
    return uuid;
}

void Engine::checkOpenedDevice(const BlockDevice& device, const Uuid& opened) {
    const std::string& path = device.identity.path;
    for (const auto& [uuid, store] : stores_) {
        for (const auto& member : store.devices)
            if (const auto number = numberOf(devices_, member);
                uuid != opened && number && related(devices_, *number, device.number))
                fail(ErrorKind::Exists,
                     "{} belongs to the store {} already: two stores cannot share a device", path,
                     store.name);
    }
    if (device.read_only)
        fail(ErrorKind::InvalidArgument, "{} is read-only", path);
    if (const auto user = devices_.user(path))
        fail(ErrorKind::Busy, "{} is {}: a store needs it for itself", path, user->text);
}

Uuid Engine::openStore(const std::vector<std::string>& paths, const std::string& name,
                       Recognize origins) {
    if (paths.empty())
        fail(ErrorKind::InvalidArgument, "a store needs at least one device");
    if (!name.empty())
        checkName("store", name);
    const BlockDevice first = devices_.describe(paths.front());
    const auto header = readStoreHeader(devices_, first.identity.path);
    if (!header)
        fail(ErrorKind::NotFound,
             "no store starts on {}: name the devices of a store in their order",
             first.identity.path);
    if (const auto known = stores_.find(header->uuid); known != stores_.end()) {
        requireTurn(known->second);
        if (known->second.problem.empty())
            fail(ErrorKind::Exists, "the store {} is open already", known->second.name);
    }
    const bool ran_before = assembly_.find(header->uuid, COWSNAP_DM_ROLE_STORE).has_value();
    std::vector<BlockDevice> described;
    for (const auto& path : paths)
        described.push_back(devices_.describe(path));
    const auto claim = claims_.claim(devices_, described);
    checkApart(devices_, described);
    if (assembly_.find(header->uuid, COWSNAP_DM_ROLE_DATA)) {
        if (const auto running = assembly_.devicesOf(header->uuid);
            !std::equal(running.begin(), running.end(), described.begin(), described.end(),
                        [](const DeviceIdentity& one, const BlockDevice& other) {
                            return one.path == other.identity.path;
                        }))
            fail(ErrorKind::InvalidArgument, "the store {} runs already, on other devices",
                 header->uuid.dashed());
    } else {
        for (const auto& device : described)
            checkOpenedDevice(device, header->uuid);
        checkStoreDevices(devices_, *header, described);
    }
    requireModule(mapper_);
    turns_.checked();
    StoreState store;
    store.uuid = header->uuid;
    store.name = name;
    store.devices = identitiesOf(described);
    try {
        bringUp(store, [&] { takeOver(store, name, origins); });
    } catch (const Error& error) {
        try {
            if (!ran_before)
                assembly_.takeApart(store.uuid);
        } catch (const Error& stays) {
            // Origins that were attached are used by now: the next start finds the store as it is.
            fail(error.kind(), "{}; its devices stay as they are: {}", error.what(), stays.what());
        }
        throw;
    }
    stores_.insert_or_assign(header->uuid, std::move(store));
    turns_.addNew(header->uuid);
    const StoreState& opened = stores_.at(header->uuid);
    const LogFields about(logFieldsOf(opened));
    spdlog::info("opened the store {} ({}) on {}", opened.name, opened.uuid.dashed(),
                 fmt::join(paths, ", "));
    return header->uuid;
}

void Engine::extendStore(const Uuid& uuid, const std::vector<std::string>& paths) {
    StoreState& store = usableStore(uuid);
    if (paths.empty())
        fail(ErrorKind::InvalidArgument, "name at least one device to extend the store {} with",
             store.name);
    addDevices(store, describeAll(paths));
    retryAutoextend(store);
    const LogFields about(logFieldsOf(store));
    spdlog::info("extended the store {} with {}", store.name, fmt::join(paths, ", "));
}

void Engine::addDevices(StoreState& store, const std::vector<BlockDevice>& described) {
    const auto claim = claims_.claim(devices_, described);
    checkNewStoreDevices(described, store.uuid);
    for (const auto& device : described)
        checkBlank(device.identity.path);
    std::vector<BlockDevice> all;
    for (const auto& identity : store.devices)
        all.push_back(findDevice(devices_, identity));
    all.insert(all.end(), described.begin(), described.end());
    turns_.checked();
    const RegisteredStore before{store.uuid, store.name, store.devices,
                                 failClosedOrigins(store.metadata)};
    // Registered first: assemble() at the next start finishes an interrupted extension. But what it
    // is written to may wait for the very room that this makes; then it ends afterwards.
    std::future<void> registered =
        registry_.begin({store.uuid, store.name, identitiesOf(all), before.closed});
    if (registry_.ends(registered, kRegistryPatience))
        registered.get();
    try {
        assembly_.assemble(store.uuid, all);
    } catch (const Error&) {
        if (registered.valid())
            finishRegistering(store, std::move(registered));
        registry_.put(before);
        throw;
    }
    store.devices = identitiesOf(all);
    store.data_table = assembly_.dataTable(store.uuid);
    Metadata changed = store.metadata;
    changed.devices = store.devices;
    dropTakenSpares(changed);
    persist(store, std::move(changed));
    load(store);
    if (registered.valid())
        finishRegistering(store, std::move(registered));
}

void Engine::finishRegistering(const StoreState& store, std::future<void> registered) {
    const LogFields about(logFieldsOf(store));
    try {
        registry_.finish(std::move(registered));
    } catch (const std::exception& error) {
        spdlog::warn("the store {} will not be activated at boot: {}", store.name, error.what());
    }
}

void Engine::closeStore(const Uuid& uuid, bool force) {
    const auto found = stores_.find(uuid);
    if (found == stores_.end())
        fail(ErrorKind::NotFound, "there is no store {}", uuid.dashed());
    const StoreState& store = found->second;
    requireTurn(store);
    if (!store.problem.empty())
        checkForget(store, force);
    else if (!store.metadata.origins.empty())
        fail(ErrorKind::Busy, "the store {} still has origins ({}): detach them first", store.name,
             store.metadata.origins.size());
    turns_.checked();
    const LogFields about(logFieldsOf(store));
    const std::vector<std::string> closed = failClosedNames(store);
    assembly_.takeApart(uuid);
    registry_.remove(uuid);
    spdlog::info("closed the store {}", store.name);
    if (!closed.empty())
        spdlog::warn(
            "the boot does not hold back {} of the store {} any more, which were fail-closed: it "
            "was closed although it cannot be used",
            fmt::join(closed, ", "), store.name);
    stores_.erase(found);
}

}  // namespace cowsnap
