/*
 * From the text of the file to the settings of every module: defaults, units, ranges, and what
 * contradicts itself. Main thread, at start and on reload; blocks on files only.
 */
#include "loader.h"

#include "value.h"

#include "base/clock.h"
#include "controlplane/policy/policy.h"
#include "dataplane/link/link.h"

#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define COUNT(a)   (sizeof(a) / sizeof((a)[0]))
#define SECONDS(n) ((n)*TP_NS_PER_S)
#define DAY        SECONDS(86400)

int loader_fail_in(
	struct loader *l, const struct document *doc, const char *key, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	document_describe(doc, key, l->error, format, args);
	va_end(args);
	return -EINVAL;
}

int loader_fail(struct loader *l, const char *key, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	document_describe(&l->source->doc, key, l->error, format, args);
	va_end(args);
	return -EINVAL;
}

int loader_out_of_memory(struct loader *l)
{
	loader_fail(l, "yaml", "%s", strerror(ENOMEM));
	return -ENOMEM;
}

int loader_warn(struct loader *l, const char *key, const char *format, ...)
{
	struct config_warning *warning = calloc(1, sizeof(*warning)), **end = &l->config->warnings;
	va_list args;

	if (!warning)
		return loader_out_of_memory(l);
	va_start(args, format);
	document_describe(&l->source->doc, key, warning->text, format, args);
	va_end(args);
	while (*end)
		end = &(*end)->next;
	*end = warning;
	return 0;
}

/* Its own complaints have no use: document_open() has said all that can be wrong. */
static const cyaml_config_t cyaml = {.log_level = CYAML_LOG_ERROR, .mem_fn = cyaml_mem};

int loader_parse(struct loader *l, const struct document *doc, const cyaml_schema_value_t *schema,
	void *out, unsigned *out_count)
{
	cyaml_err_t err = cyaml_load_data((const uint8_t *)doc->text.bytes, doc->text.len, &cyaml,
		schema, (cyaml_data_t **)out, out_count);

	if (err == CYAML_OK)
		return 0;
	loader_fail_in(l, doc, "yaml", "cannot be loaded: %s", cyaml_strerror(err));
	return err == CYAML_ERR_OOM ? -ENOMEM : -EINVAL;
}

void loader_forget(const cyaml_schema_value_t *schema, void *data, unsigned count)
{
	cyaml_free(&cyaml, schema, data, count);
}

/* Numbers that go from a key to a setting as they are. */
struct number_rule {
	const char *key;
	size_t from; /* in struct raw_config: text or NULL */
	size_t to;   /* in struct config */
	size_t size; /* of the setting: 4 or 8 bytes */
	const struct value_kind *kind;
	uint64_t min, max, fallback;
	uint64_t safe_min, safe_max; /* outside: a warning; 0 = no such limit */
};

#define NUMBER(name, member, ...)                                                                  \
	{                                                                                          \
		.key = #name, .from = offsetof(struct raw_config, name),                           \
		.to = offsetof(struct config, member),                                             \
		.size = sizeof(((struct config *)NULL)->member), __VA_ARGS__                       \
	}
#define PLAIN(low, high, normal)                                                                   \
	.kind = &value_count, .min = (low), .max = (high), .fallback = (normal)
#define LIFETIME(normal, safe_low, safe_high)                                                      \
	.kind = &value_duration, .min = SECONDS(1), .max = DAY, .fallback = SECONDS(normal),       \
	.safe_min = SECONDS(safe_low), .safe_max = SECONDS(safe_high)

