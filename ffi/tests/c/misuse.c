/* Every function with NULL for every pointer, with handles of another type, and in the wrong state: only a code. */
#include "check.h"

#define NULL_(call) CODE(MSGPORT_NULL_ARGUMENT, call)

/* A handle of each type, and outputs that must not be written. */
static msgport_port *a, *b, *port = NULL, *port2 = NULL;
static msgport_message *message, *other_message = NULL;
static msgport_buffer *buffer, *other_buffer = NULL;
static msgport_listener *listener, *other_listener = NULL;
static msgport_frozen *frozen, *other_frozen = NULL;
static msgport_shared *shared, *other_shared = NULL;
static msgport_queued queued = MSGPORT_QUEUED_INIT;
static msgport_item taken = { 0, 0, { NULL } };
static msgport_loop *loop;
static msgport_remote *remote, *other_remote = NULL;
static msgport_portset *set;
static msgport_portset_event event = { NULL, 0, 0 };
static msgport_client *client, *other_client = NULL;
static msgport_pending *pending, *other_pending = NULL;
static msgport_server *server, *other_server = NULL;
static msgport_responder *responder, *other_responder = NULL;
static int cancelled;
static msgport_port *c, *d; /* c is in the loop */
static const void *data = NULL;
static void *memory = NULL;
static const char *path = NULL;
static size_t len = 77;
static uint64_t refused = 77;
static int descriptor = 77;
static msgport_interrupter *interrupter = NULL;
static int32_t pid = 77;
static int destroyed = 0;

static void destroy(void *user)
{
    ++*(int *)user;
}

static void on_ready(msgport_loop *self, int which, uint32_t ready, void *user)
{
    (void)self;
    (void)which;
    (void)ready;
    (void)user;
}

static void on_connect(msgport_loop *self, msgport_port *accepted, msgport_message *greeting, const msgport_peer *peer,
                       void *user)
{
    (void)self;
    (void)accepted;
    (void)greeting;
    (void)peer;
    (void)user;
}

static void on_message(msgport_port *self, msgport_message *received, void *user)
{
    (void)self;
    (void)received;
    (void)user;
}

static void on_message_error(msgport_port *self, const void *bytes, size_t count, void *user)
{
    (void)self;
    (void)bytes;
    (void)count;
    (void)user;
}

static void on_close(msgport_port *self, msgport_code reason, void *user)
{
    (void)self;
    (void)reason;
    (void)user;
}

static void on_error(msgport_loop *self, msgport_code code, void *user)
{
    (void)self;
    (void)code;
    (void)user;
}

static void on_task(msgport_loop *self, void *user)
{
    (void)self;
    (void)user;
}

static void set_up(void)
{
    char name[64];
    snprintf(name, sizeof name, "messageport-ffi-misuse-%d", (int)getpid());
    make_pair(&a, &b);
    OK(msgport_message_new(&message));
    OK(msgport_buffer_new(16, &buffer));
    OK(msgport_listener_bind(name, NULL, &listener));
    OK(msgport_frozen_from_bytes("ice", 3, &frozen));
    OK(msgport_shared_new(16, &shared));
    OK(msgport_loop_new(&loop));
    OK(msgport_loop_remote(loop, &remote));
    make_pair(&c, &d);
    OK(msgport_loop_add(loop, c));
    OK(msgport_portset_new(&set));
    {
        msgport_port *asking, *answering;
        make_pair(&asking, &answering);
        OK(msgport_client_new(asking, &client));
        OK(msgport_server_new(answering, &server));
        msgport_port_free(asking);
        msgport_port_free(answering);
        OK(msgport_client_start(client, "x", 1, NULL, 0, &pending));
        OK(msgport_server_recv(server, PATIENCE, message, &responder));
    }
}

static void tear_down(void)
{
    CHECK(port == NULL && port2 == NULL && other_message == NULL && other_buffer == NULL && other_listener == NULL);
    CHECK(other_frozen == NULL && other_shared == NULL && queued.capacity == 0 && taken.kind == 0);
    CHECK(other_remote == NULL && other_client == NULL && other_pending == NULL && other_server == NULL);
    CHECK(other_responder == NULL && event.port == NULL && destroyed == 0);
    msgport_remote_free(remote);
    msgport_loop_free(loop);
    msgport_port_free(c);
    msgport_port_free(d);
    msgport_portset_free(set);
    msgport_pending_free(pending);
    msgport_responder_free(responder);
    msgport_client_free(client);
    msgport_server_free(server);
    CHECK(data == NULL && memory == NULL && path == NULL);
    CHECK(len == 77 && refused == 77 && descriptor == 77 && pid == 77);
    expect_entangled(a, b);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_message_free(message);
    msgport_buffer_free(buffer);
    msgport_listener_free(listener);
    msgport_frozen_free(frozen);
    msgport_shared_free(shared);
}

