/* Frozen and shared buffers, descriptors, buffers that come back, queues that grow, long messages. */
#include "check.h"

static msgport_message *recv_message(msgport_port *port)
{
    msgport_message *message;
    OK(msgport_port_recv(port, PATIENCE, &message));
    return message;
}

static size_t count_of(msgport_message *message, uint32_t kind)
{
    size_t count;
    OK(msgport_message_count(message, kind, &count));
    return count;
}

static void s41_a_frozen_buffer_has_many_readers(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_buffer *buffer;
    msgport_frozen *frozen, *clone, *received;
    msgport_message *message;
    msgport_item item;
    const void *data, *other_data;
    size_t len;
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_buffer_new(100000, &buffer));
    OK(msgport_buffer_write_at(buffer, 50000, "solid", 5));
    OK(msgport_buffer_freeze(buffer, &frozen));
    CODE(MSGPORT_DETACHED, msgport_buffer_freeze(buffer, &clone));
    CODE(MSGPORT_DETACHED, msgport_buffer_write_at(buffer, 0, "x", 1));
    item = msgport_item_buffer(buffer);
    CODE(MSGPORT_UNUSABLE, msgport_port_post_message(a, NULL, 0, &item, 1, 0));
    OK(msgport_buffer_len(buffer, &len));
    CHECK(len == 0);
    msgport_buffer_free(buffer);
    OK(msgport_frozen_clone(frozen, &clone));
    item = msgport_item_frozen(frozen);
    OK(msgport_port_post_message(a, NULL, 0, &item, 1, 0));
    OK(msgport_port_post_message(c, NULL, 0, &item, 1, 0));
    msgport_frozen_free(frozen);
    OK(msgport_frozen_data(clone, &data, &len));
    CHECK(len == 100000 && memcmp((const char *)data + 50000, "solid", 5) == 0);
    msgport_frozen_free(clone);
    for (int i = 0; i < 2; i++) {
        message = recv_message(i == 0 ? b : d);
        CHECK(count_of(message, MSGPORT_ITEM_FROZEN) == 1 && count_of(message, MSGPORT_ITEM_BUFFER) == 0);
        OK(msgport_message_take_frozen(message, 0, &received));
        CODE(MSGPORT_TAKEN, msgport_message_take_frozen(message, 0, &clone));
        msgport_message_free(message);
        OK(msgport_frozen_data(received, &other_data, &len));
        CHECK(len == 100000 && memcmp((const char *)other_data + 50000, "solid", 5) == 0);
        msgport_frozen_free(received);
    }
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
}

