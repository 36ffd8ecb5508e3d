/*
 * Grants and revocations as flows in the shared table. A record is made at the first grant and
 * lives until the revocation; whether the table has room for it is another matter. One thread;
 * nothing blocks.
 */
#include "flows.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "record.h"
#include "spec.h"

#include <errno.h>

/* Missing flows tried again per sweep: enough to recover within seconds, little when all is full.
 */
#define SWEEP_TRIES 512

static struct tp_log_limit log_limit;

int flows_new(struct tp_table *table, struct route *route, struct flows **out)
{
	struct flows *flows = calloc(1, sizeof(*flows));

	if (!flows)
		return -ENOMEM;
	flows->table = table;
	flows->route = route;
	TAILQ_INIT(&flows->missing);
	LIST_INIT(&flows->clients);
	policers_init(
		&flows->policers, tp_table_memory(table)->shape.regions[TP_REGION_POLICERS].count);
	flows->missing_by_port = calloc(TP_LOCALS_MAX, sizeof(*flows->missing_by_port));
	if (!flows->missing_by_port) {
		flows_free(flows);
		return -ENOMEM;
	}
	*out = flows;
	return 0;
}

void flows_set_bandwidth(struct flows *flows, uint64_t bits_per_s)
{
	flows->limited = bits_per_s != 0;
	tp_table_set_bandwidth(flows->table, bits_per_s);
}

static uint32_t policer_of(const struct client_flows *client)
{
	bool limited = client && client->number && client->record.flows->limited;

	return limited ? client->number->number : 0;
}

bool flows_police(const struct flows *flows, const struct allocation *allocation,
	enum tp_direction direction, uint64_t now_ns, uint32_t len)
{
	return tp_table_police(flows->table, policer_of(allocation->flows), direction, now_ns, len);
}

static int own_port(struct flows *flows, const struct tp_addr *address, enum tp_port_state state)
{
	uint8_t local;
	int err = tp_table_add_local(flows->table, address, &local);

	if (!err)
		tp_table_set_port(flows->table, local, address->port, state);
	return err;
}

int flows_own_address(struct flows *flows, const struct tp_addr *address)
{
	uint8_t local;
	int err = tp_table_add_local(flows->table, address, &local);

	if (!err)
		flows->own |= UINT32_C(1) << local;
	return err;
}

static void disown_port(struct flows *flows, const struct tp_addr *address)
{
	uint8_t local;

	if (tp_table_find_local(flows->table, address, &local) == 0)
		tp_table_set_port(flows->table, local, address->port, TP_PORT_NOT_OURS);
}

int flows_own_listener(struct flows *flows, const struct tp_addr *listener)
{
	struct tp_addr *list =
		reallocarray(flows->listeners, flows->listeners_count + 1, sizeof(*list));
	int err;

	if (!list)
		return -ENOMEM;
	flows->listeners = list;
	err = own_port(flows, listener, TP_PORT_LISTENER);
	if (!err)
		list[flows->listeners_count++] = *listener;
	return err;
}

bool flows_has_listener(const struct flows *flows, const struct tp_addr *listener)
{
	for (size_t i = 0; i < flows->listeners_count; i++)
		if (tp_addr_equal(&flows->listeners[i], listener))
			return true;
	return false;
}

static void set_next_hop(const struct record *record, uint16_t next_hop)
{
	if (record->slot != RECORD_NO_SLOT)
		tp_table_set_next_hop(record->flows->table, record->slot, next_hop);
}

static void on_peer_hop(struct route_user *user, uint16_t next_hop)
{
	struct peer *peer = TP_CONTAINER(user, struct peer, user);
	const struct channel_flows *channel;
	const struct record *permission = peer->permission ? &peer->permission->record : NULL;

	peer->hop = next_hop;
	if (permission && permission->slot != RECORD_NO_SLOT)
		tp_table_set_peer_hop(permission->flows->table, permission->slot, next_hop);
	LIST_FOREACH(channel, &peer->channels, link) {
		set_next_hop(&channel->to_peer, next_hop);
	}
}

