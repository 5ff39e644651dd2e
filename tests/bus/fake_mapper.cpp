// SPDX-License-Identifier: GPL-2.0-or-later
// Device-mapper of the fake machine: the grammar of proto/cowsnap_dm.h, with a
// parser of its own so that mistakes of the library's show.
#include <endian.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>
#include <sstream>
#include <utility>

#include "base/crc32c.h"
#include "base/error.h"
#include "cowsnap_disk.h"
#include "cowsnap_dm.h"
#include "fake_machine.h"

namespace cowsnap::test {

namespace {

constexpr unsigned kMapperMajor = 253;

std::vector<std::string> split(const std::string& text) {
    std::istringstream stream(text);
    std::vector<std::string> words;
    for (std::string word; stream >> word;)
        words.push_back(word);
    std::string joined;
    for (const auto& word : words)
        joined += (joined.empty() ? "" : " ") + word;
    if (joined != text)
        fail(ErrorKind::InvalidArgument, "fake kernel: stray blanks in \"{}\"", text);
    return words;
}

std::uint64_t number(const std::string& text) {
    std::uint64_t value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size())
        fail(ErrorKind::InvalidArgument, "fake kernel: \"{}\" is no number", text);
    return value;
}

std::uint32_t id(const std::string& text) {
    const std::uint64_t value = number(text);
    if (value == 0 || value > COWSNAP_ID_MAX)
        fail(ErrorKind::InvalidArgument, "fake kernel: bad id {}", text);
    return static_cast<std::uint32_t>(value);
}

DeviceNumber deviceNumber(const std::string& text) {
    const auto result = DeviceNumber::parse(text);
    if (!result)
        fail(ErrorKind::InvalidArgument, "fake kernel: \"{}\" is no device", text);
    return *result;
}

[[noreturn]] void refuse(const std::string& why) {
    fail(ErrorKind::InvalidArgument, "fake kernel: {}", why);
}

}  // namespace

std::vector<MappedTarget> FakeMachine::Mapped::targets() const {
    std::vector<MappedTarget> all = table;
    all.insert(all.end(), inactive.begin(), inactive.end());
    return all;
}

void FakeMachine::mustNotWait(const Mapped& mapped) {
    if (mapped.suspended)
        throw std::logic_error("this would wait for a suspended device");
    for (const DeviceNumber lower : belowLocked(mapped.number))
        if (const Mapped* const found = mappedWithNumber(lower))
            mustNotWait(*found);
}

FakeMachine::Mapped& FakeMachine::mapped(const std::string& name) {
    const auto found = mapped_.find(name);
    if (found == mapped_.end())
        fail(ErrorKind::NotFound, "fake kernel: there is no device {}", name);
    return found->second;
}

FakeMachine::Mapped* FakeMachine::mappedWithNumber(DeviceNumber number) {
    for (auto& [name, mapped] : mapped_)
        if (mapped.number == number)
            return &mapped;
    return nullptr;
}

std::uint64_t FakeMachine::sectorsOf(DeviceNumber number) {
    for (const auto& [path, disk] : disks_)
        if (disk.number == number)
            return disk.sectors;
    const Mapped* const found = mappedWithNumber(number);
    if (found == nullptr)
        fail(ErrorKind::NotFound, "fake kernel: no device {}", number.text());
    if (found->table.empty())
        return 0;
    const auto& last = found->table.back();
    return last.start_sector + last.length_sectors;
}

Uuid FakeMachine::storeUuidOn(DeviceNumber data) {
    Mapped* const lower = mappedWithNumber(data);
    const std::string disk_path =
        lower == nullptr ? pathOfLocked(data)
                         : pathOfLocked(deviceNumber(split(lower->live().arguments).front()));
    Disk& first = disk(disk_path);
    const auto super_block = first.blocks.find(0);
    // A device that was filled with zeros is blank, too.
    const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
    if (super_block != first.blocks.end() &&
        !std::all_of(super_block->second.begin(), super_block->second.end(), is_zero)) {
        cowsnap_disk_super super{};
        std::memcpy(&super, super_block->second.data(), sizeof(super));
        if (le64toh(super.magic) != COWSNAP_MAGIC_SUPER)
            refuse("unknown content");
        Uuid::Bytes bytes{};
        std::memcpy(bytes.data(), super.uuid, bytes.size());
        return Uuid(bytes);
    }
    const Uuid uuid = Uuid::random();
    stores_[uuid].sectors = 0;
    return uuid;
}

