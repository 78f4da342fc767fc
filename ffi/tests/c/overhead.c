/* A message costs a caller in C two calls. header.rs compares the object with that of overhead.cpp. */
#include <messageport.h>

int once(msgport_port *port, msgport_message **message, const void *data, size_t size);

int once(msgport_port *port, msgport_message **message, const void *data, size_t size)
{
    const void *received;
    size_t count;
    if (msgport_port_post_message(port, data, size, NULL, 0, 0) != MSGPORT_OK) return 0;
    if (*message == NULL) {
        msgport_message *made;
        if (msgport_message_new(&made) != MSGPORT_OK) return 0;
        *message = made;
    }
    if (msgport_port_recv_into(port, MSGPORT_FOREVER, *message, &received, &count) != MSGPORT_OK) return 0;
    return count == size;
}
