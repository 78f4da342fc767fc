/* `pingpong ping|pong CPU`: one of the two processes that pingpong.rs measures. */
#define _GNU_SOURCE
#include <messageport.h>

#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZE = 64 };

static void check(msgport_code code)
{
    if (code != MSGPORT_OK) exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void ping(msgport_port *control, msgport_port *port, msgport_message *message)
{
    unsigned char data[SIZE] = { 0 };
    while (msgport_port_recv_into(control, MSGPORT_FOREVER, message, NULL, NULL) == MSGPORT_OK) {
        const void *order;
        size_t len;
        uint64_t trips, start, took;
        check(msgport_message_data(message, &order, &len));
        memcpy(&trips, order, sizeof trips);
        start = now();
        for (uint64_t trip = 0; trip < trips; trip++) {
            const void *echo;
            data[0] = (unsigned char)trip;
            check(msgport_port_post_message(port, data, SIZE, NULL, 0, 0));
            check(msgport_port_recv_into(port, MSGPORT_FOREVER, message, &echo, &len));
            if (len != SIZE || *(const unsigned char *)echo != (unsigned char)trip) exit(1);
        }
        took = now() - start;
        check(msgport_port_post_message(control, &took, sizeof took, NULL, 0, 0));
    }
}

static void pong(msgport_port *port, msgport_message *message)
{
    const void *data;
    size_t len;
    while (msgport_port_recv_into(port, MSGPORT_FOREVER, message, &data, &len) == MSGPORT_OK)
        check(msgport_port_post_message(port, data, len, NULL, 0, 0));
}

int main(int argc, char **argv)
{
    msgport_port *control, *port;
    msgport_message *message;
    cpu_set_t cpus;
    if (argc != 3) return 2;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[2]), &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    check(msgport_parent_port(&control));
    check(msgport_message_new(&message));
    check(msgport_port_recv_into(control, MSGPORT_FOREVER, message, NULL, NULL));
    check(msgport_message_take_port(message, 0, &port));
    check(msgport_port_set_spin(port, 200000));
    if (strcmp(argv[1], "ping") == 0) ping(control, port, message);
    else pong(port, message);
    return 0;
}
