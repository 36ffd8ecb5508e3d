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
	flows->missing_by_port = calloc(TP_LOCALS_MAX, sizeof(*flows->missing_by_port));
	if (!flows->missing_by_port ||
		policers_init(&flows->policers,
			tp_table_memory(table)->shape.regions[TP_REGION_POLICERS].count) < 0) {
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
	return client && client->flows->limited ? client->number : 0;
}

bool flows_police(const struct flows *flows, const struct allocation *allocation,
	enum tp_direction direction, uint64_t now_ns, uint32_t len)
{
	return tp_table_police(
		flows->table, policer_of(flows_of_client(allocation)), direction, now_ns, len);
}

static void set_port(struct flows *flows, uint8_t local, uint16_t port, enum tp_port_state state)
{
	tp_table_set_port(flows->table, local, port, state);
	if (flows->audit)
		audit_port_changed(flows->audit, local, port);
}

static int own_port(struct flows *flows, const struct tp_addr *address, enum tp_port_state state)
{
	uint8_t local;
	int err = tp_table_add_local(flows->table, address, &local);

	if (!err)
		set_port(flows, local, address->port, state);
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
		set_port(flows, local, address->port, TP_PORT_NOT_OURS);
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

static void set_next_hop(struct tp_table *table, const struct record *record, uint16_t next_hop)
{
	if (record->slot != RECORD_NO_SLOT)
		tp_table_set_next_hop(table, record->slot, next_hop);
}

static void on_peer_hop(struct route_user *user, uint16_t next_hop)
{
	const struct peer *peer = TP_CONTAINER(user, struct peer, user);
	struct tp_table *table = flows_of_client(peer->relay->allocation)->flows->table;
	const struct record *permission = peer->permission ? &peer->permission->record : NULL;
	const struct channel_flows *channel;

	if (permission && permission->slot != RECORD_NO_SLOT)
		tp_table_set_peer_hop(table, permission->slot, next_hop);
	LIST_FOREACH(channel, &peer->channels, link) {
		set_next_hop(table, &channel->to_peer, next_hop);
	}
}

static void set_relay_hop(
	struct tp_table *table, const struct alloc_relay *relay, uint16_t next_hop)
{
	const struct alloc_permission *p;
	const struct alloc_channel *c;

	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p))
		if (flows_of_permission(p))
			set_next_hop(table, &flows_of_permission(p)->record, next_hop);
	for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c))
		if (flows_of_channel(c))
			set_next_hop(table, &flows_of_channel(c)->to_client, next_hop);
}

static struct allocation *allocation_of(const struct client_flows *client)
{
	return TP_CONTAINER(client, struct allocation, flows);
}

static void on_client_hop(struct route_user *user, uint16_t next_hop)
{
	const struct client_flows *client = TP_CONTAINER(user, struct client_flows, user);
	const struct allocation *allocation = allocation_of(client);

	for (int family = 0; family < ALLOC_RELAYS; family++)
		if (allocation->relays[family])
			set_relay_hop(client->flows->table, allocation->relays[family], next_hop);
}

/* Both ways are shared: the client's by all of its flows, a peer's by permission and channels. */
static void follow(struct flows *flows, struct peer *peer, const struct tp_addr *ip)
{
	const struct alloc_relay *relay = peer->relay;
	const struct alloc_tuple *tuple = &relay->allocation->tuple;
	struct client_flows *client = flows_of_client(relay->allocation);

	if (!client->user.destination)
		route_follow(flows->route, &client->user, &tuple->client, &tuple->server);
	peer->user.changed = on_peer_hop;
	if (!alloc_is_hairpin(relay, ip))
		route_follow(flows->route, &peer->user, ip, &relay->address);
}

static struct peer *find_peer(
	const struct alloc_relay *relay, const struct tp_addr *ip, uint32_t hash)
{
	struct tp_map_link *link = tp_map_first(&flows_of_relay(relay)->peers, hash);

	for (; link; link = tp_map_next(link)) {
		struct peer *peer = TP_CONTAINER(link, struct peer, by_ip);

		if (memcmp(peer->ip, ip->ip, sizeof(peer->ip)) == 0)
			return peer;
	}
	return NULL;
}

