/*
 * Unix sockets that speak one line at a time: who may connect, framing, and limits that no client
 * can exceed. Event loop's thread; nothing blocks.
 */
#pragma once

#include "rpc.h"

#include <event2/event.h>
#include <sys/types.h>

#define SERVER_LINE_MAX    65536
#define SERVER_CLIENTS_MAX 16

struct server;

struct server_socket {
	const char *path;
	const char *group; /* may connect, besides root and the process's own user */
	bool readonly;
};

/* -EADDRINUSE: a live process answers at the path. `error` describes any failure. */
int server_open(const struct server_socket *settings, struct server **out, char error[256]);

/* Begins to accept; `service` is copied, what it points to is not. */
int server_start(struct server *server, struct event_base *base, const struct rpc_service *service);

void server_close(struct server *server);
