/* The invariant: alloc/ and the shared table say the same. One thread; reads only. */
#include "flows.h"

#include "base/cleanup.h"
#include "record.h"
#include "spec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct check {
	const struct flows *flows;
	struct tp_audit *audit;
	uint8_t (*ports)[65536]; /* what they should be: [TP_LOCALS_MAX] */
	uint32_t missing;
	uint32_t notes;
	uint32_t differences;
	void (*report)(void *arg, const char *text);
	void *arg;
};

__attribute__((format(printf, 2, 3))) static void differ(
	struct check *check, const char *format, ...)
{
	char text[256];
	va_list args;

	check->differences++;
	if (!check->report)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	check->report(check->arg, text);
}

static void expect_port(struct check *check, const struct tp_addr *address, uint8_t state)
{
	char text[TP_ADDR_TEXT];
	uint8_t local;

	if (tp_table_find_local(check->flows->table, address, &local) < 0)
		differ(check, "%s is not among the local addresses", tp_addr_text(address, text));
	else
		check->ports[local][address->port] = state;
}

static void expect_record(struct check *check, const struct record *record,
	struct tp_flow_spec *spec, const struct alloc_relay *relay)
{
	if (record->is_missing) {
		check->missing++;
		if (relay)
			expect_port(check, &relay->address, TP_PORT_SLOW);
		return;
	}
	record_complete(record, spec);
	if (record->slot == RECORD_NO_SLOT)
		differ(check, "allocation %u: a flow is neither placed nor missing",
			spec->allocation);
	else
		tp_audit_expect(check->audit, record->slot, spec);
}

static void expect_permission(struct check *check, const struct alloc_permission *permission)
{
	const struct permission_flows *f = flows_of_permission(permission);
	struct tp_flow_spec spec;

	spec_of_permission(check->flows->table, permission, &spec);
	if (f)
		expect_record(check, &f->record, &spec, permission->relay);
	else
		differ(check, "allocation %u: a permission without flow", spec.allocation);
}

static void expect_channel(struct check *check, const struct alloc_channel *channel)
{
	const struct channel_flows *f = flows_of_channel(channel);
	const struct tp_table *table = check->flows->table;
	struct tp_flow_spec to_peer, to_client;

	spec_to_peer(table, channel, &to_peer);
	/* Not from our own index: that may be what is wrong. */
	spec_to_client(table, channel, alloc_find_permission(channel->relay, &channel->peer, 0),
		&to_client);
	if (!f) {
		differ(check, "allocation %u: channel 0x%x without flows", to_peer.allocation,
			channel->number);
		return;
	}
	expect_record(check, &f->to_peer, &to_peer, channel->relay);
	expect_record(check, &f->to_client, &to_client, channel->relay);
}

static void expect_relay(struct check *check, const struct alloc_relay *relay)
{
	struct alloc_permission *p;
	struct alloc_channel *c;

	expect_port(check, &relay->address, TP_PORT_RELAY);
	for (p = alloc_next_permission(relay, NULL); p; p = alloc_next_permission(relay, p))
		expect_permission(check, p);
	for (c = alloc_next_channel(relay, NULL); c; c = alloc_next_channel(relay, c))
		expect_channel(check, c);
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

static void expect_note(struct check *check, const struct allocation *allocation)
{
	const struct client_flows *f = flows_of_client(allocation);
	struct tp_kept_allocation want, is = {0};

	if (!f || !f->number)
		return;
	check->notes++;
	spec_to_keep(allocation, &want);
	/* Of a restored allocation's name there may be less or, once it was proved, more. */
	if (tp_table_kept(check->flows->table, f->number, &is) < 0 || is.id != want.id ||
		is.transport != want.transport || is.quota != want.quota ||
		!tp_addr_equal(&is.client, &want.client) ||
		!tp_addr_equal(&is.server, &want.server) ||
		memcmp(is.owner, want.owner, sizeof(is.owner)) != 0 || !has_same_relays(&is, &want))
		differ(check, "allocation %u: its note (%u) says something else", allocation->id,
			f->number);
}

static void count_notes(struct check *check)
{
	const struct tp_table *table = check->flows->table;
	struct tp_kept_allocation note;
	uint32_t there = 0;

	for (uint32_t i = 1; i < tp_table_kept_end(table); i++)
		there += tp_table_kept(table, i, &note) != -ENOENT;
	if (there != check->notes)
		differ(check, "the table has notes of %u allocations, not %u", there, check->notes);
}

static void expect_client(struct check *check, const struct allocation *allocation)
{
	const struct client_flows *f = flows_of_client(allocation);
	struct tp_flow_spec spec;

	spec_of_client(check->flows->table, allocation, &spec);
	if (f)
		expect_record(check, &f->record, &spec, NULL);
	else
		differ(check, "allocation %u: no flow for its client", spec.allocation);
}

static void expect_everything(struct check *check, const struct alloc_list *allocations)
{
	struct allocation *a;
	for (size_t i = 0; i < check->flows->listeners_count; i++)
		expect_port(check, &check->flows->listeners[i], TP_PORT_LISTENER);
	TAILQ_FOREACH(a, allocations, link) {
		expect_client(check, a);
		expect_note(check, a);
		for (size_t i = 0; i < ALLOC_RELAYS; i++)
			if (a->relays[i])
				expect_relay(check, a->relays[i]);
	}
}

static void compare_ports(struct check *check)
{
	const struct tp_table *table = check->flows->table;

	for (unsigned local = 0; local < TP_LOCALS_MAX; local++) {
		for (unsigned port = 0; port <= UINT16_MAX; port++) {
			unsigned is = tp_table_port(table, (uint8_t)local, (uint16_t)port);
			unsigned should = check->ports[local][port];

			if (is != should)
				differ(check, "port %u of local address %u: state %u, not %u", port,
					local, is, should);
		}
	}
}

uint32_t flows_audit(const struct flows *flows, const struct alloc_list *allocations,
	void (*report)(void *arg, const char *text), void *arg)
{
	TP_AUTO_FREE uint8_t(*ports)[65536] = calloc(TP_LOCALS_MAX, sizeof(*ports));
	struct check check = {.flows = flows, .ports = ports, .report = report, .arg = arg};
	int err = ports ? tp_audit_begin(flows->table, &check.audit) : -ENOMEM;
	uint32_t unplaced = tp_table_unplaced(flows->table);

	if (err) {
		differ(&check, "the audit could not be made: %s", strerror(-err));
		return check.differences;
	}
	expect_everything(&check, allocations);
	compare_ports(&check);
	count_notes(&check);
	if (unplaced != check.missing)
		differ(&check, "the table counts %u flows without slot, %u are", unplaced,
			check.missing);
	return check.differences + tp_audit_end(check.audit, report, arg);
}
