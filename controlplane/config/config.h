/*
 * The configuration file as values that the rest of the program takes as they are. Read by the main
 * thread at start and on reload; blocks on files. A loaded configuration is never changed.
 */
#pragma once

#include "base/log.h"
#include "controlplane/auth/auth.h"
#include "controlplane/turn/server.h"
#include "dataplane/engine/engine.h"

#define CONFIG_ERROR_SIZE             512
#define CONFIG_DEFAULT_PATH           "/etc/turnpike/turnpike.yaml"
#define CONFIG_DEFAULT_CONTROL_SOCKET "/run/turnpike/control.sock"

enum config_transport { CONFIG_UDP };

struct config_listener {
	enum config_transport transport;
	struct tp_addr address;
};

/* A rule of `peers`; policy_add_rule() has accepted it. */
struct config_peer_rule {
	bool allow;
	const char *prefix;
};

enum config_engine {
	CONFIG_ENGINE_AUTO,
	CONFIG_ENGINE_SOCKET,
	CONFIG_ENGINE_XDP,
	CONFIG_ENGINE_AFXDP,
	CONFIG_ENGINE_DPDK,
};

enum config_relay_sockets {
	CONFIG_RELAY_SOCKETS_AUTO,
	CONFIG_RELAY_SOCKETS_PER_ALLOCATION,
	CONFIG_RELAY_SOCKETS_SHARED,
};

struct config_control {
	const char *socket;
	const char *group;
	const char *readonly_socket; /* NULL: none */
	const char *readonly_group;
	char link[108]; /* the socket for turnpike-dataplane, in the folder of `socket` */
};

/* What is no error but belongs into the log: "file:line:column: key: text". */
struct config_warning {
	struct config_warning *next;
	char text[CONFIG_ERROR_SIZE];
};

struct config_source; /* owns the text that the pointers below lead to */

struct config {
	struct config_listener *listeners;
	size_t listeners_count;

	struct turn_settings turn; /* complete */
	struct auth_settings auth; /* complete; holds passwords until config_free() */
	enum config_relay_sockets relay_sockets;

	struct config_peer_rule *peer_rules;
	size_t peer_rules_count;

	enum config_engine engine;
	uint64_t bandwidth_per_allocation;       /* bits a second, each direction; 0 = no limit */
	struct tp_engine_options engine_options; /* pin_dir and owner_uid are left to the caller */

	struct config_control control;

	enum tp_log_level log_level;
	bool log_json;

	struct config_warning *warnings; /* in the order of the file */
	struct config_source *source;
};

/*
 * Reads and checks everything, users_file and secrets_file included (relative to the directory of
 * `path`). -EINVAL: the contents are wrong; another -errno: a file cannot be read or memory is out.
 * In any case `error` then holds one line: "file:line:column: key: what is wrong, what would be
 * right". It never holds a password or a secret.
 */
int config_load(const char *path, struct config **out, char error[CONFIG_ERROR_SIZE]);

/* Wipes passwords and secrets, which auth_new() has turned into keys; the rest stays. */
void config_forget_credentials(struct config *config);

/* Wipes passwords and secrets, then frees. NULL is legal. */
void config_free(struct config *config);

/* A policy of its own with the rules of `peers` and this server's relay addresses. */
int config_make_policy(const struct config *config, struct policy **out);
