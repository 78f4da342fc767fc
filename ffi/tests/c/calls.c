/* Writing and reading in place, halves in threads, the descriptor, timeouts. */
#include "check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

/* ---- In place, and into memory that is used again ---- */

static void reserve_commit_and_abandon(void)
{
    msgport_port *a, *b;
    void *place = NULL, *second = NULL;
    make_pair(&a, &b);
    CODE(MSGPORT_NOTHING_OPEN, msgport_port_commit(a, 0));
    CODE(MSGPORT_NOTHING_OPEN, msgport_port_abandon(a));
    OK(msgport_port_reserve(a, 100, &place));
    CHECK((uintptr_t)place % 8 == 0);
    memcpy(place, "written in place", 16);
    CODE(MSGPORT_BORROWED, msgport_port_reserve(a, 1, &second));
    CHECK(second == NULL);
    CODE(MSGPORT_BORROWED, msgport_port_post_message(a, "x", 1, NULL, 0, 0));
    CODE(MSGPORT_OUT_OF_RANGE, msgport_port_commit(a, 101));
    expect_empty(b);
    OK(msgport_port_commit(a, 16));
    EXPECT_TEXT(b, "written in place");
    OK(msgport_port_reserve(a, 10, &place));
    memcpy(place, "never seen", 10);
    OK(msgport_port_abandon(a));
    expect_empty(b);
    post_text(a, "next");
    EXPECT_TEXT(b, "next");
    /* The peer is closed. */
    OK(msgport_port_reserve(a, 10, &place));
    OK(msgport_port_close(b));
    CODE(MSGPORT_PEER_CLOSED, msgport_port_commit(a, 10));
    CODE(MSGPORT_NOTHING_OPEN, msgport_port_commit(a, 10));
    msgport_port_free(b);
    /* A port freed with an open reservation posts nothing. */
    msgport_port_free(a);
    make_pair(&a, &b);
    OK(msgport_port_reserve(a, 10, &place));
    msgport_port_free(a);
    expect_end(b, MSGPORT_PEER_CLOSED);
    msgport_port_free(b);
}

