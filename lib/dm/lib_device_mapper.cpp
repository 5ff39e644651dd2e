// SPDX-License-Identifier: GPL-2.0-or-later
// One libdevmapper task a call. What libdevmapper logs at error level becomes a
// part of the Error; the kernel's own words come from its log.
#include "dm/lib_device_mapper.h"

#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/dm-ioctl.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>

#include "base/error.h"
#include "cowsnap_dm.h"
#include "dm/kernel_log.h"
#include "dm/lines.h"

namespace cowsnap {

namespace {

constexpr const char* kControlPath = "/dev/mapper/control";
constexpr int kLibraryWarningLevel = 4;

void logFromLibrary(int level, const char* /*file*/, int /*line*/, int /*error_class*/,
                    const char* format, ...) __attribute__((format(printf, 5, 6)));

void logFromLibrary(int level, const char* /*file*/, int /*line*/, int /*error_class*/,
                    const char* format, ...) {
    constexpr int level_mask = 7;  // higher bits say which stream
    if ((level & level_mask) > kLibraryWarningLevel)
        return;
    std::array<char, 1024> text{};
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text.data(), text.size(), format, arguments);
    va_end(arguments);
    spdlog::debug("libdevmapper: {}", text.data());
}

/// libdevmapper has one list for all threads of the nodes that are to be made or removed. It is not
/// held while a device is made, given a table, suspended or resumed: that can wait for a device
/// that does not answer, and others must not wait for that.
std::mutex& nodesMutex() {
    static std::mutex mutex;
    return mutex;
}

struct TaskDeleter {
    void operator()(dm_task* task) const { dm_task_destroy(task); }
};

/// A dm_task for one device.
class Task {
public:
    explicit Task(int type, const std::string& name = {}) : task_(dm_task_create(type)) {
        if (!task_)
            fail(ErrorKind::NotSupported,
                 "cannot talk to device-mapper: load it with \"modprobe dm_mod\", and be root");
        if (!name.empty())
            require(dm_task_set_name(get(), name.c_str()), "cannot set the name");
    }

    dm_task* get() const { return task_.get(); }

    void require(bool done, std::string_view what) const {
        if (!done)
            fail(ErrorKind::Failed, "{} of a device-mapper task", what);
    }

    void addTargets(const std::vector<MappedTarget>& table) const {
        for (const auto& target : table)
            require(dm_task_add_target(get(), target.start_sector, target.length_sectors,
                                       target.type.c_str(), target.arguments.c_str()),
                    "cannot add a target");
    }

    void run(std::string_view what) const {
        KernelLog log;
        if (dm_task_run(get()))
            return;
        const LoggedCause logged = log.deviceMapperCause();
        const std::string& cause = logged.text;
        // There is none where libdevmapper itself refused.
        const int from_task = dm_task_get_errno(get());
        const int error_number = from_task != 0 ? from_task : logged.error_number;
        const std::string reason =
            error_number == 0 ? "refused by libdevmapper" : std::strerror(error_number);
        fail(error_number == 0 ? ErrorKind::Failed : errorKindFromErrno(error_number),
             "{}: {}{}{}{}", what, reason, cause.empty() ? "" : " (", cause,
             cause.empty() ? "" : ")");
    }

    /// run(), and waits until udev has made or removed the links.
    void runWithUdev(std::string_view what, Visibility visibility) const {
        std::uint32_t cookie = 0;
        constexpr std::uint16_t none_by_the_library = DM_UDEV_DISABLE_LIBRARY_FALLBACK;
        constexpr std::uint16_t hidden = DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG |
                                         DM_UDEV_DISABLE_DISK_RULES_FLAG |
                                         DM_UDEV_DISABLE_OTHER_RULES_FLAG;
        const auto flags = static_cast<std::uint16_t>(
            none_by_the_library | (visibility == Visibility::Visible ? 0 : hidden));
        require(dm_task_set_cookie(get(), &cookie, flags), "cannot set the udev cookie");
        try {
            run(what);
        } catch (...) {
            dm_udev_wait(cookie);
            throw;
        }
        dm_udev_wait(cookie);
    }

