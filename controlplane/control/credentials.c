/* credentials mint: a TURN REST username and password. */
#include "command.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

#define TTL_DEFAULT_S 3600
#define TTL_MAX_S     (366 * 86400)

static json_t *run_mint(const void *context, const json_t *params, struct rpc_error *error)
{
	const struct control_deps *deps = context;
	const char *name = json_string_value(json_object_get(params, "name"));
	const json_t *ttl = json_object_get(params, "ttl_s");
	uint64_t expires_s =
		tp_clock_unix_s() + (ttl ? (uint64_t)json_integer_value(ttl) : TTL_DEFAULT_S);
	char username[AUTH_USERNAME_MAX + 1], password[AUTH_MINTED_PASSWORD_SIZE];
	int err = auth_mint(deps->auth, name, expires_s, username, password);
	json_t *result;

	if (err == -ENOENT)
		return rpc_refuse(error, RPC_REFUSED,
			"no secret is configured: auth.secrets or auth.secrets_file");
	if (err < 0)
		return rpc_refuse(error, RPC_REFUSED, "cannot mint: %s", strerror(-err));
	result = json_pack("{s:s, s:s, s:I}", "username", username, "password", password,
		"expires_at", (json_int_t)expires_s);
	explicit_bzero(password, sizeof(password));
	return result;
}

static const struct rpc_param mint_params[] = {
	{"name", JSON_STRING, true, 1, AUTH_USERNAME_MAX},
	{"ttl_s", JSON_INTEGER, false, 1, TTL_MAX_S},
	{NULL},
};

const struct rpc_method command_credentials_mint = {
	"credentials.mint", false, mint_params, run_mint};
