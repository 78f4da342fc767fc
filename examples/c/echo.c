/* Two processes: the parent posts a message, the child posts it back. cc echo.c -lmessageport */
#include <err.h>
#include <messageport.h>
#include <stdio.h>
#include <sys/wait.h>

static void check(msgport_code code)
{
    if (code != MSGPORT_OK) errx(1, "%s", msgport_code_text(code));
}

int main(void)
{
    msgport_port *port, *theirs;
    msgport_message *message;
    const char *arguments[] = { "echo", NULL };
    const void *data;
    size_t len;
    int32_t child = 0;
    check(msgport_message_new(&message));
    if (msgport_parent_port(&port) == MSGPORT_OK) { /* the child: until the parent closes its port */
        while (msgport_port_recv_into(port, MSGPORT_FOREVER, message, &data, &len) == MSGPORT_OK)
            check(msgport_port_post_message(port, data, len, NULL, 0, 0));
    } else {
        check(msgport_channel_new(NULL, &port, &theirs));
        check(msgport_spawn_with_port("/proc/self/exe", arguments, NULL, theirs, &child));
        check(msgport_port_post_message(port, "hello", 5, NULL, 0, 0));
        check(msgport_port_recv_into(port, MSGPORT_FOREVER, message, &data, &len));
        printf("%.*s\n", (int)len, (const char *)data);
        msgport_port_free(theirs);
    }
    msgport_message_free(message);
    msgport_port_free(port);
    return child != 0 && waitpid(child, NULL, 0) != child;
}
