/* The steps of `relay`, or its search, and the report of them. */
#pragma once

#include "report.h"

/* The exit code. */
int relay(const struct options *options, const struct making *making, struct clients *clients,
	struct end *client_end, struct end *peer_end, const atomic_bool *stop);