/* clang-format off */
static const struct number_rule numbers[] = {
	NUMBER(limits.allocations, turn.allocations_max, PLAIN(1, 10000000, 100000)),
	NUMBER(limits.allocations_per_user, turn.allocations_per_user, PLAIN(1, 10000000, 10)),
	NUMBER(limits.permissions_per_allocation, turn.permissions_per_allocation,
		PLAIN(1, 65535, 256)),
	NUMBER(limits.channels_per_allocation, turn.channels_per_allocation, PLAIN(1, 4096, 64)),
	NUMBER(limits.unauthenticated_replies_per_source, turn.unauthenticated_replies_per_source,
		.kind = &value_per_second, .min = 1, .max = 1000000, .fallback = 500),
	NUMBER(limits.bandwidth_per_allocation, bandwidth_per_allocation, .kind = &value_bandwidth,
		.min = TP_BANDWIDTH_MIN, .max = TP_BANDWIDTH_MAX),
	/* RFC 8656: 7.2 (at least 10 min, at most 1 h recommended), 9 (5 min), 12 (10 min) */
	NUMBER(limits.lifetime_default, turn.lifetime_default_ns, LIFETIME(600, 600, 0)),
	NUMBER(limits.lifetime_max, turn.lifetime_max_ns, LIFETIME(3600, 600, 0)),
	NUMBER(limits.permission_lifetime, turn.permission_lifetime_ns, LIFETIME(300, 300, 300)),
	NUMBER(limits.channel_lifetime, turn.channel_lifetime_ns, LIFETIME(600, 600, 600)),
	/* RFC 8656, 5: a nonce expires at least once an hour */
	NUMBER(auth.nonce_lifetime, auth.nonce_lifetime_ns, LIFETIME(600, 60, 3600)),
	NUMBER(dataplane.flows, engine_options.flows, PLAIN(1, 1 << 26, 1048576)),
	NUMBER(dataplane.workers, engine_options.workers, PLAIN(1, TP_WORKERS_MAX, 1)),
	NUMBER(dataplane.idle_sleep, engine_options.idle_sleep_us, .kind = &value_pause, .max = 1000000),
};
/* clang-format on */

static int warn_unsafe(struct loader *l, const struct number_rule *rule, uint64_t value)
{
	const char *side = value < rule->safe_min ? "below" : "above";
	uint64_t bound = value < rule->safe_min ? rule->safe_min : rule->safe_max;

	if (value >= rule->safe_min && (!rule->safe_max || value <= rule->safe_max))
		return 0;
	return loader_warn(l, rule->key, "%llu s is %s the %llu s of the RFC: for tests only",
		(unsigned long long)(value / TP_NS_PER_S), side,
		(unsigned long long)(bound / TP_NS_PER_S));
}

static int load_number(struct loader *l, const struct number_rule *rule)
{
	const char *text = *(char *const *)((const char *)l->raw + rule->from);
	void *to = (char *)l->config + rule->to;
	char error[VALUE_ERROR_SIZE];
	uint64_t value = rule->fallback;

	if (text && value_parse(rule->kind, text, rule->min, rule->max, &value, error) < 0)
		return loader_fail(l, rule->key, "%s", error);
	if (rule->size == sizeof(uint32_t))
		*(uint32_t *)to = (uint32_t)value;
	else
		*(uint64_t *)to = value;
	return warn_unsafe(l, rule, value);
}

static int load_numbers(struct loader *l)
{
	const struct turn_settings *turn = &l->config->turn;

	for (size_t i = 0; i < COUNT(numbers); i++) {
		int err = load_number(l, &numbers[i]);

		if (err < 0)
			return err;
	}
	if (turn->lifetime_default_ns > turn->lifetime_max_ns)
		return loader_fail(l,
			l->raw->limits.lifetime_default ? "limits.lifetime_default"
							: "limits.lifetime_max",
			"lifetime_default is longer than lifetime_max, expected at most %llu s",
			(unsigned long long)(turn->lifetime_max_ns / TP_NS_PER_S));
	return 0;
}

int loader_choose(struct loader *l, const char *key, const char *text, const char *const *words,
	size_t ready, int *out)
{
	const char *one_of = ready > 1 ? "one of " : "";
	char list[128] = "";
	size_t len = 0;

	for (size_t i = 0; text && words[i]; i++) {
		if (strcmp(text, words[i]) == 0 && i >= ready)
			return loader_fail(l, key, "%s is not implemented yet, expected %s%s", text,
				one_of, list);
		if (strcmp(text, words[i]) == 0) {
			*out = (int)i;
			return 0;
		}
		if (i < ready)
			len += (size_t)snprintf(
				list + len, sizeof(list) - len, "%s%s", i ? ", " : "", words[i]);
	}
	return text ? loader_fail(l, key, "\"%.40s\" is unknown, expected %s%s", text, one_of, list)
		    : 0;
}

