// SPDX-License-Identifier: GPL-2.0-or-later
// An open file that closes itself. Knows nothing of what is in it.
#ifndef COWSNAP_BASE_FILE_DESCRIPTOR_H
#define COWSNAP_BASE_FILE_DESCRIPTOR_H

#include <unistd.h>

#include <utility>

namespace cowsnap {

class FileDescriptor {
public:
    FileDescriptor() = default;
    explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
    FileDescriptor(FileDescriptor&& other) noexcept
        : descriptor_(std::exchange(other.descriptor_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    ~FileDescriptor() {
        if (descriptor_ >= 0)
            ::close(descriptor_);
    }

    int get() const { return descriptor_; }
    explicit operator bool() const { return descriptor_ >= 0; }

private:
    int descriptor_ = -1;
};

}  // namespace cowsnap

#endif
