/*
 * messageport.h: the Web's MessagePort for native processes, for C99 and everything that can call it.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *
 * A picture
 *
 *     process A                    shared memory                  process B
 *                        +--------------------------------+
 *     port1 ---- post -->|  message message message ...   |---- recv --> port2
 *           <--- recv ---|  ... message message message   |<--- post ---
 *                        +--------------------------------+
 *
 * A channel has two ends, its *ports*. What is posted on one is received on the other, in order and exactly once, in
 * this process or in another one. Both ends are equal. A message is bytes, and things that go to the receiver: ports,
 * with everything that is queued in them; buffers, whose memory is handed over and never copied; descriptors.
 *
 *
 * Words
 *
 *     channel         Two entangled ports.
 *     port, peer      One end of a channel; the other end of the same channel.
 *     message         Bytes, and a transfer list.
 *     transfer list   The things that a message takes along. It goes as a whole or not at all.
 *     buffer          Memory that has one holder at a time, and moves.
 *     frozen buffer   Memory that nobody can write any more, for any number of readers.
 *     shared buffer   Memory that all who have it read and write at the same time.
 *     detached        What a handle is whose port or buffer has moved away: it answers MSGPORT_DETACHED, and still has
 *                     to be freed.
 *     handle          A pointer to one of the types below. Whoever received it frees it, once, by the function of its
 *                     type that ends in _free. Freeing NULL does nothing.
 *     half            A port can be split in two, for two threads: its sending and its receiving half.
 *     in place        In the shared memory itself, without a copy.
 *     greeting        The message that brings a port to a listener.
 *     event loop      Calls the handlers of its ports, on one thread.
 *     handler         A function of the caller's, with data of the caller's.
 *
 *
 * Rules that hold for all functions
 *
 * Results      Every function that can fail returns a msgport_code; MSGPORT_OK is 0. Numbers never change their
 *              meaning. msgport_describe() says more about the last failure of the calling thread.
 * Outputs      Come last, and are written only on success.
 * Failure      Changes nothing unless said otherwise: what was passed in is still the caller's and still works.
 * Pointers     Must not be NULL unless said otherwise: MSGPORT_NULL_ARGUMENT. A pointer to no bytes (len 0) may be
 *              NULL. A handle of the wrong kind (by a cast) is MSGPORT_BAD_HANDLE. The use of a freed handle cannot
 *              be noticed.
 * Threads      A handle may be used by any thread, by one at a time. Functions that take a `const` handle may run at
 *              the same time as each other on the same handle; functions that take it without `const` exclude all
 *              others on that handle. Different handles have nothing to do with each other, the two halves of a port
 *              neither.
 * Time         In nanoseconds. A timeout of 0 only looks, a negative one (MSGPORT_FOREVER) waits for as long as it
 *              takes. No wait outlasts the peer: its death is noticed within 20 ms.
 * Bytes        Lengths count bytes. Data is copied in and out, except where functions say "in place".
 * fork         In a child that did not exec, inherited handles answer MSGPORT_FORKED; freeing them there harms nobody.
 * Signals      None is raised, handled or blocked. A signal handler may run during any function; no function may be
 *              called from one.
 * Handlers     Come as three arguments: a function, user data that it is called with, and a destructor for that data,
 *              which may be NULL. Once the function that takes them has succeeded, the destructor is called exactly
 *              once, when the handler is no longer needed; if that fails, it is not called and the data is still the
 *              caller's. Neither may throw a C++ exception or leave by longjmp.
 * Peers        Are not trusted. A peer can spoil the data that it sends and end its own channel, and that is all.
 * Mistakes     A mistake inside the library is MSGPORT_INTERNAL. The handles of that call can only be freed then.
 *
 * These codes are possible where a function takes a pointer or a handle, and are not repeated below:
 * MSGPORT_NULL_ARGUMENT, MSGPORT_BAD_HANDLE, MSGPORT_INTERNAL.
 */
#ifndef MESSAGEPORT_H
#define MESSAGEPORT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version ---------------------------------------------------------------------------------------------------- */

#define MSGPORT_VERSION_MAJOR 0
#define MSGPORT_VERSION_MINOR 1
#define MSGPORT_VERSION_PATCH 0

/* The version of this header as one number that grows: 0.1.0 is 1000, 1.2.3 is 1002003. */
#define MSGPORT_VERSION (MSGPORT_VERSION_MAJOR * 1000000 + MSGPORT_VERSION_MINOR * 1000 + MSGPORT_VERSION_PATCH)

/* The version of the library that is running, counted like MSGPORT_VERSION. Thread-safe. */
uint32_t msgport_version(void);

/* ---- Result codes ----------------------------------------------------------------------------------------------- */

typedef int32_t msgport_code;

enum {
    MSGPORT_OK = 0,

    /* Not now. */
    MSGPORT_EMPTY = 1,     /* There is no message. */
    MSGPORT_TIMED_OUT = 2, /* The time was over first. */
    MSGPORT_FULL = 3,      /* The queue is full: the receiver has not read enough yet. */
    MSGPORT_LANE_FULL = 4, /* Too many messages with transfer lists are unread. */

    /* The other end is gone. When received: after the last message. */
    MSGPORT_PEER_CLOSED = 10,        /* Its holder closed or freed it. */
    MSGPORT_PEER_DIED = 11,          /* Its process ended without closing it, by SIGKILL for example. */
    MSGPORT_PROTOCOL_VIOLATION = 12, /* It broke the format of the queue. This port has been closed. */
    MSGPORT_LOOP_GONE = 13,          /* The event loop has been freed. */
    MSGPORT_REQUEST_DROPPED = 14,    /* The server has dropped the request without answering it. */
    MSGPORT_CALL_OVER = 15,          /* The call has been answered, or its failure told, before. */

    /* This handle. */
    MSGPORT_CLOSED = 20,          /* The port was closed here. */
    MSGPORT_DETACHED = 21,        /* What it stood for has moved away. */
    MSGPORT_BORROWED = 22,        /* A reservation, or a message in place, is open. */
    MSGPORT_FORKED = 23,          /* It was inherited by fork and belongs to the parent process. */
    MSGPORT_WRONG_HALF = 24,      /* A sending half does not receive, a receiving half does not post. */
    MSGPORT_NOTHING_OPEN = 25,    /* There is no reservation, or no message in place, to end. */
    MSGPORT_DIFFERENT_PORTS = 26, /* The halves are not of one port. */
    MSGPORT_WATCHED = 27,         /* The port is in an event loop or a set, where this cannot be done to it. */
    MSGPORT_NOT_IN_LOOP = 28,     /* The port is not in an event loop, or not in that one. */
    MSGPORT_RUNNING = 29,         /* A loop does not run within itself. */

    /* The arguments. */
    MSGPORT_NULL_ARGUMENT = 30,
    MSGPORT_BAD_ARGUMENT = 31,
    MSGPORT_BAD_OPTIONS = 32, /* Options that this version of the library does not know. */
    MSGPORT_BAD_HANDLE = 33,  /* The pointer leads to a handle of another kind. */
    MSGPORT_OUT_OF_RANGE = 34,
    MSGPORT_NOT_FOUND = 35, /* There is no such listener or timer, or the port is not in that set. */
    MSGPORT_NO_PORTS = 36,  /* There are no ports in the set. */

    /* A message and its transfer list. */
    MSGPORT_CONTAINS_SELF = 40,    /* The list contains the posting port. */
    MSGPORT_CONTAINS_PEER = 41,    /* The list contains the posting port's peer. */
    MSGPORT_DUPLICATE = 42,        /* The list contains the same thing twice. */
    MSGPORT_UNUSABLE = 43,         /* Something on the list is closed, detached, borrowed or forked. */
    MSGPORT_BAD_ITEM = 44,         /* Something on the list is nothing that can be transferred. */
    MSGPORT_TOO_LARGE = 45,        /* The message is longer than the channel allows. */
    MSGPORT_TOO_MANY_HANDLES = 46, /* The list needs more descriptors than the channel allows. */
    MSGPORT_MESSAGE_ERROR = 47,    /* A message that cannot be received. It is consumed; later ones are not affected. */
    MSGPORT_TAKEN = 48,            /* It has been taken out of the message before. */
    MSGPORT_POOLED_ELSEWHERE = 49, /* A buffer on the list is known to the peer of the port that it was posted on
                                      before, which still lives. It can be posted there again. */

    /* Buffers. */
    MSGPORT_NOT_NEW = 50,          /* Only a new buffer can be frozen, and this one was received. */
    MSGPORT_MAPPED_ELSEWHERE = 51, /* Somebody else, who broke the rules, has the buffer mapped for writing. */
    MSGPORT_UNREADABLE = 52,       /* The file cannot be read; msgport_os_error() has the reason. */

