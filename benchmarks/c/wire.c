#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { TURN = 65536, EVENTS = 256, BACKLOG = 1024 }; /* octets read at once: more would delay small messages */

struct listener {
    struct source source;
    SSL_CTX *implicit;
    const struct callbacks *callbacks;
};
struct later { /* something that happens one distance later */
    struct later *next;
    double due;
    struct connection *connection;
    enum { BEGIN, SEND, CLOSE } what;
    size_t length;
    char data[];
};

static int epoll_descriptor = -1;
static double distance;
static struct later *next_later, **last_later = &next_later;
static struct timer *timers, later_timer;
static struct source clock_source;
static double armed;
static struct connection *dead;
static void (*line_of_input)(char *text);
static struct bytes input;

/* Octets */

static void make_room(struct bytes *bytes, size_t more)
{
    if (bytes->start + bytes->length + more <= bytes->room)
        return;
    if (bytes->start) {
        memmove(bytes->data, first(bytes), bytes->length);
        bytes->start = 0;
    }
    if (bytes->length + more > bytes->room) {
        bytes->room = (bytes->length + more) * 2 + 256;
        bytes->data = realloc(bytes->data, bytes->room);
        if (!bytes->data)
            fail("out of memory");
    }
}

void add(struct bytes *bytes, const void *data, size_t length)
{
    if (!length)
        return;
    make_room(bytes, length);
    memcpy(first(bytes) + bytes->length, data, length);
    bytes->length += length;
}

void add_text(struct bytes *bytes, const char *format, ...)
{
    va_list words, again;
    va_start(words, format);
    va_copy(again, words);
    int length = vsnprintf(NULL, 0, format, words);
    make_room(bytes, (size_t)length + 1);
    vsnprintf(first(bytes) + bytes->length, (size_t)length + 1, format, again);
    bytes->length += (size_t)length;
    va_end(words);
    va_end(again);
}

void drop(struct bytes *bytes, size_t length)
{
    bytes->start += length;
    bytes->length -= length;
    if (!bytes->length)
        bytes->start = 0;
}

void empty(struct bytes *bytes) { bytes->start = bytes->length = 0; }