static void on_client_hop(struct route_user *user, uint16_t next_hop)
{
	struct alloc_permission *p;
	struct alloc_channel *c;
	struct client_flows *client = TP_CONTAINER(user, struct client_flows, user);

	client->hop = next_hop;
	for (int family = 0; family < ALLOC_RELAYS; family++) {
		const struct alloc_relay *relay = client->record.client->relays[family];

		if (!relay)
			continue;
		TAILQ_FOREACH(p, &relay->permissions, link)
			if (p->flows)
				set_next_hop(
					&((struct permission_flows *)p->flows)->record, next_hop);
		TAILQ_FOREACH(c, &relay->channels, link)
			if (c->flows)
				set_next_hop(
					&((struct channel_flows *)c->flows)->to_client, next_hop);
	}
}

/* Both ways are shared: the client's by all of its flows, a peer's by permission and channels. */
static void follow(struct flows *flows, struct peer *peer, const struct tp_addr *ip)
{
	const struct alloc_relay *relay = peer->key.relay;
	const struct alloc_tuple *tuple = &relay->allocation->tuple;
	struct client_flows *client = relay->allocation->flows;

	if (client && !client->user.destination)
		client->hop =
			route_follow(flows->route, &client->user, &tuple->client, &tuple->server);
	peer->user.changed = on_peer_hop;
	if (!alloc_is_hairpin(relay, ip))
		peer->hop = route_follow(flows->route, &peer->user, ip, &relay->address);
}

static struct peer *find_peer(const struct flows *flows, const struct peer_key *key, uint32_t hash)
{
	struct tp_map_link *link = tp_map_first(&flows->peers, hash);

	for (; link; link = tp_map_next(link)) {
		struct peer *peer = TP_CONTAINER(link, struct peer, by_key);

		if (memcmp(&peer->key, key, sizeof(*key)) == 0)
			return peer;
	}
	return NULL;
}

static struct peer *find_or_add_peer(
	struct flows *flows, const struct alloc_relay *relay, const struct tp_addr *ip)
{
	struct peer_key key = {.relay = relay};
	struct peer *peer;
	uint32_t hash;

	memcpy(key.ip, ip->ip, sizeof(key.ip));
	hash = (uint32_t)tp_siphash(&alloc_hash_key, &key, sizeof(key));
	peer = find_peer(flows, &key, hash);
	if (peer)
		return peer;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	peer->key = key;
	LIST_INIT(&peer->channels);
	if (tp_map_add(&flows->peers, &peer->by_key, hash) < 0) {
		free(peer);
		return NULL;
	}
	follow(flows, peer, ip);
	return peer;
}

static void drop_peer_if_unused(struct flows *flows, struct peer *peer)
{
	if (peer->permission || !LIST_EMPTY(&peer->channels))
		return;
	/* After the flows: the number of the next hop starts resting here. */
	route_unfollow(flows->route, &peer->user);
	tp_map_remove(&flows->peers, &peer->by_key);
	free(peer);
}

static const struct alloc_permission *permission_of(const struct record *to_client)
{
	const struct channel_flows *channel =
		TP_CONTAINER(to_client, struct channel_flows, to_client);

	return channel->peer->permission ? channel->peer->permission->record.permission : NULL;
}

static const struct client_flows *client_of(const struct record *record)
{
	switch (record->kind) {
	case TP_FLOW_CLIENT:
		return TP_CONTAINER(record, const struct client_flows, record);
	case TP_FLOW_PERMISSION:
		return record->permission->relay->allocation->flows;
	default:
		return record->channel->relay->allocation->flows;
	}
}

void record_complete(const struct record *record, struct tp_flow_spec *out)
{
	const struct client_flows *client = client_of(record);
	uint16_t client_hop = client ? client->hop : TP_NO_NEXT_HOP_YET;

	out->policer = policer_of(client);
	switch (record->kind) {
	case TP_FLOW_PERMISSION:
		out->next_hop = client_hop;
		out->peer_hop =
			TP_CONTAINER(record, const struct permission_flows, record)->peer->hop;
		break;
	case TP_FLOW_CHANNEL:
		out->next_hop =
			TP_CONTAINER(record, const struct channel_flows, to_peer)->peer->hop;
		break;
	case TP_FLOW_PEER:
		out->next_hop = client_hop;
		break;
	default:
		break;
	}
}

static void describe(const struct record *record, struct tp_flow_spec *out)
{
	const struct tp_table *table = record->flows->table;

	switch (record->kind) {
	case TP_FLOW_PERMISSION:
		spec_of_permission(table, record->permission, out);
		break;
	case TP_FLOW_CLIENT:
		spec_of_client(table, record->client, out);
		break;
	case TP_FLOW_CHANNEL:
		spec_to_peer(table, record->channel, out);
		break;
	default:
		spec_to_client(table, record->channel, permission_of(record), out);
		break;
	}
	record_complete(record, out);
}