static void null_for_every_pointer(void)
{
    const char *arguments[] = { "name", NULL };
    msgport_bytes bytes = { "x", 1 };
    set_up();
    NULL_(msgport_channel_new(NULL, NULL, &port2));
    NULL_(msgport_channel_new(NULL, &port, NULL));
    NULL_(msgport_port_close(NULL));
    NULL_(msgport_port_post_message(NULL, "x", 1, NULL, 0, 0));
    NULL_(msgport_port_post_message(a, NULL, 1, NULL, 0, 0));
    NULL_(msgport_port_post_message(a, "x", 1, NULL, 1, 0));
    NULL_(msgport_port_post_message(NULL, "x", 1, NULL, 0, 1));
    NULL_(msgport_port_post_message(a, NULL, 1, NULL, 0, 1));
    NULL_(msgport_port_post_message(a, "x", 1, NULL, 1, 1));
    NULL_(msgport_port_post_messages(NULL, &bytes, 1, 0, &len));
    NULL_(msgport_port_post_messages(a, &bytes, 1, 0, NULL));
    NULL_(msgport_port_post_messages(a, NULL, 1, 0, &len));
    CHECK(len == 0);
    bytes.data = NULL;
    NULL_(msgport_port_post_messages(a, &bytes, 1, 0, &len));
    CHECK(len == 0);
    len = 77;
    NULL_(msgport_port_reserve(NULL, 1, &memory));
    NULL_(msgport_port_reserve(a, 1, NULL));
    NULL_(msgport_port_commit(NULL, 0));
    NULL_(msgport_port_abandon(NULL));
    NULL_(msgport_port_recv(NULL, 0, &other_message));
    NULL_(msgport_port_recv(a, 0, NULL));
    NULL_(msgport_port_recv_into(NULL, 0, message, NULL, NULL));
    NULL_(msgport_port_recv_into(a, 0, NULL, NULL, NULL));
    NULL_(msgport_port_recv_ref(NULL, 0, NULL, &data, &len));
    NULL_(msgport_port_recv_ref(a, 0, NULL, NULL, &len));
    NULL_(msgport_port_recv_ref(a, 0, NULL, &data, NULL));
    NULL_(msgport_port_release(NULL));
    NULL_(msgport_port_set_spin(NULL, 0));
    NULL_(msgport_port_peer_state(NULL));
    NULL_(msgport_port_closed(NULL, 0));
    NULL_(msgport_port_interrupter(NULL, &interrupter));
    NULL_(msgport_port_interrupter(a, NULL));
    NULL_(msgport_portset_interrupter(NULL, &interrupter));
    NULL_(msgport_portset_interrupter(set, NULL));
    NULL_(msgport_client_interrupter(NULL, &interrupter));
    NULL_(msgport_client_interrupter(client, NULL));
    NULL_(msgport_server_interrupter(NULL, &interrupter));
    NULL_(msgport_server_interrupter(server, NULL));
    NULL_(msgport_interrupter_interrupt(NULL));
    NULL_(msgport_port_set_interrupt_on_signal(NULL, 1));
    NULL_(msgport_portset_set_interrupt_on_signal(NULL, 1));
    NULL_(msgport_portset_set_spin(NULL, 1));
    CHECK(interrupter == NULL);
    msgport_interrupter_free(NULL);
    NULL_(msgport_port_descriptor(NULL, &descriptor));
    NULL_(msgport_port_descriptor(a, NULL));
    NULL_(msgport_port_renew(NULL));
    NULL_(msgport_port_split(NULL, &port));
    NULL_(msgport_port_split(a, NULL));
    NULL_(msgport_port_join(NULL, b));
    NULL_(msgport_port_join(a, NULL));
    NULL_(msgport_port_join(NULL, NULL));
    NULL_(msgport_message_new(NULL));
    NULL_(msgport_message_clear(NULL));
    NULL_(msgport_message_data(NULL, &data, &len));
    NULL_(msgport_message_data(message, NULL, &len));
    NULL_(msgport_message_data(message, &data, NULL));
    NULL_(msgport_port_queued(NULL, &queued));
    NULL_(msgport_port_queued(a, NULL));
    NULL_(msgport_port_buffer(NULL, 1, &other_buffer));
    NULL_(msgport_port_buffer(a, 1, NULL));
    NULL_(msgport_port_release_buffers(NULL, &len));
    NULL_(msgport_port_release_buffers(a, NULL));
    NULL_(msgport_message_count(NULL, MSGPORT_ITEM_PORT, &len));
    NULL_(msgport_message_count(message, MSGPORT_ITEM_PORT, NULL));
    NULL_(msgport_message_take(NULL, MSGPORT_ITEM_PORT, 0, &taken));
    NULL_(msgport_message_take(message, MSGPORT_ITEM_PORT, 0, NULL));
    NULL_(msgport_message_take_frozen(NULL, 0, &other_frozen));
    NULL_(msgport_message_take_frozen(message, 0, NULL));
    NULL_(msgport_message_take_shared(NULL, 0, &other_shared));
    NULL_(msgport_message_take_shared(message, 0, NULL));
    NULL_(msgport_message_take_descriptor(NULL, 0, &descriptor));
    NULL_(msgport_message_take_descriptor(message, 0, NULL));
    NULL_(msgport_frozen_from_bytes(NULL, 1, &other_frozen));
    NULL_(msgport_frozen_from_bytes("x", 1, NULL));
    NULL_(msgport_frozen_from_file(0, NULL));
    NULL_(msgport_buffer_freeze(NULL, &other_frozen));
    NULL_(msgport_buffer_freeze(buffer, NULL));
    NULL_(msgport_frozen_clone(NULL, &other_frozen));
    NULL_(msgport_frozen_clone(frozen, NULL));
    NULL_(msgport_frozen_data(NULL, &data, &len));
    NULL_(msgport_frozen_data(frozen, NULL, &len));
    NULL_(msgport_frozen_data(frozen, &data, NULL));
    NULL_(msgport_shared_new(1, NULL));
    NULL_(msgport_shared_create_named(NULL, 1, &other_shared));
    NULL_(msgport_shared_create_named("messageport-ffi-misuse", 1, NULL));
    NULL_(msgport_shared_open_named(NULL, 1, &other_shared));
    NULL_(msgport_shared_open_named("messageport-ffi-misuse", 1, NULL));
    NULL_(msgport_shared_remove_name(NULL));
    NULL_(msgport_shared_clone(NULL, &other_shared));
    NULL_(msgport_shared_clone(shared, NULL));
    NULL_(msgport_shared_data(NULL, &memory, &len));
    NULL_(msgport_shared_data(shared, NULL, &len));
    NULL_(msgport_shared_data(shared, &memory, NULL));
    NULL_(msgport_shared_read_at(NULL, 0, &len, 1));
    NULL_(msgport_shared_read_at(shared, 0, NULL, 1));
    NULL_(msgport_shared_write_at(NULL, 0, "x", 1));
    NULL_(msgport_shared_write_at(shared, 0, NULL, 1));
    NULL_(msgport_message_take_port(NULL, 0, &port));
    NULL_(msgport_message_take_port(message, 0, NULL));
    NULL_(msgport_message_take_buffer(NULL, 0, &other_buffer));
    NULL_(msgport_message_take_buffer(message, 0, NULL));
    NULL_(msgport_buffer_new(1, NULL));
    NULL_(msgport_buffer_len(NULL, &len));
    NULL_(msgport_buffer_len(buffer, NULL));
    NULL_(msgport_buffer_read_at(NULL, 0, &len, 1));
    NULL_(msgport_buffer_read_at(buffer, 0, NULL, 1));
    NULL_(msgport_buffer_write_at(NULL, 0, "x", 1));
    NULL_(msgport_buffer_write_at(buffer, 0, NULL, 1));
    NULL_(msgport_buffer_data(NULL, &memory, &len));
    NULL_(msgport_buffer_data(buffer, NULL, &len));
    NULL_(msgport_buffer_data(buffer, &memory, NULL));
    NULL_(msgport_spawn_with_port(NULL, arguments, NULL, b, &pid));
    NULL_(msgport_spawn_with_port("/bin/true", NULL, NULL, b, &pid));
    NULL_(msgport_spawn_with_port("/bin/true", arguments, NULL, NULL, &pid));
    NULL_(msgport_spawn_with_port("/bin/true", arguments, NULL, b, NULL));
    NULL_(msgport_prepare_port(NULL, &descriptor));
    NULL_(msgport_prepare_port(b, NULL));
    NULL_(msgport_listener_at(0, NULL, NULL));
    NULL_(msgport_listener_activated(NULL, NULL, NULL));
    NULL_(msgport_parent_port(NULL));
    NULL_(msgport_listener_bind(NULL, NULL, &other_listener));
    NULL_(msgport_listener_bind("name", NULL, NULL));
    NULL_(msgport_listener_accept(NULL, 0, NULL, &port, NULL));
    NULL_(msgport_listener_accept(listener, 0, NULL, NULL, NULL));
    NULL_(msgport_listener_path(NULL, &path));
    NULL_(msgport_listener_path(listener, NULL));
    NULL_(msgport_listener_refused(NULL, &refused));
    NULL_(msgport_listener_refused(listener, NULL));
    NULL_(msgport_listener_descriptor(NULL, &descriptor));
    NULL_(msgport_listener_descriptor(listener, NULL));
    NULL_(msgport_connect(NULL, NULL, 0, NULL, &port));
    NULL_(msgport_connect("name", NULL, 1, NULL, &port));
    NULL_(msgport_connect("name", NULL, 0, NULL, NULL));
    NULL_(msgport_loop_new(NULL));
    NULL_(msgport_loop_add(NULL, a));
    NULL_(msgport_loop_add(loop, NULL));
    NULL_(msgport_loop_remove(NULL, a));
    NULL_(msgport_loop_remove(loop, NULL));
    NULL_(msgport_loop_run(NULL, 0));
    NULL_(msgport_loop_poll(NULL, 0, &len));
    NULL_(msgport_loop_poll(NULL, 0, &len));
    NULL_(msgport_loop_descriptor(NULL, &descriptor));
    NULL_(msgport_loop_descriptor(loop, NULL));
    NULL_(msgport_loop_stop(NULL));
    NULL_(msgport_loop_set_batch(NULL, 1));
    NULL_(msgport_loop_set_spin(NULL, 1));
    NULL_(msgport_loop_on_error(NULL, on_error, &destroyed, destroy));
    NULL_(msgport_loop_on_error(loop, NULL, &destroyed, destroy));
    NULL_(msgport_loop_set_timeout(NULL, 0, on_task, &destroyed, destroy, &refused));
    NULL_(msgport_loop_set_timeout(loop, 0, NULL, &destroyed, destroy, &refused));
    NULL_(msgport_loop_set_interval(NULL, 0, on_task, &destroyed, destroy, &refused));
    NULL_(msgport_loop_set_interval(loop, 0, NULL, &destroyed, destroy, &refused));
    NULL_(msgport_loop_clear_timeout(NULL, 0));
    NULL_(msgport_loop_watch(NULL, 0, MSGPORT_READABLE, on_ready, &destroyed, destroy, &refused));
    NULL_(msgport_loop_watch(loop, 0, MSGPORT_READABLE, NULL, &destroyed, destroy, &refused));
    NULL_(msgport_loop_add_listener(NULL, listener, on_connect, &destroyed, destroy, &refused));
    NULL_(msgport_loop_add_listener(loop, NULL, on_connect, &destroyed, destroy, &refused));
    NULL_(msgport_loop_add_listener(loop, listener, NULL, &destroyed, destroy, &refused));
    NULL_(msgport_loop_unwatch(NULL, 0));
    NULL_(msgport_loop_remote(NULL, &other_remote));
    NULL_(msgport_loop_remote(loop, NULL));
    NULL_(msgport_remote_stop(NULL));
    NULL_(msgport_remote_post_task(NULL, on_task, &destroyed, destroy));
    NULL_(msgport_remote_post_task(remote, NULL, &destroyed, destroy));
    NULL_(msgport_port_on_message(NULL, MSGPORT_SET, on_message, &destroyed, destroy, &refused));
    NULL_(msgport_port_on_message(c, MSGPORT_SET, NULL, &destroyed, destroy, &refused));
    NULL_(msgport_port_on_message_error(NULL, MSGPORT_SET, on_message_error, &destroyed, destroy, &refused));
    NULL_(msgport_port_on_message_error(c, MSGPORT_SET, NULL, &destroyed, destroy, &refused));
    NULL_(msgport_port_on_close(NULL, MSGPORT_SET, on_close, &destroyed, destroy, &refused));
    NULL_(msgport_port_on_close(c, MSGPORT_SET, NULL, &destroyed, destroy, &refused));
    NULL_(msgport_port_remove_handler(NULL, 0));
    NULL_(msgport_port_start(NULL));
    NULL_(msgport_port_dispatch_event(NULL, message));
    NULL_(msgport_port_dispatch_event(c, NULL));
    NULL_(msgport_portset_new(NULL));
    NULL_(msgport_portset_add(NULL, a));
    NULL_(msgport_portset_add(set, NULL));
    NULL_(msgport_portset_remove(NULL, a));
    NULL_(msgport_portset_remove(set, NULL));
    NULL_(msgport_portset_descriptor(NULL, &descriptor));
    NULL_(msgport_portset_descriptor(set, NULL));
    NULL_(msgport_client_descriptor(NULL, &descriptor));
    NULL_(msgport_client_descriptor(client, NULL));
    NULL_(msgport_server_descriptor(NULL, &descriptor));
    NULL_(msgport_server_descriptor(server, NULL));
    NULL_(msgport_port_set_user(NULL, NULL));
    NULL_(msgport_port_user(NULL, &memory));
    NULL_(msgport_port_user(a, NULL));
    NULL_(msgport_port_recv_messages(NULL, 0, &message, 1, &len));
    NULL_(msgport_port_recv_messages(a, 0, &message, 1, NULL));
    OK(msgport_raise_descriptor_limit(0, NULL));
    NULL_(msgport_portset_next(NULL, 0, message, &event));
    NULL_(msgport_portset_next(set, 0, NULL, &event));
    NULL_(msgport_portset_next(set, 0, message, NULL));
    NULL_(msgport_client_new(NULL, &other_client));
    NULL_(msgport_client_new(a, NULL));
    NULL_(msgport_client_call(NULL, "x", 1, NULL, 0, 0, message));
    NULL_(msgport_client_call(client, NULL, 1, NULL, 0, 0, message));
    NULL_(msgport_client_call(client, "x", 1, NULL, 1, 0, message));
    NULL_(msgport_client_call(client, "x", 1, NULL, 0, 0, NULL));
    NULL_(msgport_client_start(NULL, "x", 1, NULL, 0, &other_pending));
    NULL_(msgport_client_start(client, NULL, 1, NULL, 0, &other_pending));
    NULL_(msgport_client_start(client, "x", 1, NULL, 1, &other_pending));
    NULL_(msgport_client_start(client, "x", 1, NULL, 0, NULL));
    NULL_(msgport_pending_wait(NULL, 0, message));
    NULL_(msgport_pending_wait(pending, 0, NULL));
    NULL_(msgport_server_new(NULL, &other_server));
    NULL_(msgport_server_new(a, NULL));
    NULL_(msgport_server_recv(NULL, 0, message, &other_responder));
    NULL_(msgport_server_recv(server, 0, NULL, &other_responder));
    NULL_(msgport_server_recv(server, 0, message, NULL));
    NULL_(msgport_responder_is_cancelled(NULL, &cancelled));
    NULL_(msgport_responder_is_cancelled(responder, NULL));
    NULL_(msgport_responder_answer(NULL, "x", 1, NULL, 0, 0));
    NULL_(msgport_responder_answer(responder, NULL, 1, NULL, 0, 0));
    NULL_(msgport_responder_answer(responder, "x", 1, NULL, 1, 0));
    /* Freeing NULL. */
    msgport_port_free(NULL);
    msgport_message_free(NULL);
    msgport_buffer_free(NULL);
    msgport_listener_free(NULL);
    msgport_frozen_free(NULL);
    msgport_shared_free(NULL);
    msgport_loop_free(NULL);
    msgport_remote_free(NULL);
    msgport_portset_free(NULL);
    msgport_client_free(NULL);
    msgport_pending_free(NULL);
    msgport_server_free(NULL);
    msgport_responder_free(NULL);
    tear_down();
}

