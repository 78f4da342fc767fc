/* Planted faults, which prove that the checkers examine the memory that the library returns. */
#include "check.h"

int main(int argc, char **argv)
{
    const char *fault = argc > 1 ? argv[1] : "";
    msgport_port *a, *b;
    msgport_message *message;
    const void *data;
    size_t len;
    volatile int number = argc;
    make_pair(&a, &b);
    post_text(a, "sixteen letters.");
    OK(msgport_port_recv(b, PATIENCE, &message));
    OK(msgport_message_data(message, &data, &len));
    if (strcmp(fault, "use after free") == 0) {
        msgport_message_free(message);
        message = NULL;
        number = ((const char *)data)[3];
    } else if (strcmp(fault, "read past the end") == 0) {
        number = ((const char *)data)[16];
    } else if (strcmp(fault, "leak") == 0) {
        message = NULL;
        data = NULL;
    } else if (strcmp(fault, "overflow") == 0) {
        number = 0x7fffffff;
        number += argc;
    } else if (strcmp(fault, "undefined") == 0) {
        char *undefined = malloc(1);
        CHECK(undefined != NULL);
        if (*undefined == 'x') puts("it is");
        free(undefined);
    }
    msgport_message_free(message);
    msgport_port_free(a);
    msgport_port_free(b);
    return number == 123456;
}
