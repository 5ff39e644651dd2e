// SPDX-License-Identifier: GPL-2.0-or-later
// The block devices of this machine, through /dev, /sys, /proc and libblkid.
#ifndef COWSNAP_BLOCK_LINUX_BLOCK_DEVICES_H
#define COWSNAP_BLOCK_LINUX_BLOCK_DEVICES_H

#include "block/block_devices.h"

namespace cowsnap {

class LinuxBlockDevices final : public BlockDevices {
public:
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
};

}  // namespace cowsnap

#endif
