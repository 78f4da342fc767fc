/* Ports of one set in several threads, and a loop and its ports, which belong to one thread at a time. */
#include "check.h"

#include <pthread.h>

#define COUNT 100
#define ROUNDS 20000

/* The ports of one thread, all of them in one set, and their peers. */
typedef struct task {
    msgport_port *ports[COUNT];
    msgport_port *peers[COUNT];
    pthread_barrier_t *go;
    const char *what;
} task;

static void *use_ports(void *argument)
{
    task *own = argument;
    msgport_message *message;
    OK(msgport_message_new(&message));
    pthread_barrier_wait(own->go);
    if (strcmp(own->what, "post") == 0) {
        for (int i = 0; i < ROUNDS; i++) {
            msgport_code code = msgport_port_post_message(own->ports[0], "x", 1, NULL, 0, 0);
            if (code != MSGPORT_FULL) OK(code);
            (void)queued_of(own->ports[0]);
        }
    } else if (strcmp(own->what, "recv") == 0) {
        for (int i = 0; i < ROUNDS; i++) {
            post_text(own->peers[0], "y");
            OK(msgport_port_recv_into(own->ports[0], PATIENCE, message, NULL, NULL));
            CODE(MSGPORT_EMPTY, msgport_port_recv_into(own->ports[0], 0, message, NULL, NULL));
        }
    } else if (strcmp(own->what, "free") == 0) {
        for (int i = 0; i < COUNT; i++) msgport_port_free(own->ports[i]);
    } else {
        for (int i = 0; i < COUNT; i++) OK(msgport_port_close(own->ports[i]));
    }
    msgport_message_free(message);
    return NULL;
}

static void in_two_threads(const char *what)
{
    static task tasks[2];
    pthread_t threads[2];
    pthread_barrier_t go;
    msgport_portset *set;
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    options.capacity = options.max_capacity = 4096;
    OK(msgport_portset_new(&set));
    CHECK(pthread_barrier_init(&go, NULL, 2) == 0);
    for (int t = 0; t < 2; t++) {
        tasks[t].go = &go;
        tasks[t].what = what;
        for (int i = 0; i < COUNT; i++) {
            OK(msgport_channel_new(&options, &tasks[t].ports[i], &tasks[t].peers[i]));
            OK(msgport_portset_add(set, tasks[t].ports[i]));
        }
    }
    for (int t = 0; t < 2; t++) CHECK(pthread_create(&threads[t], NULL, use_ports, &tasks[t]) == 0);
    for (int t = 0; t < 2; t++) CHECK(pthread_join(threads[t], NULL) == 0);
    msgport_portset_free(set);
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < COUNT; i++) {
            if (strcmp(what, "free") != 0) msgport_port_free(tasks[t].ports[i]);
            msgport_port_free(tasks[t].peers[i]);
        }
    }
    pthread_barrier_destroy(&go);
}

static void ports_of_a_set_are_independent(void)
{
    in_two_threads("post");
    in_two_threads("recv");
    in_two_threads("close");
    in_two_threads("free");
}

/* A receive that waits on a port of the set does not hold up another one. */
static void *wait_for_a_message(void *port)
{
    expect_text(__FILE__, __LINE__, port, "at last");
    return NULL;
}

static void a_receive_waits_for_its_own_port(void)
{
    msgport_port *a, *b, *c, *d, *e, *f;
    msgport_portset *set;
    pthread_t thread;
    make_pair(&a, &b);
    make_pair(&c, &d);
    make_pair(&e, &f);
    OK(msgport_portset_new(&set));
    OK(msgport_portset_add(set, a));
    OK(msgport_portset_add(set, c));
    CHECK(pthread_create(&thread, NULL, wait_for_a_message, a) == 0);
    usleep(20 * 1000);
    post_text(d, "to the other");
    EXPECT_TEXT(c, "to the other");
    OK(msgport_portset_add(set, e));
    OK(msgport_portset_remove(set, c));
    post_text(b, "at last");
    CHECK(pthread_join(thread, NULL) == 0);
    msgport_portset_free(set);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
    msgport_port_free(e);
    msgport_port_free(f);
}

