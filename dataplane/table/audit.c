/*
 * Compares the tables with what their owner believes is in them, both ways, in pieces: between two
 * of them the tables may change. Control plane's thread; does not block; memory: one byte a slot,
 * and a note for each of the first differences.
 */
#include "private.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define TEXT_SIZE     768
#define DESCRIBED_MAX 1000

struct difference {
	struct difference *next;
	char text[TEXT_SIZE];
};

enum { UNKNOWN, EXPECTED, PLACED };

struct tp_audit {
	const struct tp_table *table;
	uint8_t *slots; /* which of these each is */
	uint32_t looked_at;
	struct difference *first, **end;
	uint32_t count;
};

int tp_audit_begin(const struct tp_table *table, struct tp_audit **out)
{
	TP_AUTO_FREE struct tp_audit *audit = calloc(1, sizeof(*audit));

	if (!audit)
		return -ENOMEM;
	audit->table = table;
	audit->end = &audit->first;
	audit->slots = calloc(table->slots, 1);
	if (!audit->slots)
		return -ENOMEM;
	*out = TP_TAKE(audit);
	return 0;
}

/* Counted always; described while there are few, and memory. */
__attribute__((format(printf, 2, 3))) static void differ(
	struct tp_audit *audit, const char *format, ...)
{
	struct difference *d = NULL;
	va_list args;

	if (audit->count++ < DESCRIBED_MAX)
		d = malloc(sizeof(*d));
	if (!d)
		return;
	va_start(args, format);
	vsnprintf(d->text, sizeof(d->text), format, args);
	va_end(args);
	d->next = NULL;
	*audit->end = d;
	audit->end = &d->next;
}

struct flow_text {
	char text[288];
};

#define RELAYS_TEXT (TP_RELAYS * (TP_ADDR_TEXT + 1))

/* " 192.0.2.1:50000 [2001:db8::1]:50000": what a client's flow names. */
static void describe_relays(
	const struct tp_table *table, const struct tp_flow_spec *spec, char text[RELAYS_TEXT])
{
	char one[TP_ADDR_TEXT];
	size_t len = 0;

	text[0] = '\0';
	for (int family = 0; family < TP_RELAYS; family++) {
		const struct tp_relay_ref *relay = &spec->relays[family];
		struct tp_addr address = tp_table_local(table, relay->local);

		if (!relay->used)
			continue;
		address.port = tp_from_be16(relay->port);
		len += (size_t)snprintf(
			text + len, RELAYS_TEXT - len, " %s", tp_addr_text(&address, one));
	}
}

static struct flow_text describe(const struct tp_table *table, const struct tp_flow_spec *spec)
{
	static const char *const kinds[] = {"?", "channel", "peer", "permission", "client"};
	struct tp_addr local[2] = {
		tp_table_local(table, spec->in.local), tp_table_local(table, spec->out.local)};
	char in_remote[TP_ADDR_TEXT], in_local[TP_ADDR_TEXT];
	char out_remote[TP_ADDR_TEXT], out_local[TP_ADDR_TEXT];
	char relays[RELAYS_TEXT];
	struct flow_text out;
	const char *kind = (unsigned int)spec->kind < sizeof(kinds) / sizeof(kinds[0])
				   ? kinds[spec->kind]
				   : kinds[0];

	local[0].port = spec->in.local_port;
	local[1].port = spec->out.local_port;
	tp_addr_text(&spec->in.remote, in_remote);
	tp_addr_text(&local[0], in_local);
	if (spec->kind == TP_FLOW_CLIENT) {
		describe_relays(table, spec, relays);
		snprintf(out.text, sizeof(out.text), "%s %s -> %s relays%s", kind, in_remote,
			in_local, relays);
		return out;
	}
	tp_addr_text(&spec->out.remote, out_remote);
	tp_addr_text(&local[1], out_local);
	snprintf(out.text, sizeof(out.text), "%s %s -> %s channel %#x to %s -> %s channel %#x%s",
		kind, in_remote, in_local, spec->in.channel, out_local, out_remote,
		spec->out.channel, spec->hairpin ? " (hairpin)" : "");
	return out;
}

static struct flow_text describe_record(const struct tp_table *table, uint32_t slot)
{
	struct tp_record record = tp_record_at(table, slot);
	struct tp_flow_spec spec;

	tp_record_decode(&record, &spec);
	return describe(table, &spec);
}

