/* Dropping privileges, in the order in which each step is still allowed. */
#include "privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

int tp_privileges_target(const char *user, struct tp_privileges_target *out)
{
	const char *const names[] = {user, TP_PRIVILEGES_USER, "nobody"};

	if (geteuid() != 0) {
		*out = (struct tp_privileges_target){geteuid(), getegid(), "the caller"};
		return 0;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct passwd *found = getpwnam(names[i]);

		if (found && found->pw_uid != 0) {
			*out = (struct tp_privileges_target){
				found->pw_uid, found->pw_gid, names[i]};
			return 0;
		}
	}
	return -ENOENT;
}

void tp_privileges_raise_limits(void)
{
	struct rlimit files, no_core = {0, 0};

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	setrlimit(RLIMIT_CORE, &no_core);
}

static int become(const struct tp_privileges_target *target)
{
	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(target->gid, target->gid, target->gid) < 0 ||
		setresuid(target->uid, target->uid, target->uid) < 0)
		return -errno;
	/* Proof that the way back is closed. */
	return setresuid(0, 0, 0) == 0 ? -EPERM : 0;
}

int tp_privileges_drop(const struct tp_privileges_target *target)
{
	int err;

	/* The bounding set can only be emptied while CAP_SETPCAP is there. */
	capng_clear(CAPNG_SELECT_BOUNDS);
	if (geteuid() == 0 && capng_apply(CAPNG_SELECT_BOUNDS) != 0)
		return -EPERM;
	err = become(target);
	if (err < 0)
		return err;
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		return -EPERM;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	if (capng_get_caps_process() != 0 ||
		capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE)
		return -EPERM;
	return 0;
}
