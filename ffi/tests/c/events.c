/* Handlers in an event loop, timers, tasks; sets of ports; request and answer. */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>

enum { MILLISECOND = 1000000 };

/* The log of a test's handlers, and the number of times that their user data was destroyed. */
typedef struct notes {
    char text[400];
    int destroyed;
    int count;
    msgport_loop *loop;
    msgport_port *other;
    uint64_t id;
} notes;

static void note(notes *n, const char *what, size_t len)
{
    size_t used = strlen(n->text);
    CHECK(used + len + 2 <= sizeof n->text);
    memcpy(n->text + used, what, len);
    strcpy(n->text + used + len, " ");
}

static void destroyed(void *user)
{
    ((notes *)user)->destroyed++;
}

static void note_message(msgport_port *port, msgport_message *message, void *user)
{
    const void *data;
    size_t len;
    (void)port;
    OK(msgport_message_data(message, &data, &len));
    note(user, data, len);
    ((notes *)user)->count++;
}

static void note_again(msgport_port *port, msgport_message *message, void *user)
{
    note(user, "+", 1);
    note_message(port, message, user);
}

static void note_close(msgport_port *port, msgport_code reason, void *user)
{
    (void)port;
    note(user, msgport_code_name(reason), strlen(msgport_code_name(reason)));
}

static void note_task(msgport_loop *loop, void *user)
{
    CHECK(loop == ((notes *)user)->loop);
    note(user, "task", 4);
}

static msgport_loop *loop_with(msgport_port *port)
{
    msgport_loop *loop;
    OK(msgport_loop_new(&loop));
    OK(msgport_loop_add(loop, port));
    return loop;
}

static void expect_notes(const notes *n, const char *text)
{
    if (strcmp(n->text, text) != 0) {
        fprintf(stderr, "\"%s\" instead of \"%s\"\n", n->text, text);
        exit(1);
    }
}

static void s15_messages_wait_until_the_port_is_started(void)
{
    msgport_port *a, *b;
    msgport_loop *loop;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 };
    size_t count = 9;
    make_pair(&a, &b);
    loop = loop_with(b);
    post_text(a, "one");
    OK(msgport_port_on_message(b, MSGPORT_ADD, note_message, &n, destroyed, &n.id));
    OK(msgport_loop_poll(loop, MILLISECOND, &count));
    CHECK(count == 0);
    expect_notes(&n, "");
    OK(msgport_port_start(b));
    OK(msgport_port_start(b));
    OK(msgport_loop_poll(loop, PATIENCE, &count));
    CHECK(count == 1);
    expect_notes(&n, "one ");
    CHECK(n.destroyed == 0);
    OK(msgport_port_remove_handler(b, n.id));
    CHECK(n.destroyed == 1);
    CODE(MSGPORT_NOT_FOUND, msgport_port_remove_handler(b, n.id));
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_loop_free(loop);
    CHECK(n.destroyed == 1);
}

static void s17_setting_a_handler_starts_the_port(void)
{
    msgport_port *a, *b;
    msgport_loop *loop;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 }, second = n;
    uint64_t id;
    make_pair(&a, &b);
    post_text(a, "before");
    loop = loop_with(b);
    OK(msgport_port_on_message(b, MSGPORT_SET, note_message, &n, destroyed, &n.id));
    OK(msgport_port_on_close(b, MSGPORT_SET, note_close, &n, destroyed, NULL));
    post_text(a, "after");
    OK(msgport_loop_run(loop, 0));
    expect_notes(&n, "before after ");
    /* A second handler replaces it. */
    OK(msgport_port_on_message(b, MSGPORT_SET, note_message, &second, destroyed, &id));
    CHECK(id == n.id && n.destroyed == 1);
    post_text(a, "second");
    msgport_port_free(a);
    OK(msgport_loop_run(loop, PATIENCE)); /* until no event is possible any more */
    expect_notes(&second, "second ");
    expect_notes(&n, "before after MSGPORT_PEER_CLOSED ");
    CHECK(n.destroyed == 2 && second.destroyed == 1);
    msgport_port_free(b);
    msgport_loop_free(loop);
    CHECK(n.destroyed == 2 && second.destroyed == 1);
}

static void s18_handlers_in_order_once_and_removed(void)
{
    msgport_port *a, *b, *own;
    msgport_loop *loop, *elsewhere;
    msgport_message *message;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 };
    uint64_t once, second;
    make_pair(&a, &b);
    loop = loop_with(b);
    OK(msgport_port_on_message(b, MSGPORT_ADD_ONCE, note_message, &n, destroyed, &once));
    OK(msgport_port_on_message(b, MSGPORT_ADD, note_again, &n, destroyed, &second));
    OK(msgport_port_start(b));
    post_text(a, "x");
    post_text(a, "y");
    OK(msgport_loop_run(loop, 0));
    expect_notes(&n, "x + x + y ");
    CODE(MSGPORT_NOT_FOUND, msgport_port_remove_handler(b, once));
    /* Dispatching a message of this program. */
    make_pair(&n.other, &own);
    post_text(n.other, "own");
    OK(msgport_port_recv(own, PATIENCE, &message));
    OK(msgport_port_dispatch_event(b, message));
    expect_notes(&n, "x + x + y + own ");
    {
        const void *data;
        size_t len;
        OK(msgport_message_data(message, &data, &len));
        CHECK(len == 3);
    }
    msgport_message_free(message);
    /* A call on another loop fails and changes nothing. */
    OK(msgport_loop_new(&elsewhere));
    CODE(MSGPORT_NOT_IN_LOOP, msgport_loop_remove(elsewhere, b));
    msgport_loop_free(elsewhere);
    OK(msgport_port_remove_handler(b, second));
    CHECK(n.destroyed == 2);
    OK(msgport_loop_remove(loop, b));
    CHECK(n.destroyed == 2);
    CODE(MSGPORT_NOT_IN_LOOP, msgport_loop_remove(loop, b));
    msgport_port_free(n.other);
    msgport_port_free(own);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_loop_free(loop);
}

