/* Answers as aligned text. What a server does not send is printed as "-". */
#include "print.h"

#include <stdio.h>
#include <time.h>

static const json_t *at(const json_t *doc, const char *key)
{
	return json_object_get(doc, key);
}

static void finish(struct text_table *table)
{
	if (!text_end(table))
		fputs("out of memory\n", stderr);
}

/* Lines "key  value" for plain members. */
static void put_members(struct text_table *table, const json_t *doc, const char *const *keys)
{
	for (; *keys; keys++) {
		text_cell(table, "%s", *keys);
		text_json(table, at(doc, *keys));
	}
}

static void put_amount(
	struct text_table *table, const json_t *doc, const char *key, const char *limit_key)
{
	long long used = json_integer_value(at(doc, key));
	long long limit = json_integer_value(at(doc, limit_key));

	text_cell(table, "%s", key);
	text_cell(table, "%lld of %lld, %lld spare", used, limit, limit - used);
}

static void put_interfaces(struct text_table *table, const json_t *interfaces)
{
	const json_t *interface;
	size_t i;

	json_array_foreach(interfaces, i, interface) {
		const char *name = json_string_value(at(interface, "name"));
		const char *mode = json_string_value(at(interface, "mode"));

		text_cell(table, "%s", i ? "" : "interfaces");
		text_cell(table, "%s (%s%s)", name ? name : "-", mode ? mode : "-",
			json_is_false(at(interface, "attached")) ? ", detached" : "");
	}
}

static void put_relay_sockets(struct text_table *table, const json_t *sockets)
{
	const char *kind = json_string_value(at(sockets, "kind"));
	const char *reason = json_string_value(at(sockets, "reason"));

	text_cell(table, "relay_sockets");
	text_cell(table, "%s (%s)", kind ? kind : "-", reason ? reason : "-");
}

void print_status(const json_t *doc)
{
	static const char *const first[] = {"version", "engine", "engine_reason", NULL};
	static const char *const then[] = {"workers", "memory", "draining", NULL};
	const json_t *warning;
	struct text_table table;
	size_t i;

	text_begin(&table, NULL);
	put_members(&table, doc, first);
	put_interfaces(&table, at(doc, "interfaces"));
	put_relay_sockets(&table, at(doc, "relay_sockets"));
	put_members(&table, doc, then);
	text_cell(&table, "uptime");
	text_seconds(&table, at(doc, "uptime_s"));
	put_amount(&table, doc, "allocations", "allocations_limit");
	put_amount(&table, doc, "flows", "flows_limit");
	json_array_foreach(at(doc, "warnings"), i, warning) {
		text_cell(&table, "%s", i ? "" : "warnings");
		text_json(&table, warning);
	}
	finish(&table);
}

static void put_traffic(struct text_table *table, const char *name, const json_t *traffic)
{
	text_cell(table, "%s", name);
	text_traffic(table, traffic);
}

/* A direction and, below it, the pairs of families that occurred. */
static void put_direction(struct text_table *table, const char *name, const json_t *direction)
{
	static const char *const pairs[][2] = {
		{"v4_to_v4", "IPv4 to IPv4"},
		{"v6_to_v6", "IPv6 to IPv6"},
		{"v4_to_v6", "IPv4 to IPv6"},
		{"v6_to_v4", "IPv6 to IPv4"},
	};

	put_traffic(table, name, direction);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		const json_t *pair = at(at(direction, "pairs"), pairs[i][0]);

		if (json_integer_value(at(pair, "packets")) == 0)
			continue;
		text_cell(table, "  %s", pairs[i][1]);
		text_traffic(table, pair);
	}
}

static void print_directions(const json_t *doc)
{
	static const char *const titles[] = {"traffic", "packets", "bytes", NULL};
	const json_t *directions = at(doc, "directions");
	struct text_table table;

	text_begin(&table, titles);
	put_direction(&table, "client to peer", at(directions, "client_to_peer"));
	put_direction(&table, "peer to client", at(directions, "peer_to_client"));
	text_cell(&table, "of both, relay to relay");
	text_json(&table, at(doc, "hairpins"));
	text_cell(&table, "-");
	text_cell(&table, "of both, sent by the kernel");
	text_json(&table, at(doc, "outputs"));
	text_cell(&table, "-");
	put_traffic(&table, "slow path", at(doc, "slow_path"));
	text_cell(&table, "  sent behind another one, in one message");
	text_json(&table, at(at(doc, "slow_path"), "joined"));
	text_cell(&table, "-");
	text_cell(&table, "  above the bandwidth limit");
	text_json(&table, at(at(doc, "slow_path"), "policed"));
	text_cell(&table, "-");
	text_cell(&table, "  dropped, since a receive buffer was full");
	text_json(&table, at(at(doc, "slow_path"), "overflowed"));
	text_cell(&table, "-");
	finish(&table);
}

