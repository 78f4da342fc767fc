// The rules of a port, one case each, in C++.
#include "../c/check.h"

#include <messageport.hpp>

#include <array>
#include <string>
#include <thread>
#include <vector>

namespace mp = messageport;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 20s;

mp::channel make_channel() { return mp::channel::make().value(); }

void expect_text(mp::port_ref port, std::string_view text)
{
    auto message = port.recv_for(patience);
    CHECK(message.has_value());
    CHECK(message->text() == text);
}

mp::port hop(mp::port port)
{
    auto carrier = make_channel();
    carrier.port1.post_message("", {port}).value();
    return carrier.port2.recv_for(patience).value().take_port().value();
}

void expect_entangled(mp::port_ref a, mp::port_ref b)
{
    a.post_message("are you there?").value();
    expect_text(b, "are you there?");
    b.post_message("yes").value();
    expect_text(a, "yes");
}

template <class Result>
bool fails(const Result &result, msgport_code code)
{
    return !result.has_value() && result.error() == code;
}

void s01_make_makes_two_entangled_ports()
{
    auto channel = make_channel();
    expect_entangled(channel.port1, channel.port2);
    CHECK(fails(channel.port1.try_recv(), MSGPORT_EMPTY));
}

void s05_order_holds_across_transfers()
{
    auto [a, b] = make_channel();
    int number = 0;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 10; i++, number++) a.post_message(mp::bytes_of(number)).value();
        a = hop(std::move(a));
        b = hop(std::move(b));
    }
    a.close();
    int expected = 0;
    auto messages = b.messages();
    for (auto &message : messages) CHECK(message.as<int>().value() == expected++);
    CHECK(expected == number && messages.reason() == MSGPORT_PEER_CLOSED && messages.reason().is_end());
}

void s07_every_kind_of_bytes()
{
    auto [a, b] = make_channel();
    const std::string text = "a string";
    struct {
        std::int32_t x, y;
    } point = {3, 4};
    a.post_message(text).value();
    a.post_message(std::string_view("a view")).value();
    a.post_message("a literal").value();
    a.post_message(std::vector<int>{1, 2, 3}).value();
    a.post_message(std::array<char, 2>{'o', 'k'}).value();
    a.post_message(mp::bytes_of(point)).value();
    a.post_message({"part of this", 4}).value();
    a.post_message({}).value();
    const mp::bytes several[] = {"one", "two"};
    std::size_t posted = 0;
    a.post_messages(several, 2, &posted).value();
    CHECK(posted == 2);
    expect_text(b, "a string");
    expect_text(b, "a view");
    expect_text(b, "a literal");
    CHECK((b.recv().value().as<std::array<int, 3>>().value()[2] == 3));
    expect_text(b, "ok");
    const auto message = b.recv().value();
    CHECK(message.as<decltype(point)>()->y == 4);
    CHECK(fails(message.as<char>(), MSGPORT_OUT_OF_RANGE));
    CHECK(message.data().size() == 8 && message.data()[0] == std::byte{3});
    expect_text(b, "part");
    CHECK(b.recv().value().size() == 0);
    expect_text(b, "one");
    expect_text(b, "two");
}

void s08_a_full_queue_can_be_waited_for()
{
    mp::channel_options options;
    options.capacity = options.max_capacity = 4096;
    auto [a, b] = mp::channel::make(options).value();
    const std::string block(1000, 'x');
    mp::result<void> posted;
    while ((posted = a.post_message(block))) continue;
    CHECK(fails(posted, MSGPORT_FULL));
    CHECK(fails(a.post_message_for(1ms, block), MSGPORT_TIMED_OUT));
    CHECK(fails(a.post_message_until(std::chrono::steady_clock::now() + 1ms, block), MSGPORT_TIMED_OUT));
    std::thread reader([port = mp::port_ref(b)]() mutable {
        for (int i = 0; i < 4; i++) port.recv().value();
    });
    a.post_message_wait(block).value();
    reader.join();
}

