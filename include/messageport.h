/*
 * messageport.h: the Web's MessagePort for native processes, for C99 and every language that can call C.
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
 * A channel has two ends, its *ports*. A message posted on one port is received on the other, in order and exactly
 * once, in the same process or in another one. The two ends are equal. A message carries bytes and transferable things:
 * ports, with every message queued in them; buffers, whose memory moves without a copy unless it is small; descriptors.
 *
 * Glossary
 *
 *     channel         Two entangled ports.
 *     port, peer      One end of a channel; the other end of the same channel.
 *     message         Bytes, and the things on a transfer list.
 *     transfer list   The things that travel with a message. The list travels as a whole or not at all.
 *     item            An entry of a transfer list.
 *     buffer          Memory with one holder at a time, which moves from holder to holder.
 *     frozen buffer   Memory that no process can write, for any number of readers.
 *     shared buffer   Memory that all its holders read and write at the same time.
 *     detached        The state of a handle whose port or buffer has moved away. Functions return MSGPORT_DETACHED for
 *                     it. It still has to be freed.
 *     handle          A pointer to one of the opaque types below. Its holder frees it exactly once, with the function
 *                     of its type that ends in _free. Freeing NULL does nothing.
 *     half            A port can be split in two, for two threads: its sending half and its receiving half.
 *     in place        In the shared memory itself, without a copy.
 *     greeting        Data that a client sends to a listener, to get a port.
 *     listener        Accepts processes that connect to a name, and makes a channel with each.
 *     event loop      Calls the handlers of its ports, on one thread.
 *     handler         A function of the program, with user data, that an event loop calls when an event occurs.
 *     set             Returns the next event of many ports, without handlers.
 *     caller          The code that calls a function of this header.
 *
 *
 * Rules that hold for all functions
 *
 * Results      A function that can fail returns a msgport_code; MSGPORT_OK is 0. The numbers of the codes never change
 *              their meaning. msgport_describe() returns more about the last failure of the calling thread.
 * Codes        Each function lists its codes with their causes. Three are possible wherever a function takes a pointer
 *              or a handle, and are not repeated: MSGPORT_NULL_ARGUMENT, MSGPORT_BAD_HANDLE, MSGPORT_INTERNAL. Nor is
 *              MSGPORT_RUNNING, wherever a function takes an event loop or a port in one; see Threads.
 * Outputs      Come last, and are written only on success unless the function says otherwise.
 * Failure      Changes nothing unless the function says otherwise: everything passed in still belongs to the caller and
 *              still works.
 * Pointers     NULL is MSGPORT_NULL_ARGUMENT unless the function allows it. A pointer to bytes may be NULL if the
 *              length is 0. A handle of another type (by a cast) is MSGPORT_BAD_HANDLE. The use of a freed handle
 *              cannot be detected.
 * Threads      Any thread may use a handle, but only one at a time. Exception: functions that take a `const` handle may
 *              run at the same time as each other on the same handle. Different handles are independent of each other,
 *              ports of one set included; so are the two halves of a port. An event loop and the ports in it count as
 *              one handle: during a call on one of them, calls of other threads that need the loop return
 *              MSGPORT_RUNNING, and freeing the loop or a port of it there does nothing.
 * Time         Every time is an int64_t in nanoseconds, and every timeout means the same:
 *              0                The call does not wait. MSGPORT_EMPTY: there is nothing to receive. MSGPORT_FULL or
 *                               MSGPORT_LANE_FULL: there is no space.
 *              positive         The call waits for at most this time, then returns MSGPORT_TIMED_OUT.
 *              MSGPORT_FOREVER  The call waits without limit; so does every negative timeout.
 *              No wait outlasts the peer: the death of its process is noticed within 20 ms. Times in options are not
 *              timeouts of a call: 0 is the default there, as in every field of options.
 * errno        Unspecified after a call, whether it succeeds or fails. No call depends on the value that it finds
 *              there. The reason of a failure is in msgport_os_error().
 * Bytes        Lengths are in bytes. Data is copied in and out, except where a function says "in place".
 * fork         In a child process that did not exec, inherited handles return MSGPORT_FORKED. Freeing them there is
 *              allowed and affects no other process.
 * Signals      The library handles no signals, except as MSGPORT_REMOVE_ON_SIGNAL asks, and raises none. A signal
 *              handler may run during any function; it must not call any but msgport_interrupter_interrupt().
 * Cancellation No function is a cancellation point: a pthread_cancel() that comes during a call takes effect after it.
 *              To end a wait, use a msgport_interrupter. A thread whose cancellation type is asynchronous must not call
 *              any function (POSIX). Handlers run with cancellation disabled.
 * Handlers     Are passed as three arguments: a function, user data for its calls, and a destructor for the user data,
 *              which may be NULL. If the function that takes them succeeds, the destructor is called exactly once, when
 *              the handler is no longer needed; if it fails, the destructor is not called and the data still belongs to
 *              the caller. A destructor may free the port or the loop of the call that drops its data, unless that
 *              call frees it. Neither function may throw a C++ exception or leave by longjmp.
 * Trust        The peer is not trusted. A malicious peer can corrupt the data that it sends and end its own channel,
 *              and nothing else.
 * Bugs         An internal error of the library is MSGPORT_INTERNAL. The handles of that call may then only be freed.
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

/* The version of this header as one number, which grows: 0.1.0 is 1000, 1.2.3 is 1002003. */
#define MSGPORT_VERSION (MSGPORT_VERSION_MAJOR * 1000000 + MSGPORT_VERSION_MINOR * 1000 + MSGPORT_VERSION_PATCH)

/* The version of the running library, in the form of MSGPORT_VERSION. Thread-safe. */
uint32_t msgport_version(void);

/* ---- Result codes ----------------------------------------------------------------------------------------------- */

typedef int32_t msgport_code;

enum {
    MSGPORT_OK = 0,

    /* Not now. */
    MSGPORT_EMPTY = 1,     /* Timeout 0: there is nothing to receive. */
    MSGPORT_TIMED_OUT = 2, /* The timeout has passed. */
    MSGPORT_FULL = 3,      /* Timeout 0: the queue is full, because the receiver has not read enough yet. */
    MSGPORT_LANE_FULL = 4, /* Timeout 0: too many messages are unread whose transfer lists need descriptors. The
                              system's limit is net.core.wmem_max; msgport_describe() has the number of messages. */
    MSGPORT_INTERRUPTED = 5, /* An interrupter ended the wait; or a signal, if that was asked for. Nothing is lost. Any
                                function that waits can return it, and it is not repeated. */

    /* The other end is gone. A receiving function returns these after the last message. */
    MSGPORT_PEER_CLOSED = 10,        /* The peer was closed or freed. */
    MSGPORT_PEER_DIED = 11,          /* The process of the peer ended without closing it, by SIGKILL for example. */
    MSGPORT_PROTOCOL_VIOLATION = 12, /* The peer violated the format of the queue. This port has been closed. */
    MSGPORT_LOOP_GONE = 13,          /* The event loop has been freed. */
    MSGPORT_REQUEST_DROPPED = 14,    /* The server dropped the request without answering it. */
    MSGPORT_CALL_OVER = 15,          /* The answer or the failure of this call has already been returned. */

    /* The state of a handle. */
    MSGPORT_CLOSED = 20,          /* The port was closed here. */
    MSGPORT_DETACHED = 21,        /* The port or buffer has moved away. */
    MSGPORT_BORROWED = 22,        /* A reservation, or a message that is read in place, is open. */
    MSGPORT_FORKED = 23,          /* The handle was inherited by fork and belongs to the parent process. */
    MSGPORT_WRONG_HALF = 24,      /* A sending half cannot receive, a receiving half cannot post. */
    MSGPORT_NOTHING_OPEN = 25,    /* No reservation, or no message that is read in place, is open. */
    MSGPORT_DIFFERENT_PORTS = 26, /* The halves belong to different ports. */
    MSGPORT_WATCHED = 27,         /* The port is in an event loop or a set, where this operation is not available. */
    MSGPORT_NOT_IN_LOOP = 28,     /* The port is not in an event loop, or not in this one. */
    MSGPORT_RUNNING = 29,         /* The event loop is in use: one of its handlers runs it again, or another thread
                                     is in a call on the loop or on one of its ports. */

    /* The arguments. */
    MSGPORT_NULL_ARGUMENT = 30, /* A pointer is NULL. */
    MSGPORT_BAD_ARGUMENT = 31,  /* An argument has an invalid value. */
    MSGPORT_BAD_OPTIONS = 32,   /* The options are not supported by this version of the library. */
    MSGPORT_BAD_HANDLE = 33,    /* The pointer leads to a handle of another type. */
    MSGPORT_OUT_OF_RANGE = 34,  /* An index, offset or length is outside its range. */
    MSGPORT_NOT_FOUND = 35,     /* There is no such handler or timer, or the port is not in this set. */
    MSGPORT_NO_PORTS = 36,      /* The set has no ports. */

    /* A message and its transfer list. */
    MSGPORT_CONTAINS_SELF = 40,    /* The list contains the posting port. */
    MSGPORT_CONTAINS_PEER = 41,    /* The list contains the posting port's peer. */
    MSGPORT_DUPLICATE = 42,        /* The list contains the same port or buffer twice. */
    MSGPORT_UNUSABLE = 43,         /* An item is closed, detached, borrowed or forked. */
    MSGPORT_BAD_ITEM = 44,         /* An item cannot be transferred. */
    MSGPORT_TOO_LARGE = 45,        /* The message is longer than the channel allows. A msgport_buffer carries more. */
    MSGPORT_TOO_MANY_HANDLES = 46, /* The list needs more descriptors than the channel allows. */
    MSGPORT_MESSAGE_ERROR = 47,    /* A message cannot be received. It is consumed; later messages are not affected. */
    MSGPORT_TAKEN = 48,            /* The thing has already been taken out of the message. */

    /* Buffers. */
    MSGPORT_NOT_NEW = 50,          /* A buffer that was received cannot be frozen. */
    MSGPORT_MAPPED_ELSEWHERE = 51, /* Another process has the buffer mapped for writing, against the protocol. */
    MSGPORT_UNREADABLE = 52,       /* The file cannot be read; msgport_os_error() has the reason. */

    /* Meeting, and named buffers. */
    MSGPORT_BAD_NAME = 60,         /* The name is empty, too long, not UTF-8, or reserved. */
    MSGPORT_NAME_TOO_LONG = 61,    /* The path of the socket is longer than 107 bytes. */
    MSGPORT_UNSAFE_DIRECTORY = 62, /* The directory for names is accessible to, or belongs to, another user. */
    MSGPORT_IN_USE = 63,           /* Another listener uses the name. */
    MSGPORT_NOT_A_SOCKET = 64,     /* The name belongs to a file that is not a socket. */
    MSGPORT_NO_LISTENER = 65,      /* There is no listener of this name. */
    MSGPORT_WRONG_USER = 66,       /* The listener, or its path, belongs to another user. */
    MSGPORT_REFUSED = 67,          /* The listener refused, or its answer was not a usable port. */
    MSGPORT_WRONG_VERSION = 68,    /* The other process uses another version of the format. */
    MSGPORT_NO_PARENT_PORT = 69,   /* The parent process gave no port, or it is taken, or a program between lost it. */
    MSGPORT_BAD_PARENT_PORT = 70,  /* The descriptors inherited from the parent process are not a port. */
    MSGPORT_NAME_EXISTS = 71,      /* The name is taken. */
    MSGPORT_NAME_MISSING = 72,     /* There is no buffer of this name. */
    MSGPORT_NOT_OURS = 73,         /* The name belongs to another user, or other users may open it. */
    MSGPORT_UNFINISHED = 74,       /* The creator of the buffer has not finished it, or was killed before it had. */
    MSGPORT_NOT_A_BUFFER = 75,     /* The name belongs to a file that is not a buffer. */
    MSGPORT_TOO_SMALL = 76,        /* The buffer has fewer bytes than required. */
    MSGPORT_OVERLOADED = 77,       /* The listener has no memory or no descriptors left for the connection. */

    /* The system; msgport_os_error() has its errno. */
    MSGPORT_RESOURCE_EXHAUSTED = 80, /* The system has no memory, descriptors or similar resources left. */
    MSGPORT_SYSTEM = 81,             /* The system refused the operation for another reason. */

    /* The library. */
    MSGPORT_INTERNAL = 90, /* An internal error, which is a bug of the library. */
    MSGPORT_LEFT_OUT = 91  /* This build of the library is without the feature; see msgport_has_named_buffers(). */
};

/*
 * Returns the name of a code, such as "MSGPORT_FULL".
 *
 * In      code    Any number.
 * Returns a static text, which is never freed; "MSGPORT_UNKNOWN" for a number that is not a code.
 * Thread-safe.
 */
const char *msgport_code_name(msgport_code code);

/*
 * Returns the meaning of a code in a few words, such as "the queue is full".
 *
 * In      code    Any number.
 * Returns a static text, which is never freed; "unknown code" for a number that is not a code.
 * Thread-safe.
 */
const char *msgport_code_text(msgport_code code);

/*
 * Describes the last failure of the calling thread with its details: "the message needs 40000 bytes, at most 28664
 * fit".
 *
 * In      code    The code that the function returned. If the thread's last detailed failure had another code, the
 *                 description is the text of msgport_code_text().
 *         size    Bytes at `text`.
 * Out     text    UTF-8 that ends with NUL, cut at a whole character to fit. May be NULL if size is 0.
 * Returns the length of the whole description without the NUL, as snprintf(3) does.
 * Thread-safe: each thread has its own last failure.
 */
size_t msgport_describe(msgport_code code, char *text, size_t size);

/*
 * Returns the errno of the system call behind the calling thread's last failure, if its code was
 * MSGPORT_RESOURCE_EXHAUSTED, MSGPORT_SYSTEM or MSGPORT_UNREADABLE; otherwise 0 or an older errno. It does not depend
 * on `errno`.
 * Thread-safe.
 */
int msgport_os_error(void);

/*
 * Returns the index of the item on the transfer list that the calling thread's last failure is about.
 *
 * In      code    The code that the function returned: MSGPORT_CONTAINS_SELF, MSGPORT_CONTAINS_PEER, MSGPORT_DUPLICATE
 *                 (the second of the two items), MSGPORT_UNUSABLE or MSGPORT_BAD_ITEM.
 * Returns the index, from 0. SIZE_MAX for any other code, and if the thread's last detailed failure had another code.
 * Thread-safe: each thread has its own last failure.
 */
size_t msgport_failed_item(msgport_code code);

/* ---- Types ------------------------------------------------------------------------------------------------------ */

typedef struct msgport_port msgport_port;         /* A port, or one half of it. Freeing it closes it. */
typedef struct msgport_message msgport_message;   /* A received message, or memory to receive into. */
typedef struct msgport_buffer msgport_buffer;     /* Memory with one holder at a time. */
typedef struct msgport_frozen msgport_frozen;     /* Memory that no process can write. */
typedef struct msgport_shared msgport_shared;     /* Memory that several holders read and write. */
typedef struct msgport_listener msgport_listener; /* Accepts processes that connect to a name. */