void FakeMachine::rememberStore(Mapped& mapped) {
    if (mapped.live().type == COWSNAP_TARGET_STORE && !mapped.store)
        mapped.store = storeUuidOn(deviceNumber(split(mapped.live().arguments).front()));
}

FakeMachine::Store& FakeMachine::storeBelow(const std::string& mapped_name) {
    const Mapped& found = mapped(mapped_name);
    if (found.live().type != COWSNAP_TARGET_STORE)
        refuse(mapped_name + " is no cow-store");
    return stores_.at(*found.store);
}

FakeMachine::Store& FakeMachine::storeNamedBy(const std::string& word) {
    const DeviceNumber wanted = deviceNumber(word);
    for (const auto& [name, mapped] : mapped_)
        if (mapped.number == wanted)
            return storeBelow(name);
    refuse("no store " + word);
}

bool FakeMachine::hasTarget(const Store& store, const std::string& type, std::uint32_t id) {
    for (const auto& [name, mapped] : mapped_)
        for (const auto& target : mapped.targets()) {
            if (target.type != type)
                continue;
            const auto words = split(target.arguments);
            if (words[1] == std::to_string(id) && &storeNamedBy(words[0]) == &store)
                return true;
        }
    return false;
}

bool FakeMachine::attached(const Store& store, std::uint32_t origin_id) {
    return hasTarget(store, COWSNAP_TARGET_ORIGIN, origin_id);
}

bool FakeMachine::active(const Store& store, std::uint32_t snapshot_id) {
    return hasTarget(store, COWSNAP_TARGET_SNAP, snapshot_id);
}

void FakeMachine::checkStoreTable(const MappedTarget& target, const std::string& replacing) {
    const auto words = split(target.arguments);
    if (words.size() < 2)
        refuse("too few arguments");
    const DeviceNumber data = deviceNumber(words[0]);
    number(words[1]);
    std::optional<std::uint64_t> segment_sectors;
    if (words.size() > 2) {
        if (number(words[2]) != words.size() - 3)
            refuse("wrong number of feature arguments");
        for (std::size_t i = 3; i < words.size(); i += 2) {
            if (i + 1 == words.size())
                refuse("feature without value");
            const std::uint64_t value = number(words[i + 1]);
            if (words[i] == COWSNAP_FEATURE_FULL_WAIT_MS) {
                if (value > COWSNAP_FULL_WAIT_MAX_MS)
                    refuse("full_wait_ms too large");
            } else if (words[i] == COWSNAP_FEATURE_SEGMENT_SECTORS) {
                if (value < 128 || value > 2048 || (value & (value - 1)) != 0)
                    refuse("bad segment_sectors");
                segment_sectors = value;
            } else {
                refuse("unknown feature " + words[i]);
            }
        }
    }
    if (target.length_sectors < COWSNAP_STORE_MIN_SECTORS)
        refuse("store too small");
    if (target.length_sectors > sectorsOf(data))
        refuse("store larger than its device");
    const Uuid uuid = storeUuidOn(data);
    Store& store = stores_.at(uuid);
    const bool fresh = store.sectors == 0;
    if (!fresh && segment_sectors && *segment_sectors != store.segment_sectors)
        refuse("segment_sectors differs");
    if (target.length_sectors < store.sectors)
        refuse("store cannot shrink");
    for (const auto& [name, other] : mapped_)
        for (const auto& used : other.targets())
            if (name != replacing && used.type == COWSNAP_TARGET_STORE &&
                deviceNumber(split(used.arguments).front()) == data)
                fail(ErrorKind::Busy, "fake kernel: the store is active already");
    if (store.sectors == target.length_sectors)
        return;
    store.sectors = target.length_sectors;
    if (fresh)
        store.segment_sectors = segment_sectors.value_or(2048);
    cowsnap_disk_super super{};
    super.magic = htole64(COWSNAP_MAGIC_SUPER);
    super.version = htole32(COWSNAP_FORMAT_VERSION);
    std::memcpy(super.uuid, uuid.bytes().data(), sizeof(super.uuid));
    super.store_blocks = htole64(target.length_sectors / COWSNAP_BLOCK_SECTORS);
    super.segment_blocks =
        htole32(static_cast<std::uint32_t>(store.segment_sectors / COWSNAP_BLOCK_SECTORS));
    super.slot_block = htole64(kSlotBlock);
    super.slot_blocks = htole32(static_cast<std::uint32_t>(slot_sectors_ / COWSNAP_BLOCK_SECTORS));
    super.crc = htole32(crc32c(std::as_bytes(std::span(&super, 1))));
    const auto bytes = std::as_bytes(std::span(&super, 1));
    const Mapped* const lower = mappedWithNumber(data);
    Disk& first = disk(pathOfLocked(deviceNumber(split(lower->live().arguments).front())));
    first.store = uuid;
    for (const std::uint64_t block : {0, COWSNAP_SUPER_COPY_BLOCK})
        first.blocks[block] = std::vector<std::byte>(bytes.begin(), bytes.end());
}

