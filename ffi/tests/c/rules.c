/* The rules of a port, one case each: posting and transferring. */
#include "check.h"

/* ---- Pair ---- */

static void s01_new_makes_two_entangled_ports(void)
{
    msgport_port *a, *b, *c, *d;
    make_pair(&a, &b);
    make_pair(&c, &d);
    expect_entangled(a, b);
    expect_entangled(d, c);
    expect_empty(a);
    expect_empty(b);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
}

static void s02_both_ends_post_before_anybody_looks(void)
{
    msgport_port *a, *b;
    make_pair(&a, &b);
    for (uint32_t number = 0; number < 100; number++) {
        post_number(a, number);
        post_number(b, number);
    }
    expect_numbers(a, 0, 100);
    expect_numbers(b, 0, 100);
    msgport_port_free(a);
    msgport_port_free(b);
}

/* ---- Posting ---- */

static void s05_order_holds_across_transfers_of_either_end(void)
{
    msgport_port *a, *b;
    uint32_t number = 0;
    make_pair(&a, &b);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 10; i++) post_number(a, number++);
        a = hop(a);
        for (int i = 0; i < 10; i++) post_number(a, number++);
        b = hop(b);
    }
    expect_numbers(b, 0, number);
    expect_empty(b);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void s07_data_is_a_snapshot(void)
{
    msgport_port *a, *b;
    char text[] = "before";
    make_pair(&a, &b);
    OK(msgport_port_post_message(a, text, 6, NULL, 0, 0));
    memset(text, 'x', 6);
    EXPECT_TEXT(b, "before");
    msgport_port_free(a);
    msgport_port_free(b);
}

