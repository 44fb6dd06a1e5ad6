/* What an exception from a send says about the peer. */
#ifndef WSM_VERDICT_H
#define WSM_VERDICT_H

#include "state.h"

typedef enum {
    WSM_VERDICT_GONE, /* the peer is no longer there */
    WSM_VERDICT_CANCELLED, /* the send was cancelled: its handler is ending */
    WSM_VERDICT_ERROR, /* an application error: counted, evicted after N */
    WSM_VERDICT_FATAL, /* KeyboardInterrupt, SystemExit and the like */
} WsmVerdict;

/* Judge by class and text, importing nothing. The websocket (may be NULL) is
 * asked for its state where the exception alone does not tell. */
WsmVerdict wsm_verdict(WsmState *state, PyObject *error, PyObject *websocket);

/* True if the socket itself says that it is closed (Starlette's two states,
 * closed of aiohttp and others). Never raises. */
bool wsm_websocket_says_closed(WsmState *state, PyObject *websocket);

/* True if it says that its handshake is not answered yet (Starlette's
 * application_state): no send can succeed, and none is its fault. */
bool wsm_websocket_is_connecting(WsmState *state, PyObject *websocket);

const char *wsm_verdict_name(WsmVerdict verdict);

#endif
