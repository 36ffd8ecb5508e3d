/*
 * The part of the configuration that engines take: interfaces, workers and their cores, DPDK's
 * arguments and ports. Main thread; does not block.
 */
#include "loader.h"

#include "value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define CORE_MAX      1023
#define DPDK_PORT_MAX 31 /* RTE_MAX_ETHPORTS - 1 */

static int check_interface(struct loader *l, size_t index)
{
	char *const *names = l->raw->dataplane.interfaces;
	char key[DOCUMENT_KEY_SIZE];

	snprintf(key, sizeof(key), "dataplane.interfaces[%zu]", index);
	if (strlen(names[index]) >= TP_IFNAME_SIZE || strpbrk(names[index], "/: \t\r\n"))
		return loader_fail(l, key,
			"\"%.40s\" is no name of an interface, expected one like eth0",
			names[index]);
	for (size_t i = 0; i < index; i++) {
		if (strcmp(names[i], names[index]) == 0)
			return loader_fail(l, key, "%s is there twice, remove one", names[index]);
	}
	return 0;
}

static int load_interfaces(struct loader *l)
{
	enum config_engine engine = l->config->engine;
	size_t count = l->raw->dataplane.interfaces_count;
	bool needed = engine == CONFIG_ENGINE_XDP || engine == CONFIG_ENGINE_AFXDP;

	if (count > TP_INTERFACES_MAX)
		return loader_fail(l, "dataplane.interfaces",
			"has %zu entries, expected at most %d", count, TP_INTERFACES_MAX);
	for (size_t i = 0; i < count; i++) {
		int err = check_interface(l, i);

		if (err < 0)
			return err;
	}
	if (!count && needed)
		return loader_fail(l, "dataplane.interfaces",
			"is missing, expected the interfaces for the engine %s",
			l->raw->dataplane.engine);
	l->config->engine_options.interfaces = (const char *const *)l->raw->dataplane.interfaces;
	l->config->engine_options.interfaces_count = count;
	if (count && engine == CONFIG_ENGINE_DPDK)
		return loader_warn(l, "dataplane.interfaces",
			"not used by the engine dpdk, whose ports are in dataplane.dpdk.ports");
	return 0;
}

static int load_core(struct loader *l, uint16_t *cores, size_t index)
{
	char key[DOCUMENT_KEY_SIZE], error[VALUE_ERROR_SIZE];
	uint64_t core;

	snprintf(key, sizeof(key), "dataplane.cores[%zu]", index);
	if (value_parse(&value_count, l->raw->dataplane.cores[index], 0, CORE_MAX, &core, error) <
		0)
		return loader_fail(l, key, "%s", error);
	cores[index] = (uint16_t)core;
	for (size_t i = 0; i < index; i++) {
		if (cores[i] == cores[index])
			return loader_fail(l, key,
				"core %u is there twice, expected one for each worker", cores[i]);
	}
	return 0;
}

static int load_cores(struct loader *l)
{
	struct tp_engine_options *options = &l->config->engine_options;
	size_t count = l->raw->dataplane.cores_count;
	uint16_t *cores;
	int err = 0;

	if (count == 0)
		return 0;
	if (count != options->workers)
		return loader_fail(l, "dataplane.cores",
			"has %zu entries, expected one for each worker: dataplane.workers is %u",
			count, options->workers);
	cores = calloc(count, sizeof(*cores));
	if (!cores)
		return loader_out_of_memory(l);
	options->cores = cores;
	options->cores_count = count;
	for (size_t i = 0; err == 0 && i < count; i++)
		err = load_core(l, cores, i);
	return err;
}

/* EAL options that would undo what the rest of the program relies on. */
static const struct {
	const char *name, *why;
} forbidden[] = {
	{"--proc-type", "there are no secondary processes"},
	{"--telemetry", "it would open a socket of its own"},
	{"--help", "EAL would print its help and end the program"},
};