static struct peer *find_or_add_peer(
	struct flows *flows, const struct alloc_relay *relay, const struct tp_addr *ip)
{
	uint32_t hash = (uint32_t)tp_siphash13(&alloc_hash_key, ip->ip, sizeof(ip->ip));
	struct peer *peer = find_peer(relay, ip, hash);

	if (peer)
		return peer;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	peer->relay = relay;
	memcpy(peer->ip, ip->ip, sizeof(peer->ip));
	LIST_INIT(&peer->channels);
	tp_map_add(&flows_of_relay(relay)->peers, &peer->by_ip, hash);
	follow(flows, peer, ip);
	return peer;
}

static void drop_peer_if_unused(struct flows *flows, struct peer *peer)
{
	if (peer->permission || !LIST_EMPTY(&peer->channels))
		return;
	/* After the flows: the number of the next hop starts resting here. */
	route_unfollow(flows->route, &peer->user);
	tp_map_remove(&flows_of_relay(peer->relay)->peers, &peer->by_ip);
	free(peer);
}

static const struct alloc_permission *permission_of(const struct permission_flows *f)
{
	return TP_CONTAINER(f, struct alloc_permission, flows);
}

static const struct permission_flows *permission_flows_of(const struct record *record)
{
	return TP_CONTAINER(record, const struct permission_flows, record);
}

static const struct channel_flows *channel_flows_of(const struct record *record)
{
	return record->kind == TP_FLOW_PEER
		       ? TP_CONTAINER(record, const struct channel_flows, to_client)
		       : TP_CONTAINER(record, const struct channel_flows, to_peer);
}

static const struct alloc_channel *channel_of(const struct channel_flows *f)
{
	return TP_CONTAINER(f, struct alloc_channel, flows);
}

/* NULL: of a client, whose packets come to a listener. */
static const struct alloc_relay *relay_of(const struct record *record)
{
	if (record->kind == TP_FLOW_CLIENT)
		return NULL;
	return record->kind == TP_FLOW_PERMISSION
		       ? permission_of(permission_flows_of(record))->relay
		       : channel_of(channel_flows_of(record))->relay;
}

static const struct client_flows *client_of(const struct record *record)
{
	const struct alloc_relay *relay = relay_of(record);

	return relay ? flows_of_client(relay->allocation)
		     : TP_CONTAINER(record, const struct client_flows, record);
}

void record_complete(const struct record *record, struct tp_flow_spec *out)
{
	const struct client_flows *client = client_of(record);
	uint16_t client_hop = route_next_hop(&client->user);

	out->policer = policer_of(client);
	switch (record->kind) {
	case TP_FLOW_PERMISSION:
		out->next_hop = client_hop;
		out->peer_hop = route_next_hop(&permission_flows_of(record)->peer->user);
		break;
	case TP_FLOW_CHANNEL:
		out->next_hop = route_next_hop(&channel_flows_of(record)->peer->user);
		break;
	case TP_FLOW_PEER:
		out->next_hop = client_hop;
		break;
	default:
		break;
	}
}

static void describe(
	const struct tp_table *table, const struct record *record, struct tp_flow_spec *out)
{
	const struct channel_flows *channel = channel_flows_of(record);

	switch (record->kind) {
	case TP_FLOW_PERMISSION:
		spec_of_permission(table, permission_of(permission_flows_of(record)), out);
		break;
	case TP_FLOW_CLIENT:
		spec_of_client(table, allocation_of(client_of(record)), out);
		break;
	case TP_FLOW_CHANNEL:
		spec_to_peer(table, channel_of(channel), out);
		break;
	default:
		spec_to_client(table, channel_of(channel),
			channel->peer->permission ? permission_of(channel->peer->permission) : NULL,
			out);
		break;
	}
	record_complete(record, out);
}