void discard(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

long line_length(const struct bytes *bytes)
{
    if (!bytes->length)
        return -1;
    char *end = memmem(first(bytes), bytes->length, "\r\n", 2);
    return end ? end - first(bytes) : -1;
}

/* Surroundings */

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

double cpu(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void fail(const char *format, ...)
{
    va_list words;
    va_start(words, format);
    vfprintf(stderr, format, words);
    va_end(words);
    fputc('\n', stderr);
    exit(1);
}

const char *setting(char **words, const char *name)
{
    size_t length = strlen(name);
    for (; *words; words++)
        if (!strncmp(*words, name, length) && (*words)[length] == '=')
            return *words + length + 1;
    return NULL;
}

const char *needed(char **words, const char *name)
{
    const char *value = setting(words, name);
    if (!value)
        fail("%s=... is needed", name);
    return value;
}

/* Time */

static void arm(void)
{
    double due = 0;
    for (struct timer *timer = timers; timer; timer = timer->next)
        if (timer->due && (!due || timer->due < due))
            due = timer->due;
    if (due == armed)
        return;
    armed = due;
    struct itimerspec when = {.it_value = {(time_t)due, (long)((due - (double)(time_t)due) * 1e9)}};
    timerfd_settime(clock_source.descriptor, TFD_TIMER_ABSTIME, &when, NULL);
}

void set_timer(struct timer *timer, double due)
{
    if (!timer->known) {
        timer->known = true;
        timer->next = timers;
        timers = timer;
    }
    timer->due = due;
}

static void time_has_come(struct source *source, uint32_t events)
{
    (void)events;
    uint64_t times;
    if (read(source->descriptor, &times, sizeof times) < 0 && errno != EAGAIN)
        fail("timerfd: %s", strerror(errno));
    armed = 0;
    double time = now();
    for (struct timer *timer = timers; timer; timer = timer->next)
        if (timer->due && timer->due <= time) {
            timer->due = 0;
            timer->fire(timer);
        }
}

/* Connections */

static void watch(struct source *source, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(epoll_descriptor, how, source->descriptor, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void watch_for(struct connection *connection, uint32_t events)
{
    if (connection->watched == events)
        return;
    watch(&connection->source, connection->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, events);
    connection->watched = events;
}

static void end(struct connection *connection)
{
    if (connection->gone)
        return;
    connection->gone = true;
    close(connection->source.descriptor);
    connection->next_dead = dead; /* events of this round, and the caller, may still name it */
    dead = connection;
}

static void free_dead(void)
{
    for (struct connection *connection = dead; connection; connection = connection->told ? connection->next_dead : dead)
        if (!connection->told) {
            connection->told = true;
            connection->callbacks->closed(connection); /* may end others */
        }
    struct connection **place = &dead;
    while (*place) {
        struct connection *connection = *place;
        if (connection->delayed) {
            place = &connection->next_dead;
            continue;
        }
        *place = connection->next_dead;
        SSL_free(connection->tls); /* with its two buffers */
        discard(&connection->unsent);
        free(connection);
    }
}

static void put(struct connection *connection, const char *data, size_t length)
{
    if (connection->gone)
        return;
    if (!connection->unsent.length) {
        ssize_t sent = send(connection->source.descriptor, data, length, MSG_NOSIGNAL);
        if (sent == (ssize_t)length)
            return;
        if (sent < 0 && errno != EAGAIN) {
            connection->closing = true; /* the next event, at the latest the end of input, ends it */
            shutdown(connection->source.descriptor, SHUT_RDWR);
            return;
        }
        if (sent > 0) {
            data += sent;
            length -= (size_t)sent;
        }
    }
    add(&connection->unsent, data, length);
    watch_for(connection, EPOLLIN | EPOLLOUT);
}

static void happens_later(struct connection *connection, int what, const char *data, size_t length)
{
    struct later *later = malloc(sizeof *later + length);
    if (!later)
        fail("out of memory");
    *later = (struct later){.due = now() + distance, .connection = connection, .what = what, .length = length};
    if (length)
        memcpy(later->data, data, length);
    connection->delayed++;
    if (!next_later)
        set_timer(&later_timer, later->due);
    *last_later = later;
    last_later = &later->next;
}

static void put_far(struct connection *connection, const char *data, size_t length)
{
    if (distance && connection->accepted)
        happens_later(connection, SEND, data, length);
    else
        put(connection, data, length);
}

static void flush(struct connection *connection)
{
    char *data;
    long length = BIO_get_mem_data(connection->outgoing, &data);
    if (length > 0) {
        put_far(connection, data, (size_t)length);
        (void)BIO_reset(connection->outgoing);
    }
}

void send_out(struct connection *connection, const void *data, size_t length)
{
    if (connection->gone || connection->closing)
        return;
    if (!connection->tls) {
        put_far(connection, data, length);
        return;
    }
    if (SSL_write(connection->tls, data, (int)length) <= 0)
        fail("TLS takes no output");
    flush(connection);
}

static void close_now(struct connection *connection)
{
    if (!connection->unsent.length)
        end(connection);
}

void close_after_output(struct connection *connection)
{
    if (connection->gone || connection->closing)
        return;
    connection->closing = true;
    if (distance && connection->accepted)
        happens_later(connection, CLOSE, NULL, 0);
    else
        close_now(connection);
}

void secure(struct connection *connection, SSL_CTX *context)
{
    connection->tls = SSL_new(context);
    connection->incoming = BIO_new(BIO_s_mem());
    connection->outgoing = BIO_new(BIO_s_mem());
    SSL_set_bio(connection->tls, connection->incoming, connection->outgoing);
    if (connection->accepted) {
        SSL_set_accept_state(connection->tls);
    } else {
        SSL_set_connect_state(connection->tls);
        SSL_set1_host(connection->tls, "localhost");
        SSL_set_tlsext_host_name(connection->tls, "localhost");
    }
}

/* Continue the handshake; an error ends the connection. */
static void shake(struct connection *connection)
{
    int done = SSL_do_handshake(connection->tls);
    flush(connection);
    if (done != 1) {
        if (SSL_get_error(connection->tls, done) != SSL_ERROR_WANT_READ)
            end(connection);
        return;
    }
    connection->shaken = true;
    if (connection->callbacks->secured)
        connection->callbacks->secured(connection, SSL_session_reused(connection->tls));
    if (connection->implicit)
        connection->callbacks->opened(connection);
}

static void decrypt(struct connection *connection, const char *data, size_t length)
{
    static char clear[TURN];
    BIO_write(connection->incoming, data, (int)length);
    if (!connection->shaken)
        shake(connection);
    while (connection->shaken && !connection->gone && !connection->closing) {
        int taken = SSL_read(connection->tls, clear, sizeof clear);
        if (taken <= 0) {
            flush(connection);
            if (SSL_get_error(connection->tls, taken) != SSL_ERROR_WANT_READ)
                close_after_output(connection); /* the client's close_notify, or an error */
            return;
        }
        connection->callbacks->received(connection, clear, (size_t)taken);
    }
}

static void begin(struct connection *connection)
{
    connection->begun = true;
    watch_for(connection, EPOLLIN);
    if (connection->implicit)
        secure(connection, connection->implicit);
    else
        connection->callbacks->opened(connection);
}

static void connection_ready(struct source *source, uint32_t events)
{
    static char data[TURN];
    struct connection *connection = (struct connection *)source;
    if (connection->gone)
        return;
    if (!connection->begun && events & EPOLLOUT) { /* connected, with TLS from the first octet */
        connection->begun = true;
        watch_for(connection, EPOLLIN);
        secure(connection, connection->implicit);
        shake(connection);
        return;
    }
    if (connection->unsent.length && events & EPOLLOUT) {
        ssize_t sent = send(source->descriptor, first(&connection->unsent), connection->unsent.length, MSG_NOSIGNAL);
        if (sent > 0)
            drop(&connection->unsent, (size_t)sent);
        if (!connection->unsent.length) {
            watch_for(connection, EPOLLIN);
            if (connection->closing && !connection->delayed) {
                end(connection);
                return;
            }
            if (connection->callbacks->drained)
                connection->callbacks->drained(connection);
        }
    }
    if (connection->gone || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    ssize_t taken = recv(source->descriptor, data, sizeof data, 0);
    if (taken == 0 || (taken < 0 && errno != EAGAIN))
        end(connection);
    else if (taken > 0 && connection->tls && !connection->closing)
        decrypt(connection, data, (size_t)taken);
    else if (taken > 0 && !connection->closing)
        connection->callbacks->received(connection, data, (size_t)taken);
}

static void fire_later(struct timer *timer)
{
    double time = now();
    while (next_later && next_later->due <= time) {
        struct later *later = next_later;
        struct connection *connection = later->connection;
        if (!(next_later = later->next))
            last_later = &next_later;
        connection->delayed--;
        if (!connection->gone) {
            if (later->what == BEGIN)
                begin(connection);
            else if (later->what == SEND)
                put(connection, later->data, later->length);
            else
                close_now(connection);
        }
        free(later);
    }
    if (next_later)
        set_timer(timer, next_later->due);
}

static struct connection *connection_of(int socket, SSL_CTX *implicit, const struct callbacks *callbacks)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        fail("out of memory");
    int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->source = (struct source){socket, connection_ready};
    connection->implicit = implicit;
    connection->callbacks = callbacks;
    return connection;
}

static void accept_all(struct source *source, uint32_t events)
{
    (void)events;
    struct listener *listener = (struct listener *)source;
    for (int turn = 0; turn < 16; turn++) {
        int socket = accept4(source->descriptor, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (socket < 0) {
            if (errno != EAGAIN && errno != ECONNABORTED)
                fail("accept: %s", strerror(errno));
            return;
        }
        struct connection *connection = connection_of(socket, listener->implicit, listener->callbacks);
        connection->accepted = true;
        if (distance)
            happens_later(connection, BEGIN, NULL, 0);
        else
            begin(connection);
    }
}

int listen_on(int port, SSL_CTX *implicit, const struct callbacks *callbacks)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        fail("out of memory");
    int socket_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(socket_, (struct sockaddr *)&address, length) < 0 || listen(socket_, BACKLOG) < 0)
        fail("port %d: %s", port, strerror(errno));
    getsockname(socket_, (struct sockaddr *)&address, &length);
    *listener = (struct listener){{socket_, accept_all}, implicit, callbacks};
    if (epoll_descriptor < 0)
        epoll_descriptor = epoll_create1(EPOLL_CLOEXEC);
    watch(&listener->source, EPOLL_CTL_ADD, EPOLLIN);
    return ntohs(address.sin_port);
}

struct connection *connect_to(int port, SSL_CTX *implicit, const struct callbacks *callbacks, void *owner)
{
    int socket_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (socket_ < 0)
        fail("socket: %s", strerror(errno));
    if (connect(socket_, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    struct connection *connection = connection_of(socket_, implicit, callbacks);
    connection->owner = owner;
    connection->begun = !implicit; /* the server speaks first */
    if (epoll_descriptor < 0)
        epoll_descriptor = epoll_create1(EPOLL_CLOEXEC);
    watch_for(connection, implicit ? EPOLLOUT : EPOLLIN);
    return connection;
}

static SSL_CTX *modern(SSL_CTX *context)
{
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_COMPRESSION);
    return context;
}

SSL_CTX *server_tls(const char *certificate, const char *key)
{
    SSL_CTX *context = modern(SSL_CTX_new(TLS_server_method()));
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        fail("%s, %s: not a certificate with its key", certificate, key);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"bench", 5);
    return context;
}

SSL_CTX *client_tls(const char *ca_file)
{
    SSL_CTX *context = modern(SSL_CTX_new(TLS_client_method()));
    if (SSL_CTX_load_verify_locations(context, ca_file, NULL) != 1)
        fail("%s: not a certificate", ca_file);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return context;
}

/* Standard input, and the loop */

static void input_ready(struct source *source, uint32_t events)
{
    (void)events;
    char data[4096];
    ssize_t taken = read(source->descriptor, data, sizeof data);
    if (taken == 0)
        exit(0);
    if (taken < 0)
        return;
    add(&input, data, (size_t)taken);
    for (char *end; input.length && (end = memchr(first(&input), '\n', input.length));) {
        *end = 0;
        char *line = first(&input);
        size_t length = (size_t)(end - line) + 1;
        line_of_input(line);
        drop(&input, length);
    }
}

void read_lines(void (*line)(char *text))
{
    static struct source standard_input = {STDIN_FILENO, input_ready};
    line_of_input = line;
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    if (epoll_descriptor < 0)
        epoll_descriptor = epoll_create1(EPOLL_CLOEXEC);
    watch(&standard_input, EPOLL_CTL_ADD, EPOLLIN);
}

void run(double distance_of_all)
{
    struct epoll_event events[EVENTS];
    struct rlimit limit;
    signal(SIGPIPE, SIG_IGN);
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    distance = distance_of_all;
    later_timer.fire = fire_later;
    clock_source = (struct source){timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), time_has_come};
    watch(&clock_source, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        arm();
        int count = epoll_wait(epoll_descriptor, events, EVENTS, -1);
        for (int number = 0; number < count; number++) {
            struct source *source = events[number].data.ptr;
            source->ready(source, events[number].events);
        }
        free_dead();
    }
}