    /* Meeting, and named buffers. */
    MSGPORT_BAD_NAME = 60,
    MSGPORT_NAME_TOO_LONG = 61,
    MSGPORT_UNSAFE_DIRECTORY = 62, /* The directory for names is open to others or belongs to somebody else. */
    MSGPORT_IN_USE = 63,
    MSGPORT_NOT_A_SOCKET = 64,
    MSGPORT_NOBODY_LISTENS = 65,
    MSGPORT_WRONG_USER = 66,
    MSGPORT_REFUSED = 67,
    MSGPORT_WRONG_VERSION = 68, /* The other side speaks another version of the format. */
    MSGPORT_NO_PARENT_PORT = 69,
    MSGPORT_BAD_PARENT_PORT = 70,
    MSGPORT_NAME_EXISTS = 71,
    MSGPORT_NAME_MISSING = 72,
    MSGPORT_NOT_OURS = 73,     /* The name belongs to another user, or others may open it. */
    MSGPORT_UNFINISHED = 74,   /* The buffer's maker is at work on it, or was killed while it was. */
    MSGPORT_NOT_A_BUFFER = 75, /* There is something else of that name. */
    MSGPORT_TOO_SMALL = 76,

    /* The system; msgport_os_error() has its errno. */
    MSGPORT_RESOURCE_EXHAUSTED = 80, /* No memory, descriptors or the like. */
    MSGPORT_SYSTEM = 81,             /* Anything else that it refuses. */

    /* The library. */
    MSGPORT_INTERNAL = 90
};

/*
 * The name of a code, such as "MSGPORT_FULL", and its meaning in a few words, such as "the queue is full".
 *
 * In      code    Any number.
 * Returns a static text that is never freed; "MSGPORT_UNKNOWN" and "unknown code" for a number that is no code.
 * Thread-safe.
 */
const char *msgport_code_name(msgport_code code);
const char *msgport_code_text(msgport_code code);

/*
 * Says all that is known about the last failure of the calling thread, with numbers and names: "the message needs 40000
 * bytes, at most 28664 fit".
 *
 * In      code    What the function returned. If something else failed since, or there is no more to say than the code
 *                 itself, the text is that of msgport_code_text().
 *         size    Bytes at `text`.
 * Out     text    UTF-8, ending with zero, cut at a whole character to fit. May be NULL if size is 0.
 * Returns the length of the whole text without the zero, as snprintf does.
 * Thread-safe: each thread has its own last failure.
 */
size_t msgport_describe(msgport_code code, char *text, size_t size);

/*
 * The errno of the system behind the calling thread's last failure, if that was MSGPORT_RESOURCE_EXHAUSTED or
 * MSGPORT_SYSTEM; otherwise 0 or an older one. `errno` itself is not set by this library.
 * Thread-safe.
 */
int msgport_os_error(void);

/* ---- Types ------------------------------------------------------------------------------------------------------ */

typedef struct msgport_port msgport_port;         /* A port, or one half of it. Freeing it closes it. */
typedef struct msgport_message msgport_message;   /* A received message, or memory to receive into. */
typedef struct msgport_buffer msgport_buffer;     /* Memory that moves. */
typedef struct msgport_frozen msgport_frozen;     /* Memory that nobody can write any more. */
typedef struct msgport_shared msgport_shared;     /* Memory that several holders read and write. */
typedef struct msgport_listener msgport_listener; /* Accepts ports from processes that connect to a name. */

typedef struct msgport_loop msgport_loop;     /* Calls handlers for the ports in it, timers and tasks. */
typedef struct msgport_remote msgport_remote; /* Speaks to an event loop from any thread. */
typedef struct msgport_set msgport_set;       /* Receives from many ports. */

typedef struct msgport_client msgport_client;       /* Asks, over one end of a channel. */
typedef struct msgport_pending msgport_pending;     /* A call that has not been answered. */
typedef struct msgport_server msgport_server;       /* Is asked, over the other end. */
typedef struct msgport_responder msgport_responder; /* The duty to answer one request. */

/* Waits for as long as it takes. */
#define MSGPORT_FOREVER ((int64_t)-1)

/* ---- Channels --------------------------------------------------------------------------------------------------- */

/*
 * Options are structs that grow with the library. The first field is the size of the struct as the caller knows it, 0
 * in any other field is its default, and what a library does not know must be 0: otherwise MSGPORT_BAD_OPTIONS. Start
 * from the _INIT value:
 *
 *     msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
 *     options.capacity = 1 << 20;
 */
typedef struct msgport_channel_options {
    size_t size;
    size_t capacity;         /* Bytes that each direction can hold before it grows: a power of two from 4 KiB to 64 MiB.
                                Default 64 KiB. */
    size_t max_capacity;     /* Bytes that each direction may grow to, at most 1 GiB. Default 64 MiB, or the capacity if
                                that is more; with the capacity itself it does not grow. Growing takes memory and
                                descriptors, which are given back when everything has been read. */
    size_t max_message_len;  /* Bytes of data that one message may have, at most 1 GiB, the default. */
    uint64_t cached_bytes;   /* Bytes that the buffers which a direction keeps may have together. Default 256 MiB. */
    uint32_t cached_buffers; /* Buffers that each direction keeps to use again, at most 64. Default 8. */
    uint32_t max_handles;    /* Descriptors that one message may carry, at most 253, the default. A port counts as two,
                                everything else as one. */
    uint32_t flags;          /* A sum of the flags below. */
    uint32_t reserved;       /* 0 */
} msgport_channel_options;

#define MSGPORT_CHANNEL_OPTIONS_INIT { sizeof(msgport_channel_options), 0, 0, 0, 0, 0, 0, 0, 0 }

#define MSGPORT_CHANNEL_DATA_ONLY UINT32_C(1) /* Messages carry no descriptors at all. */
#define MSGPORT_CHANNEL_NO_CACHE UINT32_C(2)  /* No buffer is kept. */

/*
 * Makes a channel: two entangled ports. The standard's `new MessageChannel()`.
 *
 * In      options NULL for the defaults.
 * Out     port1   One end.
 *         port2   The other end, its equal.
 * Owner   On success both ports are the caller's, to be freed one by one. It takes three descriptors.
 * Codes   MSGPORT_BAD_OPTIONS        options has a size that cannot be or unknown fields that are not 0.
 *         MSGPORT_BAD_ARGUMENT       An option is out of range, or port1 and port2 are the same pointer.
 *         MSGPORT_RESOURCE_EXHAUSTED No memory or no descriptors.
 * Thread-safe.
 */
msgport_code msgport_channel_new(const msgport_channel_options *options, msgport_port **port1, msgport_port **port2);

/* ---- Ports ------------------------------------------------------------------------------------------------------ */

/*
 * Closes a port, if that has not been done, and frees its handle. NULL, and handles whose port has moved away, are
 * fine. A reservation or a message in place that is open ends with it.
 * Exclusive on port.
 */
void msgport_port_free(msgport_port *port);

/*
 * Closes a port: the standard's `close()`. It takes effect at once; a second call does nothing.
 *
 * What was posted here before still arrives at the peer, then the peer is told MSGPORT_PEER_CLOSED. What is unread here
 * is dropped: ports in it are closed, buffers freed. From now on the port answers MSGPORT_CLOSED. Closing one half
 * closes the whole port. Descriptors are released by msgport_port_free().
 *
 * In      port
 * Codes   none of its own
 * Exclusive on port; the other half may be used at the same time, and its blocked call returns.
 */
msgport_code msgport_port_close(msgport_port *port);

/* What can be on a transfer list. */
typedef struct msgport_item {
    uint32_t kind;     /* Which of the union it is: one of the kinds below. */
    uint32_t reserved; /* 0 */
    union {
        msgport_port *port;
        msgport_buffer *buffer;
        const msgport_frozen *frozen;
        const msgport_shared *shared;
        int descriptor;
    } of;
} msgport_item;

#define MSGPORT_ITEM_PORT UINT32_C(1)       /* Moves: the handle is detached. */
#define MSGPORT_ITEM_BUFFER UINT32_C(2)     /* Moves: the handle is detached. */
#define MSGPORT_ITEM_FROZEN UINT32_C(3)     /* The receiver gets a handle of its own, and this one stays. */
#define MSGPORT_ITEM_SHARED UINT32_C(4)     /* The receiver gets a handle of its own, and this one stays. */
#define MSGPORT_ITEM_DESCRIPTOR UINT32_C(5) /* The receiver gets a duplicate; this one stays the caller's to close. */

/* Makes an item. */
static inline msgport_item msgport_item_port(msgport_port *port)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_PORT;
    item.reserved = 0;
    item.of.port = port;
    return item;
}

/* Makes an item. */
static inline msgport_item msgport_item_buffer(msgport_buffer *buffer)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_BUFFER;
    item.reserved = 0;
    item.of.buffer = buffer;
    return item;
}

/* Makes an item. */
static inline msgport_item msgport_item_frozen(const msgport_frozen *frozen)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_FROZEN;
    item.reserved = 0;
    item.of.frozen = frozen;
    return item;
}

/* Makes an item. */
static inline msgport_item msgport_item_shared(const msgport_shared *shared)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_SHARED;
    item.reserved = 0;
    item.of.shared = shared;
    return item;
}

