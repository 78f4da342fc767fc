// messageport.hpp: the Web's MessagePort for native processes, for C++17 and later.
//
// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A thin layer over messageport.h, which explains every word and every rule: each function here calls the function of
// the same name there, and adds nothing to what that costs.
//
//     channel               Two entangled ports: port1 and port2.
//     port                  Owns an end of a channel; closes it when it is destroyed. Moves, and is never copied.
//     port_ref              Borrows a port.
//     sender, receiver      Own the halves of a port that was split, for two threads.
//     message               A received message; memory to receive into again.
//     in_place              A message that is read where it lies.
//     reservation           A message that is written where it will lie.
//     buffer                Memory that moves.
//     frozen                Memory that nobody can write any more.
//     shared                Memory that several holders read and write.
//     descriptor            Owns a descriptor.
//     item                  Something on a transfer list.
//     event_loop, remote    Handlers, timers and tasks; what speaks to a loop from other threads.
//     port_set              Receives from many ports.
//     client, server        Request and answer.
//     listener, connect     Meeting by name.
//     spawn, parent_port    Child processes with a port.
//     result<T>             A T or a failure: std::expected where the library has it, else the same in small.
//     failure               A code of messageport.h.
//
// Functions that can fail return a result and throw nothing; value() of a result throws if there is none.
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

