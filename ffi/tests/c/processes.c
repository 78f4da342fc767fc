/* Closing, death, child processes, forking, meeting by name. */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* ---- Closing and death ---- */

static void s42_closing_twice_is_closing_once(void)
{
    msgport_port *a, *b;
    msgport_message *message;
    make_pair(&a, &b);
    OK(msgport_port_close(a));
    OK(msgport_port_close(a));
    CODE(MSGPORT_CLOSED, msgport_port_recv(a, 0, &message));
    msgport_port_free(a);
    expect_end(b, MSGPORT_PEER_CLOSED);
    expect_end(b, MSGPORT_PEER_CLOSED);
    msgport_port_free(b);
}

static void s43_what_was_posted_before_the_close_arrives(void)
{
    msgport_port *a, *b;
    make_pair(&a, &b);
    for (uint32_t number = 0; number < 100; number++) post_number(a, number);
    msgport_port_free(a);
    expect_numbers(b, 0, 100);
    expect_end(b, MSGPORT_PEER_CLOSED);
    msgport_port_free(b);
}

static void s44_what_was_unread_in_a_closed_port_is_dropped(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_message *message;
    make_pair(&a, &b);
    make_pair(&c, &d);
    post_text(a, "unread");
    post_port(a, "unread too", c);
    OK(msgport_port_close(b));
    CODE(MSGPORT_CLOSED, msgport_port_recv(b, 0, &message));
    expect_end(d, MSGPORT_PEER_CLOSED);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(d);
}

static void s45_the_end_has_a_reason(void)
{
    msgport_port *a, *b;
    pid_t child;
    /* A child that closes. */
    make_pair(&a, &b);
    child = start_again("as a child that closes", b);
    msgport_port_free(b);
    EXPECT_TEXT(a, "last words");
    expect_end(a, MSGPORT_PEER_CLOSED);
    msgport_port_free(a);
    wait_for(child);
    /* A child that is killed. */
    make_pair(&a, &b);
    child = start_again("as a child that sleeps", b);
    msgport_port_free(b);
    EXPECT_TEXT(a, "last words");
    kill_and_wait(child);
    expect_end(a, MSGPORT_PEER_DIED);
    CODE(MSGPORT_PEER_DIED, msgport_port_post_message(a, "x", 1, NULL, 0, 0));
    msgport_port_free(a);
}

static void *kill_later(void *child)
{
    usleep(50000);
    kill_and_wait(*(pid_t *)child);
    return NULL;
}

static void s46_a_blocked_call_notices_a_death(void)
{
    msgport_port *a, *b;
    msgport_message *message;
    pthread_t thread;
    pid_t child;
    make_pair(&a, &b);
    child = start_again("as a child that sleeps", b);
    msgport_port_free(b);
    EXPECT_TEXT(a, "last words");
    CHECK(pthread_create(&thread, NULL, kill_later, &child) == 0);
    CODE(MSGPORT_PEER_DIED, msgport_port_recv(a, MSGPORT_FOREVER, &message));
    CHECK(pthread_join(thread, NULL) == 0);
    msgport_port_free(a);
}

static void s46_a_port_dies_with_the_process_that_was_to_receive_it(void)
{
    msgport_port *a, *b, *c, *d;
    pid_t child;
    make_pair(&a, &b);
    make_pair(&c, &d);
    child = start_again("as a child that sleeps", b);
    msgport_port_free(b);
    EXPECT_TEXT(a, "last words");
    post_port(a, "never received", c);
    kill_and_wait(child);
    expect_end(d, MSGPORT_PEER_DIED);
    msgport_port_free(a);
    msgport_port_free(d);
}

static void s47_freeing_the_handle_closes_the_port(void)
{
    msgport_port *a, *b;
    make_pair(&a, &b);
    msgport_port_free(a);
    expect_end(b, MSGPORT_PEER_CLOSED);
    msgport_port_free(b);
}

/* ---- Processes ---- */

static void a_child_that_answers(void)
{
    msgport_port *a, *b, *c, *d, *none = NULL;
    pid_t child;
    CODE(MSGPORT_NO_PARENT_PORT, msgport_parent_port(&none));
    CHECK(none == NULL);
    make_pair(&a, &b);
    child = start_again("as a child that echoes", b);
    CODE(MSGPORT_DETACHED, msgport_port_post_message(b, "x", 1, NULL, 0, 0));
    OK(msgport_port_close(b)); /* closes nothing */
    msgport_port_free(b);
    post_text(a, "echo this");
    EXPECT_TEXT(a, "echo this");
    make_pair(&c, &d);
    post_port(a, "here is a port", d);
    EXPECT_TEXT(c, "here is a port");
    msgport_port_free(c);
    msgport_port_free(a);
    wait_for(child);
}