    std::vector<MappedTarget> targets() const {
        std::vector<MappedTarget> result;
        void* next = nullptr;
        do {
            MappedTarget target;
            char* type = nullptr;
            char* arguments = nullptr;
            next = dm_get_next_target(get(), next, &target.start_sector, &target.length_sectors,
                                      &type, &arguments);
            if (type == nullptr)
                continue;
            target.type = type;
            target.arguments = arguments != nullptr ? arguments : "";
            result.push_back(std::move(target));
        } while (next != nullptr);
        return result;
    }

private:
    std::unique_ptr<dm_task, TaskDeleter> task_;
};

/// Makes or removes the node of a device, if udev did not make or remove its link.
void updateNode(const std::string& name) {
    const std::lock_guard lock(nodesMutex());
    const Task task(DM_DEVICE_MKNODES, name);
    task.run(fmt::format("cannot make or remove the node of {}", name));
    dm_task_update_nodes();
}

/// The names of all mapped devices.
std::vector<std::string> allNames() {
    const Task task(DM_DEVICE_LIST);
    task.run("cannot list the devices of device-mapper");
    std::vector<std::string> result;
    const dm_names* names = dm_task_get_names(task.get());
    if (names == nullptr || names->dev == 0)
        return result;
    const char* position = reinterpret_cast<const char*>(names);
    for (;;) {
        const auto* entry = reinterpret_cast<const dm_names*>(position);
        result.emplace_back(entry->name);
        if (entry->next == 0)
            return result;
        position += entry->next;
    }
}

std::optional<MappedDevice> deviceNamed(const std::string& name) {
    const Task task(DM_DEVICE_INFO, name);
    task.run(fmt::format("cannot ask for the device {}", name));
    dm_info info{};
    task.require(dm_task_get_info(task.get(), &info), "cannot read the information");
    if (!info.exists)
        return std::nullopt;
    const char* uuid = dm_task_get_uuid(task.get());
    return MappedDevice{name,
                        uuid != nullptr ? uuid : "",
                        {info.major, info.minor},
                        info.open_count < 0 ? 0 : static_cast<std::uint32_t>(info.open_count),
                        info.event_nr,
                        info.live_table != 0,
                        info.inactive_table != 0,
                        info.suspended != 0};
}

std::vector<MappedTarget> targetsOf(int type, const std::string& name, std::string_view what) {
    const Task task(type, name);
    dm_task_no_flush(task.get());
    task.run(fmt::format("cannot read the {} of {}", what, name));
    dm_info info{};
    task.require(dm_task_get_info(task.get(), &info), "cannot read the information");
    if (!info.exists)
        fail(ErrorKind::NotFound, "there is no device {}", name);
    return task.targets();
}

}  // namespace

LibDeviceMapper::LibDeviceMapper() {
    dm_log_with_errno_init(logFromLibrary);
    const bool udev_runs = ::access("/run/udev/control", F_OK) == 0;
    dm_udev_set_sync_support(udev_runs ? 1 : 0);
    const Task task(DM_DEVICE_VERSION);  // makes the control node if there is none
    task.run("cannot ask for the version of device-mapper");
    control_ = FileDescriptor(::open(kControlPath, O_RDWR | O_CLOEXEC));
    if (!control_)
        failErrno(errno, fmt::format("cannot open {}", kControlPath));
}

std::vector<MappedDevice> LibDeviceMapper::devices() {
    std::vector<MappedDevice> result;
    for (const auto& name : allNames()) {
        auto device = deviceNamed(name);
        if (device && device->uuid.starts_with(COWSNAP_DM_UUID_PREFIX))
            result.push_back(std::move(*device));
    }
    return result;
}

bool LibDeviceMapper::nameTaken(const std::string& name) {
    return deviceNamed(name).has_value();
}

// Neither this nor the resume has libdevmapper remember a node: see updateNode().

void LibDeviceMapper::make(const std::string& name, const std::string& uuid) {
    const Task task(DM_DEVICE_CREATE, name);
    task.require(dm_task_set_uuid(task.get(), uuid.c_str()), "cannot set the UUID");
    task.require(dm_task_set_add_node(task.get(), DM_ADD_NODE_ON_RESUME),
                 "cannot put off the node");
    task.run(fmt::format("cannot make the device {}", name));
}

