/* Waits that another thread ends, by an interrupter or by pthread_cancel(), and the end of the peer without a message. */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>

/* What a thread waits on. */
typedef struct waiter {
    const char *what;
    msgport_port *port;
    msgport_portset *set;
    msgport_loop *loop;
    msgport_client *client;
    msgport_pending *pending;
    msgport_server *server;
    volatile pid_t thread; /* Not 0 once the thread is about to wait. */
    msgport_code code;
    volatile int returned;
} waiter;

static msgport_code wait_in_it(waiter *own, msgport_message *message)
{
    static char big[1000];
    const void *data;
    size_t len;
    msgport_message *received;
    msgport_responder *responder;
    msgport_portset_event event;
    if (strcmp(own->what, "recv") == 0) return msgport_port_recv(own->port, MSGPORT_FOREVER, &received);
    if (strcmp(own->what, "recv_into") == 0)
        return msgport_port_recv_into(own->port, MSGPORT_FOREVER, message, NULL, NULL);
    if (strcmp(own->what, "recv_ref") == 0) return msgport_port_recv_ref(own->port, PATIENCE, NULL, &data, &len);
    if (strcmp(own->what, "closed") == 0) return msgport_port_closed(own->port, MSGPORT_FOREVER);
    if (strcmp(own->what, "post") == 0)
        return msgport_port_post_message(own->port, big, sizeof big, NULL, 0, MSGPORT_FOREVER);
    if (strcmp(own->what, "set") == 0) return msgport_portset_next(own->set, MSGPORT_FOREVER, message, &event);
    if (strcmp(own->what, "loop") == 0) return msgport_loop_run(own->loop, MSGPORT_FOREVER);
    if (strcmp(own->what, "call") == 0)
        return msgport_client_call(own->client, "x", 1, NULL, 0, MSGPORT_FOREVER, message);
    if (strcmp(own->what, "pending") == 0) return msgport_pending_wait(own->pending, MSGPORT_FOREVER, message);
    return msgport_server_recv(own->server, MSGPORT_FOREVER, message, &responder);
}

static void *run_waiter(void *argument)
{
    waiter *own = argument;
    msgport_message *message;
    OK(msgport_message_new(&message));
    own->thread = (pid_t)syscall(SYS_gettid);
    own->code = wait_in_it(own, message);
    own->returned = 1;
    msgport_message_free(message); /* still not cancelled */
    own->returned = 2;
    pthread_testcancel();
    return NULL;
}

