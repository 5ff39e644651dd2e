// SPDX-License-Identifier: GPL-2.0-or-later
// A D-Bus message: RAII around sd_bus_message, with the names of sd-bus. Knows
// nothing of cowsnap's interfaces.
#ifndef COWSNAP_BUS_MESSAGE_H
#define COWSNAP_BUS_MESSAGE_H

#include <systemd/sd-bus.h>

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "bus/value.h"

namespace cowsnap {

/// A counted reference to a message. Reading and appending throw Error
/// (InvalidArgument for a message from outside that has other types).
class Message {
public:
    Message() = default;
    /// Takes over a reference.
    static Message adopt(sd_bus_message* message) { return Message(message); }
    /// Adds a reference.
    static Message share(sd_bus_message* message) { return Message(sd_bus_message_ref(message)); }
    Message(const Message& other) : message_(sd_bus_message_ref(other.message_)) {}
    Message(Message&& other) noexcept : message_(std::exchange(other.message_, nullptr)) {}
    Message& operator=(Message other) noexcept {
        std::swap(message_, other.message_);
        return *this;
    }
    ~Message() { sd_bus_message_unref(message_); }

    sd_bus_message* get() const { return message_; }
    explicit operator bool() const { return message_ != nullptr; }

    std::string path() const { return orEmpty(sd_bus_message_get_path(message_)); }
    std::string interface() const { return orEmpty(sd_bus_message_get_interface(message_)); }
    std::string member() const { return orEmpty(sd_bus_message_get_member(message_)); }
    std::string signature() const { return orEmpty(sd_bus_message_get_signature(message_, 1)); }
    std::string sender() const { return orEmpty(sd_bus_message_get_sender(message_)); }

    /// Whether its sender lets a user be asked for a password because of it.
    bool allowsInteractiveAuthorization() const {
        return sd_bus_message_get_allow_interactive_authorization(message_) > 0;
    }
    void allowInteractiveAuthorization();
    void setExpectReply(bool expect);
    /// Whether the bus starts the service that it goes to.
    void setAutoStart(bool start);

    void append(const Value& value);
    void appendVariant(const Value& value);
    void append(const Dictionary& dictionary);
    /// aa{sv}
    void append(const std::vector<Dictionary>& dictionaries);
    /// a(os)
    void append(const std::vector<std::pair<ObjectPath, std::string>>& pairs);

    /// h; the message has a descriptor of its own then.
    void append(const FileDescriptor& file);

    /// Opens a container that is appended to until close().
    void open(char type, const char* contents);
    void close();

    bool readBool();
    std::string readString();
    std::uint64_t readUint64();
    ObjectPath readObjectPath();
    /// h: a descriptor of its own.
    FileDescriptor readFile();
    std::vector<std::string> readStrings();
    std::vector<ObjectPath> readObjectPaths();
    /// a(os)
    std::vector<std::pair<ObjectPath, std::string>> readPairs();
    /// One of the types of Value, in a variant; nothing if it is another type, which is skipped.
    std::optional<Value> readVariant();
    /// a{sv}; a value that is none of Value is InvalidArgument.
    Dictionary readDictionary();
    /// a{sv}; values of other types are left out.
    Dictionary readKnown();
    /// aa{sv}; values of other types are left out.
    std::vector<Dictionary> readDictionaries();

    /// All values as text that other values do not have, but for these keys of dictionaries a{sv}
    /// among the arguments. What is read next is the first value afterwards.
    std::string fingerprint(const std::set<std::string>& without_keys);

    /// About how many bytes all values take; beyond limit it is not counted how many more. What is
    /// read next is the first value afterwards.
    std::size_t argumentBytes(std::size_t limit);

    /// Passes over values of these types.
    void skip(const std::string& types);
    /// What is read next is the first value again.
    void rewind();

    /// Enters a container; false at the end of the one around it.
    bool enter(char type, const char* contents);
    void exit();

private:
    explicit Message(sd_bus_message* message) : message_(message) {}
    static std::string orEmpty(const char* text) { return text != nullptr ? text : ""; }
    const char* readBasic(char type);
    std::size_t countRest(std::size_t limit);
    std::string describeRest();
    std::string describeValue(char type, const char* contents);
    std::string describeOptions(const std::set<std::string>& without_keys);
    Value readValue(const std::string& signature);

    sd_bus_message* message_ = nullptr;
};

}  // namespace cowsnap

#endif