int loader_address(struct loader *l, const char *key, const char *text, struct tp_addr *out)
{
	static const uint8_t any[16];

	if (tp_addr_parse_ip(text, out) < 0)
		return loader_fail(l, key,
			"\"%.60s\" is no address, expected one like 192.0.2.1 or 2001:db8::1",
			text);
	if (memcmp(tp_addr_bytes(out), any, tp_addr_bytes_len(out)) == 0)
		return loader_fail(l, key,
			"%s stands for every address, expected one entry for each address", text);
	if (out->family == TP_IPV4 ? (*tp_addr_bytes(out) >= 224) : (out->ip[0] == 0xff))
		return loader_fail(
			l, key, "%s is a multicast or broadcast address, expected a host's", text);
	if (out->family == TP_IPV6 && strncasecmp(text, "::ffff:", 7) == 0)
		return loader_fail(l, key, "%.60s is an IPv4 address in disguise, expected %s",
			text, text + 7);
	return 0;
}

static int load_listener(struct loader *l, size_t index)
{
	static const char *const transports[] = {"udp", "tcp", "tls", "dtls", NULL};
	const struct raw_listener *raw = &l->raw->listen[index];
	struct config_listener *listener = &l->config->listeners[index];
	char key[DOCUMENT_KEY_SIZE], error[VALUE_ERROR_SIZE];
	uint64_t port = 0;
	int transport = CONFIG_UDP, err;

	snprintf(key, sizeof(key), "listen[%zu]", index);
	if (!raw->transport || !raw->address || !raw->port)
		return loader_fail(l, key, "has no %s, expected transport, address and port",
			!raw->transport ? "transport"
			: !raw->address ? "address"
					: "port");
	snprintf(key, sizeof(key), "listen[%zu].transport", index);
	err = loader_choose(l, key, raw->transport, transports, 1, &transport);
	if (err < 0)
		return err;
	snprintf(key, sizeof(key), "listen[%zu].port", index);
	if (value_parse(&value_count, raw->port, 1, 65535, &port, error) < 0)
		return loader_fail(l, key, "%s", error);
	snprintf(key, sizeof(key), "listen[%zu].address", index);
	err = loader_address(l, key, raw->address, &listener->address);
	if (err < 0)
		return err;
	listener->transport = (enum config_transport)transport;
	listener->address.port = (uint16_t)port;
	for (size_t i = 0; i < index; i++) {
		if (tp_addr_equal(&l->config->listeners[i].address, &listener->address))
			return loader_fail(l, key, "the same as listen[%zu], remove one", i);
	}
	return 0;
}

static int load_listeners(struct loader *l)
{
	if (!l->raw->listen_count)
		return loader_fail(
			l, "listen", "is missing, expected at least one transport address");
	l->config->listeners = calloc(l->raw->listen_count, sizeof(*l->config->listeners));
	if (!l->config->listeners)
		return loader_out_of_memory(l);
	l->config->listeners_count = l->raw->listen_count;
	for (size_t i = 0; i < l->raw->listen_count; i++) {
		int err = load_listener(l, i);

		if (err < 0)
			return err;
	}
	return 0;
}

static int load_relay(struct loader *l, struct turn_relay_address *relays, size_t index)
{
	const struct raw_relay_address *raw = &l->raw->relay.addresses[index];
	struct turn_relay_address *relay = &relays[index];
	char key[DOCUMENT_KEY_SIZE];
	int err;

	snprintf(key, sizeof(key), "relay.addresses[%zu]", index);
	if (!raw->address)
		return loader_fail(l, key, "has no address, expected address: 192.0.2.1");
	snprintf(key, sizeof(key), "relay.addresses[%zu].address", index);
	err = loader_address(l, key, raw->address, &relay->address);
	if (err < 0)
		return err;
	for (size_t i = 0; i < index; i++) {
		if (tp_addr_equal_ip(&relays[i].address, &relay->address))
			return loader_fail(
				l, key, "the same as relay.addresses[%zu], remove one", i);
	}
	if (!raw->external)
		return 0;
	snprintf(key, sizeof(key), "relay.addresses[%zu].external", index);
	err = loader_address(l, key, raw->external, &relay->external);
	if (err == 0 && relay->external.family != relay->address.family)
		return loader_fail(
			l, key, "is of another family than %s, expected the same", raw->address);
	for (size_t i = 0; err == 0 && i < index; i++) {
		if (tp_addr_equal_ip(&relays[i].external, &relay->external))
			err = loader_fail(
				l, key, "the same as that of relay.addresses[%zu], remove one", i);
	}
	return err;
}

