/* ZeroMQ: a PAIR socket over ipc, used with zmq_send and zmq_recv. */
#include "shim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

/* Failed attempts after which a call that spins gives up. */
#define MAX_TRIES 100000000

struct end {
    void *context, *socket;
    char path[200];
    int flags, first;
};

void *zeromq_open(const char *name, const char *dir, int first, size_t size, size_t depth, int spin) {
    struct end *end = calloc(1, sizeof *end);
    char address[220];
    int timeout_ms = 10000, linger = 0, high_water = (int)depth;
    (void)size;
    if (!end)
        return NULL;
    end->first = first;
    end->flags = spin ? ZMQ_DONTWAIT : 0;
    end->context = zmq_ctx_new();
    end->socket = zmq_socket(end->context, ZMQ_PAIR);
    snprintf(end->path, sizeof end->path, "%s/%s", dir, name);
    snprintf(address, sizeof address, "ipc://%s", end->path);
    zmq_setsockopt(end->socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    zmq_setsockopt(end->socket, ZMQ_SNDTIMEO, &timeout_ms, sizeof timeout_ms);
    zmq_setsockopt(end->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(end->socket, ZMQ_SNDHWM, &high_water, sizeof high_water);
    zmq_setsockopt(end->socket, ZMQ_RCVHWM, &high_water, sizeof high_water);
    if ((first ? zmq_bind(end->socket, address) : zmq_connect(end->socket, address)) != 0) {
        zeromq_close(end);
        return NULL;
    }
    return end;
}

int zeromq_send(void *handle, const void *data, size_t len) {
    struct end *end = handle;
    long tries = 0;
    while (zmq_send(end->socket, data, len, end->flags) != (int)len) {
        if (errno == EINTR || (errno == EAGAIN && end->flags && ++tries < MAX_TRIES))
            continue;
        return -1;
    }
    return 0;
}

int zeromq_receive(void *handle, void *data, size_t len) {
    struct end *end = handle;
    long tries = 0;
    for (;;) {
        int received = zmq_recv(end->socket, data, len, end->flags);
        if (received >= 0)
            return (size_t)received == len ? 0 : -1;
        if (errno == EINTR || (errno == EAGAIN && end->flags && ++tries < MAX_TRIES))
            continue;
        return -1;
    }
}

void zeromq_close(void *handle) {
    struct end *end = handle;
    zmq_close(end->socket);
    zmq_ctx_term(end->context);
    if (end->first)
        unlink(end->path);
    free(end);
}