#define WRONG(call) CODE(MSGPORT_BAD_HANDLE, call)

static void a_handle_of_another_kind(void)
{
    const char *arguments[] = { "name", NULL };
    msgport_port *no_port;
    msgport_message *no_message;
    msgport_buffer *no_buffer;
    msgport_listener *no_listener;
    msgport_frozen *no_frozen;
    msgport_shared *no_shared;
    msgport_loop *no_loop;
    msgport_remote *no_remote;
    msgport_portset *no_set;
    msgport_client *no_client;
    msgport_pending *no_pending;
    msgport_server *no_server;
    msgport_responder *no_responder;
    set_up();
    no_port = (msgport_port *)buffer;
    no_message = (msgport_message *)a;
    no_buffer = (msgport_buffer *)message;
    no_listener = (msgport_listener *)a;
    no_frozen = (msgport_frozen *)shared;
    no_shared = (msgport_shared *)frozen;
    no_loop = (msgport_loop *)remote;
    no_remote = (msgport_remote *)loop;
    no_set = (msgport_portset *)loop;
    no_client = (msgport_client *)server;
    no_pending = (msgport_pending *)client;
    no_server = (msgport_server *)client;
    no_responder = (msgport_responder *)pending;
    WRONG(msgport_port_close(no_port));
    WRONG(msgport_port_post_message(no_port, "x", 1, NULL, 0, 0));
    WRONG(msgport_port_post_message(no_port, "x", 1, NULL, 0, 1));
    WRONG(msgport_port_post_messages(no_port, NULL, 0, 0, &len));
    WRONG(msgport_port_reserve(no_port, 1, &memory));
    WRONG(msgport_port_commit(no_port, 0));
    WRONG(msgport_port_abandon(no_port));
    WRONG(msgport_port_recv(no_port, 0, &other_message));
    WRONG(msgport_port_recv_into(no_port, 0, message, NULL, NULL));
    WRONG(msgport_port_recv_into(b, 0, no_message, NULL, NULL));
    WRONG(msgport_port_recv_ref(no_port, 0, NULL, &data, &len));
    WRONG(msgport_port_recv_ref(b, 0, no_message, &data, &len));
    WRONG(msgport_port_release(no_port));
    WRONG(msgport_port_set_spin(no_port, 0));
    WRONG(msgport_port_peer_state(no_port));
    WRONG(msgport_port_closed(no_port, 0));
    WRONG(msgport_port_interrupter(no_port, &interrupter));
    WRONG(msgport_portset_interrupter(no_set, &interrupter));
    WRONG(msgport_client_interrupter(no_client, &interrupter));
    WRONG(msgport_server_interrupter(no_server, &interrupter));
    WRONG(msgport_interrupter_interrupt((msgport_interrupter *)a));
    WRONG(msgport_port_set_interrupt_on_signal(no_port, 1));
    WRONG(msgport_portset_set_interrupt_on_signal(no_set, 1));
    WRONG(msgport_portset_set_spin(no_set, 1));
    CHECK(interrupter == NULL);
    msgport_interrupter_free((msgport_interrupter *)a);
    WRONG(msgport_port_descriptor(no_port, &descriptor));
    WRONG(msgport_port_renew(no_port));
    WRONG(msgport_port_split(no_port, &port));
    WRONG(msgport_port_join(no_port, a));
    WRONG(msgport_port_join(a, no_port));
    WRONG(msgport_message_clear(no_message));
    WRONG(msgport_message_data(no_message, &data, &len));
    WRONG(msgport_port_queued(no_port, &queued));
    WRONG(msgport_port_buffer(no_port, 1, &other_buffer));
    WRONG(msgport_port_release_buffers(no_port, &len));
    WRONG(msgport_message_count(no_message, MSGPORT_ITEM_PORT, &len));
    WRONG(msgport_message_take(no_message, MSGPORT_ITEM_PORT, 0, &taken));
    WRONG(msgport_message_take_frozen(no_message, 0, &other_frozen));
    WRONG(msgport_message_take_shared(no_message, 0, &other_shared));
    WRONG(msgport_message_take_descriptor(no_message, 0, &descriptor));
    WRONG(msgport_buffer_freeze(no_buffer, &other_frozen));
    WRONG(msgport_frozen_clone(no_frozen, &other_frozen));
    WRONG(msgport_frozen_data(no_frozen, &data, &len));
    WRONG(msgport_shared_clone(no_shared, &other_shared));
    WRONG(msgport_shared_data(no_shared, &memory, &len));
    WRONG(msgport_shared_read_at(no_shared, 0, &len, 1));
    WRONG(msgport_shared_write_at(no_shared, 0, "x", 1));
    WRONG(msgport_message_take_port(no_message, 0, &port));
    WRONG(msgport_message_take_buffer(no_message, 0, &other_buffer));
    WRONG(msgport_buffer_len(no_buffer, &len));
    WRONG(msgport_buffer_read_at(no_buffer, 0, &len, 1));
    WRONG(msgport_buffer_write_at(no_buffer, 0, "x", 1));
    WRONG(msgport_buffer_data(no_buffer, &memory, &len));
    WRONG(msgport_spawn_with_port("/bin/true", arguments, NULL, no_port, &pid));
    WRONG(msgport_prepare_port(no_port, &descriptor));
    WRONG(msgport_listener_accept(no_listener, 0, NULL, &port, NULL));
    WRONG(msgport_listener_accept(listener, 0, no_message, &port, NULL));
    WRONG(msgport_listener_path(no_listener, &path));
    WRONG(msgport_listener_refused(no_listener, &refused));
    WRONG(msgport_listener_descriptor(no_listener, &descriptor));
    WRONG(msgport_loop_add(no_loop, a));
    WRONG(msgport_loop_add(loop, no_port));
    WRONG(msgport_loop_remove(no_loop, a));
    WRONG(msgport_loop_remove(loop, no_port));
    WRONG(msgport_loop_run(no_loop, 0));
    WRONG(msgport_loop_poll(no_loop, 0, &len));
    WRONG(msgport_loop_poll(no_loop, 0, &len));
    WRONG(msgport_loop_descriptor(no_loop, &descriptor));
    WRONG(msgport_loop_stop(no_loop));
    WRONG(msgport_loop_set_batch(no_loop, 1));
    WRONG(msgport_loop_set_spin(no_loop, 1));
    WRONG(msgport_loop_on_error(no_loop, on_error, &destroyed, destroy));
    WRONG(msgport_loop_set_timeout(no_loop, 0, on_task, &destroyed, destroy, &refused));
    WRONG(msgport_loop_set_interval(no_loop, 0, on_task, &destroyed, destroy, &refused));
    WRONG(msgport_loop_clear_timeout(no_loop, 0));
    WRONG(msgport_loop_watch(no_loop, 0, MSGPORT_READABLE, on_ready, &destroyed, destroy, &refused));
    WRONG(msgport_loop_add_listener(no_loop, listener, on_connect, &destroyed, destroy, &refused));
    WRONG(msgport_loop_add_listener(loop, no_listener, on_connect, &destroyed, destroy, &refused));
    WRONG(msgport_loop_unwatch(no_loop, 0));
    WRONG(msgport_loop_remote(no_loop, &other_remote));
    WRONG(msgport_remote_stop(no_remote));
    WRONG(msgport_remote_post_task(no_remote, on_task, &destroyed, destroy));
    WRONG(msgport_port_on_message(no_port, MSGPORT_SET, on_message, &destroyed, destroy, &refused));
    WRONG(msgport_port_on_message_error(no_port, MSGPORT_SET, on_message_error, &destroyed, destroy, &refused));
    WRONG(msgport_port_on_close(no_port, MSGPORT_SET, on_close, &destroyed, destroy, &refused));
    WRONG(msgport_port_remove_handler(no_port, 0));
    WRONG(msgport_port_start(no_port));
    WRONG(msgport_port_dispatch_event(no_port, message));
    WRONG(msgport_port_dispatch_event(c, no_message));
    WRONG(msgport_portset_add(no_set, a));
    WRONG(msgport_portset_add(set, no_port));
    WRONG(msgport_portset_remove(no_set, a));
    WRONG(msgport_portset_remove(set, no_port));
    WRONG(msgport_portset_descriptor(no_set, &descriptor));
    WRONG(msgport_client_descriptor(no_client, &descriptor));
    WRONG(msgport_server_descriptor(no_server, &descriptor));
    WRONG(msgport_port_set_user(no_port, NULL));
    WRONG(msgport_port_user(no_port, &memory));
    WRONG(msgport_port_recv_messages(no_port, 0, &message, 1, &len));
    WRONG(msgport_portset_next(no_set, 0, message, &event));
    WRONG(msgport_portset_next(set, 0, no_message, &event));
    WRONG(msgport_client_new(no_port, &other_client));
    WRONG(msgport_client_call(no_client, "x", 1, NULL, 0, 0, message));
    WRONG(msgport_client_call(client, "x", 1, NULL, 0, 0, no_message));
    WRONG(msgport_client_start(no_client, "x", 1, NULL, 0, &other_pending));
    WRONG(msgport_pending_wait(no_pending, 0, message));
    WRONG(msgport_pending_wait(pending, 0, no_message));
    WRONG(msgport_server_new(no_port, &other_server));
    WRONG(msgport_server_recv(no_server, 0, message, &other_responder));
    WRONG(msgport_server_recv(server, 0, no_message, &other_responder));
    WRONG(msgport_responder_is_cancelled(no_responder, &cancelled));
    WRONG(msgport_responder_answer(no_responder, "x", 1, NULL, 0, 0));
    msgport_loop_free(no_loop);
    msgport_remote_free(no_remote);
    msgport_portset_free(no_set);
    msgport_client_free(no_client);
    msgport_pending_free(no_pending);
    msgport_server_free(no_server);
    msgport_responder_free(no_responder);
    /* A function of another type frees nothing. */
    msgport_port_free(no_port);
    msgport_message_free(no_message);
    msgport_buffer_free(no_buffer);
    msgport_listener_free(no_listener);
    msgport_frozen_free(no_frozen);
    msgport_shared_free(no_shared);
    tear_down();
}

