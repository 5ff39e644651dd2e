// SPDX-License-Identifier: GPL-2.0-or-later
// The disks of the fake machine, and the accidents that happen to it.
#include "fake_machine.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <sstream>

#include "base/error.h"
#include "cowsnap_dm.h"

namespace cowsnap::test {

namespace {

constexpr std::uint64_t kBlockBytes = 4096;
constexpr unsigned kDiskMajor = 8;

}  // namespace

FakeMachine::FakeMachine()
    : module_minor_(COWSNAP_DM_VERSION_MINOR), events_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

void FakeMachine::addDisk(const std::string& path, std::uint64_t sectors,
                          const std::string& serial) {
    const std::lock_guard lock(mutex_);
    Disk& disk = disks_[path];
    disk.number = {kDiskMajor, next_minor_++};
    disk.sectors = sectors;
    disk.serial = serial;
}

void FakeMachine::setUser(const std::string& path, const std::string& user, DeviceUser::Kind kind) {
    const std::lock_guard lock(mutex_);
    auto& entry =
        disks_.contains(path) ? disk(path).user : mapped(path.substr(kMapperDirectory.size())).user;
    entry.reset();
    if (!user.empty())
        entry = DeviceUser{kind, user};
}

void FakeMachine::setContents(const std::string& path, const std::string& contents) {
    const std::lock_guard lock(mutex_);
    disk(path).contents = contents;
    disk(path).blocks[0] = std::vector<std::byte>(kBlockBytes, std::byte{0x55});
}

void FakeMachine::setReadOnly(const std::string& path) {
    const std::lock_guard lock(mutex_);
    disk(path).read_only = true;
}

void FakeMachine::resizeDisk(const std::string& path, std::uint64_t sectors) {
    const std::lock_guard lock(mutex_);
    disk(path).sectors = sectors;
}

void FakeMachine::renameDisk(const std::string& path, const std::string& new_path) {
    const std::lock_guard lock(mutex_);
    auto node = disks_.extract(path);
    node.key() = new_path;
    disks_.insert(std::move(node));
}

void FakeMachine::setSerial(const std::string& path, const std::string& serial) {
    const std::lock_guard lock(mutex_);
    disks_.at(path).serial = serial;
}

void FakeMachine::removeDisk(const std::string& path) {
    const std::lock_guard lock(mutex_);
    disks_.erase(path);
}

void FakeMachine::putOn(const std::string& upper, const std::string& lower) {
    const std::lock_guard lock(mutex_);
    disk(upper).below.push_back(lower);
}

void FakeMachine::addPartition(const std::string& path, const std::string& of_disk) {
    addDisk(path, disk(of_disk).sectors / 2);
    putOn(path, of_disk);
    disk(of_disk).partitions.push_back(path);
}

void FakeMachine::putTable(const std::string& name, const std::vector<MappedTarget>& table) {
    make(name, "OTHER-" + name);
    const std::lock_guard lock(mutex_);
    mapped(name).table = table;
}

void FakeMachine::setOpen(const std::string& mapped_path, bool open) {
    const std::lock_guard lock(mutex_);
    mapped(mapped_path.substr(kMapperDirectory.size())).open = open;
}

void FakeMachine::failResumes(unsigned count) {
    const std::lock_guard lock(mutex_);
    failing_resumes_ = count;
}

void FakeMachine::reboot() {
    const std::lock_guard lock(mutex_);
    mapped_.clear();
    for (auto& [uuid, store] : stores_) {
        store.events.clear();
        store.failed = false;
    }
}

void FakeMachine::removeModule() {
    const std::lock_guard lock(mutex_);
    module_loaded_ = false;
}

void FakeMachine::loadModule() {
    const std::lock_guard lock(mutex_);
    module_loaded_ = true;
}

void FakeMachine::setModuleMinor(unsigned minor) {
    const std::lock_guard lock(mutex_);
    module_minor_ = minor;
}

void FakeMachine::refuseInterposing(const std::string& cause) {
    const std::lock_guard lock(mutex_);
    interposing_refused_ = cause;
}

FakeMachine::Store& FakeMachine::onlyStore() {
    if (stores_.size() != 1)
        throw std::logic_error("not exactly one store");
    return stores_.begin()->second;
}

void FakeMachine::drop(std::uint32_t snapshot_id) {
    const std::lock_guard lock(mutex_);
    onlyStore().snapshots.erase(snapshot_id);
    raiseLocked(onlyStore(), COWSNAP_EVENT_DROPPED, snapshot_id);
}

void FakeMachine::lose(std::uint32_t snapshot_id) {
    const std::lock_guard lock(mutex_);
    onlyStore().snapshots.at(snapshot_id).lost = true;
}

void FakeMachine::renameMapped(const std::string& name, const std::string& new_name) {
    const std::lock_guard lock(mutex_);
    auto renamed = mapped_.extract(name);
    renamed.key() = new_name;
    mapped_.insert(std::move(renamed));
}

void FakeMachine::damage(std::uint32_t snapshot_id) {
    const std::lock_guard lock(mutex_);
    onlyStore().snapshots.at(snapshot_id).damaged = true;
}

void FakeMachine::raise(const std::string& event, std::uint64_t id, std::optional<Uuid> of) {
    const std::lock_guard lock(mutex_);
    raiseLocked(of ? stores_.at(*of) : onlyStore(), event, id);
}

void FakeMachine::raiseLocked(Store& store, const std::string& event, std::uint64_t id) {
    const std::uint64_t number = store.events.empty() ? 1 : store.events.back().number + 1;
    store.events.push_back({number, event, id});
    const std::uint64_t one = 1;
    if (::write(events_.get(), &one, sizeof(one)) != sizeof(one))
        throw std::logic_error("eventfd");
}

void FakeMachine::countBlocks(std::uint64_t preserved, std::uint64_t waiting_bios,
                              std::uint64_t read) {
    const std::lock_guard lock(mutex_);
    preserved_blocks_ = preserved;
    waiting_bios_ = waiting_bios;
    read_blocks_ = read;
}

void FakeMachine::setFull(bool full) {
    const std::lock_guard lock(mutex_);
    onlyStore().full = full;
}

void FakeMachine::failStore() {
    const std::lock_guard lock(mutex_);
    Store& store = onlyStore();
    store.failed = true;
    raiseLocked(store, COWSNAP_EVENT_FAILED, 0);
    raiseLocked(store, COWSNAP_EVENT_UNRECORDED, store.next_set);
}

std::string FakeMachine::stateOf(std::uint32_t snapshot_id) const {
    const std::lock_guard lock(mutex_);
    const Store& store = stores_.begin()->second;
    return stateOf(store, store.snapshots.at(snapshot_id));
}

std::string FakeMachine::stateOf(const Store& store, const FakeSnapshot& snapshot) {
    if (snapshot.lost || store.failed)
        return COWSNAP_STATE_LOST;
    if (snapshot.stale)
        return COWSNAP_STATE_STALE;
    return snapshot.damaged ? COWSNAP_STATE_DAMAGED : COWSNAP_STATE_ACTIVE;
}

void FakeMachine::writtenUnseen(std::uint32_t origin_id) {
    const std::lock_guard lock(mutex_);
    for (auto& [id, snapshot] : onlyStore().snapshots)
        snapshot.stale |= snapshot.origin == origin_id;
    raiseLocked(onlyStore(), COWSNAP_EVENT_STALE, origin_id);
}

void FakeMachine::forgetSnapshot(std::uint32_t snapshot_id) {
    const std::lock_guard lock(mutex_);
    onlyStore().snapshots.erase(snapshot_id);
}

void FakeMachine::createBehindTheBack(std::uint32_t snapshot_id, std::uint32_t origin_id) {
    const std::lock_guard lock(mutex_);
    Store& store = onlyStore();
    store.snapshots[snapshot_id] = {origin_id, 1700000000, store.next_set++};
}

void FakeMachine::damageSlot(unsigned slot) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t slot_bytes = slot_sectors_ * kSectorBytes;
    auto& block = onlyStore().slots[slot * slot_bytes / kBlockBytes];
    block.resize(kBlockBytes);
    block[20] = block[20] ^ std::byte{0xff};
}