static uint32_t hash_record(const struct record *record)
{
	uintptr_t address = (uintptr_t)record;

	return (uint32_t)tp_siphash13(&alloc_hash_key, &address, sizeof(address));
}

/* Out of memory: then it is tried again when it is refreshed, and not before. */
static void list_missing(struct flows *flows, struct record *record)
{
	struct missing *missing = calloc(1, sizeof(*missing));

	if (!missing)
		return;
	missing->record = record;
	tp_map_add(&flows->missing_by_record, &missing->by_record, hash_record(record));
	TAILQ_INSERT_TAIL(&flows->missing, missing, link);
}

static void unlist_missing(struct flows *flows, const struct record *record)
{
	struct tp_map_link *link = tp_map_first(&flows->missing_by_record, hash_record(record));
	struct missing *missing;

	while (link && TP_CONTAINER(link, struct missing, by_record)->record != record)
		link = tp_map_next(link);
	if (!link)
		return;
	missing = TP_CONTAINER(link, struct missing, by_record);
	tp_map_remove(&flows->missing_by_record, link);
	tp_map_shrink(&flows->missing_by_record);
	TAILQ_REMOVE(&flows->missing, missing, link);
	free(missing);
}

/*
 * A relay port with a missing flow is served by the sockets as a whole; at listeners the table's
 * count of missing flows has the same effect.
 */
static void set_missing(struct flows *flows, struct record *record, bool missing)
{
	const struct alloc_relay *relay = relay_of(record);
	uint32_t *count;
	uint8_t local;

	record->is_missing = missing;
	if (flows->audit)
		audit_missing_changed(flows->audit);
	if (missing)
		list_missing(flows, record);
	else
		unlist_missing(flows, record);
	if (!relay || tp_table_find_local(flows->table, &relay->address, &local) < 0)
		return;
	count = &flows->missing_by_port[local][relay->address.port];
	*count += missing ? 1 : -1U;
	if (*count == (missing ? 1 : 0))
		set_port(flows, local, relay->address.port, missing ? TP_PORT_SLOW : TP_PORT_RELAY);
}

static void place(struct flows *flows, struct record *record)
{
	struct tp_table *table = flows->table;
	struct tp_flow_spec spec;
	int err;

	describe(table, record, &spec);
	err = tp_table_publish(table, &spec, &record->slot);
	if (err && err != -ENOSPC) {
		if (tp_log_allowed(&log_limit))
			tp_error("flows: allocation %u: cannot publish: %s", spec.allocation,
				strerror(-err));
		return;
	}
	if (!err && flows->audit)
		audit_flow_placed(flows->audit, record->slot);
	/* The table counts every failure; a flow is to be counted once. */
	if (record->is_missing)
		tp_table_forget_unplaced(table);
	if (record->is_missing != (err == -ENOSPC))
		set_missing(flows, record, err == -ENOSPC);
}

/* Brings the flow in step with the object; places it where that has not happened yet. */
static void refresh(struct flows *flows, struct record *record)
{
	struct tp_flow_spec spec;

	if (record->slot == RECORD_NO_SLOT) {
		place(flows, record);
		return;
	}
	describe(flows->table, record, &spec);
	tp_table_set_granted(flows->table, record->slot, spec.granted_ns);
	tp_table_set_expiry(flows->table, record->slot, spec.expires_ns);
}

static struct tp_flow_counters withdraw(struct flows *flows, struct record *record)
{
	struct tp_flow_counters last = {0};

	if (record->slot != RECORD_NO_SLOT)
		last = tp_table_retire(flows->table, record->slot, tp_clock_now_ns());
	if (record->is_missing) {
		tp_table_forget_unplaced(flows->table);
		set_missing(flows, record, false);
	}
	return last;
}

static void add_counters(struct alloc_traffic *sum, struct tp_flow_counters counted)
{
	sum->packets += counted.packets;
	sum->bytes += counted.bytes;
}