/* Calls that the state of the handle does not allow. */
static void out_of_turn(void)
{
    const char *arguments[] = { "name", NULL };
    msgport_item item;
    set_up();
    /* A port in a loop. */
    CODE(MSGPORT_WATCHED, msgport_port_reserve(c, 1, &memory));
    CODE(MSGPORT_WATCHED, msgport_port_recv_ref(c, 0, NULL, &data, &len));
    CODE(MSGPORT_WATCHED, msgport_port_descriptor(c, &descriptor));
    CODE(MSGPORT_WATCHED, msgport_port_split(c, &port));
    CODE(MSGPORT_WATCHED, msgport_port_join(a, c));
    CODE(MSGPORT_WATCHED, msgport_loop_add(loop, c));
    CODE(MSGPORT_WATCHED, msgport_portset_add(set, c));
    CODE(MSGPORT_WATCHED, msgport_client_new(c, &other_client));
    CODE(MSGPORT_WATCHED, msgport_server_new(c, &other_server));
    CODE(MSGPORT_WATCHED, msgport_spawn_with_port("/bin/true", arguments, NULL, c, &pid));
    CODE(MSGPORT_NOT_FOUND, msgport_portset_remove(set, c));
    CODE(MSGPORT_NOT_FOUND, msgport_port_remove_handler(c, 5));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_port_on_message(c, 3, on_message, &destroyed, destroy, &refused));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_port_on_message_error(c, 3, on_message_error, &destroyed, destroy, &refused));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_port_on_close(c, 3, on_close, &destroyed, destroy, &refused));
    item = msgport_item_port(c);
    CODE(MSGPORT_BAD_ITEM, msgport_client_call(client, "x", 1, &item, 1, 0, message));
    expect_entangled(c, d);
    /* A port that is not in a loop; timers and ports that do not exist. */
    OK(msgport_port_reserve(a, 1, &memory));
    CODE(MSGPORT_NOT_IN_LOOP, msgport_loop_remove(loop, a));
    CODE(MSGPORT_NOT_FOUND, msgport_portset_remove(set, a));
    OK(msgport_port_abandon(a));
    memory = NULL;
    CODE(MSGPORT_NOT_IN_LOOP, msgport_port_on_message(a, MSGPORT_SET, on_message, &destroyed, destroy, &refused));
    CODE(MSGPORT_NOT_IN_LOOP,
         msgport_port_on_message_error(a, MSGPORT_SET, on_message_error, &destroyed, destroy, &refused));
    CODE(MSGPORT_NOT_IN_LOOP, msgport_port_on_close(a, MSGPORT_SET, on_close, &destroyed, destroy, &refused));
    CODE(MSGPORT_NOT_IN_LOOP, msgport_port_start(a));
    CODE(MSGPORT_NOT_IN_LOOP, msgport_port_dispatch_event(a, message));
    CODE(MSGPORT_NOT_FOUND, msgport_loop_clear_timeout(loop, 5));
    CODE(MSGPORT_NOT_FOUND, msgport_loop_unwatch(loop, 5));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_loop_watch(loop, 0, 0, on_ready, &destroyed, destroy, &refused));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_loop_watch(loop, 0, 4, on_ready, &destroyed, destroy, &refused));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_loop_watch(loop, -1, MSGPORT_READABLE, on_ready, &destroyed, destroy, &refused));
    CODE(MSGPORT_SYSTEM, msgport_loop_watch(loop, 9999, MSGPORT_READABLE, on_ready, &destroyed, destroy, &refused));
    CODE(MSGPORT_NO_PORTS, msgport_portset_next(set, 0, message, &event));
    CODE(MSGPORT_NO_PORTS, msgport_portset_next(set, MSGPORT_FOREVER, message, &event));
    /* In a set. */
    OK(msgport_portset_add(set, a));
    item = msgport_item_port(a);
    CODE(MSGPORT_BAD_ITEM, msgport_port_post_message(d, NULL, 0, &item, 1, 0));
    CODE(MSGPORT_WATCHED, msgport_loop_add(loop, a));
    CODE(MSGPORT_WATCHED, msgport_port_reserve(a, 1, &memory));
    CODE(MSGPORT_NOT_IN_LOOP, msgport_port_start(a));
    CODE(MSGPORT_EMPTY, msgport_portset_next(set, 0, message, &event));
    CODE(MSGPORT_TIMED_OUT, msgport_portset_next(set, 1000, message, &event));
    expect_entangled(a, b);
    OK(msgport_portset_remove(set, a));
    CODE(MSGPORT_NOT_FOUND, msgport_portset_remove(set, a));
    /* Calls. */
    CODE(MSGPORT_EMPTY, msgport_pending_wait(pending, 0, message));
    CODE(MSGPORT_TIMED_OUT, msgport_pending_wait(pending, 1000, message));
    item = msgport_item_buffer(NULL);
    CODE(MSGPORT_BAD_ITEM, msgport_responder_answer(responder, "x", 1, &item, 1, 0));
    OK(msgport_responder_answer(responder, "x", 1, NULL, 0, 0));
    CODE(MSGPORT_CALL_OVER, msgport_responder_answer(responder, "x", 1, NULL, 0, 0));
    CODE(MSGPORT_CALL_OVER, msgport_responder_is_cancelled(responder, &cancelled));
    OK(msgport_pending_wait(pending, PATIENCE, message));
    CODE(MSGPORT_CALL_OVER, msgport_pending_wait(pending, 0, message));
    CODE(MSGPORT_EMPTY, msgport_server_recv(server, 0, message, &other_responder));
    CODE(MSGPORT_EMPTY, msgport_client_call(client, "x", 1, NULL, 0, 0, message));
    CODE(MSGPORT_TIMED_OUT, msgport_client_call(client, "x", 1, NULL, 0, 1000, message));
    tear_down();
}

