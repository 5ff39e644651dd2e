// SPDX-License-Identifier: GPL-2.0-or-later
// Names, UUIDs, checksums and kinds of errors.
#include <catch2/catch.hpp>

#include <string>

#include "base/crc32c.h"
#include "base/directory_lock.h"
#include "base/error.h"
#include "base/names.h"
#include "base/uuid.h"
#include "temporary_directory.h"

using namespace cowsnap;
using cowsnap::test::TemporaryDirectory;

TEST_CASE("names are 1 to 127 bytes of UTF-8 without slashes and control characters") {
    for (const std::string& name :
         {std::string("a"), std::string(127, 'x'), std::string("vor dem Änderung"),
          std::string("日本"), std::string("..."), std::string("a'b$(c)")})
        CHECK_NOTHROW(checkName("snapshot", name));
    const auto message = [](const std::string& name) {
        try {
            checkName("snapshot", name);
        } catch (const Error& error) {
            CHECK(error.kind() == ErrorKind::InvalidArgument);
            return std::string(error.what());
        }
        return std::string("accepted");
    };
    using Catch::Contains;
    CHECK_THAT(message(""), Contains("empty"));
    CHECK_THAT(message(std::string(128, 'x')), Contains("127"));
    CHECK_THAT(message("a/b"), Contains("'/'"));
    CHECK_THAT(message("."), Contains("cannot be"));
    CHECK_THAT(message(".."), Contains("cannot be"));
    CHECK_THAT(message("a\nb"), Contains("control"));
    CHECK_THAT(message("a\x7f"), Contains("control"));
    CHECK_THAT(message("a\xc2\x85"), Contains("control"));
    for (const char* const bad :
         {"\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3", "a\x80"})
        CHECK_THAT(message(bad), Contains("UTF-8"));
}

TEST_CASE("a refused name is called what it is the name of") {
    CHECK_THROWS_WITH(checkName("origin", ""), "the name of an origin must not be empty");
    CHECK_THROWS_WITH(checkName("store", ".."), "\"..\" cannot be the name of a store");
}

TEST_CASE("a directory is locked by one at a time, as long as that one lives") {
    const TemporaryDirectory directory;
    const auto path = directory.path() / "made" / "for-it";
    {
        const FileDescriptor first = lockDirectory(path);
        CHECK(first);
        CHECK_FALSE(lockDirectory(path));
    }
    CHECK(lockDirectory(path));
    directory.write("file", "");
    CHECK_THROWS_AS(lockDirectory(directory.path() / "file"), Error);
}

TEST_CASE("a name in a command is one word, whatever is in it") {
    CHECK(shellWord("before-upgrade") == "before-upgrade");
    CHECK(shellWord("/dev/sdb1") == "/dev/sdb1");
    CHECK(shellWord("two words") == "'two words'");
    CHECK(shellWord("it's $(x)") == "'it'\\''s $(x)'");
    CHECK(shellWord("") == "''");
    CHECK(shellWords(std::vector<std::string>{"a", "b c"}) == "a 'b c'");
}

TEST_CASE("what is no UTF-8, or no character, is replaced, and nothing else") {
    for (const char* const text : {"", "plain", "\xc3\xa4", "\xef\xb7\x8f", "\xef\xbf\xbd",
                                   "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbd"})
        CHECK(legible(text) == text);
    const std::string instead = "\xef\xbf\xbd";
    CHECK(legible("a\xff\xc3z") == "a" + instead + instead + "z");
    CHECK(legible("\xed\xa0\x80") == instead + instead + instead);
    for (const char* const text : {"\xef\xb7\x90", "\xef\xb7\xaf", "\xef\xbf\xbe", "\xef\xbf\xbf",
                                   "\xf0\x9f\xbf\xbe", "\xf4\x8f\xbf\xbf"})
        CHECK(legible(text) == instead);
}

TEST_CASE("text that is too long is cut between two characters") {
    CHECK(shortened("abcdef", 6) == "abcdef");
    CHECK(shortened("abcdefg", 6) == "abc...");
    CHECK(shortened("ab\xc3\xa4"
                    "defg",
                    6) == "ab...");
    CHECK(shortened("\x80\x80\x80\x80\x80", 4) == "...");
}

TEST_CASE("names of mapped devices hold only harmless characters") {
    CHECK(asDeviceMapperName("sdb1") == "sdb1");
    CHECK(asDeviceMapperName("a b/ü") == "a_b___");
    CHECK(asDeviceMapperName(std::string(127, 'x')).size() == 64);
}

TEST_CASE("names of logical volumes are none that LVM keeps for itself") {
    CHECK(asVolumeName("main") == "main");
    CHECK(asVolumeName("-x") == "_-x");
    CHECK(asVolumeName("snapshots") == "_snapshots");
    CHECK(asVolumeName("pvmove0") == "_pvmove0");
    CHECK(asVolumeName("my snapshots") == "my_snapshots");
    CHECK(asVolumeName("a_tdata_tdata") == "a.tdata.tdata");
    CHECK(asVolumeName("a mlog") == "a.mlog");
}

TEST_CASE("UUIDs are read in all their spellings and nothing else") {
    const std::string text = "01234567-89ab-cdef-0123-456789abcdef";
    const Uuid uuid = *Uuid::parse(text);
    CHECK(uuid.dashed() == text);
    CHECK(Uuid::parse(uuid.hex()) == uuid);
    CHECK(Uuid::parse(uuid.underscored()) == uuid);
    CHECK(Uuid::parse("01234567-89AB-CDEF-0123-456789ABCDEF") == uuid);
    for (const char* const bad :
         {"", "0", "01234567-89ab_cdef-0123-456789abcdef", "01234567.89ab.cdef.0123.456789abcdef",
          "0123456789abcdef0123456789abcdeg", "01234567-89ab-cdef-0123-456789abcde"})
        CHECK_FALSE(Uuid::parse(bad));
    CHECK(Uuid::random() != Uuid::random());
}

TEST_CASE("CRC32C is that of iSCSI") {
    const std::string digits = "123456789";
    CHECK(crc32c(std::as_bytes(std::span(digits))) == 0xe3069283u);
    CHECK(crc32c({}) == 0);
}

TEST_CASE("each kind of error has a D-Bus name that leads back to it") {
    for (const auto kind :
         {ErrorKind::InvalidArgument, ErrorKind::NotFound, ErrorKind::Exists, ErrorKind::Busy,
          ErrorKind::Held, ErrorKind::NoSpace, ErrorKind::Overflowed, ErrorKind::NotSupported,
          ErrorKind::NotAuthorized, ErrorKind::Cancelled, ErrorKind::MetadataCorrupt,
          ErrorKind::Stale, ErrorKind::Failed})
        CHECK(errorKindFromBusName(Error(kind, "").busName()) == kind);
    CHECK_FALSE(errorKindFromBusName("org.cowsnap1.Error.Odd"));
    CHECK_FALSE(errorKindFromBusName("org.freedesktop.DBus.Error.Failed"));
}
