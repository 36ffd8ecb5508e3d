#include "clients.h"

#include "base/clock.h"

#include <err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_NS     (500 * TP_NS_PER_MS)
#define TRIES_MAX    20
#define DELETE_TRIES 3
#define RENEW_TRIES  100 /* until what is to be renewed is over */
#define REQUEST_MAX  1024
#define STALE_MAX    5
#define TICK_MS      100

/* ---- requests ----------------------------------------------------------------------------------
 */

static const char *const step_names[] = {
	"Allocate", "Allocate", "ChannelBind", "", "Refresh", "Refresh", ""};

static uint32_t index_of(const struct clients *l, const struct client *c)
{
	return (uint32_t)(c - l->all);
}

static struct client *other(struct clients *l, const struct client *c)
{
	return &l->all[index_of(l, c) ^ 1];
}

static void put_credentials(const struct clients *l, const struct client *c, struct stun_writer *w)
{
	stun_put(w, STUN_ATTR_USERNAME, l->settings.user, strlen(l->settings.user));
	stun_put(w, STUN_ATTR_REALM, l->realm, strlen(l->realm));
	stun_put(w, STUN_ATTR_NONCE, c->nonce, strlen(c->nonce));
	stun_put_integrity(w, STUN_SHA1, l->key, sizeof(l->key));
}

static void put_channel(struct clients *l, const struct client *c, struct stun_writer *w)
{
	const struct clients_settings *s = &l->settings;
	struct tp_addr peer =
		s->pairs ? other(l, c)->relay : s->peer_of(s->arg, index_of(l, c), c->channel);

	stun_put_u32(w, STUN_ATTR_CHANNEL_NUMBER, (CLIENTS_FIRST_CHANNEL + c->channel) << 16);
	stun_put_xor_address(w, STUN_ATTR_XOR_PEER_ADDRESS, &peer);
}

