/* The load of the benchmark: submits messages over many connections, each as soon as the last was answered.

   Guarantees: MAIL, RCPT and DATA are pipelined if the server offers it, as Exchange and Postfix do, otherwise sent in
   lock-step. A message is accepted only by a 2xx after its final dot. The authors take turns; a direct connection to the
   smarthost (ca_file) uses TLS, logs in, and sends for its login only.

   load port=2525 run=r1 name=small connections=10 messages=6000 size=4000 senders=20 recipients=1 beside=0 each=0 spread=0
   prints "ready" when all connections are open, starts on a line from standard input, and prints its results as one line of
   JSON. beside=1: sends until the next line. each=1: a new connection for each message, and its time begins with connecting.
   DOMAIN, ELSEWHERE, PASSWORD, LINE and END are those of benchmarks/messages.py. */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

enum { BLOCK = 262144, AT_ONCE = 50, REASONS = 64, REASON = 80 };
#define CONNECT_SECONDS 20.0 /* until all connections are open */

enum state { GREETING, EHLO, LOGIN, IDLE, COMMANDS, CONTENT, QUITTING };
struct client {
    struct connection *connection;
    enum state state;
    struct bytes rest, header;
    bool offered, done, started;
    long message, author;
    int number, answered, asked;
    char refusal[REASON];
    double sent_at;
    size_t poured; /* octets of a large message's body that are sent */
};

static struct {
    const char *run, *name;
    int port, connections, senders, recipients;
    long messages;
    bool beside, each;
    double spread;
    SSL_CTX *tls;
} job;
static struct client *clients;
static struct bytes body;
static long next_number;
static int connected, open_count, done_count;
static bool started, stopped;
static double first_at, last_at, used, begin_at;
static double *seconds;
static long accepted, seconds_room;
static struct {
    char text[REASON];
    long count;
} reasons[REASONS];
static struct timer starts, patience;

static void connect_client(struct client *client);

/* Results */

static void refuse(const char *reply)
{
    char text[REASON + 1];
    int length = snprintf(text, sizeof text, "%.3s ", reply), prefix = length;
    const char *word = strlen(reply) > 4 ? reply + 4 : "";
    while (*word) {
        word += strspn(word, " ");
        size_t size = strcspn(word, " "), letters = 0;
        while (letters < size && isalpha((unsigned char)word[letters]))
            letters++;
        if (size && letters == size && length < prefix + 60)
            length += snprintf(text + length, sizeof text - (size_t)length, "%s%.*s", length > prefix ? " " : "", (int)size, word);
        word += size;
        if (length > prefix + 60)
            length = prefix + 60;
    }
    text[length] = 0;
    int place = 0;
    while (place < REASONS - 1 && reasons[place].count && strcmp(reasons[place].text, text))
        place++;
    snprintf(reasons[place].text, REASON, "%s", text);
    reasons[place].count++;
}