/* NULL: of a client, whose packets come to a listener. */
static const struct alloc_relay *relay_of(const struct record *record)
{
	if (record->kind == TP_FLOW_CLIENT)
		return NULL;
	return record->kind == TP_FLOW_PERMISSION ? record->permission->relay
						  : record->channel->relay;
}

/*
 * A relay port with a missing flow is served by the sockets as a whole; at listeners the table's
 * count of missing flows has the same effect.
 */
static void set_missing(struct record *record, bool missing)
{
	struct flows *flows = record->flows;
	const struct alloc_relay *relay = relay_of(record);
	uint32_t *count;
	uint8_t local;

	record->is_missing = missing;
	if (missing)
		TAILQ_INSERT_TAIL(&flows->missing, record, missing);
	else
		TAILQ_REMOVE(&flows->missing, record, missing);
	if (!relay || tp_table_find_local(flows->table, &relay->address, &local) < 0)
		return;
	count = &flows->missing_by_port[local][relay->address.port];
	*count += missing ? 1 : -1U;
	if (*count == (missing ? 1 : 0))
		tp_table_set_port(flows->table, local, relay->address.port,
			missing ? TP_PORT_SLOW : TP_PORT_RELAY);
}

static void place(struct record *record)
{
	struct tp_table *table = record->flows->table;
	struct tp_flow_spec spec;
	int err;

	describe(record, &spec);
	err = tp_table_publish(table, &spec, &record->slot);
	if (err && err != -ENOSPC) {
		if (tp_log_allowed(&log_limit))
			tp_error("flows: allocation %u: cannot publish: %s", spec.allocation,
				strerror(-err));
		return;
	}
	/* The table counts every failure; a flow is to be counted once. */
	if (record->is_missing)
		tp_table_forget_unplaced(table);
	if (record->is_missing != (err == -ENOSPC))
		set_missing(record, err == -ENOSPC);
}

/* Brings the flow in step with the object; places it where that has not happened yet. */
static void refresh(struct record *record)
{
	struct tp_flow_spec spec;

	if (record->slot == RECORD_NO_SLOT) {
		place(record);
		return;
	}
	describe(record, &spec);
	tp_table_set_granted(record->flows->table, record->slot, spec.granted_ns);
	tp_table_set_expiry(record->flows->table, record->slot, spec.expires_ns);
}

static struct tp_flow_counters withdraw(struct record *record)
{
	struct flows *flows = record->flows;
	struct tp_flow_counters last = {0};

	if (record->slot != RECORD_NO_SLOT)
		last = tp_table_retire(flows->table, record->slot, tp_clock_now_ns());
	if (record->is_missing) {
		tp_table_forget_unplaced(flows->table);
		set_missing(record, false);
	}
	return last;
}

static void add_counters(struct alloc_traffic *sum, struct tp_flow_counters counted)
{
	sum->packets += counted.packets;
	sum->bytes += counted.bytes;
}

static void init_record(struct record *record, struct flows *flows, enum tp_flow_kind kind)
{
	*record = (struct record){
		.flows = flows,
		.kind = (uint8_t)kind,
		.slot = RECORD_NO_SLOT,
	};
}

static void tell_relay(const struct client_flows *f, const struct alloc_relay *relay, bool open)
{
	unsigned int family = relay->address.family == TP_IPV4 ? TP_RELAY_V4 : TP_RELAY_V6;
	struct tp_table *table = f->record.flows->table;
	struct tp_relay_ref none = {.word = 0};

	if (f->record.slot != RECORD_NO_SLOT)
		tp_table_set_relay(table, f->record.slot, family,
			open ? spec_relay(table, relay->allocation, family) : none);
}

/* Its note, or that of one relay, says what the allocation says. Without a number there is none. */
static void keep_relay(const struct client_flows *f, const struct alloc_relay *relay, bool open)
{
	unsigned int family = relay->address.family == TP_IPV4 ? TP_RELAY_V4 : TP_RELAY_V6;

	if (f->number)
		tp_table_keep_relay(f->record.flows->table, f->number->number, family,
			open ? &relay->address : NULL, relay->expires_ns);
}