typedef struct msgport_loop msgport_loop;       /* An event loop: calls the handlers of its ports, timers and tasks. */
typedef struct msgport_remote msgport_remote;   /* Posts tasks to an event loop, and stops it, from any thread. */
typedef struct msgport_portset msgport_portset; /* A set: returns the next event of many ports. */

typedef struct msgport_interrupter msgport_interrupter; /* Ends a wait of another thread. */

typedef struct msgport_client msgport_client;       /* The end of a channel that posts requests. */
typedef struct msgport_pending msgport_pending;     /* A request whose answer has not been received. */
typedef struct msgport_server msgport_server;       /* The end of a channel that answers requests. */
typedef struct msgport_responder msgport_responder; /* The obligation to answer one request. */

/* A timeout without limit. */
#define MSGPORT_FOREVER ((int64_t)-1)

/* ---- Channels --------------------------------------------------------------------------------------------------- */

/*
 * Options of a channel.
 *
 * Structs of options grow with the library. The first field is the size of the struct as the caller was compiled with
 * it; 0 in any other field is its default; fields that the library does not have must be 0, otherwise the call returns
 * MSGPORT_BAD_OPTIONS. Start from the _INIT value:
 *
 *     msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
 *     options.capacity = 1 << 20;
 */
typedef struct msgport_channel_options {
    size_t size;             /* sizeof(msgport_channel_options) */
    size_t capacity;         /* Bytes that the queue of each direction holds before it grows: a power of two from 4 KiB
                                to 64 MiB. Default 64 KiB. */
    size_t max_capacity;     /* Bytes that may wait in the queue of each direction, wherever they lie, at most 1 GiB.
                                Default 64 MiB, or the capacity if that is more. If it equals the capacity, the queue
                                does not grow. Growth takes memory and descriptors, which are released once everything
                                has been read. One message longer than the queue allows is posted when at most 1/8 of
                                the queue is unread. Buffers on transfer lists do not count. */
    size_t max_message_len;  /* Bytes of data in the longest message, at most 1 GiB, which is the default. */
    uint64_t cached_bytes;   /* Bytes of all buffers together that each direction keeps for reuse. Default 256 MiB. */
    uint32_t cached_buffers; /* Buffers that each direction keeps for reuse, at most 64. Default 8. */
    uint32_t max_handles;    /* Descriptors that one message may carry, at most 253, which is the default. A port counts
                                as two, every other item as one. */
    uint32_t flags;          /* A sum of the MSGPORT_CHANNEL_ flags below. */
    uint32_t reserved;       /* 0 */
    const char *name;        /* A name that tells the channel from others: UTF-8 of at most 32 bytes. It is part of the
                                names of its memory files, in every process: /memfd:messageport:NAME in /proc and lsof.
                                NULL for none. A channel that a listener makes for a client has none. */
} msgport_channel_options;

#define MSGPORT_CHANNEL_OPTIONS_INIT { sizeof(msgport_channel_options), 0, 0, 0, 0, 0, 0, 0, 0, NULL }

#define MSGPORT_CHANNEL_DATA_ONLY UINT32_C(1) /* Messages carry no descriptors: max_handles is 0. */
#define MSGPORT_CHANNEL_NO_CACHE UINT32_C(2)  /* No buffer is kept for reuse: cached_buffers is 0. */

/*
 * Makes a channel, two entangled ports: the standard's `new MessageChannel()`.
 *
 * In      options NULL for the defaults.
 * Out     port1   One end.
 *         port2   The other end.
 * Owner   On success both ports belong to the caller, which frees each of them. The channel takes three descriptors.
 * Codes   MSGPORT_BAD_OPTIONS        The size of options is impossible, or an unknown field or flag is not 0.
 *         MSGPORT_BAD_ARGUMENT       An option is out of range, or port1 and port2 are the same pointer.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 * Thread-safe.
 */
msgport_code msgport_channel_new(const msgport_channel_options *options, msgport_port **port1, msgport_port **port2);

/*
 * Raises the limit of open descriptors of this process (setrlimit(2)), as far as the system allows, and returns it. A
 * limit that is higher already stays. Programs that this process starts afterwards inherit the limit; select(2) does
 * not work with descriptors from 1024 on.
 *
 * In      wanted  Number of descriptors.
 * Out     limit   The limit afterwards, which can be less than `wanted`. NULL if it is not needed.
 * Codes   MSGPORT_SYSTEM    The system refused; msgport_os_error() has the reason.
 * Thread-safe.
 */
msgport_code msgport_raise_descriptor_limit(uint64_t wanted, uint64_t *limit);

/* ---- Ports ------------------------------------------------------------------------------------------------------ */

/*
 * Closes a port, unless that has been done, and frees its handle. An open reservation or message in place ends with it.
 * A port in an event loop leaves it: no handler is called after this, for queued messages neither.
 *
 * In      port    NULL and a handle whose port has moved away are allowed.
 * Exclusive on port.
 */
void msgport_port_free(msgport_port *port);

/*
 * Attaches a pointer of the program to a port, NULL at first. It stays with the handle, in loops and sets too; a port
 * that moves away does not take it along.
 *
 * In      port
 *         user     Never followed.
 * Codes   none of its own
 * Exclusive on port.
 */
msgport_code msgport_port_set_user(msgport_port *port, void *user);

/*
 * Returns the pointer that is attached to a port, for example to find the program's own object for the port of an
 * event.
 *
 * In      port
 * Out     user
 * Codes   none of its own
 * Exclusive on port.
 */
msgport_code msgport_port_user(msgport_port *port, void **user);

/*
 * Closes a port: the standard's `close()`. It takes effect at once; a second call does nothing.
 *
 * Messages posted here before still arrive at the peer, which then receives MSGPORT_PEER_CLOSED. Unread messages here
 * are dropped: the ports in them are closed, the buffers freed. From now on calls on the port return MSGPORT_CLOSED.
 * Closing one half closes the whole port. msgport_port_free() releases the descriptors.
 *
 * A *started* port in an event loop differs: what was queued in it is still passed to its handlers, as the standard's
 * queued tasks are. Then the port leaves the loop, and its handlers are destroyed.
 *
 * In      port    A port or a half. If it has moved away, nothing is closed.
 * Codes   none of its own
 * Exclusive on port; the other half may be used at the same time, and its blocked call returns.
 */
msgport_code msgport_port_close(msgport_port *port);

/* ---- Transfer lists --------------------------------------------------------------------------------------------- */

/*
 * An item of a transfer list. A message that is posted leaves the handles of its items with the caller:
 * ports and buffers have moved and their handles are detached; of the other kinds the receiver gets a duplicate.
 */
typedef struct msgport_item {
    uint32_t kind;     /* One of the kinds below: selects the field of the union. */
    uint32_t reserved; /* 0 */
    union {
        msgport_port *port;
        msgport_buffer *buffer;
        msgport_frozen *frozen; /* Used as `const` by a post. */
        msgport_shared *shared; /* Used as `const` by a post. */
        int descriptor;
    } of;
} msgport_item;

#define MSGPORT_ITEM_PORT UINT32_C(1)       /* A port, which moves with the messages queued in it. */
#define MSGPORT_ITEM_BUFFER UINT32_C(2)     /* A buffer, whose memory moves. */
#define MSGPORT_ITEM_FROZEN UINT32_C(3)     /* A frozen buffer, of which the receiver gets a handle. */
#define MSGPORT_ITEM_SHARED UINT32_C(4)     /* A shared buffer, of which the receiver gets a handle. */
#define MSGPORT_ITEM_DESCRIPTOR UINT32_C(5) /* A descriptor, of which the receiver gets a duplicate. */

/* Returns an item for a port. */
static inline msgport_item msgport_item_port(msgport_port *port)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_PORT;
    item.reserved = 0;
    item.of.port = port;
    return item;
}

/* Returns an item for a buffer. */
static inline msgport_item msgport_item_buffer(msgport_buffer *buffer)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_BUFFER;
    item.reserved = 0;
    item.of.buffer = buffer;
    return item;
}

/* Returns an item for a frozen buffer. */
static inline msgport_item msgport_item_frozen(msgport_frozen *frozen)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_FROZEN;
    item.reserved = 0;
    item.of.frozen = frozen;
    return item;
}

/* Returns an item for a shared buffer. */
static inline msgport_item msgport_item_shared(msgport_shared *shared)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_SHARED;
    item.reserved = 0;
    item.of.shared = shared;
    return item;
}

/* Returns an item for a descriptor. */
static inline msgport_item msgport_item_descriptor(int descriptor)
{
    msgport_item item;
    item.kind = MSGPORT_ITEM_DESCRIPTOR;
    item.reserved = 0;
    item.of.descriptor = descriptor;
    return item;
}

/* ---- Posting ---------------------------------------------------------------------------------------------------- */

/*
 * Posts a message: the standard's `postMessage(message, transfer)`. Once it returns, the receiver can take the message
 * whatever happens to this process.
 *
 * With a timeout of 0 it never blocks: a full queue grows, up to the channel's max_capacity. With any other timeout a
 * full queue grows to no more than 1 MiB, or as far as this message needs; then the call waits for space, which keeps a
 * stream whose receiver is slower than its sender in a small queue. A sleeping sender is woken when half of the ring or
 * 512 KiB are free, or at the latest 10 ms after there is room for its message.
 *
 * In      port    A port or a sending half.
 *         data    The bytes, `len` of them, which are copied.
 *         items   The transfer list, `count` items. NULL if count is 0.
 *         timeout 0, the longest time to wait for space, or MSGPORT_FOREVER.
 * Owner   On success the ports and buffers on the list have moved, even if the message is never received: their handles
 *         are detached, and the caller still frees them. On failure everything on the list is unchanged.
 * Codes   In this order:
 *         MSGPORT_BAD_ARGUMENT       len is more than PTRDIFF_MAX, or count is more than 65535.
 *         MSGPORT_BAD_ITEM           An item has an unknown kind, a reserved field that is not 0, a handle that is NULL
 *                                    or of another type, a half of a port, a port in a set, or a descriptor that is not
 *                                    open.
 *         MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_BORROWED           A reservation is open on port.
 *         MSGPORT_CONTAINS_SELF      The list contains port.
 *         MSGPORT_CONTAINS_PEER      The list contains the peer of port.
 *         MSGPORT_DUPLICATE          The list contains a port or a buffer twice.
 *         MSGPORT_UNUSABLE           An item is closed, detached, borrowed or forked, or a shared buffer with a name.
 *         MSGPORT_TOO_MANY_HANDLES   The list needs more descriptors than max_handles of the channel.
 *         MSGPORT_TOO_LARGE          The message is longer than max_message_len of msgport_port_queued().
 *         MSGPORT_PEER_CLOSED        The peer was closed; the message would not be received.
 *         MSGPORT_PEER_DIED          The process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         MSGPORT_FULL               Timeout 0: the queue has grown to its limit and is full.
 *         MSGPORT_LANE_FULL          Timeout 0: too many messages with transfer lists are unread.
 *         MSGPORT_TIMED_OUT          Other timeouts: there was no space in time.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory left, or too many descriptors are in flight.
 * Exclusive on port and on the ports and buffers on the list.
 */
msgport_code msgport_port_post_message(msgport_port *port, const void *data, size_t len, const msgport_item *items,
                                       size_t count, int64_t timeout);

/* The data of a message. */
typedef struct msgport_bytes {
    const void *data; /* May be NULL if len is 0. */
    size_t len;       /* Bytes at data. */
} msgport_bytes;

/*
 * Posts several messages without transfer lists, in order: cheaper than one call for each if they are small. The
 * receiver can take each message as soon as it has been copied; a sleeping receiver is woken once, at the end.
 *
 * In      port     A port or a sending half.
 *         messages `count` of them. NULL if count is 0.
 *         timeout  As for msgport_port_post_message(), for all messages together.
 * Out     posted   The number of messages that were posted. Written on failure too, unless port or posted is invalid.
 * Codes   Why the first message that was not posted was not:
 *         MSGPORT_BAD_ARGUMENT       count or the length of a message is more than memory can hold.
 *         MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_BORROWED           A reservation is open on port.
 *         MSGPORT_TOO_LARGE          The message is longer than max_message_len of msgport_port_queued().
 *         MSGPORT_PEER_CLOSED        The peer was closed.
 *         MSGPORT_PEER_DIED          The process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         MSGPORT_FULL               Timeout 0: the queue has grown to its limit and is full.
 *         MSGPORT_LANE_FULL          Timeout 0: too many messages with buffers of their own are unread.
 *         MSGPORT_TIMED_OUT          Other timeouts: there was no space in time.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory left, or too many descriptors are in flight.
 * Exclusive on port.
 */
msgport_code msgport_port_post_messages(msgport_port *port, const msgport_bytes *messages, size_t count,
                                        int64_t timeout, size_t *posted);

/*
 * The state of the queue towards the peer. The struct grows with the library: the caller sets size, which stays; the
 * library writes the fields that the caller's struct has, and 0 to those that it does not have itself.
 */
typedef struct msgport_queued {
    size_t size;            /* sizeof(msgport_queued) */
    size_t bytes;           /* Bytes that the peer has not read, wherever they lie, perhaps a little more. A message
                               takes its length rounded up to 8, and 8 more. Buffers on transfer lists count apart. */
    size_t capacity;        /* Bytes that the queue holds before it grows, or grows again. */
    size_t high_water;      /* The highest value of `bytes` at the times when it seemed full or `queued` was called. */
    size_t max_message_len; /* Bytes of data in the longest message. */
    size_t max_inline_len;  /* Bytes of data in the longest message that the queue takes before it grows: 7/16 of the
                               channel's capacity, less 8. Longer data makes the queue grow, or travels in a buffer if
                               the queue may not grow so far. The receiver does not notice. */
    size_t transferred;     /* Bytes of the transfer buffers in messages that the peer has not read, perhaps more. No
                               limit of the channel applies to them. */
} msgport_queued;

#define MSGPORT_QUEUED_INIT { sizeof(msgport_queued), 0, 0, 0, 0, 0, 0 }

/*
 * Returns how full the queue towards the peer is, and how long a message may be. The peer may read at any time: bytes
 * is outdated as soon as it is returned. bytes, capacity, high_water and transferred are 0 for a port that is closed or
 * transferred or has an open reservation.
 *
 * In      port    A port or a sending half.
 * Out     queued  Its size is an input.
 * Codes   MSGPORT_BAD_OPTIONS        The size of queued is impossible.
 *         MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_DETACHED           port was given to a child process, a client or a server, or was joined.
 * Exclusive on port.
 */
msgport_code msgport_port_queued(msgport_port *port, msgport_queued *queued);

/* ---- Writing in place ------------------------------------------------------------------------------------------- */