static struct record new_record(enum tp_flow_kind kind)
{
	return (struct record){.kind = (uint8_t)kind, .slot = RECORD_NO_SLOT};
}

static void tell_relay(const struct client_flows *f, const struct alloc_relay *relay, bool open)
{
	unsigned int family = relay->address.family == TP_IPV4 ? TP_RELAY_V4 : TP_RELAY_V6;
	struct tp_table *table = f->flows->table;
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
		tp_table_keep_relay(f->flows->table, f->number, family,
			open ? &relay->address : NULL, relay->expires_ns);
}

/* A former life's, with its note and what its policer has counted, or another. */
static int take_number(struct flows *flows, struct client_flows *f, struct allocation *allocation)
{
	struct tp_kept_allocation note;

	if (allocation->kept && policers_claim(&flows->policers, allocation->kept)) {
		f->number = allocation->kept;
		return 0;
	}
	allocation->kept = 0;
	f->number = policers_take(&flows->policers, tp_clock_now_ns());
	if (!f->number)
		return flows->limited ? -ENOSPC : 0;
	tp_table_reset_policer(flows->table, f->number);
	spec_to_keep(allocation, &note);
	if (flows->audit)
		audit_note_made(flows->audit, f->number);
	return tp_table_keep(flows->table, f->number, &note);
}

static int begin_client(struct flows *flows, struct allocation *allocation)
{
	struct client_flows *f = (void *)allocation->flows;
	int err = take_number(flows, f, allocation);

	if (err) {
		policers_give(&flows->policers, f->number, 0);
		*f = (struct client_flows){0};
		return err;
	}
	f->flows = flows;
	f->record = new_record(TP_FLOW_CLIENT);
	f->user.changed = on_client_hop;
	LIST_INSERT_HEAD(&flows->clients, f, link);
	place(flows, &f->record);
	return 0;
}

static void end_client(struct client_flows *f)
{
	struct allocation *allocation = allocation_of(f);
	struct flows *flows = f->flows;

	if (f->number)
		tp_table_forget(flows->table, f->number);
	add_counters(&allocation->sent, withdraw(flows, &f->record));
	route_unfollow(flows->route, &f->user);
	policers_give(&flows->policers, f->number, tp_clock_now_ns());
	LIST_REMOVE(f, link);
	*f = (struct client_flows){0};
}

int flows_open_relay(struct flows *flows, struct alloc_relay *relay)
{
	struct allocation *allocation = relay->allocation;
	struct client_flows *client;
	int err = own_port(flows, &relay->address, TP_PORT_RELAY);

	if (!err && !flows_of_client(allocation))
		err = begin_client(flows, allocation);
	if (err) {
		disown_port(flows, &relay->address);
		return err;
	}
	client = flows_of_client(allocation);
	client->relays++;
	keep_relay(client, relay, true);
	tell_relay(client, relay, true);
	return 0;
}

void flows_extend_relay(struct flows *flows, struct alloc_relay *relay)
{
	const struct client_flows *client = flows_of_client(relay->allocation);

	(void)flows;
	if (client)
		keep_relay(client, relay, true);
}

static void revoke_all(struct flows *flows, const struct alloc_relay *relay)
{
	struct alloc_channel *c;
	struct alloc_permission *p;

	for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c))
		flows_revoke_channel(flows, c);
	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p))
		flows_revoke_permission(flows, p);
}