/* A former life's, with its note and what its policer has counted, or another. */
static int take_number(struct flows *flows, struct client_flows *f, struct allocation *allocation)
{
	struct tp_kept_allocation note;

	if (allocation->kept)
		f->number = policers_claim(&flows->policers, allocation->kept);
	if (f->number)
		return 0;
	allocation->kept = 0;
	f->number = policers_take(&flows->policers, tp_clock_now_ns());
	if (!f->number)
		return flows->limited ? -ENOSPC : 0;
	tp_table_reset_policer(flows->table, f->number->number);
	spec_to_keep(allocation, &note);
	return tp_table_keep(flows->table, f->number->number, &note);
}

static int begin_client(
	struct flows *flows, struct allocation *allocation, struct client_flows **out)
{
	TP_AUTO_FREE struct client_flows *f = calloc(1, sizeof(*f));
	int err = f ? take_number(flows, f, allocation) : -ENOMEM;

	if (err) {
		if (f)
			policers_give(&flows->policers, f->number, 0);
		return err;
	}
	init_record(&f->record, flows, TP_FLOW_CLIENT);
	f->record.client = allocation;
	f->user.changed = on_client_hop;
	LIST_INSERT_HEAD(&flows->clients, f, link);
	*out = allocation->flows = TP_TAKE(f);
	place(&(*out)->record);
	return 0;
}

static void end_client(struct client_flows *f)
{
	struct allocation *allocation = f->record.client;
	struct flows *flows = f->record.flows;

	allocation->flows = NULL;
	if (f->number)
		tp_table_forget(flows->table, f->number->number);
	add_counters(&allocation->sent, withdraw(&f->record));
	route_unfollow(flows->route, &f->user);
	policers_give(&flows->policers, f->number, tp_clock_now_ns());
	LIST_REMOVE(f, link);
	free(f);
}

int flows_open_relay(struct flows *flows, struct alloc_relay *relay)
{
	struct allocation *allocation = relay->allocation;
	struct client_flows *client = allocation->flows;
	int err = own_port(flows, &relay->address, TP_PORT_RELAY);

	if (!err && !client)
		err = begin_client(flows, allocation, &client);
	if (err) {
		disown_port(flows, &relay->address);
		return err;
	}
	client->relays++;
	keep_relay(client, relay, true);
	tell_relay(client, relay, true);
	return 0;
}

void flows_extend_relay(struct flows *flows, struct alloc_relay *relay)
{
	(void)flows;
	if (relay->allocation->flows)
		keep_relay(relay->allocation->flows, relay, true);
}

static void revoke_all(struct flows *flows, const struct alloc_relay *relay)
{
	struct alloc_channel *c;
	struct alloc_permission *p;

	TAILQ_FOREACH(c, &relay->channels, link)
		flows_revoke_channel(flows, c);
	TAILQ_FOREACH(p, &relay->permissions, link)
		flows_revoke_permission(flows, p);
}

void flows_close_relay(struct flows *flows, struct alloc_relay *relay)
{
	struct client_flows *client = relay->allocation->flows;

	/* First of all: a successor must not bring back what was to go. */
	if (client)
		keep_relay(client, relay, false);
	if (client)
		tell_relay(client, relay, false);
	/* Whoever ended it has ended these before, as a rule. */
	revoke_all(flows, relay);
	disown_port(flows, &relay->address);
	if (client && --client->relays == 0)
		end_client(client);
}

static void refresh_channels(struct peer *peer)
{
	struct channel_flows *channel;

	LIST_FOREACH(channel, &peer->channels, link) {
		refresh(&channel->to_client);
	}
}

static struct permission_flows *begin_permission(
	struct flows *flows, struct alloc_permission *permission)
{
	TP_AUTO_FREE struct permission_flows *f = calloc(1, sizeof(*f));

	if (f)
		f->peer = find_or_add_peer(flows, permission->relay, &permission->peer);
	if (!f || !f->peer)
		return NULL;
	init_record(&f->record, flows, TP_FLOW_PERMISSION);
	f->record.permission = permission;
	f->peer->permission = f;
	permission->flows = f;
	return TP_TAKE(f);
}

void flows_grant_permission(struct flows *flows, struct alloc_permission *permission)
{
	struct permission_flows *f = permission->flows;
	uint32_t expires;

	if (!f)
		f = begin_permission(flows, permission);
	if (!f) {
		tp_error("flows: out of memory: a permission is left out");
		return;
	}
	refresh(&f->record);
	/* Whoever binds many channels to one address comes here for each of them. */
	expires = tp_ticks_until(permission->expires_ns);
	if (f->expires == expires)
		return;
	f->expires = expires;
	refresh_channels(f->peer);
}