/* Waits in the set until its port has left it. */
static void *wait_in_the_set(void *argument)
{
    msgport_portset *set = argument;
    msgport_portset_event event;
    msgport_message *message;
    OK(msgport_message_new(&message));
    OK(msgport_portset_next(set, MSGPORT_FOREVER, message, &event));
    CHECK(event.code == MSGPORT_OK);
    OK(msgport_portset_next(set, MSGPORT_FOREVER, message, &event));
    CHECK(event.code == MSGPORT_PEER_CLOSED);
    CODE(MSGPORT_NO_PORTS, msgport_portset_next(set, MSGPORT_FOREVER, message, &event));
    msgport_message_free(message);
    return NULL;
}

static void a_post_does_not_wait_for_the_set(void)
{
    msgport_port *a, *b, *c, *d, *receiver;
    msgport_portset *set;
    msgport_message *message;
    msgport_item item;
    void *place;
    const void *data;
    size_t len;
    int descriptor;
    pthread_t thread;
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_portset_new(&set));
    OK(msgport_portset_add(set, a));
    CHECK(pthread_create(&thread, NULL, wait_in_the_set, set) == 0);
    usleep(20 * 1000); /* it waits */
    for (int i = 0; i < 1000; i++) {
        post_text(a, "while it waits");
        EXPECT_TEXT(b, "while it waits");
    }
    CODE(MSGPORT_WATCHED, msgport_port_reserve(a, 10, &place));
    post_text(b, "wakes it");
    msgport_port_free(b);
    while (msgport_port_post_message(a, "x", 1, NULL, 0, 0) != MSGPORT_PEER_CLOSED)
        ; /* while the port leaves the set */
    CHECK(pthread_join(thread, NULL) == 0);
    /* It is an ordinary port, also in the first call that a port in a set does not have. */
    CODE(MSGPORT_PEER_CLOSED, msgport_port_recv_ref(a, 0, NULL, &data, &len));
    CODE(MSGPORT_PEER_CLOSED, msgport_port_reserve(a, 10, &place));
    OK(msgport_port_descriptor(a, &descriptor));
    msgport_port_free(a);
    /* So is a port of a set that was freed: split, posted, and posted on itself. */
    for (int how = 0; how < 3; how++) {
        make_pair(&a, &b);
        if (how == 0) OK(msgport_portset_add(set, a));
        else {
            OK(msgport_portset_new(&set));
            OK(msgport_portset_add(set, a));
        }
        msgport_portset_free(set);
        item = msgport_item_port(a);
        if (how == 0) {
            OK(msgport_port_split(a, &receiver));
            OK(msgport_port_join(a, receiver));
            msgport_port_free(receiver);
            expect_entangled(a, b);
        } else if (how == 1) {
            OK(msgport_port_post_message(c, "p", 1, &item, 1, 0));
            msgport_port_free(a);
            OK(msgport_port_recv(d, PATIENCE, &message));
            OK(msgport_message_take_port(message, 0, &a));
            msgport_message_free(message);
            expect_entangled(a, b);
        } else {
            CODE(MSGPORT_CONTAINS_SELF, msgport_port_post_message(a, "p", 1, &item, 1, 0));
        }
        msgport_port_free(a);
        msgport_port_free(b);
    }
    msgport_port_free(c);
    msgport_port_free(d);
}

typedef struct running {
    msgport_loop *loop;
    pthread_barrier_t runs;
} running;

static void report(msgport_loop *loop, void *user)
{
    running *shared = user;
    CHECK(loop == shared->loop);
    pthread_barrier_wait(&shared->runs);
}

static void *run_the_loop(void *argument)
{
    running *shared = argument;
    OK(msgport_loop_run(shared->loop, MSGPORT_FOREVER));
    return NULL;
}

static void on_message(msgport_port *port, msgport_message *message, void *user)
{
    (void)port;
    (void)message;
    ++*(int *)user;
}