static long long packets_of(const json_t *worker, const char *direction)
{
	return json_integer_value(at(at(at(worker, "directions"), direction), "packets"));
}

static void put_worker(struct text_table *table, const json_t *worker)
{
	const json_t *busy = at(worker, "busy_ratio");

	text_json(table, at(worker, "worker"));
	text_cell(table, "%lld", packets_of(worker, "client_to_peer"));
	text_cell(table, "%lld", packets_of(worker, "peer_to_client"));
	text_json(table, at(worker, "bursts"));
	text_json(table, at(worker, "polls"));
	if (json_is_number(busy))
		text_cell(table, "%.1f %%", 100 * json_number_value(busy));
	else
		text_cell(table, "-");
}

static void print_workers(const json_t *doc)
{
	static const char *const titles[] = {
		"worker", "client to peer", "peer to client", "bursts", "polls", "busy", NULL};
	const json_t *worker;
	struct text_table table;
	size_t i;

	text_begin(&table, titles);
	json_array_foreach(at(doc, "workers"), i, worker) {
		put_worker(&table, worker);
	}
	finish(&table);
}

static void print_verdicts(const json_t *doc)
{
	static const char *const titles[] = {"verdict", "packets", NULL};
	struct text_table table;
	const char *name;
	json_t *count;

	text_begin(&table, titles);
	json_object_foreach((json_t *)at(doc, "verdicts"), name, count) {
		text_cell(&table, "%s", name);
		text_json(&table, count);
	}
	finish(&table);
}

static void print_requests(const json_t *doc)
{
	static const char *const titles[] = {"request", "answer", "count", NULL};
	const char *method, *code;
	struct text_table table;
	json_t *codes, *count;

	text_begin(&table, titles);
	json_object_foreach((json_t *)at(doc, "requests"), method, codes) {
		json_object_foreach(codes, code, count) {
			text_cell(&table, "%s", method);
			text_cell(&table, "%s", code);
			text_json(&table, count);
		}
	}
	finish(&table);
}

void print_stats(const json_t *doc)
{
	print_directions(doc);
	putchar('\n');
	print_workers(doc);
	putchar('\n');
	print_verdicts(doc);
	putchar('\n');
	print_requests(doc);
}

void print_allocations(const json_t *doc)
{
	static const char *const titles[] = {"ID", "USER", "CLIENT", "RELAY", "LIFETIME", "PERMS",
		"CHANNELS", "SENT", "RECEIVED", NULL};
	struct text_table table;
	const json_t *a;
	size_t i;

	text_begin(&table, titles);
	json_array_foreach(at(doc, "allocations"), i, a) {
		text_json(&table, at(a, "id"));
		text_json(&table, at(a, "user"));
		text_json(&table, at(a, "client"));
		text_json(&table, at(a, "relay"));
		text_seconds(&table, at(a, "lifetime_s"));
		text_cell(&table, "%zu", json_array_size(at(a, "permissions")));
		text_cell(&table, "%zu", json_array_size(at(a, "channels")));
		text_json(&table, at(at(a, "sent"), "packets"));
		text_json(&table, at(at(a, "received"), "packets"));
	}
	finish(&table);
}

static void print_permissions(const json_t *list)
{
	static const char *const titles[] = {"PERMISSION", "EXPIRES", NULL};
	struct text_table table;
	const json_t *entry;
	size_t i;

	text_begin(&table, titles);
	json_array_foreach(list, i, entry) {
		text_json(&table, at(entry, "peer"));
		text_seconds(&table, at(entry, "expires_s"));
	}
	finish(&table);
}

static void print_channels(const json_t *list)
{
	static const char *const titles[] = {"CHANNEL", "PEER", "EXPIRES", NULL};
	struct text_table table;
	const json_t *entry;
	size_t i;

	text_begin(&table, titles);
	json_array_foreach(list, i, entry) {
		text_cell(&table, "0x%04llx",
			(unsigned long long)json_integer_value(at(entry, "number")));
		text_json(&table, at(entry, "peer"));
		text_seconds(&table, at(entry, "expires_s"));
	}
	finish(&table);
}