void FakeMachine::checkOriginTable(const MappedTarget& target) {
    const auto words = split(target.arguments);
    const bool interpose = module_minor_ > 0 && words.size() == 5 && words[3] == "1" &&
                           words[4] == COWSNAP_FEATURE_INTERPOSE;
    if (words.size() != 3 && !interpose)
        refuse("wrong arguments");
    Store& store = storeNamedBy(words[0]);
    const std::uint32_t origin = id(words[1]);
    const DeviceNumber device = deviceNumber(words[2]);
    const auto known = store.origin_sectors.find(origin);
    const bool may_have_grown =
        known != store.origin_sectors.end() && (interpose || store.rollbacks.contains(origin));
    if (target.length_sectors > sectorsOf(device) ||
        (target.length_sectors < sectorsOf(device) && !may_have_grown))
        refuse("length is not the size of the origin");
    if (known != store.origin_sectors.end() && known->second != target.length_sectors)
        refuse("the origin has another size");
    if (attached(store, origin))
        fail(ErrorKind::Busy, "fake kernel: attached already");
    if (!interpose && userLocked(pathOfLocked(device)))
        fail(ErrorKind::Busy, "fake kernel: the origin's device is in use");
    if (interpose && store.rollbacks.contains(origin))
        fail(ErrorKind::NotSupported, "fake kernel: a rollback of interposed origin {}", origin);
    if (interpose && !interposing_refused_.empty())
        fail(ErrorKind::Busy, "fake kernel: {}", interposing_refused_);
    store.origin_sectors[origin] = target.length_sectors;
}

void FakeMachine::checkSnapTable(const MappedTarget& target) {
    const auto words = split(target.arguments);
    if (words.size() != 2 &&
        !(words.size() == 4 && words[2] == "1" && words[3] == COWSNAP_FEATURE_READ_ONLY))
        refuse("wrong arguments");
    Store& store = storeNamedBy(words[0]);
    const std::uint32_t snapshot = id(words[1]);
    const auto found = store.snapshots.find(snapshot);
    if (found == store.snapshots.end())
        fail(ErrorKind::NotFound, "fake kernel: no snapshot {}", snapshot);
    if (!attached(store, found->second.origin))
        refuse("the origin is not attached");
    if (target.length_sectors != store.origin_sectors.at(found->second.origin))
        refuse("wrong length");
    if (active(store, snapshot))
        fail(ErrorKind::Busy, "fake kernel: active already");
}