/* Makes an item. */
static inline msgport_item msgport_item_descriptor(int descriptor)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_DESCRIPTOR;
    item.reserved = 0;
    item.of.descriptor = descriptor;
    return item;
}

/*
 * Posts a message: the standard's `postMessage(message, transfer)`. Never blocks: a queue that is full grows, up to the
 * channel's max_capacity. When it returns the receiver can take the message, whatever happens to this process
 * afterwards.
 *
 * In      port    A port or a sending half.
 *         data    The bytes, which are copied. `len` of them.
 *         items   The transfer list, `count` items. NULL if count is 0.
 * Owner   On success the ports and buffers on the list have moved: their handles are detached and remain to be freed.
 *         This is so also if nobody ever looks at the message. On failure everything on the list is untouched.
 * Codes   In this order:
 *         MSGPORT_BAD_ARGUMENT       len or count is impossibly large.
 *         MSGPORT_BAD_ITEM           An item has an unknown kind, a reserved field that is not 0, a handle that is NULL
 *                                    or of another kind, a half of a port or a port in a set, or a descriptor that is
 *                                    not open.
 *         MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_FORKED, MSGPORT_CLOSED, MSGPORT_DETACHED
 *         MSGPORT_BORROWED           A reservation is open on port.
 *         MSGPORT_CONTAINS_SELF, MSGPORT_CONTAINS_PEER, MSGPORT_DUPLICATE
 *         MSGPORT_UNUSABLE           Something on the list is closed, detached, borrowed or forked, or a shared buffer
 *                                    that has a name.
 *         MSGPORT_POOLED_ELSEWHERE   A buffer on the list belongs to the buffers of another port.
 *         MSGPORT_TOO_MANY_HANDLES
 *         MSGPORT_TOO_LARGE          See msgport_port_max_message_len().
 *         MSGPORT_PEER_CLOSED, MSGPORT_PEER_DIED, MSGPORT_PROTOCOL_VIOLATION
 *                                    Nobody will receive it.
 *         MSGPORT_FULL, MSGPORT_LANE_FULL
 *         MSGPORT_RESOURCE_EXHAUSTED No memory, or too many descriptors in flight.
 * Exclusive on port and on everything on the list.
 */
msgport_code msgport_port_post(msgport_port *port, const void *data, size_t len, const msgport_item *items,
                               size_t count);

/*
 * Posts a message and waits for space if the queue is full, instead of letting it grow.
 *
 * In      timeout Longest time to wait.
 *         The others as for msgport_port_post().
 * Owner   As for msgport_port_post().
 * Codes   As for msgport_port_post(), with MSGPORT_TIMED_OUT instead of MSGPORT_FULL and MSGPORT_LANE_FULL.
 * Exclusive on port and on everything on the list.
 */
msgport_code msgport_port_post_wait(msgport_port *port, const void *data, size_t len, const msgport_item *items,
                                    size_t count, int64_t timeout);

/* The data of a message. */
typedef struct msgport_bytes {
    const void *data;
    size_t len;
} msgport_bytes;

/*
 * Posts several messages of plain data, in order: as one call for each, and cheaper for small ones. Each is visible
 * to the receiver as soon as it has been copied; a sleeping receiver is woken once, at the end.
 *
 * In      port     A port or a sending half.
 *         messages `count` of them.
 *         timeout  0: a full queue grows, and is MSGPORT_FULL at its limit. Otherwise the longest time to wait for
 *                  space.
 * Out     posted   How many were posted. Written on failure too, except for MSGPORT_NULL_ARGUMENT and
 *                  MSGPORT_BAD_HANDLE of port and posted themselves.
 * Codes   As for msgport_port_post(), or if timeout is not 0 as for msgport_port_post_wait(): why the first that was
 *         not posted was not.
 * Exclusive on port.
 */
msgport_code msgport_port_post_messages(msgport_port *port, const msgport_bytes *messages, size_t count,
                                        int64_t timeout, size_t *posted);

/*
 * The most data that a message can have, and the most that travels in the queue itself: 7/16 of the capacity, less 8.
 * What is longer goes in a buffer of its own, which the receiver does not notice.
 *
 * In      port    A port or a sending half.
 * Out     len     Bytes.
 * Codes   MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_DETACHED           port was given to a child process or joined.
 * Exclusive on port.
 */
msgport_code msgport_port_max_message_len(msgport_port *port, size_t *len);
msgport_code msgport_port_max_inline_len(msgport_port *port, size_t *len);

/* How full the queue towards the peer is. It grows with the library: size is set by the caller, and stays. */
typedef struct msgport_queued {
    size_t size;
    size_t bytes;      /* What the peer has not read, perhaps a little more; a message takes its length rounded up to 8,
                          and 8 more. */
    size_t capacity;   /* What the queue holds before it grows, or grows again. */
    size_t high_water; /* The most that `bytes` has been, whenever the queue seemed full or was asked. */
} msgport_queued;

#define MSGPORT_QUEUED_INIT { sizeof(msgport_queued), 0, 0, 0 }

/*
 * How full the queue towards the peer is. All zero for a port that is closed, transferred, or has a reservation open.
 *
 * In      port    A port or a sending half.
 * Out     queued  Its size says how much of it there is room for.
 * Codes   MSGPORT_BAD_OPTIONS        The size cannot be.
 *         MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_DETACHED           port was given to a child process or joined.
 *         It changes as the peer reads.
 * Exclusive on port.
 */
msgport_code msgport_port_queued(msgport_port *port, msgport_queued *queued);

/* ---- Writing in place ------------------------------------------------------------------------------------------- */

/*
 * Reserves space for a message, to be written in place. Nobody sees it before msgport_port_commit(). One reservation
 * can be open on a port at a time; until it is committed or abandoned, posts are MSGPORT_BORROWED.
 *
 * In      port    A port or a sending half.
 *         len     Bytes.
 * Out     data    Where to write, aligned to 8. What was not written is whatever was in the queue before.
 * Owner   The memory is the channel's. It is valid until the reservation is committed or abandoned or the port freed;
 *         it must not be touched in a forked child.
 * Codes   MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_FORKED, MSGPORT_CLOSED, MSGPORT_DETACHED
 *         MSGPORT_BORROWED           One is open already.
 *         MSGPORT_TOO_LARGE          See msgport_port_max_message_len().
 *         MSGPORT_PEER_CLOSED, MSGPORT_PEER_DIED, MSGPORT_PROTOCOL_VIOLATION
 *         MSGPORT_FULL
 * Exclusive on port.
 */
msgport_code msgport_port_reserve(msgport_port *port, size_t len, void **data);

/*
 * Posts what was reserved.
 *
 * In      port
 *         len     Bytes to post, from the beginning: at most as many as were reserved.
 * Owner   The reservation has ended, on success and on failure, except for MSGPORT_OUT_OF_RANGE.
 * Codes   MSGPORT_NOTHING_OPEN       There is no reservation.
 *         MSGPORT_OUT_OF_RANGE       len is more than was reserved. The reservation is still open.
 *         MSGPORT_FORKED, MSGPORT_CLOSED
 *         MSGPORT_PEER_CLOSED, MSGPORT_PEER_DIED, MSGPORT_PROTOCOL_VIOLATION
 *         MSGPORT_FULL, MSGPORT_LANE_FULL, MSGPORT_RESOURCE_EXHAUSTED
 *                                    Only if more than msgport_port_max_inline_len() was reserved.
 * Exclusive on port.
 */
msgport_code msgport_port_commit(msgport_port *port, size_t len);

/*
 * Ends the reservation without posting anything. It leaves no trace.
 *
 * In      port
 * Codes   MSGPORT_NOTHING_OPEN       There is no reservation.
 * Exclusive on port.
 */
msgport_code msgport_port_abandon(msgport_port *port);

/* ---- Receiving -------------------------------------------------------------------------------------------------- */

/*
 * Takes the next message.
 *
 * In      port    A port or a receiving half.
 *         timeout 0: only looks, and nothing there is MSGPORT_EMPTY. Otherwise the longest time to wait for a message,
 *                 and none in time is MSGPORT_TIMED_OUT.
 * Out     message
 * Owner   The message is the caller's, to be freed.
 * Codes   MSGPORT_EMPTY, MSGPORT_TIMED_OUT
 *         MSGPORT_WRONG_HALF         port is a sending half.
 *         MSGPORT_FORKED, MSGPORT_CLOSED, MSGPORT_DETACHED
 *         MSGPORT_BORROWED           A message of this port is being read in place.
 *         MSGPORT_PEER_CLOSED, MSGPORT_PEER_DIED, MSGPORT_PROTOCOL_VIOLATION
 *                                    Everything that the peer posted has been received, and there will be no more.
 *         MSGPORT_MESSAGE_ERROR      The message could not be made for this receiver. It has been consumed, what it
 *                                    carried is closed.
 *         MSGPORT_RESOURCE_EXHAUSTED No memory or descriptors for what it carries. It is still queued.
 * Exclusive on port.
 */