void s09_a_list_moves_as_a_whole_or_not_at_all()
{
    auto [a, b] = make_channel();
    auto [c, d] = make_channel();
    auto buffer = mp::buffer::make(64).value();
    buffer.write_at(0, "inside").value();
    CHECK(fails(a.post_message("", {c, buffer, a}), MSGPORT_CONTAINS_SELF));
    CHECK(fails(a.post_message("", {c, buffer, b}), MSGPORT_CONTAINS_PEER));
    const auto twice = a.post_message("", {c, buffer, c});
    CHECK(fails(twice, MSGPORT_DUPLICATE) && twice.error().item() == 2u);
    CHECK(fails(a.post_message("", {c, buffer, mp::port()}), MSGPORT_BAD_ITEM));
    CHECK(!twice.error().item()); // no longer the last failure
    expect_entangled(c, d);
    CHECK(buffer.size() == 64);
    a.post_message("things", {c, buffer}).value();
    CHECK(buffer.size() == 0 && buffer.data().empty());
    CHECK(fails(c.post_message("x"), MSGPORT_DETACHED));
    auto message = b.recv().value();
    CHECK(message.ports() == 1 && message.buffers() == 1);
    auto port = message.take_port().value();
    auto memory = message.take_buffer().value();
    CHECK(fails(message.take_port(), MSGPORT_TAKEN));
    CHECK(fails(message.take_port(1), MSGPORT_OUT_OF_RANGE));
    expect_entangled(port, d);
    CHECK(std::memcmp(memory.data().data(), "inside", 6) == 0);
    std::array<char, 6> copy;
    memory.read_at(0, copy.data(), copy.size()).value();
    CHECK(std::string_view(copy.data(), copy.size()) == "inside");
    std::vector<mp::item> list;
    list.emplace_back(port);
    list.emplace_back(memory);
    a.post_message("a list made at run time", {list.data(), list.size()}).value();
}

void s25_the_queue_moves_with_the_port()
{
    auto [a, b] = make_channel();
    a.post_message("first").value();
    b = hop(std::move(b));
    a.post_message("second").value();
    expect_text(b, "first");
    expect_text(b, "second");
}

void s45_the_end_has_a_reason()
{
    auto channel = make_channel();
    const auto pid = mp::spawn_with_port(this_program, {"as a child"}, channel.port2).value();
    CHECK(fails(channel.port2.post_message("x"), MSGPORT_DETACHED));
    channel.port1.post_message("hello").value();
    expect_text(channel.port1, "hello");
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK(waitpid(pid, nullptr, 0) == pid);
    auto end = channel.port1.recv();
    CHECK(fails(end, MSGPORT_PEER_DIED));
    CHECK(end.error().is_end() && std::string_view(end.error().name()) == "MSGPORT_PEER_DIED");
    CHECK(end.error().describe() == "the process that held the peer ended");
}

void s47_destroying_closes_and_moving_does_not()
{
    auto channel = make_channel();
    {
        mp::port moved = std::move(channel.port1);
        CHECK(!channel.port1 && moved);
        CHECK(fails(channel.port1.post_message("x"), MSGPORT_NULL_ARGUMENT));
        channel.port1 = std::move(moved);
        expect_entangled(channel.port1, channel.port2);
        mp::port gone = std::move(channel.port1);
    }
    CHECK(fails(channel.port2.recv(), MSGPORT_PEER_CLOSED));
    static_assert(!std::is_copy_constructible_v<mp::port> && !std::is_copy_constructible_v<mp::message>);
    static_assert(!std::is_copy_constructible_v<mp::buffer> && !std::is_copy_constructible_v<mp::reservation>);
    static_assert(sizeof(mp::port) == sizeof(void *) && sizeof(mp::port_ref) == sizeof(void *));
    static_assert(std::is_trivially_copyable_v<mp::port_ref>);
}

void writing_and_reading_in_place()
{
    auto [a, b] = make_channel();
    auto [c, d] = make_channel();
    {
        auto space = a.reserve(100).value();
        std::memcpy(space.data().data(), "in place", 8);
        CHECK(fails(a.post_message("x"), MSGPORT_BORROWED));
        CHECK(fails(space.commit(101), MSGPORT_OUT_OF_RANGE));
        space.commit(8).value();
    }
    {
        auto abandoned = a.reserve(5).value();
    }
    a.post_message("next", {c}).value();
    {
        auto view = b.recv_ref().value();
        CHECK(view.text() == "in place" && view.data().size() == 8);
        CHECK(fails(b.try_recv(), MSGPORT_BORROWED));
    }
    auto view = b.recv_ref_for(patience).value();
    CHECK(view.text() == "next");
    auto port = view.rest().take_port().value();
    expect_entangled(port, d);
    a.reserve(3)->commit().value();
}