static int load_ports(struct loader *l)
{
	const char *text = l->raw->relay.ports ? l->raw->relay.ports : "49152-65535";
	const char *dash = strchr(text, '-');
	struct turn_settings *turn = &l->config->turn;
	char first[8] = "", error[VALUE_ERROR_SIZE];
	uint64_t min, max;

	if (!dash || (size_t)(dash - text) >= sizeof(first))
		return loader_fail(l, "relay.ports",
			"\"%.40s\" is no range of ports, expected one like 49152-65535", text);
	memcpy(first, text, (size_t)(dash - text));
	if (value_parse(&value_count, first, 1024, 65535, &min, error) < 0 ||
		value_parse(&value_count, dash + 1, 1024, 65535, &max, error) < 0)
		return loader_fail(l, "relay.ports", "%s, as in 49152-65535", error);
	if (min > max)
		return loader_fail(l, "relay.ports",
			"begins behind its end, expected the lower port first, as in 49152-65535");
	turn->port_min = (uint16_t)min;
	turn->port_max = (uint16_t)max;
	return 0;
}

/* A listener's port in the range works, but is one that no allocation can have. */
static int warn_overlap(struct loader *l)
{
	const struct turn_settings *turn = &l->config->turn;

	for (size_t i = 0; i < l->config->listeners_count; i++) {
		uint16_t port = l->config->listeners[i].address.port;
		char key[DOCUMENT_KEY_SIZE];
		int err;

		if (port < turn->port_min || port > turn->port_max)
			continue;
		snprintf(key, sizeof(key), "listen[%zu].port", i);
		err = loader_warn(
			l, key, "%u lies within relay.ports, better take one outside", port);
		if (err < 0)
			return err;
	}
	return 0;
}

/* Addresses that listen, hand out, or both: the shared table has so many places. */
static int check_own_addresses(struct loader *l)
{
	const struct config *config = l->config;
	size_t own = config->turn.relays_count;

	for (size_t i = 0; i < config->listeners_count; i++) {
		const struct tp_addr *address = &config->listeners[i].address;
		bool known = false;

		for (size_t j = 0; j < i && !known; j++)
			known = tp_addr_equal_ip(&config->listeners[j].address, address);
		for (size_t j = 0; j < config->turn.relays_count && !known; j++)
			known = tp_addr_equal_ip(&config->turn.relays[j].address, address);
		own += !known;
	}
	if (own <= TP_LOCALS_MAX)
		return 0;
	return loader_fail(l, "relay.addresses",
		"with those of listen these are %zu addresses, expected at most %d", own,
		TP_LOCALS_MAX);
}

static int load_relays(struct loader *l)
{
	size_t count = l->raw->relay.addresses_count;
	struct turn_relay_address *relays;
	int err = 0;

	if (!count)
		return loader_fail(l, "relay.addresses",
			"is missing, expected at least one address to hand out");
	relays = calloc(count, sizeof(*relays));
	if (!relays)
		return loader_out_of_memory(l);
	l->config->turn.relays = relays;
	l->config->turn.relays_count = count;
	for (size_t i = 0; err == 0 && i < count; i++)
		err = load_relay(l, relays, i);
	if (err == 0)
		err = check_own_addresses(l);
	if (err == 0)
		err = load_ports(l);
	return err < 0 ? err : warn_overlap(l);
}

static int load_rules(
	struct loader *l, struct policy *policy, bool allow, char *const *prefixes, size_t count)
{
	struct config *config = l->config;

