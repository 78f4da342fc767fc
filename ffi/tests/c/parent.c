/*
 * The parent of an interoperation test: `parent end|sleep PROGRAM ARGUMENTS...` starts the program and makes it echo,
 * use and hold ports and buffers; then it makes the program die, or sleeps until it is killed itself.
 */
#include "check.h"

int main(int argc, char **argv)
{
    msgport_port *port, *theirs, *near, *far, *arrived;
    msgport_buffer *buffer;
    msgport_message *message;
    msgport_item items[2];
    const void *data;
    char text[8] = { 0 };
    size_t len;
    int32_t pid;
    alarm(100);
    CHECK(argc > 2);
    make_pair(&port, &theirs);
    OK(msgport_spawn_with_port(argv[2], (const char *const *)argv + 2, NULL, theirs, &pid));
    msgport_port_free(theirs);

    /* Echoed. */
    make_pair(&near, &far);
    OK(msgport_buffer_new(1 << 20, &buffer));
    OK(msgport_buffer_write_at(buffer, (1 << 20) - 6, "inside", 6));
    items[0] = msgport_item_port(far);
    items[1] = msgport_item_buffer(buffer);
    OK(msgport_port_post_message(port, "echo", 4, items, 2, 0));
    msgport_port_free(far);
    msgport_buffer_free(buffer);
    OK(msgport_port_recv(port, PATIENCE, &message));
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == 4 && memcmp(data, "echo", 4) == 0);
    OK(msgport_message_take_port(message, 0, &arrived));
    OK(msgport_message_take_buffer(message, 0, &buffer));
    msgport_message_free(message);
    expect_entangled(near, arrived);
    OK(msgport_buffer_read_at(buffer, (1 << 20) - 6, text, 6));
    CHECK(strcmp(text, "inside") == 0);

    /* Used by the child. */
    items[0] = msgport_item_port(arrived);
    items[1] = msgport_item_buffer(buffer);
    OK(msgport_port_post_message(port, "use", 3, items, 2, 0));
    msgport_port_free(arrived);
    msgport_buffer_free(buffer);
    OK(msgport_port_recv(near, PATIENCE, &message));
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == 13 && memcmp(data, "from the peer", 13) == 0);
    OK(msgport_message_take_buffer(message, 0, &buffer));
    msgport_message_free(message);
    memset(text, 0, sizeof text);
    OK(msgport_buffer_read_at(buffer, 0, text, 4));
    CHECK(strcmp(text, "seen") == 0);
    msgport_buffer_free(buffer);
    expect_end(near, MSGPORT_PEER_CLOSED);
    msgport_port_free(near);

    /* Many, in order. */
    OK(msgport_message_new(&message));
    for (uint32_t sent = 0, seen = 0; seen < 5000; seen++) {
        for (; sent < 5000 && sent < seen + 500; sent++) post_number(port, 1000000000 + sent);
        OK(msgport_port_recv_into(port, PATIENCE, message, &data, &len));
        CHECK(len == 4 && *(const uint32_t *)data == 1000000000 + seen);
    }
    msgport_message_free(message);

    /* Held by a child that dies. */
    make_pair(&near, &far);
    post_port(port, "hold", far);
    EXPECT_TEXT(port, "held");
    if (strcmp(argv[1], "sleep") == 0) {
        puts("asleep");
        fflush(stdout);
        pause();
    }
    post_text(port, "die");
    expect_end(port, MSGPORT_PEER_DIED);
    expect_end(near, MSGPORT_PEER_DIED);
    CHECK(waitpid(pid, NULL, 0) == pid);
    msgport_port_free(near);
    msgport_port_free(port);
    puts("survived");
    return 0;
}
