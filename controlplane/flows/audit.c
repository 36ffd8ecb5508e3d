/*
 * The invariant: alloc/ and the shared table say the same. What an allocation has is compared at
 * once; what nobody has expected is found out afterwards, and by then may have been made since. One
 * thread; reads only.
 */
#include "flows.h"

#include "base/cleanup.h"
#include "record.h"
#include "spec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define SLOTS_A_LOOK 128
#define NOTES_A_LOOK 256
#define PORTS_A_LOOK 4096

#define PORTS   (TP_LOCALS_MAX * (UINT32_C(1) + UINT16_MAX))
#define CHANGED UINT8_MAX

struct flows_audit {
	struct flows *flows;
	struct tp_audit *table;
	uint8_t *ports; /* what they should be, by local address and port; CHANGED: anything */
	uint8_t *notes; /* by number: somebody's */
	uint32_t ports_looked_at, notes_looked_at;
	uint32_t strays; /* notes that are nobody's */
	uint32_t missing;
	bool missing_changed;
	uint32_t differences;
	void (*report)(void *arg, const char *text);
	void *arg;
};

__attribute__((format(printf, 2, 3))) static void differ(
	struct flows_audit *audit, const char *format, ...)
{
	char text[256];
	va_list args;

	audit->differences++;
	if (!audit->report)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	audit->report(audit->arg, text);
}

static uint32_t port_index(uint8_t local, uint16_t port)
{
	return (uint32_t)local << 16 | port;
}

static void expect_port(struct flows_audit *audit, const struct tp_addr *address, uint8_t state)
{
	char text[TP_ADDR_TEXT];
	uint8_t local;

	if (tp_table_find_local(audit->flows->table, address, &local) < 0)
		differ(audit, "%s is not among the local addresses", tp_addr_text(address, text));
	else
		audit->ports[port_index(local, address->port)] = state;
}

static void expect_record(struct flows_audit *audit, const struct record *record,
	struct tp_flow_spec *spec, const struct alloc_relay *relay)
{
	if (record->is_missing) {
		audit->missing++;
		if (relay)
			expect_port(audit, &relay->address, TP_PORT_SLOW);
		return;
	}
	record_complete(record, spec);
	if (record->slot == RECORD_NO_SLOT)
		differ(audit, "allocation %u: a flow is neither placed nor missing",
			spec->allocation);
	else
		tp_audit_expect(audit->table, record->slot, spec);
}

static void expect_permission(struct flows_audit *audit, const struct alloc_permission *permission)
{
	const struct permission_flows *f = flows_of_permission(permission);
	struct tp_flow_spec spec;

	spec_of_permission(audit->flows->table, permission, &spec);
	if (f)
		expect_record(audit, &f->record, &spec, permission->relay);
	else
		differ(audit, "allocation %u: a permission without flow", spec.allocation);
}

static void expect_channel(struct flows_audit *audit, const struct alloc_channel *channel)
{
	const struct channel_flows *f = flows_of_channel(channel);
	const struct tp_table *table = audit->flows->table;
	struct tp_flow_spec to_peer, to_client;

	spec_to_peer(table, channel, &to_peer);
	/* Not from our own index: that may be what is wrong. */
	spec_to_client(table, channel, alloc_find_permission(channel->relay, &channel->peer, 0),
		&to_client);
	if (!f) {
		differ(audit, "allocation %u: channel 0x%x without flows", to_peer.allocation,
			channel->number);
		return;
	}
	expect_record(audit, &f->to_peer, &to_peer, channel->relay);
	expect_record(audit, &f->to_client, &to_client, channel->relay);
}

static void expect_relay(struct flows_audit *audit, const struct alloc_relay *relay)
{
	struct alloc_permission *p;
	struct alloc_channel *c;

	expect_port(audit, &relay->address, TP_PORT_RELAY);
	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p))
		expect_permission(audit, p);
	for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c))
		expect_channel(audit, c);
}

static bool has_same_relays(const struct tp_kept_allocation *a, const struct tp_kept_allocation *b)
{
	for (int family = 0; family < TP_RELAYS; family++) {
		if (!tp_addr_equal(&a->relays[family].address, &b->relays[family].address) ||
			a->relays[family].expires_ns != b->relays[family].expires_ns)
			return false;
	}
	return true;
}

static void expect_note(struct flows_audit *audit, const struct allocation *allocation)
{
	const struct client_flows *f = flows_of_client(allocation);
	struct tp_kept_allocation want, is = {0};

	if (!f || !f->number)
		return;
	if (audit->notes[f->number] == 1)
		differ(audit, "allocation %u: its note (%u) is another one's too", allocation->id,
			f->number);
	audit->notes[f->number] = 1;
	spec_to_keep(allocation, &want);
	/* Of a restored allocation's name there may be less or, once it was proved, more. */
	if (tp_table_kept(audit->flows->table, f->number, &is) < 0 || is.id != want.id ||
		is.transport != want.transport || is.quota != want.quota ||
		!tp_addr_equal(&is.client, &want.client) ||
		!tp_addr_equal(&is.server, &want.server) ||
		memcmp(is.owner, want.owner, sizeof(is.owner)) != 0 || !has_same_relays(&is, &want))
		differ(audit, "allocation %u: its note (%u) says something else", allocation->id,
			f->number);
}