// What is made of the standard library differs by its version, so the names of compiled functions do too.
#if defined(__cpp_lib_expected)
inline namespace with_expected {
#elif defined(__cpp_lib_span)
inline namespace with_span {
#else
inline namespace plain {
#endif

// ---- Results -----------------------------------------------------------------------------------------------------

// Why something failed.
class failure {
public:
    explicit constexpr failure(msgport_code code) noexcept : code_(code) {}

    constexpr msgport_code code() const noexcept { return code_; }
    // "MSGPORT_FULL"
    const char *name() const noexcept { return msgport_code_name(code_); }
    // "the queue is full"
    const char *text() const noexcept { return msgport_code_text(code_); }
    // All that this thread knows about it; to be asked before the next call that fails.
    std::string describe() const
    {
        std::string text(msgport_describe(code_, nullptr, 0), '\0');
        msgport_describe(code_, text.data(), text.size() + 1);
        return text;
    }
    // The peer is gone and there will be no more messages.
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

// What value() throws.
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

// As much of std::span as is needed here.
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

// Bytes to be copied: text, or anything that lies in one piece and is plain data.
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

static_assert(sizeof(bytes) == sizeof(msgport_bytes) && std::is_standard_layout_v<bytes>, "several of them are C's");

// The bytes of one value of plain data.
template <class T>
bytes bytes_of(const T &value) noexcept
{
    static_assert(std::is_trivially_copyable_v<T>, "only plain data can be sent as bytes");
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

    // The handle, still owned here.
    constexpr Handle *get() const noexcept { return handle_; }
    // The handle, for the caller to free.
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

// A time as messageport.h takes it: rounded up, over if it has passed, forever if it is centuries.
template <class Rep, class Period>
std::int64_t nanoseconds(std::chrono::duration<Rep, Period> time) noexcept
{
    using namespace std::chrono;
    if (duration<double>(time).count() >= 9e9) return MSGPORT_FOREVER;
    const std::int64_t count = ceil<std::chrono::nanoseconds>(time).count();
    return count > 1 ? count : 1;
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

// Memory that moves.
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

    // 0 for one that has moved away.
    std::size_t size() noexcept
    {
        std::size_t size = 0;
        msgport_buffer_len(get(), &size);
        return size;
    }
    // The memory in place. Empty for one that has moved away.
    span<std::byte> data() noexcept
    {
        void *data = nullptr;
        std::size_t size = 0;
        msgport_buffer_data(get(), &data, &size);
        return {static_cast<std::byte *>(data), size};
    }
    result<void> write(std::size_t offset, bytes from) noexcept
    {
        return detail::as_result(msgport_buffer_write(get(), offset, from.data(), from.size()));
    }
    result<void> read(std::size_t offset, void *into, std::size_t size) noexcept
    {
        return detail::as_result(msgport_buffer_read(get(), offset, into, size));
    }
};

// Memory that nobody can write any more. The bytes may be read by any number of threads.
class frozen : public detail::owner<msgport_frozen, msgport_frozen_free> {
public:
    using owner::owner;

    // A copy of these bytes.
    static result<frozen> make(bytes from) noexcept
    {
        msgport_frozen *made;
        const msgport_code code = msgport_frozen_new(from.data(), from.size(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return frozen(made);
    }
    // A copy of a regular file's contents.
    static result<frozen> from_file(int descriptor) noexcept
    {
        msgport_frozen *made;
        const msgport_code code = msgport_frozen_from_file(descriptor, &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return frozen(made);
    }
    // The memory of a buffer, which is detached then; on failure it is as it was.
    static result<frozen> of(buffer &filled) noexcept
    {
        msgport_frozen *made;
        const msgport_code code = msgport_buffer_freeze(filled.get(), &made);
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

// Memory that several holders, in whatever threads and processes, read and write at the same time.
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
    // The same with a name, for processes that have no port between them.
    static result<shared> create(const char *name, std::size_t size) noexcept
    {
        msgport_shared *made;
        const msgport_code code = msgport_shared_create_named(name, size, &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return shared(made);
    }
    // That of a name, with at least `min_size` bytes.
    static result<shared> open(const char *name, std::size_t min_size = 0) noexcept
    {
        msgport_shared *made;
        const msgport_code code = msgport_shared_open_named(name, min_size, &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return shared(made);
    }
    static result<void> remove(const char *name) noexcept
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
    // The memory in place: words are accessed by atomics, which also tell who may use the rest when.
    span<std::byte> data() const noexcept
    {
        void *data = nullptr;
        std::size_t size = 0;
        msgport_shared_data(get(), &data, &size);
        return {static_cast<std::byte *>(data), size};
    }
    result<void> write(std::size_t offset, bytes from) const noexcept
    {
        return detail::as_result(msgport_shared_write(get(), offset, from.data(), from.size()));
    }
    result<void> read(std::size_t offset, void *into, std::size_t size) const noexcept
    {
        return detail::as_result(msgport_shared_read(get(), offset, into, size));
    }
};

// Owns a descriptor; closes it when it is destroyed.
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

// Something on a transfer list. It borrows. Ports and buffers on the list of a message that was posted are detached; of
// the others the receiver gets its own.
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
static_assert(sizeof(item) == sizeof(msgport_item) && std::is_standard_layout_v<item>, "a list of items is one of C");

// Several of them.
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
    // The data as text. It is not checked.
    std::string_view text() const noexcept
    {
        const auto bytes = data();
        return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
    }
    // The data as one value of plain data. MSGPORT_OUT_OF_RANGE if it has another size.
    template <class T>
    result<T> as() const noexcept
    {
        static_assert(std::is_trivially_copyable_v<T>, "only plain data can be received as bytes");
        const auto bytes = data();
        if (bytes.size() != sizeof(T)) return detail::fail(MSGPORT_OUT_OF_RANGE);
        T value;
        std::memcpy(&value, bytes.data(), sizeof(T));
        return value;
    }

    // How many of each kind came with it.
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
    // It can be anything that the sender had.
    result<descriptor> take_descriptor(std::size_t index = 0) noexcept
    {
        int taken;
        const msgport_code code = msgport_message_take_descriptor(get(), index, &taken);
        if (code != MSGPORT_OK) return detail::fail(code);
        return descriptor(taken);
    }
    void clear() noexcept { msgport_message_clear(get()); }

    // The handle, made if there is none yet.
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

// A message that is read where it lies; its space goes back to the sender with this. The port must outlive it.
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

    // The peer can still write to it if it breaks the protocol.
    span<const std::byte> data() const noexcept { return data_; }
    std::string_view text() const noexcept { return {reinterpret_cast<const char *>(data_.data()), data_.size()}; }
    // Its ports and buffers.
    message &rest() noexcept { return rest_; }

private:
    msgport_port *port_;
    message rest_;
    span<const std::byte> data_;
};

// A message that is written where it will lie. Destroyed without a commit it leaves no trace. The port must outlive it.
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

// The messages of a port, one after the other, in the same memory, until there are no more:
//     auto messages = port.messages();
//     for (auto &message : messages) ...
//     messages.reason() says why it ended
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

// ---- Ports -------------------------------------------------------------------------------------------------------

namespace detail {

// What any end can do.
template <class End>
class closing {
public:
    void close() noexcept { msgport_port_close(handle()); }
    template <class Rep, class Period>
    void set_spin(std::chrono::duration<Rep, Period> budget) noexcept
    {
        const std::int64_t time = budget.count() > 0 ? nanoseconds(budget) : 0;
        msgport_port_set_spin(handle(), static_cast<std::uint64_t>(time));
    }

protected:
    msgport_port *handle() noexcept { return static_cast<End *>(this)->get(); }
};

// What a port and a sending half can do.
template <class End>
class sending : public closing<End> {
public:
    result<void> post(bytes data, items list = {}) noexcept
    {
        return as_result(msgport_port_post(this->handle(), data.data(), data.size(), list.data(), list.size()));
    }
    // Several messages, in one call, waiting for space if need be. How many were posted, if not all.
    result<void> post_messages(const bytes *messages, std::size_t count, std::size_t *posted = nullptr) noexcept
    {
        std::size_t done;
        const auto *raw = reinterpret_cast<const msgport_bytes *>(messages);
        const msgport_code code =
            msgport_port_post_messages(this->handle(), raw, count, MSGPORT_FOREVER, posted ? posted : &done);
        return as_result(code);
    }
    // Waits for space.
    result<void> post_wait(bytes data, items list = {}) noexcept { return post_in(MSGPORT_FOREVER, data, list); }
    template <class Rep, class Period>
    result<void> post_for(std::chrono::duration<Rep, Period> time, bytes data, items list = {}) noexcept
    {
        return post_in(nanoseconds(time), data, list);
    }
    template <class Clock, class Duration>
    result<void> post_until(std::chrono::time_point<Clock, Duration> deadline, bytes data, items list = {})
    {
        return post_in(nanoseconds_until(deadline), data, list);
    }
    result<reservation> reserve(std::size_t size) noexcept
    {
        void *data;
        const msgport_code code = msgport_port_reserve(this->handle(), size, &data);
        if (code != MSGPORT_OK) return fail(code);
        return reservation(this->handle(), {static_cast<std::byte *>(data), size});
    }
    std::size_t max_message_size() noexcept
    {
        std::size_t size = 0;
        msgport_port_max_message_len(this->handle(), &size);
        return size;
    }
    std::size_t max_inline_size() noexcept
    {
        std::size_t size = 0;
        msgport_port_max_inline_len(this->handle(), &size);
        return size;
    }
    // How full the queue towards the peer is.
    result<msgport_queued> queued() noexcept
    {
        msgport_queued queued = MSGPORT_QUEUED_INIT;
        const msgport_code code = msgport_port_queued(this->handle(), &queued);
        if (code != MSGPORT_OK) return fail(code);
        return queued;
    }
    // A buffer to be filled and posted here: one that came back, or a new one.
    result<messageport::buffer> buffer(std::size_t size) noexcept
    {
        msgport_buffer *made;
        const msgport_code code = msgport_port_buffer(this->handle(), size, &made);
        if (code != MSGPORT_OK) return fail(code);
        return messageport::buffer(made);
    }
    // Gives back the memory of buffers that nobody uses at the moment.
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
            msgport_port_post_wait(this->handle(), data.data(), data.size(), list.data(), list.size(), timeout));
    }
};

// What a port and a receiving half can do. try_ only looks, _for waits for a time, _until until a time.
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

    // The same into memory that is used again. Returns the data, which is valid as long as that of the message.
    result<span<const std::byte>> recv_into(message &into) noexcept { return recv_into_in(MSGPORT_FOREVER, into); }
    result<span<const std::byte>> try_recv_into(message &into) noexcept { return recv_into_in(0, into); }
    template <class Rep, class Period>
    result<span<const std::byte>> recv_into_for(std::chrono::duration<Rep, Period> time, message &into) noexcept
    {
        return recv_into_in(nanoseconds(time), into);
    }

    // The same in place.
    result<in_place> recv_ref() noexcept { return recv_ref_in(MSGPORT_FOREVER); }
    result<in_place> try_recv_ref() noexcept { return recv_ref_in(0); }
    template <class Rep, class Period>
    result<in_place> recv_ref_for(std::chrono::duration<Rep, Period> time) noexcept
    {
        return recv_ref_in(nanoseconds(time));
    }

    // One after the other until the end.
    message_range messages() noexcept { return message_range(self()); }

    // To wait on in a poll or epoll loop: see msgport_port_descriptor.
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

// The loop that runs on this thread, and what a handler of it threw.
struct running_here {
    msgport_loop *loop = nullptr;
    std::exception_ptr thrown;
};
inline running_here &here() noexcept
{
    static thread_local running_here state;
    return state;
}

// Calls a handler for C, which no exception may reach: the loop stops, and throws it when it returns.
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

// A handler on its way to C, which owns it once it has been taken.
template <class F>
class callback {
public:
    explicit callback(F call) : call_(new F(std::move(call))) {}
    void *user() const noexcept { return call_.get(); }
    // Whether C has taken it.
    msgport_code sent(msgport_code code) noexcept
    {
        if (code == MSGPORT_OK) static_cast<void>(call_.release());
        return code;
    }

private:
    std::unique_ptr<F> call_;
};

} // namespace detail

// How a handler is added: instead of the one that was set before; beside the others; for one time.
enum class how : std::uint32_t { set = MSGPORT_SET, add = MSGPORT_ADD, once = MSGPORT_ADD_ONCE };

// Names a handler or a timer.
using listener_id = std::uint64_t;
using timer_id = std::uint64_t;

namespace detail {

// What a port in an event loop can do. Handlers are lambdas, or whatever can be called.
template <class End>
class listening {
public:
    // F(port_ref, message &). The message is the loop's; what is to be kept is taken out of it.
    template <class F>
    result<listener_id> on_message(F call, how way = how::set)
    {
        callback<F> handler(std::move(call));
        listener_id id;
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
    // F(port_ref, span<const std::byte>), with the data of a message that cannot be received.
    template <class F>
    result<listener_id> on_message_error(F call, how way = how::set)
    {
        callback<F> handler(std::move(call));
        listener_id id;
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
    // F(port_ref, failure), with the reason.
    template <class F>
    result<listener_id> on_close(F call, how way = how::set)
    {
        callback<F> handler(std::move(call));
        listener_id id;
        const msgport_code code = handler.sent(msgport_port_on_close(
            self(), static_cast<std::uint32_t>(way),
            [](msgport_port *port, msgport_code reason, void *user) {
                call_for_c([&] { (*static_cast<F *>(user))(End::ref(port), failure(reason)); });
            },
            handler.user(), destroy_for_c<F>, &id));
        if (code != MSGPORT_OK) return fail(code);
        return id;
    }
    result<void> remove_listener(listener_id id) noexcept
    {
        return as_result(msgport_port_remove_listener(self(), id));
    }
    result<void> start() noexcept { return as_result(msgport_port_start(self())); }
    // Calls the handlers of messages at once.
    result<void> dispatch(message &own) noexcept { return as_result(msgport_port_dispatch(self(), own.get())); }

private:
    msgport_port *self() noexcept { return static_cast<End *>(this)->get(); }
};

} // namespace detail

// Borrows a port; to be passed by value.
class port_ref : public detail::sending<port_ref>,
                 public detail::receiving<port_ref>,
                 public detail::listening<port_ref> {
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
                 public detail::listening<receiver> {
public:
    using owner::owner;
    static port_ref ref(msgport_port *handle) noexcept { return port_ref(handle); }
};

// One end of a channel.
class port : public detail::port_owner,
             public detail::sending<port>,
             public detail::receiving<port>,
             public detail::listening<port> {
public:
    using owner::owner;
    static port_ref ref(msgport_port *handle) noexcept { return port_ref(handle); }

    operator port_ref() & noexcept { return port_ref(get()); }

    // The two halves. The port is empty then; on failure it is as it was.
    result<std::pair<sender, receiver>> split() && noexcept
    {
        msgport_port *half;
        const msgport_code code = msgport_port_split(get(), &half);
        if (code != MSGPORT_OK) return detail::fail(code);
        return std::pair<sender, receiver>(sender(release()), receiver(half));
    }
    // One port again. The halves are empty then; on failure they are as they were.
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

// 0 is the default.
struct channel_options {
    std::size_t capacity = 0;
    std::size_t max_capacity = 0;
    std::size_t max_message_size = 0;
    std::uint64_t cached_bytes = 0;
    std::uint32_t cached_buffers = 0;
    std::uint32_t max_handles = 0;
    bool data_only = false;
    bool no_cache = false;

    msgport_channel_options raw() const noexcept
    {
        std::uint32_t flags = 0;
        if (data_only) flags |= MSGPORT_CHANNEL_DATA_ONLY;
        if (no_cache) flags |= MSGPORT_CHANNEL_NO_CACHE;
        return {sizeof(msgport_channel_options), capacity,    max_capacity, max_message_size, cached_bytes,
                cached_buffers,                  max_handles, flags,        0};
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

// Speaks to an event loop from any thread.
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

// Calls the handlers of its ports, timers and tasks, on one thread. If one throws, the loop stops and throws that; what
// has not been handled goes on waiting.
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

    // The port stays the caller's, and must not be destroyed as long as handlers are to be called for it.
    result<void> add(port_ref port) noexcept { return detail::as_result(msgport_loop_add(get(), port.get())); }
    result<void> add(receiver &half) noexcept { return detail::as_result(msgport_loop_add(get(), half.get())); }
    result<void> remove(port_ref port) noexcept { return detail::as_result(msgport_loop_remove(get(), port.get())); }
    result<void> remove(receiver &half) noexcept { return detail::as_result(msgport_loop_remove(get(), half.get())); }

    // Until it is stopped, or until nothing is left that could happen.
    result<void> run() { return run_in(MSGPORT_FOREVER); }
    template <class Rep, class Period>
    result<void> run_for(std::chrono::duration<Rep, Period> time)
    {
        return run_in(time.count() > 0 ? detail::nanoseconds(time) : 0);
    }
    // One round, waiting for it at most this time. Returns how many handlers were called.
    template <class Rep, class Period>
    result<std::size_t> poll_for(std::chrono::duration<Rep, Period> time)
    {
        std::size_t count;
        const std::int64_t timeout = time.count() > 0 ? detail::nanoseconds(time) : 0;
        const msgport_code code = running([&] { return msgport_loop_poll(get(), timeout, &count); });
        if (code != MSGPORT_OK) return detail::fail(code);
        return count;
    }
    // One round of what is there now, for a program that has a loop of its own and polls the descriptor.
    result<std::size_t> dispatch()
    {
        std::size_t count;
        const msgport_code code = running([&] { return msgport_loop_dispatch(get(), &count); });
        if (code != MSGPORT_OK) return detail::fail(code);
        return count;
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
        const std::int64_t time = budget.count() > 0 ? detail::nanoseconds(budget) : 0;
        msgport_loop_set_spin(get(), static_cast<std::uint64_t>(time));
    }

    // F(), once.
    template <class Rep, class Period, class F>
    result<timer_id> set_timeout(std::chrono::duration<Rep, Period> delay, F call)
    {
        detail::callback<F> timer(std::move(call));
        timer_id id;
        const std::int64_t time = delay.count() > 0 ? detail::nanoseconds(delay) : 0;
        const msgport_code code = timer.sent(msgport_loop_set_timeout(
            get(), static_cast<std::uint64_t>(time),
            [](msgport_loop *, void *user) { detail::call_for_c([&] { (*static_cast<F *>(user))(); }); },
            timer.user(), detail::destroy_for_c<F>, &id));
        if (code != MSGPORT_OK) return detail::fail(code);
        return id;
    }
    result<void> clear_timeout(timer_id id) noexcept
    {
        return detail::as_result(msgport_loop_clear_timeout(get(), id));
    }
    // F(failure), for what nobody else is told.
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
    // For other threads. As long as there is one, run() goes on.
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
        const msgport_code code = call(); // which throws nothing
        detail::here().loop = before;
        if (detail::here().thrown) std::rethrow_exception(std::exchange(detail::here().thrown, nullptr));
        return code;
    }
    result<void> run_in(std::int64_t timeout)
    {
        return detail::as_result(running([&] { return msgport_loop_run(get(), timeout); }));
    }
};

// ---- Sets of ports -----------------------------------------------------------------------------------------------

// What happened to a port of a set.
struct set_event {
    port_ref port;
    failure what; // MSGPORT_OK: a message
    bool is_message() const noexcept { return what == MSGPORT_OK; }
};

// Receives from many ports, whichever has something.
class port_set : public detail::owner<msgport_set, msgport_set_free> {
public:
    using owner::owner;

    static result<port_set> make() noexcept
    {
        msgport_set *made;
        const msgport_code code = msgport_set_new(&made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return port_set(made);
    }

    // The port stays the caller's; destroyed, it leaves the set.
    result<void> add(port_ref port) noexcept { return detail::as_result(msgport_set_add(get(), port.get())); }
    result<void> add(receiver &half) noexcept { return detail::as_result(msgport_set_add(get(), half.get())); }
    result<void> remove(port_ref port) noexcept { return detail::as_result(msgport_set_remove(get(), port.get())); }
    result<void> remove(receiver &half) noexcept { return detail::as_result(msgport_set_remove(get(), half.get())); }

    // Waits for the next thing that happens; a message goes into `into`.
    result<set_event> next(message &into) noexcept { return next_in(MSGPORT_FOREVER, into); }
    result<set_event> try_next(message &into) noexcept { return next_in(0, into); }
    template <class Rep, class Period>
    result<set_event> next_for(std::chrono::duration<Rep, Period> time, message &into) noexcept
    {
        return next_in(detail::nanoseconds(time), into);
    }

private:
    result<set_event> next_in(std::int64_t timeout, message &into) noexcept
    {
        msgport_set_event event;
        msgport_code code = into.prepare();
        if (code == MSGPORT_OK) code = msgport_set_next(get(), timeout, into.get(), &event);
        if (code != MSGPORT_OK) return detail::fail(code);
        return set_event{port_ref(event.port), failure(event.code)};
    }
};

// ---- Request and answer ------------------------------------------------------------------------------------------

// A call that has not been answered. Destroyed, it is given up.
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

// Asks, over one end of a channel. May be used by several threads at the same time. The port is closed when the client
// and its pending calls are gone.
class client : public detail::owner<msgport_client, msgport_client_free> {
public:
    using owner::owner;

    // Makes a port the client's, and detaches it; on failure it is as it was.
    static result<client> make(port_ref port) noexcept
    {
        msgport_client *made;
        const msgport_code code = msgport_client_new(port.get(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return client(made);
    }

    result<message> call(bytes data, items list = {}) const noexcept { return call_in(MSGPORT_FOREVER, data, list); }
    template <class Rep, class Period>
    result<message> call_for(std::chrono::duration<Rep, Period> time, bytes data, items list = {}) const noexcept
    {
        return call_in(detail::nanoseconds(time), data, list);
    }
    result<pending> start(bytes data, items list = {}) const noexcept
    {
        msgport_pending *made;
        const msgport_code code =
            msgport_client_start(get(), data.data(), data.size(), list.data(), list.size(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return pending(made);
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

// The duty to answer one request. Destroyed without an answer, it tells the client so.
class responder : public detail::owner<msgport_responder, msgport_responder_free> {
public:
    using owner::owner;

    result<void> answer(bytes data, items list = {}) noexcept { return answer_in(0, data, list); }
    // Waits for space.
    result<void> answer_wait(bytes data, items list = {}) noexcept { return answer_in(MSGPORT_FOREVER, data, list); }
    template <class Rep, class Period>
    result<void> answer_for(std::chrono::duration<Rep, Period> time, bytes data, items list = {}) noexcept
    {
        return answer_in(detail::nanoseconds(time), data, list);
    }

private:
    result<void> answer_in(std::int64_t timeout, bytes data, items list) noexcept
    {
        return detail::as_result(
            msgport_responder_answer(get(), data.data(), data.size(), list.data(), list.size(), timeout));
    }
};

// What a server receives.
struct request {
    messageport::message message;
    messageport::responder responder;
};

// Is asked, over the other end.
class server : public detail::owner<msgport_server, msgport_server_free> {
public:
    using owner::owner;

    // Makes a port the server's, and detaches it; on failure it is as it was.
    static result<server> make(port_ref port) noexcept
    {
        msgport_server *made;
        const msgport_code code = msgport_server_new(port.get(), &made);
        if (code != MSGPORT_OK) return detail::fail(code);
        return server(made);
    }

    result<request> recv() noexcept { return recv_in(MSGPORT_FOREVER); }
    result<request> try_recv() noexcept { return recv_in(0); }
    template <class Rep, class Period>
    result<request> recv_for(std::chrono::duration<Rep, Period> time) noexcept
    {
        return recv_in(detail::nanoseconds(time));
    }

private:
    result<request> recv_in(std::int64_t timeout) noexcept
    {
        message asked;
        msgport_responder *duty;
        msgport_code code = asked.prepare();
        if (code == MSGPORT_OK) code = msgport_server_recv(get(), timeout, asked.get(), &duty);
        if (code != MSGPORT_OK) return detail::fail(code);
        return request{std::move(asked), responder(duty)};
    }
};

// ---- Child processes ---------------------------------------------------------------------------------------------

// Starts a program, whose arguments end with NULL, and gives it a port. Returns its process number, to be waited for.
inline result<int> spawn(const char *program, const char *const *arguments, port_ref given,
                         const char *const *environment = nullptr) noexcept
{
    std::int32_t pid;
    const msgport_code code = msgport_spawn(program, arguments, environment, given.get(), &pid);
    if (code != MSGPORT_OK) return detail::fail(code);
    return pid;
}

// The same with a short list of arguments, the program's name not among them.
inline result<int> spawn(const char *program, std::initializer_list<const char *> arguments, port_ref given) noexcept
{
    constexpr std::size_t most = 32;
    if (arguments.size() > most) return detail::fail(MSGPORT_BAD_ARGUMENT);
    const char *list[most + 2] = {program};
    std::size_t count = 1;
    for (const char *argument : arguments) list[count++] = argument;
    return spawn(program, list, given);
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

// What a listener accepts.
struct incoming {
    messageport::port port;
    message greeting;
    msgport_peer peer;
};

struct listen_options {
    std::chrono::nanoseconds greeting_timeout{0}; // 0: the default, 2 s
    bool any_user = false;
};

// Accepts ports from processes that connect to a name.
class listener : public detail::owner<msgport_listener, msgport_listener_free> {
public:
    using owner::owner;

    static result<listener> bind(const char *name, const listen_options &options = {}) noexcept
    {
        const msgport_listen_options raw = {sizeof raw, options.greeting_timeout.count(),
                                            options.any_user ? MSGPORT_ANY_USER : 0, 0};
        msgport_listener *bound;
        const msgport_code code = msgport_listener_bind(name, &raw, &bound);
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

struct connect_options {
    std::chrono::nanoseconds timeout{0}; // 0: the default, 5 s
    bool any_user = false;
    channel_options channel;
};

// Brings one end of a new channel to the listener of a name, and returns the other one.
inline result<port> connect(const char *name, bytes greeting = {}, const connect_options &options = {}) noexcept
{
    const msgport_channel_options channel = options.channel.raw();
    const msgport_connect_options raw = {sizeof raw, options.timeout.count(), options.any_user ? MSGPORT_ANY_USER : 0,
                                         0, &channel};
    msgport_port *connected;
    const msgport_code code = msgport_connect(name, greeting.data(), greeting.size(), &raw, &connected);
    if (code != MSGPORT_OK) return detail::fail(code);
    return port(connected);
}

} // inline namespace
} // namespace messageport

#endif // MESSAGEPORT_HPP
