/* The floor of a relay's CPU time: takes a message, logs in as its author on a kept session, and sends it on.

   Guarantees: the dialogues of senderproxy's pass-through with its client and with the smarthost, over TLS, and its limit of
   sessions for each account; the client hears the smarthost's answer.
   Not here: everything that a relay is for. Nothing is checked, logged, limited or repeated; a message is held in memory.

   floor port=2526 upstream=465 ca_file=ca.pem per_account=8
   PIPELINING towards the smarthost is used if it is offered. PASSWORD is that of all accounts. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

enum { BLOCK = 262144, ACCOUNTS = 4096 };
#define FAR_AWAY "451 4.4.2 no answer from the smarthost\r\n"

struct client {
    struct connection *connection;
    struct bytes rest, path, recipients, message; /* each recipient with its NUL */
    bool in_data, taken;
    struct client *next; /* that waits for a session */
};
struct session {
    struct connection *connection;
    struct account *account;
    struct client *client; /* NULL: idle */
    struct bytes rest;
    enum { GREETING, HELLO, LOGIN, READY, COMMANDS, CONTENT } state;
    bool offered;
    int answered, asked, recipients;
    size_t poured;
    struct session *next; /* that is idle */
};
struct account {
    char login[256];
    int open;
    struct session *idle;
    struct client *waiting, **last;
};

static struct account *accounts[ACCOUNTS];
static int upstream, per_account;
static SSL_CTX *tls;

static void take_up(struct session *session, struct client *client);

/* Accounts */

static struct account *account_of(const char *login, size_t length)
{
    unsigned place = 5381;
    for (size_t at = 0; at < length; at++)
        place = place * 33 + (unsigned char)login[at];
    for (place %= ACCOUNTS; accounts[place]; place = (place + 1) % ACCOUNTS)
        if (!strncmp(accounts[place]->login, login, length) && !accounts[place]->login[length])
            return accounts[place];
    struct account *account = accounts[place] = calloc(1, sizeof *account);
    memcpy(account->login, login, length < sizeof account->login ? length : sizeof account->login - 1);
    account->last = &account->waiting;
    return account;
}

static void answer(struct client *client, const char *text, size_t length)
{
    client->taken = false;
    empty(&client->message);
    if (client->connection)
        send_out(client->connection, text, length);
}

static void free_client(struct client *client)
{
    discard(&client->rest);
    discard(&client->path);
    discard(&client->recipients);
    discard(&client->message);
    free(client);
}

/* The smarthost's side */

static void release(struct session *session)
{
    struct account *account = session->account;
    struct client *client = account->waiting;
    session->client = NULL;
    session->state = READY;
    if (client) {
        if (!(account->waiting = client->next))
            account->last = &account->waiting;
        take_up(session, client);
    } else {
        session->next = account->idle;
        account->idle = session;
    }
}

static void conclude(struct session *session, const char *reply, size_t length)
{
    struct client *client = session->client;
    bool good = reply[0] == '2' && session->state == CONTENT;
    session->client = NULL;
    answer(client, reply, length);
    if (!client->connection)
        free_client(client);
    if (good) {
        release(session);
    } else {
        send_out(session->connection, "QUIT\r\n", 6);
        close_after_output(session->connection);
    }
}

static void say(struct session *session, bool all)
{
    static struct bytes line;
    struct client *client = session->client;
    empty(&line);
    const char *recipient = first(&client->recipients);
    for (int skip = 1; skip < session->asked; skip++)
        recipient += strlen(recipient) + 1;
    do {
        if (session->asked == 0) {
            add_text(&line, "MAIL FROM:<%.*s> SIZE=%zu\r\n", (int)client->path.length, first(&client->path),
                     client->message.length);
        } else if (session->asked <= session->recipients) {
            add_text(&line, "RCPT TO:<%s>\r\n", recipient);
            recipient += strlen(recipient) + 1;
        } else {
            add_text(&line, "DATA\r\n");
        }
    } while (session->asked++ <= session->recipients && all);
    send_out(session->connection, first(&line), line.length);
}

