/* nng: a pair socket over ipc, used with nng_sendmsg and nng_recvmsg. */
#include "shim.h"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/supplemental/util/platform.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Largest buffer that nng allows, in messages. */
#define MAX_DEPTH 8192

struct end {
    nng_socket socket;
    char path[200];
    int first;
};

void *nng_shim_open(const char *name, const char *dir, int first, size_t size, size_t depth, int spin) {
    struct end *end = calloc(1, sizeof *end);
    char address[220];
    int failed;
    (void)size;
    (void)spin;
    if (!end)
        return NULL;
    end->first = first;
    snprintf(end->path, sizeof end->path, "%s/%s", dir, name);
    snprintf(address, sizeof address, "ipc://%s", end->path);
    if (nng_pair0_open(&end->socket) != 0) {
        free(end);
        return NULL;
    }
    nng_socket_set_ms(end->socket, NNG_OPT_RECVTIMEO, 10000);
    nng_socket_set_ms(end->socket, NNG_OPT_SENDTIMEO, 10000);
    nng_socket_set_size(end->socket, NNG_OPT_RECVMAXSZ, 0);
    nng_socket_set_int(end->socket, NNG_OPT_SENDBUF, depth > MAX_DEPTH ? MAX_DEPTH : (int)depth);
    nng_socket_set_int(end->socket, NNG_OPT_RECVBUF, depth > MAX_DEPTH ? MAX_DEPTH : (int)depth);
    if (first) {
        failed = nng_listen(end->socket, address, NULL, 0);
    } else {
        /* Retries until the other side listens. */
        for (int tries = 0; (failed = nng_dial(end->socket, address, NULL, 0)) != 0 && tries < 1000; tries++)
            nng_msleep(2);
    }
    if (failed != 0) {
        nng_shim_close(end);
        return NULL;
    }
    return end;
}

int nng_shim_send(void *handle, const void *data, size_t len) {
    struct end *end = handle;
    nng_msg *message;
    if (nng_msg_alloc(&message, len) != 0)
        return -1;
    memcpy(nng_msg_body(message), data, len);
    if (nng_sendmsg(end->socket, message, 0) != 0) {
        nng_msg_free(message);
        return -1;
    }
    return 0;
}

int nng_shim_receive(void *handle, void *data, size_t len) {
    struct end *end = handle;
    nng_msg *message;
    int complete;
    if (nng_recvmsg(end->socket, &message, 0) != 0)
        return -1;
    complete = nng_msg_len(message) == len;
    if (complete)
        memcpy(data, nng_msg_body(message), len);
    nng_msg_free(message);
    return complete ? 0 : -1;
}

void nng_shim_close(void *handle) {
    struct end *end = handle;
    nng_close(end->socket);
    if (end->first)
        unlink(end->path);
    free(end);
}