void FakeMachine::checkTable(const std::vector<MappedTarget>& table, const std::string& replacing) {
    if (table.empty())
        refuse("empty table");
    std::uint64_t next_sector = 0;
    for (const auto& target : table) {
        if (target.start_sector != next_sector)
            refuse("a gap in the table");
        if (target.length_sectors == 0)
            refuse("zero length");
        next_sector += target.length_sectors;
        if (target.type == "linear") {
            const auto words = split(target.arguments);
            if (words.size() != 2)
                refuse("wrong number of arguments of linear");
            if (number(words[1]) + target.length_sectors > sectorsOf(deviceNumber(words[0])))
                refuse("beyond the device");
            continue;
        }
        if (table.size() != 1)
            refuse(target.type + " must be alone");
        if (!module_loaded_)
            refuse("unknown target type");
        if (target.type == COWSNAP_TARGET_STORE)
            checkStoreTable(target, replacing);
        else if (!replacing.empty())
            refuse("no reload of " + target.type);
        else if (target.type == COWSNAP_TARGET_ORIGIN)
            checkOriginTable(target);
        else if (target.type == COWSNAP_TARGET_SNAP)
            checkSnapTable(target);
        else
            refuse("unknown target type");
    }
}

std::vector<MappedDevice> FakeMachine::devices() {
    const std::lock_guard lock(mutex_);
    std::vector<MappedDevice> result;
    for (const auto& [name, mapped] : mapped_)
        if (mapped.uuid.starts_with(COWSNAP_DM_UUID_PREFIX))
            result.push_back({name, mapped.uuid, mapped.number,
                              mapped.open || mapped.user || heldByMapped(mapped.number) ? 1u : 0u,
                              mapped.event_number, !mapped.table.empty(), !mapped.inactive.empty(),
                              mapped.suspended});
    return result;
}

bool FakeMachine::nameTaken(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return mapped_.contains(name);
}

void FakeMachine::make(const std::string& name, const std::string& uuid) {
    std::unique_lock lock(mutex_);
    waitWhileHeld(lock, name, kHeldTables);
    step([&] {
        if (name.empty() || name.size() > 127 || name.find('/') != std::string::npos)
            refuse("bad name");
        if (uuid.size() > 128)
            refuse("bad uuid");
        if (mapped_.contains(name))
            fail(ErrorKind::Busy, "fake kernel: the name {} is taken", name);
        for (const auto& [other_name, other] : mapped_)
            if (other.uuid == uuid)
                fail(ErrorKind::Busy, "fake kernel: the UUID {} is taken", uuid);
        Mapped& made = mapped_[name];
        made.uuid = uuid;
        made.number = {kMapperMajor, next_minor_++};
    });
}

void FakeMachine::load(const std::string& name, const std::vector<MappedTarget>& table,
                       bool read_only) {
    const std::lock_guard lock(mutex_);
    step([&] {
        Mapped& found = mapped(name);
        checkTable(table, found.table.empty() ? "" : name);
        found.inactive = table;
        found.read_only = read_only;
    });
}

void FakeMachine::resumeLocked(Mapped& mapped, const std::string& name) {
    const bool is_first = mapped.table.empty();
    if (is_first && mapped.inactive.empty())
        refuse(name + " has no table");
    if (!mapped.inactive.empty()) {
        mapped.table = std::exchange(mapped.inactive, {});
        rememberStore(mapped);
    }
    if (failing_resumes_ > 0) {
        --failing_resumes_;
        mapped.suspended = true;
        fail(ErrorKind::Failed, "fake kernel: cannot resume {}", name);
    }
    mapped.suspended = false;
    if (!is_first || mapped.live().type != COWSNAP_TARGET_ORIGIN)
        return;
    const auto words = split(mapped.live().arguments);
    Store& store = storeNamedBy(words[0]);
    if (store.rollbacks.contains(id(words[1])) && !store.rollbacks.at(id(words[1])).running)
        beginRollback(store, id(words[1]));
}

