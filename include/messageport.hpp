// messageport.hpp: the Web's MessagePort for native processes, for C++17 and later.
//
// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A thin layer over messageport.h, which explains every word and every rule. Each function calls the function of the
// same name there, at no further cost.
//
//     channel               Two entangled ports: port1 and port2.
//     port                  Owns one end of a channel and closes it on destruction. Movable, not copyable.
//     port_ref              Borrows a port.
//     sender, receiver      Own the halves of a port that was split, for two threads.
//     message               A received message, or memory to receive into.
//     in_place              A message that is read in the shared memory.
//     reservation           A message that is written in the shared memory.
//     buffer                Memory with one holder at a time.
//     frozen                Memory that no process can write.
//     shared                Memory that several holders read and write.
//     descriptor            Owns a descriptor.
//     item                  An entry of a transfer list.
//     event_loop, remote    Handlers, timers and tasks; a handle of a loop for other threads.
//     port_set              Returns the next event of many ports.
//     client, server        Request and answer.
//     listener, connect     Meeting by name.
//     spawn_with_port, parent_port   Child processes with a port.
//     result<T>             A T or a failure: std::expected where the standard library has it, a small equivalent
//                           elsewhere.
//     failure               A code of messageport.h.
//
// Waiting is spelled the same everywhere: x() waits without limit, try_x() does not wait, x_for() waits for a time and
// x_until() until a time. Only posting does not wait by default: post_message(), and post_message_wait() without limit.
//
// Functions that can fail return a result and throw nothing; value() of a result throws if there is no value.
#ifndef MESSAGEPORT_HPP
#define MESSAGEPORT_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include <unistd.h>

#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif
#if defined(__cpp_lib_expected)
#include <expected>
#endif

#include "messageport.h"