static void s19_a_started_port_without_a_handler_drops(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_loop *loop;
    msgport_message *message;
    msgport_item item;
    make_pair(&a, &b);
    make_pair(&c, &d);
    loop = loop_with(b);
    OK(msgport_port_start(b));
    item = msgport_item_port(c);
    OK(msgport_port_post_message(a, NULL, 0, &item, 1, 0));
    msgport_port_free(c);
    OK(msgport_loop_run(loop, 0));
    CODE(MSGPORT_PEER_CLOSED, msgport_port_recv(d, PATIENCE, &message));
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(d);
    msgport_loop_free(loop);
}

static void s20_calls_go_past_the_handlers(void)
{
    msgport_port *a, *b, *receiver;
    msgport_loop *loop;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 };
    make_pair(&a, &b);
    loop = loop_with(b);
    OK(msgport_port_on_message(b, MSGPORT_SET, note_message, &n, destroyed, NULL));
    post_text(a, "pulled");
    EXPECT_TEXT(b, "pulled");
    post_text(b, "posting works");
    EXPECT_TEXT(a, "posting works");
    OK(msgport_loop_run(loop, 0));
    expect_notes(&n, "");
    msgport_port_free(b);
    CHECK(n.destroyed == 1);
    msgport_port_free(a);
    /* The receiving half of a port. */
    make_pair(&a, &b);
    OK(msgport_port_split(b, &receiver));
    CODE(MSGPORT_WRONG_HALF, msgport_loop_add(loop, b));
    OK(msgport_loop_add(loop, receiver));
    OK(msgport_port_on_message(receiver, MSGPORT_SET, note_message, &n, NULL, NULL));
    post_text(a, "half");
    EXPECT_TEXT(receiver, "half");
    post_text(a, "handled");
    CODE(MSGPORT_WRONG_HALF, msgport_port_post_message(receiver, "x", 1, NULL, 0, 0));
    OK(msgport_loop_run(loop, 0));
    expect_notes(&n, "handled ");
    OK(msgport_loop_remove(loop, receiver));
    OK(msgport_port_join(b, receiver));
    expect_entangled(a, b);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(receiver);
    msgport_loop_free(loop);
}

/* Does what the message says: everything that a handler may do. */
static void do_as_told(msgport_port *port, msgport_message *message, void *user)
{
    notes *n = user;
    const void *data;
    size_t len;
    OK(msgport_message_data(message, &data, &len));
    note(n, data, len);
    if (memcmp(data, "post", 4) == 0) OK(msgport_port_post_message(port, "answer", 6, NULL, 0, 0));
    if (memcmp(data, "take", 4) == 0) OK(msgport_message_take_port(message, 0, &n->other));
    if (memcmp(data, "hook", 4) == 0) OK(msgport_port_on_message(port, MSGPORT_SET, note_again, n, destroyed, NULL));
    if (memcmp(data, "gone", 4) == 0) OK(msgport_port_remove_handler(port, n->id));
    if (memcmp(data, "send", 4) == 0) {
        msgport_item item = msgport_item_port(port);
        OK(msgport_port_post_message(n->other, "moved", 5, &item, 1, 0));
    }
    if (memcmp(data, "free", 4) == 0) msgport_port_free(port);
    if (memcmp(data, "shut", 4) == 0) OK(msgport_port_close(port));
    if (memcmp(data, "loop", 4) == 0) {
        CODE(MSGPORT_RUNNING, msgport_loop_run(n->loop, 0));
        msgport_loop_free(n->loop);
    }
    msgport_message_free(message); /* the loop's message: does nothing */
}

static void s21_a_handler_may_do_anything(void)
{
    msgport_port *a, *b, *c, *d, *moved;
    msgport_message *message;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 };
    msgport_item item;
    /* Answers, takes a port out, transfers its own port with its unhandled messages. */
    make_pair(&a, &b);
    make_pair(&c, &d);
    n.loop = loop_with(b);
    OK(msgport_port_on_message(b, MSGPORT_SET, do_as_told, &n, destroyed, &n.id));
    post_text(a, "post");
    item = msgport_item_port(c);
    OK(msgport_port_post_message(a, "take", 4, &item, 1, 0));
    msgport_port_free(c);
    post_text(a, "send");
    post_text(a, "undelivered");
    OK(msgport_loop_run(n.loop, PATIENCE));
    expect_notes(&n, "post take send ");
    CHECK(n.destroyed == 1);
    EXPECT_TEXT(a, "answer");
    CODE(MSGPORT_DETACHED, msgport_port_post_message(b, "x", 1, NULL, 0, 0));
    msgport_port_free(b);
    OK(msgport_port_recv(d, PATIENCE, &message));
    OK(msgport_message_take_port(message, 0, &moved));
    msgport_message_free(message);
    EXPECT_TEXT(moved, "undelivered");
    expect_entangled(a, moved);
    msgport_port_free(moved);
    msgport_port_free(n.other);
    msgport_port_free(a);
    msgport_port_free(d);
    msgport_loop_free(n.loop);
    /* Sets another handler; removes itself. */
    memset(&n, 0, sizeof n);
    make_pair(&a, &b);
    n.loop = loop_with(b);
    OK(msgport_port_on_message(b, MSGPORT_SET, do_as_told, &n, destroyed, &n.id));
    post_text(a, "hook");
    post_text(a, "x");
    OK(msgport_loop_run(n.loop, 0));
    expect_notes(&n, "hook + x ");
    OK(msgport_port_on_message(b, MSGPORT_SET, do_as_told, &n, destroyed, &n.id));
    post_text(a, "gone");
    post_text(a, "dropped");
    OK(msgport_loop_run(n.loop, PATIENCE));
    expect_notes(&n, "hook + x gone ");
    CHECK(n.destroyed == 3);
    /* Frees its own port; frees the loop. */
    OK(msgport_port_on_message(b, MSGPORT_SET, do_as_told, &n, destroyed, &n.id));
    make_pair(&c, &d);
    OK(msgport_loop_add(n.loop, d));
    OK(msgport_port_on_message(d, MSGPORT_SET, do_as_told, &n, destroyed, NULL));
    post_text(a, "free");
    post_text(a, "never");
    OK(msgport_loop_run(n.loop, 0));
    CODE(MSGPORT_PEER_CLOSED, msgport_port_recv(a, PATIENCE, &message));
    post_text(c, "loop");
    post_text(c, "never");
    OK(msgport_loop_run(n.loop, PATIENCE));
    CHECK(n.destroyed == 5);
    expect_notes(&n, "hook + x gone free loop ");
    CODE(MSGPORT_PEER_CLOSED, msgport_port_recv(c, PATIENCE, &message));
    CODE(MSGPORT_CLOSED, msgport_port_post_message(d, "x", 1, NULL, 0, 0));
    msgport_port_free(a);
    msgport_port_free(c);
    msgport_port_free(d);
}

