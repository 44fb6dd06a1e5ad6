/* Connections whose socket has gone without a word to us. */
#ifndef WSM_STRAY_H
#define WSM_STRAY_H

#include "mailbox.h"

/* See that the loop of the mailbox looks at its idle connections, every
 * stray_interval seconds for as long as it has any. Any thread. -1 with an
 * exception. */
int wsm_stray_watch(WsmMailbox *mailbox);

/* Forget the mailboxes of loops that have closed, and of connections none. */
int wsm_stray_prune(WsmState *state);

/* Look at the next of them; the loop's callback. -1 with an exception. */
int wsm_stray_look(PyObject *mailbox);

#endif