/*
 * Reserves space for a message that the caller writes in place. The peer does not see it before msgport_port_commit().
 * A port has at most one open reservation; until it is committed or abandoned, posting returns MSGPORT_BORROWED.
 *
 * In      port    A port or a sending half.
 *         len     Bytes.
 * Out     data    The space, aligned to 8. Bytes that the caller does not write have arbitrary values.
 * Owner   The memory belongs to the channel. It is valid until the reservation is committed or abandoned or the port is
 *         freed; a forked child must not access it.
 * Codes   MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_WATCHED            port is in an event loop or a set.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_BORROWED           A reservation is already open.
 *         MSGPORT_TOO_LARGE          len is more than max_message_len of msgport_port_queued().
 *         MSGPORT_PEER_CLOSED        The peer was closed.
 *         MSGPORT_PEER_DIED          The process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         MSGPORT_FULL               The queue has grown to its limit and is full.
 *         MSGPORT_LANE_FULL          Too many messages with buffers of their own are unread.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 * Exclusive on port.
 */
msgport_code msgport_port_reserve(msgport_port *port, size_t len, void **data);

/*
 * Posts the message in the reservation.
 *
 * In      port
 *         len     Bytes to post, from the beginning of the space.
 * Owner   The reservation has ended, on success and on failure, except after MSGPORT_OUT_OF_RANGE.
 * Codes   MSGPORT_NOTHING_OPEN       There is no reservation.
 *         MSGPORT_OUT_OF_RANGE       len is more than was reserved. The reservation is still open.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_CLOSED             port was closed since.
 *         MSGPORT_PEER_CLOSED        The peer was closed.
 *         MSGPORT_PEER_DIED          The process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         If more than max_inline_len of msgport_port_queued() was reserved, also:
 *         MSGPORT_FULL               The queue has grown to its limit and is full.
 *         MSGPORT_LANE_FULL          Too many messages with buffers of their own are unread.
 *         MSGPORT_RESOURCE_EXHAUSTED Too many descriptors are in flight.
 * Exclusive on port.
 */
msgport_code msgport_port_commit(msgport_port *port, size_t len);

/*
 * Ends the reservation without posting. The peer sees no trace of it.
 *
 * In      port
 * Codes   MSGPORT_NOTHING_OPEN       There is no reservation.
 * Exclusive on port.
 */
msgport_code msgport_port_abandon(msgport_port *port);

/* ---- Receiving -------------------------------------------------------------------------------------------------- */

/*
 * Receives the next message as a new one.
 *
 * In      port    A port or a receiving half.
 *         timeout 0, the longest time to wait for a message, or MSGPORT_FOREVER.
 * Out     message
 * Owner   The message belongs to the caller, which frees it.
 * Codes   MSGPORT_EMPTY              Timeout 0: there is no message.
 *         MSGPORT_TIMED_OUT          Other timeouts: no message came in time.
 *         MSGPORT_WRONG_HALF         port is a sending half.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_BORROWED           A message of port is being read in place.
 *         MSGPORT_PEER_CLOSED        All messages have been received, and the peer was closed.
 *         MSGPORT_PEER_DIED          All messages have been received, and the process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         MSGPORT_MESSAGE_ERROR      The message cannot be received: the standard's `messageerror`. It is consumed, and
 *                                    everything on its transfer list is closed.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or descriptors left for what the message carries. The
 *                                    message stays queued. Pause, and call again: one for whose descriptors there
 *                                    is no room is given up after at least 16 calls over at
 *                                    least 5 s, as MSGPORT_MESSAGE_ERROR.
 * Exclusive on port.
 */
msgport_code msgport_port_recv(msgport_port *port, int64_t timeout, msgport_message **message);

/*
 * Receives the next message into memory that is used again: once that has grown, nothing is allocated.
 *
 * In      port    A port or a receiving half.
 *         timeout 0, the longest time to wait for a message, or MSGPORT_FOREVER.
 *         message A message of msgport_message_new() or of an earlier call. Its contents are dropped first: ports that
 *                 were not taken out are closed, buffers freed.
 * Out     data    The bytes, as from msgport_message_data(). NULL if it is not needed.
 *         len     Their number. NULL if it is not needed.
 * Owner   The message stays with the caller. On failure it is empty; after MSGPORT_MESSAGE_ERROR it holds the data of
 *         the message that could not be received.
 * Codes   MSGPORT_EMPTY              Timeout 0: there is no message.
 *         MSGPORT_TIMED_OUT          Other timeouts: no message came in time.
 *         MSGPORT_WRONG_HALF         port is a sending half.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_BORROWED           A message of port is being read in place.
 *         MSGPORT_PEER_CLOSED        All messages have been received, and the peer was closed.
 *         MSGPORT_PEER_DIED          All messages have been received, and the process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         MSGPORT_MESSAGE_ERROR      The message cannot be received. It is consumed, and everything on its transfer
 *                                    list is closed.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or descriptors left for what the message carries. The
 *                                    message stays queued. Pause, and call again: one for whose descriptors there
 *                                    is no room is given up after at least 16 calls over at
 *                                    least 5 s, as MSGPORT_MESSAGE_ERROR.
 * Exclusive on port and message.
 */
msgport_code msgport_port_recv_into(msgport_port *port, int64_t timeout, msgport_message *message, const void **data,
                                    size_t *len);

/*
 * Receives several messages: waits for the first, and takes as many as are there behind it, up to the next one with a
 * transfer list, which comes first in the next call.
 *
 * In      port     A port or a receiving half, in no set.
 *         timeout  0, the longest time to wait for the first message, or MSGPORT_FOREVER.
 *         messages `count` handles, each of another message. NULL if count is 0. Their contents are dropped first.
 * Out     received The number of messages; the first so many handles have them. 0 on failure.
 * Codes   Why there is no first message. After MSGPORT_MESSAGE_ERROR the first handle has the data.
 *         MSGPORT_EMPTY              Timeout 0: there is no message.
 *         MSGPORT_TIMED_OUT          Other timeouts: no message came in time.
 *         MSGPORT_BAD_ARGUMENT       count is more than memory can hold, or a handle is there twice.
 *         MSGPORT_WRONG_HALF         port is a sending half.
 *         MSGPORT_WATCHED            port is in an event loop or a set.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_BORROWED           A message is being read in place.
 *         MSGPORT_PEER_CLOSED        All messages have been received, and the peer was closed.
 *         MSGPORT_PEER_DIED          All messages have been received, and the process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         MSGPORT_MESSAGE_ERROR      The message cannot be received. It is consumed.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or descriptors left for what the message carries. The
 *                                    message stays queued.
 * Exclusive on port and messages.
 */
msgport_code msgport_port_recv_messages(msgport_port *port, int64_t timeout, msgport_message *const *messages,
                                        size_t count, size_t *received);

/*
 * Receives the next message in place. A port has at most one open message in place; until msgport_port_release() the
 * receiving functions return MSGPORT_BORROWED.
 *
 * A malicious peer can still write to these bytes. Unless the peer is trusted, do not read a byte twice and rely on
 * both values being the same.
 *
 * In      port    A port or a receiving half.
 *         timeout 0, the longest time to wait for a message, or MSGPORT_FOREVER.
 *         rest    Receives the ports, buffers and so on that came with the message; its own data stays empty. Its
 *                 contents are dropped first. If it is NULL, they are closed and freed at the release.
 * Out     data    The bytes, aligned to 8.
 *         len     Their number.
 * Owner   The memory belongs to the channel. It is valid until msgport_port_release() or msgport_port_free(); a forked
 *         child must not access it.
 * Codes   MSGPORT_EMPTY              Timeout 0: there is no message.
 *         MSGPORT_TIMED_OUT          Other timeouts: no message came in time.
 *         MSGPORT_WRONG_HALF         port is a sending half.
 *         MSGPORT_WATCHED            port is in an event loop or a set.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_BORROWED           A message of port is already being read in place.
 *         MSGPORT_PEER_CLOSED        All messages have been received, and the peer was closed.
 *         MSGPORT_PEER_DIED          All messages have been received, and the process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         MSGPORT_MESSAGE_ERROR      The message cannot be received. It is consumed, and everything on its transfer
 *                                    list is closed.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or descriptors left for what the message carries. The
 *                                    message stays queued. Pause, and call again: one for whose descriptors there
 *                                    is no room is given up after at least 16 calls over at
 *                                    least 5 s, as MSGPORT_MESSAGE_ERROR.
 * Exclusive on port and rest.
 */
msgport_code msgport_port_recv_ref(msgport_port *port, int64_t timeout, msgport_message *rest, const void **data,
                                   size_t *len);

/*
 * Ends the reading in place and returns the space to the sender.
 *
 * In      port
 * Codes   MSGPORT_NOTHING_OPEN       No message is being read in place.
 * Exclusive on port.
 */
msgport_code msgport_port_release(msgport_port *port);

/* ---- Waiting ---------------------------------------------------------------------------------------------------- */

/*
 * Sets how long a blocked call spins before it sleeps. The default is 20 us, about the cost of a sleep and a wake-up;
 * the port reduces it while spinning does not help, and does not spin by default if the calling thread has only one CPU
 * to run on. A budget set here is used in any case.
 *
 * A client or server keeps the budget of its port: set it before msgport_client_new() or msgport_server_new(). In an
 * event loop msgport_loop_set_spin() applies instead, and in a set msgport_portset_set_spin().
 *
 * In      port         A port or a half.
 *         nanoseconds  The budget. 0: a blocked call sleeps at once. MSGPORT_FOREVER: it never sleeps.
 * Codes   none of its own
 * Exclusive on port.
 */
msgport_code msgport_port_set_spin(msgport_port *port, int64_t nanoseconds);

/*
 * Sets how long msgport_portset_next() spins before it sleeps, 20 us by default; see msgport_port_set_spin().
 * The call spins if 1 to 16 ports of the set had messages lately, and otherwise sleeps at once.
 *
 * In      set
 *         nanoseconds  The budget. 0: the call sleeps at once. MSGPORT_FOREVER: a call that spins never sleeps.
 * Codes   MSGPORT_FORKED  set was inherited by fork.
 * Exclusive on set.
 */
msgport_code msgport_portset_set_spin(msgport_portset *set, int64_t nanoseconds);

/*
 * Returns the descriptor that a `poll`, `epoll` or libuv loop waits on, level-triggered. It becomes readable when a
 * message may have arrived and when the peer is gone.
 *
 * Poll it for reading only; never read, write or close it. BEFORE EACH POLL call msgport_port_recv_into() or
 * msgport_port_recv() with a timeout of 0 until it returns MSGPORT_EMPTY: that arms the wake-up. Ask for the descriptor
 * before the first of these calls. Remove it from an epoll set before the port is transferred or freed. Once the
 * descriptor has been asked for, each MSGPORT_EMPTY costs a system call.
 *
 * While a peer is stopped in the middle of posting a transfer list, the descriptor may stay readable although there is
 * no message; a loop that must not spin then backs off with a timer.
 *
 * In      port         A port or a receiving half.
 * Out     descriptor   Borrowed: valid until the port is freed.
 * Codes   MSGPORT_WRONG_HALF         port is a sending half.
 *         MSGPORT_WATCHED            port is in an event loop or a set.
 *         MSGPORT_DETACHED           port was given to a child process, a client or a server, or was joined.
 * Exclusive on port.
 */
msgport_code msgport_port_descriptor(msgport_port *port, int *descriptor);

/*
 * Replaces the channel of a port by a new one with the same limits: for a port that a stranger made or held.
 *
 * A process that makes a channel, or that a port travels through, can keep duplicates of its descriptors. With them it
 * can take what is sent over the channel, or keep a receiving call of this process waiting past its timeout. This end
 * of the new channel never leaves this process, so nobody can delay its calls. A stranger that also kept duplicates of
 * the peer's end can take the other end before the peer does, and is then the peer.
 *
 * The other end of the new channel is posted over the old one, as a message without data, and the old channel is
 * closed. The peer must expect that: it takes a port out of its next message, and goes on with it. What is queued here
 * is dropped unread, so call this before anything else. It does not wait.
 *
 * In      port      Becomes this side's end of the new channel. A descriptor of msgport_port_descriptor() is closed.
 * Codes   MSGPORT_FULL               The queue is full.
 *         MSGPORT_LANE_FULL          Too many messages with transfer lists are unread.
 *         MSGPORT_PEER_CLOSED        The peer is gone; also MSGPORT_PEER_DIED, MSGPORT_PROTOCOL_VIOLATION.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port was transferred, given to a child process, a client or a server, or joined.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_WRONG_HALF         port is a half.
 *         MSGPORT_WATCHED            port is in an event loop or a set.
 *         MSGPORT_BORROWED           A reservation or a message in place is open.
 *         MSGPORT_TOO_MANY_HANDLES   The channel carries fewer than two descriptors in a message.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 * Exclusive on port.
 */
msgport_code msgport_port_renew(msgport_port *port);

/* ---- The end of the peer ---------------------------------------------------------------------------------------- */

/*
 * Returns whether the peer is there, without a message: nothing is received or posted, and what the peer posted before
 * it went can still be received. The answer is the kernel's at this moment. A peer in transit is there.
 *
 * A post notices the same by itself, after at most 64 posts or 10 ms of posting, whichever comes later.
 *
 * In      port    A port or a half.
 * Codes   MSGPORT_OK                 The peer is there.
 *         MSGPORT_PEER_CLOSED        The peer was closed.
 *         MSGPORT_PEER_DIED          The process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_WRONG_HALF         port is a receiving half in an event loop.
 * Exclusive on port.
 */
msgport_code msgport_port_peer_state(msgport_port *port);

/*
 * Waits until the peer is gone, without a message; see msgport_port_peer_state(). Never returns MSGPORT_OK.
 *
 * In      port    A port or a half.
 *         timeout 0, the longest time to wait, or MSGPORT_FOREVER.
 * Codes   MSGPORT_EMPTY              Timeout 0: the peer is there.
 *         MSGPORT_TIMED_OUT          Other timeouts: the peer is still there.
 *         MSGPORT_PEER_CLOSED        The peer was closed.
 *         MSGPORT_PEER_DIED          The process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_WATCHED            port is in an event loop or a set.
 *         MSGPORT_WRONG_HALF         Timeout 0: port is a receiving half in an event loop.
 * Exclusive on port.
 */
msgport_code msgport_port_closed(msgport_port *port, int64_t timeout);

/* ---- Interrupting ----------------------------------------------------------------------------------------------- */

/*
 * Makes a handle with which any thread, or a signal handler, ends a wait on a port: a receive, a post that waits for
 * space, msgport_port_closed(). The wait returns MSGPORT_INTERRUPTED. Nothing is lost: the next call goes on.
 *
 * An interrupt ends one wait: the one that is under way or, if no thread waits, the next one. Several interrupts before
 * that count as one. A call that need not wait leaves the interrupt for the next wait. After msgport_port_split() the
 * interrupter of the whole port ends one wait of either half; that of a half, of this half.
 *
 * An event loop has a msgport_remote instead.
 *
 * In      port         A port or a half.
 * Out     interrupter  Belongs to the caller, which frees it. It keeps nothing alive, and may outlive the port. The
 *                      first one of a port takes two descriptors, that of a half one.
 * Codes   MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_DETACHED           port was given to a child process, a client or a server, or was joined.
 *         MSGPORT_WRONG_HALF         port is a receiving half in an event loop or a set.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no descriptors left.
 * Exclusive on port.
 */