void FakeMachine::blankSlot(unsigned slot) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t blocks = slot_sectors_ * kSectorBytes / kBlockBytes;
    for (std::uint64_t i = 0; i < blocks; ++i)
        onlyStore().slots.erase(slot * blocks + i);
}

void FakeMachine::useSegments(std::uint64_t segments, std::optional<Uuid> of) {
    const std::lock_guard lock(mutex_);
    (of ? stores_.at(*of) : onlyStore()).used_segments = segments;
}

void FakeMachine::hold(const std::string& word, const std::string& mapped_name) {
    const std::lock_guard lock(mutex_);
    held_word_ = word;
    held_mapped_name_ = mapped_name;
}

void FakeMachine::letGo() {
    const std::lock_guard lock(mutex_);
    held_word_.clear();
    held_changed_.notify_all();
}

bool FakeMachine::waitUntilHeld(unsigned calls) {
    constexpr std::chrono::seconds patience{10};
    std::unique_lock lock(mutex_);
    return held_changed_.wait_for(lock, patience, [&] { return held_ == calls; });
}

void FakeMachine::waitWhileHeld(std::unique_lock<std::mutex>& lock, const std::string& name,
                                const std::string& word) {
    const auto is_held = [&] {
        return word == held_word_ && (held_mapped_name_.empty() || held_mapped_name_ == name);
    };
    if (!is_held())
        return;
    ++held_;
    held_changed_.notify_all();
    held_changed_.wait(lock, [&] { return !is_held(); });
    --held_;
}