static void reserving_at_every_offset(void)
{
    msgport_port *a, *b;
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    msgport_message *message;
    size_t max;
    options.capacity = 4096;
    OK(msgport_channel_new(&options, &a, &b));
    max = queued_of(a).max_inline_len;
    OK(msgport_message_new(&message));
    for (size_t i = 0; i < 1000; i++) {
        /* Some do not fit the queue. */
        size_t reserved = i % 16 == 0 ? max + i : i * 37 % max, len = reserved - reserved % 5 % (reserved + 1);
        const void *data;
        size_t got;
        void *place;
        OK(msgport_port_reserve(a, reserved, &place));
        memset(place, (int)i, reserved);
        OK(msgport_port_commit(a, len));
        OK(msgport_port_recv_into(b, PATIENCE, message, &data, &got));
        CHECK(got == len);
        for (size_t at = 0; at < got; at++) CHECK(((const unsigned char *)data)[at] == (unsigned char)i);
    }
    msgport_message_free(message);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void several_messages_in_one_call(void)
{
    enum { COUNT = 1000 };
    msgport_port *a, *b;
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    static uint32_t numbers[COUNT];
    static msgport_bytes messages[COUNT];
    size_t posted = 0, second = 0;
    options.capacity = options.max_capacity = 4096;
    OK(msgport_channel_new(&options, &a, &b));
    for (uint32_t i = 0; i < COUNT; i++) {
        numbers[i] = i;
        messages[i].data = &numbers[i];
        messages[i].len = sizeof numbers[i];
    }
    OK(msgport_port_post_messages(a, NULL, 0, 0, &posted));
    CHECK(posted == 0);
    OK(msgport_port_post_messages(a, messages, 100, 0, &posted));
    CHECK(posted == 100);
    expect_numbers(b, 0, 100);
    /* Without enough space some are posted. */
    CODE(MSGPORT_FULL, msgport_port_post_messages(a, messages, COUNT, 0, &posted));
    CHECK(posted > 100 && posted < COUNT);
    CODE(MSGPORT_TIMED_OUT, msgport_port_post_messages(a, messages + posted, COUNT - posted, 1000000, &second));
    CHECK(second == 0);
    expect_numbers(b, 0, (uint32_t)posted);
    expect_empty(b);
    OK(msgport_port_close(b));
    CODE(MSGPORT_PEER_CLOSED, msgport_port_post_messages(a, messages, 2, PATIENCE, &posted));
    CHECK(posted == 0);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void read_in_place_and_release(void)
{
    msgport_port *a, *b, *c, *d, *port;
    msgport_message *message, *rest;
    const void *data = NULL;
    size_t len = 0;
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_message_new(&rest));
    CODE(MSGPORT_NOTHING_OPEN, msgport_port_release(b));
    CODE(MSGPORT_EMPTY, msgport_port_recv_ref(b, 0, rest, &data, &len));
    CODE(MSGPORT_TIMED_OUT, msgport_port_recv_ref(b, 1000, NULL, &data, &len));
    post_text(a, "in place");
    post_port(a, "and a port", c);
    make_pair(&c, &port);
    post_port(a, "a port that nobody wants", port);
    OK(msgport_port_recv_ref(b, 0, NULL, &data, &len));
    CHECK(len == 8 && memcmp(data, "in place", 8) == 0 && (uintptr_t)data % 8 == 0);
    CODE(MSGPORT_BORROWED, msgport_port_recv_ref(b, 0, NULL, &data, &len));
    CODE(MSGPORT_BORROWED, msgport_port_recv(b, 0, &message));
    CODE(MSGPORT_BORROWED, msgport_port_recv_into(b, 0, rest, NULL, NULL));
    post_text(b, "sending goes on");
    OK(msgport_port_release(b));
    CODE(MSGPORT_NOTHING_OPEN, msgport_port_release(b));
    OK(msgport_port_recv_ref(b, PATIENCE, rest, &data, &len));
    CHECK(len == 10 && memcmp(data, "and a port", 10) == 0);
    OK(msgport_message_take_port(rest, 0, &port));
    expect_entangled(port, d);
    OK(msgport_port_release(b));
    OK(msgport_port_recv_ref(b, MSGPORT_FOREVER, NULL, &data, &len));
    OK(msgport_port_release(b));
    expect_end(c, MSGPORT_PEER_CLOSED);
    /* A message that is still open when its port is freed. */
    post_text(a, "open");
    OK(msgport_port_recv_ref(b, PATIENCE, NULL, &data, &len));
    OK(msgport_port_close(b));
    CHECK(memcmp(data, "open", 4) == 0);
    msgport_port_free(b);
    msgport_message_free(rest);
    msgport_port_free(a);
    msgport_port_free(c);
    msgport_port_free(d);
    msgport_port_free(port);
}

static void a_message_that_is_received_into_again(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_message *message;
    const void *data;
    size_t len, count;
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_message_new(&message));
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == 0);
    post_port(a, "with a port", c);
    post_text(a, "without");
    OK(msgport_port_recv_into(b, PATIENCE, message, NULL, NULL));
    OK(msgport_message_count(message, MSGPORT_ITEM_PORT, &count));
    CHECK(count == 1);
    /* Closes the port that was not taken out. */
    OK(msgport_port_recv_into(b, PATIENCE, message, NULL, NULL));
    OK(msgport_message_count(message, MSGPORT_ITEM_PORT, &count));
    CHECK(count == 0);
    expect_end(d, MSGPORT_PEER_CLOSED);
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == 7 && memcmp(data, "without", 7) == 0);
    /* The message is empty after a failure. */
    CODE(MSGPORT_EMPTY, msgport_port_recv_into(b, 0, message, &data, &len));
    CHECK(len == 7); /* outputs are not written */
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == 0);
    CODE(MSGPORT_TIMED_OUT, msgport_port_recv_into(b, 1000, message, NULL, NULL));
    post_text(a, "cleared");
    OK(msgport_port_recv_into(b, PATIENCE, message, NULL, NULL));
    OK(msgport_message_clear(message));
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == 0);
    msgport_message_free(message);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(d);
}