static void s08_a_full_queue_is_an_error_and_can_be_waited_for(void)
{
    msgport_port *a, *b;
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    char block[1000] = { 0 };
    static char large[100000];
    msgport_message *message;
    msgport_buffer *buffer;
    msgport_item item;
    msgport_code code;
    options.capacity = options.max_capacity = 4096;
    OK(msgport_channel_new(&options, &a, &b));
    while ((code = msgport_port_post_message(a, block, sizeof block, NULL, 0, 0)) == MSGPORT_OK) continue;
    CODE(MSGPORT_FULL, code);
    CODE(MSGPORT_TIMED_OUT, msgport_port_post_message(a, block, sizeof block, NULL, 0, 1000000));
    CODE(MSGPORT_TIMED_OUT, msgport_port_post_message(a, block, sizeof block, NULL, 0, 1));
    while ((code = msgport_port_recv(b, 0, &message)) == MSGPORT_OK) msgport_message_free(message);
    CODE(MSGPORT_EMPTY, code);
    OK(msgport_port_post_message(a, block, sizeof block, NULL, 0, MSGPORT_FOREVER));
    OK(msgport_port_recv(b, 0, &message));
    msgport_message_free(message);
    CODE(MSGPORT_EMPTY, msgport_port_recv(b, 0, &message));

    /* Data that no ring of this channel can hold counts too, and a buffer counts apart. */
    OK(msgport_buffer_new(5000, &buffer));
    item = msgport_item_buffer(buffer);
    OK(msgport_port_post_message(a, large, sizeof large, &item, 1, 0));
    msgport_buffer_free(buffer);
    CHECK(queued_of(a).bytes >= sizeof large && queued_of(a).bytes < sizeof large + 4096);
    CHECK(queued_of(a).transferred == 5000);
    CODE(MSGPORT_FULL, msgport_port_post_message(a, large, sizeof large, NULL, 0, 0));
    CODE(MSGPORT_TIMED_OUT, msgport_port_post_message(a, large, sizeof large, NULL, 0, 1));
    OK(msgport_port_recv(b, 0, &message));
    msgport_message_free(message);
    OK(msgport_port_post_message(a, large, sizeof large, NULL, 0, MSGPORT_FOREVER));
    CHECK(queued_of(a).transferred == 0);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void s09_a_list_moves_as_a_whole_or_not_at_all(void)
{
    msgport_port *a, *b, *c, *d, *closed, *other;
    msgport_buffer *buffer;
    msgport_item items[4];
    size_t len;
    make_pair(&a, &b);
    make_pair(&c, &d);
    make_pair(&closed, &other);
    OK(msgport_port_close(closed));
    OK(msgport_buffer_new(100, &buffer));
    items[0] = msgport_item_port(c);
    items[1] = msgport_item_buffer(buffer);

    items[2] = msgport_item_port(a);
    CODE(MSGPORT_CONTAINS_SELF, msgport_port_post_message(a, "x", 1, items, 3, 0));
    CHECK(msgport_failed_item(MSGPORT_CONTAINS_SELF) == 2);
    items[2] = msgport_item_port(b);
    CODE(MSGPORT_CONTAINS_PEER, msgport_port_post_message(a, "x", 1, items, 3, 0));
    CHECK(msgport_failed_item(MSGPORT_CONTAINS_PEER) == 2);
    items[2] = msgport_item_port(c);
    CODE(MSGPORT_DUPLICATE, msgport_port_post_message(a, "x", 1, items, 3, 0));
    CHECK(msgport_failed_item(MSGPORT_DUPLICATE) == 2);
    items[2] = msgport_item_port(closed);
    CODE(MSGPORT_UNUSABLE, msgport_port_post_message(a, "x", 1, items, 3, 0));
    CHECK(msgport_failed_item(MSGPORT_UNUSABLE) == 2);
    items[2] = msgport_item_port(NULL);
    CODE(MSGPORT_BAD_ITEM, msgport_port_post_message(a, "x", 1, items, 3, 0));
    CHECK(msgport_failed_item(MSGPORT_BAD_ITEM) == 2);
    items[2].kind = 77;
    CODE(MSGPORT_BAD_ITEM, msgport_port_post_message(a, "x", 1, items, 3, 0));
    CHECK(msgport_failed_item(MSGPORT_BAD_ITEM) == 2);
    items[2] = msgport_item_port(other);
    items[2].reserved = 1;
    CODE(MSGPORT_BAD_ITEM, msgport_port_post_message(a, "x", 1, items, 3, 0));
    CHECK(msgport_failed_item(MSGPORT_BAD_ITEM) == 2);
    items[2] = msgport_item_buffer((msgport_buffer *)other);
    CODE(MSGPORT_BAD_ITEM, msgport_port_post_message(a, "x", 1, items, 3, 0));
    CHECK(msgport_failed_item(MSGPORT_BAD_ITEM) == 2);
    CHECK(msgport_failed_item(MSGPORT_DUPLICATE) == SIZE_MAX); /* not the last failure */

    /* Nothing has moved, and everything works. */
    expect_entangled(a, b);
    expect_entangled(c, d);
    OK(msgport_buffer_len(buffer, &len));
    CHECK(len == 100);
    expect_empty(b);

    OK(msgport_port_post_message(a, "x", 1, items, 2, 0));
    CODE(MSGPORT_UNUSABLE, msgport_port_post_message(a, "x", 1, items, 2, 0));
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
    msgport_port_free(closed);
    msgport_port_free(other);
    msgport_buffer_free(buffer);
}

static void s10_errors_come_in_their_order(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_channel_options options = MSGPORT_CHANNEL_OPTIONS_INIT;
    msgport_item items[4];
    size_t max;
    char *large;
    options.max_handles = 4;
    options.max_message_len = 100000;
    OK(msgport_channel_new(&options, &a, &b));
    make_pair(&c, &d);
    CHECK(queued_of(a).max_inline_len == 65536 / 16 * 7 - 8);
    max = queued_of(a).max_message_len;
    CHECK(max == 100000);
    large = calloc(1, max + 1);
    CHECK(large != NULL);
    items[0] = msgport_item_port(a);
    items[1] = msgport_item_port(b);
    items[2] = msgport_item_port(c);
    items[3] = msgport_item_port(c);
    CODE(MSGPORT_CONTAINS_SELF, msgport_port_post_message(a, large, max + 1, items, 4, 0));
    CODE(MSGPORT_CONTAINS_PEER, msgport_port_post_message(a, large, max + 1, items + 1, 3, 0));
    CODE(MSGPORT_DUPLICATE, msgport_port_post_message(a, large, max + 1, items + 2, 2, 0));
    items[3] = msgport_item_port(d);
    CODE(MSGPORT_TOO_LARGE, msgport_port_post_message(a, large, max + 1, NULL, 0, 0));
    OK(msgport_port_post_message(a, large, max, NULL, 0, 0));
    {
        msgport_port *e, *f;
        msgport_item three[3];
        make_pair(&e, &f);
        three[0] = msgport_item_port(c);
        three[1] = msgport_item_port(d);
        three[2] = msgport_item_port(e);
        CODE(MSGPORT_TOO_MANY_HANDLES, msgport_port_post_message(a, large, max + 1, three, 3, 0));
        msgport_port_free(e);
        msgport_port_free(f);
    }
    free(large);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(c);
    msgport_port_free(d);
}

static void s11_posting_where_nobody_receives_is_an_error(void)
{
    msgport_port *a, *b;
    make_pair(&a, &b);
    OK(msgport_port_close(b));
    CODE(MSGPORT_CLOSED, msgport_port_post_message(b, "x", 1, NULL, 0, 0));
    CODE(MSGPORT_PEER_CLOSED, msgport_port_post_message(a, "x", 1, NULL, 0, 0));
    msgport_port_free(a);
    msgport_port_free(b);
}

static void s12_what_is_on_the_list_leaves_although_nobody_looks(void)
{
    msgport_port *a, *b, *c, *d;
    msgport_buffer *buffer;
    msgport_item items[2];
    size_t len = 1;
    int fd;
    make_pair(&a, &b);
    make_pair(&c, &d);
    OK(msgport_buffer_new(10, &buffer));
    items[0] = msgport_item_port(c);
    items[1] = msgport_item_buffer(buffer);
    OK(msgport_port_post_message(a, "x", 1, items, 2, 0));
    CODE(MSGPORT_DETACHED, msgport_port_post_message(c, "x", 1, NULL, 0, 0));
    CODE(MSGPORT_DETACHED, msgport_buffer_write_at(buffer, 0, "x", 1));
    OK(msgport_buffer_len(buffer, &len));
    CHECK(len == 0);
    OK(msgport_port_descriptor(c, &fd));
    msgport_port_free(c);
    msgport_buffer_free(buffer);
    msgport_port_free(a);
    msgport_port_free(b);
    /* The message that carried c was dropped. */
    expect_end(d, MSGPORT_PEER_CLOSED);
    msgport_port_free(d);
}

static void s13_things_arrive_in_list_order(void)
{
    msgport_port *a, *b, *near[3], *far[3], *port;
    msgport_buffer *buffers[2], *buffer;
    msgport_item items[5];
    msgport_message *message;
    size_t count, len;
    make_pair(&a, &b);
    for (int i = 0; i < 3; i++) make_pair(&near[i], &far[i]);
    OK(msgport_buffer_new(1, &buffers[0]));
    OK(msgport_buffer_new(2, &buffers[1]));
    items[0] = msgport_item_port(far[0]);
    items[1] = msgport_item_buffer(buffers[0]);
    items[2] = msgport_item_port(far[1]);
    items[3] = msgport_item_port(far[2]);
    items[4] = msgport_item_buffer(buffers[1]);
    OK(msgport_port_post_message(a, NULL, 0, items, 5, 0));
    OK(msgport_port_recv(b, PATIENCE, &message));
    OK(msgport_message_count(message, MSGPORT_ITEM_PORT, &count));
    CHECK(count == 3);
    OK(msgport_message_count(message, MSGPORT_ITEM_BUFFER, &count));
    CHECK(count == 2);
    for (int i = 2; i >= 0; i--) {
        OK(msgport_message_take_port(message, (size_t)i, &port));
        expect_entangled(near[i], port);
        msgport_port_free(port);
        CODE(MSGPORT_TAKEN, msgport_message_take_port(message, (size_t)i, &port));
    }
    CODE(MSGPORT_OUT_OF_RANGE, msgport_message_take_port(message, 3, &port));
    for (size_t i = 0; i < 2; i++) {
        OK(msgport_message_take_buffer(message, i, &buffer));
        OK(msgport_buffer_len(buffer, &len));
        CHECK(len == i + 1);
        msgport_buffer_free(buffer);
    }
    CODE(MSGPORT_TAKEN, msgport_message_take_buffer(message, 0, &buffer));
    CODE(MSGPORT_OUT_OF_RANGE, msgport_message_take_buffer(message, 2, &buffer));
    msgport_message_free(message);
    for (int i = 0; i < 3; i++) {
        msgport_port_free(near[i]);
        msgport_port_free(far[i]);
    }
    for (int i = 0; i < 2; i++) msgport_buffer_free(buffers[i]);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void s14_nothing_is_something(void)
{
    msgport_port *a, *b;
    msgport_buffer *buffer, *arrived;
    msgport_item item;
    msgport_message *message;
    const void *data = NULL;
    void *memory = NULL;
    size_t len = 1;
    make_pair(&a, &b);
    OK(msgport_port_post_message(a, NULL, 0, NULL, 0, 0));
    OK(msgport_port_recv(b, PATIENCE, &message));
    OK(msgport_message_data(message, &data, &len));
    CHECK(len == 0 && data != NULL);
    msgport_message_free(message);
    OK(msgport_buffer_new(0, &buffer));
    item = msgport_item_buffer(buffer);
    OK(msgport_port_post_message(a, NULL, 0, &item, 1, 0));
    OK(msgport_port_recv(b, PATIENCE, &message));
    OK(msgport_message_take_buffer(message, 0, &arrived));
    OK(msgport_buffer_data(arrived, &memory, &len));
    CHECK(memory != NULL && len == 0);
    msgport_buffer_free(arrived);
    msgport_message_free(message);
    msgport_buffer_free(buffer);
    expect_empty(b);
    msgport_port_free(a);
    msgport_port_free(b);
}

/* ---- Transferring ports ---- */

static void s25_the_queue_moves_with_the_port(void)
{
    msgport_port *a, *b, *witness;
    make_pair(&a, &b);
    for (uint32_t number = 0; number < 50; number++) post_number(a, number);
    expect_numbers(b, 0, 10);
    b = hop(b);
    expect_numbers(b, 10, 30);
    b = hop(b);
    expect_numbers(b, 30, 50);
    expect_empty(b);
    witness = b;
    expect_entangled(a, witness);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void s26_messages_in_transit_join_the_queue(void)
{
    msgport_port *a, *b, *carrier1, *carrier2;
    make_pair(&a, &b);
    make_pair(&carrier1, &carrier2);
    post_text(a, "before");
    post_port(carrier1, "", b);
    post_text(a, "during");
    b = recv_port(carrier2);
    post_text(a, "after");
    EXPECT_TEXT(b, "before");
    EXPECT_TEXT(b, "during");
    EXPECT_TEXT(b, "after");
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(carrier1);
    msgport_port_free(carrier2);
}

static void s29_the_old_handle_is_detached(void)
{
    msgport_port *a, *b, *arrived, *carrier1, *carrier2;
    msgport_item item;
    msgport_message *message = NULL;
    void *place;
    make_pair(&a, &b);
    make_pair(&carrier1, &carrier2);
    item = msgport_item_port(b);
    OK(msgport_port_post_message(carrier1, NULL, 0, &item, 1, 0));
    arrived = recv_port(carrier2);
    CODE(MSGPORT_DETACHED, msgport_port_post_message(b, "x", 1, NULL, 0, 0));
    CODE(MSGPORT_DETACHED, msgport_port_post_message(b, "x", 1, NULL, 0, 1));
    CODE(MSGPORT_DETACHED, msgport_port_reserve(b, 1, &place));
    CODE(MSGPORT_DETACHED, msgport_port_recv(b, 0, &message));
    OK(msgport_port_close(b)); /* closes nothing */
    expect_entangled(a, arrived);
    msgport_port_free(b);
    expect_entangled(a, arrived);
    msgport_port_free(a);
    msgport_port_free(arrived);
    msgport_port_free(carrier1);
    msgport_port_free(carrier2);
}

static void s30_any_number_of_hops(void)
{
    msgport_port *a, *b;
    make_pair(&a, &b);
    post_text(a, "patience");
    for (int i = 0; i < 100; i++) b = hop(b);
    EXPECT_TEXT(b, "patience");
    expect_entangled(a, b);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void s31_both_ends_in_transit_find_each_other(void)
{
    msgport_port *a, *b, *carrier1, *carrier2;
    make_pair(&a, &b);
    make_pair(&carrier1, &carrier2);
    post_text(a, "hello");
    post_port(carrier1, "", a);
    post_port(carrier2, "", b);
    b = recv_port(carrier1);
    a = recv_port(carrier2);
    EXPECT_TEXT(b, "hello");
    expect_entangled(a, b);
    msgport_port_free(a);
    msgport_port_free(b);
    msgport_port_free(carrier1);
    msgport_port_free(carrier2);
}

static void s32_queues_hold_ports_recursively(void)
{
    msgport_port *outer1, *outer2, *inner1, *inner2, *innermost1, *innermost2;
    make_pair(&outer1, &outer2);
    make_pair(&inner1, &inner2);
    make_pair(&innermost1, &innermost2);
    post_port(inner1, "", innermost2);
    post_port(outer1, "", inner2);
    outer2 = hop(outer2);
    inner2 = recv_port(outer2);
    innermost2 = recv_port(inner2);
    expect_entangled(innermost1, innermost2);
    msgport_port_free(outer1);
    msgport_port_free(outer2);
    msgport_port_free(inner1);
    msgport_port_free(inner2);
    msgport_port_free(innermost1);
    msgport_port_free(innermost2);
}

static void s33_sixty_four_ports_in_one_message(void)
{
    enum { COUNT = 64 };
    msgport_port *a, *b, *near[COUNT], *far[COUNT];
    msgport_item items[COUNT];
    msgport_message *message;
    make_pair(&a, &b);
    for (int i = 0; i < COUNT; i++) {
        make_pair(&near[i], &far[i]);
        items[i] = msgport_item_port(far[i]);
    }
    OK(msgport_port_post_message(a, NULL, 0, items, COUNT, 0));
    OK(msgport_port_recv(b, PATIENCE, &message));
    for (int i = 0; i < COUNT; i++) {
        msgport_port *port;
        OK(msgport_message_take_port(message, (size_t)i, &port));
        expect_entangled(near[i], port);
        msgport_port_free(near[i]);
        msgport_port_free(far[i]);
        msgport_port_free(port);
    }
    msgport_message_free(message);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void s34_the_queue_comes_before_the_close_in_transit(void)
{
    msgport_port *a, *b, *carrier1, *carrier2;
    make_pair(&a, &b);
    make_pair(&carrier1, &carrier2);
    post_text(a, "first");
    post_port(carrier1, "", b);
    post_text(a, "second");
    msgport_port_free(a);
    b = recv_port(carrier2);
    EXPECT_TEXT(b, "first");
    EXPECT_TEXT(b, "second");
    expect_end(b, MSGPORT_PEER_CLOSED);
    msgport_port_free(b);
    msgport_port_free(carrier1);
    msgport_port_free(carrier2);
}

/* ---- Transferring buffers ---- */

static void s37_a_buffer_arrives_with_its_contents(void)
{
    msgport_port *a, *b;
    msgport_buffer *buffer, *arrived;
    msgport_item item;
    msgport_message *message;
    void *memory = NULL;
    size_t len = 0;
    char text[7] = { 0 };
    make_pair(&a, &b);
    OK(msgport_buffer_new(3 << 20, &buffer));
    OK(msgport_buffer_data(buffer, &memory, &len));
    CHECK(len == 3 << 20 && (uintptr_t)memory % 4096 == 0);
    memcpy((char *)memory + 5000, "inside", 6);
    OK(msgport_buffer_write_at(buffer, len - 4, "last", 4));
    CODE(MSGPORT_OUT_OF_RANGE, msgport_buffer_write_at(buffer, len - 3, "last", 4));
    CODE(MSGPORT_OUT_OF_RANGE, msgport_buffer_read_at(buffer, SIZE_MAX, text, 2));
    item = msgport_item_buffer(buffer);
    OK(msgport_port_post_message(a, NULL, 0, &item, 1, 0));
    CODE(MSGPORT_DETACHED, msgport_buffer_data(buffer, &memory, &len));
    msgport_buffer_free(buffer);
    b = hop(b);
    OK(msgport_port_recv(b, PATIENCE, &message));
    OK(msgport_message_take_buffer(message, 0, &arrived));
    msgport_message_free(message);
    OK(msgport_buffer_read_at(arrived, 5000, text, 6));
    CHECK(strcmp(text, "inside") == 0);
    OK(msgport_buffer_read_at(arrived, (3 << 20) - 4, text, 4));
    CHECK(memcmp(text, "last", 4) == 0);
    OK(msgport_buffer_data(arrived, &memory, &len));
    CHECK(len == 3 << 20 && memcmp((char *)memory + 5000, "inside", 6) == 0);
    /* Posted on. */
    item = msgport_item_buffer(arrived);
    OK(msgport_port_post_message(b, NULL, 0, &item, 1, 0));
    msgport_buffer_free(arrived);
    OK(msgport_port_recv(a, PATIENCE, &message));
    OK(msgport_message_take_buffer(message, 0, &arrived));
    OK(msgport_buffer_read_at(arrived, 5000, text, 6));
    CHECK(memcmp(text, "inside", 6) == 0);
    msgport_buffer_free(arrived);
    msgport_message_free(message);
    msgport_port_free(a);
    msgport_port_free(b);
}

static void s39_what_is_dropped_unread_is_freed(void)
{
    int before = count_descriptors();
    for (int i = 0; i < 10; i++) {
        msgport_port *a, *b, *c, *d;
        msgport_buffer *buffer;
        msgport_item items[2];
        make_pair(&a, &b);
        make_pair(&c, &d);
        OK(msgport_buffer_new(1 << 20, &buffer));
        items[0] = msgport_item_buffer(buffer);
        items[1] = msgport_item_port(c);
        OK(msgport_port_post_message(a, NULL, 0, items, 2, 0));
        msgport_buffer_free(buffer);
        msgport_port_free(c);
        if (i % 2) {
            msgport_message *message;
            OK(msgport_port_recv(b, PATIENCE, &message));
            msgport_message_free(message);
        }
        msgport_port_free(b);
        expect_end(d, MSGPORT_PEER_CLOSED);
        msgport_port_free(d);
        msgport_port_free(a);
    }
    expect_descriptors(before);
}

static const test_case CASES[] = {
    CASE(s01_new_makes_two_entangled_ports),
    CASE(s02_both_ends_post_before_anybody_looks),
    CASE(s05_order_holds_across_transfers_of_either_end),
    CASE(s07_data_is_a_snapshot),
    CASE(s08_a_full_queue_is_an_error_and_can_be_waited_for),
    CASE(s09_a_list_moves_as_a_whole_or_not_at_all),
    CASE(s10_errors_come_in_their_order),
    CASE(s11_posting_where_nobody_receives_is_an_error),
    CASE(s12_what_is_on_the_list_leaves_although_nobody_looks),
    CASE(s13_things_arrive_in_list_order),
    CASE(s14_nothing_is_something),
    CASE(s25_the_queue_moves_with_the_port),
    CASE(s26_messages_in_transit_join_the_queue),
    CASE(s29_the_old_handle_is_detached),
    CASE(s30_any_number_of_hops),
    CASE(s31_both_ends_in_transit_find_each_other),
    CASE(s32_queues_hold_ports_recursively),
    CASE(s33_sixty_four_ports_in_one_message),
    CASE(s34_the_queue_comes_before_the_close_in_transit),
    CASE(s37_a_buffer_arrives_with_its_contents),
    CASE(s39_what_is_dropped_unread_is_freed),
    { NULL, NULL },
};

int main(int argc, char **argv)
{
    return run_cases(CASES, argc, argv);
}