void FakeMachine::plan(Accident accident, unsigned step) {
    const std::lock_guard lock(mutex_);
    planned_ = accident;
    steps_left_ = step;
    accident_happened_ = false;
}

void FakeMachine::planNothing() {
    const std::lock_guard lock(mutex_);
    planned_.reset();
}

void FakeMachine::step(bool& tear, bool& kill_after) {
    tear = false;
    kill_after = false;
    if (!planned_ || steps_left_-- > 0)
        return;
    const Accident accident = *planned_;
    planned_.reset();
    accident_happened_ = true;
    switch (accident) {
        case Accident::KillBefore:
            throw Killed();
        case Accident::KillAfter:
            kill_after = true;
            return;
        case Accident::Tear:
            tear = true;
            return;
        case Accident::Fail:
            fail(ErrorKind::Failed, "a planned failure");
    }
}

void FakeMachine::step(const std::function<void()>& change) {
    bool tear = false;
    bool kill_after = false;
    step(tear, kill_after);
    if (tear)
        throw Killed();
    change();
    if (kill_after)
        throw Killed();
}

FakeMachine::Disk& FakeMachine::disk(const std::string& path) {
    const auto found = disks_.find(path);
    if (found == disks_.end())
        fail(ErrorKind::NotFound, "cannot look at {}: No such file or directory", path);
    return found->second;
}

BlockDevice FakeMachine::describe(const std::string& path) {
    const std::lock_guard lock(mutex_);
    if (!path.starts_with('/'))
        fail(ErrorKind::InvalidArgument, "{} is not an absolute path of a device", path);
    if (path == "/dev/null")
        fail(ErrorKind::InvalidArgument, "{} is not a block device", path);
    BlockDevice device;
    device.identity.path = path;
    if (path.starts_with(kMapperDirectory) && !disks_.contains(path)) {
        const Mapped& found = mapped(path.substr(kMapperDirectory.size()));
        device.number = found.number;
        device.identity.serial = found.uuid;
        device.read_only = found.read_only;
        device.identity.size_sectors = sectorsOf(found.number);
        return device;
    }
    const Disk& found = disk(path);
    device.number = found.number;
    device.identity.serial = found.serial;
    device.identity.size_sectors = found.sectors;
    device.read_only = found.read_only;
    return device;
}

std::string FakeMachine::pathOfLocked(DeviceNumber number) {
    for (const auto& [path, disk] : disks_)
        if (disk.number == number)
            return path;
    for (const auto& [name, mapped] : mapped_)
        if (mapped.number == number)
            return std::string(kMapperDirectory) + name;
    fail(ErrorKind::NotFound, "there is no block device {}", number.text());
}

std::vector<std::string> FakeMachine::lasting() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> paths;
    for (const auto& [path, disk] : disks_)
        paths.push_back(path);
    return paths;
}

std::string FakeMachine::pathOf(DeviceNumber number) {
    const std::lock_guard lock(mutex_);
    return pathOfLocked(number);
}

std::uint64_t FakeMachine::sizeOf(DeviceNumber number) {
    const std::lock_guard lock(mutex_);
    return sectorsOf(number);
}

std::vector<std::string> FakeMachine::withSerial(const std::string& serial, unsigned partition) {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> paths;
    for (const auto& [path, disk] : disks_)
        if (partition == 0 && disk.serial == serial)
            paths.push_back(path);
    return paths;
}