	for (size_t i = 0; i < count; i++) {
		char key[DOCUMENT_KEY_SIZE], error[128] = "";
		int err = policy_add_rule(policy, allow, prefixes[i], error);

		if (err == -ENOMEM)
			return loader_out_of_memory(l);
		snprintf(key, sizeof(key), "peers.%s[%zu]", allow ? "allow" : "deny", i);
		if (err < 0)
			return loader_fail(l, key, "%s", error);
		config->peer_rules[config->peer_rules_count++] =
			(struct config_peer_rule){allow, prefixes[i]};
	}
	return 0;
}

static int load_peers(struct loader *l)
{
	size_t count = l->raw->peers.allow_count + l->raw->peers.deny_count;
	struct policy *policy;
	int err;

	l->config->peer_rules = calloc(count + 1, sizeof(*l->config->peer_rules));
	if (!l->config->peer_rules || policy_new(&policy) < 0)
		return loader_out_of_memory(l);
	err = load_rules(l, policy, true, l->raw->peers.allow, l->raw->peers.allow_count);
	if (err == 0)
		err = load_rules(l, policy, false, l->raw->peers.deny, l->raw->peers.deny_count);
	policy_free(policy);
	return err;
}

int config_make_policy(const struct config *config, struct policy **out)
{
	struct policy *policy;
	char error[128];
	int err = policy_new(&policy);

	if (err < 0)
		return err;
	for (size_t i = 0; err == 0 && i < config->peer_rules_count; i++)
		err = policy_add_rule(
			policy, config->peer_rules[i].allow, config->peer_rules[i].prefix, error);
	for (size_t i = 0; err == 0 && i < config->turn.relays_count; i++) {
		const struct turn_relay_address *relay = &config->turn.relays[i];

		err = policy_add_relay_address(policy, &relay->address);
		if (err == 0 && relay->external.family != TP_NO_FAMILY)
			err = policy_add_relay_address(policy, &relay->external);
	}
	if (err < 0) {
		policy_free(policy);
		return err;
	}
	*out = policy;
	return 0;
}

static int check_socket(struct loader *l, const char *key, const char *path)
{
	struct sockaddr_un sun;

	if (!path || (*path == '/' && strlen(path) < sizeof(sun.sun_path)))
		return 0;
	return loader_fail(l, key, "is not usable, expected an absolute path of at most %zu bytes",
		sizeof(sun.sun_path) - 1);
}

/* turnpike-dataplane finds its socket beside the one for commands. */
static int name_link(struct loader *l)
{
	struct config_control *control = &l->config->control;
	int folder = (int)(strrchr(control->socket, '/') - control->socket);
	int len = snprintf(control->link, sizeof(control->link), "%.*s/%s", folder, control->socket,
		TP_LINK_NAME);

	l->config->engine_options.link_path = control->link;
	if (len >= (int)sizeof(control->link))
		return loader_fail(l, "control.socket",
			"leaves no room for the name of %s beside it, expected a folder of at "
			"most %zu bytes",
			TP_LINK_NAME, sizeof(control->link) - sizeof("/" TP_LINK_NAME));
	if (strcmp(control->socket, control->link) == 0)
		return loader_fail(l, "control.socket",
			"is where turnpike-dataplane is awaited, expected another name");
	if (control->readonly_socket && strcmp(control->readonly_socket, control->link) == 0)
		return loader_fail(l, "control.readonly_socket",
			"is where turnpike-dataplane is awaited, expected another name");
	return 0;
}

static int load_control(struct loader *l)
{
	struct config_control *control = &l->config->control;
	const char *workers = l->raw->control.workers;
	int err;

	control->socket =
		l->raw->control.socket ? l->raw->control.socket : CONFIG_DEFAULT_CONTROL_SOCKET;
	control->group = l->raw->control.group ? l->raw->control.group : "turnpike";
	control->readonly_socket = l->raw->control.readonly_socket;
	control->readonly_group =
		l->raw->control.readonly_group ? l->raw->control.readonly_group : "turnpike-ro";
	err = check_socket(l, "control.socket", control->socket);
	if (err == 0)
		err = check_socket(l, "control.readonly_socket", control->readonly_socket);
	if (err < 0)
		return err;
	if (control->readonly_socket && strcmp(control->readonly_socket, control->socket) == 0)
		return loader_fail(l, "control.readonly_socket",
			"is the same as control.socket, expected another path");
	if (workers && strcmp(workers, "1") != 0)
		return loader_fail(l, "control.workers",
			"\"%.40s\": more than one thread is not implemented yet, expected 1",
			workers);
	return name_link(l);
}