namespace messageport {

// The types below depend on the version of the standard library. Different names keep programs that mix versions from
// linking functions of one to the other.
#if defined(__cpp_lib_expected)
inline namespace with_expected {
#elif defined(__cpp_lib_span)
inline namespace with_span {
#else
inline namespace plain {
#endif

// ---- Results -----------------------------------------------------------------------------------------------------

// The code of a call that failed.
class failure {
public:
    explicit constexpr failure(msgport_code code) noexcept : code_(code) {}

    constexpr msgport_code code() const noexcept { return code_; }
    // "MSGPORT_FULL"
    const char *name() const noexcept { return msgport_code_name(code_); }
    // "the queue is full"
    const char *text() const noexcept { return msgport_code_text(code_); }
    // The description with details. Ask for it before the next call of this thread that fails.
    std::string describe() const
    {
        std::string text(msgport_describe(code_, nullptr, 0), '\0');
        msgport_describe(code_, text.data(), text.size() + 1);
        return text;
    }
    // The index of the item on the transfer list that the failure is about, if it is about one. Ask for it before the
    // next call of this thread that fails.
    std::optional<std::size_t> item() const noexcept
    {
        const std::size_t index = msgport_failed_item(code_);
        return index == SIZE_MAX ? std::nullopt : std::optional<std::size_t>(index);
    }
    // True if the peer is gone, so that no more messages come.
    constexpr bool is_end() const noexcept
    {
        return code_ == MSGPORT_PEER_CLOSED || code_ == MSGPORT_PEER_DIED || code_ == MSGPORT_PROTOCOL_VIOLATION;
    }

    friend constexpr bool operator==(failure a, failure b) noexcept { return a.code_ == b.code_; }
    friend constexpr bool operator!=(failure a, failure b) noexcept { return a.code_ != b.code_; }
    friend constexpr bool operator==(failure a, msgport_code b) noexcept { return a.code_ == b; }
    friend constexpr bool operator!=(failure a, msgport_code b) noexcept { return a.code_ != b; }

private:
    msgport_code code_;
};

#if defined(__cpp_lib_expected)

template <class T>
using result = std::expected<T, failure>;

namespace detail {
inline std::unexpected<failure> fail(msgport_code code) noexcept { return std::unexpected(failure(code)); }
} // namespace detail

#else

// The exception that value() throws.
class bad_result_access : public std::logic_error {
public:
    explicit bad_result_access(failure why) : std::logic_error(why.text()), why_(why) {}
    failure error() const noexcept { return why_; }

private:
    failure why_;
};

namespace detail {
[[noreturn]] inline void no_value(failure why)
{
#if defined(__cpp_exceptions)
    throw bad_result_access(why);
#else
    (void)why;
    std::abort();
#endif
}
} // namespace detail

template <class T>
class [[nodiscard]] result {
public:
    result(T value) noexcept(std::is_nothrow_move_constructible_v<T>)
        : state_(std::in_place_index<0>, std::move(value))
    {
    }
    result(failure why) noexcept : state_(std::in_place_index<1>, why) {}

    bool has_value() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    T &operator*() & noexcept { return *std::get_if<0>(&state_); }
    const T &operator*() const & noexcept { return *std::get_if<0>(&state_); }
    T &&operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
    T *operator->() noexcept { return std::get_if<0>(&state_); }
    const T *operator->() const noexcept { return std::get_if<0>(&state_); }

    T &value() & { return check(), **this; }
    const T &value() const & { return check(), **this; }
    T &&value() && { return check(), std::move(**this); }
    template <class U>
    T value_or(U &&other) && { return has_value() ? std::move(**this) : static_cast<T>(std::forward<U>(other)); }

    const failure &error() const noexcept { return *std::get_if<1>(&state_); }

private:
    void check() const
    {
        if (!has_value()) detail::no_value(error());
    }

    std::variant<T, failure> state_;
};

template <>
class [[nodiscard]] result<void> {
public:
    result() noexcept : why_(MSGPORT_OK) {}
    result(failure why) noexcept : why_(why) {}

    bool has_value() const noexcept { return why_ == MSGPORT_OK; }
    explicit operator bool() const noexcept { return has_value(); }
    void value() const
    {
        if (!has_value()) detail::no_value(why_);
    }
    const failure &error() const noexcept { return why_; }

private:
    failure why_;
};

namespace detail {
inline failure fail(msgport_code code) noexcept { return failure(code); }
} // namespace detail

#endif

namespace detail {
inline result<void> as_result(msgport_code code) noexcept
{
    if (code == MSGPORT_OK) return {};
    return fail(code);
}
} // namespace detail

// ---- Bytes -------------------------------------------------------------------------------------------------------

#if defined(__cpp_lib_span)

template <class T>
using span = std::span<T>;

#else

// The part of std::span that this header needs.
template <class T>
class span {
public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;

    constexpr span() noexcept = default;
    constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}

    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](std::size_t index) const noexcept { return data_[index]; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

#endif

// Borrowed bytes to copy: a text, or a contiguous container of trivially copyable values.
class bytes {
public:
    constexpr bytes() noexcept = default;
    constexpr bytes(const void *data, std::size_t size) noexcept : data_(data), size_(size) {}
    constexpr bytes(std::string_view text) noexcept : data_(text.data()), size_(text.size()) {}
    constexpr bytes(const char *text) noexcept : bytes(std::string_view(text)) {}
    bytes(const std::string &text) noexcept : data_(text.data()), size_(text.size()) {}
    template <class C, class T = std::remove_pointer_t<decltype(std::declval<const C &>().data())>,
              class = decltype(std::declval<const C &>().size()),
              std::enable_if_t<std::is_trivially_copyable_v<T>, int> = 0>
    constexpr bytes(const C &container) noexcept : data_(container.data()), size_(container.size() * sizeof(T)) {}

    constexpr const void *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }

private:
    const void *data_ = nullptr;
    std::size_t size_ = 0;
};

static_assert(sizeof(bytes) == sizeof(msgport_bytes) && std::is_standard_layout_v<bytes>, "arrays are passed to C");

// The bytes of one trivially copyable value.
template <class T>
bytes bytes_of(const T &value) noexcept
{
    static_assert(std::is_trivially_copyable_v<T>, "only trivially copyable values can be posted as bytes");
    return bytes(&value, sizeof(T));
}

// ---- Handles -----------------------------------------------------------------------------------------------------

namespace detail {

// Owns a handle of messageport.h.
template <class Handle, void (*Free)(Handle *)>
class owner {
public:
    constexpr owner() noexcept = default;
    explicit constexpr owner(Handle *handle) noexcept : handle_(handle) {}
    owner(owner &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    owner &operator=(owner &&other) noexcept
    {
        if (this != &other) reset(std::exchange(other.handle_, nullptr));
        return *this;
    }
    owner(const owner &) = delete;
    owner &operator=(const owner &) = delete;
    ~owner()
    {
        if (handle_ != nullptr) Free(handle_);
    }

    // The handle, which this object still owns.
    constexpr Handle *get() const noexcept { return handle_; }
    // The handle, which the caller now owns.
    [[nodiscard]] Handle *release() noexcept { return std::exchange(handle_, nullptr); }
    void reset(Handle *handle = nullptr) noexcept
    {
        Handle *old = std::exchange(handle_, handle);
        if (old != nullptr) Free(old);
    }
    explicit constexpr operator bool() const noexcept { return handle_ != nullptr; }

private:
    Handle *handle_ = nullptr;
};

// A timeout for messageport.h: rounded up; at least 1 ns, so that the result is MSGPORT_TIMED_OUT; MSGPORT_FOREVER from
// 9e9 seconds on.
template <class Rep, class Period>
std::int64_t nanoseconds(std::chrono::duration<Rep, Period> time) noexcept
{
    using namespace std::chrono;
    if (duration<double>(time).count() >= 9e9) return MSGPORT_FOREVER;
    const std::int64_t count = ceil<std::chrono::nanoseconds>(time).count();
    return count > 1 ? count : 1;
}

// A time for messageport.h that may be 0: a spin, a delay, or a timeout whose passing is no failure.
template <class Rep, class Period>
std::int64_t nanoseconds_or_0(std::chrono::duration<Rep, Period> time) noexcept
{
    return time.count() > 0 ? nanoseconds(time) : 0;
}

template <class Clock, class Duration>
std::int64_t nanoseconds_until(std::chrono::time_point<Clock, Duration> deadline)
{
    const auto now = Clock::now();
    if (deadline <= now) return 1;
    return nanoseconds(deadline - now);
}

} // namespace detail

class port;
class port_ref;
class sender;
class receiver;
class frozen;

// Memory with one holder at a time.
class buffer : public detail::owner<msgport_buffer, msgport_buffer_free> {
public:
    using owner::owner;

    // A buffer of `size` bytes, all zero.
    static result<buffer> make(std::size_t size) noexcept
    {
        msgport_buffer *made;
        const msgport_code code = msgport_buffer_new(size, &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return buffer(made);
    }

    // 0 for a buffer that has moved away.
    std::size_t size() noexcept
    {
        std::size_t size = 0;
        msgport_buffer_len(get(), &size);
        return size;
    }
    // The memory in place. Empty for a buffer that has moved away.
    span<std::byte> data() noexcept
    {
        void *data = nullptr;
        std::size_t size = 0;
        msgport_buffer_data(get(), &data, &size);
        return {static_cast<std::byte *>(data), size};
    }
    result<void> write_at(std::size_t offset, bytes from) noexcept
    {
        return detail::as_result(msgport_buffer_write_at(get(), offset, from.data(), from.size()));
    }
    result<void> read_at(std::size_t offset, void *into, std::size_t size) noexcept
    {
        return detail::as_result(msgport_buffer_read_at(get(), offset, into, size));
    }
    // Turns the memory into that of a frozen buffer. This buffer is detached then; on failure it is unchanged.
    result<frozen> freeze() noexcept;
};

// Memory that no process can write. Any number of threads may read the bytes.
class frozen : public detail::owner<msgport_frozen, msgport_frozen_free> {
public:
    using owner::owner;

    // A copy of these bytes.
    static result<frozen> from_bytes(bytes from) noexcept
    {
        msgport_frozen *made;
        const msgport_code code = msgport_frozen_from_bytes(from.data(), from.size(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return frozen(made);
    }
    // A copy of the contents of a regular file.
    static result<frozen> from_file(int descriptor) noexcept
    {
        msgport_frozen *made;
        const msgport_code code = msgport_frozen_from_file(descriptor, &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return frozen(made);
    }
    // Another handle of the same memory.
    result<frozen> clone() const noexcept
    {
        msgport_frozen *made;
        const msgport_code code = msgport_frozen_clone(get(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return frozen(made);
    }
    span<const std::byte> data() const noexcept
    {
        const void *data = nullptr;
        std::size_t size = 0;
        msgport_frozen_data(get(), &data, &size);
        return {static_cast<const std::byte *>(data), size};
    }
};

inline result<frozen> buffer::freeze() noexcept
{
    msgport_frozen *made;
    const msgport_code code = msgport_buffer_freeze(get(), &made);
    if (code != MSGPORT_OK) return detail::fail(code);
    return frozen(made);
}

// Memory that several holders, in any threads and processes, read and write at the same time.
class shared : public detail::owner<msgport_shared, msgport_shared_free> {
public:
    using owner::owner;

    // `size` bytes, all zero.
    static result<shared> make(std::size_t size) noexcept
    {
        msgport_shared *made;
        const msgport_code code = msgport_shared_new(size, &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return shared(made);
    }
    // False if this build of the library is without named buffers: the next three functions then fail.
    static bool has_named() noexcept { return msgport_has_named_buffers() != 0; }
    // `size` bytes with a name, all zero, for processes that have no port between them.
    static result<shared> create_named(const char *name, std::size_t size) noexcept
    {
        msgport_shared *made;
        const msgport_code code = msgport_shared_create_named(name, size, &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return shared(made);
    }
    // The buffer of this name, which must have at least `min_size` bytes.
    static result<shared> open_named(const char *name, std::size_t min_size = 0) noexcept
    {
        msgport_shared *made;
        const msgport_code code = msgport_shared_open_named(name, min_size, &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return shared(made);
    }
    static result<void> remove_name(const char *name) noexcept
    {
        return detail::as_result(msgport_shared_remove_name(name));
    }
    // Another handle of the same memory.
    result<shared> clone() const noexcept
    {
        msgport_shared *made;
        const msgport_code code = msgport_shared_clone(get(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return shared(made);
    }
    // The memory in place. Access words by atomics, and let those decide which holder may use the rest when.
    span<std::byte> data() const noexcept
    {
        void *data = nullptr;
        std::size_t size = 0;
        msgport_shared_data(get(), &data, &size);
        return {static_cast<std::byte *>(data), size};
    }
    result<void> write_at(std::size_t offset, bytes from) const noexcept
    {
        return detail::as_result(msgport_shared_write_at(get(), offset, from.data(), from.size()));
    }
    result<void> read_at(std::size_t offset, void *into, std::size_t size) const noexcept
    {
        return detail::as_result(msgport_shared_read_at(get(), offset, into, size));
    }
};

// Owns a descriptor and closes it on destruction.
class descriptor {
public:
    explicit constexpr descriptor(int number = -1) noexcept : number_(number) {}
    descriptor(descriptor &&other) noexcept : number_(other.release()) {}
    descriptor &operator=(descriptor &&other) noexcept
    {
        std::swap(number_, other.number_);
        return *this;
    }
    ~descriptor()
    {
        if (number_ >= 0) ::close(number_);
    }

    constexpr int get() const noexcept { return number_; }
    [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }
    explicit constexpr operator bool() const noexcept { return number_ >= 0; }

private:
    int number_;
};

// An entry of a transfer list, which borrows. Posting detaches ports and buffers; of the other kinds the receiver gets
// a duplicate.
class item {
public:
    item(port &port) noexcept;
    item(port &&port) noexcept;
    item(port_ref port) noexcept;
    item(buffer &buffer) noexcept : raw_(msgport_item_buffer(buffer.get())) {}
    item(buffer &&buffer) noexcept : raw_(msgport_item_buffer(buffer.get())) {}
    item(const frozen &frozen) noexcept : raw_(msgport_item_frozen(frozen.get())) {}
    item(const shared &shared) noexcept : raw_(msgport_item_shared(shared.get())) {}
    item(const descriptor &descriptor) noexcept : raw_(msgport_item_descriptor(descriptor.get())) {}

private:
    msgport_item raw_;
};
static_assert(sizeof(item) == sizeof(msgport_item) && std::is_standard_layout_v<item>, "lists are passed to C");

// A transfer list, which borrows.
class items {
public:
    constexpr items() noexcept = default;
    items(const std::initializer_list<item> &list) noexcept : items(list.begin(), list.size()) {}
    items(const item *data, std::size_t size) noexcept : data_(data), size_(size) {}

    const msgport_item *data() const noexcept { return reinterpret_cast<const msgport_item *>(data_); }
    std::size_t size() const noexcept { return size_; }

private:
    const item *data_ = nullptr;
    std::size_t size_ = 0;
};

// ---- Messages ----------------------------------------------------------------------------------------------------

// A received message, or memory to receive into again.
class message : public detail::owner<msgport_message, msgport_message_free> {
public:
    using owner::owner;

    span<const std::byte> data() const noexcept
    {
        const void *data = nullptr;
        std::size_t size = 0;
        msgport_message_data(get(), &data, &size);
        return {static_cast<const std::byte *>(data), size};
    }
    std::size_t size() const noexcept { return data().size(); }
    // The data as text. The encoding is not checked.
    std::string_view text() const noexcept
    {
        const auto bytes = data();
        return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
    }
    // The data as one trivially copyable value. MSGPORT_OUT_OF_RANGE if it has another size.
    template <class T>
    result<T> as() const noexcept
    {
        static_assert(std::is_trivially_copyable_v<T>, "only trivially copyable values can be received as bytes");
        const auto bytes = data();
        if (bytes.size() != sizeof(T)) return detail::fail(MSGPORT_OUT_OF_RANGE);
        T value;
        std::memcpy(&value, bytes.data(), sizeof(T));
        return value;
    }

    // The number of things of each kind that came with the message, including those that were taken out.
    std::size_t ports() const noexcept { return count(MSGPORT_ITEM_PORT); }
    std::size_t buffers() const noexcept { return count(MSGPORT_ITEM_BUFFER); }
    std::size_t frozen_buffers() const noexcept { return count(MSGPORT_ITEM_FROZEN); }
    std::size_t shared_buffers() const noexcept { return count(MSGPORT_ITEM_SHARED); }
    std::size_t descriptors() const noexcept { return count(MSGPORT_ITEM_DESCRIPTOR); }
    result<port> take_port(std::size_t index = 0) noexcept;
    result<buffer> take_buffer(std::size_t index = 0) noexcept
    {
        msgport_buffer *taken;
        const msgport_code code = msgport_message_take_buffer(get(), index, &taken);
        if (code != MSGPORT_OK) return detail::fail(code);
        return buffer(taken);
    }
    result<frozen> take_frozen(std::size_t index = 0) noexcept
    {
        msgport_frozen *taken;
        const msgport_code code = msgport_message_take_frozen(get(), index, &taken);
        if (code != MSGPORT_OK) return detail::fail(code);
        return frozen(taken);
    }
    result<shared> take_shared(std::size_t index = 0) noexcept
    {
        msgport_shared *taken;
        const msgport_code code = msgport_message_take_shared(get(), index, &taken);
        if (code != MSGPORT_OK) return detail::fail(code);
        return shared(taken);
    }
    // Any descriptor that the sender had: check what it is before using it.
    result<descriptor> take_descriptor(std::size_t index = 0) noexcept
    {
        int taken;
        const msgport_code code = msgport_message_take_descriptor(get(), index, &taken);
        if (code != MSGPORT_OK) return detail::fail(code);
        return descriptor(taken);
    }
    void clear() noexcept { msgport_message_clear(get()); }

    // Makes the handle if there is none yet.
    msgport_code prepare() noexcept
    {
        if (get() != nullptr) return MSGPORT_OK;
        msgport_message *made;
        const msgport_code code = msgport_message_new(&made);
        if (code == MSGPORT_OK) reset(made);
        return code;
    }

private:
    std::size_t count(std::uint32_t kind) const noexcept
    {
        std::size_t count = 0;
        msgport_message_count(get(), kind, &count);
        return count;
    }
};

// A message that is read in the shared memory. Destruction returns the space to the sender. The port must outlive it.
class in_place {
public:
    in_place(msgport_port *port, message &&rest, span<const std::byte> data) noexcept
        : port_(port), rest_(std::move(rest)), data_(data)
    {
    }
    in_place(in_place &&other) noexcept
        : port_(std::exchange(other.port_, nullptr)), rest_(std::move(other.rest_)), data_(other.data_)
    {
    }
    in_place &operator=(in_place &&) = delete;
    ~in_place()
    {
        if (port_ != nullptr) msgport_port_release(port_);
    }

    // A malicious peer can still write to these bytes.
    span<const std::byte> data() const noexcept { return data_; }
    std::string_view text() const noexcept { return {reinterpret_cast<const char *>(data_.data()), data_.size()}; }
    // The ports, buffers and so on that came with it.
    message &rest() noexcept { return rest_; }

private:
    msgport_port *port_;
    message rest_;
    span<const std::byte> data_;
};

// A message that is written in the shared memory. Without a commit it leaves no trace. The port must outlive it.
class [[nodiscard]] reservation {
public:
    reservation(msgport_port *port, span<std::byte> data) noexcept : port_(port), data_(data) {}
    reservation(reservation &&other) noexcept : port_(std::exchange(other.port_, nullptr)), data_(other.data_) {}
    reservation &operator=(reservation &&) = delete;
    ~reservation()
    {
        if (port_ != nullptr) msgport_port_abandon(port_);
    }

    span<std::byte> data() const noexcept { return data_; }
    result<void> commit() noexcept { return commit(data_.size()); }
    // Posts only the first `size` bytes.
    result<void> commit(std::size_t size) noexcept
    {
        const msgport_code code = msgport_port_commit(port_, size);
        if (code != MSGPORT_OUT_OF_RANGE) port_ = nullptr;
        return detail::as_result(code);
    }

private:
    msgport_port *port_;
    span<std::byte> data_;
};

// The messages of a port, one after the other in the same memory, until there are no more:
//
//     auto messages = port.messages();
//     for (auto &message : messages) ...
//     messages.reason() is the code that ended it
class message_range {
public:
    explicit message_range(msgport_port *port) noexcept : port_(port) {}

    class end_of_messages {};
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = message;
        using difference_type = std::ptrdiff_t;
        using pointer = message *;
        using reference = message &;

        explicit iterator(message_range *range) noexcept : range_(range) {}
        message &operator*() const noexcept { return range_->current_; }
        message *operator->() const noexcept { return &range_->current_; }
        iterator &operator++() noexcept
        {
            range_->next();
            return *this;
        }
        void operator++(int) noexcept { range_->next(); }
        friend bool operator==(const iterator &at, end_of_messages) noexcept { return at.is_over(); }
        friend bool operator!=(const iterator &at, end_of_messages) noexcept { return !at.is_over(); }

    private:
        bool is_over() const noexcept { return range_->code_ != MSGPORT_OK; }

        message_range *range_;
    };

    iterator begin() noexcept
    {
        code_ = current_.prepare();
        if (code_ == MSGPORT_OK) next();
        return iterator(this);
    }
    end_of_messages end() const noexcept { return {}; }
    failure reason() const noexcept { return failure(code_); }

private:
    void next() noexcept { code_ = msgport_port_recv_into(port_, MSGPORT_FOREVER, current_.get(), nullptr, nullptr); }

    msgport_port *port_;
    message current_;
    msgport_code code_ = MSGPORT_OK;
};

// Raises the limit of open descriptors as far as the system allows, and returns it: see
// msgport_raise_descriptor_limit().
inline result<std::uint64_t> raise_descriptor_limit(std::uint64_t wanted) noexcept
{
    std::uint64_t limit;
    const msgport_code code = msgport_raise_descriptor_limit(wanted, &limit);
    if (code != MSGPORT_OK) return detail::fail(code);
    return limit;
}

// Ends a wait of another thread; see msgport_port_interrupter(). Any thread, or a signal handler, may call interrupt().
class interrupter : public detail::owner<msgport_interrupter, msgport_interrupter_free> {
public:
    using owner::owner;

    void interrupt() const noexcept { msgport_interrupter_interrupt(get()); }
};

namespace detail {

inline result<interrupter> interrupter_of(msgport_code code, msgport_interrupter *made) noexcept
{
    if (code != MSGPORT_OK) return fail(code);
    return interrupter(made);
}

} // namespace detail

// ---- Ports -------------------------------------------------------------------------------------------------------

namespace detail {

// The functions of ports and halves.
template <class End>
class closing {
public:
    void close() noexcept { msgport_port_close(handle()); }
    // A pointer of the program, which stays with the handle.
    void set_user(void *user) noexcept { msgport_port_set_user(handle(), user); }
    void *user() noexcept
    {
        void *user = nullptr;
        msgport_port_user(handle(), &user);
        return user;
    }
    template <class Rep, class Period>
    void set_spin(std::chrono::duration<Rep, Period> budget) noexcept
    {
        msgport_port_set_spin(handle(), nanoseconds_or_0(budget));
    }

    // MSGPORT_OK: the peer is there. MSGPORT_PEER_CLOSED, MSGPORT_PEER_DIED, MSGPORT_PROTOCOL_VIOLATION: it is gone.
    failure peer_state() noexcept { return failure(msgport_port_peer_state(handle())); }
    // Waits until the peer is gone, and returns the code that says why.
    failure closed() noexcept { return failure(msgport_port_closed(handle(), MSGPORT_FOREVER)); }
    template <class Rep, class Period>
    failure closed_for(std::chrono::duration<Rep, Period> time) noexcept
    {
        return failure(msgport_port_closed(handle(), nanoseconds(time)));
    }
    template <class Clock, class Duration>
    failure closed_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return failure(msgport_port_closed(handle(), nanoseconds_until(deadline)));
    }

    result<interrupter> make_interrupter() noexcept
    {
        msgport_interrupter *made = nullptr;
        const msgport_code code = msgport_port_interrupter(handle(), &made);
        return interrupter_of(code, made);
    }
    result<void> set_interrupt_on_signal(bool ends) noexcept
    {
        return as_result(msgport_port_set_interrupt_on_signal(handle(), ends));
    }

protected:
    msgport_port *handle() noexcept { return static_cast<End *>(this)->get(); }
};

// The functions of ports and sending halves.
template <class End>
class sending : public closing<End> {
public:
    // Does not wait: a full queue grows.
    result<void> post_message(bytes data, items list = {}) noexcept { return post_in(0, data, list); }
    // Waits for space; the queue grows to no more than 1 MiB, or as far as this message needs.
    result<void> post_message_wait(bytes data, items list = {}) noexcept
    {
        return post_in(MSGPORT_FOREVER, data, list);
    }
    template <class Rep, class Period>
    result<void> post_message_for(std::chrono::duration<Rep, Period> time, bytes data, items list = {}) noexcept
    {
        return post_in(nanoseconds(time), data, list);
    }
    template <class Clock, class Duration>
    result<void> post_message_until(std::chrono::time_point<Clock, Duration> deadline, bytes data, items list = {})
    {
        return post_in(nanoseconds_until(deadline), data, list);
    }
    // Several messages in one call. `posted` receives the number of those that were posted, on failure too.
    result<void> post_messages(const bytes *messages, std::size_t count, std::size_t *posted = nullptr) noexcept
    {
        return post_all_in(0, messages, count, posted);
    }
    result<void> post_messages_wait(const bytes *messages, std::size_t count, std::size_t *posted = nullptr) noexcept
    {
        return post_all_in(MSGPORT_FOREVER, messages, count, posted);
    }
    template <class Rep, class Period>
    result<void> post_messages_for(std::chrono::duration<Rep, Period> time, const bytes *messages, std::size_t count,
                                   std::size_t *posted = nullptr) noexcept
    {
        return post_all_in(nanoseconds(time), messages, count, posted);
    }
    template <class Clock, class Duration>
    result<void> post_messages_until(std::chrono::time_point<Clock, Duration> deadline, const bytes *messages,
                                     std::size_t count, std::size_t *posted = nullptr)
    {
        return post_all_in(nanoseconds_until(deadline), messages, count, posted);
    }
    result<reservation> reserve(std::size_t size) noexcept
    {
        void *data;
        const msgport_code code = msgport_port_reserve(this->handle(), size, &data);
        if (code != MSGPORT_OK) return fail(code);
        return reservation(this->handle(), {static_cast<std::byte *>(data), size});
    }
    // How full the queue towards the peer is, and how long a message may be.
    result<msgport_queued> queued() noexcept
    {
        msgport_queued queued = MSGPORT_QUEUED_INIT;
        const msgport_code code = msgport_port_queued(this->handle(), &queued);
        if (code != MSGPORT_OK) return fail(code);
        return queued;
    }
    // A buffer for posting on this port: one that came back, or a new one.
    result<messageport::buffer> buffer(std::size_t size) noexcept
    {
        msgport_buffer *made;
        const msgport_code code = msgport_port_buffer(this->handle(), size, &made);
        if (code != MSGPORT_OK) return fail(code);
        return messageport::buffer(made);
    }
    // Releases the memory of this port's buffers that are not in use at the moment. Returns their number.
    result<std::size_t> release_buffers() noexcept
    {
        std::size_t count;
        const msgport_code code = msgport_port_release_buffers(this->handle(), &count);
        if (code != MSGPORT_OK) return fail(code);
        return count;
    }

private:
    result<void> post_in(std::int64_t timeout, bytes data, items list) noexcept
    {
        return as_result(
            msgport_port_post_message(this->handle(), data.data(), data.size(), list.data(), list.size(), timeout));
    }
    result<void> post_all_in(std::int64_t timeout, const bytes *messages, std::size_t count,
                             std::size_t *posted) noexcept
    {
        std::size_t done;
        const auto *raw = reinterpret_cast<const msgport_bytes *>(messages);
        return as_result(
            msgport_port_post_messages(this->handle(), raw, count, timeout, posted != nullptr ? posted : &done));
    }
};

// The functions of ports and receiving halves.
template <class End>
class receiving {
public:
    result<message> recv() noexcept { return recv_in(MSGPORT_FOREVER); }
    result<message> try_recv() noexcept { return recv_in(0); }
    template <class Rep, class Period>
    result<message> recv_for(std::chrono::duration<Rep, Period> time) noexcept
    {
        return recv_in(nanoseconds(time));
    }
    template <class Clock, class Duration>
    result<message> recv_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return recv_in(nanoseconds_until(deadline));
    }

    // Receives into memory that is used again. Returns the data, which is valid as long as that of the message.
    result<span<const std::byte>> recv_into(message &into) noexcept { return recv_into_in(MSGPORT_FOREVER, into); }
    result<span<const std::byte>> try_recv_into(message &into) noexcept { return recv_into_in(0, into); }
    template <class Rep, class Period>
    result<span<const std::byte>> recv_into_for(std::chrono::duration<Rep, Period> time, message &into) noexcept
    {
        return recv_into_in(nanoseconds(time), into);
    }
    template <class Clock, class Duration>
    result<span<const std::byte>> recv_into_until(std::chrono::time_point<Clock, Duration> deadline, message &into)
    {
        return recv_into_in(nanoseconds_until(deadline), into);
    }

    // Receives several messages in one call: waits for the first, and takes those that are there then. Returns their
    // number; the first so many of `messages` have them.
    result<std::size_t> recv_messages(message *messages, std::size_t count) noexcept
    {
        return recv_all_in(MSGPORT_FOREVER, messages, count);
    }
    result<std::size_t> try_recv_messages(message *messages, std::size_t count) noexcept
    {
        return recv_all_in(0, messages, count);
    }
    template <class Rep, class Period>
    result<std::size_t> recv_messages_for(std::chrono::duration<Rep, Period> time, message *messages,
                                          std::size_t count) noexcept
    {
        return recv_all_in(nanoseconds(time), messages, count);
    }
    template <class Clock, class Duration>
    result<std::size_t> recv_messages_until(std::chrono::time_point<Clock, Duration> deadline, message *messages,
                                            std::size_t count)
    {
        return recv_all_in(nanoseconds_until(deadline), messages, count);
    }

    // Receives in place.
    result<in_place> recv_ref() noexcept { return recv_ref_in(MSGPORT_FOREVER); }
    result<in_place> try_recv_ref() noexcept { return recv_ref_in(0); }
    template <class Rep, class Period>
    result<in_place> recv_ref_for(std::chrono::duration<Rep, Period> time) noexcept
    {
        return recv_ref_in(nanoseconds(time));
    }
    template <class Clock, class Duration>
    result<in_place> recv_ref_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return recv_ref_in(nanoseconds_until(deadline));
    }

    // Receives one message after the other until there are no more.
    message_range messages() noexcept { return message_range(self()); }

    // The descriptor that a poll or epoll loop waits on: see msgport_port_descriptor().
    result<int> descriptor() noexcept
    {
        int descriptor;
        const msgport_code code = msgport_port_descriptor(self(), &descriptor);
        if (code != MSGPORT_OK) return fail(code);
        return descriptor;
    }

private:
    msgport_port *self() noexcept { return static_cast<End *>(this)->get(); }

    result<message> recv_in(std::int64_t timeout) noexcept
    {
        msgport_message *received;
        const msgport_code code = msgport_port_recv(self(), timeout, &received);
        if (code != MSGPORT_OK) return fail(code);
        return message(received);
    }
    result<span<const std::byte>> recv_into_in(std::int64_t timeout, message &into) noexcept
    {
        const void *data;
        std::size_t size;
        msgport_code code = into.prepare();
        if (code == MSGPORT_OK) code = msgport_port_recv_into(self(), timeout, into.get(), &data, &size);
        if (code != MSGPORT_OK) return fail(code);
        return span<const std::byte>(static_cast<const std::byte *>(data), size);
    }
    result<std::size_t> recv_all_in(std::int64_t timeout, message *messages, std::size_t count) noexcept
    {
        static_assert(sizeof(message) == sizeof(msgport_message *) && std::is_standard_layout_v<message>,
                      "arrays are passed to C");
        std::size_t received = 0;
        msgport_code code = MSGPORT_OK;
        for (std::size_t at = 0; at < count && code == MSGPORT_OK; at++) code = messages[at].prepare();
        const auto *raw = reinterpret_cast<msgport_message *const *>(messages);
        if (code == MSGPORT_OK) code = msgport_port_recv_messages(self(), timeout, raw, count, &received);
        if (code != MSGPORT_OK) return fail(code);
        return received;
    }
    result<in_place> recv_ref_in(std::int64_t timeout) noexcept
    {
        message rest;
        const void *data;
        std::size_t size;
        msgport_code code = rest.prepare();
        if (code == MSGPORT_OK) code = msgport_port_recv_ref(self(), timeout, rest.get(), &data, &size);
        if (code != MSGPORT_OK) return fail(code);
        return in_place(self(), std::move(rest), {static_cast<const std::byte *>(data), size});
    }
};

using port_owner = owner<msgport_port, msgport_port_free>;

// The loop that runs on this thread, and the exception that a handler of it threw.
struct running_here {
    msgport_loop *loop = nullptr;
    std::exception_ptr thrown;
};
inline running_here &here() noexcept
{
    static thread_local running_here state;
    return state;
}

// Calls a handler for C, which no exception may reach: the loop stops, and running() rethrows the exception.
template <class F>
void call_for_c(F &&call) noexcept
{
#if defined(__cpp_exceptions)
    try {
        call();
    } catch (...) {
        if (here().loop == nullptr) std::terminate();
        if (!here().thrown) here().thrown = std::current_exception();
        msgport_loop_stop(here().loop);
    }
#else
    call();
#endif
}

template <class F>
void destroy_for_c(void *user) noexcept
{
    delete static_cast<F *>(user);
}

// A handler that C owns once a call has succeeded.
template <class F>
class callback {
public:
    explicit callback(F call) : call_(new F(std::move(call))) {}
    void *user() const noexcept { return call_.get(); }
    // Gives up the handler if the call with this code succeeded.
    msgport_code sent(msgport_code code) noexcept
    {
        if (code == MSGPORT_OK) static_cast<void>(call_.release());
        return code;
    }

private:
    std::unique_ptr<F> call_;
};

} // namespace detail

// How a handler is added: replacing the one that was set before, beside the others, or for one call.
enum class how : std::uint32_t { set = MSGPORT_SET, add = MSGPORT_ADD, once = MSGPORT_ADD_ONCE };

// The numbers of a handler, of a timer, and of a descriptor or listener in an event loop.
using handler_id = std::uint64_t;
using timer_id = std::uint64_t;
using watch_id = std::uint64_t;

// What a descriptor is watched for, or ready for.
enum class ready : std::uint32_t {
    readable = MSGPORT_READABLE,
    writable = MSGPORT_WRITABLE,
    both = MSGPORT_READABLE | MSGPORT_WRITABLE
};

namespace detail {

// The functions of ports in an event loop. A handler is a lambda or any other callable object.
template <class End>
class handling {
public:
    // F(port_ref, message &). The message belongs to the loop: take out what the program keeps.
    template <class F>
    result<handler_id> on_message(F call, how way = how::set)
    {
        callback<F> handler(std::move(call));
        handler_id id;
        const msgport_code code = handler.sent(msgport_port_on_message(
            self(), static_cast<std::uint32_t>(way),
            [](msgport_port *port, msgport_message *received, void *user) {
                message lent(received);
                call_for_c([&] { (*static_cast<F *>(user))(End::ref(port), lent); });
                static_cast<void>(lent.release());
            },
            handler.user(), destroy_for_c<F>, &id));
        if (code != MSGPORT_OK) return fail(code);
        return id;
    }
    // F(port_ref, span<const std::byte>), called with the data of a message that cannot be received.
    template <class F>
    result<handler_id> on_message_error(F call, how way = how::set)
    {
        callback<F> handler(std::move(call));
        handler_id id;
        const msgport_code code = handler.sent(msgport_port_on_message_error(
            self(), static_cast<std::uint32_t>(way),
            [](msgport_port *port, const void *data, std::size_t size, void *user) {
                const span<const std::byte> bytes(static_cast<const std::byte *>(data), size);
                call_for_c([&] { (*static_cast<F *>(user))(End::ref(port), bytes); });
            },
            handler.user(), destroy_for_c<F>, &id));
        if (code != MSGPORT_OK) return fail(code);
        return id;
    }
    // F(port_ref, failure), called with the reason why the peer is gone.
    template <class F>
    result<handler_id> on_close(F call, how way = how::set)
    {
        callback<F> handler(std::move(call));
        handler_id id;
        const msgport_code code = handler.sent(msgport_port_on_close(
            self(), static_cast<std::uint32_t>(way),
            [](msgport_port *port, msgport_code reason, void *user) {
                call_for_c([&] { (*static_cast<F *>(user))(End::ref(port), failure(reason)); });
            },
            handler.user(), destroy_for_c<F>, &id));
        if (code != MSGPORT_OK) return fail(code);
        return id;
    }
    result<void> remove_handler(handler_id id) noexcept { return as_result(msgport_port_remove_handler(self(), id)); }
    result<void> start() noexcept { return as_result(msgport_port_start(self())); }
    // Calls the handlers of messages at once, with this message.
    result<void> dispatch_event(message &own) noexcept
    {
        return as_result(msgport_port_dispatch_event(self(), own.get()));
    }

private:
    msgport_port *self() noexcept { return static_cast<End *>(this)->get(); }
};

} // namespace detail

// Borrows a port. Pass it by value.
class port_ref : public detail::sending<port_ref>,
                 public detail::receiving<port_ref>,
                 public detail::handling<port_ref> {
public:
    explicit constexpr port_ref(msgport_port *handle) noexcept : handle_(handle) {}
    constexpr msgport_port *get() const noexcept { return handle_; }
    static port_ref ref(msgport_port *handle) noexcept { return port_ref(handle); }

private:
    msgport_port *handle_;
};

// The sending half of a port.
class sender : public detail::port_owner, public detail::sending<sender> {
public:
    using owner::owner;
};

// The receiving half of a port.
class receiver : public detail::port_owner,
                 public detail::receiving<receiver>,
                 public detail::closing<receiver>,
                 public detail::handling<receiver> {
public:
    using owner::owner;
    static port_ref ref(msgport_port *handle) noexcept { return port_ref(handle); }
};

// One end of a channel.
class port : public detail::port_owner,
             public detail::sending<port>,
             public detail::receiving<port>,
             public detail::handling<port> {
public:
    using owner::owner;
    static port_ref ref(msgport_port *handle) noexcept { return port_ref(handle); }

    operator port_ref() & noexcept { return port_ref(get()); }

    // Replaces the channel by a new one whose end here never leaves this process; see msgport_port_renew().
    result<void> renew() noexcept { return detail::as_result(msgport_port_renew(get())); }

    // The two halves. The port is empty then; on failure it is unchanged.
    result<std::pair<sender, receiver>> split() && noexcept
    {
        msgport_port *half;
        const msgport_code code = msgport_port_split(get(), &half);
        if (code != MSGPORT_OK) return detail::fail(code);
        return std::pair<sender, receiver>(sender(release()), receiver(half));
    }
    // The whole port. The halves are empty then; on failure they are unchanged.
    static result<port> join(sender &&sending, receiver &&receiving) noexcept
    {
        const msgport_code code = msgport_port_join(sending.get(), receiving.get());
        if (code != MSGPORT_OK) return detail::fail(code);
        receiving.reset();
        return port(sending.release());
    }
};

inline item::item(port &port) noexcept : raw_(msgport_item_port(port.get())) {}
inline item::item(port &&port) noexcept : raw_(msgport_item_port(port.get())) {}
inline item::item(port_ref port) noexcept : raw_(msgport_item_port(port.get())) {}

inline result<port> message::take_port(std::size_t index) noexcept
{
    msgport_port *taken;
    const msgport_code code = msgport_message_take_port(get(), index, &taken);
    if (code != MSGPORT_OK) return detail::fail(code);
    return port(taken);
}

// ---- Channels ----------------------------------------------------------------------------------------------------

// Options of a channel; 0 is the default of each.
struct channel_options {
    std::size_t capacity = 0;
    std::size_t max_capacity = 0;
    std::size_t max_message_size = 0;
    std::uint64_t cached_bytes = 0;
    std::uint32_t cached_buffers = 0;
    std::uint32_t max_handles = 0;
    bool data_only = false;
    bool no_cache = false;
    const char *name = nullptr; // at most 32 bytes, which the names of the memory files show in /proc and lsof

    msgport_channel_options raw() const noexcept
    {
        std::uint32_t flags = 0;
        if (data_only) flags |= MSGPORT_CHANNEL_DATA_ONLY;
        if (no_cache) flags |= MSGPORT_CHANNEL_NO_CACHE;
        return {sizeof(msgport_channel_options), capacity,    max_capacity, max_message_size, cached_bytes,
                cached_buffers,                  max_handles, flags,        0,        name};
    }
};

// Two entangled ports.
struct channel {
    port port1;
    port port2;

    static result<channel> make(const channel_options &options = {}) noexcept
    {
        const msgport_channel_options raw = options.raw();
        msgport_port *port1, *port2;
        const msgport_code code = msgport_channel_new(&raw, &port1, &port2);
        if (code != MSGPORT_OK) return detail::fail(code);
        return channel{port(port1), port(port2)};
    }
};

// ---- Event loops -------------------------------------------------------------------------------------------------

// A handle of an event loop for other threads.
class remote : public detail::owner<msgport_remote, msgport_remote_free> {
public:
    using owner::owner;

    void stop() const noexcept { msgport_remote_stop(get()); }
    // F(), called and destroyed on the loop's thread.
    template <class F>
    result<void> post_task(F call) const
    {
        detail::callback<F> task(std::move(call));
        return detail::as_result(task.sent(msgport_remote_post_task(
            get(),
            [](msgport_loop *, void *user) { detail::call_for_c([&] { (*static_cast<F *>(user))(); }); },
            task.user(), detail::destroy_for_c<F>)));
    }
};

class listener;

// Calls the handlers of its ports, timers and tasks, on one thread. If one of them throws, the loop stops and the call
// that runs it throws the same exception; messages that have not been handled go on waiting.
class event_loop : public detail::owner<msgport_loop, msgport_loop_free> {
public:
    using owner::owner;

    static result<event_loop> make() noexcept
    {
        msgport_loop *made;
        const msgport_code code = msgport_loop_new(&made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return event_loop(made);
    }

    // The port stays with the caller. Destroying it closes it, and its handlers are called no more.
    result<void> add(port_ref port) noexcept { return detail::as_result(msgport_loop_add(get(), port.get())); }
    result<void> add(receiver &half) noexcept { return detail::as_result(msgport_loop_add(get(), half.get())); }
    result<void> remove(port_ref port) noexcept { return detail::as_result(msgport_loop_remove(get(), port.get())); }
    result<void> remove(receiver &half) noexcept { return detail::as_result(msgport_loop_remove(get(), half.get())); }

    // Runs until it is stopped, or until no further event is possible.
    result<void> run() { return run_in(MSGPORT_FOREVER); }
    template <class Rep, class Period>
    result<void> run_for(std::chrono::duration<Rep, Period> time)
    {
        return run_in(detail::nanoseconds_or_0(time));
    }
    template <class Clock, class Duration>
    result<void> run_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return run_in(detail::nanoseconds_until(deadline));
    }
    // Waits for an event and handles one round. Returns the number of messages, ends, timers and tasks.
    result<std::size_t> poll() { return poll_in(MSGPORT_FOREVER); }
    // Handles one round of what is there now: for a program with a loop of its own, when the descriptor is readable.
    result<std::size_t> try_poll() { return poll_in(0); }
    template <class Rep, class Period>
    result<std::size_t> poll_for(std::chrono::duration<Rep, Period> time)
    {
        return poll_in(detail::nanoseconds_or_0(time));
    }
    template <class Clock, class Duration>
    result<std::size_t> poll_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return poll_in(detail::nanoseconds_until(deadline));
    }
    result<int> descriptor() noexcept
    {
        int descriptor;
        const msgport_code code = msgport_loop_descriptor(get(), &descriptor);
        if (code != MSGPORT_OK) return detail::fail(code);
        return descriptor;
    }
    void stop() noexcept { msgport_loop_stop(get()); }
    void set_batch(std::size_t messages) noexcept { msgport_loop_set_batch(get(), messages); }
    template <class Rep, class Period>
    void set_spin(std::chrono::duration<Rep, Period> budget) noexcept
    {
        msgport_loop_set_spin(get(), detail::nanoseconds_or_0(budget));
    }

    // F(), called once after the delay.
    template <class Rep, class Period, class F>
    result<timer_id> set_timeout(std::chrono::duration<Rep, Period> delay, F call)
    {
        detail::callback<F> timer(std::move(call));
        timer_id id;
        const msgport_code code = timer.sent(msgport_loop_set_timeout(
            get(), detail::nanoseconds_or_0(delay),
            [](msgport_loop *, void *user) { detail::call_for_c([&] { (*static_cast<F *>(user))(); }); },
            timer.user(), detail::destroy_for_c<F>, &id));
        if (code != MSGPORT_OK) return detail::fail(code);
        return id;
    }
    result<void> clear_timeout(timer_id id) noexcept
    {
        return detail::as_result(msgport_loop_clear_timeout(get(), id));
    }
    // F(), called after each period; clear_timeout() ends it.
    template <class Rep, class Period, class F>
    result<timer_id> set_interval(std::chrono::duration<Rep, Period> period, F call)
    {
        detail::callback<F> timer(std::move(call));
        timer_id id;
        const msgport_code code = timer.sent(msgport_loop_set_interval(
            get(), detail::nanoseconds_or_0(period),
            [](msgport_loop *, void *user) { detail::call_for_c([&] { (*static_cast<F *>(user))(); }); },
            timer.user(), detail::destroy_for_c<F>, &id));
        if (code != MSGPORT_OK) return detail::fail(code);
        return id;
    }
    // F(int, ready), called whenever the descriptor is ready, which the caller keeps open until unwatch().
    template <class F>
    result<watch_id> watch(int descriptor, ready interest, F call)
    {
        detail::callback<F> handler(std::move(call));
        watch_id id;
        const msgport_code code = handler.sent(msgport_loop_watch(
            get(), descriptor, static_cast<std::uint32_t>(interest),
            [](msgport_loop *, int which, std::uint32_t flags, void *user) {
                detail::call_for_c([&] { (*static_cast<F *>(user))(which, static_cast<ready>(flags)); });
            },
            handler.user(), detail::destroy_for_c<F>, &id));
        if (code != MSGPORT_OK) return detail::fail(code);
        return id;
    }
    // F(port, message &, const msgport_peer &), called with each client of the listener: this side's end of the new
    // channel, and the greeting, which the loop lends. The listener moves to the loop, until unwatch().
    template <class F>
    result<watch_id> add_listener(listener from, F call);
    result<void> unwatch(watch_id id) noexcept { return detail::as_result(msgport_loop_unwatch(get(), id)); }
    // F(failure), called with errors that no call can return.
    template <class F>
    result<void> on_error(F call)
    {
        detail::callback<F> handler(std::move(call));
        return detail::as_result(handler.sent(msgport_loop_on_error(
            get(),
            [](msgport_loop *, msgport_code code, void *user) {
                detail::call_for_c([&] { (*static_cast<F *>(user))(failure(code)); });
            },
            handler.user(), detail::destroy_for_c<F>)));
    }
    // A handle for other threads. As long as there is one, run() goes on.
    result<messageport::remote> remote() noexcept
    {
        msgport_remote *made;
        const msgport_code code = msgport_loop_remote(get(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return messageport::remote(made);
    }

private:
    template <class F>
    msgport_code running(F &&call)
    {
        msgport_loop *before = std::exchange(detail::here().loop, get());
        const msgport_code code = call(); // throws nothing
        detail::here().loop = before;
        if (detail::here().thrown) std::rethrow_exception(std::exchange(detail::here().thrown, nullptr));
        return code;
    }
    result<void> run_in(std::int64_t timeout)
    {
        return detail::as_result(running([&] { return msgport_loop_run(get(), timeout); }));
    }
    result<std::size_t> poll_in(std::int64_t timeout)
    {
        std::size_t count;
        const msgport_code code = running([&] { return msgport_loop_poll(get(), timeout, &count); });
        if (code != MSGPORT_OK) return detail::fail(code);
        return count;
    }
};

// ---- Sets of ports -----------------------------------------------------------------------------------------------

// An event of a port in a set.
struct set_event {
    port_ref port;
    failure what; // MSGPORT_OK for a message; the other codes are those of msgport_portset_event
    bool is_message() const noexcept { return what == MSGPORT_OK; }
};

// Returns the next event of many ports.
class port_set : public detail::owner<msgport_portset, msgport_portset_free> {
public:
    using owner::owner;

    static result<port_set> make() noexcept
    {
        msgport_portset *made;
        const msgport_code code = msgport_portset_new(&made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return port_set(made);
    }

    // The port stays with the caller. Destroying it closes it, and it leaves the set.
    result<void> add(port_ref port) noexcept { return detail::as_result(msgport_portset_add(get(), port.get())); }
    result<void> add(receiver &half) noexcept { return detail::as_result(msgport_portset_add(get(), half.get())); }
    result<void> remove(port_ref port) noexcept { return detail::as_result(msgport_portset_remove(get(), port.get())); }
    result<void> remove(receiver &half) noexcept
    {
        return detail::as_result(msgport_portset_remove(get(), half.get()));
    }

    result<interrupter> make_interrupter() noexcept
    {
        msgport_interrupter *made = nullptr;
        const msgport_code code = msgport_portset_interrupter(get(), &made);
        return detail::interrupter_of(code, made);
    }
    result<void> set_interrupt_on_signal(bool ends) noexcept
    {
        return detail::as_result(msgport_portset_set_interrupt_on_signal(get(), ends));
    }

    template <class Rep, class Period>
    void set_spin(std::chrono::duration<Rep, Period> budget) noexcept
    {
        msgport_portset_set_spin(get(), detail::nanoseconds_or_0(budget));
    }

    // Waits for the next event; a message goes into `into`.
    result<set_event> next(message &into) noexcept { return next_in(MSGPORT_FOREVER, into); }
    result<set_event> try_next(message &into) noexcept { return next_in(0, into); }
    template <class Rep, class Period>
    result<set_event> next_for(std::chrono::duration<Rep, Period> time, message &into) noexcept
    {
        return next_in(detail::nanoseconds(time), into);
    }
    template <class Clock, class Duration>
    result<set_event> next_until(std::chrono::time_point<Clock, Duration> deadline, message &into)
    {
        return next_in(detail::nanoseconds_until(deadline), into);
    }
    // The descriptor that a poll or epoll loop waits on: see msgport_portset_descriptor().
    result<int> descriptor() noexcept
    {
        int descriptor;
        const msgport_code code = msgport_portset_descriptor(get(), &descriptor);
        if (code != MSGPORT_OK) return detail::fail(code);
        return descriptor;
    }

private:
    result<set_event> next_in(std::int64_t timeout, message &into) noexcept
    {
        msgport_portset_event event;
        msgport_code code = into.prepare();
        if (code == MSGPORT_OK) code = msgport_portset_next(get(), timeout, into.get(), &event);
        if (code != MSGPORT_OK) return detail::fail(code);
        return set_event{port_ref(event.port), failure(event.code)};
    }
};

// ---- Request and answer ------------------------------------------------------------------------------------------

// A request whose answer has not been received. Destroying it drops the answer.
class pending : public detail::owner<msgport_pending, msgport_pending_free> {
public:
    using owner::owner;

    result<message> wait() noexcept { return wait_in(MSGPORT_FOREVER); }
    result<message> try_take() noexcept { return wait_in(0); }
    template <class Rep, class Period>
    result<message> wait_for(std::chrono::duration<Rep, Period> time) noexcept
    {
        return wait_in(detail::nanoseconds(time));
    }
    template <class Clock, class Duration>
    result<message> wait_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return wait_in(detail::nanoseconds_until(deadline));
    }

private:
    result<message> wait_in(std::int64_t timeout) noexcept
    {
        message answer;
        msgport_code code = answer.prepare();
        if (code == MSGPORT_OK) code = msgport_pending_wait(get(), timeout, answer.get());
        if (code != MSGPORT_OK) return detail::fail(code);
        return answer;
    }
};

// The end of a channel that posts requests. Several threads may use it at the same time. The port is closed once the
// client and its pending calls are destroyed.
class client : public detail::owner<msgport_client, msgport_client_free> {
public:
    using owner::owner;

    // Makes a port the client's end, and detaches it; on failure it is unchanged.
    static result<client> make(port_ref port) noexcept
    {
        msgport_client *made;
        const msgport_code code = msgport_client_new(port.get(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return client(made);
    }

    result<interrupter> make_interrupter() const noexcept
    {
        msgport_interrupter *made = nullptr;
        const msgport_code code = msgport_client_interrupter(get(), &made);
        return detail::interrupter_of(code, made);
    }

    result<message> call(bytes data, items list = {}) const noexcept { return call_in(MSGPORT_FOREVER, data, list); }
    template <class Rep, class Period>
    result<message> call_for(std::chrono::duration<Rep, Period> time, bytes data, items list = {}) const noexcept
    {
        return call_in(detail::nanoseconds(time), data, list);
    }
    template <class Clock, class Duration>
    result<message> call_until(std::chrono::time_point<Clock, Duration> deadline, bytes data, items list = {}) const
    {
        return call_in(detail::nanoseconds_until(deadline), data, list);
    }
    result<pending> start(bytes data, items list = {}) const noexcept
    {
        msgport_pending *made;
        const msgport_code code =
            msgport_client_start(get(), data.data(), data.size(), list.data(), list.size(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return pending(made);
    }
    // The descriptor that a poll or epoll loop waits on: see msgport_client_descriptor().
    result<int> descriptor() const noexcept
    {
        int descriptor;
        const msgport_code code = msgport_client_descriptor(get(), &descriptor);
        if (code != MSGPORT_OK) return detail::fail(code);
        return descriptor;
    }

private:
    result<message> call_in(std::int64_t timeout, bytes data, items list) const noexcept
    {
        message answer;
        msgport_code code = answer.prepare();
        if (code == MSGPORT_OK) {
            code = msgport_client_call(get(), data.data(), data.size(), list.data(), list.size(), timeout,
                                       answer.get());
        }
        if (code != MSGPORT_OK) return detail::fail(code);
        return answer;
    }
};

// The obligation to answer one request. If it is destroyed without an answer, the call of the client fails with
// MSGPORT_REQUEST_DROPPED.
class responder : public detail::owner<msgport_responder, msgport_responder_free> {
public:
    using owner::owner;

    // True once nobody wants the answer: the pending call was destroyed, its time is over, or the client is gone.
    result<bool> is_cancelled() noexcept
    {
        int cancelled = 0;
        const msgport_code code = msgport_responder_is_cancelled(get(), &cancelled);
        if (code != MSGPORT_OK) return detail::fail(code);
        return cancelled != 0;
    }

    // Does not wait: a full queue grows.
    result<void> answer(bytes data, items list = {}) noexcept { return answer_in(0, data, list); }
    // Waits for space; the queue grows to no more than 1 MiB, or as far as this message needs.
    result<void> answer_wait(bytes data, items list = {}) noexcept { return answer_in(MSGPORT_FOREVER, data, list); }
    template <class Rep, class Period>
    result<void> answer_for(std::chrono::duration<Rep, Period> time, bytes data, items list = {}) noexcept
    {
        return answer_in(detail::nanoseconds(time), data, list);
    }
    template <class Clock, class Duration>
    result<void> answer_until(std::chrono::time_point<Clock, Duration> deadline, bytes data, items list = {})
    {
        return answer_in(detail::nanoseconds_until(deadline), data, list);
    }

private:
    result<void> answer_in(std::int64_t timeout, bytes data, items list) noexcept
    {
        return detail::as_result(
            msgport_responder_answer(get(), data.data(), data.size(), list.data(), list.size(), timeout));
    }
};

// A request and the obligation to answer it.
struct request {
    messageport::message message;
    messageport::responder responder;
};

// The end of a channel that answers requests.
class server : public detail::owner<msgport_server, msgport_server_free> {
public:
    using owner::owner;

    // Makes a port the server's end, and detaches it; on failure it is unchanged.
    static result<server> make(port_ref port) noexcept
    {
        msgport_server *made;
        const msgport_code code = msgport_server_new(port.get(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return server(made);
    }

    result<interrupter> make_interrupter() noexcept
    {
        msgport_interrupter *made = nullptr;
        const msgport_code code = msgport_server_interrupter(get(), &made);
        return detail::interrupter_of(code, made);
    }

    result<request> recv() noexcept { return recv_in(MSGPORT_FOREVER); }
    result<request> try_recv() noexcept { return recv_in(0); }
    template <class Rep, class Period>
    result<request> recv_for(std::chrono::duration<Rep, Period> time) noexcept
    {
        return recv_in(detail::nanoseconds(time));
    }
    template <class Clock, class Duration>
    result<request> recv_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return recv_in(detail::nanoseconds_until(deadline));
    }

    // F(message &, responder &), called with each request until the client is freed. What F does not answer
    // is dropped, and the client is told so. Returns at the first failure to receive, and throws what F throws.
    template <class F>
    result<void> serve(F call)
    {
        for (;;) {
            result<request> next = recv();
            if (next.has_value()) {
                call(next->message, next->responder);
            } else if (next.error() == MSGPORT_PEER_CLOSED) {
                return {};
            } else if (next.error() != MSGPORT_MESSAGE_ERROR) {
                return detail::fail(next.error().code());
            }
        }
    }
    // The descriptor that a poll or epoll loop waits on: see msgport_server_descriptor().
    result<int> descriptor() noexcept
    {
        int descriptor;
        const msgport_code code = msgport_server_descriptor(get(), &descriptor);
        if (code != MSGPORT_OK) return detail::fail(code);
        return descriptor;
    }

private:
    result<request> recv_in(std::int64_t timeout) noexcept
    {
        message asked;
        msgport_responder *open;
        msgport_code code = asked.prepare();
        if (code == MSGPORT_OK) code = msgport_server_recv(get(), timeout, asked.get(), &open);
        if (code != MSGPORT_OK) return detail::fail(code);
        return request{std::move(asked), responder(open)};
    }
};

// ---- Child processes ---------------------------------------------------------------------------------------------

struct spawn_options {
    const char *const *environment = nullptr; // entries NAME=value, a list that ends with NULL; by default this one's
    const char *directory = nullptr;          // the working directory; by default this one's
    int input = 0;                            // a descriptor, or MSGPORT_NO_STREAM; 0 is this process's own
    int output = 0;                           // as input
    int error = 0;                            // as input
};

// Starts a program, whose arguments end with NULL, and gives it a port. Returns its process number, for waitpid(2).
inline result<int> spawn_with_port(const char *program, const char *const *arguments, port_ref given,
                                   const spawn_options &options = {}) noexcept
{
    std::int32_t pid;
    const msgport_spawn_options raw = {sizeof raw, options.environment, options.directory, options.input,
                                       options.output, options.error, 0};
    const msgport_code code = msgport_spawn_with_port(program, arguments, &raw, given.get(), &pid);
    if (code != MSGPORT_OK) return detail::fail(code);
    return pid;
}

// Starts a program with at most 32 arguments, without the program's own name, and gives it a port.
inline result<int> spawn_with_port(const char *program, std::initializer_list<const char *> arguments,
                                   port_ref given, const spawn_options &options = {}) noexcept
{
    constexpr std::size_t most = 32;
    if (arguments.size() > most) return detail::fail(MSGPORT_BAD_ARGUMENT);
    const char *list[most + 2] = {program};
    std::size_t count = 1;
    for (const char *argument : arguments) list[count++] = argument;
    return spawn_with_port(program, list, given, options);
}

// Puts a port into a descriptor, for a child process that something else starts; see msgport_prepare_port(). The caller
// closes the descriptor.
inline result<int> prepare_port(port_ref given) noexcept
{
    int descriptor;
    const msgport_code code = msgport_prepare_port(given.get(), &descriptor);
    if (code != MSGPORT_OK) return detail::fail(code);
    return descriptor;
}

// The port that the parent process gave to this one.
inline result<port> parent_port() noexcept
{
    msgport_port *given;
    const msgport_code code = msgport_parent_port(&given);
    if (code != MSGPORT_OK) return detail::fail(code);
    return port(given);
}

// ---- Meeting by name ---------------------------------------------------------------------------------------------

// A client that a listener accepted, with this side's end of a new channel.
struct incoming {
    messageport::port port;
    message greeting;
    msgport_peer peer;

    // The number of the client's process, which may have ended since. Without a value the client has no number here,
    // since it runs in another pid namespace.
    std::optional<std::int32_t> pid() const noexcept
    {
        return peer.has_pid != 0 ? std::optional<std::int32_t>(peer.pid) : std::nullopt;
    }
};

struct listen_options {
    std::chrono::nanoseconds greeting_timeout{0}; // 0 is the default, 2 s
    bool any_user = false;
    bool remove_on_signal = false;                // see MSGPORT_REMOVE_ON_SIGNAL
    std::uint32_t mode = 0;                       // 0 is the default, 0600
    std::uint32_t group = 0;                      // 0 leaves the group as it is

    msgport_listen_options raw() const noexcept
    {
        return {sizeof(msgport_listen_options), greeting_timeout.count(),
                (any_user ? MSGPORT_ANY_USER : 0) | (remove_on_signal ? MSGPORT_REMOVE_ON_SIGNAL : 0), mode, group, 0};
    }
};

// Accepts processes that connect to a name. accept() waits out a shortage of memory or descriptors; the others return
// it as an error, and the listener goes on.
class listener : public detail::owner<msgport_listener, msgport_listener_free> {
public:
    using owner::owner;

    static result<listener> bind(const char *name, const listen_options &options = {}) noexcept
    {
        const msgport_listen_options raw = options.raw();
        msgport_listener *bound;
        const msgport_code code = msgport_listener_bind(name, &raw, &bound);
        if (code != MSGPORT_OK) return detail::fail(code);
        return listener(bound);
    }
    // At a socket that listens already, which is duplicated.
    static result<listener> at(int descriptor, const listen_options &options = {}) noexcept
    {
        const msgport_listen_options raw = options.raw();
        msgport_listener *bound;
        const msgport_code code = msgport_listener_at(descriptor, &raw, &bound);
        if (code != MSGPORT_OK) return detail::fail(code);
        return listener(bound);
    }
    // At a socket of the service manager; MSGPORT_EMPTY if there is none. See msgport_listener_activated().
    static result<listener> activated(const char *name = nullptr, const listen_options &options = {}) noexcept
    {
        const msgport_listen_options raw = options.raw();
        msgport_listener *bound;
        const msgport_code code = msgport_listener_activated(name, &raw, &bound);
        if (code != MSGPORT_OK) return detail::fail(code);
        return listener(bound);
    }

    result<incoming> accept() noexcept { return accept_in(MSGPORT_FOREVER); }
    result<incoming> try_accept() noexcept { return accept_in(0); }
    template <class Rep, class Period>
    result<incoming> accept_for(std::chrono::duration<Rep, Period> time) noexcept
    {
        return accept_in(detail::nanoseconds(time));
    }
    template <class Clock, class Duration>
    result<incoming> accept_until(std::chrono::time_point<Clock, Duration> deadline)
    {
        return accept_in(detail::nanoseconds_until(deadline));
    }

    const char *path() const noexcept
    {
        const char *path = "";
        msgport_listener_path(get(), &path);
        return path;
    }
    std::uint64_t refused() noexcept
    {
        std::uint64_t count = 0;
        msgport_listener_refused(get(), &count);
        return count;
    }
    result<int> descriptor() noexcept
    {
        int descriptor;
        const msgport_code code = msgport_listener_descriptor(get(), &descriptor);
        if (code != MSGPORT_OK) return detail::fail(code);
        return descriptor;
    }

private:
    result<incoming> accept_in(std::int64_t timeout) noexcept
    {
        message greeting;
        msgport_port *accepted;
        msgport_peer peer;
        msgport_code code = greeting.prepare();
        if (code == MSGPORT_OK) code = msgport_listener_accept(get(), timeout, greeting.get(), &accepted, &peer);
        if (code != MSGPORT_OK) return detail::fail(code);
        return incoming{messageport::port(accepted), std::move(greeting), peer};
    }
};

template <class F>
result<watch_id> event_loop::add_listener(listener from, F call)
{
    detail::callback<F> handler(std::move(call));
    watch_id id;
    const msgport_code code = handler.sent(msgport_loop_add_listener(
        get(), from.get(),
        [](msgport_loop *, msgport_port *accepted, msgport_message *greeting, const msgport_peer *peer, void *user) {
            message lent(greeting);
            detail::call_for_c([&] { (*static_cast<F *>(user))(port(accepted), lent, *peer); });
            static_cast<void>(lent.release());
        },
        handler.user(), detail::destroy_for_c<F>, &id));
    if (code != MSGPORT_OK) return detail::fail(code);
    return id;
}

struct connect_options {
    std::chrono::nanoseconds timeout{0}; // 0 is the default, 5 s
    bool any_user = false;
    bool wait_for_listener = false;           // until the timeout expires
    channel_options channel;
};

// Sends a greeting to the listener of a name, which makes a channel, and returns one end of it.
inline result<port> connect(const char *name, bytes greeting = {}, const connect_options &options = {}) noexcept
{
    const msgport_channel_options channel = options.channel.raw();
    const std::uint32_t flags =
        (options.any_user ? MSGPORT_ANY_USER : 0) | (options.wait_for_listener ? MSGPORT_WAIT_FOR_LISTENER : 0);
    const msgport_connect_options raw = {sizeof raw, options.timeout.count(), flags, 0, &channel};
    msgport_port *connected;
    const msgport_code code = msgport_connect(name, greeting.data(), greeting.size(), &raw, &connected);
    if (code != MSGPORT_OK) return detail::fail(code);
    return port(connected);
}

} // inline namespace
} // namespace messageport

#endif // MESSAGEPORT_HPP