/* ---- Halves, threads, descriptors ---- */

enum { STREAM = 5000 };

static void *stream_out(void *port)
{
    for (uint32_t number = 0; number < STREAM; number++) post_number(port, number);
    return NULL;
}

static void halves_in_two_threads(void)
{
    msgport_port *a, *b, *a_receiver, *b_receiver;
    msgport_item item;
    msgport_message *message;
    pthread_t threads[2];
    int fd;
    make_pair(&a, &b);
    OK(msgport_port_split(a, &a_receiver));
    OK(msgport_port_split(b, &b_receiver));
    CODE(MSGPORT_WRONG_HALF, msgport_port_recv(a, 0, &message));
    CODE(MSGPORT_WRONG_HALF, msgport_port_post_message(a_receiver, "x", 1, NULL, 0, 0));
    CODE(MSGPORT_WRONG_HALF, msgport_port_descriptor(a, &fd));
    CODE(MSGPORT_WRONG_HALF, msgport_port_split(a, &a_receiver));
    item = msgport_item_port(b);
    CODE(MSGPORT_BAD_ITEM, msgport_port_post_message(a, "x", 1, &item, 1, 0));
    CHECK(pthread_create(&threads[0], NULL, stream_out, a) == 0);
    CHECK(pthread_create(&threads[1], NULL, stream_out, b) == 0);
    for (uint32_t number = 0; number < STREAM; number += 100) {
        expect_numbers(a_receiver, number, number + 100);
        expect_numbers(b_receiver, number, number + 100);
    }
    CHECK(pthread_join(threads[0], NULL) == 0);
    CHECK(pthread_join(threads[1], NULL) == 0);
    /* Joining them. */
    CODE(MSGPORT_DIFFERENT_PORTS, msgport_port_join(a, b_receiver));
    CODE(MSGPORT_WRONG_HALF, msgport_port_join(a, b));
    CODE(MSGPORT_WRONG_HALF, msgport_port_join(a_receiver, b_receiver));
    CODE(MSGPORT_DIFFERENT_PORTS, msgport_port_join(a, a));
    OK(msgport_port_join(a, a_receiver));
    CODE(MSGPORT_DETACHED, msgport_port_join(a, a_receiver));
    CODE(MSGPORT_DETACHED, msgport_port_recv(a_receiver, 0, &message));
    OK(msgport_port_join(b, b_receiver));
    expect_entangled(a, b);
    b = hop(b);
    expect_entangled(a, b);
    msgport_port_free(a_receiver);
    msgport_port_free(b_receiver);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void a_renewed_port_is_an_end_of_a_new_channel(void)
{
    msgport_port *a, *b, *receiver, *renewed;
    msgport_message *message;
    const void *data;
    size_t len;
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    make_pair(&a, &b);
    post_text(b, "dropped");
    OK(msgport_port_renew(a));
    OK(msgport_port_recv(b, PATIENCE, &message));
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == 0);
    OK(msgport_message_take_port(message, 0, &renewed));
    msgport_message_free(message);
    expect_end(b, MSGPORT_PEER_CLOSED);
    expect_entangled(a, renewed);
    msgport_port_free(b);
    /* A half stays what it is, and so does a port whose peer is gone or cannot get a port. */
    OK(msgport_port_split(a, &receiver));
    CODE(MSGPORT_WRONG_HALF, msgport_port_renew(a));
    CODE(MSGPORT_WRONG_HALF, msgport_port_renew(receiver));
    OK(msgport_port_join(a, receiver));
    CODE(MSGPORT_DETACHED, msgport_port_renew(receiver));
    expect_entangled(a, renewed);
    msgport_port_free(renewed);
    CODE(MSGPORT_PEER_CLOSED, msgport_port_renew(a));
    OK(msgport_port_close(a));
    CODE(MSGPORT_CLOSED, msgport_port_renew(a));
    msgport_port_free(receiver);
    msgport_port_free(a);
    options.flags = MSGPORT_CHANNEL_DATA_ONLY;
    OK(msgport_channel_new(&options, &a, &b));
    CODE(MSGPORT_TOO_MANY_HANDLES, msgport_port_renew(a));
    post_text(a, "as before");
    EXPECT_TEXT(b, "as before");
    msgport_port_free(a);
    msgport_port_free(b);
}