static void put_allocate(const struct clients *l, struct stun_writer *w)
{
	stun_put_u32(w, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
	stun_put_u32(w, STUN_ATTR_LIFETIME, l->settings.lifetime_s);
	if (l->settings.server.family == TP_IPV6)
		stun_put_u32(w, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
}

static enum stun_method method_of(const struct client *c)
{
	if (c->step == CLIENT_BIND)
		return STUN_METHOD_CHANNEL_BIND;
	return c->step <= CLIENT_ALLOCATE ? STUN_METHOD_ALLOCATE : STUN_METHOD_REFRESH;
}

/* What is sent again is the same transaction (RFC 8489, 6.2.1). */
static void send_request(struct clients *l, struct client *c)
{
	struct request *r = &l->requests[c->slot];
	uint8_t bytes[REQUEST_MAX];
	struct stun_writer w;
	struct datagram d = {.at = index_of(l, c), .remote = l->settings.server, .bytes = bytes};

	stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, method_of(c),
		r->tries ? r->transaction : NULL);
	memcpy(r->transaction, bytes + STUN_HEADER_LEN - STUN_TRANSACTION_LEN,
		sizeof(r->transaction));
	if (c->step == CLIENT_BIND)
		put_channel(l, c, &w);
	else if (c->step <= CLIENT_ALLOCATE)
		put_allocate(l, &w);
	else
		stun_put_u32(&w, STUN_ATTR_LIFETIME,
			c->step == CLIENT_DELETE ? 0 : l->settings.lifetime_s);
	if (c->step != CLIENT_CHALLENGE)
		put_credentials(l, c, &w);
	d.len = stun_finish(&w);
	r->sent_ns = tp_clock_now_ns();
	end_send(l->end, &d, 1);
}

/* ---- the window --------------------------------------------------------------------------------
 */

static void take_slot(struct clients *l, struct client *c, enum client_step step)
{
	c->slot = l->idle_slots[--l->idle];
	l->requests[c->slot] = (struct request){.client = index_of(l, c)};
	c->step = (uint8_t)step;
	c->channel = 0;
	c->stale = 0;
}

static void give_slot(struct clients *l, struct client *c, enum client_step step)
{
	l->requests[c->slot].client = CLIENTS_NOBODY;
	l->idle_slots[l->idle++] = c->slot;
	c->slot = CLIENTS_NOBODY;
	c->step = (uint8_t)step;
	l->finished++;
}

static void empty_window(struct clients *l)
{
	for (unsigned i = 0; i < l->settings.window; i++) {
		struct request *r = &l->requests[i];

		if (r->client != CLIENTS_NOBODY)
			give_slot(l, &l->all[r->client], CLIENT_DONE);
	}
}

static void begin(struct clients *l, struct client *c, enum client_step step)
{
	take_slot(l, c, step);
	send_request(l, c);
}

/* ---- answers -----------------------------------------------------------------------------------
 */

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

/* The key is made of it; all allocations are of one realm. */
static void learn_realm(struct clients *l, const struct stun_message *m)
{
	char realm[128], text[512];
	int len;

	copy_text(stun_find(m, STUN_ATTR_REALM), realm);
	if (strcmp(realm, l->realm) == 0)
		return;
	memcpy(l->realm, realm, sizeof(realm));
	len = snprintf(
		text, sizeof(text), "%s:%s:%s", l->settings.user, realm, l->settings.password);
	if (len < 0 || (size_t)len >= sizeof(text))
		errx(1, "user, realm and password are too long");
	if (EVP_Digest(text, (size_t)len, l->key, NULL, EVP_md5(), NULL) != 1)
		errx(1, "no MD5");
}

static uint32_t now_s(void)
{
	return (uint32_t)(tp_clock_now_ns() / TP_NS_PER_S);
}

/* Before a quarter of what the server grants is left. */
static void set_due(struct clients *l, struct client *c, const struct stun_message *m)
{
	uint32_t lifetime_s = l->settings.lifetime_s, after_s;

	stun_read_u32(stun_find(m, STUN_ATTR_LIFETIME), &lifetime_s);
	after_s = lifetime_s - lifetime_s / 4;
	c->due_s = now_s() + (after_s < l->settings.renew_s ? after_s : l->settings.renew_s);
}

/* The client has nothing to ask for any more, for now. */
static void finish(struct clients *l, struct client *c)
{
	give_slot(l, c, c->step == CLIENT_DELETE ? CLIENT_GONE : CLIENT_DONE);
}

static void go_on(struct clients *l, struct client *c)
{
	if (l->settings.pairs && c->step == CLIENT_BIND) {
		if (!other(l, c)->relay.family)
			return; /* the other one will wake us */
		if (other(l, c)->step == CLIENT_BIND)
			send_request(l, other(l, c));
	}
	send_request(l, c);
}

static void on_success(struct clients *l, struct client *c, const struct stun_message *m)
{
	struct stun_attribute a = stun_find(m, STUN_ATTR_XOR_RELAYED_ADDRESS);

	c->stale = 0;
	if (c->step == CLIENT_ALLOCATE && stun_read_xor_address(m, a, &c->relay) != 0)
		errx(1, "an allocation without a relayed address");
	if (c->step == CLIENT_ALLOCATE || c->step == CLIENT_REFRESH) {
		set_due(l, c, m);
		c->step = CLIENT_BIND;
	} else {
		c->channel++;
	}
	if (c->step == CLIENT_BIND && c->channel < l->settings.channels)
		go_on(l, c);
	else
		finish(l, c);
}

/* While they are made: no more of them. */
static void fail(struct clients *l, const char *name, int code)
{
	if (l->has_failed)
		return;
	l->has_failed = true;
	if (!code)
		warnx("no answer from the server");
	else if (code == 401)
		warnx("%s: the server does not take user and password (401)", name);
	else if (code == 438)
		warnx("%s: the server takes no nonce (438)", name);
	else
		warnx("%s refused with %d", name, code);
}

static void refuse(struct clients *l, struct client *c, int code)
{
	const char *name = step_names[c->step];

	if (l->making)
		fail(l, name, code);
	else if (c->step != CLIENT_DELETE && atomic_fetch_add(&l->lost, 1) == 0)
		warnx("%s refused with %d: an allocation was lost", name, code);
	give_slot(l, c, CLIENT_GONE);
}

/* With a nonce that was asked for before, a 401 says that the credentials are wrong. */
static void on_refusal(struct clients *l, struct client *c, const struct stun_message *m)
{
	int code = error_code(m);
	bool challenge = code == 401 && c->step == CLIENT_CHALLENGE;

	if (!challenge && (code != 438 || ++c->stale > STALE_MAX)) {
		refuse(l, c, code);
		return;
	}
	learn_realm(l, m);
	copy_text(stun_find(m, STUN_ATTR_NONCE), c->nonce);
	if (challenge)
		c->step = CLIENT_ALLOCATE;
	send_request(l, c);
}

bool clients_take(struct clients *l, const struct datagram *d)
{
	struct client *c = &l->all[d->at];
	struct stun_message m;
	struct request *r;

	if (!stun_is(d->bytes, d->len) || stun_parse(d->bytes, d->len, &m) < 0 ||
		(m.class != STUN_SUCCESS && m.class != STUN_ERROR))
		return false;
	if (c->slot == CLIENTS_NOBODY)
		return true;
	r = &l->requests[c->slot];
	if (memcmp(m.transaction, r->transaction, sizeof(r->transaction)) != 0)
		return true; /* of a request that was answered already */
	if (r->tries == 0)
		l->answers[histogram_index(tp_clock_now_ns() - r->sent_ns)]++;
	r->tries = 0;
	if (m.class == STUN_SUCCESS)
		on_success(l, c, &m);
	else
		on_refusal(l, c, &m);
	return true;
}

/* ---- time --------------------------------------------------------------------------------------
 */

static void on_silence(struct clients *l, struct client *c)
{
	if (l->making)
		fail(l, NULL, 0);
	else if (c->step == CLIENT_DELETE)
		l->unanswered++;
	else if (atomic_fetch_add(&l->lost, 1) == 0)
		warnx("%s is not answered: an allocation was lost", step_names[c->step]);
	give_slot(l, c, CLIENT_GONE);
}

static bool waits_for_other(struct clients *l, const struct client *c)
{
	return l->settings.pairs && c->step == CLIENT_BIND && !other(l, c)->relay.family;
}

static unsigned tries_of(const struct clients *l, const struct client *c)
{
	if (c->step == CLIENT_DELETE)
		return DELETE_TRIES;
	return l->making ? TRIES_MAX : RENEW_TRIES;
}

static void retry_lost(struct clients *l, uint64_t now_ns)
{
	for (unsigned i = 0; i < l->settings.window; i++) {
		struct request *r = &l->requests[i];
		struct client *c;

		if (r->client == CLIENTS_NOBODY || now_ns - r->sent_ns < RETRY_NS)
			continue;
		c = &l->all[r->client];
		if (waits_for_other(l, c))
			continue;
		if (++r->tries >= tries_of(l, c))
			on_silence(l, c);
		else
			send_request(l, c);
	}
}

/* In the order in which they were made, which is that in which they are due. */
static void renew_due(struct clients *l)
{
	uint32_t now = now_s();

	for (unsigned i = 0; i < l->settings.allocations && l->idle > 0; i++) {
		struct client *c = &l->all[l->renewed];

		if (c->step != CLIENT_GONE && (c->step != CLIENT_DONE || c->due_s > now))
			return;
		if (c->step == CLIENT_DONE)
			begin(l, c, CLIENT_REFRESH);
		l->renewed = (l->renewed + 1) % l->settings.allocations;
	}
}

static void resend(struct clients *l)
{
	uint64_t now_ns = tp_clock_now_ns();

	if (now_ns - l->checked_ns < RETRY_NS / 4)
		return;
	l->checked_ns = now_ns;
	retry_lost(l, now_ns);
}

void clients_tick(struct clients *l)
{
	resend(l);
	renew_due(l);
}

static void receive(struct clients *l)
{
	struct datagram all[END_BURST];
	unsigned count = end_receive(l->end, all, TICK_MS);

	for (unsigned i = 0; i < count; i++)
		clients_take(l, &all[i]);
}

void clients_wait(struct clients *l)
{
	receive(l);
	clients_tick(l);
}

static void pump(struct clients *l, const char *what)
{
	receive(l);
	resend(l);
	if (l->settings.progress)
		l->settings.progress(l->finished, l->settings.allocations, what);
}

static bool is_stopped(const struct clients *l)
{
	return l->settings.stop && atomic_load(l->settings.stop);
}

void clients_make(struct clients *l, const struct clients_settings *settings, struct end *end)
{
	l->settings = *settings;
	l->end = end;
	l->all = calloc(settings->allocations, sizeof(*l->all));
	l->requests = calloc(settings->window, sizeof(*l->requests));
	l->idle_slots = calloc(settings->window, sizeof(*l->idle_slots));
	if (!l->all || !l->requests || !l->idle_slots)
		err(1, "%u clients", settings->allocations);
	for (unsigned i = 0; i < settings->window; i++) {
		l->requests[i].client = CLIENTS_NOBODY;
		l->idle_slots[l->idle++] = i;
	}
	for (unsigned i = 0; i < settings->allocations; i++)
		l->all[i].slot = CLIENTS_NOBODY;
	l->making = true;
	while (l->finished < settings->allocations && !l->has_failed && !is_stopped(l)) {
		for (; l->started < settings->allocations && l->idle > 0; l->started++)
			begin(l, &l->all[l->started], CLIENT_CHALLENGE);
		pump(l, "allocations made");
	}
	l->making = false;
}

static bool is_dumb(const struct clients *l)
{
	return l->unanswered > 0;
}

/* Those too that a request was under way for: the server may have made them. */
void clients_end(struct clients *l)
{
	unsigned at = 0;

	empty_window(l);
	l->finished = l->settings.allocations - l->started;
	while (l->finished < l->settings.allocations && !is_dumb(l)) {
		for (; at < l->started && l->idle > 0; at++) {
			struct client *c = &l->all[at];

			if (c->step == CLIENT_GONE || !c->nonce[0])
				l->finished++;
			else
				begin(l, c, CLIENT_DELETE);
		}
		pump(l, "allocations deleted");
	}
	if (is_dumb(l))
		warnx("the server does not answer: %u allocations are left to expire",
			l->settings.allocations - l->finished + l->unanswered);
	free(l->all);
	free(l->requests);
	free(l->idle_slots);
	*l = (struct clients){0};
}
