// SPDX-License-Identifier: GPL-2.0-or-later
#include "journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <system_error>

namespace vmtest {

enum class Journal::Kind : std::uint64_t {
    Creating = 1,
    Created,
    Deleting,
    Deleted,
    Writing,
    Written,
    OriginFlushed,
    OriginExact,
    LastId,
};

namespace {

constexpr std::uint64_t kMagic = 0x6c616e72756f4aU;

/// Before each note; `check` tells one whose end a power cut has taken.
struct Header {
    std::uint64_t magic;
    std::uint64_t kind;
    std::uint64_t id;
    std::uint64_t stamps;
    std::uint64_t check;
};

std::uint64_t checkOf(const Header& header, const Image& image) {
    std::uint64_t check = header.kind * 31 + header.id * 37 + header.stamps;
    for (const Stamp stamp : image)
        check = check * 0x100000001b3U + stamp;
    return check;
}

void put(int file, const void* bytes, std::size_t size) {
    const auto* at = static_cast<const char*>(bytes);
    while (size > 0) {
        const ssize_t done = ::write(file, at, size);
        if (done < 0)
            throw std::system_error(errno, std::generic_category(), "write to the journal");
        at += done;
        size -= static_cast<std::size_t>(done);
    }
}

bool get(std::istream& file, Header& header, Image& image) {
    if (!file.read(reinterpret_cast<char*>(&header), sizeof(header)) || header.magic != kMagic)
        return false;
    image.resize(header.stamps);
    const auto bytes = static_cast<std::streamsize>(header.stamps * sizeof(Stamp));
    if (!file.read(reinterpret_cast<char*>(image.data()), bytes))
        return false;
    return header.check == checkOf(header, image);
}

PendingWrite writeOf(const Header& header, const Image& image) {
    return {.snapshot = header.id, .first = image[0], .count = image[1], .stamp = image[2]};
}

void applyWrite(const PendingWrite& write, Image& image) {
    std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(write.first), write.count, write.stamp);
}

}  // namespace

Journal::Journal(const std::string& path) : path_(path) {
    if (!path.empty())
        open(path, O_WRONLY | O_CREAT | O_APPEND);
}

void Journal::open(const std::string& path, int flags) {
    file_ = cowsnap::FileDescriptor(::open(path.c_str(), flags | O_CLOEXEC, 0600));
    if (!file_)
        throw std::system_error(errno, std::generic_category(), "open " + path);
}

void Journal::note(Kind kind, std::uint64_t id, const Image& image) {
    if (!file_)
        return;
    Header header{kMagic, static_cast<std::uint64_t>(kind), id, image.size(), 0};
    header.check = checkOf(header, image);
    put(file_.get(), &header, sizeof(header));
    put(file_.get(), image.data(), image.size() * sizeof(Stamp));
    if (::fsync(file_.get()) != 0)
        throw std::system_error(errno, std::generic_category(), "sync of the journal");
}

Knowledge Journal::replay() const {
    Knowledge known;
    if (path_.empty())
        return known;
    std::ifstream file(path_, std::ios::binary);
    Header header{};
    Image image;
    while (get(file, header, image)) {
        known.last_id = std::max(known.last_id, header.id);
        switch (static_cast<Kind>(header.kind)) {
            case Kind::Creating:
                known.creating = header.id;
                break;
            case Kind::Created:
                known.creating.reset();
                known.snapshots[header.id] = image;
                break;
            case Kind::Deleting:
                known.deleting = header.id;
                known.snapshots.erase(header.id);
                break;
            case Kind::Deleted:
                known.deleting.reset();
                break;
            case Kind::Writing:
                known.writing = writeOf(header, image);
                break;
            case Kind::Written:
                known.writing.reset();
                applyWrite(writeOf(header, image), known.snapshots.at(header.id));
                break;
            case Kind::OriginFlushed:
            case Kind::OriginExact:
                known.origin = image;
                known.origin_exact = static_cast<Kind>(header.kind) == Kind::OriginExact;
                break;
            case Kind::LastId:
                break;
        }
    }
    return known;
}

void Journal::restart(const Knowledge& knowledge) {
    if (path_.empty())
        return;
    const std::string next = path_ + ".new";
    open(next, O_WRONLY | O_CREAT | O_TRUNC);
    note(Kind::LastId, knowledge.last_id, {});
    note(Kind::OriginFlushed, 0, knowledge.origin);
    for (const auto& [id, image] : knowledge.snapshots)
        note(Kind::Created, id, image);
    if (std::rename(next.c_str(), path_.c_str()) != 0)
        throw std::system_error(errno, std::generic_category(), "rename " + next);
    ::sync();
}

void Journal::creating(std::uint64_t id) {
    note(Kind::Creating, id, {});
}

void Journal::created(std::uint64_t id, const Image& image) {
    note(Kind::Created, id, image);
}

void Journal::deleting(std::uint64_t id) {
    note(Kind::Deleting, id, {});
}

void Journal::deleted(std::uint64_t id) {
    note(Kind::Deleted, id, {});
}

void Journal::writing(const PendingWrite& write) {
    note(Kind::Writing, write.snapshot, {write.first, write.count, write.stamp});
}

void Journal::written(const PendingWrite& write) {
    note(Kind::Written, write.snapshot, {write.first, write.count, write.stamp});
}

void Journal::originFlushed(const Image& image) {
    note(Kind::OriginFlushed, 0, image);
}

void Journal::originExact(const Image& image) {
    note(Kind::OriginExact, 0, image);
}

}  // namespace vmtest
