/* The smarthost of the benchmark: a login under TLS, a sender that must belong to the login, and complete counts.

   Guarantees: MAIL with an address other than the login's is 550, as at providers with the strict rule. Everything else with
   valid syntax is accepted. Clients that pipeline without an offer are counted as impatient. A delivery is one message to one
   recipient; the same delivery twice is doubled, a message on another login than its author's is on the wrong login, one
   without its last line is damaged, one without a name is a stranger.

   smarthost certificate=x.pem key=x.key pipelining=0 rtt=0.02
   prints its ports, then obeys lines from standard input: "count", "forget", "busy 0|1", "wait DELIVERIES SECONDS". Each answer
   is one line of JSON. DOMAIN, PASSWORD and END are those of benchmarks/messages.py. */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define OK "250 2.0.0 ok\r\n"
#define NOT_NOW "421 4.3.2 not now\r\n"
enum { HEADER_LIMIT = 16384, DOT = 5, TAIL = sizeof END - 1 + DOT, MOST_LINE = 65536 };

static struct {
    long connections, open_now, most_open, handshakes, resumed, logins, failed_logins, transactions, flights, wrong_sender,
        wrong_login, doubled, damaged, strangers, impatient, octets, deliveries;
    double first_at, last_at;
} ledger;
static bool pipelining, busy;

/* The deliveries so far: an open hash table of "name recipient". */

static char **seen;
static size_t seen_room;

static size_t place_of(char **table, size_t room, const char *text)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *octet = text; *octet; octet++)
        hash = (hash ^ (unsigned char)*octet) * 1099511628211u;
    size_t place = hash & (room - 1);
    while (table[place] && strcmp(table[place], text))
        place = (place + 1) & (room - 1);
    return place;
}

static void deliver(const char *name, size_t length, const char *recipient)
{
    if (2 * (size_t)(ledger.deliveries + 1) > seen_room) {
        size_t room = seen_room ? seen_room * 2 : 4096;
        char **table = calloc(room, sizeof *table);
        for (size_t old = 0; old < seen_room; old++)
            if (seen[old])
                table[place_of(table, room, seen[old])] = seen[old];
        free(seen);
        seen = table;
        seen_room = room;
    }
    char *text;
    if (asprintf(&text, "%.*s %s", (int)length, name, recipient) < 0)
        fail("out of memory");
    size_t place = place_of(seen, seen_room, text);
    if (seen[place]) {
        ledger.doubled++;
        free(text);
    } else {
        seen[place] = text;
        ledger.deliveries++;
    }
}

static void forget(void)
{
    for (size_t place = 0; place < seen_room; place++)
        free(seen[place]);
    free(seen);
    seen = NULL;
    seen_room = 0;
    long open = ledger.open_now;
    memset(&ledger, 0, sizeof ledger);
    ledger.open_now = ledger.most_open = open;
}

/* Orders */

static struct timer patience;
static long awaited, octets_before;
static double seconds_of_patience;
static bool waiting;

static void print_counts(void)
{
#define EACH(name) printf("\"" #name "\": %ld, ", ledger.name)
    printf("{");
    EACH(connections), EACH(open_now), EACH(most_open), EACH(handshakes), EACH(resumed), EACH(logins), EACH(failed_logins);
    EACH(transactions), EACH(flights), EACH(wrong_sender), EACH(wrong_login), EACH(doubled), EACH(damaged), EACH(strangers);
    EACH(impatient), EACH(octets), EACH(deliveries);
    printf("\"first_at\": %.9f, \"last_at\": %.9f, \"cpu\": %.9f, \"now\": %.9f}\n", ledger.first_at, ledger.last_at, cpu(),
           now());
    fflush(stdout);
}

static void wait_on(void)
{
    octets_before = ledger.octets;
    set_timer(&patience, now() + seconds_of_patience);
}

static void answer_if_arrived(void)
{
    if (waiting && ledger.deliveries >= awaited) {
        waiting = false;
        set_timer(&patience, 0);
        print_counts();
    }
}

static void patience_ends(struct timer *timer)
{
    (void)timer;
    if (ledger.octets != octets_before) {
        wait_on();
        return;
    }
    waiting = false;
    print_counts();
}

