// SPDX-License-Identifier: GPL-2.0-or-later
// Device-mapper and block devices as the engine uses them: calls that can wait for a device, or for
// what else is done in the kernel, let others into the engine meanwhile. Calls that only look up
// which devices there are do not, so that loops over many stores may make them.
#ifndef COWSNAP_MODEL_STEPPING_OUT_H
#define COWSNAP_MODEL_STEPPING_OUT_H

#include <functional>

#include "block/block_devices.h"
#include "dm/device_mapper.h"
#include "model/turns.h"

namespace cowsnap {

class SteppingOutMapper final : public DeviceMapper {
public:
    SteppingOutMapper(DeviceMapper& mapper, Turns& turns) : mapper_(mapper), turns_(turns) {}

    // These step out.
    void create(const std::string& name, const std::string& uuid,
                const std::vector<MappedTarget>& table, Visibility visibility,
                bool read_only) override {
        const StepOut out(turns_);
        mapper_.create(name, uuid, table, visibility, read_only);
    }
    /// As one: who is in meanwhile may wait for the device that is suspended.
    void reload(const std::string& name, const std::vector<MappedTarget>& table,
                Visibility visibility) override {
        const StepOut out(turns_);
        mapper_.reload(name, table, visibility);
    }
    void make(const std::string& name, const std::string& uuid) override {
        const StepOut out(turns_);
        mapper_.make(name, uuid);
    }
    void load(const std::string& name, const std::vector<MappedTarget>& table,
              bool read_only) override {
        const StepOut out(turns_);
        mapper_.load(name, table, read_only);
    }
    void clear(const std::string& name) override {
        const StepOut out(turns_);
        mapper_.clear(name);
    }
    void suspend(const std::string& name) override {
        const StepOut out(turns_);
        mapper_.suspend(name);
    }
    void resume(const std::string& name, Visibility visibility) override {
        const StepOut out(turns_);
        mapper_.resume(name, visibility);
    }
    void remove(const std::string& name, Visibility visibility) override {
        const StepOut out(turns_);
        mapper_.remove(name, visibility);
    }
    std::string message(const std::string& name, const std::string& text) override {
        const StepOut out(turns_);
        return mapper_.message(name, text);
    }
    std::vector<MappedTarget> table(const std::string& name) override {
        const StepOut out(turns_);
        return mapper_.table(name);
    }
    std::vector<MappedTarget> tableOf(DeviceNumber number) override {
        const StepOut out(turns_);
        return mapper_.tableOf(number);
    }
    std::vector<MappedTarget> status(const std::string& name) override {
        const StepOut out(turns_);
        return mapper_.status(name);
    }

    std::vector<MappedDevice> devices() override { return mapper_.devices(); }
    bool nameTaken(const std::string& name) override { return mapper_.nameTaken(name); }
    std::optional<TargetVersion> targetVersion(const std::string& type) override {
        return mapper_.targetVersion(type);
    }
    int eventDescriptor() override { return mapper_.eventDescriptor(); }
    void armEvents() override { mapper_.armEvents(); }

private:
    DeviceMapper& mapper_;
    Turns& turns_;
};

class SteppingOutDevices final : public BlockDevices {
public:
    SteppingOutDevices(BlockDevices& devices, Turns& turns) : devices_(devices), turns_(turns) {}

    // These step out.
    std::optional<DeviceUser> user(const std::string& path) override {
        const StepOut out(turns_);
        return devices_.user(path);
    }
    std::string contents(const std::string& path) override {
        const StepOut out(turns_);
        return devices_.contents(path);
    }
    std::vector<std::byte> read(const std::string& path, std::uint64_t offset_bytes,
                                std::size_t length_bytes) override {
        const StepOut out(turns_);
        return devices_.read(path, offset_bytes, length_bytes);
    }
    void write(const std::string& path, std::uint64_t offset_bytes,
               std::span<const std::byte> data) override {
        const StepOut out(turns_);
        devices_.write(path, offset_bytes, data);
    }

    /// What is done meanwhile steps out by itself.
    void exclusively(const std::string& path, const std::function<void()>& action) override {
        devices_.exclusively(path, action);
    }
    void announce(DeviceNumber number) override { devices_.announce(number); }
    BlockDevice describe(const std::string& path) override { return devices_.describe(path); }
    std::vector<std::string> lasting() override { return devices_.lasting(); }
    std::string pathOf(DeviceNumber number) override { return devices_.pathOf(number); }
    std::uint64_t sizeOf(DeviceNumber number) override { return devices_.sizeOf(number); }
    std::vector<std::string> withSerial(const std::string& serial, unsigned partition) override {
        return devices_.withSerial(serial, partition);
    }
    std::vector<DeviceNumber> below(DeviceNumber number) override { return devices_.below(number); }
    std::vector<DeviceNumber> above(DeviceNumber number) override { return devices_.above(number); }
    std::optional<std::uint64_t> startOf(DeviceNumber number) override {
        return devices_.startOf(number);
    }
    std::vector<DeviceNumber> partitions(DeviceNumber number) override {
        return devices_.partitions(number);
    }

private:
    BlockDevices& devices_;
    Turns& turns_;
};

}  // namespace cowsnap

#endif
