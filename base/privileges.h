/*
 * From root to nobody in particular. Everything that needs rights is opened before; after it the
 * process has an unprivileged user, no capabilities, no way back, and no core dumps with keys in
 * them (threats O08, D01). Called once, before the first byte from the network is read.
 */
#pragma once

#include <sys/types.h>

#define TP_PRIVILEGES_USER      "turnpike"
#define TP_PRIVILEGES_DATAPLANE "turnpike-dataplane"

struct tp_privileges_target {
	uid_t uid;
	gid_t gid;
	const char *name; /* as found in the user database */
};

/*
 * Who to become: that user, else `turnpike`, else `nobody`; the caller itself when it is not root.
 * -ENOENT: none exists.
 */
int tp_privileges_target(const char *user, struct tp_privileges_target *out);

/* Raises the number of open files to the hard limit: one for each relayed address. */
void tp_privileges_raise_limits(void);

/* Becomes the target and checks by reading back that it took. */
int tp_privileges_drop(const struct tp_privileges_target *target);