void FakeMachine::clear(const std::string& name) {
    const std::lock_guard lock(mutex_);
    step([&] { mapped(name).inactive.clear(); });
}

void FakeMachine::suspend(const std::string& name) {
    const std::lock_guard lock(mutex_);
    step([&] { mapped(name).suspended = true; });
}

void FakeMachine::resume(const std::string& name, Visibility visibility) {
    const std::lock_guard lock(mutex_);
    step([&] {
        Mapped& found = mapped(name);
        if (found.table.empty() && !found.inactive.empty()) {
            const auto& target = found.inactive.front();
            const bool is_stacked =
                target.type == COWSNAP_TARGET_ORIGIN && split(target.arguments).size() == 3;
            if (is_stacked != (visibility == Visibility::Visible))
                refuse("wrong udev flags");
        }
        resumeLocked(found, name);
    });
}

void FakeMachine::remove(const std::string& name, Visibility /*visibility*/) {
    const std::lock_guard lock(mutex_);
    step([&] {
        const Mapped& found = mapped(name);
        if (found.open || found.user || heldByMapped(found.number))
            fail(ErrorKind::Busy, "fake kernel: {} is open", name);
        mapped_.erase(name);
    });
}

std::vector<MappedTarget> FakeMachine::table(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return mapped(name).table;
}

std::vector<MappedTarget> FakeMachine::tableOf(DeviceNumber number) {
    const std::lock_guard lock(mutex_);
    const Mapped* const found = mappedWithNumber(number);
    return found != nullptr ? found->table : std::vector<MappedTarget>{};
}

std::vector<MappedTarget> FakeMachine::status(const std::string& name) {
    std::unique_lock lock(mutex_);
    waitWhileHeld(lock, name, kHeldStatus);
    if (mapped(name).table.empty())
        return {};
    MappedTarget target = mapped(name).live();
    const auto words = split(target.arguments);
    if (target.type == COWSNAP_TARGET_STORE) {
        const Uuid uuid = *mapped(name).store;
        const Store& store = stores_.at(uuid);
        const std::uint64_t total = store.sectors / store.segment_sectors - 1;
        target.arguments =
            fmt::format("{} {} {} {}/{} {} {} {} {} 0", uuid.dashed(),
                        store.failed ? COWSNAP_STORE_FAILED
                        : store.full ? COWSNAP_STORE_FULL
                                     : COWSNAP_STORE_ACTIVE,
                        store.segment_sectors, total - store.used_segments, total, slot_sectors_,
                        store.origin_sectors.size(), store.snapshots.size(),
                        store.events.empty() ? 0 : store.events.back().number);
    } else if (target.type == COWSNAP_TARGET_ORIGIN) {
        target.arguments =
            fmt::format("{} 0 {} {} {} {}", words[1], preserved_blocks_, waiting_bios_,
                        read_blocks_, rollbackWords(storeNamedBy(words[0]), id(words[1])));
    } else if (target.type == COWSNAP_TARGET_SNAP) {
        target.arguments = fmt::format("active 1 {} 0", words.size() == 4 ? "ro" : "rw");
    }
    return {target};
}

void FakeMachine::watch(const Store& store, const std::vector<std::string>& words) {
    if (words.size() < 3 || words.size() > 2 + COWSNAP_WATCH_MAX)
        refuse("watch");
    const std::uint32_t origin = id(words[1]);
    if (!attached(store, origin))
        fail(ErrorKind::NotFound, "fake kernel: no cow-origin of origin {}", origin);
    for (std::size_t i = 2; i < words.size(); ++i) {
        std::string sector = words[i];
        if (sector.ends_with(COWSNAP_WATCH_RAW))
            sector.resize(sector.size() - std::string(COWSNAP_WATCH_RAW).size());
        if (number(sector) >= store.origin_sectors.at(origin))
            refuse("watch of a sector behind the end");
    }
}