static void expect_client(struct flows_audit *audit, const struct allocation *allocation)
{
	const struct client_flows *f = flows_of_client(allocation);
	struct tp_flow_spec spec;

	spec_of_client(audit->flows->table, allocation, &spec);
	if (f)
		expect_record(audit, &f->record, &spec, NULL);
	else
		differ(audit, "allocation %u: no flow for its client", spec.allocation);
}

void flows_audit_expect(struct flows_audit *audit, const struct allocation *allocation)
{
	expect_client(audit, allocation);
	expect_note(audit, allocation);
	for (size_t i = 0; i < ALLOC_RELAYS; i++)
		if (allocation->relays[i])
			expect_relay(audit, allocation->relays[i]);
}

void audit_flow_placed(struct flows_audit *audit, uint32_t slot)
{
	tp_audit_placed(audit->table, slot);
}

void audit_port_changed(struct flows_audit *audit, uint8_t local, uint16_t port)
{
	audit->ports[port_index(local, port)] = CHANGED;
}

void audit_note_made(struct flows_audit *audit, uint32_t number)
{
	audit->notes[number] = CHANGED;
}

void audit_missing_changed(struct flows_audit *audit)
{
	audit->missing_changed = true;
}

static void look_at_port(struct flows_audit *audit, uint32_t index)
{
	uint8_t local = (uint8_t)(index >> 16);
	uint16_t port = (uint16_t)index;
	unsigned is = tp_table_port(audit->flows->table, local, port);
	unsigned should = audit->ports[index];

	if (should != CHANGED && is != should)
		differ(audit, "port %u of local address %u: state %u, not %u", port, local, is,
			should);
}

static bool look_at_ports(struct flows_audit *audit)
{
	for (int i = 0; i < PORTS_A_LOOK && audit->ports_looked_at < PORTS; i++)
		look_at_port(audit, audit->ports_looked_at++);
	return audit->ports_looked_at < PORTS;
}

static bool look_at_notes(struct flows_audit *audit)
{
	const struct tp_table *table = audit->flows->table;
	uint32_t end = tp_table_kept_end(table);
	struct tp_kept_allocation note;

	for (int i = 0; i < NOTES_A_LOOK && ++audit->notes_looked_at < end; i++)
		if (!audit->notes[audit->notes_looked_at])
			audit->strays +=
				tp_table_kept(table, audit->notes_looked_at, &note) != -ENOENT;
	return audit->notes_looked_at < end;
}

bool flows_audit_look(struct flows_audit *audit)
{
	return look_at_ports(audit) || look_at_notes(audit) ||
	       tp_audit_look(audit->table, SLOTS_A_LOOK);
}

/* What is one number for all. */
static void compare_counts(struct flows_audit *audit)
{
	uint32_t unplaced = tp_table_unplaced(audit->flows->table);

	if (audit->strays)
		differ(audit, "the table has notes of %u allocations that there are not",
			audit->strays);
	if (!audit->missing_changed && unplaced != audit->missing)
		differ(audit, "the table counts %u flows without slot, %u are", unplaced,
			audit->missing);
}

static void free_audit(struct flows_audit *audit)
{
	free(audit->ports);
	free(audit->notes);
	free(audit);
}

uint32_t flows_audit_end(struct flows_audit *audit)
{
	uint32_t differences;

	compare_counts(audit);
	differences = audit->differences + tp_audit_end(audit->table, audit->report, audit->arg);
	audit->flows->audit = NULL;
	free_audit(audit);
	return differences;
}

int flows_audit_begin(struct flows *flows, void (*report)(void *arg, const char *text), void *arg,
	struct flows_audit **out)
{
	struct flows_audit *audit;

	if (flows->audit)
		return -EBUSY;
	audit = calloc(1, sizeof(*audit));
	if (!audit)
		return -ENOMEM;
	*audit = (struct flows_audit){.flows = flows, .report = report, .arg = arg};
	audit->ports = calloc(PORTS, sizeof(*audit->ports));
	audit->notes = calloc(tp_table_kept_end(flows->table), sizeof(*audit->notes));
	if (!audit->ports || !audit->notes || tp_audit_begin(flows->table, &audit->table) < 0) {
		free_audit(audit);
		return -ENOMEM;
	}
	for (size_t i = 0; i < flows->listeners_count; i++)
		expect_port(audit, &flows->listeners[i], TP_PORT_LISTENER);
	flows->audit = audit;
	*out = audit;
	return 0;
}

uint32_t flows_audit(struct flows *flows, const struct alloc_list *allocations,
	void (*report)(void *arg, const char *text), void *arg)
{
	struct flows_audit *audit;
	struct allocation *a;
	int err = flows_audit_begin(flows, report, arg, &audit);

	if (err && report)
		report(arg, "the audit could not be made");
	if (err)
		return 1;
	TAILQ_FOREACH(a, allocations, link)
		flows_audit_expect(audit, a);
	while (flows_audit_look(audit))
		continue;
	return flows_audit_end(audit);
}