static void s22_batches_are_fair(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_loop *loop;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 };
    make_pair(&a, &b);
    make_pair(&c, &d);
    loop = loop_with(b);
    OK(msgport_loop_add(loop, d));
    OK(msgport_loop_set_batch(loop, 2));
    OK(msgport_loop_set_spin(loop, 0));
    for (int i = 0; i < 4; i++) {
        post_text(a, "a");
        post_text(c, "c");
    }
    OK(msgport_port_on_message(b, MSGPORT_SET, note_message, &n, NULL, NULL));
    OK(msgport_port_on_message(d, MSGPORT_SET, note_message, &n, NULL, NULL));
    OK(msgport_loop_run(loop, 0));
    expect_notes(&n, "a a c c a a c c ");
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
    msgport_loop_free(loop);
}

/* Posts a message whose buffer has no valid header, as a malicious sender could. */
static void post_spoiled(msgport_port *port)
{
    msgport_buffer *buffer;
    msgport_item item;
    int spoiled = 0;
    OK(msgport_buffer_new(10, &buffer));
    for (int number = 3; number < 1024; number++) {
        char path[64], target[64] = { 0 };
        snprintf(path, sizeof path, "/proc/self/fd/%d", number);
        if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "memfd:messageport-buffer") != NULL)
            spoiled += pwrite(number, "garbage!", 8, 0) == 8;
    }
    CHECK(spoiled > 0);
    item = msgport_item_buffer(buffer);
    OK(msgport_port_post_message(port, "spoiled", 7, &item, 1, 0));
    msgport_buffer_free(buffer);
}

static void note_error(msgport_port *port, const void *data, size_t len, void *user)
{
    char why[200];
    (void)port;
    msgport_describe(MSGPORT_MESSAGE_ERROR, why, sizeof why);
    CHECK(strstr(why, "magic") != NULL);
    note(user, data, len);
}

static void s24_a_message_that_cannot_be_received(void)
{
    msgport_port *a, *b;
    msgport_loop *loop;
    msgport_portset *set;
    msgport_portset_event event;
    msgport_message *message;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 };
    const void *data;
    size_t len;
    make_pair(&a, &b);
    OK(msgport_message_new(&message));
    /* By a call: its data is returned, and later messages are not affected. */
    post_spoiled(a);
    post_text(a, "good");
    CODE(MSGPORT_MESSAGE_ERROR, msgport_port_recv_into(b, PATIENCE, message, NULL, NULL));
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == 7 && memcmp(data, "spoiled", 7) == 0);
    EXPECT_TEXT(b, "good");
    post_spoiled(a);
    CODE(MSGPORT_MESSAGE_ERROR, msgport_port_recv_ref(b, PATIENCE, message, &data, &len));
    CODE(MSGPORT_NOTHING_OPEN, msgport_port_release(b));
    /* In a set. */
    OK(msgport_portset_new(&set));
    OK(msgport_portset_add(set, b));
    post_spoiled(a);
    OK(msgport_portset_next(set, PATIENCE, message, &event));
    OK(msgport_message_data(message, &data, &len));
    CHECK(event.code == MSGPORT_MESSAGE_ERROR && event.port == b && len == 7);
    msgport_portset_free(set);
    /* By handlers. */
    loop = loop_with(b);
    OK(msgport_port_on_message(b, MSGPORT_SET, note_message, &n, destroyed, NULL));
    OK(msgport_port_on_message_error(b, MSGPORT_SET, note_error, &n, destroyed, NULL));
    post_spoiled(a);
    post_text(a, "good");
    OK(msgport_loop_run(loop, 0));
    expect_notes(&n, "spoiled good ");
    msgport_port_free(b);
    CHECK(n.destroyed == 2);
    msgport_loop_free(loop);
    msgport_port_free(a);
    /* A message that is not a request. */
    {
        msgport_server *server;
        msgport_responder *responder = NULL;
        make_pair(&a, &b);
        OK(msgport_server_new(b, &server));
        post_text(a, "none");
        CODE(MSGPORT_MESSAGE_ERROR, msgport_server_recv(server, PATIENCE, message, &responder));
        OK(msgport_message_data(message, &data, &len));
        CHECK(len == 4 && responder == NULL);
        msgport_server_free(server);
        msgport_port_free(a);
        msgport_port_free(b);
    }
    msgport_message_free(message);
}