/* Every call that would change the port, while a reservation on it or a message in it is open. */
static void expect_borrowed(msgport_port *port, msgport_port *half)
{
    msgport_port *receiver;
    msgport_portset *set;
    msgport_loop *loop;
    msgport_client *client;
    msgport_server *server;
    int pid;
    const char *arguments[] = { "true", NULL };
    OK(msgport_portset_new(&set));
    OK(msgport_loop_new(&loop));
    CODE(MSGPORT_BORROWED, msgport_port_renew(port));
    CODE(MSGPORT_BORROWED, msgport_port_split(port, &receiver));
    CODE(MSGPORT_BORROWED, msgport_port_join(port, half));
    CODE(MSGPORT_BORROWED, msgport_port_join(half, port));
    CODE(MSGPORT_BORROWED, msgport_portset_add(set, port));
    CODE(MSGPORT_NOT_FOUND, msgport_portset_remove(set, port));
    CODE(MSGPORT_BORROWED, msgport_loop_add(loop, port));
    CODE(MSGPORT_NOT_IN_LOOP, msgport_loop_remove(loop, port));
    CODE(MSGPORT_BORROWED, msgport_client_new(port, &client));
    CODE(MSGPORT_BORROWED, msgport_server_new(port, &server));
    CODE(MSGPORT_BORROWED, msgport_spawn_with_port("/bin/true", arguments, NULL, port, &pid));
    msgport_portset_free(set);
    msgport_loop_free(loop);
}

static void a_borrowed_port_is_not_changed(void)
{
    msgport_port *a, *b, *c, *d, *receiver;
    void *place;
    const void *data;
    size_t len;
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_port_split(c, &receiver));
    OK(msgport_port_reserve(a, 8, &place));
    expect_borrowed(a, c);
    memcpy(place, "reserved", 8);
    OK(msgport_port_commit(a, 8));
    OK(msgport_port_recv_ref(b, PATIENCE, NULL, &data, &len));
    expect_borrowed(b, receiver);
    CHECK(len == 8 && memcmp(data, "reserved", 8) == 0);
    OK(msgport_port_release(b));
    expect_entangled(a, b);
    /* Freed with a reservation, and with a message in place. */
    OK(msgport_port_reserve(a, 8, &place));
    post_text(b, "in place");
    OK(msgport_port_recv_ref(a, PATIENCE, NULL, &data, &len));
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(receiver);
    msgport_port_free(d);
}

static void no_call_depends_on_errno(void)
{
    static const int values[] = { 0, EINTR, EAGAIN, EMFILE, EBADF, ECONNRESET, 12345, -1 };
    for (size_t index = 0; index < sizeof values / sizeof *values; index++) {
        msgport_port *a, *b;
        msgport_message *message;
        msgport_listener *listener;
        msgport_buffer *buffer;
        msgport_item item;
        errno = values[index];
        make_pair(&a, &b);
        errno = values[index];
        CODE(MSGPORT_EMPTY, msgport_port_recv(b, 0, &message));
        errno = values[index];
        CODE(MSGPORT_TIMED_OUT, msgport_port_recv(b, 1000000, &message));
        errno = values[index];
        OK(msgport_buffer_new(100, &buffer));
        item = msgport_item_buffer(buffer);
        errno = values[index];
        OK(msgport_port_post_message(a, "errno", 5, &item, 1, 0));
        errno = values[index];
        EXPECT_TEXT(b, "errno");
        /* The reason of a failure does not depend on errno, and survives what the program does to it. */
        errno = values[index];
        CODE(MSGPORT_SYSTEM, msgport_listener_bind("/no/such/directory/name", NULL, &listener));
        errno = values[index];
        CHECK(msgport_os_error() == ENOENT);
        errno = values[index];
        CODE(MSGPORT_NO_LISTENER, msgport_connect("/no/such/directory/name", "", 0, NULL, &b));
        errno = values[index];
        msgport_port_free(a);
        errno = values[index];
        expect_end(b, MSGPORT_PEER_CLOSED);
        msgport_buffer_free(buffer);
        msgport_port_free(b);
    }
}