static void arguments_that_cannot_be(void)
{
    msgport_item item;
    size_t huge = SIZE_MAX - 1;
    set_up();
    item = msgport_item_buffer(buffer);
    CODE(MSGPORT_BAD_ARGUMENT, msgport_channel_new(NULL, &port, &port));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_port_post_message(a, "x", huge, NULL, 0, 0));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_port_post_message(a, "x", 1, &item, huge, 0));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_port_post_messages(a, (const msgport_bytes *)&item, huge, 0, &len));
    CHECK(len == 0);
    len = 77;
    CODE(MSGPORT_BAD_ARGUMENT, msgport_port_post_message(a, "x", huge, NULL, 0, 1));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_buffer_read_at(buffer, 0, &huge, huge));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_buffer_write_at(buffer, 0, "x", huge));
    CODE(MSGPORT_OUT_OF_RANGE, msgport_buffer_write_at(buffer, huge, "x", 1));
    CODE(MSGPORT_OUT_OF_RANGE, msgport_buffer_write_at(buffer, huge, "x", 4));
    CODE(MSGPORT_TOO_LARGE, msgport_port_reserve(a, huge, &memory));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_connect("name", "x", huge, NULL, &port));
    CODE(MSGPORT_OUT_OF_RANGE, msgport_message_take_port(message, huge, &port));
    CODE(MSGPORT_OUT_OF_RANGE, msgport_message_take(message, MSGPORT_ITEM_FROZEN, 0, &taken));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_message_take(message, 0, 0, &taken));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_message_take(message, 99, 0, &taken));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_message_count(message, 99, &len));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_frozen_from_bytes("x", huge, &other_frozen));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_frozen_from_file(-1, &other_frozen));
    CODE(MSGPORT_UNREADABLE, msgport_frozen_from_file(1000, &other_frozen));
    CODE(MSGPORT_RESOURCE_EXHAUSTED, msgport_shared_new(huge, &other_shared));
    CODE(MSGPORT_OUT_OF_RANGE, msgport_shared_write_at(shared, huge, "x", 4));
    CODE(MSGPORT_BAD_NAME, msgport_shared_create_named("a/b", 1, &other_shared));
    CODE(MSGPORT_BAD_NAME, msgport_shared_open_named("", 1, &other_shared));
    CODE(MSGPORT_BAD_NAME, msgport_shared_remove_name("\xff"));
    CODE(MSGPORT_RESOURCE_EXHAUSTED, msgport_port_buffer(a, huge, &other_buffer));
    queued.size = 1;
    CODE(MSGPORT_BAD_OPTIONS, msgport_port_queued(a, &queued));
    queued.size = sizeof queued;
    CODE(MSGPORT_RESOURCE_EXHAUSTED, msgport_buffer_new(huge, &other_buffer));
    CHECK(msgport_os_error() != 0);
    CHECK(msgport_failed_item(MSGPORT_RESOURCE_EXHAUSTED) == SIZE_MAX && msgport_failed_item(-1) == SIZE_MAX);
    CODE(MSGPORT_BAD_NAME, msgport_listener_bind("", NULL, &other_listener));
    CODE(MSGPORT_BAD_NAME, msgport_listener_bind("..", NULL, &other_listener));
    CODE(MSGPORT_BAD_NAME, msgport_listener_bind("\xff", NULL, &other_listener));
    CODE(MSGPORT_BAD_NAME, msgport_connect("a.lock", NULL, 0, NULL, &port));
    {
        char file[] = "/tmp/messageport-ffi-XXXXXX", lock[64];
        int made = mkstemp(file);
        CHECK(made >= 0 && close(made) == 0);
        CODE(MSGPORT_NOT_A_SOCKET, msgport_listener_bind(file, NULL, &other_listener));
        snprintf(lock, sizeof lock, "%s.lock", file);
        unlink(lock);
        CHECK(unlink(file) == 0);
    }
    {
        char name[200];
        memset(name, 'x', sizeof name - 1);
        name[sizeof name - 1] = 0;
        CODE(MSGPORT_NAME_TOO_LONG, msgport_listener_bind(name, NULL, &other_listener));
    }
    {
        char greeting[40000] = { 0 };
        OK(msgport_listener_path(listener, &path));
        CODE(MSGPORT_TOO_LARGE, msgport_connect(path, greeting, sizeof greeting, NULL, &port));
        path = NULL;
    }
    tear_down();
}