static void a_child_that_cannot_be_started(void)
{
    msgport_port *a, *b, *receiver;
    const char *arguments[] = { "name", NULL }, *nothing[] = { NULL }, *bad[] = { "no equals sign", NULL };
    msgport_spawn_options options = MSGPORT_SPAWN_OPTIONS_INIT;
    int32_t pid = -7;
    void *place;
    make_pair(&a, &b);
    CODE(MSGPORT_SYSTEM, msgport_spawn_with_port("/nonexistent/program", arguments, NULL, b, &pid));
    CHECK(msgport_os_error() == 2 && pid == -7);
    CODE(MSGPORT_BAD_ARGUMENT, msgport_spawn_with_port("/bin/true", nothing, NULL, b, &pid));
    options.environment = bad;
    CODE(MSGPORT_BAD_ARGUMENT, msgport_spawn_with_port("/bin/true", arguments, &options, b, &pid));
    options.environment = NULL;
    options.output = -2;
    CODE(MSGPORT_BAD_ARGUMENT, msgport_spawn_with_port("/bin/true", arguments, &options, b, &pid));
    options.output = 9999;
    CODE(MSGPORT_SYSTEM, msgport_spawn_with_port("/bin/true", arguments, &options, b, &pid));
    options.output = 0;
    options.reserved = 1;
    CODE(MSGPORT_BAD_OPTIONS, msgport_spawn_with_port("/bin/true", arguments, &options, b, &pid));
    expect_entangled(a, b);
    OK(msgport_port_reserve(b, 1, &place));
    CODE(MSGPORT_BORROWED, msgport_spawn_with_port("/bin/true", arguments, NULL, b, &pid));
    CODE(MSGPORT_BORROWED, msgport_port_split(b, &receiver));
    OK(msgport_port_abandon(b));
    OK(msgport_port_split(b, &receiver));
    CODE(MSGPORT_WRONG_HALF, msgport_spawn_with_port("/bin/true", arguments, NULL, b, &pid));
    OK(msgport_port_join(b, receiver));
    OK(msgport_port_close(b));
    CODE(MSGPORT_UNUSABLE, msgport_spawn_with_port("/bin/true", arguments, NULL, b, &pid));
    msgport_port_free(receiver);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void an_environment_of_its_own(void)
{
    msgport_port *a, *b;
    const char *arguments[] = { "again", "as a child that tells its environment", NULL };
    const char *environment[] = { "TOLD=by the parent", NULL };
    msgport_spawn_options options = MSGPORT_SPAWN_OPTIONS_INIT;
    int32_t pid;
    make_pair(&a, &b);
    CHECK(setenv("UNTOLD", "secret", 1) == 0);
    options.environment = environment;
    OK(msgport_spawn_with_port(this_program, arguments, &options, b, &pid));
    msgport_port_free(b);
    EXPECT_TEXT(a, "by the parent");
    wait_for(pid);
    msgport_port_free(a);
}

static void streams_and_a_directory_of_its_own(void)
{
    msgport_port *a, *b;
    const char *arguments[] = { "sh", "-c", "cat; pwd; echo error >&2", NULL };
    msgport_spawn_options options = MSGPORT_SPAWN_OPTIONS_INIT;
    int in[2], out[2], status;
    char text[64];
    ssize_t len, part;
    int32_t pid;
    make_pair(&a, &b);
    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    CHECK(write(in[1], "input\n", 6) == 6);
    close(in[1]);
    options.directory = "/usr";
    options.input = in[0];
    options.output = out[1];
    options.error = MSGPORT_NO_STREAM;
    OK(msgport_spawn_with_port("sh", arguments, &options, b, &pid));
    close(in[0]);
    close(out[1]);
    for (len = 0; (part = read(out[0], text + len, sizeof text - 1 - (size_t)len)) > 0; len += part) continue;
    text[len] = '\0';
    CHECK(strcmp(text, "input\n/usr\n") == 0);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(out[0]);
    expect_end(a, MSGPORT_PEER_DIED);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void a_prepared_port_goes_through_any_other_way_to_start_a_program(void)
{
    msgport_port *a, *b;
    int descriptor;
    pid_t child;
    make_pair(&a, &b);
    OK(msgport_prepare_port(b, &descriptor));
    CHECK(descriptor > 2 && (fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0);
    CODE(MSGPORT_DETACHED, msgport_prepare_port(b, &descriptor));
    msgport_port_free(b);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) { /* What uv_spawn() and posix_spawn(3) do. */
        char *arguments[] = { "again", "as a child that closes", NULL };
        if (dup2(descriptor, 57) != 57 || setenv(MSGPORT_PARENT_VARIABLE, "57", 1) != 0) _exit(1);
        execv(this_program, arguments);
        _exit(1);
    }
    close(descriptor);
    EXPECT_TEXT(a, "last words");
    expect_end(a, MSGPORT_PEER_CLOSED);
    wait_for(child);
    msgport_port_free(a);
    /* Nobody takes it. */
    make_pair(&a, &b);
    OK(msgport_prepare_port(b, &descriptor));
    close(descriptor);
    expect_end(a, MSGPORT_PEER_DIED);
    msgport_port_free(a);
    msgport_port_free(b);
}

/*
 * A process whose standard streams are closed: no descriptor of the library gets their numbers, and what a child is
 * given does not either. The process has no stream to report on, so it ends with the line of the failure.
 */
#define HERE(condition) do { if (!(condition)) _exit(100); } while (0)
#define FREE_NUMBERS() HERE(fcntl(0, F_GETFD) == -1 && fcntl(1, F_GETFD) == -1 && fcntl(2, F_GETFD) == -1)

static void without_streams(void)
{
    msgport_port *a, *b;
    msgport_loop *loop;
    msgport_portset *set;
    msgport_buffer *buffer;
    msgport_shared *shared;
    msgport_listener *listener;
    const char *arguments[] = { "again", "as a child that closes", NULL };
    char name[64];
    int32_t pid;
    int status;
    for (int stream = 0; stream < 3; stream++) close(stream);
    HERE(msgport_channel_new(NULL, &a, &b) == MSGPORT_OK);
    FREE_NUMBERS();
    HERE(msgport_loop_new(&loop) == MSGPORT_OK && msgport_portset_new(&set) == MSGPORT_OK);
    FREE_NUMBERS();
    HERE(msgport_buffer_new(1 << 20, &buffer) == MSGPORT_OK);
    snprintf(name, sizeof name, "messageport-ffi-streams-%d", (int)getpid());
    HERE(msgport_shared_create_named(name, 4096, &shared) == MSGPORT_OK);
    FREE_NUMBERS();
    HERE(msgport_listener_bind(name, NULL, &listener) == MSGPORT_OK);
    FREE_NUMBERS();
    printf("a line that must not get into the channel");
    fflush(stdout);
    HERE(msgport_spawn_with_port(this_program, arguments, NULL, b, &pid) == MSGPORT_OK);
    HERE(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    FREE_NUMBERS();
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_loop_free(loop);
    msgport_portset_free(set);
    msgport_buffer_free(buffer);
    msgport_shared_free(shared);
    msgport_listener_free(listener);
    _exit(0);
}

static void closed_standard_streams_stay_free(void)
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) without_streams();
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void do_nothing(msgport_loop *loop, void *user)
{
    (void)loop;
    (void)user;
}

static void a_forked_child_is_told(void)
{
    msgport_port *a, *b;
    msgport_buffer *buffer;
    msgport_listener *listener;
    msgport_loop *loop;
    msgport_remote *remote;
    char name[64];
    pid_t child;
    make_pair(&a, &b);
    OK(msgport_buffer_new(10, &buffer));
    snprintf(name, sizeof name, "messageport-ffi-fork-%d", (int)getpid());
    OK(msgport_listener_bind(name, NULL, &listener));
    OK(msgport_loop_new(&loop));
    OK(msgport_loop_remote(loop, &remote));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        msgport_message *message;
        msgport_port *port;
        void *place;
        size_t len;
        alarm(20);
        CODE(MSGPORT_FORKED, msgport_port_post_message(a, "x", 1, NULL, 0, 0));
        CODE(MSGPORT_FORKED, msgport_port_recv(a, 0, &message));
        CODE(MSGPORT_FORKED, msgport_port_reserve(a, 1, &place));
        CODE(MSGPORT_FORKED, msgport_buffer_data(buffer, &place, &len));
        CODE(MSGPORT_FORKED, msgport_buffer_write_at(buffer, 0, "x", 1));
        CODE(MSGPORT_FORKED, msgport_listener_accept(listener, 0, NULL, &port, NULL));
        CODE(MSGPORT_FORKED, msgport_remote_post_task(remote, do_nothing, NULL, NULL));
        CODE(MSGPORT_FORKED, msgport_remote_stop(remote));
        CODE(MSGPORT_FORKED, msgport_loop_run(loop, 0));
        msgport_remote_free(remote);
        msgport_loop_free(loop);
        msgport_port_free(a);
        msgport_port_free(b);
        msgport_buffer_free(buffer);
        msgport_listener_free(listener);
        _exit(0);
    }
    wait_for(child);
    expect_entangled(a, b);
    OK(msgport_buffer_write_at(buffer, 0, "x", 1));
    OK(msgport_remote_post_task(remote, do_nothing, NULL, NULL));
    msgport_remote_free(remote);
    msgport_loop_free(loop);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_buffer_free(buffer);
    msgport_listener_free(listener);
}

/* Runs `body` as process 1 of a namespace. False without such namespaces here. */
static int as_first_process(void (*body)(void))
{
    pid_t child;
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) return 0;
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60);
        CHECK(getpid() == 1);
        body();
        /* No checker looks for leaks in this copy of the parent, whose other threads are missing. */
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    wait_for(child);
    return 1;
}

