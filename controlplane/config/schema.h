/*
 * The shape of the configuration files, as libcyaml loads them: every scalar stays text, because
 * units, ranges and what is right instead are ours to say. NULL or a count of 0: the key is absent.
 */
#pragma once

#include <cyaml/cyaml.h>
#include <stdint.h>

struct raw_listener {
	char *transport, *address, *port;
};

struct raw_relay_address {
	char *address, *external;
};

struct raw_user {
	char *name, *password;
};

struct raw_dpdk_port {
	char *port, *exception;
	char **addresses;
	uint32_t addresses_count;
	char *gateways[2]; /* the keys gateway and gateway6 */
};

struct raw_dpdk {
	char **eal;
	uint32_t eal_count;
	struct raw_dpdk_port *ports;
	uint32_t ports_count;
};

struct raw_config {
	char *realm;
	struct raw_listener *listen;
	uint32_t listen_count;
	struct {
		struct raw_relay_address *addresses;
		uint32_t addresses_count;
		char *ports, *sockets;
	} relay;
	struct {
		struct raw_user *users;
		uint32_t users_count;
		char *users_file;
		char **secrets;
		uint32_t secrets_count;
		char *secrets_file;
		char *nonce_lifetime;
	} auth;
	struct {
		char **allow;
		uint32_t allow_count;
		char **deny;
		uint32_t deny_count;
	} peers;
	struct {
		char *allocations, *allocations_per_user;
		char *permissions_per_allocation, *channels_per_allocation;
		char *unauthenticated_replies_per_source, *bandwidth_per_allocation;
		char *lifetime_default, *lifetime_max;
		char *permission_lifetime, *channel_lifetime;
	} limits;
	struct {
		char *rfc5766_channels;
	} compat;
	struct {
		char *engine;
		char **interfaces;
		uint32_t interfaces_count;
		char *xdp_mode, *flows;
		char *workers, *idle_sleep;
		char **cores;
		uint32_t cores_count;
		struct raw_dpdk dpdk;
	} dataplane;
	struct {
		char *socket, *group, *readonly_socket, *readonly_group, *workers;
	} control;
	struct {
		char *level, *format;
	} log;
};

/* A key of type CYAML_IGNORE is known but not implemented yet. */
extern const cyaml_schema_value_t schema_config;
extern const cyaml_schema_value_t schema_users; /* users_file: a list at the top */