std::string FakeMachine::message(const std::string& name, const std::string& text) {
    std::unique_lock lock(mutex_);
    const auto words = split(text);
    if (words.empty())
        refuse("empty message");
    waitWhileHeld(lock, name, words[0]);
    Store& store = storeBelow(name);
    const bool changes = words[0] == COWSNAP_MESSAGE_CREATE || words[0] == COWSNAP_MESSAGE_DELETE ||
                         words[0] == COWSNAP_MESSAGE_FORGET || words[0] == COWSNAP_MESSAGE_LOST ||
                         words[0] == COWSNAP_MESSAGE_LOSS_RECORDED ||
                         words[0] == COWSNAP_MESSAGE_ROLLBACK ||
                         words[0] == COWSNAP_MESSAGE_CANCEL || words[0] == COWSNAP_MESSAGE_WATCH;
    if (!changes)
        return answer(store, words);
    bool tear = false;
    bool kill_after = false;
    step(tear, kill_after);
    if (tear)
        throw Killed();
    mustNotWait(mapped(name));
    messages_.push_back(text);
    std::string result = answer(store, words);
    if (kill_after)
        throw Killed();
    return result;
}

std::string FakeMachine::answer(Store& store, const std::vector<std::string>& words) {
    // As the kernel's buffer is limited, so are the lines of one answer.
    constexpr unsigned lines_at_once = 3;
    const std::uint64_t after = words.size() == 2 ? number(words[1]) : 0;
    const auto at_most_one_argument = [&] {
        if (words.size() > 2)
            refuse("too many arguments");
    };
    std::string text;
    unsigned lines = 0;
    if (words[0] == COWSNAP_MESSAGE_ORIGINS) {
        at_most_one_argument();
        for (const auto& [origin, sectors] : store.origin_sectors) {
            if (origin <= after || lines++ >= lines_at_once)
                continue;
            const auto count = std::count_if(
                store.snapshots.begin(), store.snapshots.end(),
                [&, key = origin](const auto& entry) { return entry.second.origin == key; });
            text += fmt::format("{} {} {} {}\n", origin, sectors, attached(store, origin) ? 1 : 0,
                                count);
        }
        return text;
    }
    if (words[0] == COWSNAP_MESSAGE_SNAPSHOTS) {
        at_most_one_argument();
        for (const auto& [snapshot, state] : store.snapshots) {
            if (snapshot <= after || lines++ >= lines_at_once)
                continue;
            text += fmt::format("{} {} {} {} {} {} 2 0\n", snapshot, state.origin, state.created,
                                state.set, stateOf(store, state), active(store, snapshot) ? 1 : 0);
        }
        return text;
    }
    if (words[0] == COWSNAP_MESSAGE_EVENTS) {
        at_most_one_argument();
        for (const auto& event : store.events)
            if (event.number > after)
                text += fmt::format("{} {} {}\n", event.number, event.name, event.id);
        return text;
    }
    if (words[0] == COWSNAP_MESSAGE_LOSS_RECORDED) {
        if (words.size() != 1 || !store.failed)
            refuse("loss_recorded");
        return text;
    }
    if (store.failed)
        fail(ErrorKind::Failed, "fake kernel: the store has failed");
    if (words[0] == COWSNAP_MESSAGE_LOST) {
        if (words.size() != 2)
            refuse("lost");
        const std::uint64_t last = number(words[1]);
        for (auto& [snapshot, state] : store.snapshots)
            state.lost |= state.set <= last;
        store.next_set = std::max(store.next_set, last + 1);
        return text;
    }
    if (words[0] == COWSNAP_MESSAGE_CREATE) {
        if (words.size() < 3 || words.size() % 2 == 0 || words.size() > 1 + 2 * COWSNAP_SET_MAX)
            refuse("create");
        std::set<std::uint32_t> origins;
        std::map<std::uint32_t, FakeSnapshot> created;
        for (std::size_t i = 1; i < words.size(); i += 2) {
            const std::uint32_t snapshot = id(words[i]);
            const std::uint32_t origin = id(words[i + 1]);
            if (!store.origin_sectors.contains(origin))
                fail(ErrorKind::NotFound, "fake kernel: no origin {}", origin);
            if (!origins.insert(origin).second)
                refuse("an origin twice in a set");
            if (store.snapshots.contains(snapshot) || created.contains(snapshot))
                fail(ErrorKind::Exists, "fake kernel: snapshot {} exists", snapshot);
            if (store.rollbacks.contains(origin) && store.rollbacks.at(origin).running)
                fail(ErrorKind::Busy, "fake kernel: a rollback of origin {} runs", origin);
            created[snapshot] = {origin, 1700000000, store.next_set};
        }
        store.snapshots.merge(created);
        ++store.next_set;
        preserved_blocks_ = 0;
        return text;
    }
    if (words[0] == COWSNAP_MESSAGE_DELETE) {
        if (words.size() < 2)
            refuse("delete");
        if (words.size() > 1 + COWSNAP_DELETE_MAX)
            fail(ErrorKind::Failed, "fake kernel: delete: {} snapshots at once", words.size() - 1);
        for (std::size_t i = 1; i < words.size(); ++i) {
            if (!store.snapshots.contains(id(words[i])))
                fail(ErrorKind::NotFound, "fake kernel: no snapshot {}", words[i]);
            if (active(store, id(words[i])))
                fail(ErrorKind::Busy, "fake kernel: snapshot {} is active", words[i]);
            for (const auto& [origin, rollback] : store.rollbacks)
                if (rollback.target == id(words[i]) || rollback.undo == id(words[i]))
                    fail(ErrorKind::Busy,
                         "fake kernel: the rollback of origin {} needs snapshot {}", origin,
                         words[i]);
        }
        for (std::size_t i = 1; i < words.size(); ++i)
            store.snapshots.erase(id(words[i]));
        return text;
    }
    if (words[0] == COWSNAP_MESSAGE_ROLLBACK) {
        rollBack(store, words);
        return text;
    }
    if (words[0] == COWSNAP_MESSAGE_CANCEL) {
        cancelRollback(store, words);
        return text;
    }
    if (words[0] == COWSNAP_MESSAGE_WATCH) {
        watch(store, words);
        return text;
    }
    if (words[0] == COWSNAP_MESSAGE_FORGET) {
        if (words.size() != 2)
            refuse("forget");
        const std::uint32_t origin = id(words[1]);
        if (!store.origin_sectors.contains(origin))
            fail(ErrorKind::NotFound, "fake kernel: no origin {}", origin);
        if (attached(store, origin))
            fail(ErrorKind::Busy, "fake kernel: origin {} is attached", origin);
        for (const auto& [snapshot, state] : store.snapshots)
            if (state.origin == origin)
                fail(ErrorKind::Busy, "fake kernel: origin {} has snapshots", origin);
        store.origin_sectors.erase(origin);
        return text;
    }
    refuse("unknown message " + words[0]);
}