/* Counters aside. */
static const char *first_difference(const struct tp_record *a, const struct tp_record *b)
{
	const struct tp_flow *x = &a->flow, *y = &b->flow;

	if (!tp_key_equal(&x->key, &y->key))
		return "key";
	if (memcmp(&x->value, &y->value, sizeof(x->value)) != 0)
		return "rewrite";
	if (x->expires != y->expires)
		return "expiry";
	if (a->detail.granted != b->detail.granted)
		return "end of the grant";
	if (x->next_hop != y->next_hop)
		return "next hop";
	if (a->detail.policer != b->detail.policer)
		return "policer";
	if (a->detail.allocation != b->detail.allocation)
		return "allocation";
	if (x->sum_delta != y->sum_delta)
		return x->key.kind == TP_FLOW_PERMISSION ? "next hop to the peer"
							 : "checksum constant";
	return x->label != y->label ? "flow label" : NULL;
}

void tp_audit_expect(struct tp_audit *audit, uint32_t slot, const struct tp_flow_spec *spec)
{
	const struct tp_table *table = audit->table;
	struct tp_record want, found;
	const char *what;

	if (slot >= table->slots || tp_record_encode(table, spec, &want) != 0) {
		differ(audit, "slot %u: %s cannot be there", slot, describe(table, spec).text);
		return;
	}
	if (audit->slots[slot] == EXPECTED) {
		differ(audit, "slot %u: expected twice, now as %s", slot,
			describe(table, spec).text);
		return;
	}
	audit->slots[slot] = EXPECTED;
	found = tp_record_at(table, slot);
	if (found.flow.key.ident == 0) {
		differ(audit, "slot %u: missing: %s", slot, describe(table, spec).text);
		return;
	}
	what = first_difference(&want, &found);
	if (what)
		differ(audit, "slot %u: other %s than expected of %s; there is %s", slot, what,
			describe(table, spec).text, describe_record(table, slot).text);
}

void tp_audit_placed(struct tp_audit *audit, uint32_t slot)
{
	audit->slots[slot] = PLACED;
}

/* What readers go by: the tag leads to the record, and to one record only. */
static void check_tag(struct tp_audit *audit, uint32_t slot)
{
	const struct tp_table *table = audit->table;
	const struct tp_flow *record = &table->flows[slot];
	uint8_t tag = *tp_table_tag(table, slot);
	uint32_t bucket = slot / TP_BUCKET_SLOTS, twin;
	struct tp_place place;

	if (record->key.ident == 0) {
		if (tag != 0)
			differ(audit, "slot %u: tag %#x leads to no record", slot, tag);
		return;
	}
	place = tp_table_place(table, &record->key);
	if (tag != place.tag)
		differ(audit, "slot %u: tag %#x instead of %#x hides %s", slot, tag, place.tag,
			describe_record(table, slot).text);
	if (bucket != place.bucket[0] && bucket != place.bucket[1])
		differ(audit, "slot %u: no reader looks here for %s", slot,
			describe_record(table, slot).text);
	twin = tp_table_find(table, &record->key, &place, slot);
	if (twin != NO_SLOT && twin > slot)
		differ(audit, "slots %u and %u: both hold %s", slot, twin,
			describe_record(table, slot).text);
}

static void free_audit(struct tp_audit *audit)
{
	for (struct difference *d = audit->first, *next; d; d = next) {
		next = d->next;
		free(d);
	}
	free(audit->slots);
	free(audit);
}

bool tp_audit_look(struct tp_audit *audit, uint32_t slots)
{
	const struct tp_table *table = audit->table;
	uint32_t left = table->slots - audit->looked_at;
	uint32_t end = audit->looked_at + (slots < left ? slots : left);

	for (uint32_t slot = audit->looked_at; slot < end; slot++) {
		check_tag(audit, slot);
		if (table->flows[slot].key.ident != 0 && audit->slots[slot] == UNKNOWN)
			differ(audit, "slot %u: not expected: %s", slot,
				describe_record(table, slot).text);
	}
	audit->looked_at = end;
	return end < table->slots;
}

uint32_t tp_audit_end(
	struct tp_audit *audit, void (*report)(void *arg, const char *text), void *arg)
{
	uint32_t count;

	for (struct difference *d = audit->first; d && report; d = d->next)
		report(arg, d->text);
	count = audit->count;
	free_audit(audit);
	return count;
}