static void a_received_buffer_is_not_frozen(void)
{
    msgport_port *a, *b;
    msgport_buffer *buffer;
    msgport_frozen *frozen = NULL;
    msgport_message *message;
    msgport_item item;
    size_t len;
    make_pair(&a, &b);
    OK(msgport_buffer_new(10, &buffer));
    item = msgport_item_buffer(buffer);
    OK(msgport_port_post_message(a, NULL, 0, &item, 1, 0));
    msgport_buffer_free(buffer);
    message = recv_message(b);
    OK(msgport_message_take_buffer(message, 0, &buffer));
    CODE(MSGPORT_NOT_NEW, msgport_buffer_freeze(buffer, &frozen));
    OK(msgport_buffer_len(buffer, &len));
    CHECK(len == 10 && frozen == NULL);
    msgport_buffer_free(buffer);
    msgport_message_free(message);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void a_file_is_frozen(void)
{
    msgport_frozen *frozen;
    const void *data;
    size_t len;
    char path[] = "/tmp/messageport-ffi-XXXXXX";
    int ends[2], file = mkstemp(path);
    CHECK(file >= 0 && write(file, "contents", 8) == 8);
    OK(msgport_frozen_from_file(file, &frozen));
    OK(msgport_frozen_data(frozen, &data, &len));
    CHECK(len == 8 && memcmp(data, "contents", 8) == 0);
    CHECK(lseek(file, 0, SEEK_CUR) == 8 && close(file) == 0 && unlink(path) == 0);
    msgport_frozen_free(frozen);
    CHECK(pipe(ends) == 0);
    CODE(MSGPORT_UNREADABLE, msgport_frozen_from_file(ends[0], &frozen));
    close(ends[0]);
    close(ends[1]);
    OK(msgport_frozen_from_bytes(NULL, 0, &frozen));
    OK(msgport_frozen_data(frozen, &data, &len));
    CHECK(len == 0 && data != NULL);
    msgport_frozen_free(frozen);
}

static void s40_both_sides_keep_a_shared_buffer(void)
{
    msgport_port *a, *b;
    msgport_shared *shared, *received, *clone;
    msgport_message *message;
    msgport_item item;
    void *data, *other_data;
    size_t len;
    char text[5];
    make_pair(&a, &b);
    OK(msgport_shared_new(5000, &shared));
    OK(msgport_shared_data(shared, &data, &len));
    CHECK(len == 5000 && (uintptr_t)data % 64 == 0);
    item = msgport_item_shared(shared);
    OK(msgport_port_post_message(a, NULL, 0, &item, 1, 0));
    message = recv_message(b);
    CHECK(count_of(message, MSGPORT_ITEM_SHARED) == 1);
    OK(msgport_message_take_shared(message, 0, &received));
    msgport_message_free(message);
    OK(msgport_shared_data(received, &other_data, &len));
    CHECK(len == 5000 && other_data != data);
    __atomic_store_n((uint64_t *)other_data + 1, 42, __ATOMIC_RELEASE);
    CHECK(__atomic_load_n((uint64_t *)data + 1, __ATOMIC_ACQUIRE) == 42);
    OK(msgport_shared_write_at(shared, 4995, "there", 5));
    OK(msgport_shared_read_at(received, 4995, text, 5));
    CHECK(memcmp(text, "there", 5) == 0);
    CODE(MSGPORT_OUT_OF_RANGE, msgport_shared_write_at(shared, 4996, "there", 5));
    OK(msgport_shared_clone(received, &clone));
    msgport_shared_free(received);
    msgport_shared_free(shared);
    OK(msgport_shared_read_at(clone, 4995, text, 5));
    msgport_shared_free(clone);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void shared_buffers_have_names(void)
{
    msgport_port *a, *b;
    msgport_shared *maker, *opener, *none = NULL;
    msgport_item item;
    char name[64], text[4];
    snprintf(name, sizeof name, "messageport-ffi-%d", (int)getpid());
    CODE(MSGPORT_NAME_MISSING, msgport_shared_open_named(name, 0, &none));
    CODE(MSGPORT_NAME_MISSING, msgport_shared_remove_name(name));
    OK(msgport_shared_create_named(name, 100, &maker));
    CODE(MSGPORT_NAME_EXISTS, msgport_shared_create_named(name, 100, &none));
    CODE(MSGPORT_TOO_SMALL, msgport_shared_open_named(name, 101, &none));
    OK(msgport_shared_open_named(name, 100, &opener));
    OK(msgport_shared_write_at(opener, 96, "last", 4));
    OK(msgport_shared_read_at(maker, 96, text, 4));
    CHECK(memcmp(text, "last", 4) == 0);
    /* A buffer with a name cannot be on a transfer list. */
    make_pair(&a, &b);
    item = msgport_item_shared(maker);
    CODE(MSGPORT_UNUSABLE, msgport_port_post_message(a, NULL, 0, &item, 1, 0));
    msgport_shared_free(maker);
    CODE(MSGPORT_NAME_MISSING, msgport_shared_open_named(name, 0, &none));
    OK(msgport_shared_write_at(opener, 0, "kept", 4));
    msgport_shared_free(opener);
    OK(msgport_shared_create_named(name, 1, &maker));
    OK(msgport_shared_remove_name(name));
    msgport_shared_free(maker);
    CHECK(none == NULL);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void a_descriptor_is_duplicated_for_the_receiver(void)
{
    msgport_port *a, *b;
    msgport_message *message;
    msgport_item items[2];
    char letter = 0;
    int ends[2], received = -1, before = count_descriptors();
    make_pair(&a, &b);
    CHECK(pipe(ends) == 0);
    items[0] = msgport_item_descriptor(ends[1]);
    items[1] = msgport_item_descriptor(1000);
    CODE(MSGPORT_BAD_ITEM, msgport_port_post_message(a, NULL, 0, items, 2, 0));
    items[1] = msgport_item_descriptor(-1);
    CODE(MSGPORT_BAD_ITEM, msgport_port_post_message(a, NULL, 0, items, 2, 0));
    OK(msgport_port_post_message(a, NULL, 0, items, 1, 0));
    OK(msgport_port_post_message(a, NULL, 0, items, 1, 0)); /* never taken out */
    CHECK(close(ends[1]) == 0);
    message = recv_message(b);
    CHECK(count_of(message, MSGPORT_ITEM_DESCRIPTOR) == 1);
    OK(msgport_message_take_descriptor(message, 0, &received));
    CODE(MSGPORT_TAKEN, msgport_message_take_descriptor(message, 0, &received));
    CHECK(fcntl(received, F_GETFD) == FD_CLOEXEC && write(received, "x", 1) == 1 && close(received) == 0);
    CHECK(read(ends[0], &letter, 1) == 1 && letter == 'x');
    msgport_message_free(message);
    msgport_message_free(recv_message(b));
    CHECK(read(ends[0], &letter, 1) == 0); /* no copy of the other end is left */
    close(ends[0]);
    msgport_port_free(a);
    msgport_port_free(b);
    expect_descriptors(before);
}

static void everything_in_one_message_in_place(void)
{
    msgport_port *a, *b, *c, *d, *port;
    msgport_buffer *buffer;
    msgport_frozen *frozen;
    msgport_shared *shared;
    msgport_message *rest;
    msgport_item items[5];
    const void *data;
    size_t len;
    int descriptor, before = count_descriptors();
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_buffer_new(1, &buffer));
    OK(msgport_frozen_from_bytes("f", 1, &frozen));
    OK(msgport_shared_new(1, &shared));
    items[0] = msgport_item_descriptor(0);
    items[1] = msgport_item_shared(shared);
    items[2] = msgport_item_frozen(frozen);
    items[3] = msgport_item_buffer(buffer);
    items[4] = msgport_item_port(d);
    OK(msgport_message_new(&rest));
    for (int round = 0; round < 2; round++) {
        OK(msgport_port_post_message(a, "all", 3, items, round == 0 ? 5 : 3, 0));
        OK(msgport_port_recv_ref(b, PATIENCE, round == 0 ? rest : NULL, &data, &len));
        CHECK(len == 3 && memcmp(data, "all", 3) == 0);
        OK(msgport_port_release(b));
    }
    for (uint32_t kind = MSGPORT_ITEM_PORT; kind <= MSGPORT_ITEM_DESCRIPTOR; kind++) CHECK(count_of(rest, kind) == 1);
    OK(msgport_message_take_port(rest, 0, &port));
    expect_entangled(c, port);
    OK(msgport_message_take_descriptor(rest, 0, &descriptor));
    close(descriptor);
    msgport_message_free(rest);
    msgport_port_free(port);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
    msgport_buffer_free(buffer);
    msgport_frozen_free(frozen);
    msgport_shared_free(shared);
    expect_descriptors(before);
}

static void a_message_is_forwarded_with_everything(void)
{
    enum { KINDS = MSGPORT_ITEM_DESCRIPTOR };
    msgport_port *a, *b, *c, *d, *e, *f;
    msgport_buffer *buffer;
    msgport_frozen *frozen;
    msgport_shared *shared;
    msgport_message *message;
    msgport_item items[KINDS], item;
    const void *data;
    size_t len;
    int before = count_descriptors();
    make_pair(&a, &b);
    make_pair(&c, &d);
    make_pair(&e, &f);
    OK(msgport_buffer_new(1, &buffer));
    OK(msgport_frozen_from_bytes("f", 1, &frozen));
    OK(msgport_shared_new(1, &shared));
    items[0] = msgport_item_port(f);
    items[1] = msgport_item_buffer(buffer);
    items[2] = msgport_item_frozen(frozen);
    items[3] = msgport_item_shared(shared);
    items[4] = msgport_item_descriptor(0);
    OK(msgport_port_post_message(a, "all", 3, items, KINDS, 0));
    msgport_port_free(f);
    msgport_buffer_free(buffer);
    msgport_frozen_free(frozen);
    msgport_shared_free(shared);
    /* Taken out of a message as items, posted on as a list. */
    message = recv_message(b);
    OK(msgport_message_data(message, &data, &len));
    for (uint32_t kind = 1; kind <= KINDS; kind++) {
        OK(msgport_message_take(message, kind, 0, &items[kind - 1]));
        CHECK(items[kind - 1].kind == kind && items[kind - 1].reserved == 0);
        CODE(MSGPORT_TAKEN, msgport_message_take(message, kind, 0, &item));
        CODE(MSGPORT_OUT_OF_RANGE, msgport_message_take(message, kind, 1, &item));
    }
    OK(msgport_port_post_message(c, data, len, items, KINDS, 0));
    msgport_message_free(message);
    msgport_port_free(items[0].of.port);
    msgport_buffer_free(items[1].of.buffer);
    msgport_frozen_free(items[2].of.frozen);
    msgport_shared_free(items[3].of.shared);
    CHECK(close(items[4].of.descriptor) == 0);
    message = recv_message(d);
    for (uint32_t kind = 1; kind <= KINDS; kind++) CHECK(count_of(message, kind) == 1);
    OK(msgport_message_take_port(message, 0, &f));
    expect_entangled(e, f);
    msgport_message_free(message);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
    msgport_port_free(e);
    msgport_port_free(f);
    expect_descriptors(before);
}

static void a_call_and_its_answer_carry_everything(void)
{
    enum { KINDS = MSGPORT_ITEM_DESCRIPTOR };
    msgport_port *a, *b, *e, *f;
    msgport_client *client;
    msgport_server *server;
    msgport_pending *pending;
    msgport_responder *responder;
    msgport_buffer *buffer;
    msgport_frozen *frozen;
    msgport_shared *shared;
    msgport_message *message;
    msgport_item items[KINDS];
    int cancelled = -1, before = count_descriptors();
    make_pair(&a, &b);
    make_pair(&e, &f);
    OK(msgport_client_new(a, &client));
    OK(msgport_server_new(b, &server));
    OK(msgport_message_new(&message));
    OK(msgport_buffer_new(1, &buffer));
    OK(msgport_frozen_from_bytes("f", 1, &frozen));
    OK(msgport_shared_new(1, &shared));
    items[0] = msgport_item_port(f);
    items[1] = msgport_item_buffer(buffer);
    items[2] = msgport_item_frozen(frozen);
    items[3] = msgport_item_shared(shared);
    items[4] = msgport_item_descriptor(0);
    /* A call that is freed is cancelled, and no other. */
    OK(msgport_client_start(client, "none", 4, NULL, 0, &pending));
    OK(msgport_server_recv(server, PATIENCE, message, &responder));
    OK(msgport_responder_is_cancelled(responder, &cancelled));
    CHECK(cancelled == 0);
    msgport_pending_free(pending);
    OK(msgport_responder_is_cancelled(responder, &cancelled));
    CHECK(cancelled == 1);
    msgport_responder_free(responder);
    OK(msgport_client_start(client, "all", 3, items, KINDS, &pending));
    msgport_port_free(f);
    msgport_buffer_free(buffer);
    msgport_frozen_free(frozen);
    msgport_shared_free(shared);
    OK(msgport_server_recv(server, PATIENCE, message, &responder));
    OK(msgport_responder_is_cancelled(responder, &cancelled));
    CHECK(cancelled == 0);
    for (uint32_t kind = 1; kind <= KINDS; kind++) {
        CHECK(count_of(message, kind) == 1);
        OK(msgport_message_take(message, kind, 0, &items[kind - 1]));
    }
    OK(msgport_responder_answer(responder, "all", 3, items, KINDS, 0));
    msgport_responder_free(responder);
    msgport_port_free(items[0].of.port);
    msgport_buffer_free(items[1].of.buffer);
    msgport_frozen_free(items[2].of.frozen);
    msgport_shared_free(items[3].of.shared);
    CHECK(close(items[4].of.descriptor) == 0);
    OK(msgport_pending_wait(pending, PATIENCE, message));
    msgport_pending_free(pending);
    for (uint32_t kind = 1; kind <= KINDS; kind++) CHECK(count_of(message, kind) == 1);
    OK(msgport_message_take_port(message, 0, &f));
    expect_entangled(e, f);
    msgport_message_free(message);
    msgport_client_free(client);
    msgport_server_free(server);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(e);
    msgport_port_free(f);
    CHECK(count_descriptors() == before);
}

static void buffers_come_back(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_buffer *buffer, *received;
    msgport_message *message;
    msgport_item item;
    void *first = NULL, *memory;
    char text[8] = { 0 };
    size_t len, count = 0;
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_message_new(&message));
    for (int i = 0; i < 20; i++) {
        OK(msgport_port_buffer(a, 1 << 20, &buffer));
        OK(msgport_buffer_data(buffer, &memory, &len));
        CHECK(len == 1 << 20);
        if (i == 0) first = memory;
        CHECK(memory == first); /* the same mapping */
        snprintf(memory, 8, "%d", i);
        item = msgport_item_buffer(buffer);
        OK(msgport_port_post_message(a, NULL, 0, &item, 1, 0));
        msgport_buffer_free(buffer);
        OK(msgport_port_recv_into(b, PATIENCE, message, NULL, NULL));
        OK(msgport_message_take_buffer(message, 0, &received));
        OK(msgport_buffer_read_at(received, 0, text, 7));
        CHECK(atoi(text) == i);
        msgport_buffer_free(received);
    }
    /* It can go elsewhere, although the peer of the first port still has it mapped, which then lets go of it. */
    OK(msgport_port_buffer(a, 1 << 20, &buffer));
    OK(msgport_buffer_write_at(buffer, 0, "onwards", 8));
    item = msgport_item_buffer(buffer);
    OK(msgport_port_post_message(c, NULL, 0, &item, 1, 0));
    OK(msgport_buffer_len(buffer, &len));
    CHECK(len == 0);
    msgport_buffer_free(buffer);
    OK(msgport_port_recv_into(d, PATIENCE, message, NULL, NULL));
    OK(msgport_message_take_buffer(message, 0, &received));
    OK(msgport_buffer_read_at(received, 0, text, 8));
    CHECK(strcmp(text, "onwards") == 0);
    msgport_buffer_free(received);
    OK(msgport_port_release_buffers(a, &count));
    CHECK(count == 1);
    msgport_message_free(message);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
}

static void s08_a_queue_grows_and_tells_how_full_it_is(void)
{
    msgport_port *a, *b, *receiver;
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    msgport_queued queued = MSGPORT_QUEUED_INIT;
    struct {
        msgport_queued known;
        size_t unknown;
    } longer = { MSGPORT_QUEUED_INIT, 1 };
    char block[1000] = { 0 };
    msgport_message *message;
    options.capacity = 4096;
    OK(msgport_channel_new(&options, &a, &b));
    OK(msgport_port_queued(a, &queued));
    CHECK(queued.bytes == 0 && queued.capacity == 4096);
    for (int i = 0; i < 1000; i++) {
        memcpy(block, &i, sizeof i);
        OK(msgport_port_post_message(a, block, sizeof block, NULL, 0, 0));
    }
    OK(msgport_port_queued(a, &queued));
    CHECK(queued.bytes >= 1000 * 1008 && queued.capacity > 4096 && queued.high_water >= queued.bytes);
    CHECK(queued.size == sizeof queued);
    longer.known.size = sizeof longer;
    OK(msgport_port_queued(a, &longer.known));
    CHECK(longer.known.bytes == queued.bytes && longer.unknown == 0);
    OK(msgport_message_new(&message));
    for (int i = 0; i < 1000; i++) {
        const void *data;
        size_t len;
        OK(msgport_port_recv_into(b, PATIENCE, message, &data, &len));
        CHECK(len == sizeof block && memcmp(data, &i, sizeof i) == 0);
    }
    CODE(MSGPORT_EMPTY, msgport_port_recv_into(b, 0, message, NULL, NULL));
    OK(msgport_port_post_message(a, "x", 1, NULL, 0, 0));
    OK(msgport_port_queued(a, &queued));
    CHECK(queued.capacity == 4096);
    msgport_message_free(message);
    OK(msgport_port_split(a, &receiver));
    CODE(MSGPORT_WRONG_HALF, msgport_port_queued(receiver, &queued));
    msgport_port_free(receiver);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void long_messages_are_messages(void)
{
    msgport_port *a, *b;
    msgport_message *message;
    const size_t size = 5 << 20;
    const void *data;
    void *place;
    size_t len;
    char *text = malloc(size);
    CHECK(text != NULL);
    for (size_t i = 0; i < size; i++) text[i] = (char)(i * 7);
    make_pair(&a, &b);
    OK(msgport_port_post_message(a, text, size, NULL, 0, 0));
    OK(msgport_port_reserve(a, size, &place));
    memcpy(place, text, size);
    OK(msgport_port_commit(a, size - 1));
    message = recv_message(b);
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == size && memcmp(data, text, size) == 0);
    msgport_message_free(message);
    OK(msgport_port_recv_ref(b, PATIENCE, NULL, &data, &len));
    CHECK(len == size - 1 && memcmp(data, text, len) == 0);
    OK(msgport_port_release(b));
    free(text);
    msgport_port_free(a);
    msgport_port_free(b);
}

static const test_case CASES[] = {
    CASE(s41_a_frozen_buffer_has_many_readers),
    CASE(a_received_buffer_is_not_frozen),
    CASE(a_file_is_frozen),
    CASE(s40_both_sides_keep_a_shared_buffer),
    CASE(shared_buffers_have_names),
    CASE(a_descriptor_is_duplicated_for_the_receiver),
    CASE(everything_in_one_message_in_place),
    CASE(a_message_is_forwarded_with_everything),
    CASE(a_call_and_its_answer_carry_everything),
    CASE(buffers_come_back),
    CASE(s08_a_queue_grows_and_tells_how_full_it_is),
    CASE(long_messages_are_messages),
    { NULL, NULL },
};

int main(int argc, char **argv)
{
    return run_cases(CASES, argc, argv);
}
