// SPDX-License-Identifier: GPL-2.0-or-later
// The volume groups of the fake machine.
#include <stdexcept>

#include "base/error.h"
#include "fake_machine.h"

namespace cowsnap::test {

namespace {

constexpr std::uint64_t kExtentBytes = 4ULL << 20;

std::string uuidOfLength32(const std::string& name) {
    std::string uuid = name;
    uuid.resize(32, 'x');
    return uuid;
}

}  // namespace

FakeMachine::Group& FakeMachine::group(const std::string& name) {
    const auto found = groups_.find(name);
    if (found == groups_.end())
        fail(ErrorKind::Failed, "lvm failed: Volume group \"{}\" not found", name);
    return found->second;
}

void FakeMachine::addVolumeGroup(const std::string& name, std::uint64_t free_extents,
                                 const std::vector<std::string>& devices) {
    const std::lock_guard lock(mutex_);
    groups_[name].devices = devices;
    groups_[name].group = {uuidOfLength32(name), name, kExtentBytes, free_extents * kExtentBytes};
}

void FakeMachine::addVolumeLocked(Group& group, const std::string& name, std::uint64_t extents,
                                  const std::set<std::string>& tags) {
    const std::string path = "/dev/" + group.group.name + "/" + name;
    Disk& disk = disks_[path];
    disk.number = {253, next_minor_++};
    disk.sectors = extents * kExtentBytes / kSectorBytes;
    disk.serial = "LVM-" + group.group.uuid + uuidOfLength32(name);
    group.volumes.push_back({name, path, tags});
}

void FakeMachine::addVolume(const std::string& group, const std::string& name,
                            std::uint64_t extents, const std::set<std::string>& tags) {
    const std::lock_guard lock(mutex_);
    addVolumeLocked(this->group(group), name, extents, tags);
}

void FakeMachine::renameVolumeGroup(const std::string& name, const std::string& new_name) {
    const std::lock_guard lock(mutex_);
    auto node = groups_.extract(name);
    node.key() = new_name;
    node.mapped().group.name = new_name;
    groups_.insert(std::move(node));
}

std::vector<std::string> FakeMachine::volumeNames(const std::string& group) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& volume : groups_.at(group).volumes)
        names.push_back(volume.name);
    return names;
}

unsigned FakeMachine::groupCalls() const {
    const std::lock_guard lock(mutex_);
    return group_calls_;
}

std::vector<VolumeGroup> FakeMachine::groups() {
    const std::lock_guard lock(mutex_);
    ++group_calls_;
    std::vector<VolumeGroup> all;
    for (const auto& [name, group] : groups_)
        all.push_back(group.group);
    return all;
}

std::vector<std::string> FakeMachine::devicesOf(const VolumeGroup& wanted) {
    const std::lock_guard lock(mutex_);
    ++group_calls_;
    return group(wanted.name).devices;
}

std::optional<VolumeGroup> FakeMachine::findGroup(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    ++group_calls_;
    for (const auto& [name, group] : groups_)
        if (group.group.uuid == uuid)
            return group.group;
    return std::nullopt;
}

std::vector<LogicalVolume> FakeMachine::volumesOf(const VolumeGroup& wanted) {
    const std::lock_guard lock(mutex_);
    ++group_calls_;
    return group(wanted.name).volumes;
}

std::string FakeMachine::createVolume(const VolumeGroup& wanted, const std::string& name,
                                      std::uint64_t extents, const std::string& tag) {
    const std::lock_guard lock(mutex_);
    ++group_calls_;
    bool tear = false;
    bool kill_after = false;
    step(tear, kill_after);
    if (tear)
        throw Killed();
    // As real ones do: lvm(8), "Valid names".
    for (const char* const start : {"snapshot", "pvmove"})
        if (name.starts_with(start))
            fail(ErrorKind::Failed, "lvm lvcreate failed: Names starting \"{}\" are reserved",
                 start);
    for (const char* const part : {"_tdata", "_tmeta", "_cdata", "_mlog", "_mimage", "_pmspare"})
        if (name.find(part) != std::string::npos)
            fail(ErrorKind::Failed, "lvm lvcreate failed: Names including \"{}\" are reserved",
                 part);
    Group& found = group(wanted.name);
    for (const auto& volume : found.volumes)
        if (volume.name == name)
            fail(ErrorKind::Failed, "lvm lvcreate failed: {} exists", name);
    if (extents == 0 || extents * kExtentBytes > found.group.free_bytes)
        fail(ErrorKind::Failed, "lvm lvcreate failed: insufficient free space");
    found.group.free_bytes -= extents * kExtentBytes;
    addVolumeLocked(found, name, extents, {tag});
    const std::string path = found.volumes.back().path;
    // What was there before, but for known signatures.
    disk(path).blocks[5] = std::vector<std::byte>(4096, std::byte{0x77});
    if (kill_after)
        throw Killed();
    return path;
}

}  // namespace cowsnap::test
