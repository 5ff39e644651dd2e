// SPDX-License-Identifier: GPL-2.0-or-later
// Device-mapper through libdevmapper and /dev/mapper/control.
#ifndef COWSNAP_DM_LIB_DEVICE_MAPPER_H
#define COWSNAP_DM_LIB_DEVICE_MAPPER_H

#include "base/file_descriptor.h"
#include "dm/device_mapper.h"

namespace cowsnap {

/// The kernel's device-mapper. Works with and without a running udevd: without,
/// libdevmapper makes the device nodes.
class LibDeviceMapper final : public DeviceMapper {
public:
    /// Throws Error (NotSupported) if the kernel has no device-mapper.
    LibDeviceMapper();

    std::vector<MappedDevice> devices() override;
    bool nameTaken(const std::string& name) override;
    void make(const std::string& name, const std::string& uuid) override;
    void load(const std::string& name, const std::vector<MappedTarget>& table,
              bool read_only) override;
    void clear(const std::string& name) override;
    void suspend(const std::string& name) override;
    void resume(const std::string& name, Visibility visibility) override;
    void remove(const std::string& name, Visibility visibility) override;
    std::vector<MappedTarget> table(const std::string& name) override;
    std::vector<MappedTarget> tableOf(DeviceNumber number) override;
    std::vector<MappedTarget> status(const std::string& name) override;
    std::string message(const std::string& name, const std::string& text) override;
    std::optional<TargetVersion> targetVersion(const std::string& type) override;
    int eventDescriptor() override;
    void armEvents() override;

private:
    FileDescriptor control_;
};

}  // namespace cowsnap

#endif