static int by_size(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static void print_cut(const char *name, int percent)
{
    if (!accepted) {
        printf("\"%s\": null, ", name);
        return;
    }
    long place = (accepted - 1) * percent / 100, part = (accepted - 1) * percent % 100;
    double value = seconds[place];
    if (part)
        value = (seconds[place] * (double)(100 - part) + seconds[place + 1] * (double)part) / 100;
    printf("\"%s\": %.9f, ", name, value);
}

static void report(void)
{
    used = cpu() - used;
    if (accepted)
        qsort(seconds, (size_t)accepted, sizeof *seconds, by_size);
    printf("{\"accepted\": %ld, \"refused\": {", accepted);
    for (int place = 0; place < REASONS && reasons[place].count; place++)
        printf("%s\"%s\": %ld", place ? ", " : "", reasons[place].text, reasons[place].count);
    printf("}, ");
    print_cut("p50", 50);
    print_cut("p99", 99);
    printf("\"first_at\": %.9f, \"last_at\": %.9f, \"cpu\": %.9f}\n", first_at, last_at, used);
    fflush(stdout); /* the answers to QUIT are still read; the end of standard input ends the program */
}

static void finish(struct client *client)
{
    client->done = true;
    if (++done_count == job.connections)
        report();
}

/* One message */

static void say_command(struct client *client, struct bytes *line, int number)
{
    if (number == 0)
        add_text(line, "MAIL FROM:<s%04ld@" DOMAIN ">", client->author);
    else if (number <= job.recipients)
        add_text(line, "RCPT TO:<r%d.%s.%s.%ld@" ELSEWHERE ">", number - 1, job.run, job.name, client->message);
    else
        add_text(line, "DATA");
    add_text(line, "\r\n");
}

static void say(struct client *client, bool all)
{
    static struct bytes line;
    empty(&line);
    do
        say_command(client, &line, client->asked++);
    while (all && client->asked < job.recipients + 2);
    send_out(client->connection, first(&line), line.length);
}

static bool next_message(struct client *client)
{
    if (stopped || (!job.beside && next_number >= job.messages))
        return false;
    client->message = next_number++;
    client->author = (job.tls ? client->number : client->message) % job.senders;
    return true;
}

static void send_commands(struct client *client)
{
    client->state = COMMANDS;
    client->refusal[0] = 0;
    client->answered = client->asked = 0;
    say(client, client->offered);
}

static void note_start(struct client *client)
{
    client->sent_at = now();
    if (!first_at)
        first_at = client->sent_at;
}

/* The next message, or QUIT. */
static void start(struct client *client)
{
    client->started = true;
    if (!next_message(client)) {
        if (client->connection) {
            client->state = QUITTING;
            send_out(client->connection, "QUIT\r\n", 6);
        }
        finish(client);
        return;
    }
    note_start(client);
    if (job.each)
        connect_client(client);
    else
        send_commands(client);
}

static void pour(struct client *client)
{
    while (client->state == CONTENT && client->poured < body.length && !client->connection->unsent.length) {
        size_t length = body.length - client->poured < BLOCK ? body.length - client->poured : BLOCK;
        send_out(client->connection, first(&body) + client->poured, length);
        if ((client->poured += length) == body.length)
            send_out(client->connection, ".\r\n", 3);
    }
}

static void send_content(struct client *client)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s.%ld", job.run, job.name, client->message);
    struct bytes *header = &client->header;
    empty(header);
    add_text(header,
             "From: s%04ld@" DOMAIN "\r\nTo: r0.%s@" ELSEWHERE "\r\nSubject: letter %s\r\n"
             "Date: Mon, 23 Nov 2026 09:00:00 +0100\r\nMessage-ID: <%s@" DOMAIN ">\r\nX-Bench: %s s%ld\r\n"
             "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n",
             client->author, name, name, name, name, client->author);
    client->state = CONTENT;
    client->poured = body.length;
    if (body.length <= BLOCK) {
        add(header, first(&body), body.length);
        add(header, ".\r\n", 3);
        send_out(client->connection, first(header), header->length);
    } else {
        client->poured = 0;
        send_out(client->connection, first(header), header->length);
        pour(client);
    }
}

static void answered(struct client *client, const char *reply)
{
    last_at = now();
    if (reply[0] == '2' && !*client->refusal) {
        if (accepted == seconds_room) {
            seconds_room = seconds_room * 2 + 1024;
            seconds = realloc(seconds, (size_t)seconds_room * sizeof *seconds);
            if (!seconds)
                fail("out of memory");
        }
        seconds[accepted++] = last_at - client->sent_at;
    } else {
        refuse(*client->refusal ? client->refusal : reply);
    }
    client->state = IDLE;
    if (job.each) {
        client->state = QUITTING;
        send_out(client->connection, "QUIT\r\n", 6);
    } else {
        start(client);
    }
}

static void on_command(struct client *client, const char *reply)
{
    client->answered++;
    if (reply[0] != '2' && reply[0] != '3' && !*client->refusal)
        snprintf(client->refusal, REASON, "%s", reply);
    if (client->answered < job.recipients + 2) {
        if (!client->offered)
            say(client, false);
    } else if (!strncmp(reply, "354", 3)) {
        send_content(client);
    } else {
        answered(client, *client->refusal ? client->refusal : reply);
    }
}

/* Connections */

static void connect_more(void)
{
    while (connected < job.connections && connected < open_count + AT_ONCE)
        connect_client(&clients[connected++]);
}

static void greeted(struct client *client)
{
    client->state = IDLE;
    if (job.each) {
        send_commands(client);
        return;
    }
    open_count++;
    if (open_count == job.connections) {
        set_timer(&patience, 0);
        puts("ready");
        fflush(stdout);
    } else if (open_count == connected) {
        connect_more(); /* the next ones when these are open */
    }
}