msgport_code msgport_port_recv(msgport_port *port, int64_t timeout, msgport_message **message);

/*
 * Takes the next message into memory that is used again: nothing is allocated once that has grown.
 *
 * In      port, timeout  As for msgport_port_recv().
 *         message        A message of msgport_message_new() or of an earlier call. What is in it is dropped first:
 *                        ports that were not taken out are closed, buffers freed.
 * Out     data, len      As for msgport_message_data(). Each may be NULL.
 * Owner   The message stays the caller's. On failure it is empty; on MSGPORT_MESSAGE_ERROR it holds the data.
 * Codes   As for msgport_port_recv().
 * Exclusive on port and message.
 */
msgport_code msgport_port_recv_into(msgport_port *port, int64_t timeout, msgport_message *message, const void **data,
                                    size_t *len);

/*
 * Reads the next message in place. One message of a port can be read in place at a time; until msgport_port_release()
 * the other receiving functions are MSGPORT_BORROWED.
 *
 * The peer can still write to these bytes if it breaks the protocol. Do not read a byte twice and trust that it is the
 * same, unless the peer is trusted.
 *
 * In      port, timeout  As for msgport_port_recv().
 *         rest           Takes what came with the message, while its own data stays empty; what was in it is dropped.
 *                        NULL if nothing is wanted: then it is closed and freed at the release.
 * Out     data           Where the data is, aligned to 8.
 *         len            Bytes.
 * Owner   The memory is the channel's. It is valid until msgport_port_release() or msgport_port_free(); it must not be
 *         touched in a forked child.
 * Codes   As for msgport_port_recv().
 * Exclusive on port and rest.
 */
msgport_code msgport_port_recv_ref(msgport_port *port, int64_t timeout, msgport_message *rest, const void **data,
                                   size_t *len);

/*
 * Ends the reading in place, and gives the space back to the sender.
 *
 * In      port
 * Codes   MSGPORT_NOTHING_OPEN       No message is being read in place.
 * Exclusive on port.
 */
msgport_code msgport_port_release(msgport_port *port);

/* ---- Waiting ---------------------------------------------------------------------------------------------------- */

/*
 * How long a blocked call spins before it sleeps: 20 us by default, about the cost of a sleep and a wake-up. The port
 * spins less by itself while spinning does not help, and by default not at all where the calling thread has only one
 * CPU to run on; a budget that was set is used in any case. 0 lets a call sleep at once.
 *
 * In      port         A port or a half.
 *         nanoseconds
 * Codes   none of its own
 * Exclusive on port.
 */
msgport_code msgport_port_set_spin(msgport_port *port, uint64_t nanoseconds);

/*
 * The descriptor to wait on in a `poll`, `epoll` or libuv loop, level-triggered. It becomes readable when a message may
 * be there and when the peer is gone.
 *
 * Poll it for reading only; never read, write or close it. BEFORE EACH POLL call msgport_port_recv_into() or
 * msgport_port_recv() with a timeout of 0 until it says MSGPORT_EMPTY: that arms the wake-up. Ask for the descriptor
 * before the first of these looks. Take it out of an epoll set before the port is transferred or freed. A port whose
 * descriptor has been asked for once makes a system call for each MSGPORT_EMPTY.
 *
 * While a peer is stopped half way through posting a transfer list the descriptor may stay readable although there is
 * nothing; a loop that must not spin then backs off by a timer.
 *
 * In      port         A port or a receiving half.
 * Out     descriptor   Borrowed: valid until the port is freed.
 * Codes   MSGPORT_WRONG_HALF         port is a sending half.
 *         MSGPORT_DETACHED           port was given to a child process or joined.
 * Exclusive on port.
 */
msgport_code msgport_port_descriptor(msgport_port *port, int *descriptor);

/* ---- Halves ----------------------------------------------------------------------------------------------------- */

/*
 * Splits a port, so that one thread can post while another one receives; both may be blocked at the same time. A half
 * cannot be transferred. Freeing the sending half closes nothing as long as the receiving half lives; if the receiving
 * half is freed first, what was queued and what still comes is dropped.
 *
 * In      port      Becomes the sending half.
 * Out     receiver  The receiving half.
 * Owner   On success both halves are the caller's, to be freed one by one.
 * Codes   MSGPORT_WRONG_HALF   port is a half.
 *         MSGPORT_DETACHED     port was given to a child process or joined.
 *         MSGPORT_BORROWED     A reservation or a message in place is open.
 * Exclusive on port.
 */
msgport_code msgport_port_split(msgport_port *port, msgport_port **receiver);

/*
 * Puts two halves together again.
 *
 * In      port      The sending half. Becomes the whole port.
 *         receiver  The receiving half. Becomes detached, and remains to be freed.
 * Codes   MSGPORT_WRONG_HALF        port is no sending half, or receiver no receiving half.
 *         MSGPORT_DIFFERENT_PORTS   They are not of one port.
 *         MSGPORT_DETACHED          One was given to a child process or joined.
 *         MSGPORT_BORROWED          A reservation or a message in place is open.
 * Exclusive on port and receiver.
 */
msgport_code msgport_port_join(msgport_port *port, msgport_port *receiver);

/* ---- Messages --------------------------------------------------------------------------------------------------- */

/*
 * An empty message, to receive into.
 *
 * Out     message   The caller's, to be freed.
 * Codes   none of its own
 * Thread-safe.
 */
msgport_code msgport_message_new(msgport_message **message);

/*
 * Frees a message and what is in it: ports and descriptors that were not taken out are closed, buffers freed. NULL is
 * fine.
 * Exclusive on message.
 */
void msgport_message_free(msgport_message *message);

/*
 * Empties a message, and keeps its memory for the next one.
 *
 * In      message
 * Codes   none of its own
 * Exclusive on message.
 */
msgport_code msgport_message_clear(msgport_message *message);

/*
 * The data of a message.
 *
 * In      message
 * Out     data    Private to this process. Never NULL.
 *         len     Bytes; 0 for a message of no data.
 * Owner   The message's: valid until it is received into, cleared or freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const message.
 */
msgport_code msgport_message_data(const msgport_message *message, const void **data, size_t *len);

/*
 * The number of things of one kind that came with a message, those that were taken out included.
 *
 * In      message
 *         kind    MSGPORT_ITEM_PORT and so on.
 * Out     count
 * Codes   MSGPORT_BAD_ARGUMENT   There is no such kind.
 * May run at the same time as other functions that take a const message.
 */
msgport_code msgport_message_count(const msgport_message *message, uint32_t kind, size_t *count);

/*
 * Takes something out of a message.
 *
 * In      message
 *         index   Its place among the message's things of that kind, from 0, in the order of the transfer list.
 * Out     port, buffer, frozen, shared, descriptor
 * Owner   It is the caller's, to be freed, or closed. The message no longer holds it. A descriptor is closed on exec,
 *         and can be anything that the sender had: what it is good for is to be found out before it is used.
 * Codes   MSGPORT_OUT_OF_RANGE   index is not less than the count.
 *         MSGPORT_TAKEN          It has been taken out before.
 * Exclusive on message.
 */
msgport_code msgport_message_take_port(msgport_message *message, size_t index, msgport_port **port);
msgport_code msgport_message_take_buffer(msgport_message *message, size_t index, msgport_buffer **buffer);
msgport_code msgport_message_take_frozen(msgport_message *message, size_t index, msgport_frozen **frozen);
msgport_code msgport_message_take_shared(msgport_message *message, size_t index, msgport_shared **shared);
msgport_code msgport_message_take_descriptor(msgport_message *message, size_t index, int *descriptor);

/* ---- Buffers ---------------------------------------------------------------------------------------------------- */

/*
 * Makes a buffer: memory that can be on a transfer list, all zero. Posting it hands the memory itself to the receiver,
 * whatever its size. It can be posted on, over any port, any number of times. All of its memory is allocated here, so
 * that a shortage is an error and never a signal later.
 *
 * In      len     Bytes; 0 is allowed.
 * Out     buffer  The caller's, to be freed. It takes one descriptor.
 * Codes   MSGPORT_RESOURCE_EXHAUSTED No memory, no descriptor, or len is over 1 TiB or the file size limit.
 * Thread-safe.
 */
msgport_code msgport_buffer_new(size_t len, msgport_buffer **buffer);

/* Frees a buffer's handle, and the memory with its last handle in any process. NULL is fine. Exclusive on buffer. */
void msgport_buffer_free(msgport_buffer *buffer);

/*
 * The length of a buffer.
 *
 * In      buffer
 * Out     len     Bytes; 0 for one that has moved away, as with ArrayBuffer.byteLength.
 * Codes   none of its own
 * Exclusive on buffer.
 */
msgport_code msgport_buffer_len(msgport_buffer *buffer, size_t *len);