static void halves_that_are_freed(void)
{
    msgport_port *a, *b, *receiver;
    make_pair(&a, &b);
    OK(msgport_port_split(a, &receiver));
    msgport_port_free(a);
    post_text(b, "the receiving half lives");
    EXPECT_TEXT(receiver, "the receiving half lives");
    msgport_port_free(receiver);
    expect_end(b, MSGPORT_PEER_CLOSED);
    msgport_port_free(b);
    make_pair(&a, &b);
    OK(msgport_port_split(a, &receiver));
    msgport_port_free(receiver);
    post_text(b, "dropped");
    post_text(a, "the sending half lives");
    EXPECT_TEXT(b, "the sending half lives");
    msgport_port_free(a);
    msgport_port_free(b);
}

static void *close_later(void *port)
{
    usleep(20000);
    OK(msgport_port_close(port));
    return NULL;
}

static void closing_one_half_wakes_the_other(void)
{
    msgport_port *a, *b, *receiver;
    msgport_message *message;
    pthread_t thread;
    make_pair(&a, &b);
    OK(msgport_port_split(a, &receiver));
    CHECK(pthread_create(&thread, NULL, close_later, a) == 0);
    CODE(MSGPORT_CLOSED, msgport_port_recv(receiver, MSGPORT_FOREVER, &message));
    CHECK(pthread_join(thread, NULL) == 0);
    msgport_port_free(a);
    msgport_port_free(receiver);
    msgport_port_free(b);
}

static void the_descriptor_tells_of_messages_and_of_the_end(void)
{
    msgport_port *a, *b;
    struct pollfd poller = { 0, POLLIN, 0 };
    make_pair(&a, &b);
    OK(msgport_port_descriptor(b, &poller.fd));
    expect_empty(b);
    CHECK(poll(&poller, 1, 0) == 0);
    post_text(a, "look");
    CHECK(poll(&poller, 1, 20000) == 1);
    EXPECT_TEXT(b, "look");
    expect_empty(b);
    CHECK(poll(&poller, 1, 0) == 0);
    msgport_port_free(a);
    CHECK(poll(&poller, 1, 20000) == 1);
    expect_end(b, MSGPORT_PEER_CLOSED);
    msgport_port_free(b);
}

static void a_call_that_sleeps_at_once(void)
{
    msgport_port *a, *b;
    msgport_message *message;
    make_pair(&a, &b);
    OK(msgport_port_set_spin(a, 0));
    CODE(MSGPORT_TIMED_OUT, msgport_port_recv(a, 2000000, &message));
    OK(msgport_port_set_spin(a, MSGPORT_FOREVER));
    CODE(MSGPORT_TIMED_OUT, msgport_port_recv(a, 2000000, &message));
    msgport_port_free(a);
    msgport_port_free(b);
}

