/*
 * A port in a libuv loop: a poll handle for its descriptor, and a prepare handle that receives until the port is empty,
 * which arms the wake-up, before the loop sleeps.
 */
#include <messageport.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

typedef struct port_in_loop {
    msgport_port *port;
    msgport_message *message;
    uv_poll_t poll;
    uv_prepare_t prepare;
    uv_timer_t timer;
    int received, ticks;
} port_in_loop;

static void check(msgport_code code)
{
    char why[200];
    if (code == MSGPORT_OK) return;
    msgport_describe(code, why, sizeof why);
    fprintf(stderr, "%s: %s\n", msgport_code_name(code), why);
    exit(1);
}

/* Receives all messages that have arrived. Once the peer is gone, stops the handles, which ends the loop. */
static void drain(port_in_loop *self)
{
    msgport_code code;
    while ((code = msgport_port_recv_into(self->port, 0, self->message, NULL, NULL)) == MSGPORT_OK) self->received++;
    if (code == MSGPORT_EMPTY) return;
    if (code != MSGPORT_PEER_CLOSED && code != MSGPORT_PEER_DIED) check(code);
    uv_poll_stop(&self->poll);
    uv_prepare_stop(&self->prepare);
    uv_timer_stop(&self->timer);
}

static void before_sleep(uv_prepare_t *prepare)
{
    drain(prepare->data);
}

/* The descriptor is readable. The loop calls `before_sleep` next, which receives. */
static void ready(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)events;
    if (status != 0) exit(1);
}

static void tick(uv_timer_t *timer)
{
    ((port_in_loop *)timer->data)->ticks++;
}

/* The child posts a thousand messages with pauses, then closes its port. */
static int be_the_child(msgport_port *parent)
{
    for (int i = 0; i < 1000; i++) {
        check(msgport_port_post_message(parent, &i, sizeof i, NULL, 0, MSGPORT_FOREVER));
        if (i % 100 == 0) usleep(1000);
    }
    msgport_port_free(parent);
    return 0;
}

int main(void)
{
    const char *arguments[] = { "uv", NULL };
    port_in_loop self = { 0 };
    msgport_port *theirs;
    int32_t child;
    int descriptor;
    uv_loop_t *loop = uv_default_loop();

    if (msgport_parent_port(&self.port) == MSGPORT_OK) return be_the_child(self.port);

    check(msgport_channel_new(NULL, &self.port, &theirs));
    check(msgport_message_new(&self.message));
    check(msgport_spawn_with_port("/proc/self/exe", arguments, NULL, theirs, &child));
    msgport_port_free(theirs);
    check(msgport_port_descriptor(self.port, &descriptor));

    self.poll.data = self.prepare.data = self.timer.data = &self;
    uv_poll_init(loop, &self.poll, descriptor);
    uv_poll_start(&self.poll, UV_READABLE, ready);
    uv_prepare_init(loop, &self.prepare);
    uv_prepare_start(&self.prepare, before_sleep);
    uv_timer_init(loop, &self.timer);
    uv_timer_start(&self.timer, tick, 0, 1);
    uv_run(loop, UV_RUN_DEFAULT);

    uv_close((uv_handle_t *)&self.poll, NULL); /* before the port is freed */
    uv_close((uv_handle_t *)&self.prepare, NULL);
    uv_close((uv_handle_t *)&self.timer, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    msgport_message_free(self.message);
    msgport_port_free(self.port);
    waitpid(child, NULL, 0);
    printf("%d messages, and the timer %s\n", self.received, self.ticks > 0 ? "ran" : "did not run");
    return 0;
}
