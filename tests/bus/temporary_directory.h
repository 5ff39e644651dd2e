// SPDX-License-Identifier: GPL-2.0-or-later
// A directory that is gone with everything in it when the test ends.
#ifndef COWSNAP_TESTS_TEMPORARY_DIRECTORY_H
#define COWSNAP_TESTS_TEMPORARY_DIRECTORY_H

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace cowsnap::test {

class TemporaryDirectory {
public:
    TemporaryDirectory() {
        std::string name =
            (std::filesystem::temp_directory_path() / "cowsnap-test-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("mkdtemp");
        ::chmod(name.c_str(), 0755);  // an unprivileged caller must reach the bus in it
        path_ = name;
    }
    ~TemporaryDirectory() {
        std::error_code code;
        std::filesystem::remove_all(path_, code);
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

    const std::filesystem::path& path() const { return path_; }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(path_ / name) << text;
    }

private:
    std::filesystem::path path_;
};

}  // namespace cowsnap::test

#endif
