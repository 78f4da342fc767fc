/* Shared by the C programs of the tests: checks that print where they failed, a list of cases, a second process. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE /* C++ compilers define it */
#define _GNU_SOURCE
#endif

#include <messageport.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Nanoseconds to wait for events that must happen: far more than any of them takes. */
#define PATIENCE (INT64_C(20) * 1000 * 1000 * 1000)

static inline void fail_at(const char *file, int line, const char *what, msgport_code code)
{
    char text[200];
    msgport_describe(code, text, sizeof text);
    fprintf(stderr, "%s:%d: %s: %s (%s)\n", file, line, what, msgport_code_name(code), text);
    exit(1);
}

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

/* The call must return MSGPORT_OK. */
#define OK(call) CODE(MSGPORT_OK, call)

/* The call must return this code. */
#define CODE(expected, call)                                                      \
    do {                                                                          \
        msgport_code code_ = (call);                                              \
        if (code_ != (expected)) fail_at(__FILE__, __LINE__, #call " is not " #expected, code_); \
    } while (0)

/* The path of this program. Under valgrind /proc/self/exe is valgrind. */
static const char *this_program;

/* A case of a program. The list ends with a case without a name. */
typedef struct test_case {
    const char *name;
    void (*run)(void);
} test_case;

/*
 * `PROGRAM --list` prints the names of the cases, `PROGRAM NAME` runs one of them, `PROGRAM` runs all of them. alarm(2)
 * ends a program that hangs.
 */
static inline int run_cases(const test_case *cases, int argc, char **argv)
{
    int ran = 0;
    this_program = argv[0];
    alarm(300);
    for (; cases->name != NULL; cases++) {
        if (argc > 1 && strcmp(argv[1], "--list") == 0) {
            puts(cases->name);
            ran++;
        } else if (argc < 2 || strcmp(argv[1], cases->name) == 0) {
            cases->run();
            printf("%s ok\n", cases->name);
            fflush(stdout);
            ran++;
        }
    }
    return ran == 0;
}

/* Starts this program again with one argument and a port. */
static inline pid_t start_again(const char *role, msgport_port *port)
{
    const char *arguments[3] = { "again", NULL, NULL };
    int32_t pid = 0;
    arguments[1] = role;
    OK(msgport_spawn_with_port(this_program, arguments, NULL, port, &pid));
    CHECK(pid > 0);
    return (pid_t)pid;
}

/* The number of open descriptors of this process. */
static inline int count_descriptors(void)
{
    int count = 0;
    for (int number = 0; number < 1024; number++)
        if (fcntl(number, F_GETFD) >= 0) count++;
    return count;
}

/* Waits until the process has no more than `count` descriptors open: the library closes those that a peer passed on a
   thread of its own, so the count can fall for a moment after the call that drops them. */
static inline void expect_descriptors(int count)
{
    time_t start = time(NULL);
    while (count_descriptors() > count && time(NULL) - start < 10) sched_yield();
    CHECK(count_descriptors() <= count);
}

/* Makes a channel with default options. */
static inline void make_pair(msgport_port **port1, msgport_port **port2)
{
    OK(msgport_channel_new(NULL, port1, port2));
}

/* The state of the queue towards the peer. */
static inline msgport_queued queued_of(msgport_port *port)
{
    msgport_queued queued = MSGPORT_QUEUED_INIT;
    OK(msgport_port_queued(port, &queued));
    return queued;
}

static inline void post_text(msgport_port *port, const char *text)
{
    OK(msgport_port_post_message(port, text, strlen(text), NULL, 0, 0));
}

/* The next message must be this text. */
#define EXPECT_TEXT(port, text) expect_text(__FILE__, __LINE__, port, text)

static inline void expect_text(const char *file, int line, msgport_port *port, const char *text)
{
    msgport_message *message = NULL;
    const void *data = NULL;
    size_t len = 0;
    msgport_code code = msgport_port_recv(port, PATIENCE, &message);
    if (code != MSGPORT_OK) fail_at(file, line, text, code);
    OK(msgport_message_data(message, &data, &len));
    if (len != strlen(text) || memcmp(data, text, len) != 0) {
        fprintf(stderr, "%s:%d: \"%.*s\" instead of \"%s\"\n", file, line, (int)len, (const char *)data, text);
        exit(1);
    }
    msgport_message_free(message);
}

/* Transfers a port over another channel and returns it as received. */
static inline msgport_port *hop(msgport_port *port)
{
    msgport_port *carrier1, *carrier2, *arrived;
    msgport_message *message;
    msgport_item item = msgport_item_port(port);
    make_pair(&carrier1, &carrier2);
    OK(msgport_port_post_message(carrier1, NULL, 0, &item, 1, 0));
    msgport_port_free(port);
    OK(msgport_port_recv(carrier2, PATIENCE, &message));
    OK(msgport_message_take_port(message, 0, &arrived));
    msgport_message_free(message);
    msgport_port_free(carrier1);
    msgport_port_free(carrier2);
    return arrived;
}

/* The two ports must be the ends of one channel. */
static inline void expect_entangled(msgport_port *port1, msgport_port *port2)
{
    post_text(port1, "are you there?");
    EXPECT_TEXT(port2, "are you there?");
    post_text(port2, "yes");
    EXPECT_TEXT(port1, "yes");
}

static inline void post_number(msgport_port *port, uint32_t number)
{
    OK(msgport_port_post_message(port, &number, sizeof number, NULL, 0, PATIENCE));
}

static inline void expect_numbers(msgport_port *port, uint32_t first, uint32_t end)
{
    msgport_message *message;
    const void *data;
    size_t len;
    OK(msgport_message_new(&message));
    for (uint32_t number = first; number < end; number++) {
        OK(msgport_port_recv_into(port, PATIENCE, message, &data, &len));
        CHECK(len == sizeof number && memcmp(data, &number, len) == 0);
    }
    msgport_message_free(message);
}

static inline void expect_empty(msgport_port *port)
{
    msgport_message *message = NULL;
    CODE(MSGPORT_EMPTY, msgport_port_recv(port, 0, &message));
    CHECK(message == NULL);
}

static inline void expect_end(msgport_port *port, msgport_code reason)
{
    msgport_message *message = NULL;
    CODE(reason, msgport_port_recv(port, PATIENCE, &message));
    CHECK(message == NULL);
}

static inline void post_port(msgport_port *carrier, const char *text, msgport_port *port)
{
    msgport_item item = msgport_item_port(port);
    OK(msgport_port_post_message(carrier, text, strlen(text), &item, 1, 0));
    msgport_port_free(port);
}

static inline msgport_port *recv_port(msgport_port *carrier)
{
    msgport_message *message;
    msgport_port *port;
    OK(msgport_port_recv(carrier, PATIENCE, &message));
    OK(msgport_message_take_port(message, 0, &port));
    msgport_message_free(message);
    return port;
}

static inline void wait_for(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline void kill_and_wait(pid_t child)
{
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, NULL, 0) == child);
}

/* A case named after its function. */
#define CASE(function) { #function, function }

#endif
