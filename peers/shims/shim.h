/* The functions of a shim: one end of a bidirectional link. */
#ifndef SHIM_H
#define SHIM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Declares the four functions of a shim.
 * `open` returns an end of a link, or NULL on failure. `name` is unique and the same on both sides, `dir` is a directory
 * for files, `first` is 1 on one side and 0 on the other. Messages have at most `size` bytes, and the queue holds
 * `depth` of them. If `spin` is set, the calls below never sleep.
 * `send` and `receive` wait at most 10 seconds for space or a message and return 0, or -1 on failure. `receive` fills
 * exactly `len` bytes. `close` frees the end. */
#define SHIM(NAME)                                                                                               \
    void *NAME##_open(const char *name, const char *dir, int first, size_t size, size_t depth, int spin);        \
    int NAME##_send(void *end, const void *data, size_t len);                                                    \
    int NAME##_receive(void *end, void *data, size_t len);                                                       \
    void NAME##_close(void *end);

SHIM(boost)
SHIM(zeromq)
SHIM(nng_shim) /* nng itself defines nng_send and nng_close */

#ifdef __cplusplus
}
#endif

#endif