static int load_words(struct loader *l)
{
	static const char *const levels[] = {"error", "warning", "info", "debug", NULL};
	static const char *const formats[] = {"text", "json", NULL};
	static const char *const switches[] = {"false", "true", NULL};
	static const char *const sockets[] = {"auto", "per_allocation", "shared", NULL};
	int level = TP_LOG_INFO, format = 0, old_channels = 0, relay_sockets = 0;
	int err = loader_choose(l, "log.level", l->raw->log.level, levels, 4, &level);

	if (err == 0)
		err = loader_choose(l, "log.format", l->raw->log.format, formats, 2, &format);
	if (err == 0)
		err = loader_choose(l, "compat.rfc5766_channels", l->raw->compat.rfc5766_channels,
			switches, 2, &old_channels);
	if (err == 0)
		err = loader_choose(
			l, "relay.sockets", l->raw->relay.sockets, sockets, 3, &relay_sockets);
	l->config->log_level = (enum tp_log_level)level;
	l->config->log_json = format == 1;
	l->config->turn.rfc5766_channels = old_channels == 1;
	l->config->relay_sockets = (enum config_relay_sockets)relay_sockets;
	return err;
}

static int load_realm(struct loader *l)
{
	const char *realm = l->raw->realm;

	if (!realm)
		return loader_fail(l, "realm", "is missing, expected a name like example.org");
	if (strlen(realm) > AUTH_REALM_MAX)
		return loader_fail(l, "realm", "is %zu bytes long, expected at most %d",
			strlen(realm), AUTH_REALM_MAX);
	l->config->auth.realm = realm;
	return 0;
}

static int load(struct loader *l, const char *path)
{
	static int (*const parts[])(struct loader *) = {load_realm, load_listeners, load_relays,
		credentials_load, load_peers, load_numbers, load_words, dataplane_load,
		load_control};
	int err = document_open(path, &schema_config, &l->source->doc, l->error);

	if (err < 0)
		return err;
	err = loader_parse(l, &l->source->doc, &schema_config, &l->source->raw, NULL);
	if (err < 0)
		return err;
	l->raw = l->source->raw;
	for (size_t i = 0; i < COUNT(parts); i++) {
		err = parts[i](l);
		if (err < 0)
			return err;
	}
	return 0;
}

/*
 * The YAML libraries free what they have read without wiping it; this makes the allocator do it, as
 * long as it is on.
 */
static void scrub_what_is_freed(bool on)
{
#ifdef __GLIBC__
	mallopt(M_PERTURB, on ? 0xff : 0);
#endif
}

int config_load(const char *path, struct config **out, char error[CONFIG_ERROR_SIZE])
{
	struct config *config = calloc(1, sizeof(*config));
	struct loader l = {.config = config, .error = error};
	int err;

	snprintf(error, CONFIG_ERROR_SIZE, "%.200s:1:1: yaml: %s", path, strerror(ENOMEM));
	if (!config)
		return -ENOMEM;
	config->source = l.source = calloc(1, sizeof(*config->source));
	scrub_what_is_freed(true);
	err = l.source ? load(&l, path) : -ENOMEM;
	scrub_what_is_freed(false);
	if (err < 0) {
		config_free(config);
		return err;
	}
	*out = config;
	return 0;
}

void config_forget_credentials(struct config *config)
{
	credentials_free(config);
	document_close(&config->source->doc);
}

void config_free(struct config *config)
{
	if (!config)
		return;
	if (config->source) {
		credentials_free(config);
		loader_forget(&schema_config, config->source->raw, 0);
		document_close(&config->source->doc);
	}
	while (config->warnings) {
		struct config_warning *next = config->warnings->next;

		free(config->warnings);
		config->warnings = next;
	}
	free(config->listeners);
	free((void *)config->turn.relays);
	free(config->peer_rules);
	dataplane_free(config);
	free(config->source);
	free(config);
}