void several_messages_in_one_call()
{
    auto [a, b] = make_channel();
    std::array<mp::message, 4> into;
    CHECK(fails(b.try_recv_messages(into.data(), into.size()), MSGPORT_EMPTY));
    CHECK(fails(b.recv_messages_for(1ms, into.data(), into.size()), MSGPORT_TIMED_OUT));
    CHECK(fails(b.recv_messages_until(std::chrono::steady_clock::now(), into.data(), into.size()), MSGPORT_TIMED_OUT));

    const mp::bytes texts[] = {"one", "two", "three", "four", "five"};
    std::size_t posted = 0;
    a.post_messages_for(patience, texts, 3, &posted).value();
    CHECK(posted == 3);
    a.post_messages_until(std::chrono::steady_clock::now() + patience, texts + 3, 2, &posted).value();
    CHECK(posted == 2);
    // As many as there is room for, and then the rest.
    CHECK(b.recv_messages(into.data(), into.size()).value() == 4);
    for (int i = 0; i < 4; i++) CHECK(into[i].size() == texts[i].size());
    CHECK(into[3].text() == "four");
    CHECK(b.recv_messages_until(std::chrono::steady_clock::now() + patience, into.data(), into.size()).value() == 1);
    CHECK(into[0].text() == "five");

    a.post_message("last").value();
    a.close();
    CHECK(b.recv_messages_for(patience, into.data(), into.size()).value() == 1);
    CHECK(fails(b.recv_messages(into.data(), into.size()), MSGPORT_PEER_CLOSED));

    // A full queue that no receiver empties.
    mp::channel_options options;
    options.capacity = options.max_capacity = 4096;
    auto [full, slow] = mp::channel::make(options).value();
    const std::string text(1000, 'x');
    const mp::bytes many[] = {text, text, text, text, text, text, text, text};
    CHECK(fails(full.post_messages_for(1ms, many, 8, &posted), MSGPORT_TIMED_OUT));
    CHECK(posted > 0 && posted < 8);
    CHECK(fails(full.post_messages_until(std::chrono::steady_clock::now(), many, 8), MSGPORT_TIMED_OUT));
    CHECK(slow.recv_for(patience).value().size() == text.size());
}

void memory_that_is_used_again()
{
    auto [a, b] = make_channel();
    mp::message message;
    CHECK(message.size() == 0 && message.ports() == 0);
    a.post_message("one").value();
    a.post_message("two").value();
    b.recv_into(message).value();
    CHECK(message.text() == "one");
    b.try_recv_into(message).value();
    CHECK(message.text() == "two");
    CHECK(fails(b.try_recv_into(message), MSGPORT_EMPTY));
    CHECK(fails(b.recv_into_for(1ms, message), MSGPORT_TIMED_OUT));
    CHECK(fails(b.recv_until(std::chrono::system_clock::now() - 1h), MSGPORT_TIMED_OUT));
    CHECK(message.size() == 0);
    message.clear();
    b.set_spin(1us);
    CHECK(b.descriptor().value() > 2);
    CHECK(b.queued()->max_inline_len == 65536 / 16 * 7 - 8 &&
          b.queued()->max_message_len > b.queued()->max_inline_len);
}

void a_call_and_its_answer_carry_everything()
{
    auto [a, b] = make_channel();
    auto [c, d] = make_channel();
    auto client = mp::client::make(a).value();
    auto server = mp::server::make(b).value();
    auto buffer = mp::buffer::make(8).value();
    auto ice = mp::frozen::from_bytes("solid").value();
    auto water = mp::shared::make(64).value();
    auto call = client.start("all", {d, buffer, ice, water, mp::descriptor(dup(0))}).value();
    auto asked = server.recv_for(patience).value();
    {
        auto port = asked.message.take_port().value();
        auto again = asked.message.take_buffer().value();
        auto cold = asked.message.take_frozen().value();
        auto wet = asked.message.take_shared().value();
        auto file = asked.message.take_descriptor().value();
        asked.responder.answer("all", {port, again, cold, wet, file}).value();
    }
    auto answer = call.wait_for(patience).value();
    {
        auto other = client.start("none").value();
        auto unwanted = server.recv_for(patience).value();
        CHECK(!unwanted.responder.is_cancelled().value());
        other.reset();
        CHECK(unwanted.responder.is_cancelled().value());
    }
    CHECK(answer.text() == "all" && answer.buffers() == 1 && answer.frozen_buffers() == 1);
    CHECK(answer.shared_buffers() == 1 && answer.descriptors() == 1);
    auto port = answer.take_port().value();
    expect_entangled(c, port);
}