msgport_code msgport_port_interrupter(msgport_port *port, msgport_interrupter **interrupter);

/*
 * As msgport_port_interrupter(), for the waits of msgport_portset_next().
 *
 * In      set
 * Out     interrupter  Belongs to the caller, which frees it.
 * Codes   MSGPORT_FORKED             set was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no descriptors left.
 * Exclusive on set.
 */
msgport_code msgport_portset_interrupter(msgport_portset *set, msgport_interrupter **interrupter);

/*
 * As msgport_port_interrupter(), for the waits of a client. Of several threads that wait on it, an interrupt ends the
 * wait of one. An interrupted msgport_client_call() is over, and its answer is dropped; after an interrupted
 * msgport_pending_wait() the call is still open.
 *
 * In      client
 * Out     interrupter  Belongs to the caller, which frees it.
 * Codes   MSGPORT_FORKED             client was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no descriptors left.
 * May run at the same time as other functions that take a const client.
 */
msgport_code msgport_client_interrupter(const msgport_client *client, msgport_interrupter **interrupter);

/*
 * As msgport_port_interrupter(), for the wait of a server for a request.
 *
 * In      server
 * Out     interrupter  Belongs to the caller, which frees it.
 * Codes   MSGPORT_FORKED             server was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no descriptors left.
 * Exclusive on server.
 */
msgport_code msgport_server_interrupter(msgport_server *server, msgport_interrupter **interrupter);

/*
 * Ends the present wait or, if no thread waits, the next one. Does nothing once the port is closed, moved or freed, and
 * in a forked child. A signal handler may call it, while no other thread frees the port.
 *
 * In      interrupter
 * Codes   none of its own
 * Thread-safe.
 */
msgport_code msgport_interrupter_interrupt(const msgport_interrupter *interrupter);

/*
 * Frees an interrupter.
 *
 * In      interrupter  NULL is allowed.
 * Exclusive on interrupter.
 */
void msgport_interrupter_free(msgport_interrupter *interrupter);

/*
 * Sets whether a signal ends a wait on the port, after its handler has run: the wait returns MSGPORT_INTERRUPTED. By
 * default it does not. SA_RESTART does not matter. A signal that arrives just before the thread falls asleep does not
 * end the wait; a handler that calls msgport_interrupter_interrupt() misses nothing.
 *
 * In      port    A port or a half.
 *         ends    0: no. Any other number: yes.
 * Codes   MSGPORT_DETACHED           port was given to a child process, a client or a server, or was joined.
 *         MSGPORT_WRONG_HALF         port is a receiving half in an event loop or a set.
 * Exclusive on port.
 */
msgport_code msgport_port_set_interrupt_on_signal(msgport_port *port, int ends);

/*
 * As msgport_port_set_interrupt_on_signal(), for the waits of msgport_portset_next().
 *
 * In      set
 *         ends    0: no. Any other number: yes.
 * Codes   MSGPORT_FORKED             set was inherited by fork.
 * Exclusive on set.
 */
msgport_code msgport_portset_set_interrupt_on_signal(msgport_portset *set, int ends);

/* ---- Halves ----------------------------------------------------------------------------------------------------- */

/*
 * Splits a port, so that one thread can post while another one receives; both may block at the same time. A half cannot
 * be transferred. Freeing the sending half closes nothing as long as the receiving half lives. If the receiving half is
 * freed first, queued messages and those that still arrive are dropped.
 *
 * In      port      Becomes the sending half.
 * Out     receiver  The receiving half.
 * Owner   On success both halves belong to the caller, which frees each of them.
 * Codes   MSGPORT_WRONG_HALF         port is a half.
 *         MSGPORT_WATCHED            port is in an event loop or a set.
 *         MSGPORT_DETACHED           port was given to a child process, a client or a server, or was joined.
 *         MSGPORT_BORROWED           A reservation or a message in place is open.
 * Exclusive on port.
 */
msgport_code msgport_port_split(msgport_port *port, msgport_port **receiver);

/*
 * Joins the two halves of a port.
 *
 * In      port      The sending half. Becomes the whole port.
 *         receiver  The receiving half. Becomes detached; the caller still frees it.
 * Codes   MSGPORT_WRONG_HALF         port is not a sending half, or receiver is not a receiving half.
 *         MSGPORT_DIFFERENT_PORTS    The halves belong to different ports, or port and receiver are the same handle.
 *         MSGPORT_WATCHED            A half is in an event loop or a set.
 *         MSGPORT_DETACHED           One of them was given to a child process, a client or a server, or was joined.
 *         MSGPORT_BORROWED           A reservation or a message in place is open.
 * Exclusive on port and receiver.
 */
msgport_code msgport_port_join(msgport_port *port, msgport_port *receiver);

/* ---- Messages --------------------------------------------------------------------------------------------------- */

/*
 * Makes an empty message, to receive into.
 *
 * Out     message   Belongs to the caller, which frees it.
 * Codes   none of its own
 * Thread-safe.
 */
msgport_code msgport_message_new(msgport_message **message);

/*
 * Frees a message and its contents: ports and descriptors that were not taken out are closed, buffers freed.
 *
 * In      message   NULL is allowed. The message that a handler receives belongs to its loop: nothing happens.
 * Exclusive on message.
 */
void msgport_message_free(msgport_message *message);

/*
 * Drops the contents of a message, and keeps its memory for the next one.
 *
 * In      message
 * Codes   none of its own
 * Exclusive on message.
 */
msgport_code msgport_message_clear(msgport_message *message);

/*
 * Returns the data of a message.
 *
 * In      message
 * Out     data    Memory of this process alone. Never NULL.
 *         len     Bytes; 0 for a message without data.
 * Owner   The data belongs to the message: it is valid until the message is received into, cleared or freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const message.
 */
msgport_code msgport_message_data(const msgport_message *message, const void **data, size_t *len);

/*
 * Returns the number of things of one kind that came with a message, including those that were taken out.
 *
 * In      message
 *         kind    MSGPORT_ITEM_PORT and so on.
 * Out     count
 * Codes   MSGPORT_BAD_ARGUMENT   There is no such kind.
 * May run at the same time as other functions that take a const message.
 */
msgport_code msgport_message_count(const msgport_message *message, uint32_t kind, size_t *count);

/*
 * Takes a thing out of a message, as an item that can be posted on. Functions for one kind each follow.
 *
 * In      message
 *         kind    MSGPORT_ITEM_PORT and so on.
 *         index   Its index among the things of this kind in the message, from 0, in the order of the transfer list.
 * Out     item    Of this kind.
 * Owner   The handle or descriptor in item belongs to the caller, which frees or closes it. The message no longer holds
 *         it.
 * Codes   MSGPORT_BAD_ARGUMENT   There is no such kind.
 *         MSGPORT_OUT_OF_RANGE   index is not less than the count.
 *         MSGPORT_TAKEN          The thing has already been taken out.
 * Exclusive on message.
 */
msgport_code msgport_message_take(msgport_message *message, uint32_t kind, size_t index, msgport_item *item);

/* Takes a port out of a message: as msgport_message_take(). The caller frees it. */
static inline msgport_code msgport_message_take_port(msgport_message *message, size_t index, msgport_port **port)
{
    msgport_item item;
    msgport_code code;
    if (port == NULL) return MSGPORT_NULL_ARGUMENT;
    code = msgport_message_take(message, MSGPORT_ITEM_PORT, index, &item);
    if (code == MSGPORT_OK) *port = item.of.port;
    return code;
}

/* Takes a buffer out of a message: as msgport_message_take(). The caller frees it. */
static inline msgport_code msgport_message_take_buffer(msgport_message *message, size_t index, msgport_buffer **buffer)
{
    msgport_item item;
    msgport_code code;
    if (buffer == NULL) return MSGPORT_NULL_ARGUMENT;
    code = msgport_message_take(message, MSGPORT_ITEM_BUFFER, index, &item);
    if (code == MSGPORT_OK) *buffer = item.of.buffer;
    return code;
}

/* Takes a frozen buffer out of a message: as msgport_message_take(). The caller frees it. */
static inline msgport_code msgport_message_take_frozen(msgport_message *message, size_t index, msgport_frozen **frozen)
{
    msgport_item item;
    msgport_code code;
    if (frozen == NULL) return MSGPORT_NULL_ARGUMENT;
    code = msgport_message_take(message, MSGPORT_ITEM_FROZEN, index, &item);
    if (code == MSGPORT_OK) *frozen = item.of.frozen;
    return code;
}

/* Takes a shared buffer out of a message: as msgport_message_take(). The caller frees it. */
static inline msgport_code msgport_message_take_shared(msgport_message *message, size_t index, msgport_shared **shared)
{
    msgport_item item;
    msgport_code code;
    if (shared == NULL) return MSGPORT_NULL_ARGUMENT;
    code = msgport_message_take(message, MSGPORT_ITEM_SHARED, index, &item);
    if (code == MSGPORT_OK) *shared = item.of.shared;
    return code;
}

/*
 * Takes a descriptor out of a message: as msgport_message_take(). The caller closes it. It is closed on exec. It can be
 * any descriptor that the sender had: check what it is before using it. Closing it can take long, for a socket that
 * lingers for example, and releases all locks that this process holds on its file by F_SETLK.
 */
static inline msgport_code msgport_message_take_descriptor(msgport_message *message, size_t index, int *descriptor)
{
    msgport_item item;
    msgport_code code;
    if (descriptor == NULL) return MSGPORT_NULL_ARGUMENT;
    code = msgport_message_take(message, MSGPORT_ITEM_DESCRIPTOR, index, &item);
    if (code == MSGPORT_OK) *descriptor = item.of.descriptor;
    return code;
}

/* ---- Buffers ---------------------------------------------------------------------------------------------------- */

/*
 * Makes a buffer: memory for transfer lists, all zero. Posting it moves the memory itself to the receiver, whatever its
 * size. There are exceptions, in a post with timeout 0: a buffer of at most 4 KiB that is not recycled, and one of at
 * most max_inline_len bytes when the system takes no further descriptors in unread messages, may be copied instead. A
 * buffer can be posted on, over any port, any number of times. All of its memory is allocated here, so that a
 * shortage is an error of this call. From 16 MiB on, len is compared with the memory that the system has available and
 * that the memory cgroups of the process leave. A smaller buffer can still exhaust a cgroup, and then the kernel kills
 * a process. So can an access to a buffer that a process which kept it against the protocol has returned to the system.
 *
 * In      len     Bytes; 0 is allowed.
 * Out     buffer  Belongs to the caller, which frees it. It takes one descriptor.
 * Codes   MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left, or len is more than 1 TiB or the
 *                                    file size limit.
 * Thread-safe.
 */
msgport_code msgport_buffer_new(size_t len, msgport_buffer **buffer);

/*
 * Frees the handle of a buffer, and the memory with its last handle in any process.
 *
 * In      buffer  NULL is allowed.
 * Exclusive on buffer.
 */
void msgport_buffer_free(msgport_buffer *buffer);

/*
 * Returns the length of a buffer: the standard's `ArrayBuffer.byteLength`.
 *
 * In      buffer
 * Out     len     Bytes; 0 for a buffer that has moved away.
 * Codes   none of its own
 * Exclusive on buffer.
 */
msgport_code msgport_buffer_len(msgport_buffer *buffer, size_t *len);

/*
 * Copies bytes out of a buffer.
 *
 * In      buffer
 *         offset  The first byte in the buffer.
 *         len     Bytes to copy.
 * Out     into    `len` bytes.
 * Codes   MSGPORT_OUT_OF_RANGE   The range is not inside the buffer. Nothing was copied.
 *         MSGPORT_BAD_ARGUMENT   len is more than PTRDIFF_MAX.
 *         MSGPORT_DETACHED       The buffer has moved away.
 *         MSGPORT_FORKED         The buffer was inherited by fork.
 * Exclusive on buffer.
 */
msgport_code msgport_buffer_read_at(msgport_buffer *buffer, size_t offset, void *into, size_t len);

/*
 * Copies bytes into a buffer.
 *
 * In      buffer
 *         offset  The first byte in the buffer.
 *         from    The bytes, `len` of them.
 * Codes   MSGPORT_OUT_OF_RANGE   The range is not inside the buffer. Nothing was copied.
 *         MSGPORT_BAD_ARGUMENT   len is more than PTRDIFF_MAX.
 *         MSGPORT_DETACHED       The buffer has moved away.
 *         MSGPORT_FORKED         The buffer was inherited by fork.
 * Exclusive on buffer.
 */
msgport_code msgport_buffer_write_at(msgport_buffer *buffer, size_t offset, const void *from, size_t len);

/*
 * Returns the memory of a buffer in place. A former holder that kept the memory against the protocol can still read and
 * write it.
 *
 * In      buffer
 * Out     data    Aligned to a page. Never NULL.
 *         len     Bytes.
 * Owner   The memory belongs to the buffer: it is valid until the buffer is posted or freed; a forked child must not
 *         access it.
 * Codes   MSGPORT_DETACHED       The buffer has moved away.
 *         MSGPORT_FORKED         The buffer was inherited by fork.
 * Exclusive on buffer.
 */
msgport_code msgport_buffer_data(msgport_buffer *buffer, void **data, size_t *len);

/*
 * Returns a buffer for posting on this port: one that came back, if there is one, or a new one.
 *
 * A buffer that was posted on this port and came back costs no system call and no page fault, and posting it again
 * costs the same whatever its size: the peer has kept its mapping. A buffer comes back when the peer frees it, or posts
 * it back over this channel. Its bytes are those last written by either side; the bytes of a new buffer are zero. Both
 * sides keep as many buffers as the options of the channel allow, those of msgport_buffer_new() included.
 *
 * In      port    A port or a sending half.
 *         len     Bytes.
 * Out     buffer  Belongs to the caller, which frees it.
 * Codes   MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_DETACHED           port was given to a child process, a client or a server, or was joined.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left, or len is more than 1 TiB or the
 *                                    file size limit.
 * Exclusive on port.
 */
msgport_code msgport_port_buffer(msgport_port *port, size_t len, msgport_buffer **buffer);

/*
 * Releases the memory of this port's buffers that are not in use at the moment.
 *
 * In      port    A port or a sending half.
 * Out     count   The number of buffers released; fewer than there are if the queue is full.
 * Codes   MSGPORT_WRONG_HALF         port is a receiving half.
 *         MSGPORT_FORKED             port was inherited by fork.
 *         MSGPORT_CLOSED             port was closed.
 *         MSGPORT_DETACHED           port has moved away.
 *         MSGPORT_BORROWED           A reservation is open on port.
 *         MSGPORT_PEER_CLOSED        The peer was closed.
 *         MSGPORT_PEER_DIED          The process of the peer ended.
 *         MSGPORT_PROTOCOL_VIOLATION The peer violated the format of the queue.
 * Exclusive on port.
 */
msgport_code msgport_port_release_buffers(msgport_port *port, size_t *count);

/* ---- Frozen buffers --------------------------------------------------------------------------------------------- */

/*
 * A frozen buffer is memory that no process can write: not this one, none that had it before, none that
 * receives it. The kernel enforces that, and each receiver verifies it. To share data with many readers, freeze it once
 * and post it to each: all of them read the same memory. A child made by fork can go on reading what it inherited.
 */

