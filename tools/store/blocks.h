// SPDX-License-Identifier: GPL-2.0-or-later
// The blocks of a store: on devices or image files, and a shadow of them that is written to in
// memory. Knows nothing of what the blocks mean.
#ifndef COWSNAP_STORE_BLOCKS_H
#define COWSNAP_STORE_BLOCKS_H

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/file_descriptor.h"

namespace cowsnap::store {

inline constexpr std::size_t kBlockBytes = 4096;

class Blocks {
public:
    Blocks() = default;
    Blocks(const Blocks&) = delete;
    Blocks& operator=(const Blocks&) = delete;
    virtual ~Blocks() = default;

    /// How many there are.
    virtual std::uint64_t size() const = 0;
    /// 0 or a negative errno.
    virtual int read(std::uint64_t block, std::uint64_t count, void* to) = 0;
    /// 0 or a negative errno; durable when it returns.
    virtual int write(std::uint64_t block, std::uint64_t count, const void* from) = 0;
};

/// Where a block of the store is.
struct Place {
    std::string device;
    std::uint64_t block = 0;  ///< of the device
};

/// Devices or image files, one behind the other, each cut to whole blocks.
class DeviceBlocks : public Blocks {
public:
    enum class Access { ReadOnly, ReadWrite };

    /// Opens all of them. ReadWrite: block devices exclusively, so that nobody starts to use them
    /// meanwhile. Throws Error.
    DeviceBlocks(const std::vector<std::string>& paths, Access access);

    std::uint64_t size() const override { return size_; }
    int read(std::uint64_t block, std::uint64_t count, void* to) override;
    int write(std::uint64_t block, std::uint64_t count, const void* from) override;

    Place place(std::uint64_t block) const;
    /// The first device that has none of the first so many blocks; empty if each has some.
    std::string behind(std::uint64_t blocks) const;
    /// Makes blocks zero, durably, as fast as the device can. Throws Error.
    void zero(std::uint64_t block, std::uint64_t count);

private:
    struct Device {
        std::string path;
        FileDescriptor file;
        std::uint64_t first_block = 0;
        std::uint64_t blocks = 0;
        bool is_block_device = false;
        // which it is, under whatever name
        dev_t number = 0;
        ino_t inode = 0;
    };
    using Step = std::function<int(const Device& device, std::uint64_t block, std::uint64_t count,
                                   std::uint64_t done)>;

    int eachDevice(std::uint64_t block, std::uint64_t count, const Step& step);

    std::vector<Device> devices_;
    std::uint64_t size_ = 0;
};

/// What others see as written is kept here; the blocks below stay as they are.
class ShadowBlocks : public Blocks {
public:
    explicit ShadowBlocks(Blocks& below) : below_(below) {}

    std::uint64_t size() const override { return below_.get().size(); }
    int read(std::uint64_t block, std::uint64_t count, void* to) override;
    int write(std::uint64_t block, std::uint64_t count, const void* from) override;

    /// Writes in the order in which they were made.
    std::uint64_t writes() const { return log_.size(); }
    /// Makes them below, in that order. 0 or the errno of the one that failed.
    int apply();

private:
    using Block = std::array<std::byte, kBlockBytes>;
    struct Write {
        std::uint64_t block;
        std::vector<std::byte> data;
    };

    std::reference_wrapper<Blocks> below_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Block>> changed_;
    std::vector<Write> log_;
};

/// Who uses the device or image file ("mounted on /home", "in use by dm-3"); empty if nobody does.
std::string userOf(const std::string& path);

}  // namespace cowsnap::store

#endif