static void obey(char *order)
{
    if (sscanf(order, "wait %ld %lf", &awaited, &seconds_of_patience) == 2) {
        waiting = true;
        wait_on();
        answer_if_arrived();
        return;
    }
    if (!strcmp(order, "forget"))
        forget();
    else if (!strncmp(order, "busy ", 5))
        busy = order[5] == '1';
    else if (strcmp(order, "count"))
        fail("no such order: %s", order);
    print_counts();
}

/* One connection */

struct dialogue {
    struct connection *connection;
    struct bytes rest, recipients, head; /* recipients: each with its NUL */
    char login[256], user[256];
    char tail[TAIL];
    size_t tail_length;
    int login_step; /* of AUTH LOGIN: 0 none, 1 the user is next, 2 the password */
    bool secure, begun, mail, in_data, starttls;
};
static SSL_CTX *context;

static void answer(struct dialogue *dialogue, const char *text, size_t length)
{
    ledger.flights++;
    send_out(dialogue->connection, text, length);
    size_t not_now = sizeof NOT_NOW - 1;
    if (!strncmp(text, "221", 3) || (length >= not_now && !memcmp(text + length - not_now, NOT_NOW, not_now)))
        close_after_output(dialogue->connection);
}

static size_t decode(const char *text, char *octets, size_t room)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned bits = 0, held = 0;
    size_t length = 0;
    for (const char *found; *text && (found = strchr(alphabet, *text)); text++) {
        bits = bits << 6 | (unsigned)(found - alphabet);
        if ((held += 6) >= 8 && length + 1 < room)
            octets[length++] = (char)(bits >> (held -= 8));
    }
    octets[length] = 0;
    return length;
}

static long number_of(const char *address)
{
    char *end;
    if (*address != 's' || strspn(address + 1, "0123456789") < 4)
        return -1;
    long number = strtol(address + 1, &end, 10);
    return strcmp(end, "@" DOMAIN) ? -1 : number;
}

static const char *log_in(struct dialogue *dialogue, const char *user, const char *password)
{
    if (strcmp(password, PASSWORD) || number_of(user) < 0) {
        ledger.failed_logins++;
        return "535 5.7.8 Authentication credentials invalid\r\n";
    }
    snprintf(dialogue->login, sizeof dialogue->login, "%s", user);
    ledger.logins++;
    return "235 2.7.0 welcome\r\n";
}

static const char *auth_login(struct dialogue *dialogue, const char *text)
{
    char word[256];
    decode(text, word, sizeof word);
    if (dialogue->login_step++ == 1) {
        memcpy(dialogue->user, word, sizeof word);
        return "334 UGFzc3dvcmQ6\r\n";
    }
    dialogue->login_step = 0;
    return log_in(dialogue, dialogue->user, word);
}

static const char *auth(struct dialogue *dialogue, char *line)
{
    char plain[768], *rest, *mechanism = (strtok_r(line, " ", &rest), strtok_r(NULL, " ", &rest));
    char *initial = strtok_r(NULL, " ", &rest);
    if (!dialogue->secure)
        return "538 5.7.11 not in the clear\r\n";
    if (mechanism && !strcasecmp(mechanism, "LOGIN")) {
        dialogue->login_step = 1;
        return initial ? auth_login(dialogue, initial) : "334 VXNlcm5hbWU6\r\n";
    }
    if (mechanism && initial && !strcasecmp(mechanism, "PLAIN")) {
        size_t length = decode(initial, plain, sizeof plain - 2);
        plain[length + 1] = 0; /* a second NUL: the password of a response without one is empty */
        char *user = plain + strlen(plain) + 1;
        if (user < plain + length)
            return log_in(dialogue, user, user + strlen(user) + 1 <= plain + length ? user + strlen(user) + 1 : "");
    }
    return "504 5.5.4 PLAIN with an initial response, or LOGIN\r\n";
}

static char *path_of(char *line)
{
    char *start = strchr(line, '<'), *end = strchr(line, '>');
    if (end)
        *end = 0;
    return start ? start + 1 : line;
}

static const char *ehlo(struct dialogue *dialogue)
{
    static char text[256];
    snprintf(text, sizeof text, "250-smarthost.example\r\n250-SIZE 300000000\r\n250-8BITMIME\r\n%s%s250 ENHANCEDSTATUSCODES\r\n",
             pipelining ? "250-PIPELINING\r\n" : "", dialogue->secure ? "250-AUTH PLAIN LOGIN\r\n" : "250-STARTTLS\r\n");
    return text;
}