void print_allocation(const json_t *doc)
{
	static const char *const members[] = {"id", "user", "transport", "client", "relay", NULL};
	static const char *const ways[] = {"sent", "received", NULL};
	struct text_table table;

	text_begin(&table, NULL);
	put_members(&table, doc, members);
	if (at(doc, "relay_additional")) {
		text_cell(&table, "relay_additional");
		text_json(&table, at(doc, "relay_additional"));
	}
	text_cell(&table, "lifetime");
	text_seconds(&table, at(doc, "lifetime_s"));
	for (size_t i = 0; ways[i]; i++) {
		const json_t *traffic = at(doc, ways[i]);

		text_cell(&table, "%s", ways[i]);
		text_cell(&table, "%lld packets, %lld bytes",
			(long long)json_integer_value(at(traffic, "packets")),
			(long long)json_integer_value(at(traffic, "bytes")));
	}
	finish(&table);
	putchar('\n');
	print_permissions(at(doc, "permissions"));
	putchar('\n');
	print_channels(at(doc, "channels"));
}

void print_deleted(const json_t *doc)
{
	printf("allocation %lld deleted\n", (long long)json_integer_value(at(doc, "deleted")));
}

static void put_side(struct text_table *table, const json_t *side)
{
	static const char *const keys[] = {"remote", "local", NULL};
	long long channel = json_integer_value(at(side, "channel"));

	for (size_t i = 0; keys[i]; i++)
		text_json(table, at(side, keys[i]));
	if (channel)
		text_cell(table, "0x%04llx", (unsigned long long)channel);
	else
		text_cell(table, "-");
}

static void put_relays(struct text_table *table, const json_t *relays)
{
	const char *first = json_string_value(json_array_get(relays, 0));
	const char *second = json_string_value(json_array_get(relays, 1));

	text_cell(table, "%s%s%s", first ? first : "-", second ? ", " : "", second ? second : "");
}

void print_flows(const json_t *doc)
{
	static const char *const titles[] = {"SLOT", "KIND", "FROM", "AT", "CHANNEL", "TO", "BY",
		"CHANNEL", "EXPIRES", "ALLOCATION", "HOP", "PEER HOP", "HAIRPIN", "POLICER",
		"PACKETS", "BYTES", "RELAYS", NULL};
	struct text_table table;
	const json_t *flow;
	size_t i;

	text_begin(&table, titles);
	json_array_foreach(at(doc, "flows"), i, flow) {
		text_json(&table, at(flow, "slot"));
		text_json(&table, at(flow, "kind"));
		put_side(&table, at(flow, "in"));
		put_side(&table, at(flow, "out"));
		text_seconds(&table, at(flow, "expires_s"));
		text_json(&table, at(flow, "allocation"));
		text_json(&table, at(flow, "next_hop"));
		text_json(&table, at(flow, "peer_hop"));
		text_json(&table, at(flow, "hairpin"));
		text_json(&table, at(flow, "policer"));
		text_traffic(&table, flow);
		put_relays(&table, at(flow, "relays"));
	}
	finish(&table);
}

void print_audit(const json_t *doc)
{
	const json_t *detail;
	size_t i;

	printf("differences: %lld\n", (long long)json_integer_value(at(doc, "differences")));
	json_array_foreach(at(doc, "details"), i, detail) {
		text_line(json_is_string(detail) ? json_string_value(detail) : "-");
	}
}

void print_explanation(const json_t *doc)
{
	static const char *const members[] = {"address", "allowed", "rule", NULL};
	struct text_table table;

	text_begin(&table, NULL);
	put_members(&table, doc, members);
	finish(&table);
	if (json_is_true(at(doc, "relays_only")))
		puts("only ports of live relays are reachable there");
}

void print_credentials(const json_t *doc)
{
	static const char *const members[] = {"username", "password", NULL};
	time_t expires = (time_t)json_integer_value(at(doc, "expires_at"));
	struct text_table table;
	struct tm utc;
	char text[64] = "-";

	if (gmtime_r(&expires, &utc))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &utc);
	text_begin(&table, NULL);
	put_members(&table, doc, members);
	text_cell(&table, "expires");
	text_cell(&table, "%s", text);
	finish(&table);
}