/* EAL takes abbreviations: "--proc" is "--proc-type". */
static bool abbreviates(const char *argument, const char *name)
{
	size_t len = strcspn(argument, "=");

	return len > 2 && strncmp(argument, name, len) == 0;
}

static int check_eal(struct loader *l, size_t index)
{
	const char *argument = l->raw->dataplane.dpdk.eal[index];
	char key[DOCUMENT_KEY_SIZE];

	snprintf(key, sizeof(key), "dataplane.dpdk.eal[%zu]", index);
	for (size_t i = 0; i < COUNT(forbidden); i++) {
		if (abbreviates(argument, forbidden[i].name))
			return loader_fail(l, key, "%s is not allowed: %s, remove it",
				forbidden[i].name, forbidden[i].why);
	}
	if (strcmp(argument, "--") == 0)
		return loader_fail(
			l, key, "\"--\" would end EAL's arguments, expected one of them");
	return 0;
}

static int load_eal(struct loader *l)
{
	const struct raw_dpdk *raw = &l->raw->dataplane.dpdk;

	for (size_t i = 0; i < raw->eal_count; i++) {
		int err = check_eal(l, i);

		if (err < 0)
			return err;
	}
	l->config->engine_options.eal = (const char *const *)raw->eal;
	l->config->engine_options.eal_count = raw->eal_count;
	return 0;
}

/* "192.0.2.1/24" */
static int check_prefix(struct loader *l, const char *key, const char *text)
{
	const char *slash = strchr(text, '/');
	char ip[64] = "", error[VALUE_ERROR_SIZE];
	struct tp_addr address;
	uint64_t length;
	int err;

	if (!slash || (size_t)(slash - text) >= sizeof(ip))
		return loader_fail(l, key,
			"\"%.60s\" has no prefix length, expected one like 192.0.2.1/24", text);
	memcpy(ip, text, (size_t)(slash - text));
	err = loader_address(l, key, ip, &address);
	if (err < 0)
		return err;
	if (value_parse(&value_count, slash + 1, 1, 8 * tp_addr_bytes_len(&address), &length,
		    error) < 0)
		return loader_fail(l, key, "prefix length %s", error);
	return 0;
}

static int load_addresses(struct loader *l, const char *key, const struct raw_dpdk_port *raw,
	struct tp_dpdk_port *port)
{
	char entry[DOCUMENT_KEY_SIZE];

	for (size_t i = 0; i < raw->addresses_count; i++) {
		int err;

		snprintf(entry, sizeof(entry), "%.80s.addresses[%zu]", key, i);
		err = check_prefix(l, entry, raw->addresses[i]);
		if (err < 0)
			return err;
	}
	port->addresses = (const char *const *)raw->addresses;
	port->addresses_count = raw->addresses_count;
	return 0;
}

/* `gateway` is of either family; `gateway6` is for those who need both. */
static int load_gateways(struct loader *l, const char *key, const struct raw_dpdk_port *raw,
	struct tp_dpdk_port *port)
{
	static const char *const names[] = {"gateway", "gateway6"};
	struct tp_addr gateways[COUNT(names)] = {0};
	char entry[DOCUMENT_KEY_SIZE];

	for (size_t i = 0; i < COUNT(names); i++) {
		int err;

		if (!raw->gateways[i])
			continue;
		snprintf(entry, sizeof(entry), "%.80s.%s", key, names[i]);
		err = loader_address(l, entry, raw->gateways[i], &gateways[i]);
		if (err < 0)
			return err;
		if (i == 1 && gateways[1].family != TP_IPV6)
			return loader_fail(
				l, entry, "%s is no IPv6 address, expected one", raw->gateways[i]);
	}
	if (gateways[0].family == TP_IPV6 && gateways[1].family == TP_IPV6)
		return loader_fail(l, entry, "is the second IPv6 gateway, remove one");
	port->gateways =
		(const char *const *)(raw->gateways[0] ? raw->gateways : raw->gateways + 1);
	port->gateways_count = !!raw->gateways[0] + !!raw->gateways[1];
	return 0;
}

