/* User data whose destructor frees the handle that is just being used. valgrind sees a use after the free. */
#include "check.h"

static msgport_port *a, *b;
static msgport_loop *loop;
static int destroyed;

static void free_port(void *user)
{
    msgport_port **port = user;
    msgport_port_free(*port);
    *port = NULL;
    destroyed++;
}

static void free_loop(void *user)
{
    msgport_loop **of = user;
    msgport_loop_free(*of);
    *of = NULL;
    destroyed++;
}

static void count(void *user)
{
    ++*(int *)user;
}

static void on_message(msgport_port *port, msgport_message *message, void *user)
{
    (void)port;
    (void)message;
    (void)user;
}

static void on_message_error(msgport_port *port, const void *data, size_t len, void *user)
{
    (void)port;
    (void)data;
    (void)len;
    (void)user;
}

static void on_close(msgport_port *port, msgport_code reason, void *user)
{
    (void)port;
    (void)reason;
    (void)user;
}

static void on_error(msgport_loop *of, msgport_code code, void *user)
{
    (void)of;
    (void)code;
    (void)user;
}

static void on_task(msgport_loop *of, void *user)
{
    (void)of;
    (void)user;
}

/* The port in a loop, with a handler whose data frees the port. */
static void set_up(void)
{
    destroyed = 0;
    make_pair(&a, &b);
    OK(msgport_loop_new(&loop));
    OK(msgport_loop_add(loop, a));
    OK(msgport_port_on_message(a, MSGPORT_SET, on_message, &a, free_port, NULL));
}

/* The data was destroyed once, and with it the port. */
static void tear_down(void)
{
    CHECK(destroyed == 1 && a == NULL);
    msgport_port_free(b);
    msgport_loop_free(loop);
    loop = NULL;
    CHECK(destroyed == 1);
}

static void a_handler_is_replaced(void)
{
    int newer = 0;
    set_up();
    OK(msgport_port_on_message(a, MSGPORT_SET, on_message, &newer, count, NULL));
    CHECK(newer == 1); /* the port is gone */
    expect_end(b, MSGPORT_PEER_CLOSED);
    tear_down();
    set_up();
    OK(msgport_port_on_message_error(a, MSGPORT_SET, on_message_error, &newer, count, NULL));
    OK(msgport_port_on_message_error(a, MSGPORT_SET, on_message_error, &newer, count, NULL));
    OK(msgport_port_on_close(a, MSGPORT_SET, on_close, &newer, count, NULL));
    OK(msgport_port_on_close(a, MSGPORT_SET, on_close, &newer, count, NULL));
    CHECK(newer == 3 && destroyed == 0);
    OK(msgport_port_on_message(a, MSGPORT_SET, on_message, &newer, count, NULL));
    CHECK(newer == 6);
    tear_down();
}

static void a_handler_is_removed(void)
{
    uint64_t id;
    make_pair(&a, &b);
    destroyed = 0;
    OK(msgport_loop_new(&loop));
    OK(msgport_loop_add(loop, a));
    OK(msgport_port_on_message(a, MSGPORT_ADD, on_message, &a, free_port, &id));
    OK(msgport_port_remove_handler(a, id));
    tear_down();
}

static void the_port_is_removed_from_its_loop(void)
{
    set_up();
    OK(msgport_loop_remove(loop, a));
    tear_down();
    /* A receiving half. */
    {
        msgport_port *sender;
        make_pair(&sender, &b);
        destroyed = 0;
        OK(msgport_port_split(sender, &a));
        OK(msgport_loop_new(&loop));
        OK(msgport_loop_add(loop, a));
        OK(msgport_port_on_message(a, MSGPORT_SET, on_message, &a, free_port, NULL));
        OK(msgport_loop_remove(loop, a));
        tear_down();
        msgport_port_free(sender);
    }
}

static void the_port_is_closed(void)
{
    set_up();
    OK(msgport_port_close(a));
    tear_down();
    /* By the peer. */
    set_up();
    msgport_port_free(b);
    b = NULL;
    OK(msgport_loop_run(loop, PATIENCE));
    tear_down();
}

static void the_port_is_transferred(void)
{
    msgport_port *c, *d;
    msgport_item item;
    set_up();
    make_pair(&c, &d);
    item = msgport_item_port(a);
    OK(msgport_port_post_message(c, "a port", 6, &item, 1, 0));
    OK(msgport_loop_run(loop, PATIENCE));
    tear_down();
    msgport_port_free(c);
    msgport_port_free(d);
}

static void the_loop_is_freed(void)
{
    set_up();
    msgport_loop_free(loop);
    loop = NULL;
    tear_down();
}

static void the_data_frees_the_loop(void)
{
    int newer = 0;
    uint64_t id;
    destroyed = 0;
    /* Of a timer. */
    OK(msgport_loop_new(&loop));
    OK(msgport_loop_set_timeout(loop, PATIENCE, on_task, &loop, free_loop, &id));
    OK(msgport_loop_clear_timeout(loop, id));
    CHECK(destroyed == 1 && loop == NULL);
    /* Of a timer that has been called. */
    OK(msgport_loop_new(&loop));
    OK(msgport_loop_set_timeout(loop, 0, on_task, &loop, free_loop, NULL));
    OK(msgport_loop_run(loop, PATIENCE));
    CHECK(destroyed == 2 && loop == NULL);
    /* Of the handler of errors. */
    OK(msgport_loop_new(&loop));
    OK(msgport_loop_on_error(loop, on_error, &loop, free_loop));
    OK(msgport_loop_on_error(loop, on_error, &newer, count));
    CHECK(destroyed == 3 && loop == NULL && newer == 1);
    /* Of the handler of a port, which is removed, closed or freed. */
    for (int how = 0; how < 3; how++) {
        make_pair(&a, &b);
        OK(msgport_loop_new(&loop));
        OK(msgport_loop_add(loop, a));
        OK(msgport_port_on_message(a, MSGPORT_SET, on_message, &loop, free_loop, NULL));
        if (how == 0) OK(msgport_loop_remove(loop, a));
        else if (how == 1) OK(msgport_port_close(a));
        else msgport_port_free(a);
        CHECK(destroyed == 4 + how && loop == NULL);
        if (how == 0) expect_entangled(a, b);
        if (how < 2) msgport_port_free(a);
        msgport_port_free(b);
    }
}

static const test_case CASES[] = {
    CASE(a_handler_is_replaced),
    CASE(a_handler_is_removed),
    CASE(the_port_is_removed_from_its_loop),
    CASE(the_port_is_closed),
    CASE(the_port_is_transferred),
    CASE(the_loop_is_freed),
    CASE(the_data_frees_the_loop),
    { NULL, NULL },
};

int main(int argc, char **argv)
{
    return run_cases(CASES, argc, argv);
}
