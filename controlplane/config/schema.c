/* The keys of the configuration files, each once. Constant data. */
#include "schema.h"

/* Members and types cannot stand in parentheses: NOLINTBEGIN(bugprone-macro-parentheses) */
#define TEXT(key, structure, member)                                                               \
	CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, structure, member,   \
		0, CYAML_UNLIMITED)
#define LIST(key, structure, member, entry)                                                        \
	CYAML_FIELD_SEQUENCE(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, structure, member,     \
		entry, 0, CYAML_UNLIMITED)
#define GROUP(key, member, fields)                                                                 \
	CYAML_FIELD_MAPPING(key, CYAML_FLAG_OPTIONAL, struct raw_config, member, fields)
#define NOT_YET(key) CYAML_FIELD_IGNORE(key, CYAML_FLAG_OPTIONAL)

/* Members of raw_config's unnamed structs: offsets count from the group's own beginning. */
#define IN(group, member)                                                                          \
	.data_offset =                                                                             \
		offsetof(struct raw_config, group.member) - offsetof(struct raw_config, group)
#define GROUP_TEXT(name, group, member)                                                            \
	{                                                                                          \
		.key = name, IN(group, member), .value = {                                         \
			CYAML_VALUE_STRING(CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, char, 0,      \
				CYAML_UNLIMITED)                                                   \
		}                                                                                  \
	}
#define GROUP_LIST(name, group, member, entry)                                                     \
	{                                                                                          \
		.key = name, IN(group, member),                                                    \
		.count_offset = offsetof(struct raw_config, group.member##_count) -                \
				offsetof(struct raw_config, group),                                \
		.count_size = sizeof(uint32_t), .value = {                                         \
			CYAML_VALUE_SEQUENCE(CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,             \
				*((struct raw_config *)NULL)->group.member, entry, 0,              \
				CYAML_UNLIMITED)                                                   \
		}                                                                                  \
	}

/* NOLINTEND(bugprone-macro-parentheses) */

static const cyaml_schema_value_t text_entry = {
	CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED)};

static const cyaml_schema_field_t listener_fields[] = {
	TEXT("transport", struct raw_listener, transport),
	TEXT("address", struct raw_listener, address),
	TEXT("port", struct raw_listener, port),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t listener_entry = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_listener, listener_fields)};

static const cyaml_schema_field_t relay_address_fields[] = {
	TEXT("address", struct raw_relay_address, address),
	TEXT("external", struct raw_relay_address, external),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t relay_address_entry = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_relay_address, relay_address_fields)};

static const cyaml_schema_field_t user_fields[] = {
	TEXT("name", struct raw_user, name),
	TEXT("password", struct raw_user, password),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t user_entry = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_user, user_fields)};

static const cyaml_schema_field_t relay_fields[] = {
	GROUP_LIST("addresses", relay, addresses, &relay_address_entry),
	GROUP_TEXT("ports", relay, ports),
	GROUP_TEXT("sockets", relay, sockets),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t auth_fields[] = {
	GROUP_LIST("users", auth, users, &user_entry),
	GROUP_TEXT("users_file", auth, users_file),
	GROUP_LIST("secrets", auth, secrets, &text_entry),
	GROUP_TEXT("secrets_file", auth, secrets_file),
	GROUP_TEXT("nonce_lifetime", auth, nonce_lifetime),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t peers_fields[] = {
	GROUP_LIST("allow", peers, allow, &text_entry),
	GROUP_LIST("deny", peers, deny, &text_entry),
	CYAML_FIELD_END,
};

#define LIMIT(name) GROUP_TEXT(#name, limits, name)
static const cyaml_schema_field_t limits_fields[] = {
	LIMIT(allocations),
	LIMIT(allocations_per_user),
	LIMIT(permissions_per_allocation),
	LIMIT(channels_per_allocation),
	LIMIT(unauthenticated_replies_per_source),
	LIMIT(bandwidth_per_allocation),
	LIMIT(lifetime_default),
	LIMIT(lifetime_max),
	LIMIT(permission_lifetime),
	LIMIT(channel_lifetime),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t compat_fields[] = {
	GROUP_TEXT("rfc5766_channels", compat, rfc5766_channels),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t dpdk_port_fields[] = {
	TEXT("port", struct raw_dpdk_port, port),
	TEXT("exception", struct raw_dpdk_port, exception),
	LIST("addresses", struct raw_dpdk_port, addresses, &text_entry),
	TEXT("gateway", struct raw_dpdk_port, gateways[0]),
	TEXT("gateway6", struct raw_dpdk_port, gateways[1]),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t dpdk_port_entry = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_dpdk_port, dpdk_port_fields)};

static const cyaml_schema_field_t dpdk_fields[] = {
	LIST("eal", struct raw_dpdk, eal, &text_entry),
	LIST("ports", struct raw_dpdk, ports, &dpdk_port_entry),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t dataplane_fields[] = {
	GROUP_TEXT("engine", dataplane, engine),
	GROUP_LIST("interfaces", dataplane, interfaces, &text_entry),
	GROUP_TEXT("xdp_mode", dataplane, xdp_mode),
	GROUP_TEXT("workers", dataplane, workers),
	GROUP_LIST("cores", dataplane, cores, &text_entry),
	GROUP_TEXT("idle_sleep", dataplane, idle_sleep),
	GROUP_TEXT("flows", dataplane, flows),
	{.key = "dpdk",
		IN(dataplane, dpdk),
		.value = {CYAML_VALUE_MAPPING(CYAML_FLAG_OPTIONAL, struct raw_dpdk, dpdk_fields)}},
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t control_fields[] = {
	GROUP_TEXT("socket", control, socket),
	GROUP_TEXT("group", control, group),
	GROUP_TEXT("readonly_socket", control, readonly_socket),
	GROUP_TEXT("readonly_group", control, readonly_group),
	GROUP_TEXT("workers", control, workers),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t log_fields[] = {
	GROUP_TEXT("level", log, level),
	GROUP_TEXT("format", log, format),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t config_fields[] = {
	TEXT("realm", struct raw_config, realm),
	LIST("listen", struct raw_config, listen, &listener_entry),
	NOT_YET("tls"),
	GROUP("relay", relay, relay_fields),
	GROUP("auth", auth, auth_fields),
	GROUP("peers", peers, peers_fields),
	GROUP("limits", limits, limits_fields),
	GROUP("compat", compat, compat_fields),
	GROUP("dataplane", dataplane, dataplane_fields),
	GROUP("control", control, control_fields),
	NOT_YET("metrics"),
	GROUP("log", log, log_fields),
	CYAML_FIELD_END,
};

const cyaml_schema_value_t schema_config = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_config, config_fields)};

const cyaml_schema_value_t schema_users = {
	CYAML_VALUE_SEQUENCE(CYAML_FLAG_POINTER, struct raw_user, &user_entry, 0, CYAML_UNLIMITED)};