void flows_close_relay(struct flows *flows, struct alloc_relay *relay)
{
	struct client_flows *client = flows_of_client(relay->allocation);

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

static void refresh_channels(struct flows *flows, struct peer *peer)
{
	struct channel_flows *channel;

	LIST_FOREACH(channel, &peer->channels, link) {
		refresh(flows, &channel->to_client);
	}
}

static struct permission_flows *begin_permission(
	struct flows *flows, struct alloc_permission *permission)
{
	struct permission_flows *f = (void *)permission->flows;

	f->peer = find_or_add_peer(flows, permission->relay, &permission->peer);
	if (!f->peer)
		return NULL;
	f->record = new_record(TP_FLOW_PERMISSION);
	f->peer->permission = f;
	return f;
}

void flows_grant_permission(struct flows *flows, struct alloc_permission *permission)
{
	struct permission_flows *f = flows_of_permission(permission);
	uint32_t expires;

	if (!f)
		f = begin_permission(flows, permission);
	if (!f) {
		tp_error("flows: out of memory: a permission is left out");
		return;
	}
	refresh(flows, &f->record);
	/* Whoever binds many channels to one address comes here for each of them. */
	expires = tp_ticks_until(permission->expires_ns);
	if (f->expires == expires)
		return;
	f->expires = expires;
	refresh_channels(flows, f->peer);
}

void flows_revoke_permission(struct flows *flows, struct alloc_permission *permission)
{
	struct permission_flows *f = flows_of_permission(permission);

	if (!f)
		return;
	add_counters(&permission->relay->allocation->received, withdraw(flows, &f->record));
	f->peer->permission = NULL;
	refresh_channels(flows, f->peer);
	drop_peer_if_unused(flows, f->peer);
	*f = (struct permission_flows){0};
}

static struct channel_flows *begin_channel(struct flows *flows, struct alloc_channel *channel)
{
	struct channel_flows *f = (void *)channel->flows;

	f->peer = find_or_add_peer(flows, channel->relay, &channel->peer);
	if (!f->peer)
		return NULL;
	f->to_peer = new_record(TP_FLOW_CHANNEL);
	f->to_client = new_record(TP_FLOW_PEER);
	LIST_INSERT_HEAD(&f->peer->channels, f, link);
	return f;
}

void flows_grant_channel(struct flows *flows, struct alloc_channel *channel)
{
	struct channel_flows *f = flows_of_channel(channel);

	if (!f)
		f = begin_channel(flows, channel);
	if (!f) {
		tp_error("flows: out of memory: a channel is left out");
		return;
	}
	refresh(flows, &f->to_peer);
	refresh(flows, &f->to_client);
}

void flows_revoke_channel(struct flows *flows, struct alloc_channel *channel)
{
	struct channel_flows *f = flows_of_channel(channel);
	struct allocation *allocation = channel->relay->allocation;

	if (!f)
		return;
	add_counters(&allocation->sent, withdraw(flows, &f->to_peer));
	add_counters(&allocation->received, withdraw(flows, &f->to_client));
	LIST_REMOVE(f, link);
	drop_peer_if_unused(flows, f->peer);
	*f = (struct channel_flows){0};
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

	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p)) {
		const struct permission_flows *f = flows_of_permission(p);

		if (f)
			add_live(table, &f->record, received);
	}
	for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c)) {
		const struct channel_flows *f = flows_of_channel(c);

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
	const struct client_flows *client = flows_of_client(allocation);

	if (client)
		add_live(flows->table, &client->record, sent);
	for (size_t i = 0; i < ALLOC_RELAYS; i++)
		if (allocation->relays[i])
			add_relay_traffic(flows->table, allocation->relays[i], sent, received);
}

void flows_sweep(struct flows *flows, uint64_t now_ns)
{
	struct missing *missing;

	tp_table_sweep(flows->table, now_ns);
	for (int i = 0; i < SWEEP_TRIES && (missing = TAILQ_FIRST(&flows->missing)); i++) {
		/* First of all: it is freed when there is a place. */
		TAILQ_REMOVE(&flows->missing, missing, link);
		TAILQ_INSERT_TAIL(&flows->missing, missing, link);
		place(flows, missing->record);
	}
}

static void close_everything(struct flows *flows)
{
	struct client_flows *client;

	/* Whoever has flows has one of its client. */
	while ((client = LIST_FIRST(&flows->clients))) {
		for (int family = 0; family < ALLOC_RELAYS; family++)
			if (allocation_of(client)->relays[family])
				revoke_all(flows, allocation_of(client)->relays[family]);
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