/*
 * Copies bytes out of a buffer, or into it.
 *
 * In      buffer
 *         offset  Where in the buffer, in bytes.
 *         from    The bytes to copy in, `len` of them.
 * Out     into    Takes `len` bytes.
 * Codes   MSGPORT_OUT_OF_RANGE   Not all of it is inside the buffer. Nothing was copied.
 *         MSGPORT_BAD_ARGUMENT   len is impossibly large.
 *         MSGPORT_DETACHED, MSGPORT_FORKED
 * Exclusive on buffer.
 */
msgport_code msgport_buffer_read(msgport_buffer *buffer, size_t offset, void *into, size_t len);
msgport_code msgport_buffer_write(msgport_buffer *buffer, size_t offset, const void *from, size_t len);

/*
 * The memory of a buffer in place. A process that once held the buffer, and kept its memory against the protocol, can
 * still read and write it.
 *
 * In      buffer
 * Out     data    Aligned to a page. Never NULL.
 *         len     Bytes.
 * Owner   The buffer's: valid until it is posted or freed; it must not be touched in a forked child.
 * Codes   MSGPORT_DETACHED, MSGPORT_FORKED
 * Exclusive on buffer.
 */
msgport_code msgport_buffer_data(msgport_buffer *buffer, void **data, size_t *len);

/*
 * A buffer to be filled and posted on this port: one that came back, if there is one, or a new one.
 *
 * A buffer that was posted on this port before and came back costs no system call and no page fault, and posting it
 * again costs the same whatever its size: the peer has kept its mapping. It comes back when the peer frees it, or
 * posts it back over this channel. Its bytes are what was last written to it by either side; those of a new one are
 * zero. Both sides keep as many as the channel's options allow, of msgport_buffer_new() too.
 *
 * In      port    A port or a sending half.
 *         len     Bytes.
 * Out     buffer  The caller's, to be freed.
 * Codes   MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_DETACHED           port was given to a child process or joined.
 *         MSGPORT_RESOURCE_EXHAUSTED As for msgport_buffer_new().
 * Exclusive on port.
 */
msgport_code msgport_port_buffer(msgport_port *port, size_t len, msgport_buffer **buffer);

/*
 * Gives back the memory of this port's buffers that nobody uses at the moment.
 *
 * In      port    A port or a sending half.
 * Out     count   How many were let go; fewer than there are if the queue is full.
 * Codes   MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_FORKED, MSGPORT_CLOSED, MSGPORT_DETACHED
 *         MSGPORT_BORROWED           A reservation is open on port.
 *         MSGPORT_PEER_CLOSED, MSGPORT_PEER_DIED, MSGPORT_PROTOCOL_VIOLATION
 * Exclusive on port.
 */
msgport_code msgport_port_release_buffers(msgport_port *port, size_t *count);

/* ---- Frozen buffers --------------------------------------------------------------------------------------------- */

/*
 * Memory that nobody can write any more: not this process, not one that had it before, nor one that gets it. The kernel
 * holds it so, and whoever receives one makes sure of it. It can be posted to any number of ports; there is one copy
 * of it in memory for all of them. A child made by fork can go on reading what it inherited.
 */

/*
 * Makes a frozen buffer: a copy of `len` bytes at data, or of a regular file's contents, or the memory of a buffer, of
 * which no byte is copied.
 *
 * In      data, len
 *         descriptor  The file, which stays open and where it is.
 *         buffer      A buffer that was made here, not received.
 * Out     frozen      The caller's, to be freed. It takes one descriptor.
 * Owner   On success a buffer that was frozen is detached, and remains to be freed. On failure it is as it was.
 * Codes   MSGPORT_BAD_ARGUMENT       len is impossibly large, or descriptor is negative.
 *         MSGPORT_UNREADABLE         The file is not a regular one, or could not be read to the end that it had.
 *         MSGPORT_NOT_NEW            The buffer was received: whoever had it before may have kept a way to its memory.
 *         MSGPORT_MAPPED_ELSEWHERE   Somebody, who broke the rules to get at it, has its memory mapped for writing.
 *         MSGPORT_DETACHED, MSGPORT_FORKED
 *         MSGPORT_RESOURCE_EXHAUSTED
 * Thread-safe; exclusive on buffer.
 */
msgport_code msgport_frozen_new(const void *data, size_t len, msgport_frozen **frozen);
msgport_code msgport_frozen_from_file(int descriptor, msgport_frozen **frozen);
msgport_code msgport_buffer_freeze(msgport_buffer *buffer, msgport_frozen **frozen);

/* Frees a handle, and the memory with its last handle in any process. NULL is fine. Exclusive on frozen. */
void msgport_frozen_free(msgport_frozen *frozen);

/*
 * Makes another handle of the same memory.
 *
 * In      frozen
 * Out     clone    The caller's, to be freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const frozen buffer.
 */
msgport_code msgport_frozen_clone(const msgport_frozen *frozen, msgport_frozen **clone);

/*
 * The bytes.
 *
 * In      frozen
 * Out     data     Aligned to a page. Never NULL. Writing to it raises SIGSEGV.
 *         len      Bytes.
 * Owner   The buffer's: valid until its last handle in this process is freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const frozen buffer.
 */
msgport_code msgport_frozen_data(const msgport_frozen *frozen, const void **data, size_t *len);

/* ---- Shared buffers --------------------------------------------------------------------------------------------- */

/*
 * Makes a shared buffer: memory that several holders, in whatever processes, read and write at the same time, all zero.
 * Posting one makes another handle of the same memory. A child made by fork shares what it inherited.
 *
 * In      len      Bytes; 0 is allowed.
 * Out     shared   The caller's, to be freed. It takes one descriptor.
 * Codes   MSGPORT_RESOURCE_EXHAUSTED No memory, no descriptor, or len is over 1 TiB or the file size limit.
 * Thread-safe.
 */
msgport_code msgport_shared_new(size_t len, msgport_shared **shared);

/*
 * Makes, or opens, a shared buffer with a name, for processes of one user that have no port between them. It cannot
 * be on a transfer list, since the size of its file cannot be sealed: if a process of the same user cuts that, which
 * none does that uses this library, whoever touches the memory dies by SIGBUS.
 *
 * The name is removed when the last handle that msgport_shared_create_named() made is freed; whoever has it open then
 * keeps the memory. A process that is killed leaves its names behind.
 *
 * In      name     UTF-8, at most 240 bytes, without a slash.
 *         len      Bytes of a new one.
 *         min_len  Bytes that one that is opened must have.
 * Out     shared   The caller's, to be freed.
 * Codes   MSGPORT_BAD_NAME
 *         MSGPORT_NAME_EXISTS        There is a buffer of this name, or something else.
 *         MSGPORT_NAME_MISSING       There is none.
 *         MSGPORT_NOT_OURS, MSGPORT_UNFINISHED, MSGPORT_NOT_A_BUFFER
 *         MSGPORT_TOO_SMALL          It has fewer bytes than min_len.
 *         MSGPORT_RESOURCE_EXHAUSTED
 * Thread-safe.
 */
msgport_code msgport_shared_create_named(const char *name, size_t len, msgport_shared **shared);
msgport_code msgport_shared_open_named(const char *name, size_t min_len, msgport_shared **shared);

/*
 * Removes a name, that of a process that was killed for instance.
 *
 * In      name
 * Codes   MSGPORT_BAD_NAME, MSGPORT_NAME_MISSING, MSGPORT_NOT_OURS
 * Thread-safe.
 */
msgport_code msgport_shared_remove_name(const char *name);

/* Frees a handle, and the memory with its last handle in any process. NULL is fine. Exclusive on shared. */
void msgport_shared_free(msgport_shared *shared);

/*
 * Makes another handle of the same memory.
 *
 * In      shared
 * Out     clone    The caller's, to be freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const shared buffer.
 */
msgport_code msgport_shared_clone(const msgport_shared *shared, msgport_shared **clone);

/*
 * The bytes in place. Others write to them at the same time: access words by atomics, and agree by them on who may use
 * what else when.
 *
 * In      shared
 * Out     data     Aligned to a page. Never NULL.
 *         len      Bytes.
 * Owner   The buffer's: valid until its last handle in this process is freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const shared buffer.
 */
msgport_code msgport_shared_data(const msgport_shared *shared, void **data, size_t *len);

/*
 * Copies bytes out of a shared buffer, or into it, whatever others do at the same time: a copy that overlaps with
 * another one may be a mixture of both.
 *
 * In      shared
 *         offset  Where in the buffer, in bytes.
 *         from    The bytes to copy in, `len` of them.
 * Out     into    Takes `len` bytes.
 * Codes   MSGPORT_OUT_OF_RANGE   Not all of it is inside the buffer. Nothing was copied.
 *         MSGPORT_BAD_ARGUMENT   len is impossibly large.
 * May run at the same time as other functions that take a const shared buffer.
 */
msgport_code msgport_shared_read(const msgport_shared *shared, size_t offset, void *into, size_t len);
msgport_code msgport_shared_write(const msgport_shared *shared, size_t offset, const void *from, size_t len);

/* ---- Event loops ------------------------------------------------------------------------------------------------ */

