/* Evaluates every macro of the header. */
#include <messageport.h>

#include <stdio.h>
#include <string.h>

/* The preprocessor must evaluate it too. */
#if MSGPORT_VERSION < 1000 || MSGPORT_VERSION_MAJOR != 0
#error "the version cannot be compared by the preprocessor"
#endif

static const msgport_channel_options CHANNEL = MSGPORT_CHANNEL_OPTIONS_INIT;
static const msgport_queued QUEUED = MSGPORT_QUEUED_INIT;
static const msgport_spawn_options SPAWN = MSGPORT_SPAWN_OPTIONS_INIT;
static const msgport_listen_options LISTEN = MSGPORT_LISTEN_OPTIONS_INIT;
static const msgport_connect_options CONNECT = MSGPORT_CONNECT_OPTIONS_INIT;

static int zero(const void *from, size_t offset, size_t size)
{
    static const char zeroes[256] = { 0 };
    return memcmp((const char *)from + offset, zeroes, size - offset) == 0;
}

#define IS_INIT(options) ((options).size == sizeof(options) && zero(&(options), sizeof(size_t), sizeof(options)))

int main(void)
{
    msgport_item port = msgport_item_port(NULL), buffer = msgport_item_buffer(NULL), frozen = msgport_item_frozen(NULL);
    msgport_item shared = msgport_item_shared(NULL), descriptor = msgport_item_descriptor(7);
    printf("MSGPORT_VERSION_MAJOR %d\n", MSGPORT_VERSION_MAJOR);
    printf("MSGPORT_VERSION_MINOR %d\n", MSGPORT_VERSION_MINOR);
    printf("MSGPORT_VERSION_PATCH %d\n", MSGPORT_VERSION_PATCH);
    printf("MSGPORT_VERSION %d\n", MSGPORT_VERSION);
    printf("MSGPORT_FOREVER %lld\n", (long long)MSGPORT_FOREVER);
    printf("MSGPORT_CHANNEL_DATA_ONLY %u\n", MSGPORT_CHANNEL_DATA_ONLY);
    printf("MSGPORT_CHANNEL_NO_CACHE %u\n", MSGPORT_CHANNEL_NO_CACHE);
    printf("MSGPORT_ITEM_PORT %u\n", port.kind == MSGPORT_ITEM_PORT ? MSGPORT_ITEM_PORT : 0);
    printf("MSGPORT_ITEM_BUFFER %u\n", buffer.kind == MSGPORT_ITEM_BUFFER ? MSGPORT_ITEM_BUFFER : 0);
    printf("MSGPORT_ITEM_FROZEN %u\n", frozen.kind == MSGPORT_ITEM_FROZEN ? MSGPORT_ITEM_FROZEN : 0);
    printf("MSGPORT_ITEM_SHARED %u\n", shared.kind == MSGPORT_ITEM_SHARED ? MSGPORT_ITEM_SHARED : 0);
    printf("MSGPORT_ITEM_DESCRIPTOR %u\n",
           descriptor.kind == MSGPORT_ITEM_DESCRIPTOR && descriptor.of.descriptor == 7 ? MSGPORT_ITEM_DESCRIPTOR : 0);
    printf("MSGPORT_QUEUED_INIT %d\n", IS_INIT(QUEUED));
    printf("MSGPORT_SET %u\n", MSGPORT_SET);
    printf("MSGPORT_ADD %u\n", MSGPORT_ADD);
    printf("MSGPORT_ADD_ONCE %u\n", MSGPORT_ADD_ONCE);
    printf("MSGPORT_READABLE %u\n", MSGPORT_READABLE);
    printf("MSGPORT_WRITABLE %u\n", MSGPORT_WRITABLE);
    printf("MSGPORT_ANY_USER %u\n", MSGPORT_ANY_USER);
    printf("MSGPORT_REMOVE_ON_SIGNAL %u\n", MSGPORT_REMOVE_ON_SIGNAL);
    printf("MSGPORT_WAIT_FOR_LISTENER %u\n", MSGPORT_WAIT_FOR_LISTENER);
    printf("MSGPORT_NO_STREAM %d\n", MSGPORT_NO_STREAM);
    printf("MSGPORT_PARENT_VARIABLE %s\n", MSGPORT_PARENT_VARIABLE);
    printf("MSGPORT_SPAWN_OPTIONS_INIT %d\n", IS_INIT(SPAWN));
    printf("MSGPORT_CHANNEL_OPTIONS_INIT %d\n", IS_INIT(CHANNEL));
    printf("MSGPORT_LISTEN_OPTIONS_INIT %d\n", IS_INIT(LISTEN));
    printf("MSGPORT_CONNECT_OPTIONS_INIT %d\n", IS_INIT(CONNECT));
    return 0;
}
