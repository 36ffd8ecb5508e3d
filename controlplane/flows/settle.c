/* The end of an adoption: the table keeps what somebody has asked for in this life. One thread. */
#include "flows.h"

#include "base/cleanup.h"
#include "record.h"

#include <errno.h>

/* By local address: what of it is ours. */
struct ours {
	uint8_t port[65536];
	bool any;
};

static void mark(const struct flows *flows, struct ours *ours, const struct tp_addr *address)
{
	uint8_t local;

	if (tp_table_find_local(flows->table, address, &local) < 0)
		return;
	ours[local].port[address->port] = 1;
	ours[local].any = true;
}

static void mark_everything(
	const struct flows *flows, const struct alloc_list *allocations, struct ours *ours)
{
	struct allocation *a;
	for (size_t i = 0; i < flows->listeners_count; i++)
		mark(flows, ours, &flows->listeners[i]);
	TAILQ_FOREACH(a, allocations, link)
		for (int family = 0; family < ALLOC_RELAYS; family++)
			if (a->relays[family])
				mark(flows, ours, &a->relays[family]->address);
}

/* Of the families that the allocation has no longer. */
static void settle_relays(
	struct flows *flows, const struct allocation *allocation, const struct client_flows *client)
{
	const struct tp_relay_ref none = {.word = 0};

	for (unsigned int family = 0; family < TP_RELAYS; family++) {
		if (allocation->relays[family])
			continue;
		tp_table_keep_relay(flows->table, client->number, family, NULL, 0);
		if (client->record.slot != RECORD_NO_SLOT)
			tp_table_set_relay(flows->table, client->record.slot, family, none);
	}
}

static int settle_notes(struct flows *flows, const struct alloc_list *allocations)
{
	struct allocation *a;
	uint32_t end = tp_table_kept_end(flows->table);
	TP_AUTO_FREE uint8_t *used = calloc(end, 1);

	if (!used)
		return -ENOMEM;
	TAILQ_FOREACH(a, allocations, link) {
		const struct client_flows *client = flows_of_client(a);

		if (!client || !client->number)
			continue;
		used[client->number] = 1;
		settle_relays(flows, a, client);
	}
	for (uint32_t i = 1; i < end; i++) {
		if (!used[i])
			tp_table_forget(flows->table, i);
	}
	return 0;
}

static void settle_local(struct flows *flows, const struct ours *ours, uint8_t local)
{
	for (unsigned int port = 0; port <= UINT16_MAX; port++) {
		if (!ours->port[port] &&
			tp_table_port(flows->table, local, (uint16_t)port) != TP_PORT_NOT_OURS)
			tp_table_set_port(flows->table, local, (uint16_t)port, TP_PORT_NOT_OURS);
	}
	if (!ours->any && !(flows->own >> local & 1))
		tp_table_drop_local(flows->table, local);
}

int flows_settle(struct flows *flows, const struct alloc_list *allocations, uint64_t now_ns)
{
	TP_AUTO_FREE struct ours *ours = calloc(TP_LOCALS_MAX, sizeof(*ours));
	uint32_t dropped;

	if (!ours)
		return -ENOMEM;
	dropped = tp_table_settle(flows->table, now_ns);
	mark_everything(flows, allocations, ours);
	for (uint8_t local = 0; local < TP_LOCALS_MAX; local++)
		settle_local(flows, &ours[local], local);
	route_settle(flows->route);
	return settle_notes(flows, allocations) < 0 ? -ENOMEM : (int)dropped;
}