/* Options of a later version. */
typedef struct longer_options {
    msgport_channel_options known;
    uint64_t unknown;
} longer_options;

/* True if a descriptor of this process is this file. */
static int has_memory_file(const char *expected)
{
    char proc[32], target[256];
    for (int number = 0; number < 1024; number++) {
        snprintf(proc, sizeof proc, "/proc/self/fd/%d", number);
        ssize_t end = readlink(proc, target, sizeof target - 1);
        if (end < 0) continue;
        target[end] = '\0';
        if (strcmp(target, expected) == 0) return 1;
    }
    return 0;
}

static void options_that_grow(void)
{
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    msgport_listen_options listen = MSGPORT_LISTEN_OPTIONS_INIT;
    msgport_connect_options connect = MSGPORT_CONNECT_OPTIONS_INIT;
    longer_options longer;
    set_up();
    memset(&longer, 0, sizeof longer);
    longer.known.size = sizeof longer;
    OK(msgport_channel_new(&longer.known, &port, &port2));
    msgport_port_free(port);
    msgport_port_free(port2);
    port = port2 = NULL;
    longer.unknown = 1;
    CODE(MSGPORT_BAD_OPTIONS, msgport_channel_new(&longer.known, &port, &port2));
    /* The struct of an older caller: only the size and the capacity. */
    options.capacity = 4096;
    options.max_handles = 4000;
    options.size = offsetof(msgport_channel_options, max_capacity);
    OK(msgport_channel_new(&options, &port, &port2));
    CHECK(queued_of(port).max_inline_len == 4096 / 16 * 7 - 8);
    msgport_port_free(port);
    msgport_port_free(port2);
    port = port2 = NULL;
    /* Impossible sizes. */
    options.size = 0;
    CODE(MSGPORT_BAD_OPTIONS, msgport_channel_new(&options, &port, &port2));
    options.size = SIZE_MAX;
    CODE(MSGPORT_BAD_OPTIONS, msgport_channel_new(&options, &port, &port2));
    options.size = sizeof options;
    CODE(MSGPORT_BAD_ARGUMENT, msgport_channel_new(&options, &port, &port2)); /* max_handles */
    options.max_handles = 0;
    options.capacity = 5000;
    CODE(MSGPORT_BAD_ARGUMENT, msgport_channel_new(&options, &port, &port2));
    options.capacity = 0;
    options.flags = 4;
    CODE(MSGPORT_BAD_OPTIONS, msgport_channel_new(&options, &port, &port2));
    options.flags = 0;
    options.name = "a name of more than thirty-two bytes";
    CODE(MSGPORT_BAD_ARGUMENT, msgport_channel_new(&options, &port, &port2));
    options.name = "\xff";
    CODE(MSGPORT_BAD_NAME, msgport_channel_new(&options, &port, &port2));
    options.name = "camera";
    OK(msgport_channel_new(&options, &port, &port2));
    CHECK(has_memory_file("/memfd:messageport:camera (deleted)"));
    msgport_port_free(port);
    msgport_port_free(port2);
    port = port2 = NULL;
    CHECK(!has_memory_file("/memfd:messageport:camera (deleted)"));
    options.name = NULL;
    options.flags = MSGPORT_CHANNEL_NO_CACHE;
    options.cached_buffers = 1;
    CODE(MSGPORT_BAD_ARGUMENT, msgport_channel_new(&options, &port, &port2));
    options.cached_buffers = 0;
    OK(msgport_channel_new(&options, &port, &port2));
    msgport_port_free(port);
    msgport_port_free(port2);
    port = port2 = NULL;
    options.flags = MSGPORT_CHANNEL_DATA_ONLY;
    OK(msgport_channel_new(&options, &port, &port2));
    {
        msgport_item item = msgport_item_buffer(buffer);
        CODE(MSGPORT_TOO_MANY_HANDLES, msgport_port_post_message(port, NULL, 0, &item, 1, 0));
    }
    msgport_port_free(port);
    msgport_port_free(port2);
    port = port2 = NULL;
    options.max_handles = 1;
    CODE(MSGPORT_BAD_ARGUMENT, msgport_channel_new(&options, &port, &port2));
    /* The other structs of options. */
    listen.flags = 8;
    CODE(MSGPORT_BAD_OPTIONS, msgport_listener_bind("name", &listen, &other_listener));
    listen.flags = 0;
    listen.reserved = 1;
    CODE(MSGPORT_BAD_OPTIONS, msgport_listener_bind("name", &listen, &other_listener));
    listen.size = 1;
    CODE(MSGPORT_BAD_OPTIONS, msgport_listener_bind("name", &listen, &other_listener));
    connect.reserved = 1;
    CODE(MSGPORT_BAD_OPTIONS, msgport_connect("name", NULL, 0, &connect, &port));
    connect.reserved = 0;
    connect.channel = &options;
    CODE(MSGPORT_BAD_ARGUMENT, msgport_connect("name", NULL, 0, &connect, &port));
    tear_down();
}