/*
 * Makes a frozen buffer from a copy of bytes.
 *
 * In      data    The bytes, `len` of them.
 * Out     frozen  Belongs to the caller, which frees it. It takes one descriptor.
 * Codes   MSGPORT_BAD_ARGUMENT       len is more than PTRDIFF_MAX.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left, or len is more than the file size
 *                                    limit.
 * Thread-safe.
 */
msgport_code msgport_frozen_from_bytes(const void *data, size_t len, msgport_frozen **frozen);

/*
 * Makes a frozen buffer from a copy of the contents of a regular file.
 *
 * In      descriptor  The file. It stays open, and its offset does not change.
 * Out     frozen      Belongs to the caller, which frees it. It takes one descriptor.
 * Codes   MSGPORT_BAD_ARGUMENT       descriptor is negative.
 *         MSGPORT_UNREADABLE         The file is not a regular one, or was not readable to the end that it had when the
 *                                    call began.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left, or the file is longer than the
 *                                    file size limit.
 * Thread-safe.
 */
msgport_code msgport_frozen_from_file(int descriptor, msgport_frozen **frozen);

/*
 * Freezes a buffer: its memory becomes that of a frozen buffer, without a copy. After a post of the buffer that failed,
 * the frozen buffer may be a copy instead.
 *
 * In      buffer  A buffer that was made here, not received.
 * Out     frozen  Belongs to the caller, which frees it.
 * Owner   On success the handle of the buffer is detached, and the caller still frees it. On failure it is unchanged.
 * Codes   MSGPORT_NOT_NEW            The buffer was received: a former holder may have kept access to its memory.
 *         MSGPORT_MAPPED_ELSEWHERE   A process that obtained the memory against the protocol has mapped it for writing.
 *         MSGPORT_DETACHED           The buffer has moved away.
 *         MSGPORT_FORKED             The buffer was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 * Exclusive on buffer.
 */
msgport_code msgport_buffer_freeze(msgport_buffer *buffer, msgport_frozen **frozen);

/*
 * Frees a handle of a frozen buffer, and the memory with its last handle in any process.
 *
 * In      frozen  NULL is allowed.
 * Exclusive on frozen.
 */
void msgport_frozen_free(msgport_frozen *frozen);

/*
 * Makes another handle of the same memory.
 *
 * In      frozen
 * Out     clone    Belongs to the caller, which frees it.
 * Codes   none of its own
 * May run at the same time as other functions that take a const frozen buffer.
 */
msgport_code msgport_frozen_clone(const msgport_frozen *frozen, msgport_frozen **clone);

/*
 * Returns the bytes of a frozen buffer, in place.
 *
 * In      frozen
 * Out     data     Aligned to a page. Never NULL. Writing to it raises SIGSEGV.
 *         len      Bytes.
 * Owner   The memory belongs to the buffer: it is valid until the buffer's last handle in this process is freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const frozen buffer.
 */
msgport_code msgport_frozen_data(const msgport_frozen *frozen, const void **data, size_t *len);

/* ---- Shared buffers --------------------------------------------------------------------------------------------- */

/*
 * Makes a shared buffer: memory that several holders, in any processes, read and write at the same time, all zero.
 * Posting it gives the receiver a handle of the same memory. A child made by fork shares what it inherited.
 *
 * In      len      Bytes; 0 is allowed.
 * Out     shared   Belongs to the caller, which frees it. It takes one descriptor.
 * Codes   MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left, or len is more than 1 TiB or the
 *                                    file size limit.
 * Thread-safe.
 */
msgport_code msgport_shared_new(size_t len, msgport_shared **shared);

/*
 * Returns 1 if this build of the library has named buffers, which are a feature that its builder can leave out, and 0
 * if it has not: the functions of named buffers then return MSGPORT_LEFT_OUT.
 *
 * Thread-safe.
 */
int msgport_has_named_buffers(void);

/*
 * Makes a shared buffer with a name, for processes of one user that have no port between them. It cannot be on a
 * transfer list, since the size of its file cannot be sealed: if a process of the same user truncates the file, which
 * no process does through this library, accesses to the memory raise SIGBUS.
 *
 * The name is removed when the last handle that this function made is freed; processes that have the buffer open keep
 * the memory. A process that is killed leaves its names behind: see msgport_shared_remove_name().
 *
 * In      name     UTF-8, at most 240 bytes, without a slash.
 *         len      Bytes.
 * Out     shared   Belongs to the caller, which frees it.
 * Codes   MSGPORT_BAD_NAME           The name is empty, too long, not UTF-8, or has a slash.
 *         MSGPORT_NAME_EXISTS        The name is taken, by a buffer or by another file.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left; /dev/shm may be full.
 *         MSGPORT_LEFT_OUT           This build of the library has no named buffers.
 * Thread-safe.
 */
msgport_code msgport_shared_create_named(const char *name, size_t len, msgport_shared **shared);

/*
 * Opens a shared buffer by its name. It cannot be on a transfer list; see msgport_shared_create_named().
 *
 * In      name     UTF-8, at most 240 bytes, without a slash.
 *         min_len  Bytes that the buffer must have.
 * Out     shared   Belongs to the caller, which frees it.
 * Codes   MSGPORT_BAD_NAME           The name is empty, too long, not UTF-8, or has a slash.
 *         MSGPORT_NAME_MISSING       There is no buffer of this name.
 *         MSGPORT_NOT_OURS           The name belongs to another user, or other users may open it.
 *         MSGPORT_UNFINISHED         The creator of the buffer has not finished it, or was killed before it had.
 *         MSGPORT_NOT_A_BUFFER       The name belongs to a file that is not a buffer.
 *         MSGPORT_TOO_SMALL          The buffer has fewer bytes than min_len.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 *         MSGPORT_LEFT_OUT           This build of the library has no named buffers.
 * Thread-safe.
 */
msgport_code msgport_shared_open_named(const char *name, size_t min_len, msgport_shared **shared);

/*
 * Removes the name of a shared buffer, for instance of a process that was killed.
 *
 * In      name     UTF-8, at most 240 bytes, without a slash.
 * Codes   MSGPORT_BAD_NAME           The name is empty, too long, not UTF-8, or has a slash.
 *         MSGPORT_NAME_MISSING       There is no such name.
 *         MSGPORT_NOT_OURS           The name belongs to another user.
 *         MSGPORT_RESOURCE_EXHAUSTED The system refused for another reason.
 *         MSGPORT_LEFT_OUT           This build of the library has no named buffers.
 * Thread-safe.
 */
msgport_code msgport_shared_remove_name(const char *name);

/*
 * Frees a handle of a shared buffer, and the memory with its last handle in any process.
 *
 * In      shared   NULL is allowed.
 * Exclusive on shared.
 */
void msgport_shared_free(msgport_shared *shared);

/*
 * Makes another handle of the same memory.
 *
 * In      shared
 * Out     clone    Belongs to the caller, which frees it.
 * Codes   none of its own
 * May run at the same time as other functions that take a const shared buffer.
 */
msgport_code msgport_shared_clone(const msgport_shared *shared, msgport_shared **clone);

/*
 * Returns the memory of a shared buffer, in place. Other holders write to it at the same time: access words by atomics,
 * and let those decide which holder may use the rest when.
 *
 * In      shared
 * Out     data     Aligned to a page. Never NULL.
 *         len      Bytes.
 * Owner   The memory belongs to the buffer: it is valid until the buffer's last handle in this process is freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const shared buffer.
 */
msgport_code msgport_shared_data(const msgport_shared *shared, void **data, size_t *len);

/*
 * Copies bytes out of a shared buffer while other holders may write to it: if a write overlaps, the copy is a mixture
 * of old and new bytes.
 *
 * In      shared
 *         offset  The first byte in the buffer.
 *         len     Bytes to copy.
 * Out     into    `len` bytes.
 * Codes   MSGPORT_OUT_OF_RANGE   The range is not inside the buffer. Nothing was copied.
 *         MSGPORT_BAD_ARGUMENT   len is more than PTRDIFF_MAX.
 * May run at the same time as other functions that take a const shared buffer.
 */
msgport_code msgport_shared_read_at(const msgport_shared *shared, size_t offset, void *into, size_t len);

/*
 * Copies bytes into a shared buffer while other holders may access it: if two writes overlap, the result is a mixture
 * of both.
 *
 * In      shared
 *         offset  The first byte in the buffer.
 *         from    The bytes, `len` of them.
 * Codes   MSGPORT_OUT_OF_RANGE   The range is not inside the buffer. Nothing was copied.
 *         MSGPORT_BAD_ARGUMENT   len is more than PTRDIFF_MAX.
 * May run at the same time as other functions that take a const shared buffer.
 */
msgport_code msgport_shared_write_at(const msgport_shared *shared, size_t offset, const void *from, size_t len);

/* ---- Event loops ------------------------------------------------------------------------------------------------ */

/*
 * A port in an event loop has handlers, as the standard's port has. Its handle stays the same. Everything can be done
 * with it except writing and reading in place, splitting, joining, giving it to a child, a client or a server, and
 * asking for its descriptor: those return MSGPORT_WATCHED. A receiving call bypasses the handlers. Freeing its handle
 * closes it.
 *
 * A port enters the loop *disabled*: its messages wait until msgport_port_start(), which is implied when the handler of
 * messages is set for the first time. From then on each message goes to the handlers; a message for which there is no
 * handler is dropped. A port leaves the loop when it is removed, closed or transferred, after the event that its peer
 * is gone, and when the loop is freed, which closes it. Its handlers are no longer needed then.
 *
 * The loop, its ports and its handlers belong to one thread, and may move to another one while no handler runs. A
 * handler may do anything: post, close, free or transfer its own port, add and remove handlers and ports. It may free
 * the loop, which then stops.
 */

/* Destroys user data that is no longer needed. */
typedef void (*msgport_destroy)(void *user);

/* A timer or a task. */
typedef void (*msgport_task)(msgport_loop *loop, void *user);

/*
 * The handler of a message. Things can be taken out of the message; the rest is dropped after the last handler. The
 * message itself belongs to the loop and is not freed. port is the handle that was added to the loop.
 */
typedef void (*msgport_message_handler)(msgport_port *port, msgport_message *message, void *user);

/*
 * The handler of a message that cannot be received: the standard's `messageerror`. Everything on its transfer list is
 * closed; `data` are its bytes. msgport_describe(MSGPORT_MESSAGE_ERROR) has the reason.
 */
typedef void (*msgport_message_error_handler)(msgport_port *port, const void *data, size_t len, void *user);

/*
 * The handler of the end: the peer is gone, and all its messages have been handled. reason is MSGPORT_PEER_CLOSED,
 * MSGPORT_PEER_DIED or MSGPORT_PROTOCOL_VIOLATION.
 */
typedef void (*msgport_close_handler)(msgport_port *port, msgport_code reason, void *user);

/*
 * The handler of errors that no call can return; the loop goes on. MSGPORT_RESOURCE_EXHAUSTED: a message cannot be
 * received at the moment and stays queued. MSGPORT_INTERNAL: a bug of the library.
 */
typedef void (*msgport_error_handler)(msgport_loop *loop, msgport_code code, void *user);

/*
 * Makes an event loop without ports.
 *
 * Out     loop    Belongs to the caller, which frees it. It takes three descriptors.
 * Codes   MSGPORT_RESOURCE_EXHAUSTED   The system has no memory or no descriptors left.
 * Thread-safe.
 */
msgport_code msgport_loop_new(msgport_loop **loop);

/*
 * Frees an event loop, after closing its ports, whose handles the caller still frees.
 *
 * In      loop    NULL is allowed.
 * Exclusive on loop and its ports.
 */
void msgport_loop_free(msgport_loop *loop);

/*
 * Adds a port to an event loop, disabled and without handlers.
 *
 * In      loop
 *         port    A port, or a receiving half, whose sending half may be used by another thread meanwhile.
 * Codes   MSGPORT_WRONG_HALF    port is a sending half.
 *         MSGPORT_WATCHED       port is already in an event loop or a set.
 *         MSGPORT_BORROWED      A reservation or a message in place is open on port.
 *         MSGPORT_DETACHED      port was given to a child process, a client or a server, or was joined.
 *         MSGPORT_FORKED        The loop or port was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED   The system has no memory or no descriptors left.
 * Exclusive on loop and port.
 */
msgport_code msgport_loop_add(msgport_loop *loop, msgport_port *port);

/*
 * Removes a port from an event loop, with all messages that have not been handled. It is an ordinary port again.
 *
 * In      loop
 *         port
 * Codes   MSGPORT_NOT_IN_LOOP   port is not in this loop.
 * Exclusive on loop and port.
 */
msgport_code msgport_loop_remove(msgport_loop *loop, msgport_port *port);

/*
 * Calls handlers until the loop is stopped, until no further event is possible (no port with a handler, no timer, no
 * listener or other descriptor that it watches, no msgport_remote), or until the timeout has passed. A handler that
 * MSGPORT_ADD_ONCE added and that was called does not count, nor do those of a port that is not started and whose peer
 * is gone.
 *
 * In      loop
 *         timeout 0: handles what is there now. Otherwise the longest time, or MSGPORT_FOREVER.
 * Codes   MSGPORT_RUNNING       A handler of the same loop made this call.
 *         MSGPORT_FORKED        The loop was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED   The system has no memory or no descriptors left.
 *         A timeout that has passed is MSGPORT_OK.
 * Exclusive on loop and its ports.
 */
msgport_code msgport_loop_run(msgport_loop *loop, int64_t timeout);

/*
 * Waits for an event and handles one round: tasks, timers that are due, and a batch of the messages of each port.
 *
 * A program with a loop of its own polls the descriptor of msgport_loop_descriptor() for reading, and calls this with a
 * timeout of 0 whenever it is readable; nothing else is required.
 *
 * In      loop
 *         timeout 0, the longest time to wait, or MSGPORT_FOREVER.
 * Out     count   The number of messages, ends, timers and tasks that were handled; 0 if the timeout has passed, if the
 *                 loop was stopped, or if no further event is possible. NULL if it is not needed.
 * Codes   MSGPORT_RUNNING       A handler of the same loop made this call.
 *         MSGPORT_FORKED        The loop was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED   The system has no memory or no descriptors left.
 *         A timeout that has passed is MSGPORT_OK.
 * Exclusive on loop and its ports.
 */
msgport_code msgport_loop_poll(msgport_loop *loop, int64_t timeout, size_t *count);