/* Timeout 0 does not wait and a positive one limits the wait, whatever the call waits for. */
static void a_timeout_means_the_same_everywhere(void)
{
    msgport_port *a, *b, *c, *d, *port;
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    msgport_message *message, *received;
    msgport_portset *set;
    msgport_portset_event event;
    msgport_listener *listener;
    msgport_client *client;
    msgport_server *server;
    msgport_pending *pending;
    msgport_responder *responder;
    msgport_loop *loop;
    msgport_bytes one;
    char block[1000] = { 0 }, name[64];
    const void *data;
    size_t len;
    options.capacity = options.max_capacity = 4096;
    OK(msgport_channel_new(&options, &a, &b));
    OK(msgport_message_new(&message));
    snprintf(name, sizeof name, "messageport-ffi-timeout-%d", (int)getpid());
    OK(msgport_listener_bind(name, NULL, &listener));
    one.data = block;
    one.len = sizeof block;
    for (int waits = 0; waits < 2; waits++) {
        const int64_t timeout = waits ? 1000 : 0;
        const msgport_code nothing = waits ? MSGPORT_TIMED_OUT : MSGPORT_EMPTY;
        const msgport_code no_space = waits ? MSGPORT_TIMED_OUT : MSGPORT_FULL;
        /* Receiving. */
        CODE(nothing, msgport_port_recv(a, timeout, &received));
        CODE(nothing, msgport_port_recv_into(a, timeout, message, NULL, NULL));
        CODE(nothing, msgport_port_recv_ref(a, timeout, NULL, &data, &len));
        OK(msgport_portset_new(&set));
        OK(msgport_portset_add(set, a));
        CODE(nothing, msgport_portset_next(set, timeout, message, &event));
        msgport_portset_free(set);
        CODE(nothing, msgport_listener_accept(listener, timeout, NULL, &port, NULL));
        /* Posting. */
        while (msgport_port_post_message(a, block, sizeof block, NULL, 0, 0) == MSGPORT_OK) continue;
        CODE(no_space, msgport_port_post_message(a, block, sizeof block, NULL, 0, timeout));
        CODE(no_space, msgport_port_post_messages(a, &one, 1, timeout, &len));
        /* Requests. */
        OK(msgport_channel_new(&options, &c, &d));
        OK(msgport_client_new(c, &client));
        OK(msgport_server_new(d, &server));
        CODE(nothing, msgport_server_recv(server, timeout, message, &responder));
        CODE(nothing, msgport_client_call(client, "x", 1, NULL, 0, timeout, message));
        OK(msgport_client_start(client, "x", 1, NULL, 0, &pending));
        CODE(nothing, msgport_pending_wait(pending, timeout, message));
        msgport_pending_free(pending);
        OK(msgport_server_recv(server, timeout, message, &responder));
        for (;;) {
            msgport_responder *filler;
            msgport_code code;
            OK(msgport_client_start(client, "x", 1, NULL, 0, &pending));
            OK(msgport_server_recv(server, timeout, message, &filler));
            code = msgport_responder_answer(filler, block, sizeof block, NULL, 0, 0);
            msgport_pending_free(pending);
            if (code != MSGPORT_OK) CODE(no_space, msgport_responder_answer(filler, block, 1000, NULL, 0, timeout));
            msgport_responder_free(filler);
            if (code != MSGPORT_OK) break;
        }
        msgport_responder_free(responder);
        msgport_client_free(client);
        msgport_server_free(server);
        msgport_port_free(c);
        msgport_port_free(d);
        /* For a loop a timeout that has passed is no failure. */
        OK(msgport_loop_new(&loop));
        OK(msgport_loop_run(loop, timeout));
        OK(msgport_loop_poll(loop, timeout, &len));
        CHECK(len == 0);
        msgport_loop_free(loop);
    }
    msgport_listener_free(listener);
    msgport_message_free(message);
    msgport_port_free(a);
    msgport_port_free(b);
}

static const test_case CASES[] = {
    CASE(reserve_commit_and_abandon),
    CASE(reserving_at_every_offset),
    CASE(several_messages_in_one_call),
    CASE(read_in_place_and_release),
    CASE(a_message_that_is_received_into_again),
    CASE(halves_in_two_threads),
    CASE(a_renewed_port_is_an_end_of_a_new_channel),
    CASE(a_borrowed_port_is_not_changed),
    CASE(no_call_depends_on_errno),
    CASE(halves_that_are_freed),
    CASE(closing_one_half_wakes_the_other),
    CASE(the_descriptor_tells_of_messages_and_of_the_end),
    CASE(a_call_that_sleeps_at_once),
    CASE(a_timeout_means_the_same_everywhere),
    { NULL, NULL },
};

int main(int argc, char **argv)
{
    return run_cases(CASES, argc, argv);
}