void FakeMachine::rollBack(Store& store, const std::vector<std::string>& words) {
    if (words.size() < 4)
        refuse("rollback");
    const std::uint32_t origin = id(words[1]);
    const FakeRollback rollback{false, id(words[2]), id(words[3])};
    bool force = false;
    bool schedule = false;
    for (std::size_t i = 4; i < words.size(); ++i) {
        bool& flag = words[i] == COWSNAP_ROLLBACK_FORCE ? force : schedule;
        if (flag || (&flag == &schedule && words[i] != COWSNAP_ROLLBACK_SCHEDULE))
            refuse("word of rollback " + words[i]);
        flag = true;
    }
    const auto target = store.snapshots.find(rollback.target);
    if (target == store.snapshots.end() || target->second.origin != origin)
        fail(ErrorKind::NotFound, "fake kernel: origin {} has no snapshot {}", origin, words[2]);
    if (store.rollbacks.contains(origin))
        fail(ErrorKind::Busy, "fake kernel: origin {} has a rollback already", origin);
    if (store.snapshots.contains(rollback.undo))
        fail(ErrorKind::Exists, "fake kernel: snapshot {} exists", words[3]);
    if (target->second.lost)
        fail(ErrorKind::MetadataCorrupt, "fake kernel: snapshot {} is lost", words[2]);
    if (target->second.damaged)
        fail(ErrorKind::MetadataCorrupt, "fake kernel: snapshot {} is damaged", words[2]);
    if (target->second.stale && !force)
        fail(ErrorKind::Stale, "fake kernel: snapshot {} is stale", words[2]);
    store.rollbacks[origin] = rollback;
    if (schedule)
        return;
    if (!attached(store, origin) || active(store, rollback.target)) {
        store.rollbacks.erase(origin);
        fail(ErrorKind::Busy, "fake kernel: origin {} or snapshot {}", origin, words[2]);
    }
    beginRollback(store, origin);
}