static void take_up(struct session *session, struct client *client)
{
    session->client = client;
    session->state = COMMANDS;
    session->answered = session->asked = session->recipients = 0;
    for (size_t at = 0; at < client->recipients.length; at++)
        session->recipients += !first(&client->recipients)[at];
    say(session, session->offered);
}

static void pour(struct session *session)
{
    while (session->state == CONTENT && session->client && session->poured < session->client->message.length &&
           !session->connection->unsent.length) {
        size_t left = session->client->message.length - session->poured, length = left < BLOCK ? left : BLOCK;
        send_out(session->connection, first(&session->client->message) + session->poured, length);
        session->poured += length;
    }
}

static void on_reply(struct session *session, const char *reply, size_t length)
{
    char plain[512], coded[1024];
    switch (session->state) {
    case GREETING:
        session->state = HELLO;
        send_out(session->connection, "EHLO relay.example\r\n", 20);
        return;
    case HELLO:
        session->state = LOGIN;
        int size = snprintf(plain, sizeof plain, "%c%s%c" PASSWORD, 0, session->account->login, 0);
        int start = snprintf(coded, sizeof coded, "AUTH PLAIN ");
        int end = start + EVP_EncodeBlock((unsigned char *)coded + start, (unsigned char *)plain, size);
        memcpy(coded + end, "\r\n", 2);
        send_out(session->connection, coded, (size_t)end + 2);
        return;
    case LOGIN:
        if (reply[0] != '2')
            close_after_output(session->connection);
        else
            release(session);
        return;
    case COMMANDS:
        if (reply[0] != '2' && reply[0] != '3') {
            conclude(session, reply, length);
        } else if (++session->answered < session->recipients + 2) {
            if (!session->offered)
                say(session, false);
        } else {
            session->state = CONTENT;
            session->poured = 0;
            pour(session);
        }
        return;
    case CONTENT:
        conclude(session, reply, length);
        return;
    case READY:
        close_after_output(session->connection);
        return;
    }
}

static void from_smarthost(struct connection *connection, const char *data, size_t length)
{
    struct session *session = connection->owner;
    add(&session->rest, data, length);
    for (long end; !connection->closing && (end = line_length(&session->rest)) >= 0;) {
        char *reply = first(&session->rest);
        if (end > 3 && reply[3] == '-')
            session->offered = session->offered || (end == 14 && !strncasecmp(reply + 4, "PIPELINING", 10));
        else
            on_reply(session, reply, (size_t)end + 2);
        drop(&session->rest, (size_t)end + 2);
    }
}

static void smarthost_drained(struct connection *connection) { pour(connection->owner); }

static void smarthost_opened(struct connection *connection) { (void)connection; }

static void open_session(struct account *account);

static void smarthost_closed(struct connection *connection)
{
    struct session *session = connection->owner;
    struct account *account = session->account;
    account->open--;
    for (struct session **place = &account->idle; *place; place = &(*place)->next)
        if (*place == session) {
            *place = session->next;
            break;
        }
    if (session->client) {
        answer(session->client, FAR_AWAY, sizeof FAR_AWAY - 1);
        if (!session->client->connection)
            free_client(session->client);
    }
    if (session->state < READY && !account->open) /* no login: nobody will take these */
        for (; account->waiting; account->waiting = account->waiting->next)
            answer(account->waiting, FAR_AWAY, sizeof FAR_AWAY - 1);
    if (!account->waiting)
        account->last = &account->waiting;
    else if (session->state >= READY)
        open_session(account);
    discard(&session->rest);
    free(session);
}

static void open_session(struct account *account)
{
    static const struct callbacks callbacks = {smarthost_opened, NULL, from_smarthost, smarthost_drained, smarthost_closed};
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        fail("out of memory");
    session->account = account;
    account->open++;
    session->connection = connect_to(upstream, tls, &callbacks, session);
}

/* The client's side */

