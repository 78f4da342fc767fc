/* The child of an interoperation test: echoes, uses or holds what it receives, or dies, as the message says. */
#include "check.h"

int main(void)
{
    msgport_port *parent, *held[8];
    msgport_message *message;
    msgport_code code;
    size_t holding = 0;
    alarm(100);
    OK(msgport_parent_port(&parent));
    OK(msgport_message_new(&message));
    while ((code = msgport_port_recv_into(parent, PATIENCE, message, NULL, NULL)) == MSGPORT_OK) {
        msgport_port *ports[4];
        msgport_buffer *buffers[4];
        msgport_item items[8];
        const void *data;
        size_t len, port_count, buffer_count, count = 0;
        OK(msgport_message_data(message, &data, &len));
        OK(msgport_message_count(message, MSGPORT_ITEM_PORT, &port_count));
        OK(msgport_message_count(message, MSGPORT_ITEM_BUFFER, &buffer_count));
        CHECK(port_count <= 4 && buffer_count <= 4 && len >= 3);
        for (size_t i = 0; i < port_count; i++) {
            OK(msgport_message_take_port(message, i, &ports[i]));
            items[count++] = msgport_item_port(ports[i]);
        }
        for (size_t i = 0; i < buffer_count; i++) {
            OK(msgport_message_take_buffer(message, i, &buffers[i]));
            items[count++] = msgport_item_buffer(buffers[i]);
        }
        if (memcmp(data, "die", 3) == 0) {
            raise(SIGKILL);
        } else if (memcmp(data, "use", 3) == 0) {
            /* Writes to the buffer and posts it over the port. */
            OK(msgport_buffer_write_at(buffers[0], 0, "seen", 4));
            OK(msgport_port_post_message(ports[0], "from the peer", 13, &items[port_count], 1, 0));
        } else if (memcmp(data, "hold", 4) == 0) {
            held[holding++] = ports[0];
            port_count = 0;
            OK(msgport_port_post_message(parent, "held", 4, NULL, 0, 0));
        } else {
            OK(msgport_port_post_message(parent, data, len, items, count, PATIENCE));
        }
        for (size_t i = 0; i < port_count; i++) msgport_port_free(ports[i]);
        for (size_t i = 0; i < buffer_count; i++) msgport_buffer_free(buffers[i]);
    }
    printf("ended by %s\n", msgport_code_name(code));
    while (holding > 0) msgport_port_free(held[--holding]);
    msgport_message_free(message);
    msgport_port_free(parent);
    return 0;
}