static void s44_a_started_port_has_what_had_arrived_at_its_close(void)
{
    msgport_port *a, *b;
    msgport_message *message;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 };
    make_pair(&a, &b);
    n.loop = loop_with(b);
    OK(msgport_port_on_message(b, MSGPORT_SET, do_as_told, &n, destroyed, &n.id));
    post_text(a, "shut");
    post_text(a, "after");
    OK(msgport_loop_run(n.loop, MSGPORT_FOREVER));
    expect_notes(&n, "shut after ");
    CHECK(n.destroyed == 1);
    CODE(MSGPORT_PEER_CLOSED, msgport_port_recv(a, PATIENCE, &message));
    CODE(MSGPORT_CLOSED, msgport_port_recv(b, 0, &message));
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_loop_free(n.loop);
    /* Freed: it is not passed on. */
    memset(&n, 0, sizeof n);
    make_pair(&a, &b);
    n.loop = loop_with(b);
    OK(msgport_port_on_message(b, MSGPORT_SET, do_as_told, &n, destroyed, &n.id));
    post_text(a, "shut");
    post_text(a, "after");
    OK(msgport_port_close(b));
    msgport_port_free(b);
    CHECK(n.destroyed == 1);
    OK(msgport_loop_run(n.loop, MSGPORT_FOREVER));
    expect_notes(&n, "");
    msgport_port_free(a);
    msgport_loop_free(n.loop);
}

static void s45_the_close_handler_has_the_reason(void)
{
    msgport_port *a, *b;
    msgport_loop *loop;
    pid_t child;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 };
    make_pair(&a, &b);
    child = start_again("as a child", b);
    msgport_port_free(b);
    EXPECT_TEXT(a, "alive");
    loop = loop_with(a);
    OK(msgport_port_on_close(a, MSGPORT_ADD, note_close, &n, destroyed, NULL));
    OK(msgport_port_start(a));
    kill_and_wait(child);
    OK(msgport_loop_run(loop, PATIENCE));
    expect_notes(&n, "MSGPORT_PEER_DIED ");
    CHECK(n.destroyed == 1);
    msgport_port_free(a);
    msgport_loop_free(loop);
}

static void *from_another_thread(void *remote)
{
    usleep(10000);
    OK(msgport_remote_stop(remote));
    return NULL;
}

static void timers_and_tasks(void)
{
    msgport_loop *loop;
    msgport_remote *remote;
    pthread_t thread;
    notes n = { { 0 }, 0, 0, NULL, NULL, 0 };
    uint64_t first, second;
    size_t count;
    int descriptor;
    struct pollfd poller = { 0, POLLIN, 0 };
    OK(msgport_loop_new(&loop));
    n.loop = loop;
    OK(msgport_loop_set_timeout(loop, MILLISECOND, note_task, &n, destroyed, &first));
    OK(msgport_loop_set_timeout(loop, 2 * MILLISECOND, note_task, &n, destroyed, &second));
    CHECK(first != second);
    OK(msgport_loop_clear_timeout(loop, second));
    CHECK(n.destroyed == 1);
    OK(msgport_loop_run(loop, MSGPORT_FOREVER));
    expect_notes(&n, "task ");
    CHECK(n.destroyed == 2);
    CODE(MSGPORT_NOT_FOUND, msgport_loop_clear_timeout(loop, first));
    CODE(MSGPORT_NOT_FOUND, msgport_loop_clear_timeout(loop, second));
    /* Tasks, and a stop from another thread. */
    OK(msgport_loop_remote(loop, &remote));
    OK(msgport_remote_post_task(remote, note_task, &n, destroyed));
    CHECK(pthread_create(&thread, NULL, from_another_thread, remote) == 0);
    OK(msgport_loop_run(loop, MSGPORT_FOREVER));
    CHECK(pthread_join(thread, NULL) == 0);
    expect_notes(&n, "task task ");
    CHECK(n.destroyed == 3);
    OK(msgport_loop_stop(loop));
    OK(msgport_loop_run(loop, MSGPORT_FOREVER));
    /* Inside a loop of the program. */
    OK(msgport_loop_descriptor(loop, &descriptor));
    poller.fd = descriptor;
    OK(msgport_loop_poll(loop, 0, &count));
    CHECK(poll(&poller, 1, 0) == 0);
    OK(msgport_remote_post_task(remote, note_task, &n, destroyed));
    CHECK(poll(&poller, 1, 20000) == 1);
    OK(msgport_loop_poll(loop, 0, &count));
    CHECK(count == 1 && n.destroyed == 4);
    OK(msgport_loop_set_timeout(loop, MILLISECOND, note_task, &n, destroyed, NULL));
    CHECK(poll(&poller, 1, 20000) == 1);
    OK(msgport_loop_poll(loop, 0, NULL));
    CHECK(n.destroyed == 5);
    /* Freeing the loop destroys what is left; a task posted afterwards stays with the caller. */
    OK(msgport_remote_post_task(remote, note_task, &n, destroyed));
    OK(msgport_loop_set_timeout(loop, MILLISECOND, note_task, &n, destroyed, NULL));
    CODE(MSGPORT_NULL_ARGUMENT, msgport_loop_on_error(loop, NULL, &n, destroyed));
    msgport_loop_free(loop);
    CHECK(n.destroyed == 7);
    CODE(MSGPORT_LOOP_GONE, msgport_remote_post_task(remote, note_task, &n, destroyed));
    CHECK(n.destroyed == 7);
    OK(msgport_remote_stop(remote));
    msgport_remote_free(remote);
}

