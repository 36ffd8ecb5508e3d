/*
 * What a killed predecessor had granted, out of the tables that have outlived it. Readers of the
 * tables go on meanwhile. Control plane's thread, before it reads its first packet; does not block.
 */
#pragma once

#include "controlplane/flows/flows.h"
#include "controlplane/turn/server.h"
#include "dataplane/table/table.h"

struct adopt_report {
	uint32_t allocations, flows;                 /* that go on */
	uint32_t dropped_allocations, dropped_flows; /* expired, torn, or not allowed any more */
};

/*
 * The table is one of tp_table_adopt(), the server and the flows are new and its effects come to
 * those flows. Afterwards the table has what the server has: flows_audit() finds nothing. -ENOMEM:
 * it may have more.
 */
int adopt(struct tp_table *table, struct flows *flows, struct turn_server *server, uint64_t now_ns,
	struct adopt_report *out);