/*
 * Returns a descriptor that is readable when msgport_loop_poll() with a timeout of 0 has something to do, for a program
 * with a loop of its own.
 *
 * In      loop
 * Out     descriptor   Borrowed: valid until the loop is freed. Never read, write or close it.
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_descriptor(msgport_loop *loop, int *descriptor);

/*
 * Makes the current msgport_loop_run() return, or the next one if none is running. Messages that wait go on waiting.
 * For other threads there is msgport_remote_stop().
 *
 * In      loop
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_stop(msgport_loop *loop);

/*
 * Sets how many messages of one port are handled in a row before the other ports, timers and tasks have their turn. The
 * default is 1000; by default msgport_loop_poll() with a timeout of 0 also returns as soon as the messages have taken
 * 200 us, so that the timers of the program around it are not late. What is left keeps the descriptor readable. A batch
 * that was set has no such limit.
 *
 * In      loop
 *         messages
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_set_batch(msgport_loop *loop, size_t messages);

/*
 * Sets how long the loop spins before it sleeps; see msgport_port_set_spin().
 *
 * In      loop
 *         nanoseconds  The budget. 0: the loop sleeps at once. MSGPORT_FOREVER: it never sleeps.
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_set_spin(msgport_loop *loop, int64_t nanoseconds);

/*
 * Sets the handler of errors that no call can return, and replaces the one before. The default prints them on standard
 * error.
 *
 * In      loop
 *         handler, user, destroy
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_on_error(msgport_loop *loop, msgport_error_handler handler, void *user,
                                   msgport_destroy destroy);

/*
 * Calls a function once on the loop's thread after a delay: the standard's `setTimeout`.
 *
 * In      loop
 *         delay   Nanoseconds; a negative delay is 0.
 *         callback, user, destroy
 * Out     id      For msgport_loop_clear_timeout(). NULL if it is not needed.
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_set_timeout(msgport_loop *loop, int64_t delay, msgport_task callback, void *user,
                                      msgport_destroy destroy, uint64_t *id);

/*
 * Removes a timer: the standard's `clearTimeout`.
 *
 * In      loop
 *         id
 * Codes   MSGPORT_NOT_FOUND     The timer has already been called or removed.
 * Exclusive on loop.
 */
msgport_code msgport_loop_clear_timeout(msgport_loop *loop, uint64_t id);

/*
 * Calls a function on the loop's thread after each period: the standard's `setInterval`. msgport_loop_clear_timeout()
 * ends it. Periods that pass while other functions run are left out.
 *
 * In      loop
 *         period  Nanoseconds; at least 1 ms.
 *         callback, user, destroy
 * Out     id      For msgport_loop_clear_timeout(). NULL if it is not needed.
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_set_interval(msgport_loop *loop, int64_t period, msgport_task callback, void *user,
                                       msgport_destroy destroy, uint64_t *id);

/* What a descriptor is watched for, or ready for. */
#define MSGPORT_READABLE UINT32_C(1) /* It can be read, or accepts a connection, or its other side has hung up. */
#define MSGPORT_WRITABLE UINT32_C(2) /* It can be written, or its other side has hung up. */

/* The handler of a descriptor that is ready for MSGPORT_READABLE, MSGPORT_WRITABLE or both. */
typedef void (*msgport_ready_handler)(msgport_loop *loop, int descriptor, uint32_t ready, void *user);

/*
 * Calls a function whenever a descriptor of the program is ready, such as a socket, a pipe or a device: in each round
 * while it is, as the level-triggered epoll(7) does. A hang-up or an error makes it ready for all of `interest`; stop
 * watching it then, since it stays so. The loop runs as long as it watches something.
 *
 * In      loop
 *         descriptor Stays with the caller, which keeps it open until msgport_loop_unwatch() or msgport_loop_free().
 *         interest   MSGPORT_READABLE, MSGPORT_WRITABLE or both.
 *         handler, user, destroy
 * Out     id         For msgport_loop_unwatch(). NULL if it is not needed.
 * Codes   MSGPORT_BAD_ARGUMENT  interest has another value, or descriptor is negative.
 *         MSGPORT_FORKED        The loop was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED   The system has no memory left to watch one more descriptor.
 *         MSGPORT_SYSTEM        epoll_ctl(2) does not take the descriptor, which is closed, a regular file, or in this
 *                               loop already; msgport_os_error() has the reason.
 * Exclusive on loop.
 */
msgport_code msgport_loop_watch(msgport_loop *loop, int descriptor, uint32_t interest, msgport_ready_handler handler,
                                void *user, msgport_destroy destroy, uint64_t *id);

/*
 * Stops watching a descriptor or a listener, from inside its handler too. A listener is freed, and its name with it.
 *
 * In      loop
 *         id
 * Codes   MSGPORT_NOT_FOUND     It is not watched any more.
 * Exclusive on loop.
 */
msgport_code msgport_loop_unwatch(msgport_loop *loop, uint64_t id);

/*
 * Makes a handle for other threads. As long as there is one, msgport_loop_run() goes on, since a task may come.
 *
 * In      loop
 * Out     remote  Belongs to the caller; any thread may free it.
 * Codes   none of its own
 * Exclusive on loop.
 */
msgport_code msgport_loop_remote(msgport_loop *loop, msgport_remote **remote);

/*
 * Frees a handle for other threads.
 *
 * In      remote  NULL is allowed.
 * Exclusive on remote.
 */
void msgport_remote_free(msgport_remote *remote);

/*
 * Makes the current msgport_loop_run() return, or the next one if none is running. Does nothing if the loop has been
 * freed.
 *
 * In      remote
 * Codes   MSGPORT_FORKED  remote was inherited by fork.
 * May run at the same time as other functions that take a const remote, and as every function on the loop.
 */
msgport_code msgport_remote_stop(const msgport_remote *remote);

/*
 * Posts a task: a function that is called once on the loop's thread. The tasks of one thread are called in order. Tasks
 * that have not been called when the loop is freed are destroyed with it.
 *
 * In      remote
 *         task, user, destroy    The task is called, and the data destroyed, on the loop's thread.
 * Codes   MSGPORT_LOOP_GONE     The loop has been freed.
 *         MSGPORT_FORKED        remote was inherited by fork.
 * May run at the same time as other functions that take a const remote, and as every function on the loop.
 */
msgport_code msgport_remote_post_task(const msgport_remote *remote, msgport_task task, void *user,
                                      msgport_destroy destroy);

/* How a handler is added. */
#define MSGPORT_SET UINT32_C(0)      /* As `onmessage = ...`: replaces the handler that was set before. */
#define MSGPORT_ADD UINT32_C(1)      /* As `addEventListener`: adds a handler beside the others. */
#define MSGPORT_ADD_ONCE UINT32_C(2) /* As `addEventListener` with `once`: the handler is removed before its call. */

/*
 * Adds a handler of messages to a port in an event loop. Several handlers are called in the order in which they were
 * added. Setting a handler starts the port; adding one does not.
 *
 * In      port    A port in a loop. If it has left its loop, closed for instance, the handler is never called.
 *         how     MSGPORT_SET, MSGPORT_ADD or MSGPORT_ADD_ONCE.
 *         handler, user, destroy
 * Out     id      For msgport_port_remove_handler(). NULL if it is not needed.
 * Codes   MSGPORT_NOT_IN_LOOP   port is not in an event loop.
 *         MSGPORT_BAD_ARGUMENT  how has another value.
 * Exclusive on port and its loop.
 */
msgport_code msgport_port_on_message(msgport_port *port, uint32_t how, msgport_message_handler handler, void *user,
                                     msgport_destroy destroy, uint64_t *id);

/*
 * Adds a handler of messages that cannot be received to a port in an event loop. Several handlers are called in the
 * order in which they were added.
 *
 * In      port    A port in a loop. If it has left its loop, closed for instance, the handler is never called.
 *         how     MSGPORT_SET, MSGPORT_ADD or MSGPORT_ADD_ONCE.
 *         handler, user, destroy
 * Out     id      For msgport_port_remove_handler(). NULL if it is not needed.
 * Codes   MSGPORT_NOT_IN_LOOP   port is not in an event loop.
 *         MSGPORT_BAD_ARGUMENT  how has another value.
 * Exclusive on port and its loop.
 */
msgport_code msgport_port_on_message_error(msgport_port *port, uint32_t how, msgport_message_error_handler handler,
                                           void *user, msgport_destroy destroy, uint64_t *id);

/*
 * Adds a handler of the end of the peer to a port in an event loop. Several handlers are called in the order in which
 * they were added. It is called once: on a started port after the last message, on a port that is not started as soon
 * as the peer is gone, although messages may be queued. Those can still be received, and are passed to the handlers if
 * the port is started later.
 *
 * In      port    A port in a loop. If it has left its loop, closed for instance, the handler is never called.
 *         how     MSGPORT_SET, MSGPORT_ADD or MSGPORT_ADD_ONCE.
 *         handler, user, destroy
 * Out     id      For msgport_port_remove_handler(). NULL if it is not needed.
 * Codes   MSGPORT_NOT_IN_LOOP   port is not in an event loop.
 *         MSGPORT_BAD_ARGUMENT  how has another value.
 * Exclusive on port and its loop.
 */
msgport_code msgport_port_on_close(msgport_port *port, uint32_t how, msgport_close_handler handler, void *user,
                                   msgport_destroy destroy, uint64_t *id);

/*
 * Removes a handler. The handler itself may do so.
 *
 * In      port
 *         id
 * Codes   MSGPORT_NOT_IN_LOOP   port is not in an event loop.
 *         MSGPORT_NOT_FOUND     The handler has already been removed.
 * Exclusive on port and its loop.
 */
msgport_code msgport_port_remove_handler(msgport_port *port, uint64_t id);

/*
 * Enables a port in an event loop: the standard's `start()`. It cannot be undone; a second call does nothing.
 *
 * In      port
 * Codes   MSGPORT_NOT_IN_LOOP   port is not in an event loop.
 * Exclusive on port and its loop.
 */
msgport_code msgport_port_start(msgport_port *port);

/*
 * Calls the handlers of messages at once with a message of the caller: the standard's `dispatchEvent`. The port's queue
 * is not involved.
 *
 * In      port
 *         message Keeps what the handlers leave in it.
 * Codes   MSGPORT_NOT_IN_LOOP   port is not in an event loop.
 * Exclusive on port, its loop and message.
 */
msgport_code msgport_port_dispatch_event(msgport_port *port, msgport_message *message);

/* ---- Sets of ports ---------------------------------------------------------------------------------------------- */

/* An event of a port in a set. */
typedef struct msgport_portset_event {
    msgport_port *port; /* The handle that was added. */
    msgport_code code;  /* MSGPORT_OK: a message. MSGPORT_MESSAGE_ERROR: a message that cannot be received.
                           MSGPORT_PEER_CLOSED, MSGPORT_PEER_DIED or MSGPORT_PROTOCOL_VIOLATION: the peer is gone, and
                           the port has left the set. */
    uint32_t reserved;  /* 0 */
} msgport_portset_event;

/*
 * Makes a set of ports, to receive from all of them in turn. A port without events costs nothing.
 *
 * Out     set     Belongs to the caller, which frees it. It takes one descriptor.
 * Codes   MSGPORT_RESOURCE_EXHAUSTED   The system has no memory or no descriptors left.
 * Thread-safe.
 */
msgport_code msgport_portset_new(msgport_portset **set);

/*
 * Frees a set. Its ports are ordinary ports again.
 *
 * In      set     NULL is allowed.
 * Exclusive on set and its ports.
 */
void msgport_portset_free(msgport_portset *set);

/*
 * Adds a port to a set, with the messages queued in it. Its handle stays the same. Everything can be done with it that
 * can be done with a port in an event loop, except putting it on a transfer list. If its handle is freed, it is closed
 * and leaves the set.
 *
 * In      set
 *         port    A port, or a receiving half, whose sending half may be used by another thread meanwhile.
 * Codes   MSGPORT_WRONG_HALF    port is a sending half.
 *         MSGPORT_WATCHED       port is already in an event loop or a set.
 *         MSGPORT_BORROWED      A reservation or a message in place is open on port.
 *         MSGPORT_DETACHED      port was given to a child process, a client or a server, or was joined.
 *         MSGPORT_FORKED        The set was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED   The system has no memory or no descriptors left.
 * Exclusive on set and port.
 */
msgport_code msgport_portset_add(msgport_portset *set, msgport_port *port);

/*
 * Removes a port from a set, with the messages that have not been received. It is an ordinary port again.
 *
 * In      set
 *         port
 * Codes   MSGPORT_NOT_FOUND     port is not in this set.
 *         MSGPORT_DETACHED      port was closed or transferred while it was in the set.
 * Exclusive on set and port.
 */
msgport_code msgport_portset_remove(msgport_portset *set, msgport_port *port);

/*
 * Returns a descriptor that is readable when a port of the set may have an event, for a program with a loop of its own.
 * Before each `poll`, call msgport_portset_next() with a timeout of 0 until it returns MSGPORT_EMPTY or
 * MSGPORT_NO_PORTS: that arms the wake-ups.
 *
 * In      set
 * Out     descriptor   Borrowed: valid until the set is freed. Poll it for reading only; never read, write or close it.
 * Codes   MSGPORT_FORKED        The set was inherited by fork.
 * Exclusive on set.
 */
msgport_code msgport_portset_descriptor(msgport_portset *set, int *descriptor);

/*
 * Returns the next event of any port in a set.
 *
 * The messages of one port come in the order in which they were posted. Between ports there is no order: what must stay
 * in order goes over one port, or carries a number.
 *
 * In      set
 *         timeout 0, the longest time to wait for an event, or MSGPORT_FOREVER.
 *         message Receives the message; of a message that cannot be received, the data. Its contents are dropped first.
 * Out     event
 * Codes   MSGPORT_EMPTY         Timeout 0: there is no event.
 *         MSGPORT_TIMED_OUT     Other timeouts: no event came in time.
 *         MSGPORT_NO_PORTS      The set has no ports.
 *         MSGPORT_FORKED        The set was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED   The system has no memory or descriptors left for what a message carries. The
 *                               message stays queued. One for whose descriptors there is no room is given up
 *                               after at least 16 attempts over at least 5 s: MSGPORT_MESSAGE_ERROR.
 * Exclusive on set, its ports and message; but calls that post on a port, or return the state of its queue towards the
 * peer, may be made at the same time.
 */
msgport_code msgport_portset_next(msgport_portset *set, int64_t timeout, msgport_message *message,
                                  msgport_portset_event *event);

/* ---- Request and answer ----------------------------------------------------------------------------------------- */

/*
 * Makes a port the client's end of a channel, whose other end is a server.
 *
 * In      port    A spin budget set on it stays in effect; see msgport_port_set_spin().
 * Out     client  Belongs to the caller, which frees it.
 * Owner   On success the handle of the port is detached, and the caller still frees it.
 * Codes   MSGPORT_WRONG_HALF    port is a half.
 *         MSGPORT_WATCHED       port is in an event loop or a set.
 *         MSGPORT_BORROWED      A reservation or a message in place is open on port.
 *         MSGPORT_DETACHED      port was given to a child process, a client or a server, or was joined.
 * Exclusive on port.
 */
msgport_code msgport_client_new(msgport_port *port, msgport_client **client);

/*
 * Frees a client. Its port is closed once the client and all its msgport_pending have been freed.
 *
 * In      client  NULL is allowed.
 * Exclusive on client.
 */
void msgport_client_free(msgport_client *client);

