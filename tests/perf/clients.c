#include "clients.h"

#include "base/clock.h"

#include <err.h>
#include <errno.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_NS    (500 * TP_NS_PER_MS)
#define TRIES_MAX   20
#define REQUEST_MAX 1024
#define STALE_MAX   5

static void open_client(struct clients *l, unsigned index)
{
	uint16_t port = l->settings.local.port;
	struct tp_addr local =
		tp_addr_with_port(&l->settings.local, (uint16_t)(port ? port + index : 0));
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
	struct client *c = &l->all[index];
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(&local, &sa);

	c->fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || bind(c->fd, (struct sockaddr *)&sa, len) < 0)
		err(1, "client socket");
	len = tp_addr_to_sockaddr(&l->settings.server, &sa);
	if (connect(c->fd, (struct sockaddr *)&sa, len) < 0)
		err(1, "connect");
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
		err(1, "epoll");
}

static void put_credentials(
	const struct clients_settings *s, const struct client *c, struct stun_writer *w)
{
	char text[512];
	uint8_t key[16];
	int len = snprintf(text, sizeof(text), "%s:%s:%s", s->user, c->realm, s->password);

	if (len < 0 || (size_t)len >= sizeof(text))
		errx(1, "user, realm and password are too long");
	if (EVP_Digest(text, (size_t)len, key, NULL, EVP_md5(), NULL) != 1)
		errx(1, "no MD5");
	stun_put(w, STUN_ATTR_USERNAME, s->user, strlen(s->user));
	stun_put(w, STUN_ATTR_REALM, c->realm, strlen(c->realm));
	stun_put(w, STUN_ATTR_NONCE, c->nonce, strlen(c->nonce));
	stun_put_integrity(w, STUN_SHA1, key, sizeof(key));
}

static struct client *other(struct clients *l, const struct client *c)
{
	return &l->all[(size_t)(c - l->all) ^ 1];
}

static void begin_request(struct client *c, struct stun_writer *w, uint8_t bytes[REQUEST_MAX],
	enum stun_method method, bool again)
{
	/* What is sent again is the same transaction (RFC 8489, 6.2.1). */
	stun_begin(w, bytes, REQUEST_MAX, STUN_REQUEST, method, again ? c->transaction : NULL);
	memcpy(c->transaction, bytes + STUN_HEADER_LEN - STUN_TRANSACTION_LEN,
		sizeof(c->transaction));
}

static void send_message(struct client *c, struct stun_writer *w)
{
	size_t len = stun_finish(w);

	if (send(c->fd, w->bytes, len, 0) < 0 && errno != ECONNREFUSED && errno != EAGAIN)
		err(1, "send");
}