void frozen_and_shared_buffers_and_descriptors()
{
    auto [a, b] = make_channel();
    auto filled = mp::buffer::make(8).value();
    filled.write_at(0, "solid").value();
    auto ice = filled.freeze().value();
    CHECK(filled.size() == 0 && fails(filled.freeze(), MSGPORT_DETACHED));
    auto water = mp::shared::make(64).value();
    int ends[2];
    CHECK(pipe(ends) == 0);
    mp::descriptor read_end(ends[0]), write_end(ends[1]);
    a.post_message("things", {ice, water, write_end}).value();
    CHECK(ice.data().size() == 8 && write_end);
    auto message = b.recv_for(patience).value();
    CHECK(message.frozen_buffers() == 1 && message.shared_buffers() == 1 && message.descriptors() == 1);
    auto received = message.take_frozen().value();
    CHECK(std::memcmp(received.data().data(), "solid", 5) == 0);
    CHECK(received.clone()->data().data() == received.data().data());
    auto same = message.take_shared().value();
    same.write_at(3, "wave").value();
    CHECK(std::memcmp(water.data().data() + 3, "wave", 4) == 0);
    char text[4];
    water.clone()->read_at(3, text, 4).value();
    CHECK(std::string_view(text, 4) == "wave");
    auto written = message.take_descriptor().value();
    CHECK(write(written.get(), "x", 1) == 1 && read(read_end.get(), text, 1) == 1 && text[0] == 'x');
    CHECK(fails(message.take_descriptor(), MSGPORT_TAKEN));
    CHECK(mp::frozen::from_bytes("bytes")->data().size() == 5);
    CHECK(fails(mp::frozen::from_file(read_end.get()), MSGPORT_UNREADABLE));

    const std::string name = "messageport-ffi-cpp-" + std::to_string(getpid());
    auto named = mp::shared::create_named(name.c_str(), 100).value();
    CHECK(fails(mp::shared::create_named(name.c_str(), 100), MSGPORT_NAME_EXISTS));
    CHECK(fails(mp::shared::open_named(name.c_str(), 101), MSGPORT_TOO_SMALL));
    named.write_at(0, "named").value();
    CHECK(std::memcmp(mp::shared::open_named(name.c_str())->data().data(), "named", 5) == 0);
    mp::shared::remove_name(name.c_str()).value();
    CHECK(fails(mp::shared::open_named(name.c_str()), MSGPORT_NAME_MISSING));
}

void buffers_that_come_back_and_queues_that_grow()
{
    mp::channel_options options;
    options.capacity = 4096;
    auto [a, b] = mp::channel::make(options).value();
    const std::string block(1000, 'x');
    for (int i = 0; i < 100; i++) a.post_message(block).value();
    CHECK(a.queued()->bytes >= 100 * 1000 && a.queued()->capacity > 4096);
    for (int i = 0; i < 100; i++) CHECK(b.recv_for(patience).value().size() == 1000);
    for (int i = 0; i < 10; i++) {
        auto frame = a.buffer(1 << 20).value();
        frame.write_at(0, mp::bytes_of(i)).value();
        a.post_message("frame", {frame}).value();
        int seen;
        b.recv_for(patience).value().take_buffer().value().read_at(0, &seen, sizeof seen).value();
        CHECK(seen == i);
    }
    CHECK(a.release_buffers().value() > 0);
    const std::string large(500000, 'y');
    a.post_message(large).value();
    CHECK(b.recv_for(patience).value().text() == large);
}

