/* Doubly linked lists of what is listed elsewhere too: the links are in it. */
#ifndef WSM_CHAIN_H
#define WSM_CHAIN_H

#include "python.h"

typedef struct WsmLink {
    struct WsmLink *prev, *next;
    struct WsmChain *chain; /* that it is in, or NULL */
} WsmLink;

/* Guarded by whatever guards its links. */
typedef struct WsmChain {
    WsmLink *head, *tail;
    Py_ssize_t count;
} WsmChain;

/* What the link is in: field is the link's name in the type. NULL of NULL. */
#define WSM_LINKED(link, type, field) \
    ((link) == NULL ? NULL : (type *)((char *)(link)-offsetof(type, field)))

/* Last of the chain, and in no other. */
void wsm_chain_append(WsmChain *chain, WsmLink *link);

/* In no chain any more, if it was in one. */
void wsm_chain_unlink(WsmLink *link);

#endif
