/*
 * A port in an epoll loop of the program, beside a timer.
 *
 * Before each epoll_wait, receive until the port returns MSGPORT_EMPTY: that arms the wake-up.
 */
#include <messageport.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(msgport_code code)
{
    char why[200];
    if (code == MSGPORT_OK) return;
    msgport_describe(code, why, sizeof why);
    fprintf(stderr, "%s: %s\n", msgport_code_name(code), why);
    exit(1);
}

/* Receives all messages that have arrived. Returns 0 if the peer is gone. */
static int drain(msgport_port *port, msgport_message *message, int *received)
{
    msgport_code code;
    while ((code = msgport_port_recv_into(port, 0, message, NULL, NULL)) == MSGPORT_OK) ++*received;
    if (code == MSGPORT_EMPTY) return 1;
    if (code == MSGPORT_PEER_CLOSED || code == MSGPORT_PEER_DIED) return 0;
    check(code);
    return 0;
}

static void watch(int epoll, int descriptor)
{
    struct epoll_event event = { .events = EPOLLIN, .data = { .fd = descriptor } };
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) != 0) exit(1);
}

/* The child posts a thousand messages with pauses, then closes its port. */
static int be_the_child(msgport_port *parent)
{
    for (int i = 0; i < 1000; i++) {
        check(msgport_port_post_message(parent, &i, sizeof i, NULL, 0, MSGPORT_FOREVER));
        if (i % 100 == 0) usleep(1000);
    }
    msgport_port_free(parent);
    return 0;
}

int main(void)
{
    const char *arguments[] = { "epoll", NULL };
    const struct itimerspec every = { .it_interval = { 0, 1000000 }, .it_value = { 0, 1 } };
    msgport_port *port, *theirs;
    msgport_message *message;
    int32_t child;
    int descriptor, received = 0, ticks = 0;

    if (msgport_parent_port(&port) == MSGPORT_OK) return be_the_child(port);

    check(msgport_channel_new(NULL, &port, &theirs));
    check(msgport_message_new(&message));
    check(msgport_spawn_with_port("/proc/self/exe", arguments, NULL, theirs, &child));
    msgport_port_free(theirs);
    check(msgport_port_descriptor(port, &descriptor));

    const int epoll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    timerfd_settime(timer, 0, &every, NULL);
    watch(epoll, descriptor);
    watch(epoll, timer);
    while (drain(port, message, &received) || ticks == 0) {
        struct epoll_event event;
        if (epoll_wait(epoll, &event, 1, -1) == 1 && event.data.fd == timer) {
            uint64_t expired;
            if (read(timer, &expired, sizeof expired) == sizeof expired) ticks++;
        }
    }
    close(epoll); /* before the port is freed */
    close(timer);
    msgport_message_free(message);
    msgport_port_free(port);
    waitpid(child, NULL, 0);
    printf("%d messages, and the timer ran\n", received);
    return 0;
}