void halves_in_two_threads()
{
    auto [a, b] = make_channel();
    auto halves = std::move(a).split();
    auto [sending, receiving] = std::move(halves.value());
    std::thread echo([port = std::move(b)]() mutable {
        for (auto &message : port.messages()) port.post_message_wait(message.data()).value();
    });
    std::thread out([&sending = sending] {
        for (int i = 0; i < 5000; i++) sending.post_message_wait(mp::bytes_of(i)).value();
    });
    for (int i = 0; i < 5000; i++) CHECK(receiving.recv_for(patience).value().as<int>().value() == i);
    out.join();
    auto other = make_channel();
    auto [other_sending, other_receiving] = std::move(other.port1).split().value();
    CHECK(fails(mp::port::join(std::move(sending), std::move(other_receiving)), MSGPORT_DIFFERENT_PORTS));
    CHECK(sending && other_receiving);
    auto whole = mp::port::join(std::move(sending), std::move(receiving)).value();
    CHECK(!sending && !receiving);
    whole.close();
    echo.join();
}

void a_renewed_port()
{
    auto [a, b] = make_channel();
    a.renew().value();
    auto message = b.recv_for(patience).value();
    auto renewed = message.take_port(0).value();
    CHECK(fails(b.recv_for(patience), MSGPORT_PEER_CLOSED));
    a.post_message("renewed").value();
    CHECK(renewed.recv_for(patience).value().text() == "renewed");
    renewed.close();
    CHECK(fails(a.renew(), MSGPORT_PEER_CLOSED));
}

void meeting_by_name()
{
    const std::string name = "messageport-ffi-cpp-" + std::to_string(getpid());
    CHECK(fails(mp::connect(name.c_str()), MSGPORT_NO_LISTENER));
    auto listener = mp::listener::bind(name.c_str()).value();
    CHECK(fails(mp::listener::bind(name.c_str()), MSGPORT_IN_USE));
    CHECK(std::string_view(listener.path()).find(name) != std::string_view::npos);
    CHECK(fails(listener.try_accept(), MSGPORT_EMPTY));
    CHECK(fails(listener.accept_until(std::chrono::steady_clock::now()), MSGPORT_TIMED_OUT));
    std::thread client([&] {
        auto port = mp::connect(name.c_str(), "greetings").value();
        port.post_message("hello").value();
    });
    auto incoming = listener.accept_for(patience).value();
    CHECK(incoming.greeting.text() == "greetings" && incoming.peer.uid == getuid());
    expect_text(incoming.port, "hello");
    client.join();
    CHECK(listener.refused() == 0 && listener.descriptor().value() > 2);
}

