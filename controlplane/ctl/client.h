/* One connection to the control socket: a method and named parameters out, an answer back. Blocks.
 */
#pragma once

#include <jansson.h>

#define CLIENT_DEFAULT_SOCKET "/run/turnpike/control.sock"

struct client;

/* 0 or -errno. */
int client_open(const char *path, struct client **out);
void client_close(struct client *client);

/*
 * 0: *out is the result, a new reference. -EREMOTEIO: the server refused, and `message` has its
 * words. Another -errno: it hung up, took more than half a minute, or sent no JSON-RPC.
 */
int client_call(
	struct client *client, const char *method, json_t *params, json_t **out, char message[512]);
