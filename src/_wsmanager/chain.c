/* Invariant: a link's chain is the one that it is in. */
#include "chain.h"

void
wsm_chain_unlink(WsmLink *link)
{
    WsmChain *chain = link->chain;

    if (chain == NULL) {
        return;
    }
    *(link->prev == NULL ? &chain->head : &link->prev->next) = link->next;
    *(link->next == NULL ? &chain->tail : &link->next->prev) = link->prev;
    chain->count--;
    link->chain = NULL;
}

void
wsm_chain_append(WsmChain *chain, WsmLink *link)
{
    wsm_chain_unlink(link);
    *link = (WsmLink){.prev = chain->tail, .chain = chain};
    *(chain->tail == NULL ? &chain->head : &chain->tail->next) = link;
    chain->tail = link;
    chain->count++;
}