static const char *mail_from(struct dialogue *dialogue, char *line)
{
    if (busy)
        return NOT_NOW;
    if (!*dialogue->login)
        return "530 5.7.0 log in first\r\n";
    if (strcmp(path_of(line), dialogue->login)) {
        ledger.wrong_sender++;
        return "550 5.7.1 Sender address is not allowed.\r\n";
    }
    dialogue->mail = true;
    empty(&dialogue->recipients);
    return OK;
}

static const char *execute(struct dialogue *dialogue, char *line)
{
    if (dialogue->login_step)
        return auth_login(dialogue, line);
#define IS(verb) (!strncasecmp(line, verb, 4))
    if (IS("MAIL"))
        return mail_from(dialogue, line);
    if (IS("RCPT")) {
        if (!dialogue->mail)
            return "503 5.5.1 MAIL first\r\n";
        char *path = path_of(line);
        add(&dialogue->recipients, path, strlen(path) + 1);
        return OK;
    }
    if (IS("DATA")) {
        if (!dialogue->recipients.length)
            return "554 5.5.1 no valid recipients\r\n";
        dialogue->in_data = true;
        empty(&dialogue->head);
        memcpy(dialogue->tail, "\r\n", 2);
        dialogue->tail_length = 2;
        return "354 go on\r\n";
    }
    if (IS("RSET")) {
        dialogue->mail = false;
        empty(&dialogue->recipients);
        return OK;
    }
    if (IS("EHLO"))
        return ehlo(dialogue);
    if (IS("AUTH"))
        return auth(dialogue, line);
    if (IS("NOOP"))
        return OK;
    if (IS("QUIT"))
        return "221 2.0.0 bye\r\n";
    if (IS("STAR")) {
        if (dialogue->secure)
            return "503 5.5.1 already\r\n";
        dialogue->starttls = true;
        return "220 2.0.0 go on\r\n";
    }
    return "500 5.5.1 what?\r\n";
}

/* Find "X-Bench: NAME sAUTHOR" at the start of a line; returns the name and stores its length and the author. */
static const char *name_in(const struct bytes *head, size_t *length, long *author)
{
    static const char field[] = "X-Bench: ";
    const char *start = head->length ? first(head) : "", *end = start + head->length;
    for (const char *at = start; (at = memmem(at, (size_t)(end - at), field, sizeof field - 1)); at++) {
        const char *name = at + sizeof field - 1, *octet = name;
        if (at > start && at[-1] != '\n')
            continue;
        while (octet < end && (isalnum((unsigned char)*octet) || strchr("_.-", *octet)))
            octet++;
        *length = (size_t)(octet - name);
        if (!*length || end - octet < 3 || octet[0] != ' ' || octet[1] != 's' || !isdigit((unsigned char)octet[2]))
            continue;
        for (*author = 0, octet += 2; octet < end && isdigit((unsigned char)*octet); octet++)
            *author = *author * 10 + (*octet - '0');
        if (end - octet >= 2 && !memcmp(octet, "\r\n", 2))
            return name;
    }
    return NULL;
}

static void take_whole(struct dialogue *dialogue, bool whole)
{
    size_t length;
    long author;
    const char *name = name_in(&dialogue->head, &length, &author);
    if (!name) {
        ledger.strangers++; /* a bounce, a warning of the relay's own */
    } else {
        ledger.last_at = now();
        if (!ledger.first_at)
            ledger.first_at = ledger.last_at;
        ledger.transactions++;
        ledger.wrong_login += author != number_of(dialogue->login);
        ledger.damaged += !whole;
        const char *recipient = first(&dialogue->recipients), *end = recipient + dialogue->recipients.length;
        for (; recipient < end; recipient += strlen(recipient) + 1)
            deliver(name, length, recipient);
    }
    empty(&dialogue->head);
}