void FakeMachine::beginRollback(Store& store, std::uint32_t origin) {
    FakeRollback& rollback = store.rollbacks.at(origin);
    rollback.running = true;
    store.snapshots[rollback.undo] = {origin, 1700000000, store.next_set++};
}

void FakeMachine::cancelRollback(Store& store, const std::vector<std::string>& words) {
    if (words.size() != 2)
        refuse("cancel");
    const auto rollback = store.rollbacks.find(id(words[1]));
    if (rollback == store.rollbacks.end())
        fail(ErrorKind::NotFound, "fake kernel: no rollback of {}", words[1]);
    if (!rollback->second.running) {
        store.rollbacks.erase(rollback);
        return;
    }
    if (rollback->second.undo == 0)
        fail(ErrorKind::Busy, "fake kernel: it is being cancelled");
    rollback->second = {true, rollback->second.undo, 0};
}

std::string FakeMachine::rollbackWords(const Store& store, std::uint32_t origin) const {
    const std::uint64_t blocks = store.origin_sectors.at(origin) / COWSNAP_BLOCK_SECTORS;
    const auto found = store.rollbacks.find(origin);
    if (found == store.rollbacks.end())
        return fmt::format("{} 0 0 0/{}", COWSNAP_ROLLBACK_NONE, blocks);
    return fmt::format(
        "{} {} {} {}/{}",
        found->second.running ? COWSNAP_ROLLBACK_RUNNING : COWSNAP_ROLLBACK_SCHEDULED,
        found->second.target, found->second.undo,
        found->second.running ? found->second.done_blocks : 0, blocks);
}

void FakeMachine::copyBack(std::uint32_t origin_id, std::uint64_t blocks) {
    const std::lock_guard lock(mutex_);
    onlyStore().rollbacks.at(origin_id).done_blocks = blocks;
}

void FakeMachine::beginScheduled(std::uint32_t origin_id) {
    const std::lock_guard lock(mutex_);
    beginRollback(onlyStore(), origin_id);
}

void FakeMachine::endRollback(std::uint32_t origin_id) {
    const std::lock_guard lock(mutex_);
    Store& store = onlyStore();
    if (store.rollbacks.erase(origin_id) == 0)
        throw std::logic_error("there is no rollback");
    raiseLocked(store, COWSNAP_EVENT_ROLLED_BACK, origin_id);
}

std::string FakeMachine::rollbackOf(std::uint32_t origin_id) const {
    const std::lock_guard lock(mutex_);
    const std::string words = rollbackWords(stores_.begin()->second, origin_id);
    return words.substr(0, words.find(' '));
}

std::optional<TargetVersion> FakeMachine::targetVersion(const std::string& /*type*/) {
    const std::lock_guard lock(mutex_);
    if (!module_loaded_)
        return std::nullopt;
    return TargetVersion{COWSNAP_DM_VERSION_MAJOR, module_minor_, COWSNAP_DM_VERSION_PATCH};
}

}  // namespace cowsnap::test