static void failures_are_described(void)
{
    char text[200], small[10];
    size_t whole;
    char *large = calloc(1, 40000);
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    CHECK(large != NULL);
    set_up();
    options.max_message_len = 30000;
    OK(msgport_channel_new(&options, &port, &port2));
    CODE(MSGPORT_TOO_LARGE, msgport_port_post_message(port, large, 40000, NULL, 0, 0));
    msgport_port_free(port);
    msgport_port_free(port2);
    port = port2 = NULL;
    whole = msgport_describe(MSGPORT_TOO_LARGE, text, sizeof text);
    CHECK(whole == strlen(text) && strstr(text, "40000") != NULL);
    CHECK(msgport_describe(MSGPORT_TOO_LARGE, NULL, 0) == whole);
    CHECK(msgport_describe(MSGPORT_TOO_LARGE, small, sizeof small) == whole);
    CHECK(strlen(small) == 9 && strncmp(small, text, 9) == 0);
    CHECK(msgport_describe(MSGPORT_TOO_LARGE, small, 1) == whole && small[0] == 0);
    CHECK(msgport_describe(MSGPORT_TOO_LARGE, NULL, 100) == whole);
    /* For another code, its text. */
    msgport_describe(MSGPORT_FULL, text, sizeof text);
    CHECK(strcmp(text, "the queue is full") == 0);
    CHECK(strcmp(msgport_code_name(MSGPORT_FULL), "MSGPORT_FULL") == 0);
    CHECK(strcmp(msgport_code_text(MSGPORT_FULL), "the queue is full") == 0);
    CHECK(strcmp(msgport_code_name(-5), "MSGPORT_UNKNOWN") == 0);
    CHECK(strcmp(msgport_code_text(INT32_MAX), "unknown code") == 0);
    CHECK(msgport_version() == MSGPORT_VERSION);
    CHECK(msgport_has_named_buffers() == 1);
    free(large);
    tear_down();
}

static const test_case CASES[] = {
    CASE(null_for_every_pointer),
    CASE(a_handle_of_another_kind),
    CASE(out_of_turn),
    CASE(arguments_that_cannot_be),
    CASE(options_that_grow),
    CASE(failures_are_described),
    { NULL, NULL },
};

int main(int argc, char **argv)
{
    return run_cases(CASES, argc, argv);
}
