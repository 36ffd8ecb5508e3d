/* Binding (RFC 8489, 3): open to everybody, so that the answer is as small as can be (L01). */
#include "request.h"

enum stun_code turn_on_binding(
	struct turn_server *s, struct turn_request *req, struct stun_writer *answer)
{
	(void)s;
	stun_put_xor_address(answer, STUN_ATTR_XOR_MAPPED_ADDRESS, &req->tuple->client);
	return STUN_OK;
}