static int load_port_number(
	struct loader *l, const char *key, const char *text, struct tp_dpdk_port *port)
{
	const struct tp_dpdk_port *first = l->config->engine_options.ports;
	char entry[DOCUMENT_KEY_SIZE], error[VALUE_ERROR_SIZE];
	uint64_t number;

	if (!text)
		return loader_fail(l, key, "has no port, expected DPDK's number of it, as port: 0");
	snprintf(entry, sizeof(entry), "%.80s.port", key);
	if (value_parse(&value_count, text, 0, DPDK_PORT_MAX, &number, error) < 0)
		return loader_fail(l, entry, "%s", error);
	port->port = (uint16_t)number;
	for (const struct tp_dpdk_port *other = first; other < port; other++) {
		if (other->port == port->port)
			return loader_fail(
				l, entry, "port %u is there twice, remove one", port->port);
	}
	return 0;
}

static int load_port(struct loader *l, struct tp_dpdk_port *ports, size_t index)
{
	static const char *const exceptions[] = {"tap", "virtio-user", NULL};
	const struct raw_dpdk_port *raw = &l->raw->dataplane.dpdk.ports[index];
	struct tp_dpdk_port *port = &ports[index];
	char key[DOCUMENT_KEY_SIZE], entry[DOCUMENT_KEY_SIZE];
	int exception = TP_EXCEPTION_TAP, err;

	snprintf(key, sizeof(key), "dataplane.dpdk.ports[%zu]", index);
	err = load_port_number(l, key, raw->port, port);
	if (err < 0)
		return err;
	snprintf(entry, sizeof(entry), "%.80s.exception", key);
	err = loader_choose(l, entry, raw->exception, exceptions, 2, &exception);
	port->exception = (enum tp_exception)exception;
	if (err == 0)
		err = load_addresses(l, key, raw, port);
	if (err == 0)
		err = load_gateways(l, key, raw, port);
	return err;
}

static int load_dpdk(struct loader *l)
{
	struct tp_engine_options *options = &l->config->engine_options;
	size_t count = l->raw->dataplane.dpdk.ports_count;
	struct tp_dpdk_port *ports;
	int err = load_eal(l);

	if (err < 0)
		return err;
	if (count > TP_INTERFACES_MAX)
		return loader_fail(l, "dataplane.dpdk.ports",
			"has %zu entries, expected at most %d", count, TP_INTERFACES_MAX);
	if (count == 0)
		return l->config->engine != CONFIG_ENGINE_DPDK
			       ? 0
			       : loader_fail(l, "dataplane.dpdk.ports",
					 "is missing, expected the ports for the engine dpdk");
	ports = calloc(count, sizeof(*ports));
	if (!ports)
		return loader_out_of_memory(l);
	options->ports = ports;
	options->ports_count = count;
	for (size_t i = 0; err == 0 && i < count; i++)
		err = load_port(l, ports, i);
	return err;
}

int dataplane_load(struct loader *l)
{
	static const char *const engines[] = {"auto", "socket", "xdp", "afxdp", "dpdk", NULL};
	static const char *const modes[] = {"auto", "native", "generic", NULL};
	int engine = CONFIG_ENGINE_AUTO, mode = TP_XDP_AUTO;
	int err =
		loader_choose(l, "dataplane.engine", l->raw->dataplane.engine, engines, 5, &engine);

	if (err == 0)
		err = loader_choose(
			l, "dataplane.xdp_mode", l->raw->dataplane.xdp_mode, modes, 3, &mode);
	if (err < 0)
		return err;
	l->config->engine = (enum config_engine)engine;
	l->config->engine_options.xdp_mode = (enum tp_xdp_mode)mode;
	l->config->engine_options.allocations = l->config->turn.allocations_max;
	err = load_interfaces(l);
	if (err == 0)
		err = load_cores(l);
	return err ? err : load_dpdk(l);
}

void dataplane_free(struct config *config)
{
	free((void *)config->engine_options.cores);
	free((void *)config->engine_options.ports);
}