static void on_reply(struct client *client, const char *reply)
{
    char login[256], plain[256];
    switch (client->state) {
    case GREETING:
        if (strncmp(reply, "220", 3)) {
            if (!job.each)
                fail("the server greets with %s", reply);
            snprintf(client->refusal, REASON, "%s", reply);
            answered(client, reply);
            return;
        }
        client->state = EHLO;
        send_out(client->connection, "EHLO desk.office.example\r\n", 26);
        return;
    case EHLO:
        if (job.tls) {
            int length = snprintf(plain, sizeof plain, "%cs%04d@" DOMAIN "%c" PASSWORD, 0, client->number % job.senders, 0);
            int start = snprintf(login, sizeof login, "AUTH PLAIN ");
            int coded = EVP_EncodeBlock((unsigned char *)login + start, (unsigned char *)plain, length);
            memcpy(login + start + coded, "\r\n", 2);
            client->state = LOGIN;
            send_out(client->connection, login, (size_t)(start + coded + 2));
            return;
        }
        greeted(client);
        return;
    case LOGIN:
        greeted(client);
        return;
    case COMMANDS:
        on_command(client, reply);
        return;
    case CONTENT:
        answered(client, reply);
        return;
    case QUITTING:
        close_after_output(client->connection);
        return;
    case IDLE:
        return;
    }
}

static void received(struct connection *connection, const char *data, size_t length)
{
    struct client *client = connection->owner;
    add(&client->rest, data, length);
    for (long end; (end = line_length(&client->rest)) >= 0;) {
        char reply[512];
        size_t kept = (size_t)end < sizeof reply - 1 ? (size_t)end : sizeof reply - 1;
        memcpy(reply, first(&client->rest), kept);
        reply[kept] = 0;
        drop(&client->rest, (size_t)end + 2);
        if (kept > 3 && reply[3] == '-')
            client->offered = client->offered || !strcasecmp(reply + 4, "PIPELINING");
        else
            on_reply(client, reply);
    }
}

static void drained(struct connection *connection) { pour(connection->owner); }

static void opened(struct connection *connection) { (void)connection; }

static void closed(struct connection *connection)
{
    struct client *client = connection->owner;
    enum state state = client->state;
    client->connection = NULL;
    empty(&client->rest);
    if (client->done)
        return;
    if (!job.each && state < IDLE)
        fail("the connection was lost before EHLO was answered");
    if (state != QUITTING && client->started)
        refuse("000 connection lost");
    if (job.each && started)
        start(client);
    else if (client->started)
        finish(client);
    else
        fail("an idle connection was lost");
}

static void connect_client(struct client *client)
{
    static const struct callbacks callbacks = {opened, NULL, received, drained, closed};
    client->state = GREETING;
    client->offered = false;
    client->refusal[0] = 0;
    client->connection = connect_to(job.port, job.tls, &callbacks, client);
}

/* Evenly within `spread` seconds: far away, clients in step would queue for each other. */
static void start_some(struct timer *timer)
{
    static int number;
    while (number < job.connections && begin_at + job.spread * number / job.connections <= now())
        start(&clients[number++]);
    if (number < job.connections)
        set_timer(timer, begin_at + job.spread * number / job.connections);
}

static void obey(char *order)
{
    (void)order;
    if (started) {
        stopped = true;
        return;
    }
    started = true;
    used = cpu();
    begin_at = now();
    start_some(&starts);
}

static void gave_up(struct timer *timer)
{
    (void)timer;
    fail("not all connections were open within %.0f s", CONNECT_SECONDS);
}

int main(int count, char **words)
{
    (void)count;
    const char *ca_file = setting(words, "ca_file");
    job.port = atoi(needed(words, "port"));
    job.run = needed(words, "run");
    job.name = needed(words, "name");
    job.connections = atoi(needed(words, "connections"));
    job.messages = atol(needed(words, "messages"));
    job.senders = atoi(needed(words, "senders"));
    job.recipients = atoi(needed(words, "recipients"));
    job.beside = atoi(needed(words, "beside"));
    job.each = atoi(needed(words, "each"));
    job.spread = atof(needed(words, "spread"));
    job.tls = ca_file ? client_tls(ca_file) : NULL;
    long lines = (atol(needed(words, "size")) - (long)(sizeof END - 1)) / (long)(sizeof LINE - 1);
    for (long line = 0; line < (lines > 1 ? lines : 1); line++)
        add(&body, LINE, sizeof LINE - 1);
    add(&body, END, sizeof END - 1);
    clients = calloc((size_t)job.connections, sizeof *clients);
    for (int number = 0; number < job.connections; number++)
        clients[number].number = number;
    starts.fire = start_some;
    patience.fire = gave_up;
    read_lines(obey);
    if (job.each) {
        puts("ready");
        fflush(stdout);
    } else {
        set_timer(&patience, now() + CONNECT_SECONDS);
        connect_more();
    }
    run(0);
}