/*
 * A port in an event loop has handlers, as the standard's has. Its handle stays the same, and everything can be done
 * with it but writing and reading in place, splitting, giving it to a child and asking for its descriptor:
 * MSGPORT_WATCHED. Receiving from it by a call goes past the handlers. Freeing its handle closes it.
 *
 * It arrives in the loop *disabled*: its messages wait until msgport_port_start(), which setting the handler of
 * messages for the first time calls. From then on each message is given to its handlers; one for which there is no
 * handler is dropped. A port leaves the loop when it is removed, closed, transferred, when the end of its peer has
 * been told, and when the loop is freed, which closes it. Then its handlers are no longer needed.
 *
 * The loop, its ports and its handlers belong to one thread, which may be another one as long as none runs. A handler
 * may do anything: post, close, free or transfer its own port, add and remove handlers and ports. It may free the
 * loop, which then stops.
 */

/* Called when user data is no longer needed. */
typedef void (*msgport_destroy)(void *user);

/* A timer or task. */
typedef void (*msgport_task)(msgport_loop *loop, void *user);

/*
 * A message has arrived. What is in it can be taken out; what is not is dropped when all handlers have seen it. The
 * message itself is the loop's, and is not freed. port is the handle that was added to the loop.
 */
typedef void (*msgport_message_handler)(msgport_port *port, msgport_message *message, void *user);

/*
 * A message could not be made for this receiver: the standard's `messageerror`. What it carried is closed; `data` is
 * what it said. msgport_describe(MSGPORT_MESSAGE_ERROR) has the reason.
 */
typedef void (*msgport_message_error_handler)(msgport_port *port, const void *data, size_t len, void *user);

/* The peer is gone, and all its messages have been handled: MSGPORT_PEER_CLOSED, _PEER_DIED or _PROTOCOL_VIOLATION. */
typedef void (*msgport_close_handler)(msgport_port *port, msgport_code reason, void *user);

/*
 * Something went wrong that nobody else is told, and the loop goes on: MSGPORT_RESOURCE_EXHAUSTED, a message cannot be
 * received at the moment and stays queued; MSGPORT_INTERNAL.
 */
typedef void (*msgport_error_handler)(msgport_loop *loop, msgport_code code, void *user);

/*
 * Makes an event loop without ports.
 *
 * Out     loop    The caller's, to be freed. It takes three descriptors.
 * Codes   MSGPORT_RESOURCE_EXHAUSTED
 * Thread-safe.
 */
msgport_code msgport_loop_new(msgport_loop **loop);

/*
 * Frees an event loop, after closing the ports that are in it, whose handles remain to be freed. NULL is fine.
 * Exclusive on loop and its ports.
 */
void msgport_loop_free(msgport_loop *loop);

/*
 * Adds a port, disabled and without handlers.
 *
 * In      loop
 *         port    A port, or a receiving half, whose sending half may be used by another thread meanwhile.
 * Codes   MSGPORT_WRONG_HALF    port is a sending half.
 *         MSGPORT_WATCHED       port is in a loop or a set already.
 *         MSGPORT_BORROWED      A reservation or a message in place is open.
 *         MSGPORT_DETACHED      port was given to a child process or joined.
 *         MSGPORT_FORKED
 *         MSGPORT_RESOURCE_EXHAUSTED
 * Exclusive on loop and port.
 */
msgport_code msgport_loop_add(msgport_loop *loop, msgport_port *port);

/*
 * Takes a port out of the loop, with everything that has not been handled. It is an ordinary port again.
 *
 * In      loop, port
 * Codes   MSGPORT_NOT_IN_LOOP   port is not in this loop.
 * Exclusive on loop and port.
 */
msgport_code msgport_loop_remove(msgport_loop *loop, msgport_port *port);

/*
 * Calls handlers until the loop is stopped, until nothing is left that could happen (no port with a handler, no
 * timer, no msgport_remote), or until the time is over.
 *
 * In      loop
 *         timeout Longest time; 0 handles what is there now.
 * Codes   MSGPORT_RUNNING       This is a handler of the same loop.
 *         MSGPORT_FORKED
 *         MSGPORT_RESOURCE_EXHAUSTED
 * Exclusive on loop and its ports.
 */
msgport_code msgport_loop_run(msgport_loop *loop, int64_t timeout);

/*
 * Waits until something happens, at most for `timeout`, and handles one round: tasks, timers that are due, and a
 * batch of the messages of each port.
 *
 * In      loop, timeout
 * Out     count   How many messages, ends, timers and tasks; 0 if the time was over, if it was stopped, or if nothing
 *                 is left that could happen. NULL if that is not wanted.
 * Codes   As for msgport_loop_run().
 * Exclusive on loop and its ports.
 */
msgport_code msgport_loop_poll(msgport_loop *loop, int64_t timeout, size_t *count);

/*
 * For a program that has a loop of its own: handles one round of what is there now, and does not wait.
 *
 * In      loop
 * Out     count   As for msgport_loop_poll().
 * Codes   As for msgport_loop_run().
 * Exclusive on loop and its ports.
 */
msgport_code msgport_loop_dispatch(msgport_loop *loop, size_t *count);

/*
 * For a program that has a loop of its own: a descriptor to poll for reading. When it is readable, call
 * msgport_loop_dispatch(); that is the whole contract.
 *
 * In      loop
 * Out     descriptor   Borrowed: valid until the loop is freed. Never read, write or close it.
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_descriptor(msgport_loop *loop, int *descriptor);

/*
 * Makes the present msgport_loop_run() return, or if there is none, the next. Messages that wait go on waiting.
 *
 * In      loop
 * Codes   none of its own
 * Exclusive on loop; from other threads there is msgport_remote_stop().
 */
msgport_code msgport_loop_stop(msgport_loop *loop);

/*
 * Most messages of one port that are handled before the other ports, timers and tasks have their turn: 1000 by default.
 * And how long the loop spins before it sleeps: see msgport_port_set_spin().
 *
 * In      loop, messages, nanoseconds
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_set_batch(msgport_loop *loop, size_t messages);
msgport_code msgport_loop_set_spin(msgport_loop *loop, uint64_t nanoseconds);

/*
 * Sets what is called when something goes wrong that nobody else is told, instead of what was before. By default it is
 * printed on standard error.
 *
 * In      loop
 *         handler, user, destroy
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_on_error(msgport_loop *loop, msgport_error_handler handler, void *user,
                                   msgport_destroy destroy);

/*
 * Calls a function on the loop's thread after `delay` nanoseconds, once: the standard's `setTimeout`.
 *
 * In      loop, delay
 *         callback, user, destroy
 * Out     id      For msgport_loop_clear_timeout(). NULL if that is not wanted.
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_set_timeout(msgport_loop *loop, uint64_t delay, msgport_task callback, void *user,
                                      msgport_destroy destroy, uint64_t *id);

/*
 * Drops a timer.
 *
 * In      loop, id
 * Codes   MSGPORT_NOT_FOUND     It has been called or dropped already.
 * Exclusive on loop.
 */
msgport_code msgport_loop_clear_timeout(msgport_loop *loop, uint64_t id);

/*
 * Makes what speaks to the loop from other threads. As long as there is one, msgport_loop_run() goes on, since a task
 * may come.
 *
 * In      loop
 * Out     remote  The caller's, to be freed, in any thread.
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_remote(msgport_loop *loop, msgport_remote **remote);

/* Frees it. NULL is fine. Exclusive on remote. */
void msgport_remote_free(msgport_remote *remote);

/*
 * As msgport_loop_stop().
 *
 * In      remote
 * Codes   none of its own
 * May run at the same time as other functions that take a const remote, and as anything that is done to the loop.
 */
msgport_code msgport_remote_stop(const msgport_remote *remote);

/*
 * Has a function called on the loop's thread. The tasks of one thread are called in order. One that has not been called
 * when the loop is freed is dropped with it.
 *
 * In      remote
 *         task, user, destroy    Used, and destroyed, on the loop's thread.
 * Codes   MSGPORT_LOOP_GONE     The loop has been freed.
 * May run at the same time as other functions that take a const remote, and as anything that is done to the loop.
 */
msgport_code msgport_remote_post_task(const msgport_remote *remote, msgport_task task, void *user,
                                      msgport_destroy destroy);

/* How a handler is added. */
#define MSGPORT_SET UINT32_C(0)      /* As `onmessage = ...`: instead of the one that was set before. */
#define MSGPORT_ADD UINT32_C(1)      /* As `addEventListener`: beside the others. */
#define MSGPORT_ADD_ONCE UINT32_C(2) /* The same, for one time. */

/*
 * Adds a handler to a port in a loop: for messages, for messages that cannot be received, for the end of the peer.
 * Several are called in the order in which they were added. Setting the handler of messages starts the port; adding
 * one does not.
 *
 * In      port    A port in a loop. One that has left it, closed for instance, takes handlers and never calls them.
 *         how     MSGPORT_SET, MSGPORT_ADD or MSGPORT_ADD_ONCE.
 *         handler, user, destroy
 * Out     id      For msgport_port_remove_listener(). NULL if that is not wanted.
 * Codes   MSGPORT_NOT_IN_LOOP
 *         MSGPORT_BAD_ARGUMENT  how is something else.
 * Exclusive on port and its loop.
 */