/* The loop of a parent that has number 1 in its namespace, as in a container; and its port. */
static msgport_loop *first_loop;
static msgport_port *first_port;
static int entered[2], leave[2];

static void stay_in_the_loop(msgport_loop *loop, void *user)
{
    char byte;
    (void)loop;
    (void)user;
    CHECK(write(entered[1], "", 1) == 1);
    CHECK(read(leave[0], &byte, 1) == 1);
}

static void *run_the_loop(void *unused)
{
    OK(msgport_loop_set_timeout(first_loop, 0, stay_in_the_loop, NULL, NULL, NULL));
    OK(msgport_loop_run(first_loop, PATIENCE));
    return unused;
}

static void be_told_by_number_1(void)
{
    CODE(MSGPORT_FORKED, msgport_port_post_message(first_port, "x", 1, NULL, 0, 0));
    CODE(MSGPORT_FORKED, msgport_loop_stop(first_loop));
}

static void be_the_parent_of_number_1(void)
{
    msgport_port *other;
    pthread_t thread;
    char byte;
    make_pair(&first_port, &other);
    OK(msgport_loop_new(&first_loop));
    OK(msgport_loop_add(first_loop, first_port));
    CHECK(pipe(entered) == 0 && pipe(leave) == 0);
    CHECK(pthread_create(&thread, NULL, run_the_loop, NULL) == 0);
    CHECK(read(entered[0], &byte, 1) == 1);
    /* Another thread of this process is told that the loop is in use; the child, that the loop is its parent's. */
    CODE(MSGPORT_RUNNING, msgport_port_post_message(first_port, "x", 1, NULL, 0, 0));
    CHECK(as_first_process(be_told_by_number_1));
    OK(msgport_port_close(other));
    CHECK(write(leave[1], "", 1) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    msgport_port_free(first_port);
    msgport_port_free(other);
    msgport_loop_free(first_loop);
}

static void a_forked_child_with_the_number_of_its_parent_is_told(void)
{
    pid_t child = fork(); /* so that later cases stay outside of the namespaces */
    CHECK(child >= 0);
    if (child == 0) {
        if (!as_first_process(be_the_parent_of_number_1)) printf("SKIPPED: no pid namespaces here\n");
        fflush(stdout);
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    wait_for(child);
}

static void *connect_by_name(void *name)
{
    msgport_port *port;
    msgport_connect_options options = MSGPORT_CONNECT_OPTIONS_INIT;
    msgport_channel_options channel = MSGPORT_CHANNEL_OPTIONS_INIT;
    channel.capacity = 8192;
    options.channel = &channel;
    options.timeout = PATIENCE;
    OK(msgport_connect(name, "a greeting", 10, &options, &port));
    EXPECT_TEXT(port, "welcome");
    msgport_port_free(port);
    return NULL;
}

static void meeting_by_name(void)
{
    msgport_listener *listener, *second = NULL;
    msgport_listen_options options = MSGPORT_LISTEN_OPTIONS_INIT;
    msgport_port *port = NULL;
    msgport_message *greeting;
    msgport_peer peer = { 0, 0, 0 };
    pthread_t thread;
    const char *path;
    const void *data;
    char name[64];
    size_t len;
    uint64_t refused = 1;
    struct pollfd poller = { 0, POLLIN, 0 };
    snprintf(name, sizeof name, "messageport-ffi-meeting-%d", (int)getpid());
    CODE(MSGPORT_NO_LISTENER, msgport_connect(name, NULL, 0, NULL, &port));
    options.greeting_timeout = PATIENCE;
    OK(msgport_listener_bind(name, &options, &listener));
    CODE(MSGPORT_IN_USE, msgport_listener_bind(name, NULL, &second));
    OK(msgport_listener_path(listener, &path));
    CHECK(strstr(path, name) != NULL && access(path, F_OK) == 0);
    CODE(MSGPORT_EMPTY, msgport_listener_accept(listener, 0, NULL, &port, NULL));
    CODE(MSGPORT_TIMED_OUT, msgport_listener_accept(listener, 1000000, NULL, &port, NULL));
    CHECK(pthread_create(&thread, NULL, connect_by_name, name) == 0);
    OK(msgport_listener_descriptor(listener, &poller.fd));
    CHECK(poll(&poller, 1, 20000) == 1);
    OK(msgport_message_new(&greeting));
    OK(msgport_listener_accept(listener, PATIENCE, greeting, &port, &peer));
    OK(msgport_message_data(greeting, &data, &len));
    CHECK(len == 10 && memcmp(data, "a greeting", 10) == 0);
    CHECK(peer.uid == getuid() && peer.has_pid == 1 && peer.pid == getpid());
    CHECK(queued_of(port).max_inline_len == 8192 / 16 * 7 - 8);
    post_text(port, "welcome");
    CHECK(pthread_join(thread, NULL) == 0);
    expect_end(port, MSGPORT_PEER_CLOSED);
    OK(msgport_listener_refused(listener, &refused));
    CHECK(refused == 0);
    msgport_port_free(port);
    msgport_message_free(greeting);
    msgport_listener_free(listener);
    CODE(MSGPORT_NO_LISTENER, msgport_connect(name, NULL, 0, NULL, &port));
}

static void a_socket_that_listens_already(void)
{
    msgport_listener *listener;
    msgport_listen_options options = MSGPORT_LISTEN_OPTIONS_INIT;
    msgport_port *port = NULL;
    struct sockaddr_un address = { AF_UNIX, "" };
    struct stat found;
    pthread_t thread;
    const char *path;
    int lane = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/messageport-ffi-at-%d", (int)getpid());
    CHECK(lane >= 0 && bind(lane, (struct sockaddr *)&address, sizeof address) == 0);
    CODE(MSGPORT_NOT_A_SOCKET, msgport_listener_at(lane, NULL, &listener)); /* it does not listen yet */
    CHECK(listen(lane, 5) == 0);
    CODE(MSGPORT_BAD_ARGUMENT, msgport_listener_at(-1, NULL, &listener));
    CODE(MSGPORT_EMPTY, msgport_listener_activated(NULL, NULL, &listener));
    OK(msgport_listener_at(lane, NULL, &listener));
    OK(msgport_listener_path(listener, &path));
    CHECK(strcmp(path, address.sun_path) == 0);
    CHECK(pthread_create(&thread, NULL, connect_by_name, address.sun_path) == 0);
    OK(msgport_listener_accept(listener, PATIENCE, NULL, &port, NULL));
    post_text(port, "welcome");
    CHECK(pthread_join(thread, NULL) == 0);
    msgport_port_free(port);
    msgport_listener_free(listener);
    close(lane);
    CHECK(unlink(address.sun_path) == 0);

    options.mode = 0666;
    options.flags = MSGPORT_ANY_USER | MSGPORT_REMOVE_ON_SIGNAL;
    OK(msgport_listener_bind(address.sun_path, &options, &listener));
    CHECK(stat(address.sun_path, &found) == 0 && (found.st_mode & 0777) == 0666);
    msgport_listener_free(listener);
    options.flags = MSGPORT_WAIT_FOR_LISTENER; /* not an option of a listener */
    CODE(MSGPORT_BAD_OPTIONS, msgport_listener_bind(address.sun_path, &options, &listener));
}

static void *listen_later(void *name)
{
    msgport_listener *listener;
    msgport_port *port;
    OK(msgport_listener_bind(name, NULL, &listener));
    OK(msgport_listener_accept(listener, PATIENCE, NULL, &port, NULL));
    msgport_listener_free(listener);
    return port;
}

static void a_client_can_wait_for_its_listener(void)
{
    msgport_connect_options options = MSGPORT_CONNECT_OPTIONS_INIT;
    msgport_port *port = NULL, *accepted;
    pthread_t thread;
    void *result;
    char name[64];
    snprintf(name, sizeof name, "/tmp/messageport-ffi-later-%d", (int)getpid());
    options.flags = MSGPORT_WAIT_FOR_LISTENER;
    options.timeout = 30 * 1000 * 1000;
    CODE(MSGPORT_NO_LISTENER, msgport_connect(name, NULL, 0, &options, &port));
    options.timeout = PATIENCE;
    CHECK(pthread_create(&thread, NULL, listen_later, name) == 0);
    OK(msgport_connect(name, NULL, 0, &options, &port));
    CHECK(pthread_join(thread, &result) == 0);
    accepted = result;
    expect_entangled(accepted, port);
    msgport_port_free(accepted);
    msgport_port_free(port);
}

/* The roles of the second process. */
static int be_a_child(const char *role)
{
    msgport_port *parent, *second = NULL;
    msgport_message *message;
    const char *told;
    const void *data;
    size_t len, count;
    alarm(60);
    OK(msgport_parent_port(&parent));
    CODE(MSGPORT_NO_PARENT_PORT, msgport_parent_port(&second));
    if (strcmp(role, "as a child that closes") == 0) {
        post_text(parent, "last words");
    } else if (strcmp(role, "as a child that sleeps") == 0) {
        post_text(parent, "last words");
        pause();
    } else if (strcmp(role, "as a child that tells its environment") == 0) {
        told = getenv("TOLD");
        CHECK(told != NULL && getenv("UNTOLD") == NULL && getenv("MESSAGEPORT_PARENT") == NULL);
        post_text(parent, told);
    } else {
        OK(msgport_message_new(&message));
        while (msgport_port_recv_into(parent, PATIENCE, message, NULL, NULL) == MSGPORT_OK) {
            OK(msgport_message_data(message, &data, &len));
            OK(msgport_message_count(message, MSGPORT_ITEM_PORT, &count));
            if (count == 1) {
                msgport_port *port;
                OK(msgport_message_take_port(message, 0, &port));
                OK(msgport_port_post_message(port, data, len, NULL, 0, 0));
                msgport_port_free(port);
            } else {
                OK(msgport_port_post_message(parent, data, len, NULL, 0, 0));
            }
        }
        msgport_message_free(message);
    }
    msgport_port_free(parent);
    return 0;
}

static const test_case CASES[] = {
    CASE(s42_closing_twice_is_closing_once),
    CASE(s43_what_was_posted_before_the_close_arrives),
    CASE(s44_what_was_unread_in_a_closed_port_is_dropped),
    CASE(s45_the_end_has_a_reason),
    CASE(s46_a_blocked_call_notices_a_death),
    CASE(s46_a_port_dies_with_the_process_that_was_to_receive_it),
    CASE(s47_freeing_the_handle_closes_the_port),
    CASE(a_child_that_answers),
    CASE(a_child_that_cannot_be_started),
    CASE(an_environment_of_its_own),
    CASE(streams_and_a_directory_of_its_own),
    CASE(a_prepared_port_goes_through_any_other_way_to_start_a_program),
    CASE(closed_standard_streams_stay_free),
    CASE(a_forked_child_is_told),
    CASE(a_forked_child_with_the_number_of_its_parent_is_told),
    CASE(meeting_by_name),
    CASE(a_socket_that_listens_already),
    CASE(a_client_can_wait_for_its_listener),
    { NULL, NULL },
};

int main(int argc, char **argv)
{
    if (argc > 1 && strncmp(argv[1], "as a child", 10) == 0) return be_a_child(argv[1]);
    return run_cases(CASES, argc, argv);
}