/*
 * Posts a request and waits for the answer. Any number of calls can be open at a time, from any number of threads; they
 * are answered in any order.
 *
 * In      client
 *         data    The bytes, `len` of them, which are copied.
 *         items   The transfer list, `count` items. NULL if count is 0. Ports must not be in an event loop or a set.
 *         timeout The longest time for space and answer together, or MSGPORT_FOREVER. 0: the answer would have to be
 *                 there at once; use msgport_client_start() instead.
 *         answer  Receives the answer. Its contents are dropped first.
 * Owner   If the request was posted, even without an answer, the ports and buffers on the list have moved: their
 *         handles are detached, and the caller still frees them. If it was not, everything on the list is unchanged.
 * Codes   If the request was not posted, in this order:
 *         MSGPORT_BAD_ARGUMENT       len is more than PTRDIFF_MAX, or count is more than 65535.
 *         MSGPORT_DUPLICATE          The list contains a port or a buffer twice.
 *         MSGPORT_BAD_ITEM           An item has an unknown kind, a reserved field that is not 0, a handle that is NULL
 *                                    or of another type, a half of a port, a port in an event loop or a set, or a
 *                                    descriptor that is not open.
 *         MSGPORT_FORKED             client was inherited by fork.
 *         MSGPORT_CLOSED             The server violated the format of the queue before, which closed the port.
 *         MSGPORT_CONTAINS_PEER      The list contains the port of the server.
 *         MSGPORT_UNUSABLE           An item is closed, detached, borrowed or forked, or a shared buffer with a name.
 *         MSGPORT_TOO_MANY_HANDLES   The list needs more descriptors than max_handles of the channel.
 *         MSGPORT_TOO_LARGE          The message, with 8 bytes for its number, is longer than the channel allows.
 *         MSGPORT_FULL               Timeout 0: the queue has grown to its limit and is full.
 *         MSGPORT_LANE_FULL          Timeout 0: too many messages with transfer lists are unread.
 *         Whether it was posted or not:
 *         MSGPORT_EMPTY              Timeout 0: there is no answer yet. It is dropped when it comes.
 *         MSGPORT_TIMED_OUT          Other timeouts: there was no space or no answer in time. An answer is dropped when
 *                                    it comes.
 *         MSGPORT_PEER_CLOSED        The server was freed.
 *         MSGPORT_PEER_DIED          The process of the server ended.
 *         MSGPORT_PROTOCOL_VIOLATION The server violated the format of the queue.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 *         If it was posted:
 *         MSGPORT_REQUEST_DROPPED    The server dropped the request without answering it.
 *         MSGPORT_MESSAGE_ERROR      The answer cannot be received.
 * May run at the same time as other functions that take a const client. Exclusive on answer and on the ports and
 * buffers on the list.
 */
msgport_code msgport_client_call(const msgport_client *client, const void *data, size_t len, const msgport_item *items,
                                 size_t count, int64_t timeout, msgport_message *answer);

/*
 * Posts a request and does not wait, neither for space nor for the answer: a full queue grows.
 *
 * In      client
 *         data    The bytes, `len` of them, which are copied.
 *         items   The transfer list, `count` items. NULL if count is 0. Ports must not be in an event loop or a set.
 * Out     pending The open call. Belongs to the caller, which frees it.
 * Owner   On success the ports and buffers on the list have moved: their handles are detached, and the caller still
 *         frees them. On failure everything on the list is unchanged.
 * Codes   MSGPORT_BAD_ARGUMENT       len is more than PTRDIFF_MAX, or count is more than 65535.
 *         MSGPORT_DUPLICATE          The list contains a port or a buffer twice.
 *         MSGPORT_BAD_ITEM           An item has an unknown kind, a reserved field that is not 0, a handle that is NULL
 *                                    or of another type, a half of a port, a port in an event loop or a set, or a
 *                                    descriptor that is not open.
 *         MSGPORT_FORKED             client was inherited by fork.
 *         MSGPORT_CLOSED             The server violated the format of the queue before, which closed the port.
 *         MSGPORT_CONTAINS_PEER      The list contains the port of the server.
 *         MSGPORT_UNUSABLE           An item is closed, detached, borrowed or forked, or a shared buffer with a name.
 *         MSGPORT_TOO_MANY_HANDLES   The list needs more descriptors than max_handles of the channel.
 *         MSGPORT_TOO_LARGE          The message, with 8 bytes for its number, is longer than the channel allows.
 *         MSGPORT_PEER_CLOSED        The server was freed.
 *         MSGPORT_PEER_DIED          The process of the server ended.
 *         MSGPORT_PROTOCOL_VIOLATION The server violated the format of the queue.
 *         MSGPORT_FULL               The queue has grown to its limit and is full.
 *         MSGPORT_LANE_FULL          Too many messages with transfer lists are unread.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory left, or too many descriptors are in flight.
 * May run at the same time as other functions that take a const client. Exclusive on the ports and buffers on the list.
 */
msgport_code msgport_client_start(const msgport_client *client, const void *data, size_t len,
                                  const msgport_item *items, size_t count, msgport_pending **pending);

/*
 * Returns a descriptor that is readable when an answer may have come, or the server is gone, for a program with a loop
 * of its own. Take it first. Then, before each `poll`, call msgport_pending_wait() with a timeout of 0 for the open
 * calls, until each has returned MSGPORT_EMPTY or its answer: that arms the wake-up.
 *
 * In      client
 * Out     descriptor   Borrowed: valid until the client is freed. Poll it for reading only; never read, write or close
 *                      it.
 * Codes   none of its own
 * Thread-safe on client; but a thread that waits for an answer reads what the descriptor would report.
 */
msgport_code msgport_client_descriptor(const msgport_client *client, int *descriptor);

/*
 * Waits for the answer to an open call.
 *
 * In      pending
 *         timeout 0, the longest time to wait for the answer, or MSGPORT_FOREVER.
 *         answer  Receives the answer. Its contents are dropped first.
 * Codes   MSGPORT_EMPTY              Timeout 0: there is no answer yet. The call is still open.
 *         MSGPORT_TIMED_OUT          Other timeouts: no answer came in time. The call is still open.
 *         MSGPORT_CALL_OVER          The answer or the failure has already been returned.
 *         MSGPORT_REQUEST_DROPPED    The server dropped the request without answering it.
 *         MSGPORT_FORKED             pending was inherited by fork.
 *         MSGPORT_CLOSED             The server violated the format of the queue before, which closed the port.
 *         MSGPORT_PEER_CLOSED        The server was freed.
 *         MSGPORT_PEER_DIED          The process of the server ended.
 *         MSGPORT_PROTOCOL_VIOLATION The server violated the format of the queue.
 *         MSGPORT_MESSAGE_ERROR      The answer cannot be received.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or descriptors left for what the answer carries.
 * Exclusive on pending and answer.
 */
msgport_code msgport_pending_wait(msgport_pending *pending, int64_t timeout, msgport_message *answer);

/*
 * Frees an open call. If it has no answer yet, the call is cancelled: the server can find out by
 * msgport_responder_is_cancelled(), and an answer is dropped when it comes.
 *
 * In      pending NULL is allowed.
 * Exclusive on pending.
 */
void msgport_pending_free(msgport_pending *pending);

/*
 * Makes a port the server's end of a channel, whose other end is a client.
 *
 * In      port    A spin budget set on it stays in effect; see msgport_port_set_spin().
 * Out     server  Belongs to the caller, which frees it.
 * Owner   On success the handle of the port is detached, and the caller still frees it.
 * Codes   MSGPORT_WRONG_HALF    port is a half.
 *         MSGPORT_WATCHED       port is in an event loop or a set.
 *         MSGPORT_BORROWED      A reservation or a message in place is open on port.
 *         MSGPORT_DETACHED      port was given to a child process, a client or a server, or was joined.
 * Exclusive on port.
 */
msgport_code msgport_server_new(msgport_port *port, msgport_server **server);

/*
 * Frees a server and closes its port. Answers posted before still arrive; every other open call ends.
 *
 * In      server  NULL is allowed.
 * Exclusive on server.
 */
void msgport_server_free(msgport_server *server);

/*
 * Returns a descriptor that is readable when a request may have come, or the client is gone, for a program with a loop
 * of its own. Take it first. Then, before each `poll`, call msgport_server_recv() with a timeout of 0 until it returns
 * MSGPORT_EMPTY: that arms the wake-up.
 *
 * In      server
 * Out     descriptor   Borrowed: valid until the server is freed. Poll it for reading only; never read, write or close
 *                      it.
 * Codes   none of its own
 * Exclusive on server.
 */
msgport_code msgport_server_descriptor(msgport_server *server, int *descriptor);

/*
 * Receives the next request. While 1024 notices of dropped requests wait for the client to make room, nothing is
 * received.
 *
 * In      server
 *         timeout 0, the longest time to wait for a request, or MSGPORT_FOREVER.
 *         request Receives the request. Its contents are dropped first. On failure it is empty; after
 *                 MSGPORT_MESSAGE_ERROR it holds the data.
 * Out     responder   The obligation to answer. Belongs to the caller, which frees it; any thread may use it.
 * Codes   MSGPORT_EMPTY              Timeout 0: there is no request.
 *         MSGPORT_TIMED_OUT          Other timeouts: no request came in time.
 *         MSGPORT_FORKED             server was inherited by fork.
 *         MSGPORT_CLOSED             The client violated the format of the queue before, which closed the port.
 *         MSGPORT_PEER_CLOSED        All requests have been received, and the client was freed.
 *         MSGPORT_PEER_DIED          All requests have been received, and the process of the client ended.
 *         MSGPORT_PROTOCOL_VIOLATION The client violated the format of the queue.
 *         MSGPORT_MESSAGE_ERROR      The message cannot be received, or is not a request. It is consumed.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or descriptors left for what the request carries. The
 *                                    request stays queued. Pause, and call again: one for whose descriptors there
 *                                    is no room is given up after at least 16 calls over at
 *                                    least 5 s, as MSGPORT_MESSAGE_ERROR.
 * Exclusive on server and request.
 */
msgport_code msgport_server_recv(msgport_server *server, int64_t timeout, msgport_message *request,
                                 msgport_responder **responder);

/*
 * Answers a request.
 *
 * In      responder
 *         data    The bytes, `len` of them, which are copied.
 *         items   The transfer list, `count` items. NULL if count is 0. Ports must not be in an event loop or a set.
 *         timeout 0: a full queue grows. Otherwise the longest time to wait for space, or MSGPORT_FOREVER.
 * Owner   On success the request is answered; the ports and buffers on the list have moved, and the caller still frees
 *         their handles and responder. On failure everything is unchanged, and the call can be repeated.
 * Codes   MSGPORT_CALL_OVER          The request has already been answered.
 *         MSGPORT_BAD_ARGUMENT       len is more than PTRDIFF_MAX, or count is more than 65535.
 *         MSGPORT_DUPLICATE          The list contains a port or a buffer twice.
 *         MSGPORT_BAD_ITEM           An item has an unknown kind, a reserved field that is not 0, a handle that is NULL
 *                                    or of another type, a half of a port, a port in an event loop or a set, or a
 *                                    descriptor that is not open.
 *         MSGPORT_FORKED             responder was inherited by fork.
 *         MSGPORT_CLOSED             The server was freed, or the client violated the format of the queue before.
 *         MSGPORT_CONTAINS_PEER      The list contains the port of the client.
 *         MSGPORT_UNUSABLE           An item is closed, detached, borrowed or forked, or a shared buffer with a name.
 *         MSGPORT_TOO_MANY_HANDLES   The list needs more descriptors than max_handles of the channel.
 *         MSGPORT_TOO_LARGE          The message, with 8 bytes for its number, is longer than the channel allows.
 *         MSGPORT_PEER_CLOSED        The client was freed.
 *         MSGPORT_PEER_DIED          The process of the client ended.
 *         MSGPORT_PROTOCOL_VIOLATION The client violated the format of the queue.
 *         MSGPORT_FULL               Timeout 0: the queue has grown to its limit and is full.
 *         MSGPORT_LANE_FULL          Timeout 0: too many messages with transfer lists are unread.
 *         MSGPORT_TIMED_OUT          Other timeouts: there was no space in time.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory left, or too many descriptors are in flight.
 * Exclusive on responder and on the ports and buffers on the list.
 */
msgport_code msgport_responder_answer(msgport_responder *responder, const void *data, size_t len,
                                      const msgport_item *items, size_t count, int64_t timeout);

/*
 * Returns whether the answer is unwanted: the client has freed the pending call, or its time is over, or the
 * client is gone. A server that works long on an answer looks now and then, and frees the responder. Of the calls of a
 * client that are open at the same time, the first 512 can be cancelled; of the others only the end of the client is
 * seen.
 *
 * In      responder
 * Out     cancelled   1 once the call has been cancelled, from then on; else 0.
 * Codes   MSGPORT_CALL_OVER          The request has been answered.
 * Exclusive on responder.
 */
msgport_code msgport_responder_is_cancelled(msgport_responder *responder, int *cancelled);

/*
 * Frees the obligation to answer. If the request has not been answered, the client receives MSGPORT_REQUEST_DROPPED.
 *
 * In      responder   NULL is allowed.
 * Exclusive on responder.
 */
void msgport_responder_free(msgport_responder *responder);

/* ---- Child processes -------------------------------------------------------------------------------------------- */

/* Options of a child process, in the form explained at msgport_channel_options. */
typedef struct msgport_spawn_options {
    size_t size;                    /* sizeof(msgport_spawn_options) */
    const char *const *environment; /* Entries NAME=value, a list that ends with NULL. NULL for this process's
                                       environment. */
    const char *directory;          /* The child's working directory. NULL for that of this process. */
    int input;                      /* The descriptor that becomes the child's standard input, or MSGPORT_NO_STREAM for
                                       /dev/null. 0 is this process's own. */
    int output;                     /* As input, for standard output. 0, the default, is this process's own. */
    int error;                      /* As output, for standard error. */
    uint32_t reserved;              /* 0 */
} msgport_spawn_options;

#define MSGPORT_SPAWN_OPTIONS_INIT { sizeof(msgport_spawn_options), NULL, NULL, 0, 0, 0, 0 }

/* In msgport_spawn_options: the stream is /dev/null. */
#define MSGPORT_NO_STREAM (-1)

/*
 * Starts a program and gives it a port, which the child takes with msgport_parent_port(). However the child ends, the
 * peer of the port is notified. Other children do not inherit the port. The child has all standard streams, also those
 * that are close-on-exec in this process; in place of one that is closed here it has /dev/null.
 *
 * In      program      A path, or a name that is searched for in PATH.
 *         arguments    A list that ends with NULL, as for execvp(3); the first is the program's own name.
 *         options      NULL for the defaults. The descriptors in it are duplicated: the caller still closes them.
 *         port         The port to give. Keep its peer.
 * Out     pid          The caller waits for the process, with waitpid(2).
 * Owner   On success the port has moved: its handle is detached, and the caller still frees it. On failure it is
 *         unchanged.
 * Codes   MSGPORT_BAD_OPTIONS    The size of options is impossible, or an unknown field is not 0.
 *         MSGPORT_BAD_ARGUMENT   arguments is empty, an entry of environment is not NAME=value, or a descriptor is
 *                                negative and not MSGPORT_NO_STREAM.
 *         MSGPORT_WRONG_HALF     port is a half.
 *         MSGPORT_WATCHED        port is in an event loop or a set.
 *         MSGPORT_BORROWED       A reservation or a message in place is open on port.
 *         MSGPORT_DETACHED       port was given to a child process, a client or a server, or was joined.
 *         MSGPORT_UNUSABLE       port is closed, transferred or forked.
 *         MSGPORT_RESOURCE_EXHAUSTED   The system has no memory or no descriptors left.
 *         MSGPORT_SYSTEM         The program could not be started, or a descriptor is not open; msgport_os_error() has
 *                                the reason.
 * Exclusive on port.
 */