static void send_request(struct clients *l, struct client *c)
{
	const struct clients_settings *s = &l->settings;
	uint8_t bytes[REQUEST_MAX];
	struct stun_writer w;
	struct tp_addr peer;

	if (c->step == CLIENT_BIND) {
		peer = s->pairs ? other(l, c)->relay : s->peer_of(s, c->channel);
		begin_request(c, &w, bytes, STUN_METHOD_CHANNEL_BIND, c->tries > 0);
		stun_put_u32(
			&w, STUN_ATTR_CHANNEL_NUMBER, (CLIENTS_FIRST_CHANNEL + c->channel) << 16);
		stun_put_xor_address(&w, STUN_ATTR_XOR_PEER_ADDRESS, &peer);
	} else {
		begin_request(c, &w, bytes, STUN_METHOD_ALLOCATE, c->tries > 0);
		stun_put_u32(&w, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
		stun_put_u32(&w, STUN_ATTR_LIFETIME, s->lifetime_s);
		if (s->server.family == TP_IPV6)
			stun_put_u32(&w, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
	}
	if (c->step != CLIENT_CHALLENGE)
		put_credentials(s, c, &w);
	c->sent_ns = tp_clock_now_ns();
	send_message(c, &w);
}

static void copy_text(struct stun_attribute a, char out[128])
{
	size_t len = a.value && a.len < 128 ? a.len : 0;

	if (len)
		memcpy(out, a.value, len);
	out[len] = '\0';
}

static int error_code(const struct stun_message *m)
{
	struct stun_attribute a = stun_find(m, STUN_ATTR_ERROR_CODE);

	return a.value && a.len >= 4 ? (a.value[2] & 7) * 100 + a.value[3] : 0;
}

static void advance(struct clients *l, struct client *c)
{
	if (c->step == CLIENT_BIND && ++c->channel < l->settings.channels)
		return;
	if (++c->step == CLIENT_BIND && l->settings.channels == 0)
		c->step = CLIENT_DONE;
	if (c->step == CLIENT_DONE)
		l->finished++;
}

static void on_success(struct clients *l, struct client *c, const struct stun_message *m)
{
	struct stun_attribute a = stun_find(m, STUN_ATTR_XOR_RELAYED_ADDRESS);

	if (c->step == CLIENT_ALLOCATE && stun_read_xor_address(m, a, &c->relay) != 0)
		errx(1, "an allocation without a relayed address");
	c->stale = 0;
	advance(l, c);
}

/* With a nonce that was asked for before: the server did not take the credentials. */
static void on_refusal(struct clients *l, struct client *c, const struct stun_message *m)
{
	static const char *const steps[] = {"Allocate", "Allocate", "ChannelBind"};
	int code = error_code(m);

	if (code == 401 && c->step != CLIENT_CHALLENGE)
		errx(1, "%s: the server does not take user and password (401)", steps[c->step]);
	if (code != 401 && code != 438)
		errx(1, "%s refused with %d", steps[c->step], code);
	if (code == 438 && ++c->stale > STALE_MAX)
		errx(1, "%s: the server takes no nonce (438)", steps[c->step]);
	copy_text(stun_find(m, STUN_ATTR_REALM), c->realm);
	copy_text(stun_find(m, STUN_ATTR_NONCE), c->nonce);
	if (c->step == CLIENT_CHALLENGE)
		advance(l, c);
}

static void go_on(struct clients *l, struct client *c)
{
	if (l->settings.pairs && c->step == CLIENT_BIND) {
		if (!other(l, c)->relay.family)
			return; /* the other one will wake us */
		if (other(l, c)->step == CLIENT_BIND)
			send_request(l, other(l, c));
	}
	if (c->step != CLIENT_DONE)
		send_request(l, c);
}

static void on_answer(struct clients *l, struct client *c, const struct stun_message *m)
{
	if (c->step == CLIENT_DONE ||
		memcmp(m->transaction, c->transaction, sizeof(c->transaction)) != 0)
		return;
	if (c->tries == 0)
		l->answers[histogram_index(tp_clock_now_ns() - c->sent_ns)]++;
	c->tries = 0;
	if (m->class == STUN_SUCCESS)
		on_success(l, c, m);
	else
		on_refusal(l, c, m);
	go_on(l, c);
}

static void read_client(struct clients *l, struct client *c)
{
	uint8_t bytes[2048];
	struct stun_message m;
	ssize_t len = recv(c->fd, bytes, sizeof(bytes), 0);

	if (len > 0 && stun_parse(bytes, (size_t)len, &m) == 0)
		on_answer(l, c, &m);
}

static void retry_lost(struct clients *l)
{
	uint64_t now_ns = tp_clock_now_ns();

	for (unsigned i = 0; i < l->started; i++) {
		struct client *c = &l->all[i];

		if (c->step == CLIENT_DONE || now_ns - c->sent_ns < RETRY_NS ||
			(l->settings.pairs && c->step == CLIENT_BIND && !other(l, c)->relay.family))
			continue;
		if (++c->tries > TRIES_MAX)
			errx(1, "no answer from the server");
		send_request(l, c);
	}
}

static void start_some(struct clients *l)
{
	while (l->started < l->settings.allocations &&
		l->started - l->finished < l->settings.window) {
		open_client(l, l->started);
		send_request(l, &l->all[l->started++]);
	}
}

void clients_make(struct clients *l, const struct clients_settings *settings)
{
	struct epoll_event events[64];
	uint64_t checked_ns = tp_clock_now_ns();

	l->settings = *settings;
	l->all = calloc(settings->allocations, sizeof(*l->all));
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!l->all || l->epoll < 0)
		err(1, "%u clients", settings->allocations);
	while (l->finished < settings->allocations) {
		int ready;

		start_some(l);
		ready = epoll_wait(l->epoll, events, 64, 100);
		for (int i = 0; i < ready; i++)
			read_client(l, &l->all[events[i].data.u32]);
		if (tp_clock_now_ns() - checked_ns > RETRY_NS / 2) {
			retry_lost(l);
			checked_ns = tp_clock_now_ns();
		}
	}
}

/* Whatever else still arrives is thrown away. */
static bool wait_for_answer(struct client *c, struct stun_message *m, uint8_t bytes[2048])
{
	uint64_t end_ns = tp_clock_now_ns() + RETRY_NS;
	struct pollfd wait = {.fd = c->fd, .events = POLLIN};

	while (tp_clock_now_ns() < end_ns) {
		ssize_t len = recv(c->fd, bytes, 2048, 0);

		if (len < 0)
			poll(&wait, 1, 50);
		else if (stun_parse(bytes, (size_t)len, m) == 0 &&
			 memcmp(m->transaction, c->transaction, sizeof(c->transaction)) == 0)
			return true;
	}
	return false;
}

/* False: no answer. */
static bool delete_allocation(const struct clients_settings *s, struct client *c)
{
	uint8_t bytes[REQUEST_MAX], answer[2048];
	struct stun_message m;
	struct stun_writer w;

	bool again = false;

	for (unsigned tries = 0; tries < 3; tries++) {
		begin_request(c, &w, bytes, STUN_METHOD_REFRESH, again);
		stun_put_u32(&w, STUN_ATTR_LIFETIME, 0);
		put_credentials(s, c, &w);
		send_message(c, &w);
		again = !wait_for_answer(c, &m, answer);
		if (again)
			continue;
		if (error_code(&m) != 438)
			return true;
		copy_text(stun_find(&m, STUN_ATTR_NONCE), c->nonce);
	}
	return !again;
}

void clients_end(struct clients *l)
{
	bool answers = true;

	for (unsigned i = 0; i < l->started; i++) {
		if (answers && !delete_allocation(&l->settings, &l->all[i])) {
			warnx("the server does not answer: %u allocations are left to expire",
				l->started - i);
			answers = false;
		}
		close(l->all[i].fd);
	}
	close(l->epoll);
	free(l->all);
	*l = (struct clients){0};
}