std::vector<DeviceNumber> FakeMachine::belowLocked(DeviceNumber number) {
    std::vector<DeviceNumber> result;
    for (const auto& [path, disk] : disks_)
        if (disk.number == number)
            for (const auto& lower : disk.below)
                result.push_back(this->disk(lower).number);
    if (const Mapped* const found = mappedWithNumber(number))
        for (const auto& target : found->targets()) {
            // Every word of a table that is a device's number: all grammars put devices so.
            std::istringstream words(target.arguments);
            for (std::string word; words >> word;) {
                if (const auto lower = DeviceNumber::parse(word))
                    result.push_back(*lower);
                // What is interposed is opened shared, and not known as what is below.
                if (word == COWSNAP_FEATURE_INTERPOSE)
                    result.pop_back();
            }
        }
    return result;
}

std::vector<DeviceNumber> FakeMachine::below(DeviceNumber number) {
    const std::lock_guard lock(mutex_);
    return belowLocked(number);
}

bool FakeMachine::heldByMapped(DeviceNumber number) {
    for (const auto& [name, mapped] : mapped_) {
        const auto lower = belowLocked(mapped.number);
        if (std::find(lower.begin(), lower.end(), number) != lower.end())
            return true;
    }
    return false;
}

std::vector<DeviceNumber> FakeMachine::above(DeviceNumber number) {
    const std::lock_guard lock(mutex_);
    std::vector<DeviceNumber> result;
    for (const auto& [name, mapped] : mapped_) {
        const auto lower = belowLocked(mapped.number);
        if (std::find(lower.begin(), lower.end(), number) != lower.end())
            result.push_back(mapped.number);
    }
    return result;
}

std::optional<std::uint64_t> FakeMachine::startOf(DeviceNumber number) {
    const std::lock_guard lock(mutex_);
    for (const auto& [path, disk] : disks_)
        for (std::size_t i = 0; i < disk.partitions.size(); ++i)
            if (this->disk(disk.partitions[i]).number == number)
                return (i + 1) * kPartitionSectors;
    return std::nullopt;
}

std::vector<DeviceNumber> FakeMachine::partitions(DeviceNumber number) {
    const std::lock_guard lock(mutex_);
    std::vector<DeviceNumber> result;
    for (const auto& [path, disk] : disks_)
        if (disk.number == number)
            for (const auto& partition : disk.partitions)
                result.push_back(this->disk(partition).number);
    return result;
}

std::optional<DeviceUser> FakeMachine::userLocked(const std::string& path) {
    if (disks_.contains(path)) {
        const Disk& found = disk(path);
        if (found.user)
            return found.user;
        if (heldByMapped(found.number))
            return DeviceUser{DeviceUser::Kind::Other, "in use by device-mapper"};
        for (const auto& partition : found.partitions)
            if (const auto of_partition = userLocked(partition))
                return DeviceUser{DeviceUser::Kind::Partitions,
                                  fmt::format("in use by its partition {}, which is {}", partition,
                                              of_partition->text)};
        return std::nullopt;
    }
    const Mapped& found = mapped(path.substr(kMapperDirectory.size()));
    if (found.user)
        return found.user;
    if (found.open || heldByMapped(found.number))
        return DeviceUser{DeviceUser::Kind::Other, "in use"};
    return std::nullopt;
}

std::optional<DeviceUser> FakeMachine::user(const std::string& path) {
    const std::lock_guard lock(mutex_);
    return userLocked(path);
}

void FakeMachine::exclusively(const std::string& path, const std::function<void()>& work) {
    if (const auto in_use = user(path))
        fail(ErrorKind::Busy, "{} is {}", path, in_use->text);
    work();
}

void FakeMachine::announce(DeviceNumber number) {
    const std::string path = pathOf(number);
    const std::lock_guard lock(mutex_);
    announced_.push_back(path);
}

std::vector<std::string> FakeMachine::announced() const {
    const std::lock_guard lock(mutex_);
    return announced_;
}

std::string FakeMachine::contents(const std::string& path) {
    const std::lock_guard lock(mutex_);
    return disks_.contains(path) ? disk(path).contents : std::string();
}