msgport_code msgport_port_on_message(msgport_port *port, uint32_t how, msgport_message_handler handler, void *user,
                                     msgport_destroy destroy, uint64_t *id);
msgport_code msgport_port_on_message_error(msgport_port *port, uint32_t how, msgport_message_error_handler handler,
                                           void *user, msgport_destroy destroy, uint64_t *id);
msgport_code msgport_port_on_close(msgport_port *port, uint32_t how, msgport_close_handler handler, void *user,
                                   msgport_destroy destroy, uint64_t *id);

/*
 * Removes a handler, from inside itself too.
 *
 * In      port, id
 * Codes   MSGPORT_NOT_IN_LOOP
 *         MSGPORT_NOT_FOUND     It is not there any more.
 * Exclusive on port and its loop.
 */
msgport_code msgport_port_remove_listener(msgport_port *port, uint64_t id);

/*
 * Enables a port in a loop: the standard's `start()`. It cannot be undone; a second time it does nothing.
 *
 * In      port
 * Codes   MSGPORT_NOT_IN_LOOP
 * Exclusive on port and its loop.
 */
msgport_code msgport_port_start(msgport_port *port);

/*
 * Calls the handlers of messages at once, with a message of the caller's: the standard's `dispatchEvent`. The port's
 * queue has nothing to do with it.
 *
 * In      port
 *         message What the handlers leave stays in it.
 * Codes   MSGPORT_NOT_IN_LOOP
 * Exclusive on port, its loop and message.
 */
msgport_code msgport_port_dispatch(msgport_port *port, msgport_message *message);

/* ---- Sets of ports ---------------------------------------------------------------------------------------------- */

/* What happened to a port of a set. */
typedef struct msgport_set_event {
    msgport_port *port;
    msgport_code code; /* MSGPORT_OK: a message. MSGPORT_MESSAGE_ERROR: one that cannot be received.
                          MSGPORT_PEER_CLOSED, _PEER_DIED or _PROTOCOL_VIOLATION: the end of the peer; the port has left
                          the set. */
    uint32_t reserved;
} msgport_set_event;

/*
 * Makes a set of ports, to receive from whichever has something, in turn. A port in which nothing happens costs
 * nothing.
 *
 * Out     set     The caller's, to be freed. It takes one descriptor.
 * Codes   MSGPORT_RESOURCE_EXHAUSTED
 * Thread-safe.
 */
msgport_code msgport_set_new(msgport_set **set);

/* Frees a set. Its ports are ordinary ports again. NULL is fine. Exclusive on set and its ports. */
void msgport_set_free(msgport_set *set);

/*
 * Adds a port to a set, with what is queued in it; or takes it out again, with what has not been received. Its handle
 * stays the same, and everything can be done with it that can be done with a port in an event loop, except to put it
 * on a transfer list. Freeing its handle closes it, and it leaves the set.
 *
 * In      set
 *         port    A port, or a receiving half, whose sending half may be used by another thread meanwhile.
 * Codes   MSGPORT_NOT_FOUND     (remove) port is not in this set.
 *         MSGPORT_WRONG_HALF    port is a sending half.
 *         MSGPORT_WATCHED       port is in a loop or a set already.
 *         MSGPORT_BORROWED      A reservation or a message in place is open.
 *         MSGPORT_DETACHED      port was given to a child process or joined.
 *         MSGPORT_FORKED
 *         MSGPORT_RESOURCE_EXHAUSTED
 * Exclusive on set and port.
 */
msgport_code msgport_set_add(msgport_set *set, msgport_port *port);
msgport_code msgport_set_remove(msgport_set *set, msgport_port *port);

/*
 * The next thing that happens to any port of a set.
 *
 * In      set
 *         timeout 0 only looks, and nothing there is MSGPORT_EMPTY; otherwise none in time is MSGPORT_TIMED_OUT.
 *         message Takes a message, as msgport_port_recv_into() does; of one that cannot be received, the data.
 * Out     event
 * Codes   MSGPORT_EMPTY, MSGPORT_TIMED_OUT
 *         MSGPORT_NO_PORTS      There are no ports in the set.
 *         MSGPORT_FORKED
 *         MSGPORT_RESOURCE_EXHAUSTED   A message cannot be received at the moment. It is still queued.
 * Exclusive on set, its ports and message.
 */
msgport_code msgport_set_next(msgport_set *set, int64_t timeout, msgport_message *message, msgport_set_event *event);

/* ---- Request and answer ----------------------------------------------------------------------------------------- */

/*
 * Makes a port the end that asks, or the end that answers. Both ends of the channel are used in this way then.
 *
 * In      port
 * Out     client, server   The caller's, to be freed.
 * Owner   On success the port's handle is detached, and remains to be freed.
 * Codes   MSGPORT_WRONG_HALF    port is a half.
 *         MSGPORT_WATCHED       port is in a loop or a set.
 *         MSGPORT_BORROWED      A reservation or a message in place is open.
 *         MSGPORT_DETACHED      port was given to a child process or joined.
 * Exclusive on port.
 */
msgport_code msgport_client_new(msgport_port *port, msgport_client **client);
msgport_code msgport_server_new(msgport_port *port, msgport_server **server);

/*
 * Frees them. The port is closed when the client and all its msgport_pending have been freed, or when the server has
 * been: then what was answered arrives, and every open call ends. NULL is fine.
 * Exclusive on client, on server.
 */
void msgport_client_free(msgport_client *client);
void msgport_server_free(msgport_server *server);

/*
 * Posts a request, waits for space if need be, and waits for the answer. Any number of calls can be open at a time,
 * from any number of threads, and be answered in any order.
 *
 * In      client
 *         data, len, items, count   As for msgport_port_post(). A port in a loop must be removed from it first.
 *         timeout                   Longest time for space and answer together.
 *         answer                    Takes the answer, as msgport_port_recv_into() takes a message.
 * Owner   As for msgport_port_post(); if the request was posted and there is no answer, what was on the list has moved.
 * Codes   As for msgport_port_post_wait(), if the request was not posted; and if it was:
 *         MSGPORT_TIMED_OUT         The time was over first. The answer is dropped when it comes.
 *         MSGPORT_REQUEST_DROPPED   The server has dropped the request without answering it.
 *         MSGPORT_PEER_CLOSED, MSGPORT_PEER_DIED, MSGPORT_PROTOCOL_VIOLATION
 *                                   The server is gone.
 *         MSGPORT_MESSAGE_ERROR     The answer cannot be received.
 * May run at the same time as other functions that take a const client. Exclusive on answer and on everything on the
 * list.
 */
msgport_code msgport_client_call(const msgport_client *client, const void *data, size_t len, const msgport_item *items,
                                 size_t count, int64_t timeout, msgport_message *answer);

/*
 * Posts a request and does not wait.
 *
 * In      client, data, len, items, count   As for msgport_client_call().
 * Out     pending   The open call. The caller's, to be freed.
 * Owner   As for msgport_port_post().
 * Codes   As for msgport_port_post().
 * May run at the same time as other functions that take a const client. Exclusive on everything on the list.
 */
msgport_code msgport_client_start(const msgport_client *client, const void *data, size_t len,
                                  const msgport_item *items, size_t count, msgport_pending **pending);

/*
 * Waits for the answer to an open call.
 *
 * In      pending
 *         timeout 0 only looks, and no answer yet is MSGPORT_EMPTY.
 *         answer  As for msgport_client_call().
 * Codes   MSGPORT_EMPTY, MSGPORT_TIMED_OUT   The call is still open.
 *         MSGPORT_CALL_OVER                  The answer has been taken, or the failure told, before.
 *         and as for msgport_client_call().
 * Exclusive on pending and answer.
 */
msgport_code msgport_pending_wait(msgport_pending *pending, int64_t timeout, msgport_message *answer);

/*
 * Frees it. A call that is still open is given up: its answer is dropped when it comes. NULL is fine.
 * Exclusive on pending.
 */
void msgport_pending_free(msgport_pending *pending);

/*
 * How long a blocked call spins before it sleeps; see msgport_port_set_spin().
 *
 * In      client, server, nanoseconds
 * Codes   none of its own
 * May run at the same time as other functions that take a const client. Exclusive on server.
 */
msgport_code msgport_client_set_spin(const msgport_client *client, uint64_t nanoseconds);
msgport_code msgport_server_set_spin(msgport_server *server, uint64_t nanoseconds);

/*
 * Takes the next request.
 *
 * In      server
 *         timeout   As for msgport_port_recv().
 *         request   Takes the request, as msgport_port_recv_into() takes a message.
 * Out     responder The duty to answer it. The caller's, to be freed; it may be used in another thread.
 * Codes   As for msgport_port_recv_into(). What is no request is a MSGPORT_MESSAGE_ERROR.
 * Exclusive on server and request.
 */