/* ---- Listeners, descriptors of the program, intervals ---- */

typedef struct service {
    msgport_loop *loop;
    msgport_port *port; /* of the client that was accepted */
    uint64_t listener, pipe, interval;
    int calls, destroyed;
} service;

static void service_destroyed(void *user)
{
    ((service *)user)->destroyed++;
}

static void echo(msgport_port *port, msgport_message *message, void *user)
{
    const void *data;
    size_t len;
    (void)user;
    OK(msgport_message_data(message, &data, &len));
    OK(msgport_port_post_message(port, data, len, NULL, 0, 0));
}

static void accepted(msgport_loop *loop, msgport_port *port, msgport_message *greeting, const msgport_peer *peer,
                     void *user)
{
    service *s = user;
    const void *data;
    size_t len;
    CHECK(loop == s->loop && peer->pid == getpid());
    OK(msgport_message_data(greeting, &data, &len));
    CHECK(len == 4 && memcmp(data, "hail", 4) == 0);
    OK(msgport_loop_add(loop, port));
    OK(msgport_port_on_message(port, MSGPORT_SET, echo, NULL, NULL, NULL));
    s->port = port;
    OK(msgport_loop_unwatch(loop, s->listener)); /* from inside */
    CODE(MSGPORT_NOT_FOUND, msgport_loop_unwatch(loop, s->listener));
}

static void ready(msgport_loop *loop, int descriptor, uint32_t what, void *user)
{
    service *s = user;
    char byte;
    CHECK(what == MSGPORT_READABLE);
    if (read(descriptor, &byte, 1) == 0) OK(msgport_loop_unwatch(loop, s->pipe)); /* it has hung up */
    else s->calls++;
}

static void tick(msgport_loop *loop, void *user)
{
    service *s = user;
    if (++s->calls == 3) OK(msgport_loop_clear_timeout(loop, s->interval));
}

static void *call_the_service(void *name)
{
    msgport_port *port;
    OK(msgport_connect(name, "hail", 4, NULL, &port));
    post_text(port, "hello");
    EXPECT_TEXT(port, "hello");
    msgport_port_free(port);
    return NULL;
}

static void a_loop_takes_listeners_descriptors_and_intervals(void)
{
    service s = { NULL, NULL, 0, 0, 0, 0, 0 };
    msgport_listener *listener;
    pthread_t thread;
    int ends[2];
    uint64_t refused;
    char name[100];
    OK(msgport_loop_new(&s.loop));
    /* A server accepts its client in the loop that serves it. */
    snprintf(name, sizeof name, "/tmp/messageport-c-loop-%ld", (long)getpid());
    OK(msgport_listener_bind(name, NULL, &listener));
    OK(msgport_loop_add_listener(s.loop, listener, accepted, &s, service_destroyed, &s.listener));
    CODE(MSGPORT_DETACHED, msgport_loop_add_listener(s.loop, listener, accepted, &s, service_destroyed, NULL));
    CODE(MSGPORT_DETACHED, msgport_listener_refused(listener, &refused));
    CHECK(s.destroyed == 0);
    msgport_listener_free(listener);
    CHECK(pthread_create(&thread, NULL, call_the_service, name) == 0);
    OK(msgport_loop_run(s.loop, MSGPORT_FOREVER)); /* until the client has gone, since the listener has too */
    CHECK(pthread_join(thread, NULL) == 0 && s.port != NULL && s.destroyed == 1);
    CHECK(access(name, F_OK) != 0);
    msgport_port_free(s.port);
    /* A pipe. */
    CHECK(pipe(ends) == 0);
    OK(msgport_loop_watch(s.loop, ends[0], MSGPORT_READABLE, ready, &s, service_destroyed, &s.pipe));
    CODE(MSGPORT_SYSTEM, msgport_loop_watch(s.loop, ends[0], MSGPORT_READABLE, ready, &s, service_destroyed, NULL));
    CHECK(s.destroyed == 1 && write(ends[1], "ab", 2) == 2);
    close(ends[1]);
    OK(msgport_loop_run(s.loop, MSGPORT_FOREVER));
    CHECK(s.calls == 2 && s.destroyed == 2);
    close(ends[0]);
    /* An interval. */
    s.calls = 0;
    OK(msgport_loop_set_interval(s.loop, MILLISECOND, tick, &s, service_destroyed, &s.interval));
    OK(msgport_loop_run(s.loop, MSGPORT_FOREVER));
    CHECK(s.calls == 3 && s.destroyed == 3);
    CODE(MSGPORT_NOT_FOUND, msgport_loop_clear_timeout(s.loop, s.interval));
    /* Freeing the loop frees what is in it. */
    OK(msgport_listener_bind(name, NULL, &listener));
    OK(msgport_loop_add_listener(s.loop, listener, accepted, &s, service_destroyed, NULL));
    OK(msgport_loop_set_interval(s.loop, MILLISECOND, tick, &s, service_destroyed, NULL));
    msgport_loop_free(s.loop);
    CHECK(s.destroyed == 5 && access(name, F_OK) != 0);
    msgport_listener_free(listener);
}

/* ---- Sets ---- */

/* How often this thread has slept. */
static long sleeps(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_THREAD, &usage) == 0);
    return usage.ru_nvcsw;
}