static void send_on(struct client *client)
{
    const char *from = strcasestr(first(&client->message), "\nFrom:"), *end = NULL;
    if (!strncasecmp(first(&client->message), "From:", 5))
        from = first(&client->message) - 1;
    if (from) {
        from += 6 + strspn(from + 6, " ");
        end = from + strcspn(from, "\r\n");
        const char *angle = memchr(from, '<', (size_t)(end - from));
        if (angle)
            from = angle + 1, end = from + strcspn(from, ">\r\n");
    }
    if (!end) {
        answer(client, "550 5.7.1 no author\r\n", 21);
        return;
    }
    struct account *account = account_of(from, (size_t)(end - from));
    client->taken = true;
    client->next = NULL;
    struct session *session = account->idle;
    if (session) {
        account->idle = session->next;
        take_up(session, client);
        return;
    }
    *account->last = client;
    account->last = &client->next;
    if (account->open < per_account)
        open_session(account);
}

/* Returns how many of the octets belong to the message. */
static size_t take(struct client *client, const char *data, size_t length)
{
    size_t had = client->message.length, from = had > 4 ? had - 4 : 0;
    add(&client->message, data, length);
    char *dot = memmem(first(&client->message) + from, client->message.length - from, "\r\n.\r\n", 5);
    size_t whole = dot ? (size_t)(dot - first(&client->message)) + 5 : 0;
    if (!whole && client->message.length >= 3 && !memcmp(first(&client->message), ".\r\n", 3))
        whole = 3;
    if (!whole)
        return length;
    client->message.length = whole;
    client->in_data = false;
    add(&client->message, "", 1); /* a NUL for the search of the author */
    client->message.length--;
    send_on(client);
    return whole - had;
}

static const char *execute(struct client *client, char *line)
{
    char *start = strchr(line, '<'), *end = strchr(line, '>');
    if (end)
        *end = 0;
    if (!strncasecmp(line, "MAIL", 4)) {
        empty(&client->path);
        empty(&client->recipients);
        add(&client->path, start ? start + 1 : "", start ? strlen(start + 1) : 0);
        return "250 2.1.0 OK\r\n";
    }
    if (!strncasecmp(line, "RCPT", 4)) {
        add(&client->recipients, start ? start + 1 : "", start ? strlen(start + 1) + 1 : 1);
        return "250 2.1.5 OK\r\n";
    }
    if (!strncasecmp(line, "DATA", 4)) {
        client->in_data = true;
        empty(&client->message);
        return "354 End data with <CR><LF>.<CR><LF>\r\n";
    }
    if (!strncasecmp(line, "EHLO", 4))
        return "250-relay.example\r\n250-SIZE 200000000\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n";
    if (!strncasecmp(line, "QUIT", 4))
        return "221 2.0.0 Bye\r\n";
    return "250 2.0.0 OK\r\n";
}

static void from_client(struct connection *connection, const char *data, size_t length)
{
    static struct bytes answers;
    struct client *client = connection->owner;
    if (client->in_data) {
        size_t taken = take(client, data, length);
        data += taken;
        length -= taken;
    }
    add(&client->rest, data, length);
    empty(&answers);
    bool quits = false;
    for (long end; !client->in_data && !quits && (end = line_length(&client->rest)) >= 0;) {
        char *line = first(&client->rest);
        line[end] = 0;
        const char *text = execute(client, line);
        drop(&client->rest, (size_t)end + 2);
        add(&answers, text, strlen(text));
        quits = !strncmp(text, "221", 3);
    }
    if (answers.length)
        send_out(connection, first(&answers), answers.length);
    if (quits)
        close_after_output(connection);
}

static void client_opened(struct connection *connection)
{
    struct client *client = connection->owner = calloc(1, sizeof *client);
    if (!client)
        fail("out of memory");
    client->connection = connection;
    send_out(connection, "220 relay.example ESMTP\r\n", 25);
}

static void client_closed(struct connection *connection)
{
    struct client *client = connection->owner;
    client->connection = NULL;
    if (!client->taken)
        free_client(client); /* otherwise when its message is answered */
}

int main(int count, char **words)
{
    (void)count;
    static const struct callbacks callbacks = {client_opened, NULL, from_client, NULL, client_closed};
    upstream = atoi(needed(words, "upstream"));
    per_account = atoi(needed(words, "per_account"));
    tls = client_tls(needed(words, "ca_file"));
    listen_on(atoi(needed(words, "port")), NULL, &callbacks);
    run(0);
}