msgport_code msgport_server_recv(msgport_server *server, int64_t timeout, msgport_message *request,
                                 msgport_responder **responder);

/*
 * Answers a request.
 *
 * In      responder
 *         data, len, items, count   As for msgport_client_call().
 *         timeout                   Longest time to wait for space. 0: a full queue grows instead.
 * Owner   On success the request is answered, and the handle remains to be freed. On failure nothing has happened,
 *         and it can be tried again.
 * Codes   MSGPORT_CALL_OVER         It has been answered before.
 *         and as for msgport_port_post(), or if timeout is not 0 as for msgport_port_post_wait().
 * Exclusive on responder and on everything on the list.
 */
msgport_code msgport_responder_answer(msgport_responder *responder, const void *data, size_t len,
                                      const msgport_item *items, size_t count, int64_t timeout);

/*
 * Frees it. If it has not answered, the client is told MSGPORT_REQUEST_DROPPED. NULL is fine.
 * Exclusive on responder.
 */
void msgport_responder_free(msgport_responder *responder);

/* ---- Child processes -------------------------------------------------------------------------------------------- */

/*
 * Starts a program and gives it a port, which it gets by calling msgport_parent_port(). If the child ends, however it
 * does, the port's peer sees it. No other child inherits anything.
 *
 * In      program      A path, or a name that is looked for in PATH.
 *         arguments    Ends with NULL, as for execvp(3); the first is the program's own name.
 *         environment  Entries NAME=value, ends with NULL. NULL for this process's environment.
 *         port         The port to give; keep its peer.
 * Out     pid          To be waited for by the caller, with waitpid(2).
 * Owner   On success the port has moved: its handle is detached, and remains to be freed. On failure it is untouched.
 * Codes   MSGPORT_BAD_ARGUMENT   arguments is empty, or an entry of environment is not NAME=value.
 *         MSGPORT_WRONG_HALF     port is a half.
 *         MSGPORT_BORROWED       A reservation or a message in place is open on port.
 *         MSGPORT_DETACHED       port was given to a child process before, or joined.
 *         MSGPORT_UNUSABLE       port is closed, detached or forked.
 *         MSGPORT_RESOURCE_EXHAUSTED
 *         MSGPORT_SYSTEM         The program could not be started.
 * Exclusive on port.
 */
msgport_code msgport_spawn(const char *program, const char *const *arguments, const char *const *environment,
                           msgport_port *port, int32_t *pid);

/*
 * The port that the parent process gave to this one. It can be taken once; call it early in `main`.
 *
 * Out     port         The caller's, to be freed.
 * Codes   MSGPORT_NO_PARENT_PORT     There is none, or it was taken before.
 *         MSGPORT_BAD_PARENT_PORT    What was inherited is no port.
 *         MSGPORT_WRONG_VERSION      The parent speaks another version of the format.
 *         MSGPORT_RESOURCE_EXHAUSTED
 * Thread-safe; while the process has one thread, the environment entry is removed as well.
 */
msgport_code msgport_parent_port(msgport_port **port);

/* ---- Meeting by name -------------------------------------------------------------------------------------------- */

/* Options, as explained at msgport_channel_options. */
typedef struct msgport_listen_options {
    size_t size;
    int64_t greeting_timeout; /* How long a client may take to send its greeting. Default 2 s. It holds nobody up. */
    uint32_t flags;           /* MSGPORT_ANY_USER or 0. */
    uint32_t reserved;        /* 0 */
} msgport_listen_options;

#define MSGPORT_LISTEN_OPTIONS_INIT { sizeof(msgport_listen_options), 0, 0, 0 }

/* Options, as explained at msgport_channel_options. */
typedef struct msgport_connect_options {
    size_t size;
    int64_t timeout;                        /* How long the listener may take to accept. Default 5 s. */
    uint32_t flags;                         /* MSGPORT_ANY_USER or 0. */
    uint32_t reserved;                      /* 0 */
    const msgport_channel_options *channel; /* Of the channel that is made. NULL for the defaults. */
} msgport_connect_options;

#define MSGPORT_CONNECT_OPTIONS_INIT { sizeof(msgport_connect_options), 0, 0, 0, NULL }

/* The other side may run as any user; by default it must run as this one. */
#define MSGPORT_ANY_USER UINT32_C(1)

/* Who connected. */
typedef struct msgport_peer {
    uint32_t uid; /* The user that its process ran as when it connected. */
    int32_t pid;  /* Its process. It may have ended, and the number may be used again. */
} msgport_peer;

/*
 * Starts listening on a name.
 *
 * A name without a slash is a socket in $XDG_RUNTIME_DIR/messageport, or where that is not set in a directory for this
 * user alone under the directory for temporary files; with a slash it is the path of the socket. It is open to this
 * user only. A socket left behind by a listener that was killed is replaced.
 *
 * In      name       UTF-8.
 *         options    NULL for the defaults.
 * Out     listener   The caller's, to be freed; that removes the socket.
 * Codes   MSGPORT_BAD_OPTIONS
 *         MSGPORT_BAD_NAME           Empty, `.`, `..`, not UTF-8, or ending in `.lock`.
 *         MSGPORT_NAME_TOO_LONG      The path is longer than 107 bytes.
 *         MSGPORT_UNSAFE_DIRECTORY   The directory for names is open to others or belongs to somebody else.
 *         MSGPORT_IN_USE             Another listener lives there.
 *         MSGPORT_NOT_A_SOCKET       There is something of that name that is no socket.
 *         MSGPORT_SYSTEM
 * Thread-safe.
 */
msgport_code msgport_listener_bind(const char *name, const msgport_listen_options *options,
                                   msgport_listener **listener);

/* Stops listening, removes the socket and frees the handle. NULL is fine. Exclusive on listener. */
void msgport_listener_free(msgport_listener *listener);

/*
 * Waits for the next client. Clients that misbehave are turned away and counted, and are no error here.
 *
 * In      listener
 *         timeout    Longest time to wait; 0 only looks.
 *         greeting   Takes the data that the client sent with its port, and any further ports and buffers; what was
 *                    in it is dropped. NULL if it is not wanted.
 * Out     port       The end of a channel that the client sent. The caller's, to be freed.
 *         peer       Who it is. NULL if that is not wanted.
 * Codes   MSGPORT_TIMED_OUT          No client came.
 *         MSGPORT_FORKED
 *         MSGPORT_RESOURCE_EXHAUSTED
 * Exclusive on listener and greeting.
 */
msgport_code msgport_listener_accept(msgport_listener *listener, int64_t timeout, msgport_message *greeting,
                                     msgport_port **port, msgport_peer *peer);

/*
 * The path of the socket.
 *
 * In      listener
 * Out     path       Ends with zero. The listener's: valid until it is freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const listener.
 */
msgport_code msgport_listener_path(const msgport_listener *listener, const char **path);

/*
 * How many clients were turned away so far: silent for too long, of another user or version, or with a malformed
 * greeting.
 *
 * In      listener
 * Out     count
 * Codes   none of its own
 * Exclusive on listener.
 */
msgport_code msgport_listener_refused(msgport_listener *listener, uint64_t *count);

/*
 * The descriptor to wait on in a `poll` or `epoll` loop: readable means that msgport_listener_accept() with a timeout
 * of 0 has something to do.
 *
 * In      listener
 * Out     descriptor  Borrowed: valid until the listener is freed. Never read, write or close it.
 * Codes   none of its own
 * Exclusive on listener.
 */
msgport_code msgport_listener_descriptor(msgport_listener *listener, int *descriptor);

/*
 * Makes a channel and brings one end of it, with a greeting, to the listener of a name.
 *
 * In      name       As for msgport_listener_bind().
 *         greeting   Data for the listener, `len` bytes, at most 32 KiB.
 *         options    NULL for the defaults.
 * Out     port       The other end. The caller's, to be freed.
 * Codes   MSGPORT_BAD_OPTIONS, MSGPORT_BAD_ARGUMENT
 *         MSGPORT_BAD_NAME, MSGPORT_NAME_TOO_LONG, MSGPORT_UNSAFE_DIRECTORY
 *         MSGPORT_NOBODY_LISTENS     There is no socket of that name, or its listener is gone.
 *         MSGPORT_WRONG_USER         The listener runs as another user.
 *         MSGPORT_REFUSED            The listener turned us away.
 *         MSGPORT_WRONG_VERSION      The listener speaks another version of the format.
 *         MSGPORT_TIMED_OUT          The listener did not answer in time.
 *         MSGPORT_TOO_LARGE          The greeting is too long.
 *         MSGPORT_RESOURCE_EXHAUSTED, MSGPORT_SYSTEM
 * Thread-safe.
 */
msgport_code msgport_connect(const char *name, const void *greeting, size_t len,
                             const msgport_connect_options *options, msgport_port **port);

#ifdef __cplusplus
}
#endif

#endif /* MESSAGEPORT_H */
