/* What a message costs the caller in C: three calls. See overhead.cpp. */
#include <messageport.h>

int once(msgport_port *port, msgport_message **message, const void *data, size_t size);

int once(msgport_port *port, msgport_message **message, const void *data, size_t size)
{
    const void *received = NULL;
    size_t count = 0;
    if (msgport_port_post(port, data, size, NULL, 0) != MSGPORT_OK) return 0;
    if (*message == NULL) {
        msgport_message *made;
        if (msgport_message_new(&made) != MSGPORT_OK) return 0;
        *message = made;
    }
    if (msgport_port_recv_into(port, MSGPORT_FOREVER, *message) != MSGPORT_OK) return 0;
    msgport_message_data(*message, &received, &count);
    return count == size;
}