FakeMachine::Blocks& FakeMachine::blocksAt(const std::string& path, std::uint64_t& offset_bytes) {
    if (disks_.contains(path)) {
        constexpr std::uint64_t slots_start = kSlotBlock * kBlockBytes;
        const std::uint64_t slots_end = slots_start + 2 * slot_sectors_ * kSectorBytes;
        Disk& found = disk(path);
        if (offset_bytes < slots_start || offset_bytes >= slots_end || !found.store)
            return found.blocks;
        offset_bytes -= slots_start;
        return stores_.at(*found.store).slots;
    }
    const std::string name = path.substr(kMapperDirectory.size());
    const Mapped& found = mapped(name);
    mustNotWait(found);
    if (found.live().type == COWSNAP_TARGET_STORE)
        return storeBelow(name).slots;
    for (const auto& target : found.table) {
        const std::uint64_t start_bytes = target.start_sector * kSectorBytes;
        const std::uint64_t end_bytes = start_bytes + target.length_sectors * kSectorBytes;
        if (target.type != "linear" || offset_bytes < start_bytes || offset_bytes >= end_bytes)
            continue;
        offset_bytes -= start_bytes;
        return disk(pathOfLocked(*DeviceNumber::parse(
                        target.arguments.substr(0, target.arguments.find(' ')))))
            .blocks;
    }
    fail(ErrorKind::Failed, "cannot read {}", path);
}

std::vector<std::byte> FakeMachine::read(const std::string& path, std::uint64_t offset_bytes,
                                         std::size_t length_bytes) {
    const std::lock_guard lock(mutex_);
    if (offset_bytes % kBlockBytes != 0 || length_bytes % kBlockBytes != 0)
        fail(ErrorKind::Failed, "a read of {} is not aligned", path);
    std::vector<std::byte> data;
    const Blocks& blocks = blocksAt(path, offset_bytes);
    for (std::uint64_t block = offset_bytes / kBlockBytes; data.size() < length_bytes; ++block) {
        const auto found = blocks.find(block);
        if (found == blocks.end())
            data.resize(data.size() + kBlockBytes);
        else
            data.insert(data.end(), found->second.begin(), found->second.end());
    }
    return data;
}

void FakeMachine::write(const std::string& path, std::uint64_t offset_bytes,
                        std::span<const std::byte> data) {
    const std::lock_guard lock(mutex_);
    if (offset_bytes % kBlockBytes != 0 || data.size() % kBlockBytes != 0)
        fail(ErrorKind::Failed, "a write to {} is not aligned", path);
    bool tear = false;
    bool kill_after = false;
    step(tear, kill_after);
    Blocks& blocks = blocksAt(path, offset_bytes);
    for (std::uint64_t done = 0; done < data.size(); done += kBlockBytes) {
        auto& block = blocks[(offset_bytes + done) / kBlockBytes];
        const auto part = data.subspan(done, kBlockBytes);
        block.assign(part.begin(), part.end());
        if (tear) {
            block[100] = block[100] ^ std::byte{0xff};
            throw Killed();
        }
    }
    if (kill_after)
        throw Killed();
}

std::vector<std::uint32_t> FakeMachine::snapshotIds(std::optional<Uuid> of) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::uint32_t> ids;
    for (const auto& [uuid, store] : stores_)
        for (const auto& [id, snapshot] : store.snapshots)
            if (!of || of == uuid)
                ids.push_back(id);
    return ids;
}

std::vector<std::uint32_t> FakeMachine::originIds(std::optional<Uuid> of) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::uint32_t> ids;
    for (const auto& [uuid, store] : stores_)
        for (const auto& [id, sectors] : store.origin_sectors)
            if (!of || of == uuid)
                ids.push_back(id);
    return ids;
}

std::vector<std::string> FakeMachine::mappedNames() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [name, mapped] : mapped_)
        names.push_back(name);
    return names;
}

std::vector<MappedTarget> FakeMachine::tableOf(const std::string& mapped_name) const {
    const std::lock_guard lock(mutex_);
    return mapped_.at(mapped_name).table;
}

std::vector<std::string> FakeMachine::messages() const {
    const std::lock_guard lock(mutex_);
    return messages_;
}

void FakeMachine::forgetMessages() {
    const std::lock_guard lock(mutex_);
    messages_.clear();
}

int FakeMachine::eventDescriptor() {
    return events_.get();
}

void FakeMachine::armEvents() {
    std::uint64_t count = 0;
    const ssize_t result = ::read(events_.get(), &count, sizeof(count));
    static_cast<void>(result);  // nothing to read: armed already
}

}  // namespace cowsnap::test
