/*
 * Events over NNG pub/sub: topic line, then a protobuf body. Used for service up/down and link changes; never for facts
 * that a subscriber could not ask for again.
 */
#ifndef HS_CTL_PUBSUB_H
#define HS_CTL_PUBSUB_H

#include <stddef.h>
#include <stdint.h>

struct pub;
struct sub;

int pub_new(struct pub **out, const char *url);
int pub_send(struct pub *p, const char *topic, const void *body, size_t len);
void pub_free(struct pub *p);
int sub_new(struct sub **out, const char *url, const char *topic_prefix);
int sub_fd(const struct sub *s);
/** One event without waiting: length of body, -EAGAIN. Topic is NUL-terminated in `topic`. */
int sub_recv(struct sub *s, char *topic, size_t topic_cap, void *body, size_t cap);
void sub_free(struct sub *s);

#endif
