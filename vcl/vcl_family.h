/*
 * What the processes and threads of one application tell each other when they come back after the end of all services.
 *
 * One shared page, made before the first fork and inherited: the first process that comes back founds the application
 * anew and leaves its token here, the others join by it; whoever makes a listener anew leaves its new id, the others
 * become shares of it. The lock is robust and held for moments only; no service ever sees the page.
 */
#ifndef HS_VCL_FAMILY_H
#define HS_VCL_FAMILY_H

#include <stdint.h>

#define FAMILY_TOKEN 16

enum family_answer { FAMILY_WAIT = 0, FAMILY_JOIN = 1, FAMILY_FOUND = 2 };

/** Once per process tree. 0 or -errno. */
int family_make(void);
/** How to say Hello: JOIN with *token, FOUND an application (then family_founded or family_forgo), or WAIT for somebody
 * who does. `refused`: a token that the broker did not know, or NULL. */
enum family_answer family_ask(const uint8_t *refused, uint8_t *token);
void family_founded(const uint8_t *token);
void family_forgo(void);
/** New id of the listener that had id `was` before the end, 0 = not made yet. */
uint32_t family_listener(uint32_t was);
/** is = 0: forget it. */
void family_listener_set(uint32_t was, uint32_t is);

#endif