void LibDeviceMapper::load(const std::string& name, const std::vector<MappedTarget>& table,
                           bool read_only) {
    const Task task(DM_DEVICE_RELOAD, name);
    task.addTargets(table);
    if (read_only)
        task.require(dm_task_set_ro(task.get()), "cannot set the read-only mode");
    task.run(fmt::format("cannot load the table of {}", name));
}

void LibDeviceMapper::clear(const std::string& name) {
    const Task task(DM_DEVICE_CLEAR, name);
    task.run(fmt::format("cannot clear the inactive table of {}", name));
}

void LibDeviceMapper::suspend(const std::string& name) {
    const Task task(DM_DEVICE_SUSPEND, name);
    task.run(fmt::format("cannot suspend {}", name));
}

void LibDeviceMapper::resume(const std::string& name, Visibility visibility) {
    const Task task(DM_DEVICE_RESUME, name);
    task.require(dm_task_set_add_node(task.get(), DM_ADD_NODE_ON_CREATE),
                 "cannot put off the node");
    task.runWithUdev(fmt::format("cannot resume {}", name), visibility);
    updateNode(name);
}

void LibDeviceMapper::remove(const std::string& name, Visibility visibility) {
    const Task task(DM_DEVICE_REMOVE, name);
    dm_task_retry_remove(task.get());
    {
        // Without udev libdevmapper remembers to remove the node.
        std::unique_lock lock(nodesMutex(), std::defer_lock);
        if (dm_udev_get_sync_support() == 0)
            lock.lock();
        task.runWithUdev(fmt::format("cannot remove the device {}", name), visibility);
    }
    updateNode(name);
}

std::vector<MappedTarget> LibDeviceMapper::table(const std::string& name) {
    return targetsOf(DM_DEVICE_TABLE, name, "table");
}

std::vector<MappedTarget> LibDeviceMapper::tableOf(DeviceNumber number) {
    if (dm_is_dm_major(number.major) == 0)
        return {};
    const Task task(DM_DEVICE_TABLE);
    task.require(dm_task_set_major(task.get(), static_cast<int>(number.major)) != 0 &&
                     dm_task_set_minor(task.get(), static_cast<int>(number.minor)) != 0,
                 "cannot set the number");
    dm_task_no_flush(task.get());
    task.run(fmt::format("cannot read the table of {}", number.text()));
    return task.targets();
}

std::vector<MappedTarget> LibDeviceMapper::status(const std::string& name) {
    return targetsOf(DM_DEVICE_STATUS, name, "status");
}

std::string LibDeviceMapper::message(const std::string& name, const std::string& text) {
    const Task task(DM_DEVICE_TARGET_MSG, name);
    task.require(dm_task_set_sector(task.get(), 0), "cannot set the sector");
    task.require(dm_task_set_message(task.get(), text.c_str()), "cannot set the message");
    task.run(fmt::format("{} refused the message \"{}\"", name, briefMessage(text)));
    const char* answer = dm_task_get_message_response(task.get());
    return answer != nullptr ? answer : "";
}

std::optional<TargetVersion> LibDeviceMapper::targetVersion(const std::string& type) {
    const Task task(DM_DEVICE_LIST_VERSIONS);
    task.run("cannot list the targets of device-mapper");
    const dm_versions* versions = dm_task_get_versions(task.get());
    if (versions == nullptr)
        return std::nullopt;
    const char* position = reinterpret_cast<const char*>(versions);
    for (;;) {
        const auto* entry = reinterpret_cast<const dm_versions*>(position);
        if (type == entry->name)
            return TargetVersion{entry->version[0], entry->version[1], entry->version[2]};
        if (entry->next == 0)
            return std::nullopt;
        position += entry->next;
    }
}

int LibDeviceMapper::eventDescriptor() {
    return control_.get();
}

void LibDeviceMapper::armEvents() {
    dm_ioctl request{};
    request.version[0] = DM_VERSION_MAJOR;
    request.version[1] = 37;  // the first that has DM_DEV_ARM_POLL
    request.data_size = sizeof(request);
    request.data_start = sizeof(request);
    if (::ioctl(control_.get(), DM_DEV_ARM_POLL, &request) < 0)
        failErrno(errno, "cannot wait for events of device-mapper");
}

}  // namespace cowsnap