msgport_code msgport_spawn_with_port(const char *program, const char *const *arguments,
                                     const msgport_spawn_options *options, msgport_port *port, int32_t *pid);

/* The environment variable in which a child finds the number of its descriptor. */
#define MSGPORT_PARENT_VARIABLE "MESSAGEPORT_PARENT"

/*
 * Puts a port into a descriptor, for a child process that something other than msgport_spawn_with_port() starts, for
 * example uv_spawn() or posix_spawn(3). The child takes the port with msgport_parent_port().
 *
 * Have the child inherit the descriptor under a number above 2, and set MSGPORT_PARENT_VARIABLE in the child's
 * environment to that number. Then close the descriptor here: as long as it is open, the death of a child that has not
 * taken its port remains unnoticed. Closing it without a child closes the port.
 *
 * In      port         The port to give. Keep its peer.
 * Out     descriptor   Close-on-exec and above 2. Belongs to the caller, which closes it.
 * Owner   On success the port has moved: its handle is detached, and the caller still frees it. On failure it is
 *         unchanged.
 * Codes   MSGPORT_WRONG_HALF     port is a half.
 *         MSGPORT_WATCHED        port is in an event loop or a set.
 *         MSGPORT_BORROWED       A reservation or a message in place is open on port.
 *         MSGPORT_DETACHED       port was given to a child process, a client or a server, or was joined.
 *         MSGPORT_UNUSABLE       port is closed, transferred or forked.
 *         MSGPORT_RESOURCE_EXHAUSTED   The system has no memory or no descriptors left.
 * Exclusive on port.
 */
msgport_code msgport_prepare_port(msgport_port *port, int *descriptor);

/*
 * Takes the port that the parent process gave to this one. It can be taken once; call it early in `main`.
 *
 * The port comes as an open descriptor, whose number is in the environment variable MESSAGEPORT_PARENT. A program that
 * this one is started through must pass on both, such as subprocess.run(args, pass_fds=[number]) of Python.
 *
 * Out     port         Belongs to the caller, which frees it.
 * Codes   MSGPORT_NO_PARENT_PORT     The parent gave no port, or it has already been taken; or a program between them
 *                                    has closed the descriptor, whose number msgport_describe() states.
 *         MSGPORT_BAD_PARENT_PORT    The inherited descriptors are not a port.
 *         MSGPORT_WRONG_VERSION      The parent uses another version of the format.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 * Thread-safe; while the process has only one thread, the entry of the environment is removed as well.
 */
msgport_code msgport_parent_port(msgport_port **port);

/* ---- Meeting by name -------------------------------------------------------------------------------------------- */

/* Options of a listener, in the form explained at msgport_channel_options. */
typedef struct msgport_listen_options {
    size_t size;              /* sizeof(msgport_listen_options) */
    int64_t greeting_timeout; /* Nanoseconds that a client may take to send its greeting. Default 2 s. Other clients are
                                 accepted meanwhile. */
    uint32_t flags;           /* A sum of MSGPORT_ANY_USER and MSGPORT_REMOVE_ON_SIGNAL. */
    uint32_t mode;            /* The permission bits of the socket's file, whatever the umask. A user who may write to
                                 it may connect. Default 0600. */
    uint32_t group;           /* The group of the socket's file, one of this user's. 0 leaves it as it is. */
    uint32_t reserved;        /* 0 */
} msgport_listen_options;

#define MSGPORT_LISTEN_OPTIONS_INIT { sizeof(msgport_listen_options), 0, 0, 0, 0, 0 }

/* Options of a connection, in the form explained at msgport_channel_options. */
typedef struct msgport_connect_options {
    size_t size;                            /* sizeof(msgport_connect_options) */
    int64_t timeout;                        /* Nanoseconds that the listener may take to accept. Default 5 s. */
    uint32_t flags;                         /* A sum of MSGPORT_ANY_USER and MSGPORT_WAIT_FOR_LISTENER. */
    uint32_t reserved;                      /* 0 */
    const msgport_channel_options *channel; /* Options of the new channel. NULL for the defaults. */
} msgport_connect_options;

#define MSGPORT_CONNECT_OPTIONS_INIT { sizeof(msgport_connect_options), 0, 0, 0, NULL }

/* The other process may run as any user; by default it must run as the user of this one. A listener for other users
 * needs a path that they can reach, and a mode that gives them access. */
#define MSGPORT_ANY_USER UINT32_C(1)
/*
 * SIGHUP, SIGINT and SIGTERM remove the files of the listener before they end the process. For each of these signals
 * that has its default action, a handler is installed, which then lets the signal end the process. A program with a
 * handler of its own frees its listener instead; so does the first process of a pid namespace, as of a container, which
 * these signals do not end without a handler (pid_namespaces(7)).
 */
#define MSGPORT_REMOVE_ON_SIGNAL UINT32_C(2)
/* If there is no listener yet, the call waits for one until the timeout expires; by default it then fails at once. */
#define MSGPORT_WAIT_FOR_LISTENER UINT32_C(4)

/* The process that connected, as the kernel reports it. */
typedef struct msgport_peer {
    uint32_t uid; /* The user that it ran as when it connected. */
    int32_t pid;  /* Its process number. It may have ended since, and the number may be in use again. */
    uint32_t has_pid; /* 0 if the process has no number here, since it runs in another pid namespace
                         (pid_namespaces(7)). Then pid is 0. Otherwise 1. */
} msgport_peer;

/*
 * Starts listening on a name.
 *
 * A name without a slash is a socket in /run/user/UID/messageport or, if /run/user/UID is not a private directory of
 * this user, in /tmp/messageport-UID; no variable of the environment counts. A name with a slash is the path of the
 * socket. By default only this user can open it. What a listener that was killed left behind, its socket and a lock
 * file beside it, is removed by the next listener, and by a msgport_connect() that finds nobody.
 *
 * In      name       UTF-8.
 *         options    NULL for the defaults.
 * Out     listener   Belongs to the caller. Freeing it removes the socket.
 * Codes   MSGPORT_BAD_OPTIONS        The size of options is impossible, or an unknown field or flag is not 0.
 *         MSGPORT_BAD_NAME           The name is empty, `.`, `..`, not UTF-8, or ends in `.lock`, or
 *                                    has a control character.
 *         MSGPORT_NAME_TOO_LONG      The path is longer than 107 bytes.
 *         MSGPORT_UNSAFE_DIRECTORY   The directory for names is accessible to, or belongs to, another user.
 *         MSGPORT_IN_USE             Another listener uses the name.
 *         MSGPORT_NOT_A_SOCKET       The name belongs to a file that is not a socket.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 *         MSGPORT_SYSTEM             The system refused; msgport_os_error() has the reason.
 * Thread-safe.
 */
msgport_code msgport_listener_bind(const char *name, const msgport_listen_options *options,
                                   msgport_listener **listener);

/*
 * Accepts clients at a socket that listens already. Freeing the listener does not remove the socket's file.
 *
 * In      descriptor  A listening Unix socket of the type SOCK_SEQPACKET. It is duplicated: the caller still closes it.
 *                     It becomes non-blocking.
 *         options     NULL for the defaults. mode, group and MSGPORT_REMOVE_ON_SIGNAL have no effect.
 * Out     listener    Belongs to the caller.
 * Codes   MSGPORT_BAD_OPTIONS        The size of options is impossible, or an unknown field or flag is not 0.
 *         MSGPORT_BAD_ARGUMENT       descriptor is negative.
 *         MSGPORT_NOT_A_SOCKET       descriptor is not such a socket.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 *         MSGPORT_SYSTEM             The system refused; msgport_os_error() has the reason.
 * Thread-safe.
 */
msgport_code msgport_listener_at(int descriptor, const msgport_listen_options *options, msgport_listener **listener);

/*
 * Accepts clients at the socket that the service manager passed to this process (sd_listen_fds(3)). The unit has
 * `ListenSequentialPacket=PATH`.
 *
 * In      name       The name of the socket, `FileDescriptorName=` of systemd.socket(5). NULL for the first socket.
 *         options    As for msgport_listener_at().
 * Out     listener   Belongs to the caller.
 * Codes   MSGPORT_EMPTY              No such socket was passed, as when the program was started by hand.
 *         others                     As for msgport_listener_at(), and MSGPORT_BAD_NAME for a name that is not UTF-8.
 * Thread-safe.
 */
msgport_code msgport_listener_activated(const char *name, const msgport_listen_options *options,
                                        msgport_listener **listener);

/*
 * Stops listening, removes the socket and frees the handle.
 *
 * In      listener   NULL is allowed.
 * Exclusive on listener.
 */
void msgport_listener_free(msgport_listener *listener);

/*
 * Accepts the next client. Clients that misbehave are refused and counted, and are no error here.
 *
 * In      listener
 *         timeout    0, the longest time to wait for a client, or MSGPORT_FOREVER.
 *         greeting   Receives the data of the client's greeting. Its contents are dropped first. NULL if it is not
 *                    needed.
 * Out     port       This side's end of a new channel; the client gets the other end and has chosen the limits. Belongs
 *                    to the caller, which frees it.
 *         peer       The process of the client. NULL if it is not needed.
 * Codes   MSGPORT_EMPTY              Timeout 0: there is no client.
 *         MSGPORT_TIMED_OUT          Other timeouts: no client came in time.
 *         MSGPORT_FORKED             listener was inherited by fork.
 *         MSGPORT_DETACHED           listener has moved to an event loop.
 *         MSGPORT_RESOURCE_EXHAUSTED Instead of MSGPORT_EMPTY or MSGPORT_TIMED_OUT: the system has no memory or no
 *                                    descriptors left for a client, which waits or was refused. The listener goes on:
 *                                    a loop calls again, after a pause if it polls the descriptor, which stays
 *                                    readable. With MSGPORT_FOREVER the call goes on until a client can be accepted.
 *         MSGPORT_SYSTEM             The system refused; msgport_os_error() has the reason.
 * Exclusive on listener and greeting.
 */
msgport_code msgport_listener_accept(msgport_listener *listener, int64_t timeout, msgport_message *greeting,
                                     msgport_port **port, msgport_peer *peer);

/*
 * The handler of a client that a listener in an event loop accepted. port is this side's end of a new channel and
 * belongs to the handler. The loop lends greeting and peer until the handler returns.
 */
typedef void (*msgport_connect_handler)(msgport_loop *loop, msgport_port *port, msgport_message *greeting,
                                        const msgport_peer *peer, void *user);

/*
 * Accepts the clients of a listener in an event loop, and calls a function with each. A shortage of memory or
 * descriptors is waited out. The loop runs as long as it has a listener. If the system refuses to accept anybody, the
 * listener leaves the loop, and the handler of msgport_loop_on_error() is called.
 *
 * In      loop
 *         listener   On success it moves to the loop; the handle stays with the caller, which frees it at any time.
 *         handler, user, destroy
 * Out     id         For msgport_loop_unwatch(), which ends the listener. NULL if it is not needed.
 * Codes   MSGPORT_DETACHED      The listener is in a loop already.
 *         MSGPORT_FORKED        The loop was inherited by fork.
 *         MSGPORT_RESOURCE_EXHAUSTED   The system has no memory left to watch one more descriptor.
 * Exclusive on loop and listener.
 */
msgport_code msgport_loop_add_listener(msgport_loop *loop, msgport_listener *listener, msgport_connect_handler handler,
                                       void *user, msgport_destroy destroy, uint64_t *id);

/*
 * Returns the path of the socket.
 *
 * In      listener
 * Out     path       Ends with NUL. Belongs to the listener: valid until it is freed.
 * Codes   none of its own
 * May run at the same time as other functions that take a const listener.
 */
msgport_code msgport_listener_path(const msgport_listener *listener, const char **path);

/*
 * Returns the number of clients refused so far: silent for too long, of another user or version, with a malformed
 * greeting or one with descriptors, gone before they had their port, or without a channel for want of memory or
 * descriptors.
 *
 * In      listener
 * Out     count
 * Codes   none of its own
 * Exclusive on listener.
 */
msgport_code msgport_listener_refused(msgport_listener *listener, uint64_t *count);

/*
 * Returns the descriptor that a `poll` or `epoll` loop waits on: it is readable when msgport_listener_accept() with a
 * timeout of 0 has something to do.
 *
 * In      listener
 * Out     descriptor  Borrowed: valid until the listener is freed. Never read, write or close it.
 * Codes   none of its own
 * Exclusive on listener.
 */
msgport_code msgport_listener_descriptor(msgport_listener *listener, int *descriptor);

/*
 * Sends a greeting to the listener of a name, which makes a channel, and receives one end of it.
 *
 * In      name       A name or a path, as for msgport_listener_bind().
 *         greeting   Data for the listener, `len` bytes, at most 32 KiB.
 *         options    NULL for the defaults.
 * Out     port       One end. Belongs to the caller, which frees it.
 * Codes   MSGPORT_BAD_OPTIONS        The size of options is impossible, or an unknown field or flag is not 0.
 *         MSGPORT_BAD_ARGUMENT       An option of the channel is out of range, or len is more than PTRDIFF_MAX.
 *         MSGPORT_BAD_NAME           The name is empty, `.`, `..`, not UTF-8, or ends in `.lock`, or
 *                                    has a control character.
 *         MSGPORT_NAME_TOO_LONG      The path is longer than 107 bytes.
 *         MSGPORT_UNSAFE_DIRECTORY   The directory for names is accessible to, or belongs to, another user.
 *         MSGPORT_NO_LISTENER        There is no socket of this name, or its listener is gone.
 *         MSGPORT_WRONG_USER         The listener, or the path, belongs to another user.
 *         MSGPORT_REFUSED            The listener refused the connection, or its answer was not a usable port.
 *         MSGPORT_OVERLOADED         The listener has no memory or no descriptors left for the connection, but may have
 *                                    some later.
 *         MSGPORT_WRONG_VERSION      The listener uses another version of the format.
 *         MSGPORT_TIMED_OUT          The listener did not answer in time.
 *         MSGPORT_TOO_LARGE          The greeting is too long.
 *         MSGPORT_RESOURCE_EXHAUSTED The system has no memory or no descriptors left.
 *         MSGPORT_SYSTEM             The system refused; msgport_os_error() has the reason.
 * Thread-safe.
 */
msgport_code msgport_connect(const char *name, const void *greeting, size_t len,
                             const msgport_connect_options *options, msgport_port **port);

#ifdef __cplusplus
}
#endif

#endif /* MESSAGEPORT_H */