static int under_valgrind(void)
{
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

static void *post_after_5_ms(void *port)
{
    const struct timespec time = { 0, 5 * MILLISECOND };
    nanosleep(&time, NULL);
    post_text(port, "late");
    return NULL;
}

static void a_set_spins_for_its_budget(void)
{
    msgport_port *a, *b;
    msgport_portset *set;
    msgport_portset_event event;
    msgport_message *message;
    pthread_t thread;
    long before;
    make_pair(&a, &b);
    OK(msgport_portset_new(&set));
    OK(msgport_message_new(&message));
    OK(msgport_portset_add(set, b));
    OK(msgport_portset_set_spin(set, 0));
    CODE(MSGPORT_TIMED_OUT, msgport_portset_next(set, MILLISECOND, message, &event));
    OK(msgport_portset_set_spin(set, MSGPORT_FOREVER));
    post_text(a, "a set spins over the ports that had messages last");
    OK(msgport_portset_next(set, PATIENCE, message, &event));
    CHECK(pthread_create(&thread, NULL, post_after_5_ms, a) == 0);
    before = sleeps();
    OK(msgport_portset_next(set, PATIENCE, message, &event));
    /* Under valgrind threads take turns, and sleep in between. */
    CHECK(event.port == b && (sleeps() == before || under_valgrind()));
    CHECK(pthread_join(thread, NULL) == 0);
    msgport_message_free(message);
    msgport_portset_free(set);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void a_set_tells_which_port_has_something(void)
{
    enum { PORTS = 20 };
    msgport_port *near[PORTS], *far[PORTS], *receiver;
    msgport_portset *set;
    msgport_portset_event event = { NULL, 0, 0 };
    msgport_message *message;
    const void *data;
    size_t len;
    int seen[PORTS] = { 0 };
    OK(msgport_portset_new(&set));
    OK(msgport_message_new(&message));
    for (int i = 0; i < PORTS; i++) {
        make_pair(&near[i], &far[i]);
        OK(msgport_portset_add(set, far[i]));
    }
    for (int i = 0; i < PORTS; i += 2) OK(msgport_port_post_message(near[i], &i, sizeof i, NULL, 0, 0));
    for (int i = 0; i < PORTS / 2; i++) {
        int number;
        OK(msgport_portset_next(set, PATIENCE, message, &event));
        OK(msgport_message_data(message, &data, &len));
        CHECK(event.code == MSGPORT_OK && len == sizeof number);
        memcpy(&number, data, sizeof number);
        CHECK(event.port == far[number] && !seen[number]++);
        OK(msgport_port_post_message(event.port, "seen", 4, NULL, 0, 0));
        EXPECT_TEXT(near[number], "seen");
    }
    CODE(MSGPORT_EMPTY, msgport_portset_next(set, 0, message, &event));
    /* The peer is gone: the port leaves the set and works without it. */
    post_text(near[3], "last");
    msgport_port_free(near[3]);
    OK(msgport_portset_next(set, PATIENCE, message, &event));
    CHECK(event.port == far[3] && event.code == MSGPORT_OK);
    OK(msgport_portset_next(set, PATIENCE, message, &event));
    CHECK(event.port == far[3] && event.code == MSGPORT_PEER_CLOSED);
    CODE(MSGPORT_PEER_CLOSED, msgport_port_closed(far[3], PATIENCE));
    CODE(MSGPORT_NOT_FOUND, msgport_portset_remove(set, far[3]));
    CODE(MSGPORT_PEER_CLOSED, msgport_port_recv_into(far[3], 0, message, NULL, NULL));
    /* A port freed inside the set; a half; a set freed before its ports. */
    msgport_port_free(far[4]);
    CODE(MSGPORT_PEER_CLOSED, msgport_port_recv_into(near[4], PATIENCE, message, NULL, NULL));
    OK(msgport_portset_remove(set, far[5]));
    OK(msgport_port_split(far[5], &receiver));
    CODE(MSGPORT_WRONG_HALF, msgport_portset_add(set, far[5]));
    OK(msgport_portset_add(set, receiver));
    post_text(near[5], "to a half");
    OK(msgport_portset_next(set, PATIENCE, message, &event));
    CHECK(event.port == receiver);
    msgport_portset_free(set);
    expect_entangled(near[0], far[0]);
    OK(msgport_port_join(far[5], receiver));
    msgport_port_free(receiver);
    for (int i = 0; i < PORTS; i++) {
        if (i != 3) msgport_port_free(near[i]);
        if (i != 4) msgport_port_free(far[i]);
    }
    msgport_message_free(message);
}

/* ---- Request and answer ---- */

static void *serve(void *port)
{
    msgport_server *server;
    msgport_message *request;
    msgport_responder *responder, *first = NULL;
    msgport_code code;
    const void *data;
    size_t len, ports;
    OK(msgport_port_set_spin(port, 0));
    OK(msgport_server_new(port, &server));
    OK(msgport_message_new(&request));
    while ((code = msgport_server_recv(server, PATIENCE, request, &responder)) == MSGPORT_OK) {
        OK(msgport_message_data(request, &data, &len));
        OK(msgport_message_count(request, MSGPORT_ITEM_PORT, &ports));
        if (memcmp(data, "drop", 4) == 0) {
            msgport_responder_free(responder);
        } else if (memcmp(data, "late", 4) == 0) {
            first = responder;
        } else if (ports == 1) {
            msgport_port *back;
            msgport_item item;
            OK(msgport_message_take_port(request, 0, &back));
            item = msgport_item_port(back);
            OK(msgport_responder_answer(responder, data, len, &item, 1, MSGPORT_FOREVER));
            msgport_port_free(back);
            msgport_responder_free(responder);
        } else {
            OK(msgport_responder_answer(responder, data, len, NULL, 0, 0));
            msgport_responder_free(responder);
            if (first != NULL) {
                OK(msgport_responder_answer(first, "at last", 7, NULL, 0, PATIENCE));
                msgport_responder_free(first);
                first = NULL;
            }
        }
    }
    CODE(MSGPORT_PEER_CLOSED, code);
    msgport_responder_free(first);
    msgport_message_free(request);
    msgport_server_free(server);
    return NULL;
}

static int is_readable(int descriptor, int milliseconds)
{
    struct pollfd poller = { descriptor, POLLIN, 0 };
    return poll(&poller, 1, milliseconds) == 1;
}

static void sets_clients_and_servers_can_be_polled(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_portset *set;
    msgport_portset_event event;
    msgport_client *client;
    msgport_server *server;
    msgport_pending *pending;
    msgport_responder *responder;
    msgport_message *message;
    int descriptor, there;
    OK(msgport_message_new(&message));
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_portset_new(&set));
    OK(msgport_portset_descriptor(set, &descriptor));
    OK(msgport_portset_add(set, b));
    OK(msgport_portset_add(set, d));
    for (int i = 0; i < 3; i++) {
        CODE(MSGPORT_EMPTY, msgport_portset_next(set, 0, message, &event));
        CHECK(!is_readable(descriptor, 0));
        post_text(a, "x");
        post_text(c, "x");
        CHECK(is_readable(descriptor, 20000));
        OK(msgport_portset_next(set, 0, message, &event));
        OK(msgport_portset_next(set, 0, message, &event));
    }
    CODE(MSGPORT_EMPTY, msgport_portset_next(set, 0, message, &event));
    msgport_port_free(a);
    CHECK(is_readable(descriptor, 20000));
    OK(msgport_portset_next(set, 0, message, &event));
    CHECK(event.port == b && event.code == MSGPORT_PEER_CLOSED);
    msgport_portset_free(set);
    msgport_port_free(b);

    OK(msgport_client_new(c, &client));
    OK(msgport_server_new(d, &server));
    OK(msgport_client_descriptor(client, &descriptor));
    OK(msgport_server_descriptor(server, &there));
    for (int i = 0; i < 3; i++) {
        CODE(MSGPORT_EMPTY, msgport_server_recv(server, 0, message, &responder));
        CHECK(!is_readable(there, 0));
        OK(msgport_client_start(client, "x", 1, NULL, 0, &pending));
        CHECK(is_readable(there, 20000));
        OK(msgport_server_recv(server, 0, message, &responder));
        CODE(MSGPORT_EMPTY, msgport_pending_wait(pending, 0, message));
        CHECK(!is_readable(descriptor, 0));
        OK(msgport_responder_answer(responder, "y", 1, NULL, 0, 0));
        CHECK(is_readable(descriptor, 20000));
        OK(msgport_pending_wait(pending, 0, message));
        msgport_responder_free(responder);
        msgport_pending_free(pending);
    }
    msgport_server_free(server);
    CHECK(is_readable(descriptor, 20000));
    msgport_client_free(client);
    msgport_port_free(c);
    msgport_port_free(d);
    msgport_message_free(message);
}

static void messages_in_batches_and_user_data(void)
{
    msgport_port *a, *b, *c, *port;
    msgport_message *messages[4], *twice[2];
    msgport_item item;
    size_t received, count;
    void *user = &count;
    uint64_t limit;
    make_pair(&a, &b);
    for (int i = 0; i < 4; i++) OK(msgport_message_new(&messages[i]));
    CODE(MSGPORT_EMPTY, msgport_port_recv_messages(b, 0, messages, 4, &received));
    CODE(MSGPORT_TIMED_OUT, msgport_port_recv_messages(b, 1000, messages, 4, &received));
    for (int i = 0; i < 5; i++) post_text(a, "text");
    OK(msgport_port_recv_messages(b, MSGPORT_FOREVER, messages, 4, &received));
    CHECK(received == 4);
    for (int i = 0; i < 4; i++) {
        const void *data;
        OK(msgport_message_data(messages[i], &data, &count));
        CHECK(count == 4 && memcmp(data, "text", 4) == 0);
    }
    /* A message with a port is the first of its batch. */
    make_pair(&port, &c);
    item = msgport_item_port(port);
    OK(msgport_port_post_message(a, "port", 4, &item, 1, 0));
    OK(msgport_port_recv_messages(b, 0, messages, 4, &received));
    CHECK(received == 1);
    OK(msgport_port_recv_messages(b, 0, messages, 4, &received));
    OK(msgport_message_count(messages[0], MSGPORT_ITEM_PORT, &count));
    CHECK(received == 1 && count == 1);
    twice[0] = twice[1] = messages[0];
    CODE(MSGPORT_BAD_ARGUMENT, msgport_port_recv_messages(b, 0, twice, 2, &received));
    CODE(MSGPORT_BAD_ARGUMENT, msgport_port_recv_messages(b, 0, messages, SIZE_MAX, &received));
    CHECK(received == 0);
    OK(msgport_port_user(b, &user));
    CHECK(user == NULL);
    OK(msgport_port_set_user(b, &limit));
    OK(msgport_port_user(b, &user));
    CHECK(user == &limit);
    OK(msgport_raise_descriptor_limit(64, &limit));
    CHECK(limit >= 64);
    msgport_port_free(a);
    CODE(MSGPORT_PEER_CLOSED, msgport_port_recv_messages(b, MSGPORT_FOREVER, messages, 4, &received));
    for (int i = 0; i < 4; i++) msgport_message_free(messages[i]);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(port);
}

static const msgport_client *asking;

static void *ask(void *number)
{
    msgport_message *answer;
    const void *data;
    size_t len;
    OK(msgport_message_new(&answer));
    for (int i = 0; i < 200; i++) {
        int request[2];
        request[0] = *(int *)number;
        request[1] = i;
        OK(msgport_client_call(asking, request, sizeof request, NULL, 0, PATIENCE, answer));
        OK(msgport_message_data(answer, &data, &len));
        CHECK(len == sizeof request && memcmp(data, request, len) == 0);
    }
    msgport_message_free(answer);
    return NULL;
}

static void requests_are_answered(void)
{
    msgport_port *a, *b, *c, *d, *back;
    msgport_client *client;
    msgport_pending *late, *given_up;
    msgport_message *answer;
    msgport_item items[2];
    pthread_t server, threads[3];
    int numbers[3] = { 100, 200, 300 };
    const void *data;
    size_t len;
    make_pair(&a, &b);
    make_pair(&c, &d);
    CHECK(pthread_create(&server, NULL, serve, b) == 0);
    OK(msgport_port_set_spin(a, 0));
    OK(msgport_client_new(a, &client));
    CODE(MSGPORT_DETACHED, msgport_port_post_message(a, "x", 1, NULL, 0, 0));
    OK(msgport_message_new(&answer));
    /* Answered in any order, from several threads; freed before the answer; dropped by the server. */
    OK(msgport_client_start(client, "late", 4, NULL, 0, &late));
    OK(msgport_client_start(client, "drop", 4, NULL, 0, &given_up));
    CODE(MSGPORT_REQUEST_DROPPED, msgport_pending_wait(given_up, PATIENCE, answer));
    CODE(MSGPORT_CALL_OVER, msgport_pending_wait(given_up, PATIENCE, answer));
    msgport_pending_free(given_up);
    CODE(MSGPORT_EMPTY, msgport_pending_wait(late, 0, answer));
    OK(msgport_client_start(client, "given up", 8, NULL, 0, &given_up));
    msgport_pending_free(given_up);
    asking = client;
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, ask, &numbers[i]) == 0);
    for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    OK(msgport_pending_wait(late, PATIENCE, answer));
    OK(msgport_message_data(answer, &data, &len));
    CHECK(len == 7 && memcmp(data, "at last", 7) == 0);
    msgport_pending_free(late);
    CODE(MSGPORT_TIMED_OUT, msgport_client_call(client, "late", 4, NULL, 0, 1000000, answer));
    /* With a port on the list, and lists that fail as a whole. */
    items[0] = msgport_item_port(d);
    items[1] = msgport_item_port(d);
    CODE(MSGPORT_DUPLICATE, msgport_client_call(client, "port", 4, items, 2, PATIENCE, answer));
    items[1] = msgport_item_port(NULL);
    CODE(MSGPORT_BAD_ITEM, msgport_client_call(client, "port", 4, items, 2, PATIENCE, answer));
    OK(msgport_port_close(b)); /* detached: closes nothing */
    expect_entangled(c, d);
    OK(msgport_client_call(client, "port", 4, items, 1, PATIENCE, answer));
    CODE(MSGPORT_DETACHED, msgport_port_post_message(d, "x", 1, NULL, 0, 0));
    OK(msgport_message_take_port(answer, 0, &back));
    expect_entangled(c, back);
    msgport_port_free(back);
    msgport_message_free(answer);
    msgport_client_free(client);
    CHECK(pthread_join(server, NULL) == 0);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
}

