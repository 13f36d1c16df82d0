/* Sockets, TLS and time of the benchmark's programs: one thread, epoll.

   Guarantees: octets that the kernel does not take at once are kept and sent later. With a distance of R seconds each accepted
   connection begins R late, and each of its answers leaves R late, including a TLS handshake; bandwidth is not limited.
   Not here: SMTP (smarthost.c, load.c, floor.c). A failure that makes a measurement impossible ends the program. */
#ifndef WIRE_H
#define WIRE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    char *data; /* the first octet is at data + start */
    size_t start, length, room;
};
void add(struct bytes *bytes, const void *data, size_t length);
void add_text(struct bytes *bytes, const char *format, ...) __attribute__((format(printf, 2, 3)));
void drop(struct bytes *bytes, size_t length); /* from the front */
void empty(struct bytes *bytes);
void discard(struct bytes *bytes);
static inline char *first(const struct bytes *bytes) { return bytes->data + bytes->start; }
/* The length of the first line without its CRLF; -1 if it is not complete. */
long line_length(const struct bytes *bytes);

struct source { /* something that epoll watches */
    int descriptor;
    void (*ready)(struct source *source, uint32_t events);
};

struct connection;
struct callbacks {
    void (*opened)(struct connection *connection); /* after TLS if TLS is implicit; also for outgoing ones with TLS */
    void (*secured)(struct connection *connection, bool resumed);
    void (*received)(struct connection *connection, const char *data, size_t length);
    void (*drained)(struct connection *connection); /* the kernel has taken all output; optional */
    void (*closed)(struct connection *connection);  /* last call for this connection, from the loop */
};
struct connection {
    struct source source;
    const struct callbacks *callbacks;
    void *owner;
    SSL *tls;
    SSL_CTX *implicit; /* TLS from the first octet */
    BIO *incoming, *outgoing;
    struct bytes unsent;
    uint32_t watched;
    unsigned delayed; /* octets and closings on their way */
    bool shaken, begun, closing, gone, told, accepted;
    struct connection *next_dead;
};

struct timer {
    double due; /* 0: not set */
    void (*fire)(struct timer *timer);
    struct timer *next;
    bool known;
};

double now(void);     /* seconds of CLOCK_MONOTONIC */
double cpu(void);     /* seconds of this process */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
const char *setting(char **words, const char *name); /* the value of NAME=VALUE on the command line, or NULL */
const char *needed(char **words, const char *name);
void set_timer(struct timer *timer, double due);
SSL_CTX *server_tls(const char *certificate, const char *key);
SSL_CTX *client_tls(const char *ca_file);
/* Listen on a loopback port, 0: any; returns the port. */
int listen_on(int port, SSL_CTX *implicit, const struct callbacks *callbacks);
struct connection *connect_to(int port, SSL_CTX *implicit, const struct callbacks *callbacks, void *owner);
void send_out(struct connection *connection, const void *data, size_t length);
void secure(struct connection *connection, SSL_CTX *context);
void close_after_output(struct connection *connection);
void read_lines(void (*line)(char *text)); /* of standard input; the program ends with it */
void run(double distance) __attribute__((noreturn));

#endif