/* True once the thread sleeps in the kernel. */
static int is_asleep(pid_t thread)
{
    char path[64], line[256], *state;
    FILE *file;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    file = fopen(path, "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
    fclose(file);
    state = strrchr(line, ')');
    return state != NULL && state[2] == 'S';
}

static void start_waiter(waiter *own, pthread_t *thread)
{
    own->thread = 0;
    own->returned = 0;
    CHECK(pthread_create(thread, NULL, run_waiter, own) == 0);
    while (own->thread == 0) sched_yield();
    while (!is_asleep(own->thread)) sched_yield();
}

static const char *const WAITS[] = { "recv", "recv_into", "recv_ref", "closed",  "post",
                                     "set",  "call",      "pending",  "server", "loop" };

typedef struct place {
    waiter own;
    msgport_port *peer;
    msgport_interrupter *interrupter;
    msgport_remote *remote;
} place;

static void prepare(place *at, const char *what)
{
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    char big[1000] = { 0 };
    memset(at, 0, sizeof *at);
    at->own.what = what;
    options.capacity = options.max_capacity = 4096;
    options.flags = MSGPORT_CHANNEL_DATA_ONLY;
    OK(msgport_channel_new(&options, &at->own.port, &at->peer));
    if (strcmp(what, "set") == 0) {
        OK(msgport_portset_new(&at->own.set));
        OK(msgport_portset_add(at->own.set, at->own.port));
        OK(msgport_portset_interrupter(at->own.set, &at->interrupter));
    } else if (strcmp(what, "loop") == 0) {
        OK(msgport_loop_new(&at->own.loop));
        OK(msgport_loop_add(at->own.loop, at->own.port));
        OK(msgport_loop_remote(at->own.loop, &at->remote));
    } else if (strcmp(what, "call") == 0 || strcmp(what, "pending") == 0) {
        OK(msgport_client_new(at->own.port, &at->own.client));
        OK(msgport_client_interrupter(at->own.client, &at->interrupter));
        if (strcmp(what, "pending") == 0)
            OK(msgport_client_start(at->own.client, "x", 1, NULL, 0, &at->own.pending));
    } else if (strcmp(what, "server") == 0) {
        OK(msgport_server_new(at->own.port, &at->own.server));
        OK(msgport_server_interrupter(at->own.server, &at->interrupter));
    } else {
        OK(msgport_port_interrupter(at->own.port, &at->interrupter));
        if (strcmp(what, "post") == 0)
            while (msgport_port_post_message(at->own.port, big, sizeof big, NULL, 0, 0) == MSGPORT_OK) continue;
    }
}

static void end_wait(place *at)
{
    if (at->remote != NULL)
        OK(msgport_remote_stop(at->remote));
    else
        OK(msgport_interrupter_interrupt(at->interrupter));
}

static void tidy(place *at)
{
    msgport_interrupter_free(at->interrupter);
    msgport_remote_free(at->remote);
    msgport_pending_free(at->own.pending);
    msgport_client_free(at->own.client);
    msgport_server_free(at->own.server);
    msgport_port_free(at->own.port);
    msgport_portset_free(at->own.set);
    msgport_loop_free(at->own.loop);
    msgport_port_free(at->peer);
}

static void every_wait_is_interrupted(void)
{
    for (size_t i = 0; i < sizeof WAITS / sizeof *WAITS; i++) {
        place at;
        pthread_t thread;
        prepare(&at, WAITS[i]);
        start_waiter(&at.own, &thread);
        end_wait(&at);
        CHECK(pthread_join(thread, NULL) == 0);
        if (at.own.code != (at.remote != NULL ? MSGPORT_OK : MSGPORT_INTERRUPTED))
            fail_at(__FILE__, __LINE__, WAITS[i], at.own.code);
        tidy(&at);
    }
}

/* The call returns, the handle is freed, and only then the thread ends. */
static void no_wait_is_cancelled(void)
{
    for (size_t i = 0; i < sizeof WAITS / sizeof *WAITS; i++) {
        place at;
        pthread_t thread;
        void *result;
        prepare(&at, WAITS[i]);
        start_waiter(&at.own, &thread);
        CHECK(pthread_cancel(thread) == 0);
        end_wait(&at);
        CHECK(pthread_join(thread, &result) == 0);
        CHECK(result == PTHREAD_CANCELED && at.own.returned == 2);
        tidy(&at);
    }
}

/* Posts to a sleeping peer, receives, and reads and writes in place, with a cancellation pending from the start. */
static void *use_fast_paths(void *argument)
{
    msgport_port *port = argument;
    int old;
    void *room;
    const void *data;
    size_t len;
    msgport_message *message;
    OK(msgport_message_new(&message));
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_cancel(pthread_self());
    pthread_setcancelstate(old, &old);
    CHECK(old == PTHREAD_CANCEL_DISABLE);
    for (int i = 0; i < 1000; i++) {
        OK(msgport_port_post_message(port, "ping", 4, NULL, 0, 0));
        OK(msgport_port_recv_into(port, MSGPORT_FOREVER, message, NULL, NULL));
        OK(msgport_port_reserve(port, 4, &room));
        memcpy(room, "ping", 4);
        OK(msgport_port_commit(port, 4));
        OK(msgport_port_recv_ref(port, MSGPORT_FOREVER, NULL, &data, &len));
        CHECK(len == 4 && memcmp(data, "ping", 4) == 0);
        OK(msgport_port_release(port));
    }
    msgport_message_free(message);
    pthread_testcancel();
    return NULL;
}

static void *echo(void *argument)
{
    msgport_port *port = argument;
    struct pollfd lane = { -1, POLLIN, 0 };
    msgport_message *message;
    const void *data;
    size_t len;
    OK(msgport_message_new(&message));
    /* Sleeps in poll(2), so that a packet wakes it. */
    OK(msgport_port_descriptor(port, &lane.fd));
    for (;;) {
        msgport_code code = msgport_port_recv_into(port, 0, message, &data, &len);
        if (code == MSGPORT_OK)
            OK(msgport_port_post_message(port, data, len, NULL, 0, 0));
        else if (code == MSGPORT_EMPTY)
            poll(&lane, 1, -1);
        else
            break;
    }
    msgport_message_free(message);
    return NULL;
}

static void no_fast_path_is_cancelled(void)
{
    msgport_port *a, *b;
    pthread_t user, peer;
    void *result;
    OK(msgport_channel_new(NULL, &a, &b));
    CHECK(pthread_create(&peer, NULL, echo, b) == 0);
    CHECK(pthread_create(&user, NULL, use_fast_paths, a) == 0);
    CHECK(pthread_join(user, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    msgport_port_free(a);
    CHECK(pthread_join(peer, NULL) == 0);
    msgport_port_free(b);
}

/* Releases a message of a port that was closed meanwhile, with a cancellation pending. */
static void *release_after_close(void *argument)
{
    msgport_port *port = argument;
    int old;
    const void *data;
    size_t len;
    OK(msgport_port_recv_ref(port, MSGPORT_FOREVER, NULL, &data, &len));
    OK(msgport_port_close(port));
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_cancel(pthread_self());
    pthread_setcancelstate(old, &old);
    OK(msgport_port_release(port)); /* drops what is queued */
    pthread_testcancel();
    return NULL;
}

static void no_release_is_cancelled(void)
{
    msgport_port *a, *b;
    pthread_t user;
    void *result;
    OK(msgport_channel_new(NULL, &a, &b));
    post_text(b, "first");
    post_text(b, "second");
    CHECK(pthread_create(&user, NULL, release_after_close, a) == 0);
    CHECK(pthread_join(user, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void an_interrupt_is_kept(void)
{
    msgport_port *a, *b;
    msgport_interrupter *interrupter;
    msgport_message *message;
    OK(msgport_message_new(&message));
    OK(msgport_channel_new(NULL, &a, &b));
    OK(msgport_port_interrupter(a, &interrupter));
    OK(msgport_interrupter_interrupt(interrupter));
    CODE(MSGPORT_EMPTY, msgport_port_recv_into(a, 0, message, NULL, NULL));
    CODE(MSGPORT_INTERRUPTED, msgport_port_recv_into(a, MSGPORT_FOREVER, message, NULL, NULL));
    post_text(b, "goes on");
    EXPECT_TEXT(a, "goes on");
    OK(msgport_port_set_interrupt_on_signal(a, 1));
    msgport_port_free(a);
    OK(msgport_interrupter_interrupt(interrupter)); /* outlives its port */
    msgport_interrupter_free(interrupter);
    msgport_interrupter_free(NULL);
    msgport_port_free(b);
    msgport_message_free(message);
}

static void the_state_of_the_peer(void)
{
    msgport_port *a, *b, *half;
    OK(msgport_channel_new(NULL, &a, &b));
    OK(msgport_port_peer_state(a));
    CODE(MSGPORT_EMPTY, msgport_port_closed(a, 0));
    CODE(MSGPORT_TIMED_OUT, msgport_port_closed(a, 1000));
    OK(msgport_port_split(a, &half));
    OK(msgport_port_peer_state(half));
    post_text(b, "last words");
    OK(msgport_port_close(b));
    CODE(MSGPORT_CLOSED, msgport_port_peer_state(b));
    CODE(MSGPORT_CLOSED, msgport_port_closed(b, MSGPORT_FOREVER));
    CODE(MSGPORT_PEER_CLOSED, msgport_port_peer_state(a));
    CODE(MSGPORT_PEER_CLOSED, msgport_port_closed(half, MSGPORT_FOREVER));
    EXPECT_TEXT(half, "last words");
    msgport_port_free(half);
    msgport_port_free(a);
    msgport_port_free(b);
}

static const test_case CASES[] = {
    CASE(every_wait_is_interrupted),
    CASE(no_wait_is_cancelled),
    CASE(no_fast_path_is_cancelled),
    CASE(no_release_is_cancelled),
    CASE(an_interrupt_is_kept),
    CASE(the_state_of_the_peer),
    { NULL, NULL },
};

int main(int argc, char **argv)
{
    return run_cases(CASES, argc, argv);
}