void handlers_are_lambdas()
{
    auto [a, b] = make_channel();
    auto events = mp::event_loop::make().value();
    events.add(b).value();
    std::string seen;
    auto token = std::make_shared<int>(0); // owned by the handler
    const auto id = b.on_message([&seen, token](mp::port_ref port, mp::message &message) {
        seen += message.text();
        port.post_message("echo").value();
    });
    CHECK(token.use_count() == 2);
    b.on_message([&](mp::port_ref, mp::message &) { seen += '!'; }, mp::how::once).value();
    b.on_close([&](mp::port_ref, mp::failure why) { seen += why.name(); }).value();
    b.on_message_error([](mp::port_ref, mp::span<const std::byte>) {}).value();
    a.post_message("one ").value();
    a.post_message("two ").value();
    events.run_until(std::chrono::steady_clock::now() + 1ms).value();
    CHECK(events.poll_until(std::chrono::steady_clock::now()).value() == 0);
    CHECK(seen == "one !two ");
    expect_text(a, "echo");
    b.remove_handler(id.value()).value();
    CHECK(token.use_count() == 1 && fails(b.remove_handler(*id), MSGPORT_NOT_FOUND));
    a.close();
    events.run().value();
    CHECK(seen == "one !two MSGPORT_PEER_CLOSED");
    CHECK(fails(events.remove(a), MSGPORT_NOT_IN_LOOP));
    CHECK(fails(a.on_message([token](mp::port_ref, mp::message &) {}), MSGPORT_NOT_IN_LOOP) && token.use_count() == 1);

    // Timers and other threads.
    int timers = 0;
    events.set_timeout(1ms, [&] { timers++; }).value();
    events.clear_timeout(events.set_timeout(1ms, [&] { timers += 100; }).value()).value();
    events.run().value();
    CHECK(timers == 1);
    auto remote = events.remote().value();
    std::thread other([&] {
        remote.post_task([&, token] { timers++; }).value();
        remote.post_task([&] { events.stop(); }).value();
    });
    events.run().value();
    other.join();
    CHECK(timers == 2 && token.use_count() == 1);

    // An interval, a pipe and a listener.
    mp::timer_id tick = 0;
    tick = events.set_interval(1ms, [&] { if (++timers == 5) events.clear_timeout(tick).value(); }).value();
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
    mp::watch_id reading = 0;
    reading = events.watch(ends[0], mp::ready::readable, [&](int descriptor, mp::ready what) {
        char byte;
        CHECK(what == mp::ready::readable && read(descriptor, &byte, 1) == 1 && byte == 'x');
        events.unwatch(reading).value();
    }).value();
    const std::string name = "/tmp/messageport-cpp-loop-" + std::to_string(getpid());
    mp::watch_id accepting = 0;
    mp::port accepted;
    auto listener = mp::listener::bind(name.c_str()).value();
    CHECK(fails(listener.try_accept(), MSGPORT_EMPTY));
    CHECK(fails(listener.accept_until(std::chrono::steady_clock::now()), MSGPORT_TIMED_OUT));
    accepting = events.add_listener(std::move(listener), [&](mp::port client, mp::message &greeting,
                                                             const msgport_peer &peer) {
        CHECK(greeting.text() == "hail" && peer.pid == getpid());
        accepted = std::move(client);
        events.unwatch(accepting).value();
    }).value();
    std::thread client([&] { CHECK(mp::connect(name.c_str(), mp::bytes("hail", 4)).has_value()); });
    remote.reset(); // it keeps the loop running
    events.run().value();
    client.join();
    CHECK(timers == 5 && accepted.get() != nullptr && fails(events.unwatch(accepting), MSGPORT_NOT_FOUND));
    close(ends[0]);
    close(ends[1]);
    remote = events.remote().value();
    events.reset();
    CHECK(fails(remote.post_task([token] {}), MSGPORT_LOOP_GONE) && token.use_count() == 1);
}

void s23_a_throwing_handler_loses_no_later_message()
{
#if defined(__cpp_exceptions)
    auto [a, b] = make_channel();
    auto events = mp::event_loop::make().value();
    events.add(b).value();
    std::string seen;
    b.on_message([&](mp::port_ref, mp::message &message) {
        if (message.text() == "throw") throw std::runtime_error("from a handler");
        seen += message.text();
    }).value();
    for (const char *text : {"1", "throw", "2", "3"}) a.post_message(text).value();
    bool caught = false;
    try {
        events.run_for(0s).value();
    } catch (const std::runtime_error &why) {
        caught = std::string_view(why.what()) == "from a handler";
    }
    CHECK(caught && seen == "1");
    events.run_for(0s).value();
    CHECK(seen == "123");
    events.set_timeout(0s, [] { throw 7; }).value();
    int thrown = 0;
    try {
        events.poll_for(1s).value();
    } catch (int number) {
        thrown = number;
    }
    CHECK(thrown == 7);
    events.try_poll().value();
    CHECK(events.descriptor().value() > 2);
#endif
}