static void a_client_is_told_that_the_server_died(void)
{
    msgport_port *a, *b;
    msgport_client *client;
    msgport_pending *pending;
    msgport_message *answer;
    pid_t child;
    make_pair(&a, &b);
    child = start_again("as a child", b);
    msgport_port_free(b);
    EXPECT_TEXT(a, "alive");
    OK(msgport_client_new(a, &client));
    msgport_port_free(a);
    OK(msgport_message_new(&answer));
    OK(msgport_client_start(client, "never answered", 14, NULL, 0, &pending));
    kill_and_wait(child);
    CODE(MSGPORT_PEER_DIED, msgport_pending_wait(pending, MSGPORT_FOREVER, answer));
    CODE(MSGPORT_PEER_DIED, msgport_client_call(client, "x", 1, NULL, 0, MSGPORT_FOREVER, answer));
    msgport_pending_free(pending);
    msgport_message_free(answer);
    msgport_client_free(client);
}

static const test_case CASES[] = {
    CASE(s15_messages_wait_until_the_port_is_started),
    CASE(s17_setting_a_handler_starts_the_port),
    CASE(s18_handlers_in_order_once_and_removed),
    CASE(s19_a_started_port_without_a_handler_drops),
    CASE(s20_calls_go_past_the_handlers),
    CASE(s21_a_handler_may_do_anything),
    CASE(s22_batches_are_fair),
    CASE(s24_a_message_that_cannot_be_received),
    CASE(s44_a_started_port_has_what_had_arrived_at_its_close),
    CASE(s45_the_close_handler_has_the_reason),
    CASE(timers_and_tasks),
    CASE(a_loop_takes_listeners_descriptors_and_intervals),
    CASE(a_set_spins_for_its_budget),
    CASE(a_set_tells_which_port_has_something),
    CASE(sets_clients_and_servers_can_be_polled),
    CASE(messages_in_batches_and_user_data),
    CASE(requests_are_answered),
    CASE(a_client_is_told_that_the_server_died),
    { NULL, NULL },
};

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "as a child") == 0) {
        msgport_port *parent;
        alarm(60);
        OK(msgport_parent_port(&parent));
        post_text(parent, "alive");
        pause();
    }
    return run_cases(CASES, argc, argv);
}