static void count(void *user)
{
    (void)user;
}

static void a_loop_belongs_to_one_thread(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_remote *remote;
    msgport_message *message;
    msgport_item item;
    msgport_portset *set;
    running shared;
    pthread_t thread;
    int calls = 0, descriptor;
    size_t rounds;
    uint64_t id = 0;
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_message_new(&message));
    OK(msgport_loop_new(&shared.loop));
    OK(msgport_loop_add(shared.loop, a));
    OK(msgport_port_on_message(a, MSGPORT_SET, on_message, &calls, NULL, &id));
    OK(msgport_loop_remote(shared.loop, &remote));
    CHECK(pthread_barrier_init(&shared.runs, NULL, 2) == 0);
    OK(msgport_remote_post_task(remote, report, &shared, NULL));
    CHECK(pthread_create(&thread, NULL, run_the_loop, &shared) == 0);
    pthread_barrier_wait(&shared.runs);
    item = msgport_item_port(a);
    CODE(MSGPORT_RUNNING, msgport_port_post_message(a, "x", 1, NULL, 0, 0));
    CODE(MSGPORT_RUNNING, msgport_port_post_message(c, "x", 1, &item, 1, 0));
    CODE(MSGPORT_RUNNING, msgport_port_recv_into(a, 0, message, NULL, NULL));
    CODE(MSGPORT_RUNNING, msgport_port_close(a));
    CODE(MSGPORT_RUNNING, msgport_port_on_message(a, MSGPORT_SET, on_message, &calls, count, NULL));
    CODE(MSGPORT_RUNNING, msgport_port_remove_handler(a, id));
    CODE(MSGPORT_RUNNING, msgport_port_start(a));
    CODE(MSGPORT_RUNNING, msgport_port_dispatch_event(a, message));
    CODE(MSGPORT_RUNNING, msgport_loop_add(shared.loop, c));
    CODE(MSGPORT_RUNNING, msgport_loop_remove(shared.loop, a));
    CODE(MSGPORT_RUNNING, msgport_loop_run(shared.loop, 0));
    CODE(MSGPORT_RUNNING, msgport_loop_poll(shared.loop, 0, &rounds));
    CODE(MSGPORT_RUNNING, msgport_loop_descriptor(shared.loop, &descriptor));
    CODE(MSGPORT_RUNNING, msgport_loop_stop(shared.loop));
    CODE(MSGPORT_RUNNING, msgport_loop_set_batch(shared.loop, 1));
    CODE(MSGPORT_RUNNING, msgport_loop_set_spin(shared.loop, 0));
    CODE(MSGPORT_RUNNING, msgport_loop_clear_timeout(shared.loop, 1));
    msgport_port_free(a); /* does nothing, as a handler may have the handle */
    msgport_loop_free(shared.loop);
    /* What needs an ordinary port does not touch the loop. */
    OK(msgport_portset_new(&set));
    CODE(MSGPORT_WATCHED, msgport_portset_add(set, a));
    msgport_portset_free(set);
    OK(msgport_remote_stop(remote));
    CHECK(pthread_join(thread, NULL) == 0);
    /* The loop has moved to this thread. */
    post_text(a, "after all");
    EXPECT_TEXT(b, "after all");
    post_text(b, "handled here");
    msgport_remote_free(remote);
    OK(msgport_loop_poll(shared.loop, PATIENCE, &rounds));
    CHECK(calls == 1);
    msgport_port_free(a);
    expect_end(b, MSGPORT_PEER_CLOSED);
    msgport_loop_free(shared.loop);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
    msgport_message_free(message);
    pthread_barrier_destroy(&shared.runs);
}

static const test_case CASES[] = {
    CASE(ports_of_a_set_are_independent),
    CASE(a_receive_waits_for_its_own_port),
    CASE(a_post_does_not_wait_for_the_set),
    CASE(a_loop_belongs_to_one_thread),
    { NULL, NULL },
};

int main(int argc, char **argv)
{
    return run_cases(CASES, argc, argv);
}