void sets_and_calls()
{
    auto set = mp::port_set::make().value();
    auto [a, b] = make_channel();
    auto [c, d] = make_channel();
    set.add(b).value();
    set.add(d).value();
    mp::message message;
    CHECK(fails(set.try_next(message), MSGPORT_EMPTY) && fails(set.next_for(1ms, message), MSGPORT_TIMED_OUT));
    c.post_message("hello").value();
    const auto event = set.next(message).value();
    CHECK(event.is_message() && event.port.get() == d.get() && message.text() == "hello");
    a.close();
    const auto end = set.next(message).value();
    CHECK(end.port.get() == b.get() && end.what == MSGPORT_PEER_CLOSED);
    set.set_spin(1us);
    const auto later = [] { return std::chrono::steady_clock::now() + patience; };
    CHECK(fails(set.next_until(std::chrono::steady_clock::now(), message), MSGPORT_TIMED_OUT));
    c.post_message("in time").value();
    CHECK(set.next_until(later(), message)->is_message() && message.text() == "in time");
    set.remove(d).value();

    const auto soon = std::chrono::steady_clock::now() + 1ms;
    CHECK(d.closed_until(soon) == MSGPORT_TIMED_OUT && b.closed_until(later()) == MSGPORT_PEER_CLOSED);
    CHECK(fails(d.recv_into_until(soon, message), MSGPORT_TIMED_OUT) && fails(d.recv_ref_until(soon), MSGPORT_TIMED_OUT));
    d.set_user(&message);
    CHECK(d.user() == &message && c.user() == nullptr);
    CHECK(mp::raise_descriptor_limit(64).value() >= 64 && set.descriptor().value() > 2);

    auto client = mp::client::make(c).value();
    CHECK(fails(c.post_message("x"), MSGPORT_DETACHED));
    std::thread serving([port = std::move(d)]() mutable {
        auto server = mp::server::make(port).value();
        CHECK(server.descriptor().value() > 2);
        server.serve([](mp::message &request, mp::responder &open) {
            const auto deadline = std::chrono::steady_clock::now() + patience;
            if (request.text() == "third") open.answer_until(deadline, request.data()).value();
            else if (request.text() != "drop") open.answer_wait(request.data()).value();
        }).value();
    });
    CHECK(client.descriptor().value() > 2);
    auto first = client.start("first").value();
    CHECK(client.call("second")->text() == "second" && first.wait_for(patience)->text() == "first");
    CHECK(fails(client.call_for(patience, "drop"), MSGPORT_REQUEST_DROPPED));
    CHECK(client.call_until(later(), "third")->text() == "third");
    CHECK(client.start("fourth")->wait_until(later())->text() == "fourth");
    CHECK(fails(first.try_take(), MSGPORT_CALL_OVER));
    client.reset();
    first.reset(); // closes the client's end
    serving.join();

    auto [asking, answering] = make_channel();
    auto server = mp::server::make(answering).value();
    CHECK(fails(server.recv_until(soon), MSGPORT_TIMED_OUT));
    auto asker = mp::client::make(asking).value();
    CHECK(fails(asker.call_until(soon, "too late"), MSGPORT_TIMED_OUT));
    CHECK(server.recv_until(later()).value().message.text() == "too late");
}

void value_throws_what_failed()
{
#if defined(__cpp_exceptions)
    auto [a, b] = make_channel();
    bool thrown = false;
    try {
        b.try_recv().value();
#if defined(__cpp_lib_expected)
    } catch (const std::bad_expected_access<mp::failure> &why) {
#else
    } catch (const mp::bad_result_access &why) {
#endif
        thrown = why.error() == MSGPORT_EMPTY;
    }
    CHECK(thrown);
#endif
}

int be_a_child()
{
    auto parent = mp::parent_port().value();
    CHECK(fails(mp::parent_port(), MSGPORT_NO_PARENT_PORT));
    for (auto &message : parent.messages()) parent.post_message(message.data()).value();
    return 0;
}

const test_case CASES[] = {
    CASE(s01_make_makes_two_entangled_ports),
    CASE(s05_order_holds_across_transfers),
    CASE(s07_every_kind_of_bytes),
    CASE(s08_a_full_queue_can_be_waited_for),
    CASE(s09_a_list_moves_as_a_whole_or_not_at_all),
    CASE(s25_the_queue_moves_with_the_port),
    CASE(s45_the_end_has_a_reason),
    CASE(s47_destroying_closes_and_moving_does_not),
    CASE(writing_and_reading_in_place),
    CASE(several_messages_in_one_call),
    CASE(memory_that_is_used_again),
    CASE(a_call_and_its_answer_carry_everything),
    CASE(frozen_and_shared_buffers_and_descriptors),
    CASE(buffers_that_come_back_and_queues_that_grow),
    CASE(halves_in_two_threads),
    CASE(a_renewed_port),
    CASE(meeting_by_name),
    CASE(handlers_are_lambdas),
    CASE(s23_a_throwing_handler_loses_no_later_message),
    CASE(sets_and_calls),
    CASE(value_throws_what_failed),
    {nullptr, nullptr},
};

} // namespace

int main(int argc, char **argv)
{
    if (argc > 1 && std::string_view(argv[1]) == "as a child") return be_a_child();
    return run_cases(CASES, argc, argv);
}