void flows_revoke_permission(struct flows *flows, struct alloc_permission *permission)
{
	struct permission_flows *f = permission->flows;

	if (!f)
		return;
	permission->flows = NULL;
	add_counters(&permission->relay->allocation->received, withdraw(&f->record));
	f->peer->permission = NULL;
	refresh_channels(f->peer);
	drop_peer_if_unused(flows, f->peer);
	free(f);
}

static struct channel_flows *begin_channel(struct flows *flows, struct alloc_channel *channel)
{
	TP_AUTO_FREE struct channel_flows *f = calloc(1, sizeof(*f));

	if (f)
		f->peer = find_or_add_peer(flows, channel->relay, &channel->peer);
	if (!f || !f->peer)
		return NULL;
	init_record(&f->to_peer, flows, TP_FLOW_CHANNEL);
	init_record(&f->to_client, flows, TP_FLOW_PEER);
	f->to_peer.channel = f->to_client.channel = channel;
	LIST_INSERT_HEAD(&f->peer->channels, f, link);
	channel->flows = f;
	return TP_TAKE(f);
}

void flows_grant_channel(struct flows *flows, struct alloc_channel *channel)
{
	struct channel_flows *f = channel->flows;

	if (!f)
		f = begin_channel(flows, channel);
	if (!f) {
		tp_error("flows: out of memory: a channel is left out");
		return;
	}
	refresh(&f->to_peer);
	refresh(&f->to_client);
}

void flows_revoke_channel(struct flows *flows, struct alloc_channel *channel)
{
	struct channel_flows *f = channel->flows;
	struct allocation *allocation = channel->relay->allocation;

	if (!f)
		return;
	channel->flows = NULL;
	add_counters(&allocation->sent, withdraw(&f->to_peer));
	add_counters(&allocation->received, withdraw(&f->to_client));
	LIST_REMOVE(f, link);
	drop_peer_if_unused(flows, f->peer);
	free(f);
}

static void add_live(
	const struct tp_table *table, const struct record *record, struct alloc_traffic *sum)
{
	if (record->slot != RECORD_NO_SLOT)
		add_counters(sum, tp_table_counters(table, record->slot));
}

static void add_relay_traffic(const struct tp_table *table, const struct alloc_relay *relay,
	struct alloc_traffic *sent, struct alloc_traffic *received)
{
	const struct alloc_permission *p;
	const struct alloc_channel *c;

	TAILQ_FOREACH(p, &relay->permissions, link) {
		const struct permission_flows *f = p->flows;

		if (f)
			add_live(table, &f->record, received);
	}
	TAILQ_FOREACH(c, &relay->channels, link) {
		const struct channel_flows *f = c->flows;

		if (!f)
			continue;
		add_live(table, &f->to_peer, sent);
		add_live(table, &f->to_client, received);
	}
}

/* Sends are counted at the client's flow, Data at the permission's. */
void flows_add_traffic(const struct flows *flows, const struct allocation *allocation,
	struct alloc_traffic *sent, struct alloc_traffic *received)
{
	const struct client_flows *client = allocation->flows;

	if (client)
		add_live(flows->table, &client->record, sent);
	for (size_t i = 0; i < ALLOC_RELAYS; i++)
		if (allocation->relays[i])
			add_relay_traffic(flows->table, allocation->relays[i], sent, received);
}

void flows_sweep(struct flows *flows, uint64_t now_ns)
{
	struct record *record;

	tp_table_sweep(flows->table, now_ns);
	for (int i = 0; i < SWEEP_TRIES && (record = TAILQ_FIRST(&flows->missing)); i++) {
		place(record);
		if (!record->is_missing)
			continue;
		TAILQ_REMOVE(&flows->missing, record, missing);
		TAILQ_INSERT_TAIL(&flows->missing, record, missing);
	}
}

static void close_everything(struct flows *flows)
{
	struct client_flows *client;

	/* Whoever has flows has one of its client. */
	while ((client = LIST_FIRST(&flows->clients))) {
		for (int family = 0; family < ALLOC_RELAYS; family++)
			if (client->record.client->relays[family])
				revoke_all(flows, client->record.client->relays[family]);
		end_client(client);
	}
}

void flows_free(struct flows *flows)
{
	if (!flows)
		return;
	close_everything(flows);
	policers_clear(&flows->policers);
	free(flows->listeners);
	free(flows->missing_by_port);
	free(flows);
}
