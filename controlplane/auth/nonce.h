/*
 * Nonces that prove themselves: the client's address, the time and the realm under a key of the
 * process, so that nothing is stored for whoever asks (RFC 8489, 9.2; threats N02, N03, R01).
 */
#pragma once

#include "controlplane/stun/stun.h"

/*
 * "obMatJos2", 4 characters of feature bits, then 20 bytes in 27 characters of base64url: seconds
 * (4), random (6), MAC (10). Short, as it is most of what an unauthenticated answer amplifies
 * (L01).
 */
#define AUTH_NONCE_LEN 40

/* Draws the process's key, once. -EIO: the kernel gives no random bytes. */
int auth_nonce_init(void);

/* False: the kernel gave no random bytes. No two are the same, not even for one client. */
bool auth_nonce_make(
	const char *realm, const struct tp_addr *client, uint64_t now_ns, char out[AUTH_NONCE_LEN]);

/*
 * Issued here for that client and realm, and not older than the lifetime? Counted in whole seconds:
 * the second in which it ends is still good, for requests under way.
 */
bool auth_nonce_valid(struct stun_attribute nonce, const char *realm, const struct tp_addr *client,
	uint64_t now_ns, uint64_t lifetime_ns);

/* Does it begin with a nonce cookie that has the password-algorithms bit (RFC 8489, 9.2.1)? */
bool auth_nonce_has_algorithms(struct stun_attribute nonce);
