/* What each shim offers: one end of a way to send messages both ways. */
#ifndef SHIM_H
#define SHIM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The four functions of a shim. `open`: `name` is the same on both sides and nobody else's, `dir` a directory of our
 * own; `first` is 1 on one side and 0 on the other; messages have at most `size` bytes, and `depth` of them may wait;
 * with `spin` the calls below never sleep. NULL if it failed.
 * `send` and `receive` wait for room or a message, 10 seconds at most, and return 0, or -1 if that failed. `receive`
 * fills exactly `len` bytes. `close` frees everything. */
#define SHIM(NAME)                                                                                               \
    void *NAME##_open(const char *name, const char *dir, int first, size_t size, size_t depth, int spin);        \
    int NAME##_send(void *end, const void *data, size_t len);                                                    \
    int NAME##_receive(void *end, void *data, size_t len);                                                       \
    void NAME##_close(void *end);

SHIM(boost)
SHIM(zeromq)
SHIM(nng_shim) /* nng_send and nng_close are its own */

#ifdef __cplusplus
}
#endif

#endif