/* Read the message; returns how many of the octets belong to it. */
static size_t take(struct dialogue *dialogue, const char *data, size_t length)
{
    static char joined[TAIL + MOST_LINE * 2];
    ledger.octets += (long)length;
    if (dialogue->head.length < HEADER_LIMIT)
        add(&dialogue->head, data, length < HEADER_LIMIT ? length : HEADER_LIMIT);
    memcpy(joined, dialogue->tail, dialogue->tail_length);
    memcpy(joined + dialogue->tail_length, data, length);
    size_t all = dialogue->tail_length + length;
    size_t from = dialogue->tail_length >= DOT ? dialogue->tail_length - DOT + 1 : 0;
    char *dot = memmem(joined + from, all - from, "\r\n.\r\n", DOT);
    if (!dot) {
        dialogue->tail_length = all < TAIL ? all : TAIL;
        memcpy(dialogue->tail, joined + all - dialogue->tail_length, dialogue->tail_length);
        return length;
    }
    dialogue->in_data = dialogue->mail = false;
    size_t before = (size_t)(dot - joined) + 2, ending = sizeof END - 1;
    take_whole(dialogue, before >= ending && !memcmp(joined + before - ending, END, ending));
    answer(dialogue, "250 2.0.0 taken\r\n", 17);
    answer_if_arrived();
    return (size_t)(dot - joined) + DOT - dialogue->tail_length;
}

static void received(struct connection *connection, const char *data, size_t length)
{
    static struct bytes answers;
    struct dialogue *dialogue = connection->owner;
    if (dialogue->in_data) {
        size_t taken = take(dialogue, data, length);
        data += taken;
        length -= taken;
    }
    add(&dialogue->rest, data, length);
    if (dialogue->rest.length > MOST_LINE)
        fail("a client sent too much at once");
    empty(&answers);
    for (long end; (end = line_length(&dialogue->rest)) >= 0;) {
        char *line = first(&dialogue->rest);
        line[end] = 0;
        ledger.impatient += dialogue->rest.length > (size_t)end + 2 && !pipelining;
        const char *text = execute(dialogue, line);
        drop(&dialogue->rest, (size_t)end + 2);
        add(&answers, text, strlen(text));
        if (dialogue->starttls || !strcmp(text, NOT_NOW))
            break;
        if (dialogue->in_data && dialogue->rest.length) { /* a client that did not wait for 354 */
            answer(dialogue, first(&answers), answers.length);
            empty(&answers);
            drop(&dialogue->rest, take(dialogue, first(&dialogue->rest), dialogue->rest.length));
        }
    }
    if (answers.length)
        answer(dialogue, first(&answers), answers.length);
    if (dialogue->starttls) { /* what was said before it counts no more (RFC 3207 section 4.2) */
        dialogue->starttls = false;
        empty(&dialogue->rest);
        secure(connection, context);
    }
}

static struct dialogue *dialogue_of(struct connection *connection)
{
    if (!connection->owner) {
        struct dialogue *dialogue = connection->owner = calloc(1, sizeof *dialogue);
        if (!dialogue)
            fail("out of memory");
        dialogue->connection = connection;
    }
    return connection->owner;
}

static void opened(struct connection *connection)
{
    dialogue_of(connection)->begun = true;
    ledger.connections++;
    if (++ledger.open_now > ledger.most_open)
        ledger.most_open = ledger.open_now;
    if (busy) {
        send_out(connection, NOT_NOW, sizeof NOT_NOW - 1);
        close_after_output(connection);
    } else {
        send_out(connection, "220 smarthost.example ESMTP\r\n", 29);
    }
}

static void secured(struct connection *connection, bool resumed)
{
    dialogue_of(connection)->secure = true;
    ledger.handshakes++;
    ledger.resumed += resumed;
}

static void closed(struct connection *connection)
{
    struct dialogue *dialogue = connection->owner;
    if (!dialogue)
        return;
    ledger.open_now -= dialogue->begun;
    discard(&dialogue->rest);
    discard(&dialogue->recipients);
    discard(&dialogue->head);
    free(dialogue);
    connection->owner = NULL;
}

int main(int count, char **words)
{
    (void)count;
    static const struct callbacks callbacks = {opened, secured, received, NULL, closed};
    context = server_tls(needed(words, "certificate"), needed(words, "key"));
    pipelining = atoi(needed(words, "pipelining"));
    patience.fire = patience_ends;
    int tls = listen_on(0, context, &callbacks), plain = listen_on(0, NULL, &callbacks);
    printf("{\"tls\": %d, \"starttls\": %d}\n", tls, plain);
    fflush(stdout);
    read_lines(obey);
    run(atof(needed(words, "rtt")));
}
